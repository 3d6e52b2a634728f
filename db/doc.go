// Package db keeps the truth: it implements [talk.Store] on Postgres and on
// SQLite, with Bun for models and queries.
//
// A change is two trips to the database, whatever it touches: one that begins
// the transaction, locks and loads, and one that writes, adds to the outbox and
// commits. Between them [talk.State] decides, in memory. Locks are taken in one
// order: rooms by id, users by id, sessions by id. Before that a change queues
// at the gates of its rooms and users in this process, so that a crowd at one
// door holds one connection and not the pool.
//
// What must never be (thirteen people in a room of twelve, two owners, somebody
// in two rooms) is refused by a named constraint, whoever writes; errors.go says
// which constraint is which of talk's errors. Everything in which the two
// databases differ stands in dialect.go and below migrations.
package db
