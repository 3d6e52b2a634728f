package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/client"
	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	"github.com/free2talk/free2talk/gen/free2talk/admin/v1/adminv1connect"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
)

// said is an explanation, which must say all of these things.
func said(t *testing.T, service adminv1connect.AdminServiceClient, question *adminv1.ExplainRequest, want ...string) {
	t.Helper()
	reply, err := service.Explain(t.Context(), question)
	if err != nil {
		t.Errorf("%v: %v", question, err)
		return
	}
	text := strings.Join(reply.GetSentences(), "\n")
	for _, words := range want {
		if !strings.Contains(text, words) {
			t.Errorf("%v is explained by\n%s\nand not by %q", question, text, words)
		}
	}
}

func whyOnline(who *person) *adminv1.ExplainRequest {
	return &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_Online{Online: who.id()}}
}

func whyClosed(room string) *adminv1.ExplainRequest {
	return &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_Closed{Closed: room}}
}

func whySignedOut(session string) *adminv1.ExplainRequest {
	return &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_SignedOut{SignedOut: session}}
}

func whyLimited(policy, key string) *adminv1.ExplainRequest {
	return &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_Limited{Limited: &adminv1.LimitedQuestion{Policy: policy, Key: key}}}
}

// Somebody whose node is killed: the explanation names the node.
func TestExplain_whose_node_died(t *testing.T) {
	t.Parallel()
	d := newDoomed(t, 2)
	_, service := d.admin(d.nodes[0])
	said(t, service, whyOnline(d.people[0]), d.people[0].Username+" is online", "They sit in")
	nobody := &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_Online{Online: talk.NewID()}}
	_, err := service.Explain(t.Context(), nobody)
	refusedAs(t, "nobody", err, client.ReasonUserNotFound)
	began := time.Now()
	d.child.signal(syscall.SIGKILL)
	d.buried(began)
	for _, p := range d.people {
		said(t, service, whyOnline(p), p.Username+" is offline", "They were last seen at", "died at that time")
	}
	said(t, service, whyClosed(d.lonely), "nobody sat in it any more", "was disconnected and did not come back")
	never := d.person()
	said(t, service, whyOnline(never), "They were never online.")
}

func TestExplain_rooms(t *testing.T) {
	onAdmin(t, func(t *testing.T, w *world) {
		root, service := w.admin(w.nodes[0])
		ada, bob := w.person(), w.person()
		room := w.room(ada, 3).GetId()
		said(t, service, whyClosed(room), "is open: 1 of 3 places are taken", ada.Username+" owns it")
		_, err := ada.Rooms.CloseRoom(t.Context(), &free2talkv1.CloseRoomRequest{RoomId: room})
		must(t, err)
		said(t, service, whyClosed(room), ada.Username+", who owned", "closed it at")
		room = w.room(ada, 3).GetId()
		_, err = ada.Rooms.LeaveRoom(t.Context(), &free2talkv1.LeaveRoomRequest{RoomId: room})
		must(t, err)
		said(t, service, whyClosed(room), "closed by itself", "The last one in it was "+ada.Username+", who left")
		room = w.room(bob, 3).GetId()
		_, err = service.CloseRoom(t.Context(), &adminv1.CloseRoomRequest{RoomId: room, Reason: "spam"})
		must(t, err)
		said(t, service, whyClosed(room), "An administrator closed", "It was "+root.Username, "spam")
		_, err = service.Explain(t.Context(), whyClosed(talk.NewID()))
		refusedAs(t, "no room", err, client.ReasonRoomNotFound)
	})
}

func TestExplain_sessions(t *testing.T) {
	onAdmin(t, func(t *testing.T, w *world) {
		root, service := w.admin(w.nodes[0])
		bob := w.person()
		session := func(p *person) string { return string(p.grant.SessionID) }
		said(t, service, whySignedOut(session(bob)), "The session lives", bob.Username+" signed in at")
		_, err := bob.Auth.Logout(t.Context(), &free2talkv1.LogoutRequest{})
		must(t, err)
		said(t, service, whySignedOut(session(bob)), "logged out")
		cy, dan, eve := w.person(), w.person(), w.person()
		_, err = service.RevokeSessions(t.Context(), &adminv1.RevokeSessionsRequest{UserId: cy.id()})
		must(t, err)
		said(t, service, whySignedOut(session(cy)), "an administrator ended all sessions", "It was "+root.Username)
		_, err = service.BanUser(t.Context(), &adminv1.BanUserRequest{UserId: dan.id(), Reason: "spam"})
		must(t, err)
		said(t, service, whySignedOut(session(dan)), "its user was banned", "spam", "It was "+root.Username)
		said(t, service, whyOnline(dan), "They are banned: for good, because of \"spam\".", "They were never online.")
		w.reuse(t, eve)
		said(t, service, whySignedOut(session(eve)), "a refresh token was shown that had been replaced")
		_, err = service.Explain(t.Context(), whySignedOut(talk.NewID()))
		refusedAs(t, "no session", err, client.ReasonSessionNotFound)
	})
}

// reuse has a thief show a refresh token whose successor was used.
func (w *world) reuse(t *testing.T, p *person) {
	t.Helper()
	stolen := p.grant.RefreshToken
	first, err := w.client(w.nodes[0]).Auth.Refresh(t.Context(), &free2talkv1.RefreshRequest{RefreshToken: stolen})
	must(t, err)
	_, err = w.client(w.nodes[0]).Auth.Refresh(t.Context(), &free2talkv1.RefreshRequest{RefreshToken: first.GetTokens().GetRefreshToken()})
	must(t, err)
	_, err = w.client(w.nodes[0]).Auth.Refresh(t.Context(), &free2talkv1.RefreshRequest{RefreshToken: stolen})
	refusedAs(t, "a replaced token", err, client.ReasonRefreshReused)
}

// Limits are listed, explained and reset, on whatever node was asked.
func TestRateLimits_listed_explained_and_reset(t *testing.T) {
	t.Parallel()
	for _, b := range []backend{onEmbedded, onPostgres} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, b, 2, withLimits(t, "api=off,strict=off,room_create=off,message=2/1h,auth=3/1h"))
			root, service := w.admin(w.nodes[0])
			ada := w.registeredPerson()
			room := w.room(ada, 3).GetId()
			speak := func(n *testNode) error {
				_, err := w.as(n, ada).Rooms.SendMessage(t.Context(), &free2talkv1.SendMessageRequest{RoomId: room, Text: "hola"})
				return err
			}
			must(t, speak(w.nodes[0]))
			row := w.limitRow(t, service, "message", ada.id())
			if row.GetLimit() != 2 || row.GetWindow().AsDuration() != time.Hour || row.GetUsed() != 1 || row.GetRetryAfter() != nil || row.GetFailuresOnly() {
				t.Errorf("after one message: %v", row)
			}
			said(t, service, whyLimited("message", ada.id()), "are let in by message", "1 of at most 2 calls")
			must(t, speak(last(w)))
			for _, n := range w.nodes {
				refusedAs(t, "a third message", speak(n), client.ReasonRateLimited)
			}
			said(t, service, whyLimited("message", strings.ToUpper(ada.id())), "are refused by message", "2 of at most 2 calls", "ResetRateLimit")
			_, err := service.ResetRateLimit(t.Context(), &adminv1.ResetRateLimitRequest{Policy: "message", Key: ada.id()})
			must(t, err)
			must(t, speak(w.nodes[0]))
			w.eventually(10*time.Second, "the other node lets her speak", func() bool { return speak(last(w)) == nil })

			for range 3 {
				_, err := w.client(last(w)).Login(t.Context(), ada.Username, "not "+password)
				refusedAs(t, "a wrong password", err, client.ReasonBadCredentials)
			}
			said(t, service, whyLimited("auth", "127.0.0.1"), "are refused by auth", "3 of at most 3 failed calls")
			if row := w.limitRow(t, service, "auth", "127.0.0.1"); !row.GetFailuresOnly() || row.GetUsed() != 3 || row.GetRetryAfter() == nil {
				t.Errorf("after three wrong passwords: %v", row)
			}
			_, err = service.ResetRateLimit(t.Context(), &adminv1.ResetRateLimitRequest{Policy: "auth", Key: "127.0.0.1"})
			must(t, err)
			w.eventually(10*time.Second, "she may log in everywhere", func() bool {
				_, err := w.client(last(w)).Login(t.Context(), ada.Username, password)
				return err == nil
			})
			said(t, service, whyLimited("api", "127.0.0.1"), "switched off")
			w.knowsNoPolicy(t, service)
			log, err := service.ListAuditLog(t.Context(), &adminv1.ListAuditLogRequest{})
			must(t, err)
			if e := log.GetEntries(); len(e) != 2 || e[0].GetAction() != "reset_rate_limit" || e[0].GetTarget() != "127.0.0.1" ||
				e[0].GetDetail() != `{"policy":"auth"}` || e[1].GetActor() != root.id() {
				t.Errorf("the audit log has %v", e)
			}
		})
	}
}

func (w *world) limitRow(t *testing.T, service adminv1connect.AdminServiceClient, policy, key string) *adminv1.RateLimit {
	t.Helper()
	reply, err := service.ListRateLimits(t.Context(), &adminv1.ListRateLimitsRequest{Policy: policy, Key: key})
	must(t, err)
	if len(reply.GetLimits()) != 1 {
		t.Fatalf("%s: %v", policy, reply)
	}
	return reply.GetLimits()[0]
}

// knowsNoPolicy asks for a policy that there is not.
func (w *world) knowsNoPolicy(t *testing.T, service adminv1connect.AdminServiceClient) {
	t.Helper()
	_, listed := service.ListRateLimits(t.Context(), &adminv1.ListRateLimitsRequest{Policy: "tea"})
	_, reset := service.ResetRateLimit(t.Context(), &adminv1.ResetRateLimitRequest{Policy: "tea", Key: "k"})
	_, explained := service.Explain(t.Context(), whyLimited("tea", "k"))
	for i, err := range []error{listed, reset, explained} {
		field := []string{"policy", "policy", "limited.policy"}[i]
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(fmt.Sprint(client.Violations(err)), field) {
			t.Errorf("an unknown policy: %v", err)
		}
	}
	all, err := service.ListRateLimits(t.Context(), &adminv1.ListRateLimitsRequest{})
	must(t, err)
	if len(all.GetLimits()) != 5 || all.GetLimits()[0].GetPolicy() != "api" || all.GetLimits()[0].GetLimit() != 0 {
		t.Errorf("all limits: %v", all)
	}
}

// The same of an IPv6 address and of its /64.
func TestRateLimits_by_the_network(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onEmbedded, 1, withLimits(t, "auth=2/1h"))
	_, service := w.admin(w.nodes[0])
	for _, key := range []string{"2001:db8::1", "2001:db8::/64", "2001:DB8:0:0:ffff::2"} {
		reply, err := service.ListRateLimits(t.Context(), &adminv1.ListRateLimitsRequest{Policy: "auth", Key: key})
		if err != nil || reply.GetLimits()[0].GetUsed() != 0 {
			t.Errorf("%s: %v, %v", key, reply, err)
		}
		said(t, service, whyLimited("auth", key), "Calls of 2001:db8::/64 are let in")
	}
}

// While Redis is away a reset is refused, and what is told is told as what
// one node knows.
func TestRateLimits_without_redis(t *testing.T) {
	t.Parallel()
	own := testenv.StartRedis(t)
	w := newWorld(t, onOwnRedis(own), 1, withLimits(t, "api=off,room_create=off,message=5/1h"))
	w.redisUsed()
	_, service := w.admin(w.nodes[0])
	own.Stop()
	w.eventually(10*time.Second, "the node knows it", func() bool { return w.measured(w.nodes[0], "free2talk_degraded", `role="limiter"`) == 1 })
	_, err := service.ResetRateLimit(t.Context(), &adminv1.ResetRateLimitRequest{Policy: "message", Key: talk.NewID()})
	if connect.CodeOf(err) != connect.CodeUnavailable || client.Reason(err) != client.ReasonBusy {
		t.Errorf("a reset without Redis: %v", err)
	}
	_, err = service.FlushCache(t.Context(), &adminv1.FlushCacheRequest{})
	if connect.CodeOf(err) != connect.CodeUnavailable || client.Reason(err) != client.ReasonBusy {
		t.Errorf("a flush without Redis: %v", err)
	}
	said(t, service, whyLimited("message", talk.NewID()), "Redis is away")
	stats, err := service.GetStats(t.Context(), &adminv1.GetStatsRequest{})
	if err != nil || stats.GetRedis().GetAvailable() || !stats.GetStale() || len(stats.GetRedis().GetDegraded()) == 0 {
		t.Errorf("without Redis: %v, %v", stats, err)
	}
	own.Cont()
}
