package talktest

import (
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

var outboxTests = map[string]func(*bench){
	"what_is_told_is_in_the_table_with_its_keys_on_the_first_row": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		room := b.room(ada)
		before := len(b.outbox())
		told, err := b.Change(b.ctx, one(room, bob), func(s *talk.State) error {
			r, err := s.Room(room)
			b.must(err)
			u, err := s.User(bob)
			b.must(err)
			return r.Join(u, s.Now)
		})
		b.must(err)
		rows := b.outbox()[before:]
		same(b, "rows", len(rows), 2)
		for i, row := range rows {
			same(b, "id", row.ID, told.IDs[i])
			same(b, "event", row.Event, told.Events[i])
		}
		same(b, "keys", rows[0].Keys, told.Keys)
		same(b, "keys of the change", told.Keys, []talk.Key{talk.RoomKey(room), talk.UserKey(bob)})
		same(b, "keys of the second row", len(rows[1].Keys), 0)
		same(b, "topics", []talk.Topic{rows[0].Event.Topic, rows[1].Event.Topic}, []talk.Topic{talk.RoomTopic(room), talk.UserTopic(bob)})
		same(b, "kind", rows[0].Event.Fact.Kind(), "participant_joined")
	},
	"a_change_without_an_event_carries_its_keys": func(b *bench) {
		ada := b.person("ada")
		rows := b.outbox()
		same(b, "rows", len(rows), 1)
		same(b, "event", rows[0].Event, talk.Event{At: b.clock.Now(), Fact: talk.Touched{}})
		same(b, "keys", rows[0].Keys, []talk.Key{talk.UserKey(ada), talk.UsernameKey("ada")})
		b.person("bob")
		same(b, "rows", len(b.outbox()), 2)
	},
	"every_fact_is_read_back": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		room := b.room(ada)
		b.join(room, bob)
		b.must(b.edit(bob, talk.ProfileEdit{DisplayName: new("it's ? \\ \"Ñ\" \u2028")}))
		b.must(transfer(b.ctx, b.Store, room, ada, bob))
		b.must(kick(b.ctx, b.Store, room, bob, ada))
		b.must(b.logout(b.Store, ada, b.session(ada)))
		b.must(closeRoom(b.ctx, b.Store, room, bob))
		kinds := map[string]int{}
		for _, row := range b.outbox() {
			kinds[row.Event.Fact.Kind()]++
		}
		same(b, "kinds", kinds, map[string]int{
			"touched": 2, "room_created": 1, "participant_joined": 1, "participant_updated": 1, "owner_changed": 1,
			"participant_left": 2, "kicked": 1, "moved": 4, "session_revoked": 1, "room_closed": 1,
		})
	},
	"numbers_rise_by_one_within_a_topic": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		room := b.room(ada)
		for range 3 {
			b.join(room, bob)
			b.must(leave(b.ctx, b.Store, room, bob))
		}
		last := map[talk.Topic]int64{}
		for _, row := range b.outbox() {
			if row.Event.Topic == "" {
				continue
			}
			last[row.Event.Topic]++
			same(b, string(row.Event.Topic), row.Event.Seq, last[row.Event.Topic])
		}
		same(b, "last", last, map[talk.Topic]int64{talk.RoomTopic(room): 7, talk.UserTopic(ada): 1, talk.UserTopic(bob): 6})
		same(b, "account", b.account(bob).Seq, int64(6))
	},
	"what_is_marked_is_not_told_again": func(b *bench) {
		b.room(b.person("ada"))
		rows := b.outbox()
		b.must(b.Published(b.ctx, []int64{rows[0].ID, rows[2].ID, 1 << 40}))
		b.must(b.Published(b.ctx, []int64{rows[0].ID}))
		b.must(b.Published(b.ctx, nil))
		left := b.outbox()
		same(b, "rows", left, []talk.Outgoing{rows[1]})
	},
	"the_oldest_are_told_first_up_to_a_time_and_a_number": func(b *bench) {
		b.person("ada")
		at := b.clock.Add(time.Second)
		b.person("bob")
		rows, err := b.Unpublished(b.ctx, 0, at, 10)
		b.must(err)
		same(b, "rows before a time", len(rows), 1)
		all := b.outbox()
		rows, err = b.Unpublished(b.ctx, 0, at.Add(time.Second), 1)
		b.must(err)
		same(b, "rows up to a number", rows, all[:1])
		rows, err = b.Unpublished(b.ctx, all[0].ID, at.Add(time.Second), 10)
		b.must(err)
		same(b, "rows after one", rows, all[1:])
	},
	"history_is_forgotten_once_it_was_told": func(b *bench) {
		b.person("ada")
		b.person("bob")
		rows := b.outbox()
		at := b.clock.Add(time.Second)
		b.person("eve")
		b.must(b.Published(b.ctx, []int64{rows[0].ID, b.outbox()[2].ID}))
		same(b, "forgotten", b.forget(at), 1)
		same(b, "left to tell", b.outbox(), rows[1:2])
		same(b, "forgotten later", b.forget(at.Add(time.Second)), 1)
	},
}

// forget is how many events are forgotten at once: a store may keep some for as
// long as older transactions of its server go on.
func (b *bench) forget(before time.Time) int {
	b.Helper()
	late := time.After(20 * time.Second)
	for {
		n, err := b.ForgetEvents(b.ctx, before)
		b.must(err)
		if n > 0 {
			return n
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-late:
			return 0
		}
	}
}
