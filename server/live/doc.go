// Package live is what one node knows of what happens now: the hub, which
// brings the events of each topic to those who listen, in order and without a
// gap; the lobby, an index of the open rooms; and presence, who is there.
//
// Everything here can be made again from the database: a node that has lost
// touch reads what it missed, or tells its listeners that they get the state
// anew. Nothing here waits for a listener.
package live
