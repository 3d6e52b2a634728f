// Package cache holds everything that lives in Redis: the cache of rooms and
// people, the notes on sessions, the limiter, the bus and who is connected. The database holds the
// truth; what is here makes it fast, and losing it costs speed alone.
//
// # Terms
//
//   - An entry is what Redis holds under a key: a value, an absence (there is
//     no such thing) or a lease (somebody is loading it).
//   - The truth is the database, behind [talk.Source].
//   - To forget a key is to unlink its entry, whatever it is, and to tell the
//     nodes. A writer forgets after its commit and before its reply.
//   - A key is dirty where a writer of this process could not forget it.
//   - Redis is trusted while it has answered a heartbeat that was sent less
//     than a second ago and everything was told again since it was last away.
//
// # The protocol
//
// One key, one round trip a step, and no assumption on time. A reader asks for
// the entry by GET, or by MGET for many: mostly it is there. Who finds nothing
// sends SET key L<token> NX GET PX 3000. The answer is the value, or the absence,
// or somebody else's lease; or nothing, and then the lease is the reader's own:
// it loads from the truth and fills by a script that writes only while its
// lease stands. Forgetting takes the lease away with the entry, so what was
// loaded before a write is never stored after it.
//
//	reader                     Redis                writer
//	GET room:{7}            →  nothing
//	SET room:{7} L1 NX GET  →  nothing: L1 stands
//	loads version 3                                 commits version 4
//	                           key unlinked      ←  Forget(room:7)
//	                                                replies
//	fill if L1 stands       →  0: it does not
//	GET room:{7}            →  nothing
//	SET room:{7} L2 NX GET  →  nothing: L2 stands
//	loads version 4
//	fill if L2 stands       →  1
//
// The first reader, which began before the reply, answers version 3; none that
// began after it can. Other readers wait up to 60 ms for who has the lease,
// then read the truth themselves and store nothing. In a process, callers
// share a load only where it began after they came; who comes later shares the
// next. So a thousand misses at once are at most two loads a node.
//
// A token names the history of the database that its reader loads from, by a
// hash. An entry of another history is a miss and unlinked: what it says may be
// of commits that a failover lost. The key is the same in all histories, so a
// writer that does not know yet of the new one forgets what others have filled.
//
// # What is near
//
// A process keeps what is read often in its own memory, with the replies that
// were made of it, under two rules. It serves an entry only while it hears what
// all nodes forget: each quarter of a second it sends itself a heartbeat through
// every master, on the connection that the invalidations come on, and the last
// that came back was sent less than a second ago. A connection's messages come
// in order, so what was forgotten before that has been heard; one that breaks
// ends the epoch, and everything with it. So does a heartbeat that one which was
// sent later overtakes, since an invalidation may be lost like it. And it keeps an
// entry only where neither the epoch nor the key's invalidations moved since before
// it was asked for. So a read sees what its own node has acknowledged, and what any node had
// acknowledged a second before.
//
//	reader                 Redis            writer                 the reader's node
//	stamp of room:7
//	reads version 3
//	                       key unlinked  ←  Forget(room:7)
//	                       told          →                         stamp moves
//	keep if the stamp stands: it does not
//
// That needs no lease: what a Redis that is full takes neither a lease nor an entry
// of is near all the same. Where nothing is heard, as while Redis is away, a load
// from the truth is served for a second, unless this process forgets it. The bound of the memory
// is in bytes, by an estimate that errs upwards. Sessions, bans and permissions
// are never near. make mutants takes the rules away, one by one, and shows which
// test notices.
//
// # Keys
//
// All begin with the configured prefix, f2t: by default. Every TTL is varied,
// so that what was stored together does not end together.
//
//	room:{<id>}                             room and participants   5 min
//	slug:{<slug>}                           a room's id             30 min
//	user:{<id>}                             profile, current room   30 min
//	username:{<folded>}                     a user's id             30 min
//	(absence of any of these                                        15–30 s)
//	session:{<id>}                          last use, a hint        7 d
//	rl:<policy>:<limit>/<window>:{<key>}    sliding log             the window
//	rl-resets                               resets of limits        1 h
//	analytics:{all}:place                   counted up to here      3 d
//	analytics:{all}:hours                   hours not written       3 d
//	analytics:{all}:hour:<hour>             sums                    3 d
//	analytics:{all}:active:<hour>           people                  3 d
//	analytics:{all}:day:<day>               people                  3 d
//	analytics:{all}:rooms:<hour>            time together           3 d
//	analytics:{all}:joins:<hour>            joins of rooms          3 d
//	analytics:{all}:languages:<hour>        use of languages        3 d
//	presence:{<shard>}:counts               who is connected        10 min
//	presence:{<shard>}:node:<node>          what a node holds       10 min
//	presence:{<shard>}:online               who is online           10 min
//	presence:{<shard>}:leaving              when graces end         10 min
//	presence:{<shard>}:reported             nodes that reported     10 min
//	presence:{<shard>}:whole                all of them have        10 s
//	presence:{<shard>}:swept:<node>         is refused              1 h
//
// # Events and presence
//
// Events of a topic are published on events:{<shard>}:<history>:<topic>, by
// sharded Pub/Sub on a Cluster; every commit is told on events, which wakes who reads
// the table. A subscription pings itself, and says when messages were lost.
//
// People are spread over sixteen shards, each in one slot. A script that takes
// somebody online or offline publishes it on presence:{<shard>}:flips. A shard
// is whole where every live node has said what it holds; where it is not, as
// after a FLUSHALL, nothing expires and nothing is read from it. One key that
// Redis lost alone is as if all of the shard were lost.
//
// # The limiter
//
// A limit is an exact log of what was given, in Redis, by Redis's clock: no
// window of its length ever holds more, over all nodes. Each node also logs
// what it gave itself, and the stricter log decides; where Redis turns out to
// know less than a node, because it lost something, the node tells it again.
// A refusal is remembered until it ends, so that a flood costs no trips.
//
// Where only failures count, an attempt holds a pending place until it ends.
// With a limit of 5, a hundred wrong passwords at once are five attempts; when
// those have failed the other 95 are refused. Two hundred right ones at once
// are five at a time, each giving its place to the next in line. What is pending
// for over ten seconds counts as if it had failed; a refusal that needs it is not
// remembered, since it may yet succeed.
//
// # When Redis is gone
//
//   - Reads of rooms and people go to the truth, by the same shared loads, and
//     store nothing but what is near for a second. The calls under way pay one time-out; after five failures
//     nothing is sent until a heartbeat is answered.
//   - Forget returns an error and the keys are dirty: this process does not
//     read them from Redis until they are unlinked, which it keeps trying.
//     Before Redis is trusted again each node unlinks once more what it
//     unlinked in the last minute (a failover may have lost that) and calls
//     Config.Recover, which tells what nobody told, be its writer dead.
//     No call waits behind that, and its round trips have a second each.
//   - Notes on sessions are not taken and not read; the lists show what the
//     database knows.
//   - Limits go on in the process, each node giving its share: the limit over
//     the live nodes, at least one. None opens. What was given alone is told
//     to Redis when it is back, and ends of attempts that it did not hear.
//   - free2talk_degraded{role} is 1, and the log says so once.
//
// A Redis that answers but cannot serve (a replica, loading, without a master)
// counts as gone. So does one whose memory is full, for who must write there; the
// cache is read and forgotten as before, and what there is no memory for, an entry
// or a note on a session, is not in it. A value of the wrong type or shape is a
// miss, counted, and unlinked.
package cache
