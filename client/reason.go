package client

// The reasons, as [Reason] returns them; the comment begins with the code. They are
// the values of free2talk.v1.Reason without their prefix.
const (
	// ReasonTokenMissing is unauthenticated: the call needs an access token and brought none.
	ReasonTokenMissing = "TOKEN_MISSING"
	// ReasonTokenExpired is unauthenticated: the access token has run out. Refresh it and call again.
	ReasonTokenExpired = "TOKEN_EXPIRED"
	// ReasonTokenInvalid is unauthenticated: the access token is malformed, forged or not for this
	// server.
	ReasonTokenInvalid = "TOKEN_INVALID"
	// ReasonSessionRevoked is unauthenticated: the session has ended, by a logout, a changed password, a
	// ban or the reuse of a refresh token. Log in again. A stream of that session ends with it too.
	ReasonSessionRevoked = "SESSION_REVOKED"
	// ReasonRefreshInvalid is unauthenticated: the refresh token is malformed, forged, missing or has
	// run out. Log in again.
	ReasonRefreshInvalid = "REFRESH_INVALID"
	// ReasonRefreshReused is unauthenticated: the refresh token was replaced long ago and is in two
	// hands; the session has been ended for both.
	ReasonRefreshReused = "REFRESH_REUSED"
	// ReasonBadCredentials is unauthenticated: the password is wrong, or there is no such account; which
	// of the two is not told.
	ReasonBadCredentials = "BAD_CREDENTIALS"
	// ReasonBanned is permission_denied: the account is banned. The metadata `until` is the end (RFC
	// 3339), absent where there is none.
	ReasonBanned = "BANNED"
	// ReasonEmailTaken is already_exists: an account has this e-mail address, in this or another case.
	ReasonEmailTaken = "EMAIL_TAKEN"
	// ReasonUsernameTaken is already_exists: an account has this username, in this or another case.
	ReasonUsernameTaken = "USERNAME_TAKEN"
	// ReasonPasswordWeak is invalid_argument: the password is a common one, or made of one's own names.
	ReasonPasswordWeak = "PASSWORD_WEAK"
	// ReasonUsernameReserved is invalid_argument: the username is kept for the site itself, such as
	// `admin`.
	ReasonUsernameReserved = "USERNAME_RESERVED"
	// ReasonSelf is invalid_argument: this cannot be done to oneself (a kick, a hand-over) or to the
	// owner (a kick).
	ReasonSelf = "SELF"
	// ReasonCrossSite is permission_denied: the refresh cookie came with a request from another site.
	ReasonCrossSite = "CROSS_SITE"
	// ReasonBodyTooLarge is resource_exhausted: the body of the request is too large. Waiting does not
	// help.
	ReasonBodyTooLarge = "BODY_TOO_LARGE"
	// ReasonUserNotFound is not_found: there is no such user.
	ReasonUserNotFound = "USER_NOT_FOUND"
	// ReasonRoomNotFound is not_found: there is no such room.
	ReasonRoomNotFound = "ROOM_NOT_FOUND"
	// ReasonSessionNotFound is not_found: the caller has no such session.
	ReasonSessionNotFound = "SESSION_NOT_FOUND"
	// ReasonNotOwner is permission_denied: only the room's owner may do this.
	ReasonNotOwner = "NOT_OWNER"
	// ReasonNotAdmin is permission_denied: only an administrator may do this.
	ReasonNotAdmin = "NOT_ADMIN"
	// ReasonKicked is permission_denied: the caller was kicked from the room. The metadata `until` is
	// the end of the ban (RFC 3339).
	ReasonKicked = "KICKED"
	// ReasonRoomFull is failed_precondition: every seat of the room is taken. It may help to try later.
	ReasonRoomFull = "ROOM_FULL"
	// ReasonRoomClosed is failed_precondition: the room is closed, for good.
	ReasonRoomClosed = "ROOM_CLOSED"
	// ReasonNotInRoom is failed_precondition: the caller, or the one whom it is done to, is not in the
	// room.
	ReasonNotInRoom = "NOT_IN_ROOM"
	// ReasonInAnotherRoom is failed_precondition: the caller is in another room, and did not say
	// `leave_current`. The metadata `room_id` is it.
	ReasonInAnotherRoom = "IN_ANOTHER_ROOM"
	// ReasonOwnsARoom is failed_precondition: the caller owns an open room already. The metadata
	// `room_id` is it.
	ReasonOwnsARoom = "OWNS_A_ROOM"
	// ReasonVersionMismatch is aborted: the room has changed since the version that the call names. Read
	// it again and decide anew.
	ReasonVersionMismatch = "VERSION_MISMATCH"
	// ReasonCapacityTaken is failed_precondition: more people sit in the room than the capacity asked
	// for.
	ReasonCapacityTaken = "CAPACITY_TAKEN"
	// ReasonRateLimited is resource_exhausted: a rate limit is used up. The metadata `policy` names it;
	// `google.rpc.QuotaFailure`, RetryInfo and the headers `RateLimit-Policy`, `RateLimit` and `Retry-
	// After` say the rest.
	ReasonRateLimited = "RATE_LIMITED"
	// ReasonSlowConsumer is resource_exhausted: the subscriber did not keep up with the stream. Come
	// back with the last cursor.
	ReasonSlowConsumer = "SLOW_CONSUMER"
	// ReasonTooManyStreams is resource_exhausted: the caller has too many streams open. Close one first.
	ReasonTooManyStreams = "TOO_MANY_STREAMS"
	// ReasonBusy is unavailable: too many people log in just now. Try again in a moment.
	ReasonBusy = "BUSY"
	// ReasonDatabaseUnavailable is unavailable: the database cannot be reached. Try again in a moment.
	ReasonDatabaseUnavailable = "DATABASE_UNAVAILABLE"
	// ReasonBadPageToken is invalid_argument: the page token is not one of this list's, or not with this
	// filter. Start at the first page.
	ReasonBadPageToken = "BAD_PAGE_TOKEN"
	// ReasonBadCursor is invalid_argument: the cursor is not one of this stream's. Start without one.
	ReasonBadCursor = "BAD_CURSOR"
)
