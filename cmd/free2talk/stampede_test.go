package main

import (
	"strings"
	"testing"

	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
)

// TestC3_a_thousand_misses_of_one_key are at most two reads of the database a
// node, whether the room is there or not.
func TestC3_a_thousand_misses_of_one_key(t *testing.T) {
	server, asked := testenv.StartRedis(t), &queries{}
	w := newWorld(t, onOwnRedis(server), 2, watchedBy(asked))
	redis, reader, owner := askOf(t, server), w.player(), w.player()
	room := w.room(owner.person, 4).GetId()
	rounds := testenv.Effort(2, 100)
	for range rounds {
		for what, id := range map[string]string{"a room": room, "a room that never was": talk.NewID()} {
			w.judged(func(c *claims, _ string) {
				c.equal("flush", redis.FlushAll(t.Context()).Err(), nil)
				asked.take()
				together(1000, func(i int) error {
					_, err := reader.rooms(i%len(w.nodes)).GetRoom(t.Context(), roomByID(id))
					return err
				})
				reads := 0
				for _, query := range asked.take() {
					if strings.Contains(query, id) {
						reads++
					}
				}
				if reads > 2*len(w.nodes) {
					c.equal("reads of the database, "+what, reads, 2*len(w.nodes))
				}
			})
		}
	}
	testenv.Record(t, testenv.Figure{Row: "C3", What: "more than two reads a node", Of: int64(2 * rounds), Each: "crowds of 1,000, 2 nodes"})
}
