package cache

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"
)

// An entry is `tag · token · payload`. The token names the lease that the
// entry was filled under: when it was taken, in ms, by a node of which history of the
// database, and six random bytes. The payload of a value is
// `format · kind · encoded`, so that a value of another shape, or under the
// wrong key, is a miss and no wrong answer. So is what was loaded from another history.
const (
	tagLease  = 'L' // somebody loads it
	tagValue  = 'V'
	tagAbsent = 'N' // there is no such thing

	tokenSize    = 16
	timeSize     = 6 // of the token
	historySize  = 4 // of the token, after the time
	formatNow    = 1 // raised when the encoding of any kind changes its meaning
	entryHead    = 1 + tokenSize
	valueHead    = entryHead + 2
	entryMark    = 1 + timeSize + historySize // bytes that tell whether it is a value, and of which history
	leaseSize    = entryHead
	mostLeaseLag = 60 * time.Millisecond // how long others wait for who has the lease
)

var (
	errMalformed = errors.New("cache: an entry that cannot be read")
	errPanicked  = errors.New("cache: a load panicked")
)

// historyTag tells the histories of the database apart: it is a hash of the id of
// one, see [Config.History].
type historyTag string

func tagOf(id string) historyTag {
	sum := sha256.Sum256([]byte(id))
	return historyTag(sum[:historySize])
}

// newLease makes a lease that is like no other.
func newLease(of historyTag) string {
	var b [leaseSize]byte
	b[0] = tagLease
	binary.BigEndian.PutUint64(b[1:], uint64(time.Now().UnixMilli())<<16)
	n := 1 + timeSize + copy(b[1+timeSize:], of)
	_, _ = rand.Read(b[n:]) // never fails
	return string(b[:])
}

// has reports whether an entry, or the head of one, is of that history.
func (h historyTag) has(entry string) bool {
	return len(entry) >= entryMark && entry[1+timeSize:entryMark] == string(h)
}

// filled is the entry that a lease becomes.
func filled(lease string, kind byte, payload []byte) []byte {
	b := make([]byte, 0, valueHead+len(payload))
	b = append(b, tagValue)
	b = append(b, lease[1:]...)
	b = append(b, formatNow, kind)
	return append(b, payload...)
}

func absent(lease string) []byte {
	return append([]byte{tagAbsent}, lease[1:]...)
}

// entryTime is when the load of an entry began, by the clock of who loaded it.
func entryTime(entry string) time.Time {
	var b [8]byte
	copy(b[2:], entry[1:1+timeSize])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b[:])))
}

// age is how long ago the load of an entry began, by the clocks of two nodes.
func age(loaded, now time.Time) time.Duration { return max(0, now.Sub(loaded)) }

// isLease reports whether an entry says that somebody loads it.
func isLease(entry string) bool { return len(entry) == leaseSize && entry[0] == tagLease }

// split returns an entry's tag and, of a value, what a codec wrote.
func split(entry string, kind byte) (tag byte, payload string, err error) {
	switch {
	case len(entry) < entryHead:
		return 0, "", errMalformed
	case entry[0] == tagLease, entry[0] == tagAbsent:
		if len(entry) != entryHead {
			return 0, "", errMalformed
		}
		return entry[0], "", nil
	case entry[0] == tagValue && len(entry) >= valueHead && entry[entryHead] == formatNow && entry[entryHead+1] == kind:
		return tagValue, entry[valueHead:], nil
	default:
		return 0, "", errMalformed
	}
}
