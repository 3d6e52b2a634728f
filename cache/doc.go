// Package cache holds everything that lives in Redis: the cache of rooms and
// people, the notes on sessions, and the limiter.
package cache
