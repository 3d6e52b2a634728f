// Command bench measures the shipped server against a Connect handler that
// does nothing and against what others use, and writes what it found to
// docs/performance.md.
//
// Only ratios count. The variants of a table take turns within one run, and a
// figure is the median of its rounds. What is compared is the CPU time that the
// server process spends on a request at saturation: it holds when the machine
// is busy, where requests per second do not. The server has one processor and
// GOMAXPROCS=1; the load, Postgres and Redis share the other.
//
// A row's first word names its goal, and its goal's first words are a bound:
// the table puts it in its place and says whether it is met. So a part adds its
// rows by table.ratio, add or plain, in any order.
//
// What the server is measured against lives beside it, with lock files of its
// own: live/ has the centrifuge library, socket.io and the load of streams,
// original/ an Express server as the original was, noop/ plain Connect. npm
// installs there when the part runs that needs it.
//
//	go run ./bench                            # the whole table
//	go run ./bench -quick                     # one short round of it, to see that it runs
//	go run ./bench -only fanout -profiles DIR # one part, with profiles of the server
package main
