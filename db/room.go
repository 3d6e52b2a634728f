package db

import (
	"context"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/free2talk/free2talk/server/talk"
)

// roomRow is a row of rooms. The count is kept by the database itself.
type roomRow struct {
	bun.BaseModel `bun:"table:rooms"`

	ID               talk.RoomID `bun:",pk"`
	Slug             string
	Name             string
	Topic            string
	Languages        tags
	Tongues          string
	Search           string
	Level            talk.Level
	Capacity         int
	ParticipantCount int `bun:",scanonly"`
	OwnerID          talk.UserID
	Version          int64
	Seq              int64
	CreatedAt        stamp
	UpdatedAt        stamp
	ClosedAt         stamp
	CloseReason      talk.CloseReason
}

func roomRowOf(r *talk.RoomState) roomRow {
	return roomRow{
		ID: r.ID, Slug: r.Slug, Name: r.Name, Topic: r.Topic, Languages: r.Languages,
		Tongues: tongues(r.Languages), Search: strings.ToLower(r.Name + "\n" + r.Topic),
		Level: r.Level, Capacity: r.Capacity, OwnerID: r.Owner.ID, Version: r.Version, Seq: r.Seq,
		CreatedAt: at(r.CreatedAt), UpdatedAt: at(r.UpdatedAt), ClosedAt: at(r.ClosedAt), CloseReason: r.CloseReason,
	}
}

func (r *roomRow) room(owner talk.UserSummary) talk.Room {
	return talk.Room{
		ID: r.ID, Slug: r.Slug, Name: r.Name, Topic: r.Topic, Languages: r.Languages, Level: r.Level,
		Capacity: r.Capacity, ParticipantCount: r.ParticipantCount, Owner: owner, Version: r.Version,
		CreatedAt: r.CreatedAt.Time, UpdatedAt: r.UpdatedAt.Time, ClosedAt: r.ClosedAt.Time, CloseReason: r.CloseReason,
	}
}

// tongues is what a search for a language looks in: each tag and all that it
// begins with, between spaces, so that "es" is found in "es-mx" and "e" is not.
func tongues(languages []string) string {
	var b strings.Builder
	b.WriteByte(' ')
	for _, tag := range languages {
		for i := range tag {
			if tag[i] == '-' {
				b.WriteString(tag[:i] + " ")
			}
		}
		b.WriteString(tag + " ")
	}
	return b.String()
}

// ownedRow is a room and who owns it.
type ownedRow struct {
	roomRow
	OwnerUsername    string
	OwnerDisplayName string
	OwnerAvatarURL   string
}

func (r *ownedRow) room() talk.Room {
	return r.roomRow.room(talk.UserSummary{
		ID: r.OwnerID, Username: r.OwnerUsername, DisplayName: r.OwnerDisplayName, AvatarURL: r.OwnerAvatarURL,
	})
}

// seatRow is a participant, with as much of the person as fits beside a seat.
type seatRow struct {
	RoomID      talk.RoomID
	UserID      talk.UserID
	Username    string
	DisplayName string
	AvatarURL   string
	State       talk.ParticipantState
	StateSince  stamp
	JoinedAt    stamp
}

func (r *seatRow) summary() talk.UserSummary {
	return talk.UserSummary{ID: r.UserID, Username: r.Username, DisplayName: r.DisplayName, AvatarURL: r.AvatarURL}
}

func (r *seatRow) participant(owner talk.UserID) talk.Participant {
	return talk.Participant{
		User: r.summary(), Owner: r.UserID == owner,
		State: r.State, StateSince: r.StateSince.Time, JoinedAt: r.JoinedAt.Time,
	}
}

// viewRow is one seat of a room, beside the room: one statement sees the room
// and its people at the same moment. An empty room is one row without a seat.
type viewRow struct {
	ownedRow
	UserID      talk.UserID
	Username    string
	DisplayName string
	AvatarURL   string
	State       talk.ParticipantState
	StateSince  stamp
	JoinedAt    stamp
}

func (r *viewRow) seat() *seatRow {
	return &seatRow{
		UserID: r.UserID, Username: r.Username, DisplayName: r.DisplayName, AvatarURL: r.AvatarURL,
		State: r.State, StateSince: r.StateSince, JoinedAt: r.JoinedAt,
	}
}

const selectView = `
	SELECT r.*,
		o.username AS owner_username, o.display_name AS owner_display_name, o.avatar_url AS owner_avatar_url,
		p.user_id, u.username, u.display_name, u.avatar_url, p.state, p.state_since, p.joined_at
	FROM rooms AS r
	JOIN users AS o ON o.id = r.owner_id
	LEFT JOIN participants AS p ON p.room_id = r.id
	LEFT JOIN users AS u ON u.id = p.user_id
	WHERE r.id = ?
	ORDER BY p.joined_at, p.user_id`

// Room returns an open or closed room, or ErrRoomNotFound.
func (s *Store) Room(ctx context.Context, id talk.RoomID) (talk.RoomView, error) {
	room, err := s.LiveRoom(ctx, id)
	return room.RoomView, err
}

// viewOf is a room and its people, from at least one row.
func viewOf(rows []viewRow) talk.RoomView {
	view := talk.RoomView{Room: rows[0].room()}
	for i := range rows {
		if rows[i].UserID != "" {
			view.Participants = append(view.Participants, rows[i].seat().participant(view.Owner.ID))
		}
	}
	return view
}

// RoomID finds an open or closed room by its slug, or ErrRoomNotFound.
func (s *Store) RoomID(ctx context.Context, slug string) (talk.RoomID, error) {
	if strings.ContainsRune(slug, 0) {
		return "", talk.ErrRoomNotFound
	}
	row, err := one[roomRow](ctx, s, talk.ErrRoomNotFound, `
		SELECT id
		FROM rooms
		WHERE slug = ?`, slug)
	return row.ID, err
}

// Rooms lists open rooms: one page, and how many there are on all.
func (s *Store) Rooms(ctx context.Context, q talk.RoomQuery) (talk.RoomPage, error) {
	if strings.ContainsRune(q.Text+q.Language, 0) || q.After != nil && !valid(q.After.ID) {
		return talk.RoomPage{}, nil
	}
	q.Size = max(1, q.Size)
	where := s.matching(q)
	total, err := one[countRow](ctx, s, nil, "SELECT count(*) AS count FROM rooms AS r WHERE ?", bun.Safe(where))
	if err != nil || total.Count == 0 {
		return talk.RoomPage{}, err
	}
	rows, err := s.page(ctx, q, where)
	if err != nil {
		return talk.RoomPage{}, err
	}
	page := talk.RoomPage{Total: total.Count}
	for i := range rows {
		if i == q.Size {
			last := page.Rooms[i-1]
			page.Next = &talk.RoomMark{Count: last.ParticipantCount, ID: last.ID}
			break
		}
		page.Rooms = append(page.Rooms, rows[i].room())
	}
	return page, nil
}

type countRow struct{ Count int }

// page reads one row more than the page has, to know whether another follows.
func (s *Store) page(ctx context.Context, q talk.RoomQuery, where string) ([]ownedRow, error) {
	order, after := "r.id DESC", "r.id < ?id"
	if q.Order == talk.Popular {
		order, after = "r.participant_count DESC, r.id DESC", "(r.participant_count, r.id) < (?count, ?id)"
	}
	if q.After != nil {
		where += " AND " + s.sqlNamed(after, mark{Count: q.After.Count, ID: string(q.After.ID)})
	}
	return list[ownedRow](ctx, s, `
		SELECT r.*,
			o.username AS owner_username, o.display_name AS owner_display_name, o.avatar_url AS owner_avatar_url
		FROM rooms AS r
		JOIN users AS o ON o.id = r.owner_id
		WHERE ?
		ORDER BY ?
		LIMIT ?`, bun.Safe(where), bun.Safe(order), q.Size+1)
}

// mark names the arguments of a page's beginning.
type mark struct {
	Count int
	ID    string
}

func (s *Store) sqlNamed(statement string, args mark) string {
	return s.DB().QueryGen().FormatQuery(statement, args)
}

// matching is the filter of a list, without its page.
func (s *Store) matching(q talk.RoomQuery) string {
	where := "r.closed_at IS NULL"
	if q.Language != "" {
		where += s.sql(` AND r.tongues LIKE ? ESCAPE '\'`, "% "+escaped(strings.ToLower(q.Language))+" %")
	}
	if q.Level != 0 {
		where += s.sql(" AND r.level IN (?, ?)", q.Level, talk.LevelAny)
	}
	if q.Text != "" {
		where += s.sql(` AND r.search LIKE ? ESCAPE '\'`, "%"+escaped(strings.ToLower(q.Text))+"%")
	}
	return where
}

// escaped takes the meaning from what LIKE would read.
func escaped(text string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text)
}

// banRow is a ban from a room, with who it is for.
type banRow struct {
	RoomID      talk.RoomID
	UserID      talk.UserID
	Username    string
	DisplayName string
	AvatarURL   string
	Until       stamp
	Reason      string
}

func (r *banRow) ban() talk.RoomBan {
	return talk.RoomBan{
		User:  talk.UserSummary{ID: r.UserID, Username: r.Username, DisplayName: r.DisplayName, AvatarURL: r.AvatarURL},
		Until: r.Until.Time, Reason: r.Reason,
	}
}

const selectBans = `
	SELECT b.room_id, b.user_id, u.username, u.display_name, u.avatar_url, b.until, b.reason
	FROM bans AS b
	JOIN users AS u ON u.id = b.user_id
	WHERE b.room_id IN (?)
	ORDER BY b.until, b.user_id`

// RoomBans lists the bans of a room that have not run out, the next to end first.
func (s *Store) RoomBans(ctx context.Context, id talk.RoomID, now time.Time) ([]talk.RoomBan, error) {
	if !valid(id) {
		return nil, nil
	}
	rows, err := list[banRow](ctx, s, selectBans, bun.List([]talk.RoomID{id}))
	if err != nil {
		return nil, err
	}
	return living(rows, id, now), nil
}

func living(rows []banRow, id talk.RoomID, now time.Time) []talk.RoomBan {
	var bans []talk.RoomBan
	for i := range rows {
		if rows[i].RoomID == id && now.Before(rows[i].Until.Time) {
			bans = append(bans, rows[i].ban())
		}
	}
	return bans
}
