package live_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

var (
	languages = []string{"es", "es-mx", "en", "fr-ca"}
	asked     = []string{"", "es", "es-mx", "en", "fr", "e"}
	opened    = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// model is the open rooms, and what a list of them is, plainly.
type model map[talk.RoomID]talk.Room

func (m model) list(q talk.RoomQuery) (page talk.RoomPage) {
	var found []talk.Room
	for _, r := range m {
		if finds(r, q) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b talk.Room) int {
		if q.Order == talk.Popular && a.ParticipantCount != b.ParticipantCount {
			return b.ParticipantCount - a.ParticipantCount
		}
		return strings.Compare(string(b.ID), string(a.ID))
	})
	page.Total = len(found)
	if q.After != nil {
		found = slices.DeleteFunc(found, func(r talk.Room) bool {
			if q.Order == talk.Popular && r.ParticipantCount != q.After.Count {
				return r.ParticipantCount > q.After.Count
			}
			return r.ID >= q.After.ID
		})
	}
	if len(found) > q.Size {
		found = found[:q.Size]
		page.Next = &talk.RoomMark{Count: found[q.Size-1].ParticipantCount, ID: found[q.Size-1].ID}
	}
	page.Rooms = found
	return page
}

func finds(r talk.Room, q talk.RoomQuery) bool {
	speaks := q.Language == "" || slices.ContainsFunc(r.Languages, func(tag string) bool {
		return tag == q.Language || strings.HasPrefix(tag, q.Language+"-")
	})
	fits := q.Level == 0 || r.Level == q.Level || r.Level == talk.LevelAny
	return speaks && fits && strings.Contains(strings.ToLower(r.Name+"\n"+r.Topic), strings.ToLower(q.Text))
}

func (m model) step(i int) talk.Room {
	for _, r := range m {
		if rand.IntN(3) == 0 { // one that is there changes, or closes
			r.Version++
			r.ParticipantCount = rand.IntN(12)
			r.Languages = []string{languages[rand.IntN(len(languages))]}
			r.Level = talk.Level(1 + rand.IntN(7))
			if rand.IntN(4) == 0 {
				r.ClosedAt, r.CloseReason = opened, talk.ClosedByOwner
				delete(m, r.ID)
			} else {
				m[r.ID] = r
			}
			return r
		}
		break
	}
	r := talk.Room{
		ID: talk.RoomID(fmt.Sprintf("%08d", i)), Name: "Room " + string(rune('A'+rand.IntN(26))), Topic: "Talk",
		Languages: []string{languages[rand.IntN(len(languages))], "en"}, Level: talk.Level(1 + rand.IntN(7)),
		ParticipantCount: rand.IntN(12), Version: 1, CreatedAt: opened,
	}
	m[r.ID] = r
	return r
}

func query() talk.RoomQuery {
	q := talk.RoomQuery{
		Language: asked[rand.IntN(len(asked))], Level: talk.Level(rand.IntN(8)),
		Order: talk.Order(1 + rand.IntN(2)), Size: 1 + rand.IntN(20),
	}
	if rand.IntN(3) == 0 {
		q.Text = "room " + string(rune('a'+rand.IntN(26)))
	}
	return q
}

// The lobby lists what a plain model lists, page after page, whatever happens
// to rooms and however often it is told.
func TestLobbyListsAsAModelDoes(t *testing.T) {
	t.Parallel()
	lobby, m := live.NewLobby(), model{}
	var before []talk.Room
	for i := range 3000 {
		r := m.step(i)
		before = append(before, r)
		lobby.Apply([]talk.Room{r, before[rand.IntN(len(before))]}, nil) // and something old once more
		if i%10 > 0 {
			continue
		}
		q := query()
		for pages := 0; ; pages++ {
			got, want := lobby.List(q), m.list(q)
			got.Memos = nil // the model has none
			if !reflect.DeepEqual(got, want) && len(got.Rooms)+len(want.Rooms) > 0 {
				t.Fatalf("%+v:\n%+v, want\n%+v", q, got, want)
			}
			if q.After = got.Next; q.After == nil {
				break
			}
		}
	}
	if lobby.Size() != len(m) {
		t.Errorf("%d rooms, want %d", lobby.Size(), len(m))
	}
}

// Whoever watches, and applies what they hear to what they began with, has the
// rooms that a list finds.
func TestWatchingGivesTheList(t *testing.T) {
	t.Parallel()
	lobby, m := live.NewLobby(), model{}
	i := 0
	for ; i < 100; i++ {
		lobby.Apply([]talk.Room{m.step(i)}, nil)
	}
	for _, filter := range []live.Filter{{}, {Language: "es"}, {Level: talk.LevelBeginner}, {Language: "en", Level: talk.LevelAny}} {
		rooms, _, watch := lobby.Watch(filter)
		seen := model{}
		for _, r := range rooms {
			seen[r.ID] = r
		}
		for range 50 {
			for range 5 {
				i++
				lobby.Apply([]talk.Room{m.step(i)}, &talk.Mark{ID: int64(i)})
			}
			changes, mark, kept := watch.Take()
			if !kept || mark.ID != int64(i) {
				t.Fatalf("kept %v, up to %v of %d", kept, mark, i)
			}
			for _, c := range changes {
				delete(seen, c.Room.ID)
				if c.Kind != live.Closed && filter.Finds(c.Room) {
					seen[c.Room.ID] = c.Room
				}
			}
		}
		watch.Close()
		want := m.list(talk.RoomQuery{Language: filter.Language, Level: filter.Level, Order: talk.Newest, Size: 10_000})
		got := seen.list(talk.RoomQuery{Order: talk.Newest, Size: 10_000})
		if !reflect.DeepEqual(got.Rooms, want.Rooms) {
			t.Errorf("%+v: %d rooms, want %d", filter, len(got.Rooms), len(want.Rooms))
		}
	}
}

// Rooms are state: who is behind is told once of each, what it is now, however
// many have changed at once; and nothing is missed by who goes on from the mark.
func TestWhatWaitsIsOneChangeOfEachRoom(t *testing.T) {
	t.Parallel()
	lobby := live.NewLobby()
	rooms := make([]talk.Room, 1000)
	for i := range rooms {
		rooms[i] = talk.Room{ID: talk.RoomID(fmt.Sprint(i)), Level: talk.LevelBeginner, Version: 1}
	}
	lobby.Apply(rooms[:300], &talk.Mark{ID: 1})
	_, _, watch := lobby.Watch(live.Filter{Level: talk.LevelBeginner})
	defer watch.Close()
	for version := range int64(10) {
		for i := range rooms {
			rooms[i].Version, rooms[i].ParticipantCount = version+2, int(version)
		}
		lobby.Apply(rooms, &talk.Mark{ID: version + 2})
	}
	rooms[0].Version, rooms[0].ClosedAt = 20, opened     // was there
	rooms[300].Version, rooms[300].ClosedAt = 20, opened // was not
	rooms[301].Version, rooms[301].Level = 20, talk.LevelAdvanced
	lobby.Apply(rooms, &talk.Mark{ID: 20})
	changes, mark, kept := watch.Take()
	if !kept || len(changes) != len(rooms) || mark.ID != 20 {
		t.Fatalf("kept %v, %d changes up to %v", kept, len(changes), mark)
	}
	kinds := map[talk.RoomID]live.ChangeKind{"0": live.Closed, "1": live.Updated, "299": live.Updated, "300": live.Closed, "301": live.Updated, "302": live.Created}
	for i, c := range changes {
		if !reflect.DeepEqual(c.Room, rooms[i]) {
			t.Fatalf("change %d is of %+v, want %+v", i, c.Room, rooms[i])
		}
		if want := kinds[c.Room.ID]; want != 0 && c.Kind != want {
			t.Errorf("room %s is told of by %v, want %v", c.Room.ID, c.Kind, want)
		}
	}
	rooms[5].Version = 21
	lobby.Apply(rooms[:10], &talk.Mark{ID: 21})
	if changes, mark, _ := watch.Take(); len(changes) != 1 || changes[0].Room.Version != 21 || mark.ID != 21 {
		t.Errorf("then %d changes, up to %v", len(changes), mark)
	}
	if mark, all := watch.Rest(); !all || mark.ID != 21 {
		t.Errorf("all is taken: %v, up to %v", all, mark)
	}
}

// Whatever waits is moot where the lobby begins anew.
func TestALobbyThatBeginsAnewIsAllThatWaits(t *testing.T) {
	t.Parallel()
	lobby := live.NewLobby()
	_, _, watch := lobby.Watch(live.Filter{})
	defer watch.Close()
	lobby.Apply([]talk.Room{{ID: "1", Version: 1}}, nil)
	lobby.Reset(nil, talk.Mark{ID: 5})
	lobby.Apply([]talk.Room{{ID: "1", Version: 2}}, &talk.Mark{ID: 6})
	if changes, _, kept := watch.Take(); !kept || len(changes) != 2 || changes[0].Kind != live.Healed {
		t.Errorf("%v, %v", kept, changes)
	}
}

// Who does not take what they watch is cut off; a lobby that begins anew says so.
func TestWatchesEnd(t *testing.T) {
	t.Parallel()
	lobby := live.NewLobby()
	_, _, slow := lobby.Watch(live.Filter{})
	defer slow.Close()
	for i := range 2000 {
		id := talk.RoomID(fmt.Sprint(i))
		lobby.Apply([]talk.Room{{ID: id, Version: 1}, {ID: id, Version: 2, ClosedAt: opened}}, nil)
	}
	if changes, _, kept := slow.Take(); kept || len(changes) > 0 {
		t.Errorf("kept %v, %d changes", kept, len(changes))
	}
	_, _, watch := lobby.Watch(live.Filter{})
	defer watch.Close()
	lobby.Reset(nil, talk.Mark{ID: 5})
	if changes, mark, _ := watch.Take(); len(changes) != 1 || changes[0].Kind != live.Healed || mark.ID != 5 {
		t.Errorf("%v, %v", changes, mark)
	}
}

// Lists, changes and watches at once, for the race detector.
func TestLobbyIsShared(t *testing.T) {
	t.Parallel()
	lobby := live.NewLobby()
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range 500 {
				id := talk.RoomID(fmt.Sprint(i % 50))
				lobby.Apply([]talk.Room{{ID: id, Version: int64(i*4 + worker + 1), Level: 1, ParticipantCount: i % 12}}, nil)
			}
		})
		all.Go(func() {
			for range 200 {
				page := lobby.List(query())
				if page.Total < len(page.Rooms) {
					t.Errorf("%d rooms of %d", len(page.Rooms), page.Total)
				}
				_, _, watch := lobby.Watch(live.Filter{})
				watch.Take()
				watch.Close()
			}
		})
	}
	all.Wait()
}

// BenchmarkLobbyList is G7's index: 20 rooms of so many, each filter in turn.
func BenchmarkLobbyList(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		lobby := live.NewLobby()
		rooms := make([]talk.Room, n)
		for i := range rooms {
			rooms[i] = talk.Room{
				ID: talk.RoomID(fmt.Sprintf("%08d", i)), Name: "Room", Languages: []string{languages[i%4]},
				Level: talk.Level(1 + i%7), ParticipantCount: i % 12, Version: 1,
			}
		}
		lobby.Reset(rooms, talk.Mark{})
		queries := []talk.RoomQuery{
			{Order: talk.Popular}, {Order: talk.Newest}, {Order: talk.Popular, Language: "es"}, {Order: talk.Newest, Level: talk.LevelBeginner},
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				q := queries[i%len(queries)]
				q.Size = 20
				if page := lobby.List(q); len(page.Rooms) != 20 {
					b.Fatal(page)
				}
			}
		})
	}
}
