package talk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	reportMost  = 10_000 // points
	reportHours = 200    // up to so many points are hours, where nothing is asked for
	reportTop   = 20     // rooms, languages
	aDay        = 24 * time.Hour
)

// What a report can be asked for: times that every database and codec can spell.
var (
	reportFirst = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
	reportLast  = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
)

// ReportQuery asks how the service was used.
type ReportQuery struct {
	From, To time.Time     // zero: a week before To; zero: now
	Interval time.Duration // an hour or a day; zero: an hour where that makes no more than 200 points
}

// Report is how the service was used.
type Report struct {
	Points    []Usage // in order, without a gap
	Rooms     []RoomUse
	Languages []LanguageUse
	Interval  time.Duration
}

// Report tells how the service was used; [InvalidInput] where that were more
// than 10,000 points. Where the tallies cannot be asked, the hours that are not
// written down yet are partial.
func (a *Analytics) Report(ctx context.Context, q ReportQuery) (Report, error) {
	now := a.Clock()
	q, err := q.complete(now)
	if err != nil {
		return Report{}, err
	}
	written, err := a.Chronicle.HoursBetween(ctx, q.From, q.To)
	if err != nil {
		return Report{}, err
	}
	r := &reporting{Analytics: a, q: q, hours: map[time.Time]Usage{}}
	for _, hour := range written {
		r.hours[hour.Start] = hour
	}
	r.open(ctx, now)
	report := Report{Interval: q.Interval, Points: r.points()}
	if q.Interval == aDay {
		err = r.active(ctx, report.Points)
	}
	if err == nil {
		report.Rooms, report.Languages, err = r.tops(ctx)
	}
	return report, err
}

// complete fills in what is not said, and makes whole intervals of it.
func (q ReportQuery) complete(now time.Time) (ReportQuery, error) {
	if q.To.IsZero() {
		q.To = now
	}
	if q.From.IsZero() {
		q.From = q.To.Add(-7 * aDay)
	}
	for _, of := range []struct {
		field string
		at    time.Time
	}{{"from", q.From}, {"to", q.To}} {
		if of.at.Before(reportFirst) || !of.at.Before(reportLast) {
			return q, &InvalidInput{Field: of.field, Sentence: "must be in the years 1900 to 9998"}
		}
	}
	if !q.From.Before(q.To) {
		return q, &InvalidInput{Field: "from", Sentence: "must be before to"}
	}
	if earliest := now.Add(-AnalyticsKept - aDay); q.From.Before(earliest) && q.To.After(earliest) {
		q.From = earliest // there is nothing before
	}
	if q.Interval == 0 {
		q.Interval = time.Hour
		if q.To.Sub(q.From) > reportHours*time.Hour {
			q.Interval = aDay
		}
	}
	q.From = q.From.UTC().Truncate(q.Interval)
	if end := q.To.UTC().Truncate(q.Interval); end.Before(q.To) {
		q.To = end.Add(q.Interval)
	}
	if n := q.To.Sub(q.From) / q.Interval; n > reportMost {
		return q, &InvalidInput{Field: "interval", Sentence: fmt.Sprintf("makes %d points of that time, which are more than %d", n, reportMost)}
	}
	return q, nil
}

// reporting is one report in the making.
type reporting struct {
	*Analytics

	q         ReportQuery
	hours     map[time.Time]Usage
	rooms     []RoomUse // of hours that are not written down
	languages []LanguageUse
	days      map[time.Time]int // active on the days of such hours
}

// open adds what is not written down yet.
func (r *reporting) open(ctx context.Context, now time.Time) {
	r.days = map[time.Time]int{}
	hours, err := r.Tallies.Hours(ctx)
	for _, start := range hours {
		if start.Before(r.q.From) || !start.Before(r.q.To) {
			continue
		}
		hour, e1 := r.Tallies.Hour(ctx, start)
		active, e2 := r.Tallies.ActiveOn(ctx, start)
		if err = errors.Join(err, e1, e2); err != nil {
			break
		}
		hour.over(r.hours[start])
		r.hours[start] = hour
		r.rooms, r.languages = append(r.rooms, hour.Rooms...), append(r.languages, hour.Languages...)
		r.days[start.Truncate(aDay)] = active
	}
	current := now.UTC().Truncate(time.Hour)
	if err != nil && !current.Before(r.q.From) && current.Before(r.q.To) {
		hour := r.hours[current]
		hour.Start, hour.Partial = current, true
		r.hours[current] = hour
	}
}

// over is an hour of which a part may be written down already: what is higher
// counts, as where it is written down again.
func (u *Usage) over(written Usage) {
	u.PeakOnline = max(u.PeakOnline, written.PeakOnline)
	u.ActiveUsers = max(u.ActiveUsers, written.ActiveUsers)
	u.Joins = max(u.Joins, written.Joins)
	u.Together = max(u.Together, written.Together)
	u.RoomsCreated = max(u.RoomsCreated, written.RoomsCreated)
	u.Partial = u.Partial || written.Partial
}

// points are the hours, or their days; also those in which nothing happened.
func (r *reporting) points() []Usage {
	points := make([]Usage, 0, r.q.To.Sub(r.q.From)/r.q.Interval)
	for start := r.q.From; start.Before(r.q.To); start = start.Add(r.q.Interval) {
		point := Usage{Start: start}
		for at := start; at.Before(start.Add(r.q.Interval)); at = at.Add(time.Hour) {
			point.add(r.hours[at])
		}
		points = append(points, point)
	}
	return points
}

func (u *Usage) add(hour Usage) {
	u.PeakOnline = max(u.PeakOnline, hour.PeakOnline)
	u.ActiveUsers = max(u.ActiveUsers, hour.ActiveUsers) // at the least; see active
	u.Joins += hour.Joins
	u.Together += hour.Together
	u.RoomsCreated += hour.RoomsCreated
	u.Partial = u.Partial || hour.Partial
}

// active puts in who did something on each day: not the sum of the hours.
func (r *reporting) active(ctx context.Context, points []Usage) error {
	written, err := r.Chronicle.ActiveByDay(ctx, r.q.From, r.q.To)
	if err != nil {
		return err
	}
	for i := range points {
		p := &points[i]
		p.ActiveUsers = max(p.ActiveUsers, written[p.Start], r.days[p.Start])
	}
	return nil
}

func (r *reporting) tops(ctx context.Context) ([]RoomUse, []LanguageUse, error) {
	rooms, e1 := r.Chronicle.TopRooms(ctx, r.q.From, r.q.To, TopUses)
	languages, e2 := r.Chronicle.TopLanguages(ctx, r.q.From, r.q.To, TopUses)
	if err := errors.Join(e1, e2); err != nil {
		return nil, nil, err
	}
	rooms = most(append(rooms, r.rooms...), func(u *RoomUse) (RoomID, *Use) { return u.ID, &u.Use })
	languages = most(append(languages, r.languages...), func(u *LanguageUse) (string, *Use) { return u.Language, &u.Use })
	return rooms, languages, r.named(ctx, rooms)
}

// named looks up what the rooms are called.
func (r *reporting) named(ctx context.Context, rooms []RoomUse) error {
	ids := make([]RoomID, len(rooms))
	for i := range rooms {
		ids[i] = rooms[i].ID
	}
	found, err := r.History.RoomsByID(ctx, ids)
	for _, room := range found {
		if i := slices.Index(ids, room.ID); i >= 0 {
			rooms[i].Name = room.Name
		}
	}
	return err
}

// most adds up what is of the same key, and keeps the twenty most used.
func most[T any, K comparable](uses []T, of func(*T) (K, *Use)) []T {
	place, sums := map[K]int{}, []T(nil)
	for i := range uses {
		key, use := of(&uses[i])
		at, seen := place[key]
		if !seen {
			place[key] = len(sums)
			sums = append(sums, uses[i])
			continue
		}
		_, sum := of(&sums[at])
		sum.Joins += use.Joins
		sum.Together += use.Together
	}
	slices.SortStableFunc(sums, func(a, b T) int {
		_, x := of(&a)
		_, y := of(&b)
		return cmp.Or(cmp.Compare(y.Together, x.Together), cmp.Compare(y.Joins, x.Joins))
	})
	return sums[:min(len(sums), reportTop)]
}
