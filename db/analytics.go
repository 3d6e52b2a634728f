package db

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/free2talk/free2talk/server/talk"
)

var _ talk.Chronicle = (*Store)(nil)

type hourRow struct {
	bun.BaseModel `bun:"table:analytics_hours,alias:written"`

	Start        stamp
	PeakOnline   int
	ActiveUsers  int
	Joins        int
	RoomsCreated int
	Together     int64 // ms
	Partial      bool
}

type dayRow struct {
	bun.BaseModel `bun:"table:analytics_days,alias:written"`

	Start       stamp
	ActiveUsers int
}

type useRow struct {
	bun.BaseModel `bun:"table:analytics_uses,alias:written"`

	Start    stamp
	Kind     string
	Name     string
	Joins    int
	Together int64 // ms
}

const (
	useOfRoom     = "room"
	useOfLanguage = "language"
	oneDay        = 24 * time.Hour
)

// WriteHour writes an hour down, all or nothing. Written again, what is higher
// counts: the same hour may be written by two nodes.
func (s *Store) WriteHour(ctx context.Context, u talk.Usage, activeOnDay int) error {
	hour := hourRow{
		Start: at(u.Start), PeakOnline: u.PeakOnline, ActiveUsers: u.ActiveUsers, Joins: u.Joins,
		RoomsCreated: u.RoomsCreated, Together: u.Together.Milliseconds(), Partial: u.Partial,
	}
	day := dayRow{Start: at(u.Start.UTC().Truncate(oneDay)), ActiveUsers: activeOnDay}
	var uses []useRow
	for _, r := range u.Rooms {
		uses = append(uses, useRow{Start: hour.Start, Kind: useOfRoom, Name: string(r.ID), Joins: r.Joins, Together: r.Together.Milliseconds()})
	}
	for _, l := range u.Languages {
		uses = append(uses, useRow{Start: hour.Start, Kind: useOfLanguage, Name: l.Language, Joins: l.Joins, Together: l.Together.Milliseconds()})
	}
	return retry(ctx, func() error {
		give, err := s.turns.take(ctx)
		if err != nil {
			return err
		}
		defer give()
		return fault(ctx, s.writer(ctx).RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
			if err := s.raise(ctx, tx.NewInsert().Model(&hour).On("CONFLICT (start) DO UPDATE"),
				"peak_online", "active_users", "joins", "rooms_created", "together", "partial"); err != nil {
				return err
			}
			if err := s.raise(ctx, tx.NewInsert().Model(&day).On("CONFLICT (start) DO UPDATE"), "active_users"); err != nil {
				return err
			}
			if len(uses) == 0 {
				return nil
			}
			return s.raise(ctx, tx.NewInsert().Model(&uses).On("CONFLICT (start, kind, name) DO UPDATE"), "joins", "together")
		}))
	})
}

// raise inserts, and where there is a row already raises columns to what is
// higher.
func (s *Store) raise(ctx context.Context, insert *bun.InsertQuery, columns ...string) error {
	for _, column := range columns {
		name := bun.Ident(column)
		insert.Set("? = CASE WHEN EXCLUDED.? > written.? THEN EXCLUDED.? ELSE written.? END", name, name, name, name, name)
	}
	_, err := insert.Exec(ctx)
	return err
}

// HoursBetween lists the hours from one time until before another, in order.
func (s *Store) HoursBetween(ctx context.Context, from, to time.Time) ([]talk.Usage, error) {
	rows, err := list[hourRow](ctx, s, `
		SELECT start, peak_online, active_users, joins, rooms_created, together, partial
		FROM analytics_hours
		WHERE start >= ?
		  AND start < ?
		ORDER BY start`, at(from), at(to))
	hours := make([]talk.Usage, len(rows))
	for i, row := range rows {
		hours[i] = talk.Usage{
			Start: row.Start.Time, PeakOnline: row.PeakOnline, ActiveUsers: row.ActiveUsers, RoomsCreated: row.RoomsCreated, Partial: row.Partial,
			Use: talk.Use{Joins: row.Joins, Together: time.Duration(row.Together) * time.Millisecond},
		}
	}
	return hours, err
}

// ActiveByDay is how many were active on each day that was written down.
func (s *Store) ActiveByDay(ctx context.Context, from, to time.Time) (map[time.Time]int, error) {
	rows, err := list[dayRow](ctx, s, "SELECT start, active_users FROM analytics_days WHERE start >= ? AND start < ?", at(from), at(to))
	days := map[time.Time]int{}
	for _, row := range rows {
		days[row.Start.Time] = row.ActiveUsers
	}
	return days, err
}

func (s *Store) topUses(ctx context.Context, kind string, from, to time.Time, limit int) ([]useRow, error) {
	return list[useRow](ctx, s, `
		SELECT name, CAST(sum(joins) AS bigint) AS joins, CAST(sum(together) AS bigint) AS together
		FROM analytics_uses
		WHERE start >= ?
		  AND start < ?
		  AND kind = ?
		GROUP BY name
		ORDER BY 3 DESC, 2 DESC, 1
		LIMIT ?`, at(from), at(to), kind, limit)
}

func (r *useRow) use() talk.Use {
	return talk.Use{Joins: r.Joins, Together: time.Duration(r.Together) * time.Millisecond}
}

// TopRooms lists the rooms in which most time was spent together.
func (s *Store) TopRooms(ctx context.Context, from, to time.Time, limit int) ([]talk.RoomUse, error) {
	rows, err := s.topUses(ctx, useOfRoom, from, to, limit)
	uses := make([]talk.RoomUse, len(rows))
	for i := range rows {
		uses[i] = talk.RoomUse{ID: talk.RoomID(rows[i].Name), Use: rows[i].use()}
	}
	return uses, err
}

// TopLanguages lists the languages in whose rooms most time was spent together.
func (s *Store) TopLanguages(ctx context.Context, from, to time.Time, limit int) ([]talk.LanguageUse, error) {
	rows, err := s.topUses(ctx, useOfLanguage, from, to, limit)
	uses := make([]talk.LanguageUse, len(rows))
	for i := range rows {
		uses[i] = talk.LanguageUse{Language: rows[i].Name, Use: rows[i].use()}
	}
	return uses, err
}

// ForgetHours deletes what was written of the time before.
func (s *Store) ForgetHours(ctx context.Context, before time.Time) error {
	for _, table := range []string{"analytics_hours", "analytics_days", "analytics_uses"} {
		if _, err := s.write(ctx, "DELETE FROM ? WHERE start < ?", bun.Ident(table), at(before)); err != nil {
			return err
		}
	}
	return nil
}
