// Command scale measures what one online user, one room, one event and one call
// cost the nodes, Redis and Postgres, in bytes, in operations and in processor
// time, and prints what that makes of ten thousand, a million and ten million
// people online:
//
//	go run ./bench/scale
//
// It starts a Postgres, a Redis and one node of its own.
package main
