package main

import (
	"fmt"
	"maps"
	"math"
	"testing"
	"time"

	"github.com/free2talk/free2talk/client"
	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	"github.com/free2talk/free2talk/gen/free2talk/admin/v1/adminv1connect"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// counters are what a scripted sequence of calls moves.
type counters map[string]int64

// statCounters is what GetStats says, as one flat list.
func statCounters(s *adminv1.GetStatsResponse) counters {
	c := counters{
		"online": int64(s.GetOnlineUsers()), "rooms": int64(s.GetActiveRooms()), "sessions": int64(s.GetActiveSessions()),
	}
	for _, row := range s.GetCache() {
		name := row.GetLayer() + " " + row.GetCache() + " "
		c[name+"hits"], c[name+"negatives"], c[name+"misses"], c[name+"errors"] = row.GetHits(), row.GetNegatives(), row.GetMisses(), row.GetErrors()
	}
	for _, row := range s.GetRateLimits() {
		c[row.GetPolicy()+" allowed"], c[row.GetPolicy()+" limited"] = row.GetAllowed(), row.GetLimited()
	}
	return c
}

// told is the same, as /metrics tells it.
func (w *world) told(n *testNode) counters {
	w.Helper()
	m := w.metrics(n)
	sum := func(name string, labels ...string) int64 { return int64(math.Round(m.sum(name, labels...))) }
	c := counters{"online": sum("free2talk_online_users"), "rooms": sum("free2talk_rooms"), "sessions": sum("free2talk_sessions")}
	for _, layer := range []string{"near", "redis"} {
		for _, cache := range []string{"room", "slug", "user", "username"} {
			reads := func(results ...string) (n int64) {
				for _, result := range results {
					n += sum("free2talk_cache_requests_total", fmt.Sprintf("cache=%q", cache), fmt.Sprintf("layer=%q", layer), fmt.Sprintf("result=%q", result))
				}
				return n
			}
			name := layer + " " + cache + " "
			c[name+"hits"], c[name+"negatives"] = reads("hit"), reads("negative")
			c[name+"misses"], c[name+"errors"] = reads("miss", "wait", "stale"), reads("error")
		}
	}
	for _, policy := range []string{"api", "strict", "room_create", "message", "auth"} {
		decided := func(result string) int64 {
			return sum("free2talk_limiter_decisions_total", fmt.Sprintf("policy=%q", policy), fmt.Sprintf("result=%q", result))
		}
		c[policy+" allowed"], c[policy+" limited"] = decided("allowed"), decided("refused")
	}
	return c
}

// moved is by how much what changed differs, without what moved by nothing.
func moved(before, after counters) counters {
	diff := counters{}
	for name, n := range after {
		if n != before[name] {
			diff[name] = n - before[name]
		}
	}
	return diff
}

// Resolution 1 of administration: calls move exactly the counters that they
// should, by exactly as much, and GetStats and /metrics agree.
func TestCallsMoveTheirCountersAndNoOthers(t *testing.T) {
	w := newWorld(t, onPostgres, 1, withLimits(t, "api=off,strict=off,room_create=50/1h,message=2/1h,auth=3/1h"))
	w.redisUsed()
	n := w.nodes[0]
	_, service := w.admin(n)
	ada, bob := w.registeredPerson(), w.person()
	var room *free2talkv1.Room
	read := func(key *free2talkv1.GetRoomRequest) func() error {
		return func() error { _, err := bob.Rooms.GetRoom(t.Context(), key); return err }
	}
	speak := func() error {
		_, err := ada.Rooms.SendMessage(t.Context(), &free2talkv1.SendMessageRequest{RoomId: room.GetId(), Text: "hola"})
		return err
	}
	login := func(password string) func() error {
		return func() error { _, err := w.client(n).Login(t.Context(), ada.Username, password); return err }
	}
	nowhere := roomByID(talk.NewID())
	var hangUp func()
	for _, step := range []struct {
		name   string
		do     func() error
		reason string
		want   counters
	}{
		{"a room is opened", func() error { room = w.room(ada, 4); return nil }, "", counters{"rooms": 1, "room_create allowed": 1}},
		{"it is read for the first time", func() error { return read(roomByID(room.GetId()))() }, "", counters{"redis room misses": 1}},
		{"and again", func() error { return read(roomByID(room.GetId()))() }, "", counters{"near room hits": 1}},
		{"a room that there is not", read(nowhere), client.ReasonRoomNotFound, counters{"redis room misses": 1}},
		{"and again", read(nowhere), client.ReasonRoomNotFound, counters{"near room negatives": 1}},
		{"a message", speak, "", counters{"message allowed": 1}},
		{"a second", speak, "", counters{"message allowed": 1}},
		{"a third", speak, client.ReasonRateLimited, counters{"message limited": 1}},
		{"a right password", login(password), "", counters{"auth allowed": 1, "sessions": 1}},
		{"a wrong one", login("not " + password), client.ReasonBadCredentials, counters{"auth allowed": 1}},
		{"somebody comes online", func() error { hangUp = w.online(bob, n); return nil }, "", counters{"online": 1}},
		{"and logs out", func() error {
			_, err := bob.Auth.Logout(t.Context(), &free2talkv1.LogoutRequest{})
			hangUp()
			return err
		}, "", counters{"online": -1, "sessions": -1}},
	} {
		before := w.stats(t, n, service, nil)
		if err := step.do(); client.Reason(err) != step.reason || step.reason == "" && err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		w.stats(t, n, service, func(now counters) bool { return maps.Equal(moved(before, now), step.want) }, step.name, fmt.Sprint(step.want))
	}
}

// stats is what GetStats says, once it agrees with /metrics and, where good is
// given, is good. Sessions are counted at most once a second.
func (w *world) stats(t *testing.T, n *testNode, service adminv1connect.AdminServiceClient, good func(counters) bool, what ...string) (now counters) {
	t.Helper()
	var last counters
	w.eventually(10*time.Second, fmt.Sprint("GetStats and /metrics agree: ", what), func() bool {
		reply, err := service.GetStats(t.Context(), &adminv1.GetStatsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		last, now = now, statCounters(reply)
		agree := len(moved(now, w.told(n))) == 0
		if !agree {
			t.Logf("GetStats and /metrics differ in %v", moved(now, w.told(n)))
		}
		if good == nil {
			return agree && maps.Equal(now, last) // nothing is still on its way
		}
		return agree && good(now)
	})
	return now
}
