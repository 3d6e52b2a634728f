package talktest

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

var adminTests = map[string]func(*bench){
	"an entry stands in the log with its change, or neither does": func(b *bench) {
		ada := b.person("ada")
		refused := errors.New("no")
		b.refused(b.change(talk.Scope{}, func(s *talk.State) error {
			return errors.Join(s.Audit(string(ada), "ban_user", "bob", nil), refused)
		}), refused)
		same(b, "entries after a refusal", len(b.audited()), 0)
		b.must(b.change(talk.Scope{Users: []talk.UserID{ada}}, func(s *talk.State) error {
			u, err := s.User(ada)
			if err == nil {
				u.SetBan(&talk.Ban{Reason: "spam"})
				err = s.Audit(string(ada), "ban_user", "bob", map[string]any{"reason": "späm", "n": 1})
			}
			return err
		}))
		entries := b.audited()
		same(b, "entries", len(entries), 1)
		e := entries[0]
		same(b, "what it says", []string{e.Actor, e.Action, e.Target, e.Detail},
			[]string{string(ada), "ban_user", "bob", `{"n":1,"reason":"späm"}`})
		same(b, "id", e.ID, 1)
		same(b, "when", e.At, b.clock.Now())
		same(b, "ban", b.account(ada).Ban, &talk.Ban{Reason: "spam"})
	},
	"entries make a chain, and are listed both ways": func(b *bench) {
		for i := range 5 {
			b.must(b.change(talk.Scope{}, func(s *talk.State) error {
				if i == 4 { // two with one change
					if err := s.Audit("a", "first", "", nil); err != nil {
						return err
					}
				}
				return s.Audit("a", fmt.Sprint(i), "", nil)
			}))
		}
		entries := b.audited()
		same(b, "entries", len(entries), 6)
		var prev []byte
		for i, e := range entries {
			same(b, "id", e.ID, int64(i+1))
			if !bytes.Equal(e.Prev, prev) || len(e.Hash) != 32 {
				b.Errorf("entry %d does not follow the one before", e.ID)
			}
			prev = e.Hash
		}
		newest, err := b.AuditBelow(b.ctx, 0, 2)
		b.must(err)
		older, err := b.AuditBelow(b.ctx, newest[1].ID, 2)
		b.must(err)
		after, err := b.AuditAfter(b.ctx, 4, 1)
		b.must(err)
		same(b, "ids", []int64{newest[0].ID, newest[1].ID, older[0].ID, older[1].ID, after[0].ID}, []int64{6, 5, 4, 3, 5})
		b.whole(6)
	},
	"administrators at once make one chain": func(b *bench) {
		for _, err := range together(20, func(i int) error {
			return b.change(talk.Scope{}, func(s *talk.State) error { return s.Audit("a", "act", fmt.Sprint(i), nil) })
		}) {
			b.must(err)
		}
		b.whole(20)
	},
	"accounts are listed, the newest first, with what hangs on them": func(b *bench) {
		ada, bob, cy := b.person("ada"), b.person("Bob"), b.person("bobby")
		room := b.room(ada)
		b.session(ada)
		b.must(b.logout(b.Store, ada, b.session(ada)))
		page := b.managed(talk.UserQuery{Size: 2})
		same(b, "first page", named(page), []talk.UserID{cy, bob})
		same(b, "next", page.Next, bob)
		page = b.managed(talk.UserQuery{Size: 2, After: page.Next})
		same(b, "second page", named(page), []talk.UserID{ada})
		same(b, "the end", page.Next, "")
		same(b, "room", page.Users[0].RoomID, room)
		same(b, "sessions", page.Users[0].Sessions, 1)
		same(b, "account", page.Users[0].Account, b.account(ada).Account)
		b.clock.Add(talk.SessionIdle + time.Second)
		same(b, "sessions that ran out", b.managed(talk.UserQuery{Size: 9, Text: "ADA"}).Users[0].Sessions, 0)
		for text, want := range map[string][]talk.UserID{
			"bO": {cy, bob}, "bobby@": {cy}, "ob": nil, "%": nil, "_da": nil, "'": nil, "\x00": nil,
			string(bob): {bob}, talk.NewID(): nil,
		} {
			same(b, fmt.Sprintf("users by %q", text), named(b.managed(talk.UserQuery{Text: text, Size: 9})), want)
		}
		b.must(b.change(talk.Scope{Users: []talk.UserID{cy}}, func(s *talk.State) error {
			u, err := s.User(cy)
			if err == nil {
				u.Erase(s.Now)
			}
			return err
		}))
		same(b, "users without the erased", named(b.managed(talk.UserQuery{Size: 9})), []talk.UserID{bob, ada})
	},
}

// audited is the whole log, oldest first.
func (b *bench) audited() []talk.AuditEntry {
	b.Helper()
	entries, err := b.AuditAfter(b.ctx, 0, 1000)
	b.must(err)
	return entries
}

// whole checks that the log has n entries and none is broken.
func (b *bench) whole(n int64) {
	b.Helper()
	check, err := (&talk.Admin{Store: b.Store}).VerifyAudit(b.ctx)
	b.must(err)
	same(b, "check of the log", check, talk.AuditCheck{Entries: n})
}

func (b *bench) managed(q talk.UserQuery) talk.UserPage {
	b.Helper()
	page, err := b.ManagedUsers(b.ctx, q, b.clock.Now())
	b.must(err)
	return page
}

func named(page talk.UserPage) []talk.UserID {
	var ids []talk.UserID
	for _, u := range page.Users {
		ids = append(ids, u.ID)
	}
	return ids
}
