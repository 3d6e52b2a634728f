// Command bench measures the shipped server against a Connect handler that
// does nothing, and writes what it found to docs/performance.md.
//
// Only ratios count. The variants of a table take turns within one run, and a
// figure is the median of its rounds. What is compared is the CPU time that the
// server process spends on a request at saturation: it holds when the machine
// is busy, where requests per second do not. The server has one processor and
// GOMAXPROCS=1; the load, Postgres and Redis share the other.
//
//	go run ./bench            # the whole table
//	go run ./bench -quick     # one short round of it, to see that it runs
package main
