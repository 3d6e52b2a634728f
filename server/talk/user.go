package talk

import (
	"slices"
	"strings"
	"time"
)

// Role is what an account may do on the whole server.
type Role int

// The roles. The zero value is no role.
const (
	RoleUser  Role = iota + 1 // everybody who registered
	RoleAdmin                 // may use AdminService
)

// Profile is what people tell about themselves and may change.
type Profile struct {
	DisplayName       string   `json:"display_name"`
	AvatarURL         string   `json:"avatar_url,omitempty"`
	Bio               string   `json:"bio,omitempty"`
	NativeLanguages   []string `json:"native_languages,omitempty"`   // BCP 47, lower case
	LearningLanguages []string `json:"learning_languages,omitempty"` // BCP 47, lower case
	Country           string   `json:"country,omitempty"`            // ISO 3166-1 alpha-2, or empty
}

// User is a person as everybody may see them: never with their e-mail address.
type User struct {
	ID       UserID `json:"id"`
	Username string `json:"username"` // as typed; unique without regard to case
	Profile
	Role      Role      `json:"role"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// UserSummary is as much of a person as fits beside a seat.
type UserSummary struct {
	ID          UserID `json:"id"`
	Username    string `json:"username"`
	DisplayName string `json:"display_name"`
	AvatarURL   string `json:"avatar_url,omitempty"`
}

// Summary is the short form of u.
func (u User) Summary() UserSummary {
	return UserSummary{ID: u.ID, Username: u.Username, DisplayName: u.DisplayName, AvatarURL: u.AvatarURL}
}

// UserView is a person and where they are: what the cache holds of a user.
type UserView struct {
	User
	RoomID RoomID // the room they sit in, or ""
}

// Ban keeps an account out of the whole server.
type Ban struct {
	Until  time.Time // zero means for good
	Reason string
}

// refusal is ErrBanned with the end of the ban, where it has one.
func (b *Ban) refusal() *Error {
	if b.Until.IsZero() {
		return ErrBanned
	}
	return ErrBanned.With("until", b.Until.UTC().Format(time.RFC3339))
}

// Account is a person as only they themselves and the server see them.
type Account struct {
	User
	Email        string
	PasswordHash string // PHC string
	Ban          *Ban   // nil where there is none
	LastSeenAt   time.Time
	DeletedAt    time.Time // zero while the account lives
	Seq          int64     // of the events that are theirs alone
}

// Banned reports whether the account is kept out at the time now.
func (a *Account) Banned(now time.Time) bool {
	return a.Ban != nil && (a.Ban.Until.IsZero() || now.Before(a.Ban.Until))
}

// AccountView is an account and the rooms that hang on it.
type AccountView struct {
	Account
	CurrentRoomID RoomID // where they sit, or ""
	OwnedRoomID   RoomID // the open room that they own, or ""
}

// Login is how somebody says who they are: exactly one of the two is set.
type Login struct {
	Email    string
	Username string
}

// Fold brings an e-mail address or a username to the form in which it is
// unique. Both are ASCII by validation.
func Fold(name string) string { return strings.ToLower(name) }

// UserState is an account under the lock of [Store.Change], with what a
// decision about it needs.
type UserState struct {
	Account
	Seat     RoomID     // the room they sit in, or ""
	Owns     RoomID     // the open room they own, or ""
	Sessions []*Session // that linger, oldest first; loaded for [Scope.Sessions] only

	before  *Account // nil for one that is new
	changed bool
	log     *log
}

// Changed is for stores: whether more than Seq is to be written.
func (u *UserState) Changed() bool { return u.changed }

// SeatedIn reports whether they sit in room.
func (u *UserState) SeatedIn(room RoomID) bool { return u.Seat == room }

// Edit changes what mask names of the profile.
func (u *UserState) Edit(edit ProfileEdit, now time.Time) {
	edit.apply(&u.Profile)
	u.UpdatedAt = now
	u.changed = true
}

// SetPassword replaces the hash.
func (u *UserState) SetPassword(hash string, now time.Time) {
	u.PasswordHash, u.UpdatedAt, u.changed = hash, now, true
	u.log.touch(UserKey(u.ID)) // UpdatedAt is public
}

// SetRole makes somebody an administrator or takes it away.
func (u *UserState) SetRole(role Role, now time.Time) {
	u.Role, u.UpdatedAt, u.changed = role, now, true
	u.log.touch(UserKey(u.ID))
}

// SetBan keeps the account out, or lets it in where ban is nil.
func (u *UserState) SetBan(ban *Ban) { u.Ban, u.changed = ban, true }

// Erase forgets the person, and what their devices told: what is left is an id
// that old rooms refer to. The names are free again.
func (u *UserState) Erase(now time.Time) {
	u.log.touch(UserKey(u.ID), UsernameKey(u.Username))
	u.Username, u.Email, u.PasswordHash, u.Ban = "", "", "", nil
	u.Profile = Profile{}
	u.UpdatedAt, u.DeletedAt, u.changed = now, now, true
}

// Session returns the session with that id, where it lives at the time now; it
// needs [Scope.Sessions].
func (u *UserState) Session(id SessionID, now time.Time) (*Session, bool) {
	i := slices.IndexFunc(u.Sessions, only(id))
	if i < 0 || !u.Sessions[i].Alive(now) {
		return nil, false
	}
	return u.Sessions[i], true
}

// Revoke ends the sessions that match and returns which it ended.
func (u *UserState) Revoke(why RevokeReason, now time.Time, match func(*Session) bool) []SessionID {
	var ended []SessionID
	for _, s := range u.Sessions {
		if match(s) && s.revoke(why, now) {
			u.tell(now, SessionRevoked{SessionID: s.ID, Reason: why})
			ended = append(ended, s.ID)
		}
	}
	return ended
}

// AddSession opens a session, ends the oldest ones beyond the limit, and
// returns which it ended.
func (u *UserState) AddSession(s *Session, limit int, now time.Time) []SessionID {
	living := slices.DeleteFunc(slices.Clone(u.Sessions), func(s *Session) bool { return !s.Alive(now) })
	var ended []SessionID
	for ; len(living) >= limit; living = living[1:] {
		ended = append(ended, u.Revoke(RevokedByLimit, now, only(living[0].ID))...)
	}
	s.fresh = true
	u.Sessions = append(u.Sessions, s)
	return ended
}

// tell records an event on their own topic.
func (u *UserState) tell(now time.Time, fact Fact) {
	u.Seq++
	u.log.add(Event{Topic: UserTopic(u.ID), Seq: u.Seq, At: now, Fact: fact})
}

// move seats them in another room, or nowhere.
func (u *UserState) move(to Moved, now time.Time) {
	u.Seat = to.RoomID
	u.log.touch(UserKey(u.ID))
	u.tell(now, to)
}

// ProfileEdit is a partial update of a profile: nil leaves a field as it is.
type ProfileEdit struct {
	DisplayName, AvatarURL, Bio, Country *string
	NativeLanguages, LearningLanguages   *[]string
}

func (e ProfileEdit) apply(p *Profile) {
	set(&p.DisplayName, e.DisplayName)
	set(&p.AvatarURL, e.AvatarURL)
	set(&p.Bio, e.Bio)
	set(&p.Country, e.Country)
	set(&p.NativeLanguages, e.NativeLanguages)
	set(&p.LearningLanguages, e.LearningLanguages)
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}
