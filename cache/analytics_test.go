package cache

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func batchOf(from, to string, hours map[time.Time]*talk.HourTally) talk.Tally {
	return talk.Tally{From: from, To: to, Hours: hours}
}

func some(users ...talk.UserID) *talk.HourTally {
	h := &talk.HourTally{
		Online: 7, RoomsCreated: 1, Users: map[talk.UserID]struct{}{},
		Rooms:     map[talk.RoomID]*talk.Use{"tea": {Joins: 2, Together: 90 * time.Second}, "rum": {Together: time.Second}},
		Languages: map[string]*talk.Use{"es": {Joins: 2, Together: 90 * time.Second}, "en-gb": {Together: time.Second}},
	}
	for _, user := range users {
		h.Users[user] = struct{}{}
	}
	return h
}

func TestTallies(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, where corner) {
		c := NewTallies(where.open(t))
		ctx := t.Context()
		add := func(want bool, tally talk.Tally) {
			t.Helper()
			added, err := c.Add(ctx, tally)
			check(t, err)
			equal(t, "added", added, want)
		}
		place, err := c.Place(ctx)
		check(t, err)
		equal(t, "place", place, "")
		add(true, batchOf("", "1:1", map[time.Time]*talk.HourTally{noon: {Partial: true}}))
		add(false, batchOf("", "1:2", map[time.Time]*talk.HourTally{noon: some("ada")})) // another node was first
		next := noon.Add(time.Hour)
		add(true, batchOf("1:1", "1:2", map[time.Time]*talk.HourTally{noon: some("ada", "bob"), next: some("ada", "cy")}))
		add(false, batchOf("1:1", "1:2", map[time.Time]*talk.HourTally{noon: some("dan")})) // said again
		low := some("bob")
		low.Online = 3
		add(true, batchOf("1:2", "1:3", map[time.Time]*talk.HourTally{noon: low}))
		place, err = c.Place(ctx)
		check(t, err)
		equal(t, "place", place, "1:3")

		hours, err := c.Hours(ctx)
		check(t, err)
		equal(t, "hours", fmt.Sprint(hours), fmt.Sprint([]time.Time{noon, next}))
		got, err := c.Hour(ctx, noon)
		check(t, err)
		slices.SortFunc(got.Languages, func(a, b talk.LanguageUse) int { return a.Joins - b.Joins })
		want := talk.Usage{
			Start: noon, PeakOnline: 7, ActiveUsers: 2, RoomsCreated: 2, Partial: true, Use: talk.Use{Joins: 4, Together: 182 * time.Second},
			Rooms:     []talk.RoomUse{{ID: "tea", Use: talk.Use{Joins: 4, Together: 3 * time.Minute}}, {ID: "rum", Use: talk.Use{Together: 2 * time.Second}}},
			Languages: []talk.LanguageUse{{Language: "en-gb", Use: talk.Use{Together: 2 * time.Second}}, {Language: "es", Use: talk.Use{Joins: 4, Together: 3 * time.Minute}}},
		}
		equal(t, "the hour", fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
		active, err := c.ActiveOn(ctx, next)
		check(t, err)
		equal(t, "on the day", active, 3)
		check(t, c.Drop(ctx, noon))
		got, err = c.Hour(ctx, noon)
		check(t, err)
		equal(t, "dropped", fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", talk.Usage{Start: noon}))
		hours, err = c.Hours(ctx)
		check(t, err)
		equal(t, "hours", len(hours), 1)
	})
}

// Of nodes that add the same at once one does.
func TestTalliesCountOnce(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, where corner) {
		nodes := []*Tallies{NewTallies(where.open(t)), NewTallies(where.open(t))}
		from := ""
		for round := range 20 {
			to := fmt.Sprintf("%d:0", round)
			var added atomic.Int64
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					ok, err := nodes[i%2].Add(t.Context(), batchOf(from, to, map[time.Time]*talk.HourTally{noon: some("ada")}))
					check(t, err)
					if ok {
						added.Add(1)
					}
				})
			}
			all.Wait()
			equal(t, "added", added.Load(), 1)
			from = to
		}
		got, err := nodes[0].Hour(t.Context(), noon)
		check(t, err)
		equal(t, "rooms", got.RoomsCreated, 20)
	})
}
