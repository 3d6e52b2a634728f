package talk

import "time"

// RevokeReason says why a session ended before its time.
type RevokeReason string

// The reasons, as they are stored.
const (
	RevokedByLogout   RevokeReason = "logout"
	RevokedByReuse    RevokeReason = "reuse"
	RevokedByPassword RevokeReason = "password"
	RevokedByBan      RevokeReason = "banned"
	RevokedByAdmin    RevokeReason = "admin"
	RevokedByLimit    RevokeReason = "limit"
)

// Session is one signed-in device. Its refresh token is nowhere stored: it
// follows from the id and the generation (see [Tokens]).
type Session struct {
	ID                  SessionID
	UserID              UserID
	Generation          int64 // raised by one with each rotation; starts at 1
	ConfirmedGeneration int64 // the highest whose access token was seen
	RotatedAt           time.Time
	IdleExpiresAt       time.Time // moved on by each rotation
	AbsoluteExpiresAt   time.Time // never moved
	CreatedAt           time.Time
	LastUsedAt          time.Time
	UserAgent           string // cut at 256 bytes
	IP                  string
	Cookie              bool // the refresh token travels in a cookie
	RevokedAt           time.Time
	RevokeReason        RevokeReason

	fresh   bool
	revoked bool
}

// Alive reports whether the session can still be refreshed at the time now.
func (s *Session) Alive(now time.Time) bool {
	return s.RevokedAt.IsZero() && now.Before(s.ExpiresAt())
}

// StreamLife is how long a stream lasts at most.
const StreamLife = time.Hour

// lingering is how long a session's access tokens and streams can outlive it.
const lingering = AccessLifetime + StreamLife + time.Minute

// Lingers reports whether something of the session may still go on at the time
// now. Its end can then still be said, and be heard of.
func (s *Session) Lingers(now time.Time) bool {
	return s.RevokedAt.IsZero() && now.Before(s.ExpiresAt().Add(lingering))
}

// ExpiresAt is when the session ends if it is not used again.
func (s *Session) ExpiresAt() time.Time {
	if s.AbsoluteExpiresAt.Before(s.IdleExpiresAt) {
		return s.AbsoluteExpiresAt
	}
	return s.IdleExpiresAt
}

func (s *Session) revoke(why RevokeReason, now time.Time) bool {
	if !s.RevokedAt.IsZero() {
		return false
	}
	s.RevokedAt, s.RevokeReason, s.revoked = now, why, true
	return true
}

// Device is what a caller's connection tells of their device.
type Device struct {
	UserAgent string
	IP        string
}

// SessionUse is a session seen at work: its last use, written in batches.
type SessionUse struct {
	ID         SessionID
	At         time.Time
	IP         string
	UserAgent  string
	Generation int64 // of the access token that was shown; confirms that generation
}
