package talktest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/free2talk/free2talk/server/talk"
)

// opened opens a room for each list of languages, each by another owner.
func (b *bench) opened(languages ...string) map[string]talk.RoomID {
	b.Helper()
	rooms := map[string]talk.RoomID{}
	for i, list := range languages {
		owner := b.person(fmt.Sprintf("owner%02d", i))
		rooms[list] = b.roomWith(owner, talk.NewRoom{Languages: strings.Split(list, " ")})
	}
	return rooms
}

// listed pages through a list to its end, and proves its totals.
func (b *bench) listed(q talk.RoomQuery) []talk.RoomID {
	b.Helper()
	q.Order = max(q.Order, talk.Popular)
	if q.Size == 0 {
		q.Size = 2
	}
	var ids []talk.RoomID
	for {
		page, err := b.Rooms(b.ctx, q)
		b.must(err)
		for _, room := range page.Rooms {
			ids = append(ids, room.ID)
		}
		if page.Next == nil {
			same(b, "total", page.Total, len(ids))
			return ids
		}
		same(b, "size of a page that is not the last", len(page.Rooms), q.Size)
		q.After = page.Next
	}
}

func (b *bench) lists(q talk.RoomQuery, want ...talk.RoomID) {
	b.Helper()
	got := b.listed(q)
	slices.Sort(got)
	slices.Sort(want)
	same(b, fmt.Sprintf("rooms for %+v", q), got, slices.Clip(append([]talk.RoomID(nil), want...)))
}

var listTests = map[string]func(*bench){
	"defect_5_the_filter_is_in_the_query_and_totals_are_right": func(b *bench) {
		languages := []string{"en", "es", "en de", "fr", "en-us", "es en", "de", "en-gb fr"}
		rooms := b.opened(languages...)
		b.lists(talk.RoomQuery{Language: "en", Size: 2}, rooms["en"], rooms["en de"], rooms["en-us"], rooms["es en"], rooms["en-gb fr"])
		page, err := b.Rooms(b.ctx, talk.RoomQuery{Language: "en", Size: 2, Order: talk.Newest})
		b.must(err)
		same(b, "a full page, though most of the newest are of other languages", len(page.Rooms), 2)
		same(b, "total of that language", page.Total, 5)
	},
	"a_language_finds_its_regions_and_nothing_else": func(b *bench) {
		rooms := b.opened("es", "es-mx", "est", "en", "zh-hant-tw")
		b.lists(talk.RoomQuery{Language: "es"}, rooms["es"], rooms["es-mx"])
		b.lists(talk.RoomQuery{Language: "es-mx"}, rooms["es-mx"])
		b.lists(talk.RoomQuery{Language: "ES-mx"}, rooms["es-mx"])
		b.lists(talk.RoomQuery{Language: "e"})
		b.lists(talk.RoomQuery{Language: "mx"})
		b.lists(talk.RoomQuery{Language: "es-"})
		b.lists(talk.RoomQuery{Language: "zh-hant"}, rooms["zh-hant-tw"])
		for _, odd := range []string{"%", "e_", " ", "\x00", "\xff", "'", "?", `\`} {
			b.lists(talk.RoomQuery{Language: odd})
		}
	},
	"a_level_finds_rooms_for_any_too": func(b *bench) {
		ids := b.people(3)
		anyone := b.roomWith(ids[0], talk.NewRoom{})
		beginner := b.roomWith(ids[1], talk.NewRoom{Level: talk.LevelBeginner})
		advanced := b.roomWith(ids[2], talk.NewRoom{Level: talk.LevelAdvanced})
		b.lists(talk.RoomQuery{}, anyone, beginner, advanced)
		b.lists(talk.RoomQuery{Level: talk.LevelBeginner}, anyone, beginner)
		b.lists(talk.RoomQuery{Level: talk.LevelAny}, anyone)
		b.lists(talk.RoomQuery{Level: talk.LevelUpperAdvanced}, anyone)
	},
	"text_is_found_in_name_and_topic_whatever_its_case": func(b *bench) {
		ids := b.people(3)
		coffee := b.roomWith(ids[0], talk.NewRoom{Name: "CAFÉ y té", Topic: "100% real"})
		tea := b.roomWith(ids[1], talk.NewRoom{Name: "Tea", Topic: "under_score and café"})
		other := b.roomWith(ids[2], talk.NewRoom{Name: `Back\slash`, Topic: "it's ?"})
		for text, want := range map[string][]talk.RoomID{
			"café": {coffee, tea}, "CaFÉ": {coffee, tea}, "y té": {coffee}, "%": {coffee}, "0%": {coffee}, "_": {tea},
			`\`: {other}, "'": {other}, "?": {other}, "a_": nil, "te%": nil, "nothing": nil, "\x00": nil,
		} {
			b.lists(talk.RoomQuery{Text: text}, want...)
		}
		b.lists(talk.RoomQuery{Text: "café", Language: "fr"})
	},
	"closed_rooms_are_not_listed": func(b *bench) {
		ids := b.people(2)
		open, closed := b.room(ids[0]), b.room(ids[1])
		b.must(closeRoom(b.ctx, b.Store, closed, ids[1]))
		b.lists(talk.RoomQuery{}, open)
	},
	"the_popular_and_the_newest_come_first": func(b *bench) {
		ids := b.people(8)
		rooms := []talk.RoomID{b.room(ids[0]), b.room(ids[1]), b.room(ids[2]), b.room(ids[3])}
		b.join(rooms[1], ids[4], ids[5])
		b.join(rooms[2], ids[6])
		b.join(rooms[0], ids[7])
		same(b, "popular", b.listed(talk.RoomQuery{}), []talk.RoomID{rooms[1], rooms[2], rooms[0], rooms[3]})
		same(b, "newest", b.listed(talk.RoomQuery{Order: talk.Newest}), []talk.RoomID{rooms[3], rooms[2], rooms[1], rooms[0]})
		page, err := b.Rooms(b.ctx, talk.RoomQuery{Order: talk.Popular, Size: 1})
		b.must(err)
		same(b, "room of a list", page.Rooms[0], b.view(rooms[1]).Room)
	},
	"pages_skip_and_repeat_nothing_that_stays": func(b *bench) {
		ids := b.people(7)
		var rooms []talk.RoomID
		for _, id := range ids[:6] {
			rooms = append(rooms, b.room(id))
		}
		first, err := b.Rooms(b.ctx, talk.RoomQuery{Order: talk.Newest, Size: 3})
		b.must(err)
		b.room(ids[6])                                      // comes before the mark
		b.must(closeRoom(b.ctx, b.Store, rooms[3], ids[3])) // the mark itself goes
		b.must(closeRoom(b.ctx, b.Store, rooms[1], ids[1])) // and one that follows
		rest, err := b.Rooms(b.ctx, talk.RoomQuery{Order: talk.Newest, Size: 3, After: first.Next})
		b.must(err)
		var got []talk.RoomID
		for _, r := range append(first.Rooms, rest.Rooms...) {
			got = append(got, r.ID)
		}
		same(b, "rooms", got, []talk.RoomID{rooms[5], rooms[4], rooms[3], rooms[2], rooms[0]})
		same(b, "total", rest.Total, 5)
	},
	"no_page_follows_the_last": func(b *bench) {
		b.opened("en", "es")
		for size, more := range map[int]bool{1: true, 2: false, 3: false} {
			page, err := b.Rooms(b.ctx, talk.RoomQuery{Order: talk.Popular, Size: size})
			b.must(err)
			same(b, fmt.Sprintf("next of a page of %d", size), page.Next != nil, more)
		}
		page, err := b.Rooms(b.ctx, talk.RoomQuery{Order: talk.Popular, Size: 2, After: &talk.RoomMark{Count: 0, ID: talk.RoomID(talk.NewID())}})
		b.must(err)
		same(b, "rooms after all", len(page.Rooms), 0)
		same(b, "total", page.Total, 2)
	},
}
