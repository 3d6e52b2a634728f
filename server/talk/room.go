package talk

import (
	"slices"
	"time"
)

// Level is how well one should speak the languages of a room.
type Level int

// The seven levels that sites of this kind use. LevelAny is what a room has
// when nothing is said.
const (
	LevelAny Level = iota + 1
	LevelBeginner
	LevelUpperBeginner
	LevelIntermediate
	LevelUpperIntermediate
	LevelAdvanced
	LevelUpperAdvanced
)

// Limits of a room that hold whatever the configuration is.
const (
	LeastCapacity   = 2
	DefaultCapacity = 12 // the upper bound unless configured
	DefaultBan      = 10 * time.Minute
)

// Room is what a room says of itself.
type Room struct {
	ID               RoomID      `json:"id"`
	Slug             string      `json:"slug"` // unique for ever; made from the first name
	Name             string      `json:"name"`
	Topic            string      `json:"topic,omitempty"`
	Languages        []string    `json:"languages"` // BCP 47, lower case; the first is the main one
	Level            Level       `json:"level"`
	Capacity         int         `json:"capacity"`
	ParticipantCount int         `json:"participant_count"`
	Owner            UserSummary `json:"owner"` // of a closed room: the last one
	Version          int64       `json:"version"`
	CreatedAt        time.Time   `json:"created_at"`
	// UpdatedAt moves with the name, topic, languages, level, capacity and
	// owner, and with closing; not with people coming and going.
	UpdatedAt   time.Time   `json:"updated_at"`
	ClosedAt    time.Time   `json:"closed_at,omitzero"` // zero while it is open
	CloseReason CloseReason `json:"close_reason,omitempty"`
}

// Open reports whether people may sit in the room.
func (r *Room) Open() bool { return r.ClosedAt.IsZero() }

// ParticipantState is whether somebody seated can be heard.
type ParticipantState string

// The states, as they are stored.
const (
	Connected    ParticipantState = "connected"
	Reconnecting ParticipantState = "reconnecting" // their connection broke; the seat is held for the grace period
)

// Participant is somebody in a seat. Who owns the room stands in the room.
type Participant struct {
	User       UserSummary      `json:"user"`
	Owner      bool             `json:"owner"`
	State      ParticipantState `json:"state"`
	StateSince time.Time        `json:"state_since"`
	JoinedAt   time.Time        `json:"joined_at"`
}

// RoomView is a room with everybody who sits in it, longest seated first
// (ties by id).
type RoomView struct {
	Room
	Participants []Participant
	Memo         *Memo // where the view is shared; else nil
}

// RoomBan keeps one person out of one room for a while.
type RoomBan struct {
	User   UserSummary
	Until  time.Time
	Reason string
}

// NewRoom is what somebody says who opens a room.
type NewRoom struct {
	Name, Topic string
	Languages   []string
	Level       Level // zero means LevelAny
	Capacity    int   // zero means the configured upper bound
}

// RoomEdit is a partial update of a room: nil leaves a field as it is.
type RoomEdit struct {
	Name, Topic *string
	Languages   *[]string
	Level       *Level
	Capacity    *int
	Version     int64 // the version that the caller has seen; zero means whatever it is
}

func (e RoomEdit) apply(r *Room) {
	set(&r.Name, e.Name)
	set(&r.Topic, e.Topic)
	set(&r.Languages, e.Languages)
	set(&r.Level, e.Level)
	set(&r.Capacity, e.Capacity)
}

// RoomState is a room under the lock of [Store.Change]: the rules of what may
// happen in it, without any I/O.
type RoomState struct {
	Room
	Participants []Participant // longest seated first
	Bans         []RoomBan     // those that have not run out
	Seq          int64

	before *RoomView // nil for one that is new
	seq    int64     // before
	bans   []RoomBan // before
	log    *log
	people func(UserID) (*UserState, error)
}

// Join seats who. It answers, in this order: closed, kicked, already in (as
// success), in another room, full.
func (r *RoomState) Join(who *UserState, now time.Time) error {
	switch ban, banned := r.ban(who.ID, now); {
	case who.Banned(now):
		return who.Ban.refusal()
	case !r.Open():
		return ErrRoomClosed
	case banned:
		return ErrKicked.With("until", ban.Until.Format(time.RFC3339)).After(ban.Until.Sub(now))
	case who.SeatedIn(r.ID):
		return nil
	case who.Seat != "":
		return ErrInAnotherRoom.With("room_id", string(who.Seat))
	case len(r.Participants) >= r.Capacity:
		return ErrRoomFull
	}
	r.seat(who, false, now)
	return nil
}

func (r *RoomState) seat(who *UserState, owner bool, now time.Time) {
	p := Participant{User: who.Summary(), Owner: owner, State: Connected, StateSince: now, JoinedAt: r.after(now)}
	r.Participants = append(r.Participants, p)
	r.ParticipantCount = len(r.Participants)
	if !owner { // the room's first seat is told by RoomCreated
		r.tell(now, ParticipantJoined{RoomID: r.ID, Participant: p, Version: r.raise()})
	}
	who.move(Moved{RoomID: r.ID}, now)
}

// after keeps joined_at strictly rising within a room, so that the longest
// seated is the same for every reader.
func (r *RoomState) after(now time.Time) time.Time {
	if n := len(r.Participants); n > 0 && !now.After(r.Participants[n-1].JoinedAt) {
		return r.Participants[n-1].JoinedAt.Add(time.Microsecond)
	}
	return now
}

// Leave frees who's seat; leaving a room that one is not in is no error. An
// owner is succeeded by the longest-seated connected member, else by the
// longest-seated; a room that nobody sits in closes.
func (r *RoomState) Leave(who *UserState, why LeaveReason, now time.Time) {
	if !who.SeatedIn(r.ID) {
		return
	}
	if r.Owner.ID == who.ID {
		if heir, ok := r.heir(); ok {
			r.hand(heir, now)
		}
	}
	r.unseat(who, why, now)
	if len(r.Participants) == 0 {
		r.shut(ClosedEmpty, now)
	}
}

func (r *RoomState) heir() (UserSummary, bool) {
	var heir UserSummary
	for _, p := range r.Participants {
		if p.User.ID == r.Owner.ID {
			continue
		}
		if p.State == Connected {
			return p.User, true
		}
		if heir.ID == "" {
			heir = p.User
		}
	}
	return heir, heir.ID != ""
}

// Kick removes target and keeps them out until now + banFor; zero keeps nobody out.
func (r *RoomState) Kick(by, target UserID, reason string, banFor time.Duration, now time.Time) error {
	switch {
	case r.Owner.ID != by:
		return ErrNotOwner
	case !r.Open():
		return ErrRoomClosed
	case target == r.Owner.ID:
		return ErrSelf
	}
	return r.Remove(target, reason, banFor, now)
}

// Remove is [RoomState.Kick] by somebody whom the room does not ask, the owner
// included: then the room goes to the heir, or closes.
func (r *RoomState) Remove(target UserID, reason string, banFor time.Duration, now time.Time) error {
	switch {
	case !r.Open():
		return ErrRoomClosed
	case r.index(target) < 0:
		return ErrNotInRoom
	}
	who, err := r.people(target)
	if err != nil {
		return err
	}
	until := now.Add(banFor)
	r.liftBan(target)
	if banFor > 0 {
		r.Bans = append(r.Bans, RoomBan{User: who.Summary(), Until: until, Reason: reason})
	}
	who.tell(now, Kicked{RoomID: r.ID, Reason: reason, Until: until})
	r.Leave(who, LeftByKick, now)
	return nil
}

// LiftBan lets target in again; lifting no ban is no error.
func (r *RoomState) LiftBan(by, target UserID) error {
	if r.Owner.ID != by {
		return ErrNotOwner
	}
	r.liftBan(target)
	return nil
}

func (r *RoomState) liftBan(target UserID) {
	r.Bans = slices.DeleteFunc(slices.Clone(r.Bans), func(b RoomBan) bool { return b.User.ID == target })
}

// Transfer hands the room to a member.
func (r *RoomState) Transfer(by, target UserID, now time.Time) error {
	switch {
	case r.Owner.ID != by:
		return ErrNotOwner
	case !r.Open():
		return ErrRoomClosed
	case target == by:
		return ErrSelf
	}
	i := r.index(target)
	if i < 0 {
		return ErrNotInRoom
	}
	r.hand(r.Participants[i].User, now)
	return nil
}

func (r *RoomState) hand(to UserSummary, now time.Time) {
	previous := r.Owner.ID
	r.Participants = slices.Clone(r.Participants)
	for i := range r.Participants {
		r.Participants[i].Owner = r.Participants[i].User.ID == to.ID
	}
	r.Owner, r.UpdatedAt = to, now
	r.noteOwner(previous, "")
	r.noteOwner(to.ID, r.ID)
	r.tell(now, OwnerChanged{RoomID: r.ID, UserID: to.ID, PreviousUserID: previous, Version: r.raise()})
}

// Edit changes what the room says of itself.
func (r *RoomState) Edit(by UserID, edit RoomEdit, now time.Time) error {
	switch {
	case r.Owner.ID != by:
		return ErrNotOwner
	case !r.Open():
		return ErrRoomClosed
	case edit.Version != 0 && edit.Version != r.Version:
		return ErrVersionMismatch
	case edit.Capacity != nil && *edit.Capacity < len(r.Participants):
		return ErrCapacityTaken
	}
	edit.apply(&r.Room)
	r.UpdatedAt = now
	r.raise()
	r.tell(now, RoomUpdated{Room: r.Room})
	return nil
}

// Close ends the room at its owner's word; closing twice is no error.
func (r *RoomState) Close(by UserID, now time.Time) error {
	if r.Owner.ID != by {
		return ErrNotOwner
	}
	return r.End(ClosedByOwner, now)
}

// End ends the room, whoever asks. Everybody stands up, the owner last.
func (r *RoomState) End(why CloseReason, now time.Time) error {
	if !r.Open() {
		return nil
	}
	seated := slices.Clone(r.Participants)
	slices.SortStableFunc(seated, func(a, b Participant) int { return boolRank(a.Owner) - boolRank(b.Owner) })
	for _, p := range seated {
		who, err := r.people(p.User.ID)
		if err != nil {
			return err
		}
		r.unseat(who, LeftRoomClosed, now)
	}
	r.shut(why, now)
	return nil
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (r *RoomState) shut(why CloseReason, now time.Time) {
	r.ClosedAt, r.UpdatedAt, r.CloseReason = now, now, why
	r.noteOwner(r.Owner.ID, "")
	r.tell(now, RoomClosed{RoomID: r.ID, Reason: why, Version: r.raise()})
}

// noteOwner keeps what is known of a user true, where they are loaded at all.
func (r *RoomState) noteOwner(who UserID, owns RoomID) {
	if user, err := r.people(who); err == nil {
		user.Owns = owns
	}
}

func (r *RoomState) unseat(who *UserState, why LeaveReason, now time.Time) {
	r.Participants = slices.DeleteFunc(slices.Clone(r.Participants), func(p Participant) bool { return p.User.ID == who.ID })
	r.ParticipantCount = len(r.Participants)
	r.tell(now, ParticipantLeft{RoomID: r.ID, UserID: who.ID, Reason: why, Version: r.raise()})
	who.move(Moved{Gone: why == LeftDisconnected}, now)
}

// Introduce shows the changed profile of somebody seated to the others.
func (r *RoomState) Introduce(who *UserState, now time.Time) {
	i := r.index(who.ID)
	if i < 0 {
		return
	}
	r.Participants = slices.Clone(r.Participants)
	r.Participants[i].User = who.Summary()
	if r.Owner.ID == who.ID {
		r.Owner = who.Summary()
	}
	r.tell(now, ParticipantUpdated{RoomID: r.ID, Participant: r.Participants[i], Version: r.raise()})
}

func (r *RoomState) index(who UserID) int {
	return slices.IndexFunc(r.Participants, func(p Participant) bool { return p.User.ID == who })
}

func (r *RoomState) ban(who UserID, now time.Time) (RoomBan, bool) {
	i := slices.IndexFunc(r.Bans, func(b RoomBan) bool { return b.User.ID == who && now.Before(b.Until) })
	if i < 0 {
		return RoomBan{}, false
	}
	return r.Bans[i], true
}

func (r *RoomState) raise() int64 {
	r.Version++
	return r.Version
}

func (r *RoomState) tell(now time.Time, fact Fact) {
	r.Seq++
	r.log.touch(RoomKey(r.ID))
	r.log.add(Event{Topic: RoomTopic(r.ID), Seq: r.Seq, At: now, Fact: fact})
}

// View is the room as readers see it.
func (r *RoomState) View() RoomView {
	return RoomView{Room: r.Room, Participants: slices.Clone(r.Participants)}
}
