package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/free2talk/free2talk/client"
	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

type cacheCmd struct {
	Stats cacheStats `cmd:"" help:"How often each cache has the answer."`
	Flush cacheFlush `cmd:"" help:"Forget entries on all nodes. Safe: what is asked for again comes from Postgres."`
	Warm  cacheWarm  `cmd:"" help:"Load what is likely to be asked for next."`
}

type cacheStats struct{}

// Help shows how it is used.
func (cacheStats) Help() string { return examples("f2t cache stats") }

// Run shows the caches.
func (cacheStats) Run(ctx context.Context, a *app) error {
	stats, err := a.stats(ctx)
	if err != nil {
		return err
	}
	return list(a, stats.GetCache(), func() error { return a.cacheTable(stats) })
}

func (a *app) cacheTable(stats *adminv1.GetStatsResponse) error {
	g := a.grid("cache", "layer", ">hits", ">absences", ">misses", ">errors", ">answered", ">load p50", ">load p99")
	for _, c := range stats.GetCache() {
		answered := ""
		if c.GetHits()+c.GetNegatives()+c.GetMisses() > 0 {
			answered = percent(c.GetHitRatio())
		}
		g.row(c.GetCache(), c.GetLayer(), number(c.GetHits()), number(c.GetNegatives()), number(c.GetMisses()), number(c.GetErrors()),
			answered, took(c.GetLoadP50()), took(c.GetLoadP99()))
	}
	return g.print("Nothing is cached.")
}

type cacheFlush struct {
	Pattern string `arg:"" optional:"" default:"*" help:"Which keys, such as room:* (${default})."`
}

// Help shows how it is used.
func (cacheFlush) Help() string { return examples("f2t cache flush 'room:*'") }

// Run empties the cache.
func (f cacheFlush) Run(ctx context.Context, a *app) error {
	admin, _, err := a.admin()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	reply, err := admin.FlushCache(ctx, &adminv1.FlushCacheRequest{Pattern: f.Pattern})
	if err != nil {
		return err
	}
	return a.print(reply, func() error {
		return a.done("%s forgotten, and every node's own entries", count(reply.GetDeletedKeys(), "key is", "keys are"))
	})
}

type cacheWarm struct{}

// Help shows how it is used.
func (cacheWarm) Help() string { return examples("f2t cache warm") }

// Run warms the cache.
func (cacheWarm) Run(ctx context.Context, a *app) error {
	admin, _, err := a.admin()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	reply, err := admin.WarmCache(ctx, &adminv1.WarmCacheRequest{})
	if err != nil {
		return err
	}
	return a.print(reply, func() error {
		return a.done("%s and %s are in the cache", count(reply.GetRooms(), "room", "rooms"), count(reply.GetUsers(), "user", "users"))
	})
}

type limitsCmd struct {
	Show  limitsShow  `cmd:"" help:"How many calls each policy let through and refused."`
	Reset limitsReset `cmd:"" help:"Give somebody all their places back."`
}

type limitsShow struct {
	Key    string `arg:"" optional:"" help:"Whose use: an address, or a username or id. Without: what each policy decided."`
	Policy string `short:"p" predictor:"policy" placeholder:"NAME" help:"Only that policy."`
}

// Help shows how it is used.
func (limitsShow) Help() string {
	return examples("f2t limits show", "f2t limits show 203.0.113.7", "f2t limits show ada --policy room_create")
}

// Run shows the rate limits.
func (l limitsShow) Run(ctx context.Context, a *app) error {
	admin, c, err := a.admin()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	request := &adminv1.ListRateLimitsRequest{Policy: l.Policy}
	if l.Key != "" {
		if request.Key, err = a.limitKey(ctx, c, l.Key); err != nil {
			return err
		}
	}
	reply, err := admin.ListRateLimits(ctx, request)
	if err != nil {
		return err
	}
	decided := map[string]*adminv1.RateLimitStats{}
	if l.Key == "" {
		stats, err := admin.GetStats(ctx, &adminv1.GetStatsRequest{})
		if err != nil {
			return err
		}
		for _, s := range stats.GetRateLimits() {
			decided[s.GetPolicy()] = s
		}
	}
	return list(a, reply.GetLimits(), func() error { return l.table(a, reply.GetLimits(), decided) })
}

func (l limitsShow) table(a *app, limits []*adminv1.RateLimit, decided map[string]*adminv1.RateLimitStats) error {
	columns := []string{"policy", "allows", "counts", ">allowed", ">refused"}
	if l.Key != "" {
		columns = []string{"policy", "allows", "counts", ">used", "next"}
	}
	g := a.grid(columns...)
	for _, limit := range limits {
		allows, counts := "off", "calls"
		if limit.GetLimit() > 0 {
			allows = number(limit.GetLimit()) + " in " + duration(limit.GetWindow().AsDuration())
		}
		if limit.GetFailuresOnly() {
			counts = "failures"
		}
		if l.Key == "" {
			d := decided[limit.GetPolicy()]
			g.row(limit.GetPolicy(), allows, counts, number(d.GetAllowed()), number(d.GetLimited()))
			continue
		}
		next := "now"
		if limit.GetRetryAfter() != nil {
			next = "in " + duration(limit.GetRetryAfter().AsDuration())
		}
		g.row(limit.GetPolicy(), allows, counts, number(limit.GetUsed()), next)
	}
	return g.print("There are no policies.")
}

func (a *app) limitsTable(stats *adminv1.GetStatsResponse) error {
	g := a.grid("policy", ">allowed", ">refused")
	for _, l := range stats.GetRateLimits() {
		g.row(l.GetPolicy(), number(l.GetAllowed()), number(l.GetLimited()))
	}
	return g.print("There are no policies.")
}

type limitsReset struct {
	Policy string `arg:"" predictor:"policy" help:"Such as auth, api, room_create, message or strict."`
	Key    string `arg:"" help:"Whose: an address, or of a policy that counts users their username or id."`
}

// Help shows how it is used.
func (limitsReset) Help() string {
	return examples("f2t limits reset auth 203.0.113.7", "f2t limits reset room_create ada")
}

// Run resets.
func (l limitsReset) Run(ctx context.Context, a *app) error {
	admin, c, err := a.admin()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	key, err := a.limitKey(ctx, c, l.Key)
	if err != nil {
		return err
	}
	if _, err := admin.ResetRateLimit(ctx, &adminv1.ResetRateLimitRequest{Policy: l.Policy, Key: key}); err != nil {
		return err
	}
	return a.done("%s has all places of %s back", l.Key, l.Policy)
}

type auditCmd struct {
	List   auditList   `cmd:"" help:"What administrators did, the last first."`
	Verify auditVerify `cmd:"" help:"Check that nobody changed the log behind the server's back."`
}

type auditList struct {
	Limit int `short:"n" default:"50" help:"At most so many; 0 for all (${default})."`
}

// Help shows how it is used.
func (auditList) Help() string {
	return examples("f2t audit list -n 20", "f2t audit list -n 0 -o json")
}

// Run lists the log.
func (l auditList) Run(ctx context.Context, a *app) error {
	admin, c, err := a.admin()
	if err != nil {
		return err
	}
	entries, err := pages(ctx, a, l.Limit, func(ctx context.Context, size int32, token string) ([]*adminv1.AuditEntry, string, error) {
		reply, err := admin.ListAuditLog(ctx, &adminv1.ListAuditLogRequest{PageSize: size, PageToken: token})
		return reply.GetEntries(), reply.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	return list(a, entries, func() error {
		g := a.grid(">no", "time", "who", "did", "to", "detail")
		names := a.names(ctx, c, entries)
		for _, e := range entries {
			g.row(e.GetId(), at(e.GetTime()), or(names[e.GetActor()], e.GetActor()), strings.ReplaceAll(e.GetAction(), "_", " "),
				or(names[e.GetTarget()], e.GetTarget()), spoken(e.GetDetail()))
		}
		return g.print("Nothing was done yet.")
	})
}

// names are the usernames of those whom entries speak of, as far as they can
// be had: an entry keeps ids, which outlive names.
func (a *app) names(ctx context.Context, c *client.Client, entries []*adminv1.AuditEntry) map[string]string {
	ids := map[string]struct{}{}
	for _, e := range entries {
		for _, id := range []string{e.GetActor(), e.GetTarget()} {
			if isID(id) {
				ids[id] = struct{}{}
			}
		}
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	names := map[string]string{}
	for some := range slices.Chunk(sortedKeys(ids), mostOfAPage) {
		reply, err := c.Users.BatchGetUsers(ctx, &free2talkv1.BatchGetUsersRequest{Ids: some})
		if err != nil {
			return names
		}
		for _, u := range reply.GetUsers() {
			names[u.GetId()] = u.GetUsername()
		}
	}
	return names
}

// spoken is a JSON object as words: reason insults, until 2026-12-01.
func spoken(object string) string {
	var facts map[string]any
	if json.Unmarshal([]byte(object), &facts) != nil {
		return object
	}
	words := make([]string, 0, len(facts))
	for _, name := range sortedKeys(facts) {
		words = append(words, fmt.Sprintf("%s: %v", strings.ReplaceAll(name, "_", " "), facts[name]))
	}
	return strings.Join(words, ", ")
}

type auditVerify struct{}

// Help shows how it is used.
func (auditVerify) Help() string {
	return "Exits with 1 where the chain is broken.\n\n" + examples("f2t audit verify")
}

// Run verifies the log.
func (auditVerify) Run(ctx context.Context, a *app) error {
	admin, _, err := a.admin()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	reply, err := admin.VerifyAuditLog(ctx, &adminv1.VerifyAuditLogRequest{})
	if err != nil {
		return err
	}
	broken := reply.GetFirstBroken() != 0
	err = a.print(reply, func() error {
		if broken {
			return nil
		}
		return a.done("the log is whole: %s, each chained to the one before", count(reply.GetEntries(), "entry", "entries"))
	})
	if err == nil && broken {
		err = failf(exitFailed, "the log was changed: entry %d is the first that is not what was written; %d were checked", reply.GetFirstBroken(), reply.GetEntries())
	}
	return err
}

type whyCmd struct {
	Online    whyOnline    `cmd:"" help:"Why somebody is online, or is not."`
	Limited   whyLimited   `cmd:"" help:"Why an address or a user is refused."`
	SignedOut whySignedOut `cmd:"" help:"Why a session has ended."`
	Closed    whyClosed    `cmd:"" help:"Why a room is closed."`
}

type whyOnline struct{ oneUser }

// Help shows how it is used.
func (whyOnline) Help() string { return examples("f2t why online ada") }

// Run explains.
func (w whyOnline) Run(ctx context.Context, a *app) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	_, c, err := a.admin()
	if err != nil {
		return err
	}
	id, err := a.userID(ctx, c, w.User)
	if err != nil {
		return err
	}
	return a.because(ctx, &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_Online{Online: id}})
}

type whyLimited struct {
	Key    string `arg:"" help:"Whom: an address, or a username or id."`
	Policy string `short:"p" default:"api" predictor:"policy" help:"Which policy (${default})."`
}

// Help shows how it is used.
func (whyLimited) Help() string { return examples("f2t why limited 203.0.113.7 --policy auth") }

// Run explains.
func (w whyLimited) Run(ctx context.Context, a *app) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	_, c, err := a.admin()
	if err != nil {
		return err
	}
	key, err := a.limitKey(ctx, c, w.Key)
	if err != nil {
		return err
	}
	return a.because(ctx, &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_Limited{
		Limited: &adminv1.LimitedQuestion{Policy: w.Policy, Key: key},
	}})
}

type whySignedOut struct {
	Session string `arg:"" help:"The session's id, as in f2t users sessions or the access log."`
}

// Help shows how it is used.
func (whySignedOut) Help() string {
	return examples("f2t why signed-out 01a217ee-758a-7510-8db5-f3b1fb47221b")
}

// Run explains.
func (w whySignedOut) Run(ctx context.Context, a *app) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	return a.because(ctx, &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_SignedOut{SignedOut: strings.ToLower(w.Session)}})
}

type whyClosed struct {
	Room string `arg:"" help:"Its id, or the short name in its address."`
}

// Help shows how it is used.
func (whyClosed) Help() string { return examples("f2t why closed tapas-y-charla-k3x9") }

// Run explains.
func (w whyClosed) Run(ctx context.Context, a *app) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	_, c, err := a.admin()
	if err != nil {
		return err
	}
	id := strings.ToLower(w.Room)
	if !isID(id) {
		found, err := a.findRoom(ctx, c, w.Room)
		if err != nil {
			return err
		}
		id = found.GetRoom().GetId()
	}
	return a.because(ctx, &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_Closed{Closed: id}})
}

// because shows what the server knows.
func (a *app) because(ctx context.Context, question *adminv1.ExplainRequest) error {
	admin, _, err := a.admin()
	if err != nil {
		return err
	}
	reply, err := admin.Explain(ctx, question)
	if err != nil {
		return err
	}
	return a.print(reply, func() error {
		for _, sentence := range reply.GetSentences() {
			if err := a.say("%s\n", clean(sentence)); err != nil {
				return err
			}
		}
		return nil
	})
}
