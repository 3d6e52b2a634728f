package db_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/server/talk"
)

// An hour is written down whole, again without adding up, and forgotten.
func TestAnalyticsHours(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		store := open(t, db.Config{URL: dsn})
		noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		hour := func(start time.Time, joins int, together time.Duration) talk.Usage {
			use := talk.Use{Joins: joins, Together: together}
			return talk.Usage{
				Start: start, Use: use, PeakOnline: 9, ActiveUsers: 4, RoomsCreated: 2,
				Rooms:     []talk.RoomUse{{ID: "tea", Use: use}, {ID: "rum", Use: talk.Use{Joins: 1}}},
				Languages: []talk.LanguageUse{{Language: "es", Use: use}},
			}
		}
		write := func(u talk.Usage, active int) {
			t.Helper()
			if err := store.WriteHour(t.Context(), u, active); err != nil {
				t.Fatal(err)
			}
		}
		late := noon.Add(11 * time.Hour)
		write(hour(late, 5, time.Minute), 6)
		write(hour(noon, 3, time.Hour), 4)
		less := hour(noon, 1, 2*time.Hour)
		less.Partial = true
		write(less, 2)
		write(talk.Usage{Start: noon.Add(24 * time.Hour)}, 0)

		hours, err := store.HoursBetween(t.Context(), noon, noon.Add(12*time.Hour))
		want := []talk.Usage{
			{Start: noon, PeakOnline: 9, ActiveUsers: 4, RoomsCreated: 2, Partial: true, Use: talk.Use{Joins: 3, Together: 2 * time.Hour}},
			{Start: late, PeakOnline: 9, ActiveUsers: 4, RoomsCreated: 2, Use: talk.Use{Joins: 5, Together: time.Minute}},
		}
		same(t, "hours", hours, want, err)
		days, err := store.ActiveByDay(t.Context(), noon.Truncate(24*time.Hour), noon.Add(48*time.Hour))
		same(t, "days", days, map[time.Time]int{noon.Truncate(24 * time.Hour): 6, noon.Truncate(24 * time.Hour).Add(24 * time.Hour): 0}, err)
		rooms, err := store.TopRooms(t.Context(), noon, noon.Add(24*time.Hour), 1)
		same(t, "rooms", rooms, []talk.RoomUse{{ID: "tea", Use: talk.Use{Joins: 8, Together: 2*time.Hour + time.Minute}}}, err)
		languages, err := store.TopLanguages(t.Context(), late, noon.Add(24*time.Hour), 5)
		same(t, "languages", languages, []talk.LanguageUse{{Language: "es", Use: talk.Use{Joins: 5, Together: time.Minute}}}, err)

		if err := store.ForgetHours(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		hours, e1 := store.HoursBetween(t.Context(), noon.Add(-time.Hour), late.Add(time.Hour))
		rooms, e2 := store.TopRooms(t.Context(), noon, noon.Add(24*time.Hour), 1)
		same(t, "left", fmt.Sprint(len(hours), rooms[0].Joins), "1 5", errors.Join(e1, e2))
	})
}

func same(t *testing.T, what string, got, want any, err error) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); err != nil || g != w {
		t.Errorf("%s: got %s, %v; want %s", what, g, err, w)
	}
}
