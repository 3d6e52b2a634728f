// Package talktest proves stores. [RunStore] is the one suite that every
// [talk.Store] passes, [RunRaces] its part for several nodes on one database;
// [Memory] is a store for the tests of others, and passes it too.
package talktest
