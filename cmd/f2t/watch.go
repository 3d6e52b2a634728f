package main

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// told is a message of a stream.
type told interface {
	proto.Message
	GetTime() *timestamppb.Timestamp
}

// event writes one message of a watch: a line of JSON, or lines for people.
func (a *app) event(event told, lines func() []string) error {
	if a.json() {
		return a.line(event)
	}
	when := a.dim(event.GetTime().AsTime().Local().Format(time.TimeOnly))
	for _, line := range lines() {
		if err := a.say("%s  %s\n", when, clean(line)); err != nil {
			return err
		}
	}
	return nil
}

// anew says why a state is sent once more, where it is not the first.
func anew(reason free2talkv1.SnapshotReason) string {
	switch reason {
	case free2talkv1.SnapshotReason_SNAPSHOT_REASON_CURSOR_TOO_OLD:
		return ", anew after too long a break"
	case free2talkv1.SnapshotReason_SNAPSHOT_REASON_HISTORY_LOST:
		return ", anew from a server that was restored"
	case free2talkv1.SnapshotReason_SNAPSHOT_REASON_FELL_BEHIND:
		return ", anew, as too much was missed"
	case free2talkv1.SnapshotReason_SNAPSHOT_REASON_HEALED:
		return ", anew, as something may have been missed"
	}
	return ""
}

// back says that a connection is there again and what it brought.
func back(r *free2talkv1.Resumed) []string {
	if r.GetReplayed() == 0 {
		return []string{"connected again; nothing was missed"}
	}
	return []string{fmt.Sprintf("connected again; what was missed follows (%d)", r.GetReplayed())}
}

// lobby turns the events of the lobby into lines. It knows the rooms' names,
// since an event of a closed room has only its id.
type lobby struct {
	a     *app
	known map[string]*free2talkv1.Room
	shown int // rooms of a snapshot that has not ended
}

func newLobby(a *app) *lobby { return &lobby{a: a, known: map[string]*free2talkv1.Room{}} }

func (l *lobby) lines(event *free2talkv1.WatchRoomsResponse) []string {
	switch e := event.GetEvent().(type) {
	case *free2talkv1.WatchRoomsResponse_Snapshot:
		if l.shown == 0 {
			clear(l.known)
		}
		for _, r := range e.Snapshot.GetRooms() {
			l.known[r.GetId()] = r
		}
		l.shown += len(e.Snapshot.GetRooms())
		if !e.Snapshot.GetLast() {
			return nil
		}
		defer func() { l.shown = 0 }()
		return []string{count(l.shown, "room is", "rooms are") + " open" + anew(e.Snapshot.GetReason())}
	case *free2talkv1.WatchRoomsResponse_Resumed:
		return back(e.Resumed)
	case *free2talkv1.WatchRoomsResponse_RoomCreated:
		r := e.RoomCreated.GetRoom()
		l.known[r.GetId()] = r
		return []string{fmt.Sprintf("%s opened %s: %s", r.GetOwner().GetUsername(), l.a.bold(r.GetSlug()), r.GetName())}
	case *free2talkv1.WatchRoomsResponse_RoomUpdated:
		r := e.RoomUpdated.GetRoom()
		before := l.known[r.GetId()]
		l.known[r.GetId()] = r
		return []string{fmt.Sprintf("%s %s", l.a.bold(r.GetSlug()), difference(before, r))}
	case *free2talkv1.WatchRoomsResponse_RoomClosed:
		id := e.RoomClosed.GetRoomId()
		name := or(l.known[id].GetSlug(), id)
		delete(l.known, id)
		return []string{fmt.Sprintf("%s closed, %s", l.a.bold(name), why(e.RoomClosed.GetReason()))}
	}
	return nil
}

// difference is what changed of a room that the lobby shows.
func difference(before, after *free2talkv1.Room) string {
	switch {
	case before == nil:
		return "fits now: " + after.GetName() + ", " + seats(after)
	case before.GetParticipantCount() != after.GetParticipantCount():
		return "has " + seats(after) + " seats taken"
	case before.GetName() != after.GetName():
		return "is called " + after.GetName()
	case before.GetTopic() != after.GetTopic():
		return "is about " + or(after.GetTopic(), "nothing in particular")
	case before.GetOwner().GetId() != after.GetOwner().GetId():
		return "belongs to " + after.GetOwner().GetUsername()
	}
	return "changed"
}

func why(reason free2talkv1.CloseReason) string {
	switch reason {
	case free2talkv1.CloseReason_CLOSE_REASON_BY_OWNER:
		return "by its owner"
	case free2talkv1.CloseReason_CLOSE_REASON_EMPTY:
		return "as nobody sat in it"
	case free2talkv1.CloseReason_CLOSE_REASON_BY_ADMIN:
		return "by an administrator"
	}
	return "for a reason that this program does not know"
}

// roomLines turns the events of a room into lines, and knows from the state
// who the ids are.
type roomLines struct {
	a     *app
	state client.RoomState
}

func (r *roomLines) lines(event *free2talkv1.WatchRoomResponse) []string {
	names := r.names()
	err := r.state.Apply(event)
	lines := r.describe(event, names)
	if err != nil {
		lines = append(lines, "this does not follow on what is known: "+err.Error())
	}
	return lines
}

func (r *roomLines) describe(event *free2talkv1.WatchRoomResponse, names map[string]string) []string {
	switch e := event.GetEvent().(type) {
	case *free2talkv1.WatchRoomResponse_Snapshot:
		return r.snapshot(e.Snapshot)
	case *free2talkv1.WatchRoomResponse_Resumed:
		return back(e.Resumed)
	case *free2talkv1.WatchRoomResponse_ParticipantJoined:
		return []string{e.ParticipantJoined.GetParticipant().GetUser().GetUsername() + " joined, " + seats(r.state.Room)}
	case *free2talkv1.WatchRoomResponse_ParticipantLeft:
		left := e.ParticipantLeft
		return []string{or(names[left.GetUserId()], left.GetUserId()) + " " + leaving(left.GetReason()) + ", " + seats(r.state.Room)}
	case *free2talkv1.WatchRoomResponse_ParticipantUpdated:
		p := e.ParticipantUpdated.GetParticipant()
		return []string{fmt.Sprintf("%s is %s, %s", p.GetUser().GetUsername(), named(p.GetState(), "PARTICIPANT_STATE_"), named(p.GetRole(), "PARTICIPANT_ROLE_"))}
	case *free2talkv1.WatchRoomResponse_OwnerChanged:
		id := e.OwnerChanged.GetUserId()
		return []string{or(names[id], id) + " owns the room now"}
	case *free2talkv1.WatchRoomResponse_RoomUpdated:
		room := e.RoomUpdated.GetRoom()
		return []string{fmt.Sprintf("the room is changed: %s · %s", room.GetName(), or(room.GetTopic(), "no topic"))}
	case *free2talkv1.WatchRoomResponse_RoomClosed:
		return []string{"the room closed, " + why(e.RoomClosed.GetReason())}
	case *free2talkv1.WatchRoomResponse_MessagePosted:
		return []string{r.a.bold(e.MessagePosted.GetSender().GetUsername()+":") + " " + e.MessagePosted.GetText()}
	}
	return nil
}

func (r *roomLines) snapshot(s *free2talkv1.RoomSnapshot) []string {
	lines := []string{fmt.Sprintf("%s, %s%s", r.a.bold(s.GetRoom().GetName()), seats(s.GetRoom()), anew(s.GetReason()))}
	for _, p := range s.GetParticipants() {
		lines = append(lines, fmt.Sprintf("  %s, %s", p.GetUser().GetUsername(), named(p.GetRole(), "PARTICIPANT_ROLE_")))
	}
	return lines
}

func (r *roomLines) names() map[string]string {
	names := map[string]string{}
	for _, p := range r.state.Participants {
		names[p.GetUser().GetId()] = p.GetUser().GetUsername()
	}
	return names
}

func leaving(reason free2talkv1.LeaveReason) string {
	switch reason {
	case free2talkv1.LeaveReason_LEAVE_REASON_KICKED:
		return "was kicked"
	case free2talkv1.LeaveReason_LEAVE_REASON_DISCONNECTED:
		return "was gone too long"
	case free2talkv1.LeaveReason_LEAVE_REASON_BANNED:
		return "was banned"
	}
	return "left"
}

// count is a number with its noun.
func count[N int | int32 | int64](n N, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}
