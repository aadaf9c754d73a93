package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/server"
)

// A protocol session (2024-11-05 to 2025-11-25) is a convenience of the transport: it
// carries what a client said of itself, and nothing of ours depends on it. Its id says by
// itself when it was made and for whom, so that every replica takes it, none has to
// remember it, and it is of no use to another principal. It authenticates nobody.
const (
	sessionPrefix = "mcp-session-"
	sessionLife   = 24 * time.Hour // then a client initializes anew
	maxEnded      = 1 << 16        // ended ids that are remembered
	idTime        = 4
	idRandom      = 16
	idBound       = 16
)

// sessionIDs makes and checks the ids, and remembers the ended ones: mcp-go's own keeper
// of ids that work on any replica answers 200 for them.
type sessionIDs struct {
	now func() time.Time

	mu    sync.Mutex
	ended map[string]time.Time // until when its life would have lasted
}

func newSessionIDs(now func() time.Time) *sessionIDs {
	return &sessionIDs{now: now, ended: map[string]time.Time{}}
}

func (s *sessionIDs) make(principal string) string {
	var raw [idTime + idRandom + idBound]byte
	binary.BigEndian.PutUint32(raw[:idTime], uint32(s.now().Unix())) //nolint:gosec // until 2106
	_, _ = rand.Read(raw[idTime : idTime+idRandom])                  // it never fails
	copy(raw[idTime+idRandom:], bound(raw[:idTime+idRandom], principal))
	return sessionPrefix + base64.RawURLEncoding.EncodeToString(raw[:])
}

// bound ties an id to its principal.
func bound(name []byte, principal string) []byte {
	sum := sha256.Sum256(append(append([]byte("hourglass session\x00"), name...), principal...))
	return sum[:idBound]
}

var errSession = errors.New("there is no such session")

// check tells whether principal may use the id. Another's, an ended, an old and a made-up
// one are all the same to it.
func (s *sessionIDs) check(principal, id string) error {
	made, err := madeAt(principal, id)
	if err != nil {
		return err
	}
	if now := s.now(); now.Sub(made) > sessionLife || made.Sub(now) > time.Hour {
		return errSession
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, gone := s.ended[id]; gone {
		return errSession
	}
	return nil
}

func madeAt(principal, id string) (time.Time, error) {
	if len(id) <= len(sessionPrefix) || id[:len(sessionPrefix)] != sessionPrefix {
		return time.Time{}, errSession
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(id[len(sessionPrefix):])
	if err != nil || len(raw) != idTime+idRandom+idBound {
		return time.Time{}, errSession
	}
	name := raw[:idTime+idRandom]
	if subtle.ConstantTimeCompare(raw[len(name):], bound(name, principal)) != 1 {
		return time.Time{}, errSession
	}
	return time.Unix(int64(binary.BigEndian.Uint32(raw[:idTime])), 0), nil
}

// end makes the id one that is refused from now on, by this replica.
func (s *sessionIDs) end(principal, id string) {
	made, err := madeAt(principal, id)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ended) >= maxEnded {
		s.makeRoom()
	}
	s.ended[id] = made.Add(sessionLife)
}

// makeRoom forgets the ids that are over anyway, and where that is not enough, any.
func (s *sessionIDs) makeRoom() {
	now := s.now()
	for id, until := range s.ended {
		if now.After(until) {
			delete(s.ended, id)
		}
	}
	for id := range s.ended {
		if len(s.ended) < maxEnded {
			return
		}
		delete(s.ended, id)
	}
}

// ResolveSessionIdManager gives mcp-go the ids of one request's principal. Its sweeper of
// idle sessions has no request.
func (s *sessionIDs) ResolveSessionIdManager(r *http.Request) server.SessionIdManager { //nolint:revive // mcp-go names it
	if r == nil {
		return forgotten{}
	}
	return &callerIDs{ids: s, principal: CallerFrom(r.Context()).Principal}
}

type callerIDs struct {
	ids       *sessionIDs
	principal string
}

// Generate makes an id.
func (c *callerIDs) Generate() string { return c.ids.make(c.principal) }

// Validate checks one.
func (c *callerIDs) Validate(id string) (bool, error) { return false, c.ids.check(c.principal, id) }

// Terminate ends one.
func (c *callerIDs) Terminate(id string) (bool, error) {
	c.ids.end(c.principal, id)
	return false, nil
}

// forgotten is for sessions that idled out: what was kept of one is dropped, and its id
// stays good, because on another replica the client may not have been idle.
type forgotten struct{}

func (forgotten) Generate() string               { return "" }
func (forgotten) Validate(string) (bool, error)  { return false, errSession }
func (forgotten) Terminate(string) (bool, error) { return false, nil }
