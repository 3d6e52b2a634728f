package db

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/free2talk/free2talk/server/talk"
)

// eventRow is a new row of events.
type eventRow struct {
	bun.BaseModel `bun:"table:events"`

	Topic   talk.Topic
	Seq     int64
	Kind    string
	Payload string
	Keys    tags
	At      stamp
	Once    string `bun:",nullzero"`
}

// storedEvent is a row of events as it is read.
type storedEvent struct {
	ID      int64
	Topic   talk.Topic
	Seq     int64
	Kind    string
	Payload []byte
	Keys    tags
	At      stamp
}

// eventRowsOf are the rows of one change. Its cache keys are on the first.
func eventRowsOf(w *talk.Writes) ([]eventRow, error) {
	rows := make([]eventRow, len(w.Events))
	for i, e := range w.Events {
		payload, err := json.Marshal(e.Fact)
		if err != nil {
			return nil, fmt.Errorf("event %s: %w", e.Fact.Kind(), err)
		}
		rows[i] = eventRow{Topic: e.Topic, Seq: e.Seq, Kind: e.Fact.Kind(), Payload: string(payload), At: at(e.At), Once: e.Once}
	}
	if len(rows) > 0 {
		for _, key := range w.Keys {
			rows[0].Keys = append(rows[0].Keys, string(key))
		}
	}
	return rows, nil
}

func (r *storedEvent) outgoing() (talk.Outgoing, error) {
	fact, err := talk.DecodeFact(r.Kind, r.Payload)
	if err != nil {
		return talk.Outgoing{}, fmt.Errorf("event %d: %w", r.ID, err)
	}
	out := talk.Outgoing{ID: r.ID, Event: talk.Event{Topic: r.Topic, Seq: r.Seq, At: r.At.Time, Fact: fact}}
	for _, key := range r.Keys {
		out.Keys = append(out.Keys, talk.Key(key))
	}
	return out, nil
}

// Unpublished lists what happened before a time and is not marked as told, oldest first.
func (s *Store) Unpublished(ctx context.Context, after int64, before time.Time, limit int) ([]talk.Outgoing, error) {
	rows, err := list[storedEvent](ctx, s, `
		SELECT id, topic, seq, kind, payload, keys, at
		FROM events
		WHERE NOT published
		  AND id > ?
		  AND at < ?
		ORDER BY id
		LIMIT ?`, after, at(before), limit)
	if err != nil {
		return nil, err
	}
	var events []talk.Outgoing
	for i := range rows {
		out, err := rows[i].outgoing()
		if err != nil {
			return nil, err
		}
		events = append(events, out)
	}
	return events, nil
}

// Published marks rows of the outbox as told.
func (s *Store) Published(ctx context.Context, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := s.write(ctx, `
		UPDATE events
		SET published = TRUE
		WHERE id IN (?)
		  AND NOT published`, bun.List(ids))
	return err
}
