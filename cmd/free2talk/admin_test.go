package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/free2talk/free2talk/client"
	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	"github.com/free2talk/free2talk/gen/free2talk/admin/v1/adminv1connect"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// admin is an administrator, and AdminService as node n shows it to them.
func (w *world) admin(n *testNode) (*person, adminv1connect.AdminServiceClient) {
	w.Helper()
	p := w.person()
	err := n.outbox.Change(w.Context(), talk.Scope{Users: []talk.UserID{p.ID}}, func(state *talk.State) error {
		user, err := state.User(p.ID)
		if err == nil {
			user.SetRole(talk.RoleAdmin, state.Now)
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return p, adminv1connect.NewAdminServiceClient(w.as(n, p).Conn())
}

// onAdmin runs a test on every kind of backend.
func onAdmin(t *testing.T, test func(t *testing.T, w *world)) {
	t.Parallel()
	for _, b := range []backend{onEmbedded, onPostgres} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, b, 2))
		})
	}
}

func last(w *world) *testNode { return w.nodes[len(w.nodes)-1] }

func refusedAs(t *testing.T, what string, err error, reason string) {
	t.Helper()
	if client.Reason(err) != reason {
		t.Errorf("%s: got %v, want %s", what, err, reason)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBanUser(t *testing.T) {
	onAdmin(t, func(t *testing.T, w *world) {
		root, service := w.admin(w.nodes[0])
		bob, cy := w.registeredPerson(), w.person()
		room := w.room(bob, 3)
		join(t, cy.Client, room.GetId())
		heard := watch(t.Context(), t, w.as(last(w), cy), room.GetId(), "")
		heard.await(t, "snapshot", isSnapshot)
		own := watch(t.Context(), t, w.as(last(w), bob), room.GetId(), "")
		own.await(t, "snapshot", isSnapshot)

		_, err := service.BanUser(t.Context(), &adminv1.BanUserRequest{UserId: root.id()})
		refusedAs(t, "a ban of oneself", err, client.ReasonSelf)
		_, err = service.BanUser(t.Context(), &adminv1.BanUserRequest{UserId: talk.NewID()})
		refusedAs(t, "a ban of nobody", err, client.ReasonUserNotFound)
		_, err = service.BanUser(t.Context(), &adminv1.BanUserRequest{
			UserId: strings.ToUpper(bob.id()), Reason: "spam", Duration: durationpb.New(3600e9),
		})
		must(t, err)

		heard.await(t, "bob leaves, as banned", func(events []*free2talkv1.WatchRoomResponse) bool {
			for _, e := range events {
				if left := e.GetParticipantLeft(); left.GetUserId() == bob.id() {
					return left.GetReason() == free2talkv1.LeaveReason_LEAVE_REASON_BANNED
				}
			}
			return false
		})
		refusedAs(t, "the stream of who is banned", own.end(t), client.ReasonSessionRevoked)
		w.eventually(soonEnds, "the other node knows", func() bool {
			_, err := w.as(last(w), bob).Auth.GetMe(t.Context(), &free2talkv1.GetMeRequest{})
			return client.Reason(err) == client.ReasonSessionRevoked
		})
		_, err = w.client(last(w)).Login(t.Context(), bob.Username, password)
		refusedAs(t, "a log-in while banned", err, client.ReasonBanned)

		users, err := service.ListUsers(t.Context(), &adminv1.ListUsersRequest{Query: bob.id()})
		must(t, err)
		if got := users.GetUsers(); len(got) != 1 || got[0].GetBanReason() != "spam" || got[0].GetBannedUntil() == nil ||
			got[0].GetSessions() != 0 || got[0].GetCurrentRoomId() != "" || got[0].GetEmail() != bob.Email {
			t.Errorf("administrators see %v", got)
		}
		_, err = service.UnbanUser(t.Context(), &adminv1.UnbanUserRequest{UserId: bob.id()})
		must(t, err)
		_, err = w.client(last(w)).Login(t.Context(), bob.Username, password)
		must(t, err)
	})
}

// registeredPerson is a person with [password].
func (w *world) registeredPerson() *person {
	w.Helper()
	p := w.person()
	err := w.nodes[0].outbox.Change(w.Context(), talk.Scope{Users: []talk.UserID{p.ID}}, func(state *talk.State) error {
		user, err := state.User(p.ID)
		if err == nil {
			user.SetPassword(passwordHash(), state.Now)
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return p
}

func TestKickUser_the_owner_too(t *testing.T) {
	onAdmin(t, func(t *testing.T, w *world) {
		_, service := w.admin(last(w))
		ada, bob := w.person(), w.person()
		room := w.room(ada, 3).GetId()
		kick := func(who *person) error {
			_, err := service.KickUser(t.Context(), &adminv1.KickUserRequest{RoomId: room, UserId: who.id(), Reason: "loud"})
			return err
		}
		refusedAs(t, "somebody who is not there", kick(bob), client.ReasonNotInRoom)
		join(t, bob.Client, room)
		must(t, kick(ada))
		view, err := bob.Rooms.GetRoom(t.Context(), &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: room}})
		if err != nil || view.GetRoom().GetOwner().GetId() != bob.id() || len(view.GetParticipants()) != 1 {
			t.Errorf("the room did not go to the heir: %v, %v", view, err)
		}
		_, err = ada.Rooms.JoinRoom(t.Context(), &free2talkv1.JoinRoomRequest{RoomId: room})
		refusedAs(t, "coming back", err, client.ReasonKicked)
		must(t, kick(bob))
		view, err = bob.Rooms.GetRoom(t.Context(), &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: room}})
		if err != nil || view.GetRoom().GetStatus() != free2talkv1.RoomStatus_ROOM_STATUS_CLOSED {
			t.Errorf("an empty room stays open: %v, %v", view, err)
		}
		refusedAs(t, "in a closed room", kick(bob), client.ReasonRoomClosed)
	})
}

func TestCloseRoom_by_an_administrator(t *testing.T) {
	onAdmin(t, func(t *testing.T, w *world) {
		_, service := w.admin(w.nodes[0])
		ada := w.person()
		room := w.room(ada, 3).GetId()
		heard := watch(t.Context(), t, w.as(last(w), ada), room, "")
		heard.await(t, "snapshot", isSnapshot)
		for range 2 {
			_, err := service.CloseRoom(t.Context(), &adminv1.CloseRoomRequest{RoomId: room, Reason: "empty talk"})
			must(t, err)
		}
		heard.await(t, "closed by an administrator", func(events []*free2talkv1.WatchRoomResponse) bool {
			return events[len(events)-1].GetRoomClosed().GetReason() == free2talkv1.CloseReason_CLOSE_REASON_BY_ADMIN
		})
		_, err := service.CloseRoom(t.Context(), &adminv1.CloseRoomRequest{RoomId: talk.NewID()})
		refusedAs(t, "no room", err, client.ReasonRoomNotFound)
	})
}

// An administrator loses the role, or the session, and the token that still
// lives is worth nothing from the next call on, on every node.
func TestSetRole_and_sessions_take_effect_at_once(t *testing.T) {
	onAdmin(t, func(t *testing.T, w *world) {
		root, service := w.admin(w.nodes[0])
		bob := w.person()
		setRole := func(who *person, role free2talkv1.Role) error {
			_, err := service.SetRole(t.Context(), &adminv1.SetRoleRequest{UserId: who.id(), Role: role})
			return err
		}
		refusedAs(t, "one's own role", setRole(root, free2talkv1.Role_ROLE_USER), client.ReasonSelf)
		theirs := adminv1connect.NewAdminServiceClient(w.as(last(w), bob).Conn())
		verify := func() error {
			_, err := theirs.VerifyAuditLog(t.Context(), &adminv1.VerifyAuditLogRequest{})
			return err
		}
		refusedAs(t, "a user", verify(), client.ReasonNotAdmin)
		must(t, setRole(bob, free2talkv1.Role_ROLE_ADMIN))
		must(t, verify())
		must(t, setRole(bob, free2talkv1.Role_ROLE_USER))
		refusedAs(t, "one who was", verify(), client.ReasonNotAdmin)
		must(t, setRole(bob, free2talkv1.Role_ROLE_ADMIN))

		sessions, err := service.ListSessions(t.Context(), &adminv1.ListSessionsRequest{UserId: bob.id()})
		if err != nil || len(sessions.GetSessions()) != 1 || sessions.GetSessions()[0].GetCurrent() {
			t.Errorf("sessions: %v, %v", sessions, err)
		}
		ended, err := service.RevokeSessions(t.Context(), &adminv1.RevokeSessionsRequest{UserId: bob.id()})
		if err != nil || ended.GetRevokedSessions() != 1 {
			t.Errorf("ended %v, %v", ended, err)
		}
		refusedAs(t, "a session that has ended", verify(), client.ReasonSessionRevoked)
	})
}

// Two administrators who take the role from each other: one is left.
func TestSetRole_leaves_one_administrator(t *testing.T) {
	onAdmin(t, func(t *testing.T, w *world) {
		for range 5 {
			ada, hers := w.admin(w.nodes[0])
			bob, his := w.admin(last(w))
			errs := together(2, func(i int) error {
				by, whom := hers, bob
				if i == 1 {
					by, whom = his, ada
				}
				_, err := by.SetRole(t.Context(), &adminv1.SetRoleRequest{UserId: whom.id(), Role: free2talkv1.Role_ROLE_USER})
				return err
			})
			if got := tally(errs); got[""] != 1 || got[client.ReasonNotAdmin] != 1 {
				t.Fatalf("both lost it, or neither: %v", got)
			}
		}
	})
}

func TestAuditLog(t *testing.T) {
	onAdmin(t, func(t *testing.T, w *world) {
		root, service := w.admin(w.nodes[0])
		_, other := w.admin(last(w))
		bob := w.person()
		for i, err := range together(10, func(i int) error {
			by := service
			if i%2 == 1 {
				by = other
			}
			_, err := by.BanUser(t.Context(), &adminv1.BanUserRequest{UserId: bob.id(), Reason: "spam"})
			return err
		}) {
			if err != nil {
				t.Fatalf("ban %d: %v", i, err)
			}
		}
		_, err := service.FlushCache(t.Context(), &adminv1.FlushCacheRequest{Pattern: "room:*"})
		must(t, err)
		_, err = service.BanUser(t.Context(), &adminv1.BanUserRequest{UserId: talk.NewID()})
		refusedAs(t, "nobody", err, client.ReasonUserNotFound)

		page, err := service.ListAuditLog(t.Context(), &adminv1.ListAuditLogRequest{PageSize: 4})
		must(t, err)
		newest := page.GetEntries()[0]
		if newest.GetId() != 11 || newest.GetActor() != root.id() || newest.GetAction() != "flush_cache" ||
			newest.GetTarget() != "room:*" || newest.GetDetail() != "{}" || len(newest.GetHash()) != 64 {
			t.Errorf("the newest entry is %v", newest)
		}
		id := newest.GetId()
		for token := ""; ; id-- {
			page, err = service.ListAuditLog(t.Context(), &adminv1.ListAuditLogRequest{PageSize: 1, PageToken: token})
			must(t, err)
			if e := page.GetEntries()[0]; e.GetId() != id {
				t.Fatalf("entry %d where %d comes next", e.GetId(), id)
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		if id != 1 {
			t.Errorf("the last page has entry %d", id)
		}
		_, err = service.ListAuditLog(t.Context(), &adminv1.ListAuditLogRequest{PageToken: "nonsense"})
		refusedAs(t, "a token of nothing", err, client.ReasonBadPageToken)

		verified(t, service, 11, 0)
		tamper(t, w.nodes[0])
		verified(t, service, 11, 3)
	})
}

func verified(t *testing.T, service adminv1connect.AdminServiceClient, entries, broken int64) {
	t.Helper()
	check, err := service.VerifyAuditLog(t.Context(), &adminv1.VerifyAuditLogRequest{})
	if err != nil || check.GetEntries() != entries || check.GetFirstBroken() != broken {
		t.Errorf("the check says %v, %v; want %d entries, broken at %d", check, err, entries, broken)
	}
}

// tamper changes an entry as its owner in the database can: past the trigger.
func tamper(t *testing.T, n *testNode) {
	t.Helper()
	statements := []string{
		"ALTER TABLE audit DISABLE TRIGGER audit_only_grows",
		"UPDATE audit SET detail = '{\"reason\":\"ham\"}' WHERE id = 3",
		"ALTER TABLE audit ENABLE TRIGGER audit_only_grows",
	}
	if strings.HasSuffix(n.settings.DatabaseURL, ".db") {
		statements[0], statements[2] = "DROP TRIGGER audit_only_grows", "SELECT 1"
	}
	if _, err := n.store.DB().Exec(statements[1]); err == nil {
		t.Error("the database lets the log be changed")
	}
	for _, s := range statements {
		if _, err := n.store.DB().Exec(s); err != nil {
			t.Fatal(err)
		}
	}
}

func TestListUsers_page_by_page(t *testing.T) {
	onAdmin(t, func(t *testing.T, w *world) {
		_, service := w.admin(w.nodes[0])
		want := []string{w.person().id(), w.person().id(), w.person().id()}
		token := ""
		for _, want := range slices.Backward(want) {
			page, err := service.ListUsers(t.Context(), &adminv1.ListUsersRequest{Query: "PERSON-", PageSize: 1, PageToken: token})
			must(t, err)
			if got := page.GetUsers(); len(got) != 1 || got[0].GetUser().GetId() != want || got[0].GetSessions() != 1 {
				t.Errorf("page has %v, want %s", got, want)
			}
			token = page.GetNextPageToken()
		}
		_, err := service.ListUsers(t.Context(), &adminv1.ListUsersRequest{Query: "other", PageToken: token})
		refusedAs(t, "a token of another list", err, client.ReasonBadPageToken)
	})
}

func TestWarmCache_and_flush(t *testing.T) {
	onAdmin(t, func(t *testing.T, w *world) {
		w.redisUsed()
		_, service := w.admin(w.nodes[0])
		ada, bob := w.person(), w.person()
		room := w.room(ada, 3)
		w.room(w.person(), 3)
		join(t, bob.Client, room.GetId())
		acts := 2
		w.eventually(30*time.Second, "Redis takes both rooms and all three people", func() bool {
			acts++
			warmed, err := service.WarmCache(t.Context(), &adminv1.WarmCacheRequest{})
			if err == nil && warmed.GetRooms() == 2 && warmed.GetUsers() == 3 {
				return true
			}
			acts++ // Redis was away for a moment; a node that has them near does not bring them again
			_, err = service.FlushCache(t.Context(), &adminv1.FlushCacheRequest{})
			t.Logf("warmed %v; flushed, %v", warmed, err)
			return false
		})
		for _, want := range []int64{2, 0} {
			flushed, err := service.FlushCache(t.Context(), &adminv1.FlushCacheRequest{Pattern: "room:*"})
			if err != nil || flushed.GetDeletedKeys() != want {
				t.Errorf("flushed %v, %v, want %d", flushed, err, want)
			}
		}
		verified(t, service, int64(acts), 0)
	})
}
