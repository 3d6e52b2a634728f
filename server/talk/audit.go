package talk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"time"
)

// AuditEntry is one thing that an administrator did. Entries make a chain:
// each has a hash over itself and the hash of the one before, so that none can
// be changed, removed from the middle or put in between unseen. What the chain
// cannot show by itself is that its newest entries were cut off: for that,
// somebody must remember the last hash.
type AuditEntry struct {
	ID     int64 // the first is 1, and none is left out; the store gives it
	At     time.Time
	Actor  string // a user's id, or what AtTheShell makes of somebody
	Action string // such as "ban_user"
	Target string // to whom or what
	Detail string // the rest: a JSON object
	Prev   []byte // the hash of the entry before; empty for the first
	Hash   []byte
}

// AtTheShell is the actor of what somebody did at the server's own shell, where
// they are who the operating system says.
func AtTheShell(who string) string { return "shell:" + who }

// Seal gives the entry its place after one with the id and the hash of last.
// It is for stores, under a lock that all who write entries take.
func (e *AuditEntry) Seal(last int64, prev []byte) {
	e.ID, e.Prev = last+1, prev
	e.Hash = e.sum()
}

// sum is SHA-256 over the hash before, the id and the time in microseconds as
// big-endian 64 bits, and the texts, each after its length.
func (e *AuditEntry) sum() []byte {
	h := sha256.New()
	text := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	text(e.Prev)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(e.ID)))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(e.At.UnixMicro())))
	for _, s := range []string{e.Actor, e.Action, e.Target, e.Detail} {
		text([]byte(s))
	}
	return h.Sum(nil)
}

// follows reports whether e is what was written after an entry with that id
// and hash.
func (e *AuditEntry) follows(last int64, prev []byte) bool {
	return e.ID == last+1 && bytes.Equal(e.Prev, prev) && bytes.Equal(e.Hash, e.sum())
}

// Audit has the store write an entry with the change, all or nothing. detail
// must be what JSON can say: nil is an empty object.
func (s *State) Audit(actor, action, target string, detail map[string]any) error {
	if detail == nil {
		detail = map[string]any{}
	}
	text, err := json.Marshal(detail) // its keys are sorted
	if err != nil {
		return err
	}
	s.audit = append(s.audit, AuditEntry{At: s.Now, Actor: actor, Action: action, Target: target, Detail: string(text)})
	return nil
}

// AuditCheck is what came of reading the whole log.
type AuditCheck struct {
	Entries int64 // that were read
	Broken  int64 // the first that is not what was written, or follows a gap; 0: none
}

const auditBatch = 1000

// VerifyAudit reads the whole log, oldest first, and follows the chain.
func (s *Admin) VerifyAudit(ctx context.Context) (AuditCheck, error) {
	var check AuditCheck
	var last int64
	var prev []byte
	for {
		entries, err := s.Store.AuditAfter(ctx, last, auditBatch)
		if err != nil || len(entries) == 0 {
			return check, err
		}
		for i := range entries {
			e := &entries[i]
			check.Entries++
			if check.Broken == 0 && !e.follows(last, prev) {
				check.Broken = e.ID
			}
			last, prev = e.ID, e.Hash
		}
	}
}

// AuditLog lists entries, the newest first, from below an id on; 0: from the
// newest.
func (s *Admin) AuditLog(ctx context.Context, below int64, size int) ([]AuditEntry, error) {
	return s.Store.AuditBelow(ctx, below, size)
}
