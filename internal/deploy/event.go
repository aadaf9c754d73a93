package deploy

import (
	"context"
	"time"
)

// EventPhase tells which of an act's records one is.
type EventPhase string

// Every act has two records, decision and outcome; a change that nobody's act made
// (an account's end, something foreign on it) has one, a notice.
const (
	PhaseDecision EventPhase = "decision"
	PhaseOutcome  EventPhase = "outcome"
	PhaseNotice   EventPhase = "notice"
)

// ActMoveClaim is what the two records of a claim's change of state are of: by a human,
// by the agent that takes it back, or by time. No policy is asked about it.
const ActMoveClaim = "claim"

// What a notice can be of.
const (
	NoticeExpired       = "expired"        // an account's hour is over; its secrets are wiped
	NoticeForeign       = "foreign_change" // something on the account is not ours
	NoticeFreeze        = "freeze"         // an operator stopped or allowed deployments
	NoticeAccountLost   = "account_lost"   // the API does not know an account any more
	NoticeTermsAccepted = "terms_accepted"
	NoticePruned        = "pruned"      // records were kept long enough; Data "indexes" names them
	NoticeLogs          = "worker_logs" // what a Worker said is kept; Data says how many lines, never which
	NoticeApproval      = "approval"    // a human decided about an act that a policy asks about
	// At the door of the console: an operator printed a link, a human logged in or added a
	// passkey, somebody tried in vain.
	NoticeLoginLink     = "login_link"
	NoticeLogin         = "login"
	NoticePasskey       = "passkey"
	NoticeAccessRefused = "access_refused"
)

// Event is one record of the audit log. It never holds a secret. Empty members are
// left out of its JSON, which is also the form of the export.
type Event struct {
	// ActID joins the records of one act.
	ActID string     `json:"act_id"`
	Phase EventPhase `json:"phase"`
	At    time.Time  `json:"at"`
	// Act is an Act, or of a notice, its kind.
	Act string `json:"act"`

	Principal     string            `json:"principal,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	ClaimedLabels map[string]string `json:"claimed_labels,omitempty"`
	Client        string            `json:"client,omitempty"`
	Door          string            `json:"door,omitempty"`
	// TraceID is the trace that the call belongs to (W3C trace context), 32 hex digits.
	TraceID string `json:"trace_id,omitempty"`

	Target    string `json:"target,omitempty"`
	SessionID string `json:"session_id,omitempty"`
	// SessionPrincipal and SessionLabels are whose the session is, where that is not who
	// acts: an operator, or the same caller under other labels.
	SessionPrincipal string            `json:"session_principal,omitempty"`
	SessionLabels    map[string]string `json:"session_labels,omitempty"`

	AccountID    string `json:"account_id,omitempty"`
	AccountName  string `json:"account_name,omitempty"`
	Worker       string `json:"worker,omitempty"`
	URL          string `json:"url,omitempty"`
	BundleID     string `json:"bundle_id,omitempty"`
	Digest       string `json:"digest,omitempty"` // SHA-256 of the artifact, or of what a claim adopts
	DeploymentID string `json:"deployment_id,omitempty"`
	VersionID    string `json:"version_id,omitempty"`
	ClaimID      string `json:"claim_id,omitempty"`

	// Verdict and Rules are the policy's, in the decision.
	Verdict  Verdict   `json:"verdict,omitempty"`
	Rules    []Reason  `json:"rules,omitempty"`
	Findings []Finding `json:"findings,omitempty"`
	// Outcome is "ok" or an error code, in the outcome.
	Outcome string `json:"outcome,omitempty"`
	// Detail is a sentence; Data are further plain facts.
	Detail string            `json:"detail,omitempty"`
	Data   map[string]string `json:"data,omitempty"`

	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	DurationMS int64     `json:"duration_ms,omitempty"`
}

// Record is the audit log. Append is durable when it returns; an act whose decision
// can't be recorded is not done. It is safe for concurrent use, also by several
// processes, and never stores what the Redactor knows: the Service strips it before.
type Record interface {
	Append(ctx context.Context, e Event) error
}
