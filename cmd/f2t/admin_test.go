package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// shown is somebody who is logged in where f is the AdminService.
func shown(t *testing.T, f *fakeAdmin) (*server, *shell) {
	t.Helper()
	s, url := withFake(t, f)
	s.register("ada")
	me := shellAt(t, url)
	me.login("ada")
	return s, me
}

// was says that this was asked.
func (f *fakeAdmin) was(t *testing.T, want proto.Message) {
	t.Helper()
	if got := f.last(); !proto.Equal(got, want) {
		t.Errorf("asked %T{%v}, want %T{%v}", got, got, want, want)
	}
}

func TestStatsAreShown(t *testing.T) {
	t.Parallel()
	f := &fakeAdmin{}
	_, me := shown(t, f)
	says(t, me.run("stats").ok(t), "1,204 online (as last known)", "1 room ", "5,020 sessions", "1 node\n", aNode, "answered this",
		"redis", "no", "10.0.0.5:6379, done without as cache, bus", "postgres", "3 of 12 connections in use, at most 20",
		"room   redis  123,456", "99.0 %", "1.21ms", "12ms", "api     1,234,567", "auth")
	if got := parsed[map[string]any](t, me.run("stats", "-o", "json").ok(t)); got["onlineUsers"] != 1204.0 || got["cache"].([]any)[0].(map[string]any)["hits"] != "123456" {
		t.Errorf("%v", got)
	}
	says(t, me.run("cache", "stats").ok(t), "CACHE", "room", "near", "99.0 %")
	says(t, me.run("limits", "show").ok(t), "POLICY", "100 in 15m", "failures", "1,234,567", "strict", "off")
	says(t, me.run("limits", "show", "203.0.113.7").ok(t), "USED", "in 4m10s", "now")
	f.was(t, &adminv1.ListRateLimitsRequest{Key: "203.0.113.7"})
}

// A watch goes on while the server is away, and says so.
func TestStatsWatch(t *testing.T) {
	t.Parallel()
	f := &fakeAdmin{}
	s, me := shown(t, f)
	out, log, stop := me.begin("stats", "--watch", "--every", "200ms")
	out.has(t, `(?s)1,204 online.*1,204 online`)
	f.goAway(true)
	log.has(t, `the database cannot be reached`)
	before := strings.Count(out.String(), "1,204 online")
	f.goAway(false)
	s.eventually("the numbers again", func() bool { return strings.Count(out.String(), "1,204 online") > before+1 })
	if code := stop(); code != exitDone {
		t.Errorf("Ctrl-C: exit %d", code)
	}
	shown := strings.Count(out.String(), "1,204 online") + strings.Count(log.String(), "cannot be reached")
	if asked := f.questions(); asked > shown+1 { // the last may have been cut off
		t.Errorf("asked %d times for %d moments", asked, shown)
	}
	out, _, stop = me.begin("stats", "--watch", "--every", "200ms", "-o", "json")
	out.has(t, `(?m)^\{"onlineUsers":1204.*\}\n\{`)
	if code := stop(); code != exitDone {
		t.Errorf("Ctrl-C: exit %d", code)
	}
	me.run("stats", "--watch", "--every", "1ms").fails(t, exitUsage, "--every")
}

// In a terminal it draws over itself, and gives the screen back.
func TestTerminal_stats_watch(t *testing.T) {
	t.Parallel()
	f := &fakeAdmin{}
	_, me := shown(t, f)
	p := me.terminal(nil, "stats", "--watch", "--every", "200ms")
	p.seen.has(t, `(?s)\x1b\[\?1049h.*1,204.*\x1b\[H.*1,204`)
	f.goAway(true)
	p.seen.has(t, `(?s)away: .*the database cannot be reached`)
	p.types(ctrlC)
	if code := p.ended(); code != exitDone {
		t.Errorf("exit %d", code)
	}
	p.seen.has(t, `\x1b\[\?25h\x1b\[\?1049l`)
}

func TestAnalyticsAreDrawn(t *testing.T) {
	t.Parallel()
	f := &fakeAdmin{}
	_, me := shown(t, f)
	says(t, me.run("analytics").ok(t), "people there · hour by hour · at most 900", "most online at once", "at most 767",
		"people who sat down", "14,028 in all, at most 167", "rooms opened", "0 in all", "minutes together", "┼", "└",
		"es", "12,000", "500,000", "Tapas y charla", "███", "Of 1 of 168 points not all is known")
	asked, ok := f.last().(*adminv1.GetAnalyticsRequest)
	if !ok || asked.GetTo().AsTime().Sub(asked.GetFrom().AsTime()) != 7*24*time.Hour || asked.GetInterval() != adminv1.Interval_INTERVAL_HOUR {
		t.Errorf("asked %v", asked)
	}
	says(t, me.run("analytics", "--days", "90").ok(t), "day by day")
	says(t, me.run("analytics", "--days", "1", "--by", "day").ok(t), "day by day") // one point
	if got := parsed[map[string]any](t, me.run("analytics", "-d", "1", "-o", "json").ok(t)); len(got["points"].([]any)) != 24 {
		t.Errorf("%v", got)
	}
	me.run("analytics", "--days", "0").fails(t, exitUsage, "--days")
}

func TestActs(t *testing.T) {
	t.Parallel()
	f := &fakeAdmin{}
	s, me := shown(t, f)
	mallory := s.register("mallory")
	id := idOf(t, mallory)
	room := s.room(mallory, "Tapas y charla")
	for _, act := range []struct {
		args []string
		says string
		asks proto.Message
	}{
		{[]string{"users", "ban", "mallory", "-r", "insults", "--for", "168h"}, "mallory is banned for 168h", &adminv1.BanUserRequest{UserId: id, Reason: "insults", Duration: seconds(168 * time.Hour)}},
		{[]string{"users", "ban", "@Mallory", "--reason", "insults"}, "mallory is banned for good", &adminv1.BanUserRequest{UserId: id, Reason: "insults"}},
		{[]string{"users", "unban", id}, "mallory may come in again", &adminv1.UnbanUserRequest{UserId: id}},
		{[]string{"users", "role", "mallory", "admin"}, "an administrator", &adminv1.SetRoleRequest{UserId: id, Role: free2talkv1.Role_ROLE_ADMIN}},
		{[]string{"users", "role", "mallory", "user"}, "an ordinary user", &adminv1.SetRoleRequest{UserId: id, Role: free2talkv1.Role_ROLE_USER}},
		{[]string{"users", "revoke", "mallory"}, "3 sessions of mallory ended", &adminv1.RevokeSessionsRequest{UserId: id}},
		{[]string{"users", "sessions", "mallory"}, "Firefox", &adminv1.ListSessionsRequest{UserId: id}},
		{[]string{"users", "show", "mallory"}, "insults", &adminv1.ListUsersRequest{Query: id, PageSize: 1}},
		{[]string{"rooms", "kick", room.GetSlug(), "mallory", "-r", "shouting"}, "is out of", &adminv1.KickUserRequest{RoomId: room.GetId(), UserId: id, Reason: "shouting"}},
		{[]string{"rooms", "close", room.GetSlug(), "-r", "spam"}, "is closed; 1 sat in it", &adminv1.CloseRoomRequest{RoomId: room.GetId(), Reason: "spam"}},
		{[]string{"cache", "flush", "room:*"}, "42 keys are forgotten", &adminv1.FlushCacheRequest{Pattern: "room:*"}},
		{[]string{"cache", "warm"}, "1 room and 4 users", &adminv1.WarmCacheRequest{}},
		{[]string{"limits", "reset", "auth", "203.0.113.7"}, "all places of auth back", &adminv1.ResetRateLimitRequest{Policy: "auth", Key: "203.0.113.7"}},
		{[]string{"limits", "reset", "room_create", "mallory"}, "back", &adminv1.ResetRateLimitRequest{Policy: "room_create", Key: id}},
		{[]string{"audit", "list"}, "set role", &adminv1.ListAuditLogRequest{PageSize: 50}},
		{[]string{"audit", "verify"}, "12 entries", &adminv1.VerifyAuditLogRequest{}},
		{[]string{"why", "online", "mallory"}, "It is so.\n[31mAnd so it was.\n", &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_Online{Online: id}}},
		{[]string{"why", "limited", "2001:db8::/64", "-p", "auth"}, "It is so.", &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_Limited{Limited: &adminv1.LimitedQuestion{Policy: "auth", Key: "2001:db8::/64"}}}},
		{[]string{"why", "limited", "mallory"}, "It is so.", &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_Limited{Limited: &adminv1.LimitedQuestion{Policy: "api", Key: id}}}},
		{[]string{"why", "signed-out", aNode}, "It is so.", &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_SignedOut{SignedOut: aNode}}},
		{[]string{"why", "closed", room.GetSlug()}, "It is so.", &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_Closed{Closed: room.GetId()}}},
	} {
		says(t, me.run(act.args...).ok(t), act.says)
		f.was(t, act.asks)
	}
	me.run("users", "ban", "nobody", "-r", "x").fails(t, exitNotFound, "USER_NOT_FOUND")
	me.run("users", "ban", "mallory").fails(t, exitUsage, "--reason")
	me.run("users", "role", "mallory", "king").fails(t, exitUsage, "admin")
	me.run("rooms", "close", "nowhere", "-r", "x").fails(t, exitNotFound, "ROOM_NOT_FOUND")
}

// All pages are read, and an audit log that was changed is a failure.
func TestListsOfAdministrators(t *testing.T) {
	t.Parallel()
	f := &fakeAdmin{broke: 5}
	_, me := shown(t, f)
	if got := parsed[[]map[string]any](t, me.run("users", "list", "-o", "json").ok(t)); len(got) != 2 || got[0]["email"] != "mallory@example.org" {
		t.Errorf("%v", got)
	}
	says(t, me.run("users", "list", "mal").ok(t), "mallory@example.org", "for good", "E-MAIL")
	me.run("audit", "verify").fails(t, exitFailed, "entry 5")
	if got := parsed[[]map[string]any](t, me.run("audit", "list", "-o", "json").ok(t)); got[0]["actor"] != "shell:root" {
		t.Errorf("%v", got)
	}
	says(t, me.run("audit", "list").ok(t), "shell:root", "role: admin")
}
