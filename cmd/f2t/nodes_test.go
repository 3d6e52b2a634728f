package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// promote makes somebody an administrator, as one does on the server's machine.
func (s *server) promote(name string) {
	s.t.Helper()
	cmd := exec.Command(program(s.t, "free2talk"), append(slices.Clone(s.flags), "user", "promote", name)...)
	cmd.Env = s.cmd.Env
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("promote: %v: %s", err, out)
	}
}

// step is one command, at one of three nodes, and what it must say.
type step struct {
	node int
	args string // words; a quoted text is one
	code int
	says []string
}

// words parts a command line as a shell would that knows single quotes.
func words(line string) (all []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			all = append(all, part)
		} else {
			all = append(all, strings.Fields(part)...)
		}
	}
	return all
}

// typed tells which commands were run, of all that there are.
type typed map[string]bool

func (k typed) run(args []string) {
	for n := range args {
		k[strings.Join(args[:n+1], " ")] = true
	}
}

// Resolution 3: every command against three nodes, each call at another one:
// what one node did, the next shows.
func TestThreeNodes(t *testing.T) {
	t.Parallel()
	nodes := three(t)
	ada := nodes[0].register("ada")
	mallory := nodes[1].register("mallory")
	nodes[0].promote("ada")
	tapas := nodes[0].room(ada, "Tapas y charla")
	other := nodes[1].room(mallory, "Somewhere else")
	var shells []*shell // a profile is for one server, as a token is not sent elsewhere
	for _, n := range nodes {
		shells = append(shells, shellAt(t, n.url))
		shells[len(shells)-1].login("ada")
	}
	known := typed{"login": true}
	at := func(s step) result {
		args := words(s.args)
		known.run(args)
		return shells[s.node].run(args...)
	}
	nodes[2].eventually("the lobby to know both rooms", func() bool {
		out := at(step{2, "rooms list", 0, nil}).out
		return strings.Contains(out, tapas.GetSlug()) && strings.Contains(out, other.GetSlug())
	})
	tokens, err := mallory.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slug, session := other.GetSlug(), tokens.SessionID
	for _, s := range stepsOfThree(tapas.GetSlug(), slug, session) {
		r := at(s)
		if s.code != 0 {
			r.fails(t, s.code, s.says...)
			continue
		}
		says(t, r.ok(t), s.says...)
	}
	me := shells[1]
	watchesOfThree(t, me, func() { nodes[2].room(ada, "Another one") })
	known.run([]string{"rooms", "watch"})
	me.expire()
	before := me.tokens()
	says(t, at(step{1, "users show ada", 0, nil}).ok(t), "ada") // as if nothing were
	if after := me.tokens(); after.Refresh == before.Refresh {
		t.Error("the token was not refreshed")
	}
	private(t, filepath.Join(me.dir, "default.json"))
	says(t, at(step{1, "logout", 0, nil}).ok(t), "logged out")
	at(step{1, "stats", 0, nil}).fails(t, exitNoSession, "log in with")
	for _, leaf := range leaves(t) {
		if !known[strings.Join(leaf, " ")] {
			t.Errorf("%v was not run", leaf)
		}
	}
}

// stepsOfThree are what is run, of ada's room and mallory's.
func stepsOfThree(tapas, slug, session string) []step {
	return []step{
		{1, "profiles", 0, []string{"default", "ada"}},
		{1, "rooms show " + tapas, 0, []string{"Tapas y charla", "ada"}},
		{2, "users list mal", 0, []string{"mallory", "mallory@example.org"}},
		{0, "users show mallory", 0, []string{"mallory"}},
		{1, "users sessions mallory", 0, []string{"free2talk-go"}},
		{2, "online --count", 0, []string{"0"}},
		{0, "stats", 0, []string{"postgres", "redis", "near"}},
		{1, "stats -o json", 0, []string{"onlineUsers"}},
		{2, "analytics --days 1", 0, []string{"people there", "rooms opened"}},
		{0, "cache stats", 0, []string{"room", "near"}},
		{1, "cache warm", 0, []string{"2 rooms", "2 users"}},
		{2, "cache flush 'room:*'", 0, []string{"forgotten"}},
		{0, "limits show", 0, []string{"message", "strict"}},
		{1, "limits show mallory --policy message", 0, []string{"message"}},
		{2, "limits reset message mallory", 0, []string{"all places of message back"}},
		{0, "why online mallory", 0, []string{"mallory"}},
		{1, "why limited mallory --policy message", 0, []string{"20"}},
		{2, "rooms kick " + slug + " mallory -r shouting", 0, []string{"is out of"}},
		{1, "why closed " + slug, 0, []string{"sat in it"}},
		{0, "rooms close " + tapas + " -r spam", 0, []string{"is closed; 1 sat in it"}},
		{2, "why closed " + tapas, 0, []string{"administrator", "spam"}},
		{1, "users ban mallory -r insults --for 168h", 0, []string{"mallory is banned for 168h"}},
		{2, "users show mallory", 0, []string{"insults"}},
		{0, "why signed-out " + session, 0, []string{"banned"}},
		{1, "users unban mallory", 0, []string{"may come in again"}},
		{2, "users role mallory admin", 0, []string{"an administrator"}},
		{0, "users role mallory user", 0, []string{"an ordinary user"}},
		{1, "users revoke mallory", 0, []string{"0 sessions of mallory ended"}},
		{2, "audit list", 0, []string{"ban user", "set role", "close room", "mallory"}},
		{0, "audit verify", 0, []string{"entries"}},
		{1, "call CountOnline", 0, []string{"{"}},
		{2, `call GetRoom '{"slug":"` + tapas + `"}'`, 0, []string{"ROOM_STATUS_CLOSED"}},
		{0, "load --for 300ms --at-once 2", 0, []string{"p99"}},
		{1, "version", 0, []string{"f2t"}},
		{2, "completion -c bash", 0, []string{"complete"}},
		{0, "rooms show nowhere", exitNotFound, []string{"ROOM_NOT_FOUND"}},
		{1, "users ban nobody -r x", exitNotFound, []string{"USER_NOT_FOUND"}},
		{2, "users role ada user", exitUsage, []string{"SELF"}},
	}
}

// watchesOfThree follows, in a terminal, what happens elsewhere, until Ctrl-C.
func watchesOfThree(t *testing.T, me *shell, elsewhere func()) {
	t.Helper()
	p := me.terminal(nil, "stats", "--watch", "--every", "200ms")
	p.seen.has(t, "postgres")
	p.types(ctrlC)
	if code := p.ended(); code != exitDone {
		t.Errorf("stats --watch: exit %d: %s", code, p.seen.String())
	}
	p = me.terminal(nil, "rooms", "watch")
	p.seen.has(t, "rooms are open")
	elsewhere()
	p.seen.has(t, "ada opened .*Another one")
	p.types(ctrlC)
	if code := p.ended(); code != exitDone {
		t.Errorf("rooms watch: exit %d: %s", code, p.seen.String())
	}
}
