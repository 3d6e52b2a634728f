package talk

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sync/semaphore"
)

// argon holds the parameters of one argon2id hash: memory in KiB, passes,
// lanes, and the lengths of salt and key in bytes.
type argon struct {
	memory, time uint32
	lanes        uint8
	salt, key    int
}

// Today's parameters (OWASP's for argon2id). A password stored with others is
// hashed again at its next log-in.
var today = argon{memory: 19 << 10, time: 2, lanes: 1, salt: 16, key: 32}

// What a stored hash may ask for at most: a row that was tampered with must
// not take the machine's memory.
const (
	mostMemory = 256 << 10 // KiB
	mostTime   = 16
	mostLanes  = 16
	mostBytes  = 64 // of salt or key
)

// HashQueue is how many hashes wait for their turn at the gate, at most.
const HashQueue = 256

// Passwords hashes and verifies passwords behind one gate: as many hashes at a
// time as there are processors, the others in the order in which they came.
// Without it 256 log-ins at once take 8.5 GiB and a fifth of the throughput.
// The gate's memory is 19 MiB a processor and what the collector has not yet
// freed: about as much again.
type Passwords struct {
	gate   *semaphore.Weighted
	size   int64
	nobody string // the hash of no password, with today's parameters
	hash   func(a argon, password string, salt []byte) []byte

	inside, running, done, refused atomic.Int64
}

// NewPasswords opens a gate for so many hashes at a time. Zero means GOMAXPROCS.
func NewPasswords(hashes int) *Passwords {
	if hashes == 0 {
		hashes = processors
	}
	// A random key is the hash of no password that anybody will find.
	nobody := today.encode(random(today.salt), random(today.key))
	return &Passwords{
		gate: semaphore.NewWeighted(int64(hashes)), size: int64(hashes),
		nobody: nobody, hash: argon2idApart,
	}
}

// PasswordStats is what a gate has done since it was opened, and what it does now.
type PasswordStats struct {
	Done    int64 // hashes that were computed
	Refused int64 // calls that found the queue full, or whose turn did not come in time
	Queued  int64 // calls that wait now
	Running int64 // hashes that are computed now
}

// Stats reads the gate's counters.
func (p *Passwords) Stats() PasswordStats {
	running := p.running.Load()
	return PasswordStats{
		Done: p.done.Load(), Refused: p.refused.Load(),
		Queued: max(0, p.inside.Load()-running), Running: running,
	}
}

// Hash returns a new PHC string for password. It returns ErrBusy at once where
// the queue is full, ErrBusy where its turn has not come while the call still has
// time to use it, and the context's error where that ends before: then no hash is
// computed.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	salt := random(today.salt)
	key, err := p.compute(ctx, today, password, salt)
	if err != nil {
		return "", err
	}
	return today.encode(salt, key), nil
}

// Verify reports whether phc was made of password and, where it was, whether
// it was made with other parameters than today's. It fails like [Passwords.Hash],
// and where phc is no PHC string of argon2id.
func (p *Passwords) Verify(ctx context.Context, phc, password string) (ok, rehash bool, err error) {
	params, salt, want, err := decodeHash(phc)
	if err != nil {
		return false, false, err
	}
	got, err := p.compute(ctx, params, password, salt)
	if err != nil {
		return false, false, err
	}
	ok = subtle.ConstantTimeCompare(got, want) == 1
	return ok, ok && params != today, nil
}

// VerifyNobody does the work of [Passwords.Verify] for an account that does
// not exist, so that the time of an answer does not tell whether it does.
func (p *Passwords) VerifyNobody(ctx context.Context, password string) error {
	_, _, err := p.Verify(ctx, p.nobody, password)
	return err
}

// compute passes the gate and hashes.
func (p *Passwords) compute(ctx context.Context, a argon, password string, salt []byte) ([]byte, error) {
	defer p.inside.Add(-1)
	if p.inside.Add(1) > p.size+HashQueue {
		p.refused.Add(1)
		return nil, ErrBusy
	}
	if err := p.turn(ctx); err != nil {
		return nil, err
	}
	defer p.gate.Release(1)
	p.running.Add(1)
	defer p.running.Add(-1)
	p.done.Add(1)
	return p.hash(a, password, salt), nil
}

// turn waits for a place at the gate. Places come in order.
func (p *Passwords) turn(ctx context.Context) error {
	if patience, ok := Patience(ctx); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, patience, ErrBusy)
		defer cancel()
	}
	if p.gate.Acquire(ctx, 1) == nil { // none for a context that has ended
		return nil
	}
	err := context.Cause(ctx)
	if errors.Is(err, ErrBusy) {
		p.refused.Add(1)
	}
	return err
}

func argon2idApart(a argon, password string, salt []byte) []byte {
	return apart(func() []byte { return argon2id(a, password, salt) })
}

func argon2id(a argon, password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, a.time, a.memory, a.lanes, uint32(a.key))
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: it ends the process instead
	return b
}

// encode writes a hash in the PHC string format.
func (a argon) encode(salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		a.memory, a.time, a.lanes, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// decodeHash reads a hash in the PHC string format, in the one spelling that
// encode gives it.
func decodeHash(phc string) (a argon, salt, key []byte, err error) {
	// The error never quotes the row: it is a secret.
	wrong := errors.New("password hash: not a PHC string of argon2id within bounds")
	parts := strings.Split(phc, "$")
	if len(parts) != 6 {
		return a, nil, nil, wrong
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &a.memory, &a.time, &a.lanes); err != nil {
		return a, nil, nil, wrong
	}
	strict := base64.RawStdEncoding.Strict()
	salt, saltErr := strict.DecodeString(parts[4])
	key, keyErr := strict.DecodeString(parts[5])
	a.salt, a.key = len(salt), len(key)
	if saltErr != nil || keyErr != nil || !a.within() || a.encode(salt, key) != phc {
		return a, nil, nil, wrong
	}
	return a, salt, key, nil
}

func (a argon) within() bool {
	return a.memory >= 8*uint32(a.lanes) && a.memory <= mostMemory &&
		a.time >= 1 && a.time <= mostTime && a.lanes >= 1 && a.lanes <= mostLanes &&
		a.salt >= 8 && a.salt <= mostBytes && a.key >= 16 && a.key <= mostBytes
}
