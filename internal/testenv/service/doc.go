// Package service runs the real servers that tests talk to (Postgres, Redis,
// a Redis Cluster, a Redis Sentinel) on free loopback ports, out of a directory
// that goes away with them.
//
// It knows nothing of testing: the runner starts the shared servers with it
// and package testenv the private ones.
//
//	redis, err := service.StartRedis(ctx)   // empty, persists nothing
//	defer redis.Close()
//	redis.Stop()                            // alive, and answers nothing
//	redis.Cont()
//	redis.Restart(ctx)                      // as after a crash: same port, no data
//
// On Linux no server outlives the process that started it.
package service
