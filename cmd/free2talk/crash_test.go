package main

import (
	"bytes"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// child starts the program on what w stands on, but for its database's address.
func (w *world) child(t *testing.T, databaseURL string) *process {
	w.Helper()
	env := []string{
		"DATABASE_URL=" + databaseURL, "REDIS_URL=" + w.settings.RedisURL,
		"FREE2TALK_REDIS_PREFIX=" + w.settings.RedisPrefix, "FREE2TALK_SECRET=" + string(w.settings.Secret),
	}
	return launch(t, env, "--listen=127.0.0.1:0", noLimits).serving()
}

// proxy stands before a server, and can lose what that answers.
type proxy struct {
	listener net.Listener

	mu       sync.Mutex
	upstream string
	loses    []byte // what an answer must be to, to be lost; nil: none is
	lost     int
	conns    map[net.Conn]bool
}

// newProxy passes on what comes to upstream, a host:port.
func newProxy(t testing.TB, upstream string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, upstream: upstream, conns: map[net.Conn]bool{}}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			down, err := listener.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { p.pass(down) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
		passing.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// lose has whoever says text from now on never hear of an answer.
func (p *proxy) lose(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loses = []byte(text)
}

// lead breaks all connections, and has those that come now end at another server.
func (p *proxy) lead(upstream string) {
	p.mu.Lock()
	p.upstream = upstream
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) leads() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.upstream
}

// cut breaks all connections, and loses nothing any more.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loses = nil
	for conn := range p.conns {
		_ = conn.Close()
	}
}

// keep remembers the connections of one who passes; the answer forgets them.
func (p *proxy) keep(conns ...net.Conn) (forget func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		p.conns[conn] = true
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, conn := range conns {
			_ = conn.Close()
			delete(p.conns, conn)
		}
	}
}

func (p *proxy) pass(down net.Conn) {
	up, err := net.Dial("tcp", p.leads())
	if err != nil {
		_ = down.Close()
		return
	}
	defer p.keep(down, up)()
	deaf := make(chan struct{}) // closed once answers are lost
	var answers sync.WaitGroup
	answers.Go(func() {
		relay(up, down, func([]byte) bool {
			select {
			case <-deaf:
				return false
			default:
				return true
			}
		})
		select {
		case <-deaf: // the connection stays, and is silent
		default:
			_ = down.Close()
		}
	})
	relay(down, up, func(said []byte) bool {
		if p.isLost(said) {
			close(deaf)
		}
		return true
	})
	_ = up.Close()
	answers.Wait()
}

func (p *proxy) isLost(said []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loses == nil || !bytes.Contains(said, p.loses) {
		return false
	}
	p.loses = nil
	p.lost++
	return true
}

// relay passes on what may pass; what may not is swallowed.
func relay(from, to net.Conn, may func([]byte) bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && may(buffer[:n]) {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// theRotation is how the statement begins that changes a refresh token.
const theRotation = "SET generation = generation + 1"

// rotated waits until the database has the successor of p's token.
func (w *world) rotated(n *testNode, session talk.SessionID) {
	w.Helper()
	w.eventually(10*time.Second, "the rotation is committed", func() bool {
		s, err := n.store.Session(w.Context(), session)
		return err == nil && s.Generation == 2
	})
}

// TestCrash loses the answer to a refresh in each place where it can be lost.
// The client repeats with the old token and gets the same tokens.
func TestCrash(t *testing.T) {
	t.Parallel()
	t.Run("checklist_38_the_server_is_killed_between_commit_and_answer", serverKilled)
	t.Run("checklist_38_the_way_to_the_client_breaks", clientCut)
	t.Run("checklist_38_the_way_to_the_database_breaks", databaseCut)
}

// serverKilled has the database's answer held back until the server is gone.
func serverKilled(t *testing.T) {
	w := newWorld(t, onPostgres, 1, func(s *Settings) { s.Secret = bytes.TrimSpace(s.Secret) }) // as the program reads it
	p := w.person()
	between := newProxy(t, hostOf(w.settings.DatabaseURL))
	c := w.child(t, strings.Replace(w.settings.DatabaseURL, hostOf(w.settings.DatabaseURL), between.addr(), 1))
	between.lose(theRotation)
	failed := make(chan error, 1)
	go func() { failed <- w.unanswered(c.url, p.grant.RefreshToken) }()
	w.rotated(w.nodes[0], p.grant.SessionID)
	_ = c.cmd.Process.Kill()
	<-c.done
	if err := <-failed; err == nil {
		t.Fatal("it was answered")
	}
	w.repeats(t, p.grant, w.nodes[0], w.child(t, w.settings.DatabaseURL).testNode)
}

// clientCut has the server's answer held back.
func clientCut(t *testing.T) {
	w := newWorld(t, onPostgres, 2)
	p := w.person()
	between := newProxy(t, strings.TrimPrefix(w.nodes[0].url, "http://"))
	between.lose("AuthService/Refresh")
	failed := make(chan error, 1)
	go func() { failed <- w.unanswered("http://"+between.addr(), p.grant.RefreshToken) }()
	w.rotated(w.nodes[1], p.grant.SessionID)
	between.cut()
	if err := <-failed; err == nil {
		t.Fatal("it was answered")
	}
	w.repeats(t, p.grant, w.nodes...)
}

// databaseCut has the server itself not know what was committed.
func databaseCut(t *testing.T) {
	w := newWorld(t, onPostgres, 1)
	p := w.person()
	between := newProxy(t, hostOf(w.settings.DatabaseURL))
	w.settings.DatabaseURL = strings.Replace(w.settings.DatabaseURL, hostOf(w.settings.DatabaseURL), between.addr(), 1)
	n := w.start()
	between.lose(theRotation)
	answered := make(chan spoken, 1)
	go func() { answered <- w.renew(n, p.grant.RefreshToken) }()
	w.rotated(w.nodes[0], p.grant.SessionID)
	between.cut()
	if a := <-answered; a.status != http.StatusOK {
		a.refusedAs(t, "a lost commit", "unavailable", "DATABASE_UNAVAILABLE")
		a.saysWhen(t, "a lost commit")
	}
	w.repeats(t, p.grant, w.nodes...)
}

// hostOf is the host:port of a postgres:// URL.
func hostOf(url string) string {
	_, host, _ := strings.Cut(url, "://")
	if _, after, found := strings.Cut(host, "@"); found {
		host = after
	}
	host, _, _ = strings.Cut(host, "/")
	return host
}

// unanswered refreshes at url, and returns why no answer came.
func (w *world) unanswered(url, token string) error {
	reply, err := w.http.Post(url+"/free2talk.v1.AuthService/Refresh", "application/json", strings.NewReader(spelled(object{"refreshToken": token})))
	if err == nil {
		_ = reply.Body.Close()
	}
	return err
}

// repeats shows the old token again: every node gives the successor, once and
// for all, and it works.
func (w *world) repeats(t *testing.T, g talk.Grant, nodes ...*testNode) {
	t.Helper()
	first := w.renew(nodes[0], g.RefreshToken).pair(t)
	for _, n := range nodes {
		if again := w.renew(n, g.RefreshToken).pair(t); again != first {
			t.Errorf("another successor: %+v, %+v", again, first)
		}
		if a := w.me(n, first.AccessToken); a.status != http.StatusOK {
			t.Errorf("it does not work: %s", a.body)
		}
	}
	session, err := w.nodes[0].store.Session(t.Context(), g.SessionID)
	if err != nil || session.Generation != 2 || !session.RevokedAt.IsZero() {
		t.Errorf("%+v, %v", session, err)
	}
	w.renew(nodes[0], first.RefreshToken).pair(t)
}
