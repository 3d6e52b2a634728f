package server

import (
	"hash/maphash"
	"sync"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
)

const (
	askedMost = 256 // bytes of a question that is remembered
	askedKept = 256 // questions of one method in one codec, in each of two generations
	askedSeen = 512
)

// asked remembers the questions that a method was asked before, as they came,
// and the messages that they are: reading one and holding it against the
// schema's rules costs ten times as much as looking it up. Only what was valid
// and came twice is remembered. It is bounded as the memory of tokens is: when
// the young generation is full it becomes the old one, of which is kept what is
// asked again.
type asked struct {
	seed maphash.Seed

	mu         sync.Mutex
	young, old map[string]proto.Message
	seen       [askedSeen]uint64 // hashes of what came lately
}

func newAsked() *asked { return &asked{seed: maphash.MakeSeed(), young: map[string]proto.Message{}} }

// recall reads a question that is remembered into msg.
func (a *asked) recall(question []byte, msg any) bool {
	to, ok := msg.(proto.Message)
	if !ok {
		return false
	}
	a.mu.Lock()
	known, ok := a.young[string(question)]
	if !ok {
		if known, ok = a.old[string(question)]; ok {
			a.keep(string(question), known)
		}
	}
	a.mu.Unlock()
	if ok {
		proto.Merge(to, known)
	}
	return ok
}

// remember notes a question that was valid.
func (a *asked) remember(question string, msg any) {
	from, ok := msg.(proto.Message)
	if !ok {
		return
	}
	hash := maphash.String(a.seed, question)
	a.mu.Lock()
	defer a.mu.Unlock()
	if seen := &a.seen[hash%askedSeen]; *seen != hash {
		*seen = hash
		return
	}
	a.keep(question, proto.Clone(from))
}

// keep is called with the lock held.
func (a *asked) keep(question string, known proto.Message) {
	if len(a.young) >= askedKept {
		a.old, a.young = a.young, make(map[string]proto.Message, askedKept)
	}
	a.young[question] = known
}

// remembers reports whether the questions of a method are: those that change
// nothing, of which the same are asked again and again.
func remembers(spec connect.Spec) bool {
	return spec.StreamType == connect.StreamTypeUnary && spec.IdempotencyLevel == connect.IdempotencyNoSideEffects
}
