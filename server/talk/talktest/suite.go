package talktest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// Open makes an empty store that tells the time by clock.
type Open func(t *testing.T, clock talk.Clock) talk.Store

// RunStore proves that what open returns is a [talk.Store].
func RunStore(t *testing.T, open Open) {
	for name, tests := range map[string]map[string]func(*bench){
		"TestChange":   changeTests,
		"TestRules":    ruleTests,
		"TestPeople":   peopleTests,
		"TestRoom":     roomTests,
		"TestRooms":    listTests,
		"TestSessions": sessionTests,
		"TestOutbox":   outboxTests,
		"TestKeys":     keyTests,
		"TestAdmin":    adminTests,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for name, test := range tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(newBench(t, open))
				})
			}
		})
	}
	t.Run("TestRaces", func(t *testing.T) {
		RunRaces(t, 5, func(t *testing.T, clock talk.Clock) []talk.Store { return []talk.Store{open(t, clock)} })
	})
}

// bench is a store on trial, and the words in which tests speak of it.
type bench struct {
	*testing.T
	talk.Store
	ctx   context.Context
	clock *Clock
}

func newBench(t *testing.T, open Open) *bench {
	clock := NewClock()
	return &bench{T: t, Store: open(t, clock.Now), ctx: t.Context(), clock: clock}
}

// must fails the test where err is one.
func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// refused fails the test unless err is what was expected.
func (b *bench) refused(err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Fatalf("got %v; want %v", err, want)
	}
}

func same[T any](b *bench, what string, got, want T) {
	b.Helper()
	if !reflect.DeepEqual(got, want) {
		b.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// change is a change of which nothing is to be told.
func (b *bench) change(scope talk.Scope, decide func(*talk.State) error) error {
	_, err := b.Change(b.ctx, scope, decide)
	return err
}

// person registers somebody, and returns who they are.
func (b *bench) person(name string) talk.UserID {
	b.Helper()
	id, err := b.register(name, name+"@example.org")
	b.must(err)
	return id
}

func (b *bench) register(name, email string) (talk.UserID, error) {
	id := talk.UserID(talk.NewID())
	return id, b.change(talk.Scope{}, func(s *talk.State) error {
		s.Register(talk.Account{
			User: talk.User{
				ID: id, Username: name, Role: talk.RoleUser, CreatedAt: s.Now, UpdatedAt: s.Now,
				Profile: talk.Profile{DisplayName: strings.ToUpper(name), NativeLanguages: []string{"es"}, Country: "MX"},
			},
			Email: email, PasswordHash: "hash of " + name,
		})
		return nil
	})
}

// people registers n people.
func (b *bench) people(n int) []talk.UserID {
	b.Helper()
	ids := make([]talk.UserID, n)
	for i := range ids {
		ids[i] = b.person(fmt.Sprintf("person%03d", i))
	}
	return ids
}

// room opens a room for twelve.
func (b *bench) room(owner talk.UserID) talk.RoomID {
	b.Helper()
	return b.roomWith(owner, talk.NewRoom{})
}

func (b *bench) roomWith(owner talk.UserID, spec talk.NewRoom) talk.RoomID {
	b.Helper()
	id, err := b.open(b.ctx, owner, spec)
	b.must(err)
	return id
}

func (b *bench) open(ctx context.Context, owner talk.UserID, spec talk.NewRoom) (talk.RoomID, error) {
	return openRoom(ctx, b.Store, owner, spec)
}

func openRoom(ctx context.Context, store talk.Store, owner talk.UserID, spec talk.NewRoom) (talk.RoomID, error) {
	id := talk.RoomID(talk.NewID())
	spec.Level = max(spec.Level, talk.LevelAny)
	if spec.Name == "" {
		spec.Name = "Charla"
	}
	if spec.Capacity == 0 {
		spec.Capacity = talk.DefaultCapacity
	}
	if spec.Languages == nil {
		spec.Languages = []string{"es-mx", "en"}
	}
	_, err := store.Change(ctx, talk.Scope{Users: []talk.UserID{owner}}, func(s *talk.State) error {
		who, err := s.User(owner)
		if err != nil {
			return err
		}
		_, err = s.OpenRoom(id, "slug-"+string(id), spec, who)
		return err
	})
	return id, err
}

// in runs a rule on a locked room and one person.
func in(ctx context.Context, store talk.Store, scope talk.Scope, rule func(*talk.State, *talk.RoomState, *talk.UserState) error) error {
	_, err := store.Change(ctx, scope, func(s *talk.State) error {
		r, err := s.Room(scope.Rooms[0])
		if err != nil {
			return err
		}
		var who *talk.UserState
		if len(scope.Users) > 0 {
			if who, err = s.User(scope.Users[0]); err != nil {
				return err
			}
		}
		return rule(s, r, who)
	})
	return err
}

func one(room talk.RoomID, who ...talk.UserID) talk.Scope {
	return talk.Scope{Rooms: []talk.RoomID{room}, Users: who}
}

func join(ctx context.Context, store talk.Store, room talk.RoomID, who talk.UserID) error {
	return in(ctx, store, one(room, who), func(s *talk.State, r *talk.RoomState, u *talk.UserState) error {
		return r.Join(u, s.Now)
	})
}

func leave(ctx context.Context, store talk.Store, room talk.RoomID, who talk.UserID) error {
	return in(ctx, store, one(room, who), func(s *talk.State, r *talk.RoomState, u *talk.UserState) error {
		r.Leave(u, talk.LeftByThemselves, s.Now)
		return nil
	})
}

func kick(ctx context.Context, store talk.Store, room talk.RoomID, by, target talk.UserID) error {
	return in(ctx, store, one(room, target), func(s *talk.State, r *talk.RoomState, _ *talk.UserState) error {
		return r.Kick(by, target, "loud", talk.DefaultBan, s.Now)
	})
}

func transfer(ctx context.Context, store talk.Store, room talk.RoomID, by, target talk.UserID) error {
	return in(ctx, store, one(room), func(s *talk.State, r *talk.RoomState, _ *talk.UserState) error {
		return r.Transfer(by, target, s.Now)
	})
}

func closeRoom(ctx context.Context, store talk.Store, room talk.RoomID, by talk.UserID) error {
	scope := one(room)
	scope.Members = true
	return in(ctx, store, scope, func(s *talk.State, r *talk.RoomState, _ *talk.UserState) error {
		return r.Close(by, s.Now)
	})
}

func (b *bench) join(room talk.RoomID, who ...talk.UserID) {
	b.Helper()
	for _, id := range who {
		b.must(join(b.ctx, b.Store, room, id))
		b.clock.Add(time.Second)
	}
}

func (b *bench) view(room talk.RoomID) talk.RoomView {
	b.Helper()
	view, err := b.Room(b.ctx, room)
	b.must(err)
	return view
}

func (b *bench) account(id talk.UserID) talk.AccountView {
	b.Helper()
	account, err := b.Account(b.ctx, id)
	b.must(err)
	return account
}

// seated lists who sits in a room, in its order.
func (b *bench) seated(room talk.RoomID) []talk.UserID {
	b.Helper()
	var ids []talk.UserID
	for _, p := range b.view(room).Participants {
		ids = append(ids, p.User.ID)
	}
	return ids
}

// outbox lists every row, told or not.
func (b *bench) outbox() []talk.Outgoing {
	b.Helper()
	rows, err := b.Unpublished(b.ctx, 0, b.clock.Now().Add(time.Hour), 10_000)
	b.must(err)
	return rows
}
