package talk

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Insight tells those who run a community why something is as it is, in
// sentences of English, the most telling first. It says what the server knows
// and when it only supposes something.
type Insight struct {
	Store   Store
	History History
	Nodes   NodeBook
	// Presence is who is there, of those of users who exist.
	Presence func(ctx context.Context, users []UserID) ([]Presence, error)
	Limits   map[string]Limit // by policy; one that is not there is off
	Policies []string         // all that there are, those that are off too
	Desk     LimitDesk
	Clock    Clock
}

// NodeBook knows the nodes.
type NodeBook interface {
	// SeenNodes lists the nodes that live, and those that died within the hour.
	SeenNodes(ctx context.Context) ([]SeenNode, error)
}

// when is a time as sentences have it: to the second, UTC.
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Online explains why somebody is shown online or offline; ErrUserNotFound.
func (s *Insight) Online(ctx context.Context, user UserID) ([]string, error) {
	account, err := s.Store.Account(ctx, user)
	if err != nil {
		return nil, err
	}
	presences, err := s.Presence(ctx, []UserID{user})
	if err != nil {
		return nil, err
	}
	if len(presences) == 0 {
		return nil, ErrUserNotFound
	}
	p, name := presences[0], account.Username
	var said []string
	switch {
	case p.Stale:
		said = append(said, fmt.Sprintf("Redis is away: that %s is %s is what this node last knew.", name, onOrOff(p.Online)))
	case p.Online:
		said = append(said, fmt.Sprintf("%s is online: at least one device of theirs holds a stream of PresenceService.Connect open.", name))
	default:
		said = append(said, fmt.Sprintf("%s is offline: no device of theirs holds a stream of PresenceService.Connect open, and the grace after the last one is over.", name))
	}
	seat, err := s.seat(ctx, account)
	if err != nil {
		return nil, err
	}
	said = append(said, seat...)
	if p.Online {
		return said, nil
	}
	return s.offline(ctx, said, account, p)
}

func onOrOff(online bool) string {
	if online {
		return "online"
	}
	return "offline"
}

// seat says where somebody sits, and whether the seat is held for them.
func (s *Insight) seat(ctx context.Context, account AccountView) ([]string, error) {
	if account.CurrentRoomID == "" {
		return nil, nil
	}
	room, err := s.Store.Room(ctx, account.CurrentRoomID)
	if err != nil {
		return nil, err
	}
	for i := range room.Participants {
		if p := &room.Participants[i]; p.User.ID == account.ID && p.State == Reconnecting {
			return []string{fmt.Sprintf("Their connection broke at %s; their seat in %q is held for the grace period.", when(p.StateSince), room.Name)}, nil
		}
	}
	return []string{fmt.Sprintf("They sit in %q (%s).", room.Name, room.ID)}, nil
}

// offline says when somebody was last there, and what became of the node that
// they were connected to.
func (s *Insight) offline(ctx context.Context, said []string, account AccountView, p Presence) ([]string, error) {
	now := s.Clock()
	if account.Banned(now) {
		said = append(said, "They are banned: "+account.Ban.told())
	}
	if p.LastSeenAt.IsZero() {
		return append(said, "They were never online."), nil
	}
	said = append(said, fmt.Sprintf("They were last seen at %s, to the minute.", when(p.LastSeenAt)))
	nodes, err := s.Nodes.SeenNodes(ctx)
	if err != nil {
		return nil, err
	}
	for _, node := range nodes {
		if node.Dead && sameMinute(node.SeenAt, p.LastSeenAt) {
			said = append(said, fmt.Sprintf("The node %s died at that time: it was last heard of at %s, and whoever was connected to it was taken for gone ten seconds later.", node.Name, when(node.SeenAt)))
		}
	}
	return s.signedOut(ctx, said, account, now)
}

// sameMinute allows for what is noted to the minute.
func sameMinute(a, b time.Time) bool { return a.Sub(b).Abs() < time.Minute+time.Second }

func (s *Insight) signedOut(ctx context.Context, said []string, account AccountView, now time.Time) ([]string, error) {
	sessions, err := s.Store.Sessions(ctx, account.ID, now)
	if err == nil && len(sessions) == 0 {
		said = append(said, "They are signed in nowhere.")
	}
	return said, err
}

// told is a ban in a sentence.
func (b *Ban) told() string {
	text := "for good"
	if !b.Until.IsZero() {
		text = "until " + when(b.Until)
	}
	if b.Reason != "" {
		text += fmt.Sprintf(", because of %q", b.Reason)
	}
	return text + "."
}

// Policy returns a limit by its name; off is true for one that limits nothing
// here. A name that no policy has is invalid input in field.
func (s *Insight) Policy(name, field string) (limit Limit, off bool, err error) {
	if limit, on := s.Limits[name]; on {
		return limit, false, nil
	}
	if slices.Contains(s.Policies, name) {
		return Limit{Policy: name}, true, nil
	}
	return Limit{}, false, &InvalidInput{Field: field, Sentence: "no policy has that name; there are " + strings.Join(s.Policies, ", ")}
}

// Limited explains why calls of a key are refused, or that they are not.
func (s *Insight) Limited(ctx context.Context, policy, key string) ([]string, error) {
	limit, off, err := s.Policy(policy, "limited.policy")
	if err != nil {
		return nil, err
	}
	if off {
		return []string{fmt.Sprintf("Nothing is limited by %s: it is switched off on this node.", policy)}, nil
	}
	held, err := s.Desk.Held(ctx, limit, key)
	if err != nil {
		return nil, err
	}
	counted := "calls"
	if limit.Failures {
		counted = "failed calls"
	}
	used := fmt.Sprintf("%d of at most %d %s in any %s count now.", held.Used, limit.Places, counted, span(limit.Window))
	said := []string{fmt.Sprintf("Calls of %s are let in by %s.", key, policy), used}
	if held.Wait > 0 {
		said[0] = fmt.Sprintf("Calls of %s are refused by %s with RATE_LIMITED, for another %s.", key, policy, held.Wait.Round(time.Second))
		said = append(said, "ResetRateLimit forgets them at once.")
	}
	if held.Local {
		said = append(said, "Redis is away: this is what this node alone has admitted, and each node admits its share.")
	}
	return said, nil
}

// Closed explains why a room is closed, or that it is not; ErrRoomNotFound.
func (s *Insight) Closed(ctx context.Context, id RoomID) ([]string, error) {
	room, err := s.Store.Room(ctx, id)
	if err != nil {
		return nil, err
	}
	if room.Open() {
		return []string{fmt.Sprintf("%q is open: %d of %d places are taken, and %s owns it.", room.Name, len(room.Participants), room.Capacity, room.Owner.Username)}, nil
	}
	at := when(room.ClosedAt)
	switch room.CloseReason {
	case ClosedByOwner:
		return []string{fmt.Sprintf("%s, who owned %q, closed it at %s.", room.Owner.Username, room.Name, at)}, nil
	case ClosedByAdmin:
		said := []string{fmt.Sprintf("An administrator closed %q at %s.", room.Name, at)}
		return s.byWhom(ctx, said, string(id), room.ClosedAt, "close_room")
	default:
		said := []string{fmt.Sprintf("%q closed by itself at %s: nobody sat in it any more.", room.Name, at)}
		return s.emptied(ctx, said, id)
	}
}

// emptied says how the last one left, for as long as that is remembered.
func (s *Insight) emptied(ctx context.Context, said []string, id RoomID) ([]string, error) {
	seqs, err := s.History.TopicSeqs(ctx, []Topic{RoomTopic(id)})
	if err != nil {
		return nil, err
	}
	last := seqs[RoomTopic(id)]
	events, err := s.History.TopicEvents(ctx, RoomTopic(id), max(0, last-emptiedLook), emptiedLook)
	if err != nil {
		return nil, err
	}
	for _, event := range slices.Backward(events) {
		if left, ok := event.Fact.(ParticipantLeft); ok {
			who := s.name(ctx, left.UserID)
			return append(said, fmt.Sprintf("The last one in it was %s, who %s.", who, leftHow[left.Reason])), nil
		}
	}
	return append(said, "How the last one left is remembered for ten minutes, and these are over."), nil
}

const emptiedLook = 10 // events before the end of a room

var leftHow = map[LeaveReason]string{
	LeftByThemselves: "left",
	LeftByKick:       "was kicked",
	LeftDisconnected: "was disconnected and did not come back within the grace period",
	LeftRoomClosed:   "was there to the end",
	LeftByBan:        "was banned",
}

// name is a living user's name, or else the id.
func (s *Insight) name(ctx context.Context, id UserID) string {
	account, err := s.Store.Account(ctx, id)
	if err != nil {
		return string(id)
	}
	return account.Username
}

// SignedOut explains why a session has ended, or that it has not;
// ErrSessionNotFound.
func (s *Insight) SignedOut(ctx context.Context, id SessionID) ([]string, error) {
	session, err := s.Store.Session(ctx, id)
	if err != nil {
		return nil, err
	}
	now, who := s.Clock(), s.name(ctx, session.UserID)
	begun := fmt.Sprintf("%s signed in at %s from %s.", who, when(session.CreatedAt), or(session.IP, "an unknown address"))
	switch {
	case session.Alive(now):
		return []string{fmt.Sprintf("The session lives: it ends at %s unless it is used before.", when(session.ExpiresAt())), begun}, nil
	case session.RevokedAt.IsZero() && session.ExpiresAt().Equal(session.AbsoluteExpiresAt):
		return []string{fmt.Sprintf("The session ended at %s: it had reached the greatest age that a session may have.", when(session.ExpiresAt())), begun}, nil
	case session.RevokedAt.IsZero():
		return []string{fmt.Sprintf("The session ended at %s: it had not been used for %s.", when(session.ExpiresAt()), days(SessionIdle)), begun}, nil
	}
	said := []string{fmt.Sprintf("The session was ended at %s: %s.", when(session.RevokedAt), revokedHow[session.RevokeReason]), begun}
	switch session.RevokeReason {
	case RevokedByBan:
		return s.byWhom(ctx, said, string(session.UserID), session.RevokedAt, "ban_user")
	case RevokedByAdmin:
		return s.byWhom(ctx, said, string(session.UserID), session.RevokedAt, "revoke_sessions")
	}
	return said, nil
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// span is a length of time without the units that are zero.
func span(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func days(d time.Duration) string { return fmt.Sprintf("%d days", d/(24*time.Hour)) }

var revokedHow = map[RevokeReason]string{
	RevokedByLogout:   "its user logged out, or signed this device out from another one",
	RevokedByReuse:    "a refresh token was shown that had been replaced and whose successor was in use, so that two held the session and one of them was not its user",
	RevokedByPassword: "the password was changed on another device",
	RevokedByBan:      "its user was banned",
	RevokedByAdmin:    "an administrator ended all sessions of its user",
	RevokedByLimit:    "more devices were signed in than may be, and this one had not been used for longest",
}

// byWhom adds what the audit log knows of an act on target at that time.
func (s *Insight) byWhom(ctx context.Context, said []string, target string, at time.Time, action string) ([]string, error) {
	for below := int64(0); ; {
		entries, err := s.Store.AuditBelow(ctx, below, byWhomLook)
		if err != nil {
			return nil, err
		}
		for i := range entries {
			e := &entries[i]
			switch {
			case e.At.Before(at.Add(-byWhomSlack)):
				return said, nil
			case e.Target == target && e.Action == action && e.At.Sub(at).Abs() <= byWhomSlack:
				return append(said, fmt.Sprintf("It was %s; the audit log has it as entry %d: %s.", s.name(ctx, UserID(e.Actor)), e.ID, e.Detail)), nil
			}
		}
		if len(entries) < byWhomLook {
			return said, nil
		}
		below = entries[len(entries)-1].ID
	}
}

const (
	byWhomLook  = 100         // entries at once
	byWhomSlack = time.Second // an act and its entry are of one transaction
)
