package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
	"github.com/free2talk/free2talk/server/talk/talktest"
)

// TestDefect is what goes wrong in the system that this one replaces, and does
// not here: each by its number in the table that the project began with.
func TestDefect(t *testing.T) {
	t.Parallel()
	for _, defect := range []struct {
		name string
		gone func(t *testing.T)
	}{
		{"01_a_reader_puts_back_what_it_loaded_before_a_write", defect01}, // at length: TestAReaderWhoLoadedBeforeAWriteNeverPutsItBack
		{"02_two_users_take_the_last_seat", defect02},                     // at length: TestR1_R2_of_sixty_four_who_join_a_room_of_twelve_twelve_are_seated
		{"03_one_room_a_user_and_one_an_owner_can_be_raced", defect03},    // at length: TestR4_who_joins_ten_rooms_at_once_sits_in_one
		{"04_an_owner_leaves_in_separate_statements", defect04},           // at length: TestR3_checklist49_a_room_that_changes_hands_has_one_owner_or_is_closed
		{"05_the_language_is_filtered_after_the_page_was_cut", defect05},
		{"06_the_limit_on_failures_counts_nothing", defect06}, // at length: TestL3_checklist12_of_a_hundred_wrong_passwords_at_once_five_are_tried
		{"07_each_process_counts_for_itself", defect07},       // at length: TestL1_exactly_the_limit_is_admitted_in_every_window
		{"08_a_write_walks_all_keys", defect08},
		{"09_a_dead_server_leaves_ghosts", defect09}, // at length: TestP1_a_killed_nodes_people_are_offline_within_20s
		{"10_one_refresh_token_a_user", defect10},    // at length: TestS2_checklist29_two_hundred_refreshes_of_one_token_are_one_rotation
		{"11_a_write_while_redis_is_down_invalidates_nothing", defect11},
		{"12_every_request_waits_for_a_redis_that_is_down", defect12},
		{"13_one_of_two_tabs_closes", defect13},
		{"14_events_go_to_one_process", defect14}, // at length: TestE2_E4_nothing_is_lost_while_nodes_die_and_buses_break
		{"15_what_is_not_there_is_never_cached", defect15},
		{"16_the_client_stops_reconnecting", defect16},
	} {
		t.Run(defect.name, defect.gone)
	}
}

func defect01(t *testing.T) {
	gate := &turnstile{}
	w := newWorld(t, onPostgres, 2, func(s *Settings) { s.watch = gate })
	w.redisUsed()
	for _, s := range w.staleFills() {
		w.fillLate(t, gate, s, true)
	}
}

func defect02(t *testing.T) {
	w := newWorld(t, onPostgres, 2)
	host, crowd := w.player(), w.players(30)
	w.watched(func() {
		for i := range 5 {
			w.raceForSeats(i, host, crowd, 2)
		}
	})
}

func defect03(t *testing.T) {
	w := newWorld(t, onPostgres, 2)
	who, hosts := w.player(), w.players(5)
	rooms := make([]string, len(hosts))
	for i, host := range hosts {
		rooms[i] = w.room(host.person, 4).GetId()
	}
	w.watched(func() {
		for range 5 {
			w.raceOfRooms(patient(t), who, rooms)
			w.raceToOpen(patient(t), who)
		}
	})
}

// defect04 ends an owner's leaving half way: what it wrote waits for the lock
// of a table that it has yet to write to, and then its connection is gone.
func defect04(t *testing.T) {
	w := newWorld(t, onPostgres, 2)
	ctx, people := patient(t), w.players(4)
	room := w.room(people[0].person, 4).GetId()
	if err := people[1].join(ctx, 1, room); err != nil {
		t.Fatal(err)
	}
	left, end := make(chan error, 1), w.lockOf("events")
	go func() { left <- people[0].leave(ctx, 0, room) }()
	w.eventually(10*time.Second, "leaving waits for the lock", func() bool { return w.number(waiting) > 0 })
	w.sound()
	w.number("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
	end()
	if err := <-left; err != nil && connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("leaving, cut off: %v", err)
	}
	w.sound()
	if err := people[0].leave(ctx, 1, room); err != nil { // the same call again is as if once
		t.Fatal(err)
	}
	seen, err := people[2].rooms(0).GetRoom(ctx, roomByID(room))
	if err != nil || seen.GetRoom().GetOwner().GetId() != people[1].id() || len(seen.GetParticipants()) != 1 {
		t.Errorf("the heir's room: %v, %v", seen, err)
	}
	w.ownedByOne(seen)
	if err := people[1].close(ctx, 0, room); err != nil {
		t.Fatal(err)
	}
	w.watched(func() {
		for round := range 2 * len(collisions) {
			w.changeHands(round, &cast{people[round%4], people[(round+1)%4], people[(round+2)%4], people[(round+3)%4]})
		}
	})
}

// waiting counts the connections that wait for a lock.
const waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

// lockOf keeps everybody from writing to a table until it is ended.
func (w *world) lockOf(table string) (end func()) {
	w.Helper()
	tx, err := w.nodes[0].store.DB().BeginTx(w.Context(), nil)
	if err == nil {
		_, err = tx.ExecContext(w.Context(), "LOCK TABLE "+table+" IN EXCLUSIVE MODE")
	}
	if err != nil {
		w.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(); err != nil {
			w.Errorf("end of the lock: %v", err)
		}
	}
}

func defect05(t *testing.T) {
	w := newWorld(t, onPostgres, 2)
	ctx, anybody := patient(t), w.client(w.nodes[0])
	want := map[string][]string{}
	for i := range 50 { // every other one is in Spanish
		language := []string{"es-MX", "fr"}[i%2]
		owner := w.person()
		reply, err := owner.Rooms.CreateRoom(ctx, &free2talkv1.CreateRoomRequest{Name: "A room", Languages: []string{language}})
		if err != nil {
			t.Fatal(err)
		}
		want[language[:2]] = append(want[language[:2]], reply.GetRoom().GetId())
	}
	w.eventually(10*time.Second, "the other node's rooms are listed", func() bool {
		page, err := anybody.Rooms.ListRooms(ctx, &free2talkv1.ListRoomsRequest{})
		return err == nil && page.GetTotalSize() == 50
	})
	for _, order := range []free2talkv1.OrderBy{free2talkv1.OrderBy_ORDER_BY_POPULAR, free2talkv1.OrderBy_ORDER_BY_NEWEST} {
		for language, ids := range want {
			request := &free2talkv1.ListRoomsRequest{Language: language, OrderBy: order, PageSize: 10}
			var got []string
			for _, size := range []int{10, 10, 5} {
				page, err := anybody.Rooms.ListRooms(ctx, request)
				if err != nil || len(page.GetRooms()) != size || page.GetTotalSize() != 25 || (page.GetNextPageToken() == "") != (size == 5) {
					t.Fatalf("%s: %d of %d rooms, %v", language, len(page.GetRooms()), page.GetTotalSize(), err)
				}
				for _, room := range page.GetRooms() {
					got = append(got, room.GetId())
				}
				request.PageToken = page.GetNextPageToken()
			}
			slices.Sort(got)
			slices.Sort(ids)
			if !slices.Equal(got, ids) {
				t.Errorf("%s: %v, want %v", language, got, ids)
			}
		}
	}
}

func defect06(t *testing.T) {
	w := newWorld(t, onPostgres, 2, behindProxy, withLimits(t, "api=off"))
	w.registered(w.nodes[0], "ada")
	w.judged(func(c *claims, from string) {
		var busy atomic.Int64 // a slow machine may ask some to come back
		answers := together(8, func(i int) spoken { return w.loginUntilHeard(i, "ada", from, &busy) })
		c.came("right ones", answers, map[string]int{"": 8})
		w.guess(t, c, from)
	})
}

func defect07(t *testing.T) {
	w := newWorld(t, onPostgres, 2, behindProxy, withLimits(t, "api=4/1m"))
	w.judged(func(c *claims, from string) {
		for i := range 10 {
			want := client.ReasonRateLimited
			if i < 4 {
				want = client.ReasonRoomNotFound
			}
			c.came(fmt.Sprintf("call %d", i), []spoken{w.ask(w.at(i), from)}, map[string]int{want: 1})
		}
	})
}

// walks are the commands whose cost grows with the number of keys, or with
// what anybody may have put into one.
var walks = []string{
	"keys", "scan", "hscan", "sscan", "zscan", "smembers", "hgetall", "hkeys", "hvals", "lrange", "sort",
	"sinter", "sunion", "sdiff", "flushall", "flushdb", "dbsize", "randomkey",
}

// defect08 tells the whole story of the product, and asks Redis what it heard.
func defect08(t *testing.T) {
	server := testenv.StartRedis(t)
	w := newWorld(t, onOwnRedis(server), 2, withLimits(t, "api=100000/1h,auth=1000/1h,strict=1000/1h,room_create=1000/1h"),
		func(s *Settings) { s.tallyEvery = time.Hour }) // what is asked beside the requests is not their walk
	w.redisUsed()
	redis := askOf(t, server)
	if err := redis.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	tell(t, w, protocols[0], func(int) {})
	stats, err := redis.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(stats) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if slices.Contains(walks, name) {
			t.Errorf("requests walk: %s", line)
		}
	}
	if n := commands(t, redis); n < 100 {
		t.Errorf("Redis heard %d commands, too few to prove anything", n)
	}
}

// defect10 has two devices, one of them with two tabs, and later a thief.
func defect10(t *testing.T) {
	clock := talktest.NewClock()
	w := newWorld(t, onPostgres, 2, withClock(clock.Now))
	ctx := patient(t)
	_, laptop := w.registered(w.nodes[0], "ada")
	reply, err := w.client(w.nodes[1]).Auth.Login(ctx, &free2talkv1.LoginRequest{
		Login: &free2talkv1.LoginRequest_Username{Username: "ada"}, Password: password,
	})
	if err != nil {
		t.Fatal(err)
	}
	stolen, phone := reply.GetTokens().GetRefreshToken(), reply.GetTokens().GetSessionId()
	var tabs [2]*free2talkv1.Tokens
	errs := together(2, func(i int) (err error) { tabs[i], err = w.refresh(ctx, w.at(i), stolen); return err })
	w.counted(errs, map[string]int{"": 2})
	if !proto.Equal(tabs[0], tabs[1]) {
		t.Errorf("two tabs have two sessions")
	}
	if reason := w.alive(ctx, w.nodes[0], tabs[0].GetAccessToken()); reason != "" {
		t.Errorf("the tabs are out: %s", reason)
	}
	w.eventually(10*time.Second, "the new token is known to be in use", func() bool {
		return w.number("SELECT confirmed_generation FROM sessions WHERE id = ?", phone) == 2
	})
	clock.Add(talk.RefreshGrace)
	_, err = w.refresh(ctx, w.nodes[1], stolen)
	if client.Reason(err) != client.ReasonRefreshReused {
		t.Errorf("the stolen token: %v", err)
	}
	w.onlyLaptopLives(ctx, laptop, tabs[0])
}

func (w *world) onlyLaptopLives(ctx context.Context, laptop *client.Client, phone *free2talkv1.Tokens) {
	w.Helper()
	held, err := laptop.Tokens(ctx)
	if err != nil {
		w.Fatal(err)
	}
	for _, n := range w.nodes {
		if _, err := w.refresh(ctx, n, phone.GetRefreshToken()); client.Reason(err) != client.ReasonSessionRevoked {
			w.Errorf("the phone's refresh token: %v", err)
		}
		w.eventually(2*time.Second, "the phone is out", func() bool {
			return w.alive(ctx, n, phone.GetAccessToken()) == client.ReasonSessionRevoked
		})
		if reason := w.alive(ctx, n, held.Access); reason != "" {
			w.Errorf("the laptop is out: %s", reason)
		}
	}
	if _, err := w.refresh(ctx, w.nodes[1], held.Refresh); err != nil {
		w.Errorf("the laptop's refresh: %v", err)
	}
}
