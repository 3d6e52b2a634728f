package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/free2talk/free2talk/cache"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server"
	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

// heapInUse is what is reachable now, in bytes.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what had a finalizer
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// endless has every room and every person that it is asked for.
type endless struct{}

func (endless) Room(_ context.Context, id talk.RoomID) (talk.RoomView, error) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	view := talk.RoomView{Room: talk.Room{
		ID: id, Slug: "a-room-to-talk-in-" + string(id[:8]), Name: "A room to talk in " + string(id[:8]), Topic: "What one would do with a year off",
		Languages: []string{"es-mx", "en"}, Level: talk.LevelBeginner, Capacity: 12, ParticipantCount: 4, Version: 4, CreatedAt: at, UpdatedAt: at,
	}}
	for i := range 4 {
		view.Participants = append(view.Participants, talk.Participant{
			User: summaryNamed(fmt.Sprintf("%s-%d", id[:18], i)), State: talk.Connected, StateSince: at, JoinedAt: at,
		})
	}
	view.Owner = view.Participants[0].User
	return view, nil
}

func summaryNamed(name string) talk.UserSummary {
	return talk.UserSummary{ID: talk.UserID(talk.NewID()), Username: strings.Clone(name), DisplayName: "Person " + name}
}

func (endless) RoomID(context.Context, string) (talk.RoomID, error) { return "", talk.ErrRoomNotFound }

func (endless) UserID(context.Context, string) (talk.UserID, error) { return "", talk.ErrUserNotFound }

func (endless) Users(_ context.Context, ids []talk.UserID) ([]talk.UserView, error) {
	views := make([]talk.UserView, 0, len(ids))
	for _, id := range ids {
		views = append(views, talk.UserView{User: talk.User{
			ID: id, Username: "person-" + string(id[:8]), Role: talk.RoleUser,
			Profile: talk.Profile{
				DisplayName: "Person " + string(id[:8]), Bio: strings.Repeat("I like tea. ", 8), Country: "MX",
				NativeLanguages: []string{"es-mx"}, LearningLanguages: []string{"en", "fr"},
			},
		}})
	}
	return views, nil
}

// spellAll puts into a view's memo what a server would, in both codecs.
func spellAll(view talk.RoomView) error {
	payload, err := server.RoomCodec.Encode(view)
	if err != nil {
		return err
	}
	message := &free2talkv1.GetRoomResponse{Room: &free2talkv1.Room{Id: string(view.ID), Slug: view.Slug, Name: view.Name, Topic: view.Topic}}
	for _, p := range view.Participants {
		message.Participants = append(message.Participants, &free2talkv1.Participant{
			User:  &free2talkv1.UserSummary{Id: string(p.User.ID), Username: p.User.Username, DisplayName: p.User.DisplayName},
			State: free2talkv1.ParticipantState_PARTICIPANT_STATE_CONNECTED, Role: free2talkv1.ParticipantRole_PARTICIPANT_ROLE_MEMBER,
		})
	}
	text, err := protojson.Marshal(message)
	view.Memo.Keep(0, payload)
	view.Memo.Keep(1, text)
	return err
}

// Resolution 7 of "Fast": however many rooms and profiles are read, and spelled
// in every way, what is kept near stays within its bound and a tenth.
func TestNearStaysWithinItsBound(t *testing.T) { //nolint:paralleltest // it measures the whole process
	url, prefix := testenv.Redis(t)
	redis, err := cache.Open(cache.Config{URL: url, Prefix: prefix, Near: cache.DefaultNear, Timeout: 5 * time.Second, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- redis.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if err := redis.Close(); err != nil {
			t.Error(err)
		}
	}()
	w := &world{TB: t}
	w.eventually(10*time.Second, "redis is used", func() bool { return redis.Usable() && redis.Hears() })
	reader := cache.NewReader(redis, endless{}, cache.Codecs{Room: server.RoomCodec, User: server.UserCodec})
	before := heapInUse()
	readMany(ctx, t, reader, testenv.Effort(50_000, 1_000_000))
	grown := heapInUse() - before
	entries, bytes := redis.Near()
	most := int64(cache.DefaultNear) * 11 / 10
	t.Logf("%d entries, %d MiB by the estimate, %.1f MiB in fact", entries, bytes>>20, float64(grown)/(1<<20))
	testenv.Record(t, testenv.Figure{Row: "near-memory", What: "bytes over the bound and a tenth", Bad: max(0, grown-most), Of: grown, Each: fmt.Sprintf("bytes that %d entries take", entries)})
	if grown > most || entries < 10_000 {
		t.Errorf("%d entries take %d bytes, of at most %d", entries, grown, most)
	}
	runtime.KeepAlive(reader)
}

// readMany reads so many rooms and so many profiles, once each.
func readMany(ctx context.Context, t *testing.T, reader *cache.Reader, n int) {
	t.Helper()
	var all errgroup.Group
	all.SetLimit(16)
	const piece = 50
	for range n / piece {
		all.Go(func() error {
			people := make([]talk.UserID, piece)
			for i := range people {
				people[i] = talk.UserID(talk.NewID())
				view, err := reader.Room(ctx, talk.RoomID(talk.NewID()))
				if err == nil {
					err = spellAll(view)
				}
				if err != nil {
					return err
				}
			}
			_, err := reader.Users(ctx, people)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
}

// The lobby of a hundred thousand rooms takes less than a hundred megabytes.
func TestLobbyOfManyRooms(t *testing.T) { //nolint:paralleltest // it measures the whole process
	const many = 100_000
	before := heapInUse()
	rooms := make([]talk.Room, many)
	for i := range rooms {
		view, err := endless{}.Room(t.Context(), talk.RoomID(talk.NewID()))
		if err != nil {
			t.Fatal(err)
		}
		rooms[i] = view.Room
	}
	lobby := live.NewLobby()
	lobby.Reset(rooms, talk.Mark{})
	grown := heapInUse() - before
	t.Logf("%d rooms take %.1f MB", lobby.Size(), float64(grown)/1e6)
	testenv.Record(t, testenv.Figure{Row: "lobby-memory", What: "bytes over 100 MB", Bad: max(0, grown-100e6), Of: grown, Each: fmt.Sprintf("bytes that %d rooms take", many)})
	if grown > 100e6 || lobby.Size() != many {
		t.Errorf("%d rooms take %d bytes", lobby.Size(), grown)
	}
	runtime.KeepAlive(lobby)
}

// BenchmarkLobbyList is a page of a lobby of a hundred thousand rooms.
func BenchmarkLobbyList(b *testing.B) {
	rooms := make([]talk.Room, 100_000)
	for i := range rooms {
		view, err := endless{}.Room(b.Context(), talk.RoomID(talk.NewID()))
		if err != nil {
			b.Fatal(err)
		}
		rooms[i] = view.Room
		rooms[i].ParticipantCount = 1 + i%12
	}
	lobby := live.NewLobby()
	lobby.Reset(rooms, talk.Mark{})
	for name, q := range map[string]talk.RoomQuery{
		"popular": {Order: talk.Popular, Size: 20}, "newest": {Order: talk.Newest, Size: 20},
		"by language and level": {Order: talk.Popular, Size: 20, Language: "es", Level: talk.LevelBeginner},
		"a hundred":             {Order: talk.Popular, Size: 100},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if page := lobby.List(q); len(page.Rooms) != q.Size || page.Total != len(rooms) {
					b.Fatalf("%d of %d", len(page.Rooms), page.Total)
				}
			}
		})
	}
}
