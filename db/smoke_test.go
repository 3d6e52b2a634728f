package db

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
)

func smoke(t *testing.T, url string) {
	ctx := t.Context()
	s, err := Open(ctx, Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, d := range []Direction{Up, Down, Up} {
		if _, err := s.Migrate(ctx, d); err != nil {
			t.Fatal(d, err)
		}
	}
	id, room := talk.UserID(talk.NewID()), talk.RoomID(talk.NewID())
	open := func(name string) error {
		told, err := s.Change(ctx, talk.Scope{}, func(st *talk.State) error {
			u := st.Register(talk.Account{User: talk.User{ID: id, Username: name, Role: 1, CreatedAt: st.Now, UpdatedAt: st.Now}, Email: "a@b.c"})
			_, err := st.OpenRoom(room, "slug", talk.NewRoom{Name: "it's ?", Languages: []string{"es-mx"}, Level: 1, Capacity: 2}, u)
			return err
		})
		t.Log(told, err)
		return err
	}
	open("Ada?")
	open("Ada")
	v, err := s.Room(ctx, room)
	t.Logf("%+v %v", v, err)
	_, err = s.Change(ctx, talk.Scope{Users: []talk.UserID{id}, Seats: true, Members: true, Sessions: true}, func(st *talk.State) error {
		r, err := st.Room(room)
		if err != nil {
			return err
		}
		t.Logf("%+v", r)
		u, err := st.User(id)
		if err != nil {
			return err
		}
		r.Leave(u, talk.LeftByThemselves, st.Now)
		return nil
	})
	t.Log(err)
	_, err = s.Change(ctx, talk.Scope{Users: []talk.UserID{id}}, func(st *talk.State) error { return errors.New("x") })
	t.Log(err)
	p, err := s.Rooms(ctx, talk.RoomQuery{Language: "es", Order: talk.Popular, Size: 20})
	t.Logf("%+v %v", p, err)
	e, err := s.Unpublished(ctx, v.CreatedAt.AddDate(1, 0, 0), 10)
	t.Logf("%+v %v", e, err)
	_, err = s.DB().Exec("DELETE FROM participants")
	t.Log(err)
}

func TestSmokeLite(t *testing.T) { smoke(t, filepath.Join(t.TempDir(), "x.db")) }
func TestSmokePG(t *testing.T)   { smoke(t, testenv.Postgres(t)) }
