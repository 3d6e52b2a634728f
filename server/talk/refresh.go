package talk

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
)

// A refresh token is version (1 byte), key id (8), session (16), generation
// (8, big endian) and the HMAC-SHA256 (32) of these four, in base64url without
// padding. It follows from what stands in the database and the key, so it is
// stored nowhere, and a forged one is refused without asking anybody.
const (
	refreshVersion = 1
	refreshBody    = 1 + keyIDBytes + 16 + 8
	refreshBytes   = refreshBody + sha256.Size
)

var (
	refreshText   = base64.RawURLEncoding.Strict()
	refreshLength = refreshText.EncodedLen(refreshBytes)
)

// Refresh makes the refresh token of a session's generation with the key that
// signed at the time at: the same token for the same three, on every node.
func (t *Tokens) Refresh(session SessionID, generation int64, at time.Time) (string, error) {
	key, err := t.keys.signerAt(PurposeRefresh, at)
	if err != nil {
		return "", err
	}
	id, err := uuid.Parse(string(session))
	if err != nil || generation < 1 {
		return "", fmt.Errorf("refresh token: no session or generation %d", generation)
	}
	token := append(make([]byte, 0, refreshBytes), refreshVersion)
	token, err = hex.AppendDecode(token, []byte(key.id))
	if err != nil {
		return "", fmt.Errorf("refresh token: key id: %w", err)
	}
	token = append(token, id[:]...)
	token = binary.BigEndian.AppendUint64(token, uint64(generation))
	return refreshText.EncodeToString(key.mac(token)), nil
}

// ParseRefresh reads a refresh token of ours, or returns ErrRefreshInvalid. It
// asks nobody, and takes the same time wherever a MAC is wrong.
func (t *Tokens) ParseRefresh(token string) (SessionID, int64, error) {
	session, generation, ok := t.parseRefresh(token, t.clock())
	if !ok {
		t.refreshRefused.Add(1)
		return "", 0, ErrRefreshInvalid
	}
	return session, generation, nil
}

func (t *Tokens) parseRefresh(token string, now time.Time) (SessionID, int64, bool) {
	if len(token) != refreshLength {
		return "", 0, false
	}
	// The decoder skips line breaks: such a token decodes to fewer bytes.
	b, err := refreshText.DecodeString(token)
	if err != nil || len(b) != refreshBytes || b[0] != refreshVersion {
		return "", 0, false
	}
	key, ok := t.keys.verifier(PurposeRefresh, hex.EncodeToString(b[1:1+keyIDBytes]), now)
	if !ok || !hmac.Equal(key.mac(b[:refreshBody:refreshBody]), b) {
		return "", 0, false
	}
	id, generation := uuid.UUID(b[1+keyIDBytes:refreshBody-8]), binary.BigEndian.Uint64(b[refreshBody-8:])
	if generation < 1 || generation > math.MaxInt64 {
		return "", 0, false
	}
	return SessionID(id.String()), int64(generation), true
}

// mac returns body with its MAC behind it.
func (k *key) mac(body []byte) []byte {
	h := hmac.New(sha256.New, k.seed())
	h.Write(body)
	return h.Sum(body)
}
