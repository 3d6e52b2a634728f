package talktest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// ManagedUsers is [talk.Store.ManagedUsers].
func (m *Memory) ManagedUsers(ctx context.Context, q talk.UserQuery, now time.Time) (page talk.UserPage, err error) {
	err = m.alone(ctx, func(w *world) error {
		text := talk.Fold(q.Text)
		for _, id := range slices.Backward(slices.Sorted(maps.Keys(w.users))) {
			a := w.users[id]
			named := strings.HasPrefix(talk.Fold(a.Username), text) || strings.HasPrefix(talk.Fold(a.Email), text) || string(id) == text
			if !a.DeletedAt.IsZero() || !named || q.After != "" && id >= q.After {
				continue
			}
			if len(page.Users) == q.Size {
				page.Next = page.Users[q.Size-1].ID
				break
			}
			page.Users = append(page.Users, talk.ManagedUser{
				Account: copied(a), Sessions: w.alive(id, now), RoomID: w.seats[id].RoomID,
			})
		}
		return nil
	})
	return page, err
}

// AuditBelow is [talk.Store.AuditBelow].
func (m *Memory) AuditBelow(ctx context.Context, id int64, limit int) (entries []talk.AuditEntry, err error) {
	err = m.alone(ctx, func(w *world) error {
		for _, e := range slices.Backward(w.audit) {
			if (id == 0 || e.ID < id) && len(entries) < limit {
				entries = append(entries, e)
			}
		}
		return nil
	})
	return entries, err
}

// AuditAfter is [talk.Store.AuditAfter].
func (m *Memory) AuditAfter(ctx context.Context, id int64, limit int) (entries []talk.AuditEntry, err error) {
	err = m.alone(ctx, func(w *world) error {
		for _, e := range w.audit {
			if e.ID > id && len(entries) < limit {
				entries = append(entries, e)
			}
		}
		return nil
	})
	return entries, err
}
