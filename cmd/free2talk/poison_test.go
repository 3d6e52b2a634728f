package main

import (
	"context"
	"net/http"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
)

// poison is all that Redis held at a moment, to be planted again later: values
// that are well formed, and no longer true.
type poison map[string]string

// poisonOf copies every value; what is no string (logs of limits, sets of
// connections) is nothing that a reader decodes.
func poisonOf(ctx context.Context, t *testing.T, ask *redis.Client) poison {
	t.Helper()
	keys, err := ask.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	all := poison{}
	for _, key := range keys {
		if dump, err := ask.Dump(ctx, key).Result(); err == nil {
			all[key] = dump
		}
	}
	return all
}

func (p poison) plant(ctx context.Context, t *testing.T, ask *redis.Client) {
	t.Helper()
	for key, dump := range p {
		if err := ask.RestoreReplace(ctx, key, 0, dump).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestC2_nothing_that_guards_is_decided_from_a_cache: Redis says, in its own
// words, what was true before: that there was a seat, that somebody owned the
// room, was not banned, was signed in. Nobody gains by it.
func TestC2_nothing_that_guards_is_decided_from_a_cache(t *testing.T) {
	server := testenv.StartRedis(t)
	w := newWorld(t, onOwnRedis(server), 2)
	w.redisUsed()
	ask, rounds := askOf(t, server), testenv.Effort(10, 500)
	for range rounds {
		w.poisoned(t, ask)
		if t.Failed() {
			break
		}
	}
	testenv.Record(t, testenv.Figure{Row: "C2", What: "decided from a poisoned cache", Of: int64(rounds), Each: "rounds of five decisions"})
}

func (w *world) poisoned(t *testing.T, ask *redis.Client) {
	ctx := t.Context()
	host, heir, late, banned, gone := w.player(), w.player(), w.player(), w.player(), w.player()
	room := w.room(host.person, 3).GetId()
	said := func(what, want string, err error) {
		t.Helper()
		if client.Reason(err) != want {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	said("join", "", banned.join(ctx, 0, room))
	for i := range w.nodes {
		for _, p := range []*player{host, heir, late, banned} {
			if _, err := p.rooms(i).GetRoom(ctx, roomByID(room)); err != nil {
				t.Fatal(err)
			}
			if _, err := p.at[i].Users.GetUser(ctx, userByID(p.id())); err != nil {
				t.Fatal(err)
			}
		}
		if a := w.me(w.nodes[i], gone.grant.AccessToken); a.status != http.StatusOK {
			t.Fatal(a.body)
		}
	}
	before := poisonOf(ctx, t, ask)
	_, err := host.rooms(0).KickUser(ctx, &free2talkv1.KickUserRequest{RoomId: room, UserId: banned.id()})
	said("kick", "", err)
	said("join", "", heir.join(ctx, 1, room))
	said("join", "", w.player().join(ctx, 1, room))
	_, err = host.rooms(0).TransferOwnership(ctx, &free2talkv1.TransferOwnershipRequest{RoomId: room, UserId: heir.id()})
	said("transfer", "", err)
	w.logout(gone.ID, gone.grant.SessionID)
	for i := range w.nodes {
		before.plant(ctx, t, ask)
		said("a seat that is taken", client.ReasonRoomFull, late.join(ctx, i, room))
		before.plant(ctx, t, ask)
		if reason := client.Reason(banned.join(ctx, i, room)); !slices.Contains([]string{client.ReasonKicked, client.ReasonRoomFull}, reason) {
			t.Errorf("somebody who is kept out: %q", reason)
		}
		before.plant(ctx, t, ask)
		_, err = host.rooms(i).KickUser(ctx, &free2talkv1.KickUserRequest{RoomId: room, UserId: heir.id()})
		said("who owned it", client.ReasonNotOwner, err)
		before.plant(ctx, t, ask)
		w.renew(w.at(i), gone.grant.RefreshToken).refusedAs(t, "a session that ended", "unauthenticated", client.ReasonSessionRevoked)
	}
	before.plant(ctx, t, ask)
	said("the heir closes it", "", heir.close(ctx, 1, room))
}
