package deploy

import (
	"context"
	"slices"
	"time"
)

// ConsoleUser is a human as the console knows them after a login.
type ConsoleUser struct {
	// ID tells humans apart: "link:ann" for one-time links, "oidc:" and the subject for
	// the issuer's.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Owner is whose credentials theirs are, for four eyes.
	Owner  string  `json:"owner"`
	Scopes []Scope `json:"scopes"`
}

// May tells whether the human's login allows s.
func (u *ConsoleUser) May(s Scope) bool { return slices.Contains(u.Scopes, s) }

// ConsoleSession is one login that is open. Hash is SHA-256 of its cookie, in hex.
type ConsoleSession struct {
	Hash      string
	User      ConsoleUser
	CreatedAt time.Time
	SeenAt    time.Time
	ExpiresAt time.Time
}

// Passkey is a human's public key credential; Credential is in the form of the room
// that verifies it.
type Passkey struct {
	ID         string
	UserID     string
	Credential []byte
	CreatedAt  time.Time
}

// Logins is the part of a store that keeps who is logged in to the console. All who
// share the store share the logins.
type Logins interface {
	// SaveOnce keeps something under the hash of a secret, to be taken once. Kind keeps
	// what is made for one purpose from serving another.
	SaveOnce(ctx context.Context, kind, hash string, body []byte, expires time.Time) error
	// TakeOnce takes it away and gives it; nil: it is not there, was taken, or is over.
	TakeOnce(ctx context.Context, kind, hash string, now time.Time) ([]byte, error)
	SaveConsoleSession(ctx context.Context, s ConsoleSession) error
	// ConsoleSession finds one by its hash; nil: none.
	ConsoleSession(ctx context.Context, hash string) (*ConsoleSession, error)
	// SeenConsoleSession notes that it was used.
	SeenConsoleSession(ctx context.Context, hash string, at time.Time) error
	EndConsoleSession(ctx context.Context, hash string) error
	// SavePasskey inserts one, or replaces the one with its ID if it is the same human's.
	SavePasskey(ctx context.Context, p Passkey) error
	Passkeys(ctx context.Context, userID string) ([]Passkey, error)
}
