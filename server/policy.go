package server

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// rules are what the schema says of one RPC, made ready once at the start.
type rules struct {
	procedure string // "" for procedures that do not exist
	access    free2talkv1.Access
	stream    bool
	duplex    bool // the client streams too

	ignoresToken, acceptsCookie, acceptsRevoked bool

	limits       []rule   // in the order of limitTable
	policyHeader []string // RateLimit-Policy; nil where nothing is limited

	private bool // the answer may be kept by nobody
	secret  bool // it holds secrets: not compressed beside what others chose

	measures  measures        // what its calls are counted under
	plainLogs [2]slog.Handler // of its plain calls that go well, in each codec
}

// rule is one limit that a call counts against.
type rule struct {
	talk.Limit

	per  limitKey
	cost int
}

// builtIn are the services that are not ours and so carry no policy of ours.
// Anybody may call them. Their prefix ends with a dot or a slash.
var builtIn = []string{"/grpc.health.v1.Health/", "/grpc.reflection.v1.ServerReflection/", "/grpc.reflection.v1alpha.ServerReflection/"}

// allRules reads the policy of every RPC. It names all RPCs that have none.
func allRules(server *connect.Server, limits Limits) (map[string]*rules, error) {
	all := map[string]*rules{}
	var faults []error
	for spec := range server.Specs() {
		r, err := rulesOf(spec, limits)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		all[spec.Procedure] = r
	}
	return all, errors.Join(faults...)
}

func rulesOf(spec connect.Spec, limits Limits) (*rules, error) {
	r := &rules{
		procedure: spec.Procedure,
		stream:    spec.StreamType != connect.StreamTypeUnary,
		duplex:    spec.StreamType&connect.StreamTypeClient != 0,
	}
	if slices.ContainsFunc(builtIn, func(service string) bool { return strings.HasPrefix(spec.Procedure, service) }) {
		r.access = free2talkv1.Access_ACCESS_PUBLIC
		return r, nil
	}
	method, ok := spec.Schema.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s: no descriptor", spec.Procedure)
	}
	policy, ok := proto.GetExtension(method.Options(), free2talkv1.E_Policy).(*free2talkv1.Policy)
	if !ok || policy == nil || policy.GetAccess() == free2talkv1.Access_ACCESS_UNSPECIFIED {
		return nil, fmt.Errorf("%s: no policy says who may call it", spec.Procedure)
	}
	r.access = policy.GetAccess()
	r.ignoresToken = policy.GetIgnoresToken()
	r.acceptsCookie = policy.GetAcceptsCookie()
	r.acceptsRevoked = policy.GetAcceptsRevoked()
	r.secret = method.Parent().Name() == "AuthService"
	r.private = r.secret || r.access != free2talkv1.Access_ACCESS_PUBLIC || spec.IdempotencyLevel != connect.IdempotencyNoSideEffects
	return r, r.count(policy, limits)
}

// count fills in the limits that the policy names and the configuration has.
func (r *rules) count(policy *free2talkv1.Policy, limits Limits) error {
	if policy.GetCost() < 1 {
		return fmt.Errorf("%s: its policy has no cost", r.procedure)
	}
	names := policy.GetLimits()
	for i, name := range names {
		if !known(name) || slices.Contains(names[:i], name) {
			return fmt.Errorf("%s: its policy names the limit %q, which is none or named twice", r.procedure, name)
		}
	}
	var header []string
	for _, row := range limitTable {
		limit, on := limits[row.Policy]
		if !on || !slices.Contains(names, row.Policy) {
			continue
		}
		cost := 1
		if row.Policy == "api" {
			cost = int(policy.GetCost())
		}
		limit.Failures = row.Failures
		r.limits = append(r.limits, rule{Limit: limit, per: row.per, cost: min(cost, limit.Places)})
		header = append(header, fmt.Sprintf("%q;q=%d;w=%d", limit.Policy, limit.Places, limit.Window/time.Second))
	}
	if header != nil {
		r.policyHeader = []string{strings.Join(header, ", ")}
	}
	return nil
}

// noRules are those of a procedure that does not exist: anybody may hear so,
// as often as they may call anything.
func noRules(limits Limits) *rules {
	r := &rules{access: free2talkv1.Access_ACCESS_PUBLIC, ignoresToken: true, private: true}
	// It cannot fail: the policy is ours.
	_ = r.count(&free2talkv1.Policy{Cost: 1, Limits: []string{"api"}}, limits)
	return r
}

// key says whom the rule counts the call for; false where it does not count.
func (r *rule) key(q *request) (string, bool) {
	switch {
	case r.per != perAddress && q.known:
		return string(q.caller.UserID), true
	case r.per == perUser:
		return "", false
	}
	return addressKey(q.address), true
}

// appendItem writes one item of the header RateLimit (draft 11 of
// draft-ietf-httpapi-ratelimit-headers): what is left, and for how long.
func appendItem(b []byte, v talk.Verdict) []byte {
	if len(b) > 0 {
		b = append(b, ", "...)
	}
	b = append(b, '"')
	b = append(b, v.Limit.Policy...)
	b = append(b, `";r=`...)
	b = strconv.AppendInt(b, int64(max(0, v.Left)), 10)
	b = append(b, `;t=`...)
	return strconv.AppendInt(b, int64((max(0, v.Reset)+time.Second-1)/time.Second), 10)
}
