package main

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// constantRoom is the room that the no-op answers with, whatever it is asked for.
const constantRoom = "01a20543-7a88-715b-b71f-2d02a3eef732"

// reads measures GetRoom: near, from Redis, and from Postgres.
func (r *run) reads() error {
	noop, err := r.noop()
	if err != nil {
		return err
	}
	defer noop.stop()
	c, err := r.crowd("reads", r.rooms[len(r.rooms)-1], manyCallers)
	if err != nil {
		return err
	}
	near, err := r.shipped(c, "near:")
	if err != nil {
		return err
	}
	defer near.stop()
	far, err := r.shipped(c, "far:", "--near-cache=0")
	if err != nil {
		return err
	}
	defer far.stop()
	for _, p := range []*process{near, far} {
		if err := c.introduce(p); err != nil {
			return err
		}
	}
	json := func(int, int64) request { return request{path: getRoom, body: jsonRoom(constantRoom)} }
	binary := func(int, int64) request { return request{path: getRoom, body: binaryRoom(constantRoom), binary: true} }
	got, err := r.turns(
		variant{name: "noop", on: noop, next: json},
		variant{name: "near", on: near, next: c.hot},
		variant{name: "noop binary", on: noop, next: binary},
		variant{name: "near binary", on: near, next: c.hotBinary},
		variant{name: "noop h2c", on: noop, next: binary, h2c: true},
		variant{name: "near h2c", on: near, next: c.hotBinary, h2c: true},
		variant{name: "redis", on: far, next: c.hot},
		variant{name: "cold", on: far, next: c.cold},
	)
	if err != nil {
		return err
	}
	near1, bin := got["near"], got["near binary"]
	r.table.ratio("G1 GetRoom, near, everything, JSON: CPU ÷ no-op, 10,000 callers in turn", "≤ 1.0", near1, got["noop"])
	r.table.ratio("G2 the same, binary over HTTP/1.1", "≤ 1.25", bin, got["noop binary"])
	r.table.ratio("G2 the same, binary over h2c", "≤ 1.05", got["near h2c"], got["noop h2c"])
	r.table.ratio("G3 the same, JSON: CPU of the server and of Redis ÷ no-op", "≤ 1.3", near1.withRedis(), got["noop"])
	r.table.ratio("G4 GetRoom answered by Redis, everything, JSON: CPU ÷ no-op", "≤ 1.3", got["redis"], got["noop"])
	r.table.add("G5 allocations of a GetRoom, near, JSON", "≤ 75", near1.mallocsPerCall(), near1)
	r.table.add("G5 allocations of a GetRoom, near, binary", "≤ 70", bin.mallocsPerCall(), bin)
	r.table.ratio("GetRoom from Postgres, each room for the first time: CPU ÷ no-op", "–", got["cold"], got["noop"])
	return nil
}

func jsonRoom(id string) string { return fmt.Sprintf(`{"id":%q}`, id) }

func binaryRoom(id string) string {
	body, err := proto.Marshal(&freev1.GetRoomRequest{Key: &freev1.GetRoomRequest_Id{Id: id}})
	if err != nil {
		panic(err) // ids are ASCII
	}
	return string(body)
}

func (c *crowd) hot(_ int, n int64) request {
	return request{path: getRoom, body: jsonRoom(c.rooms[n%hot]), token: c.token(n)}
}

func (c *crowd) hotBinary(_ int, n int64) request {
	return request{path: getRoom, body: binaryRoom(c.rooms[n%hot]), token: c.token(n), binary: true}
}

// cold reads rooms in an order in which none comes twice before all did, whatever
// turn it is.
func (c *crowd) cold(_ int, n int64) request {
	return request{path: getRoom, body: jsonRoom(c.rooms[(hot+c.read.Add(1))%int64(len(c.rooms))]), token: c.token(n)}
}

// lists measures ListRooms, of few rooms and of many.
func (r *run) lists() error {
	noop, err := r.noop()
	if err != nil {
		return err
	}
	defer noop.stop()
	variants := []variant{{name: "noop", on: noop, next: func(int, int64) request { return request{path: listRooms, body: `{}`} }}}
	for _, rooms := range r.rooms {
		c, err := r.crowd(fmt.Sprintf("rooms_%d", rooms), rooms, manyCallers)
		if err != nil {
			return err
		}
		p, err := r.shipped(c, fmt.Sprintf("lists-%d:", rooms))
		if err != nil {
			return err
		}
		defer p.stop()
		if err := c.introduce(p); err != nil {
			return err
		}
		variants = append(variants, variant{name: fmt.Sprint(rooms), on: p, next: c.list})
	}
	got, err := r.turns(variants...)
	if err != nil {
		return err
	}
	for _, rooms := range r.rooms {
		r.table.ratio(fmt.Sprintf("G7 ListRooms, 20 of %d rooms, all filters in turn: CPU ÷ a no-op of the same bytes", rooms),
			"≤ 1.3", got[fmt.Sprint(rooms)], got["noop"])
	}
	least, most := r.rooms[0], r.rooms[len(r.rooms)-1]
	r.table.ratio(fmt.Sprintf("G7 the same: CPU of %d rooms ÷ CPU of %d", most, least), "≤ 1.2", got[fmt.Sprint(most)], got[fmt.Sprint(least)])
	return nil
}
