package deploy

import (
	"crypto/rand"
	"strings"
	"time"
)

// Account is a temporary Cloudflare account.
type Account struct {
	ID        string
	SessionID string
	Name      string
	Subdomain string
	// Target is the API (and, for an embedded sandbox, the instance) that the account
	// lives on. It is reused only there.
	Target   string
	Token    Secret
	ClaimURL Secret
	// SealedTo are the public keys of the humans that ClaimURL is sealed to; empty: it is a
	// link as the API gave it.
	SealedTo       []string
	CreatedAt      time.Time
	ExpiresAt      time.Time
	ClaimExpiresAt time.Time
	// Skew is the API's clock minus ours when the account was made, so that a wrong
	// clock here neither shortens nor lengthens the hour.
	Skew time.Duration
	// State is why the account is not used any more; empty: it is in use.
	State AccountState
}

// AccountState says why an account is not in use any more.
type AccountState string

// The states of an account.
const (
	AccountCurrent AccountState = ""        // the session's one account in use
	AccountRetired AccountState = "retired" // replaced by fresh: true; never used again
	AccountExpired AccountState = "expired" // its hour is over
	AccountClaimed AccountState = "claimed" // approved for adoption by a human
	AccountLost    AccountState = "lost"    // the API does not know it any more
	AccountDeleted AccountState = "deleted" // everything on it was taken down
)

// Usable tells whether the account may still be used at now for something that
// takes up to margin.
func (a *Account) Usable(now time.Time, margin time.Duration) bool {
	return a != nil && a.State == AccountCurrent && !a.Token.Empty() && a.ExpiresAt.Sub(now) > margin
}

// Phase is how far an account's hour has run, in one word for an agent.
type Phase string

// The phases.
const (
	PhaseLive     Phase = "live"
	PhaseExpiring Phase = "expiring" // under ten minutes left
	PhaseExpired  Phase = "expired"
	PhaseClosed   Phase = "closed" // handed to a human, or retired
)

// expiringFrom is when a result starts to warn.
const expiringFrom = 10 * time.Minute

// Phase tells the account's phase at now.
func (a *Account) Phase(now time.Time) Phase {
	switch {
	case a.State == AccountClaimed || a.State == AccountRetired || a.State == AccountDeleted:
		return PhaseClosed
	case a.State != AccountCurrent || !now.Before(a.ExpiresAt):
		return PhaseExpired
	case a.ExpiresAt.Sub(now) < expiringFrom:
		return PhaseExpiring
	}
	return PhaseLive
}

// Session is what one agent run owns: one current temporary account, its
// deployments and its labels. Its ID is an opaque random handle, bound to its
// Principal; it is a name, never a credential.
type Session struct {
	ID        string
	Principal string
	// Scope narrows which session is "current" for a caller that names none: on
	// stdio it is the server process.
	Scope string
	// RunID and JobID are what the model says of itself: recorded, never trusted.
	RunID, JobID string
	// Labels come from the operator or the credential: trusted.
	Labels    map[string]string
	Client    string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Deployment is one Artifact uploaded under one Worker name to one Account.
type Deployment struct {
	ID        string
	SessionID string
	AccountID string
	Worker    string
	// Host is name.subdomain.workers.dev; empty: whether it was uploaded is not known,
	// or its route is not enabled.
	Host      string
	URL       string // where a client on this machine reaches it
	VersionID string
	BundleID  string
	Digest    string
	CreatedAt time.Time
	// Check is the last look at what it serves.
	Check   *Check
	Serving string
}

// gone tells whether it serves nothing for good: it never came to be, or was taken down.
func (d *Deployment) gone() bool { return d.Serving == ServingFailed || d.Serving == ServingDeleted }

// confirmed tells whether its version was seen to serve.
func (d *Deployment) confirmed() bool { return d.Check != nil && d.Check.Version == VersionConfirmed }

// Check is one look at what a deployment serves.
type Check struct {
	Path        string    `json:"path"`
	Status      int       `json:"status"`
	OK          bool      `json:"ok"`
	LatencyMS   float64   `json:"latency_ms"`
	BodyExcerpt string    `json:"body_excerpt"`
	Version     string    `json:"version"` // VersionConfirmed or VersionUnconfirmed
	Evidence    string    `json:"evidence,omitempty"`
	Error       string    `json:"error,omitempty"`
	At          string    `json:"at,omitempty"`
	ProbedAt    time.Time `json:"probed_at"`
}

// What a check can say of the version that answered.
const (
	VersionConfirmed   = "confirmed"
	VersionUnconfirmed = "unconfirmed"
)

// What a deployment's Serving can be.
const (
	ServingYes    = "yes"
	ServingNotYet = "not_yet"
	ServingFailed = "failed" // it never came to be: the API has no such version
	// ServingDeleted: it was taken down.
	ServingDeleted = "deleted"
)

// Acceptance is the record that a human accepted Cloudflare's terms.
type Acceptance struct {
	Principal string
	By        string // "setup", "flag" or "elicitation"
	Text      string
	At        time.Time
}

// NewID makes a handle: a prefix and 26 random characters (130 bits).
func NewID(prefix string) string { return prefix + "_" + strings.ToLower(rand.Text()) }
