// Package talk is the domain of free2talk: rooms, the people who sit in them,
// and the devices that they are signed in on. It has the rules, the use cases
// and the errors that a caller may see, and does no I/O of its own.
//
// An account is a person with an e-mail address and a password. A session is a
// device on which they are signed in. A room has a few seats; who sits in one
// is a participant, and one participant owns the room. A person sits in at most
// one room, and owns at most one open room.
//
// Every change goes the same way: lock, decide, write, tell. [Rooms.Join] names
// in a [Scope] what it looks at; [Store.Change] locks and loads that into a
// [State]; the decision, [RoomState.Join], is a pure function of it; what it
// altered is written in the same transaction ([State.Writes]) with the events
// that others must hear; and after the commit, before the caller hears of it,
// the [Outbox] makes the caches forget what is no longer true.
//
// Say a room has 3 seats and 2 people, and stands at version 4. Two more join
// at once. The first to get the room's lock sits down: version 5, with the
// event [ParticipantJoined] {Version: 5}. The second finds three people and gets
// [ErrRoomFull]; nothing is written.
package talk
