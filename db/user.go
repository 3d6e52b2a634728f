package db

import (
	"context"
	"strings"

	"github.com/uptrace/bun"

	"github.com/free2talk/free2talk/server/talk"
)

// userRow is a row of users.
type userRow struct {
	bun.BaseModel `bun:"table:users"`

	ID                talk.UserID `bun:",pk"`
	Email             string      `bun:",nullzero"`
	Username          string      `bun:",nullzero"`
	DisplayName       string
	AvatarURL         string
	Bio               string
	NativeLanguages   tags
	LearningLanguages tags
	Country           string
	Role              talk.Role
	PasswordHash      string
	Banned            bool
	BannedUntil       stamp
	BanReason         string
	Seq               int64
	CreatedAt         stamp
	UpdatedAt         stamp
	LastSeenAt        stamp
	DeletedAt         stamp
}

func userRowOf(a *talk.Account) userRow {
	row := userRow{
		ID: a.ID, Email: a.Email, Username: a.Username, DisplayName: a.DisplayName, AvatarURL: a.AvatarURL,
		Bio: a.Bio, NativeLanguages: a.NativeLanguages, LearningLanguages: a.LearningLanguages, Country: a.Country,
		Role: a.Role, PasswordHash: a.PasswordHash, Seq: a.Seq,
		CreatedAt: at(a.CreatedAt), UpdatedAt: at(a.UpdatedAt), LastSeenAt: at(a.LastSeenAt), DeletedAt: at(a.DeletedAt),
	}
	if a.Ban != nil {
		row.Banned, row.BannedUntil, row.BanReason = true, at(a.Ban.Until), a.Ban.Reason
	}
	return row
}

func (r *userRow) user() talk.User {
	return talk.User{
		ID: r.ID, Username: r.Username, Role: r.Role, CreatedAt: r.CreatedAt.Time, UpdatedAt: r.UpdatedAt.Time,
		Profile: talk.Profile{
			DisplayName: r.DisplayName, AvatarURL: r.AvatarURL, Bio: r.Bio, Country: r.Country,
			NativeLanguages: r.NativeLanguages, LearningLanguages: r.LearningLanguages,
		},
	}
}

func (r *userRow) account() talk.Account {
	account := talk.Account{
		User: r.user(), Email: r.Email, PasswordHash: r.PasswordHash, Seq: r.Seq,
		LastSeenAt: r.LastSeenAt.Time, DeletedAt: r.DeletedAt.Time,
	}
	if r.Banned {
		account.Ban = &talk.Ban{Until: r.BannedUntil.Time, Reason: r.BanReason}
	}
	return account
}

// placedRow is a user and where they sit.
type placedRow struct {
	userRow
	RoomID talk.RoomID
	Owns   bool
}

const selectPlaced = `
	SELECT u.*, p.room_id, r.owner_id = p.user_id AS owns
	FROM users AS u
	LEFT JOIN participants AS p ON p.user_id = u.id
	LEFT JOIN rooms AS r ON r.id = p.room_id
	WHERE u.deleted_at IS NULL
	  AND u.id IN (?)`

// Users returns the living ones among ids, in their order, each once.
func (s *Store) Users(ctx context.Context, ids []talk.UserID) ([]talk.UserView, error) {
	asked := known(ids)
	if len(asked) == 0 {
		return nil, nil
	}
	rows, err := list[placedRow](ctx, s, selectPlaced, bun.List(asked))
	if err != nil {
		return nil, err
	}
	found := make(map[talk.UserID]*placedRow, len(rows))
	for i := range rows {
		found[rows[i].ID] = &rows[i]
	}
	views := make([]talk.UserView, 0, len(rows))
	for _, id := range asked {
		if row := found[id]; row != nil {
			views = append(views, talk.UserView{User: row.user(), RoomID: row.RoomID})
		}
	}
	return views, nil
}

// known drops what cannot be an id, and what was there before.
func known(ids []talk.UserID) []talk.UserID {
	seen := make(map[talk.UserID]bool, len(ids))
	kept := make([]talk.UserID, 0, len(ids))
	for _, id := range ids {
		if valid(id) && !seen[id] {
			seen[id] = true
			kept = append(kept, id)
		}
	}
	return kept
}

// valid reports whether id is a UUID: Postgres refuses to look for others.
func valid[ID ~string](id ID) bool {
	_, err := talk.ParseUserID(string(id))
	return err == nil
}

// UserID finds a living user by name, whatever its case, or ErrUserNotFound.
func (s *Store) UserID(ctx context.Context, username string) (talk.UserID, error) {
	if strings.ContainsRune(username, 0) {
		return "", talk.ErrUserNotFound
	}
	row, err := one[userRow](ctx, s, talk.ErrUserNotFound, `
		SELECT id
		FROM users
		WHERE lower(username) = ?`, talk.Fold(username))
	return row.ID, err
}

// Account returns a living account, or ErrUserNotFound.
func (s *Store) Account(ctx context.Context, id talk.UserID) (talk.AccountView, error) {
	if !valid(id) {
		return talk.AccountView{}, talk.ErrUserNotFound
	}
	row, err := one[placedRow](ctx, s, talk.ErrUserNotFound, selectPlaced, bun.List([]talk.UserID{id}))
	if err != nil {
		return talk.AccountView{}, err
	}
	view := talk.AccountView{Account: row.account(), CurrentRoomID: row.RoomID}
	if row.Owns { // an owner is seated: the database sees to it
		view.OwnedRoomID = row.RoomID
	}
	return view, nil
}

// Credentials returns the account that login names, or ErrUserNotFound.
func (s *Store) Credentials(ctx context.Context, login talk.Login) (talk.Account, error) {
	column, name := "email", login.Email
	if login.Email == "" {
		column, name = "username", login.Username
	}
	if strings.ContainsRune(name, 0) {
		return talk.Account{}, talk.ErrUserNotFound
	}
	row, err := one[userRow](ctx, s, talk.ErrUserNotFound, `
		SELECT *
		FROM users
		WHERE lower(?) = ?`, bun.Ident(column), talk.Fold(name))
	return row.account(), err
}
