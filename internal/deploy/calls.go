package deploy

import "time"

// Caller is who calls, as the door knows it.
type Caller struct {
	// Principal is the local user on stdio, the verified token subject on HTTP.
	Principal string
	// Scope is which session counts as current when none is named: on stdio the
	// server process.
	Scope string
	// Labels come from the operator or the credential and are trusted.
	Labels map[string]string
	// Client is what the MCP client calls itself, e.g. "claude-code 2.1"; untrusted.
	Client string
	// Door is how the call came: DoorStdio, DoorHTTP or DoorCommand.
	Door string
	// TraceID is the trace that the call belongs to (W3C), 32 hex digits; "" for none.
	TraceID string
	// Scopes are what the credential allows; nil is the local user, who may do everything.
	Scopes []Scope
}

// Scope is one thing that a credential may allow.
type Scope string

// The scopes. ScopeDeploy includes ScopeRead: who deploys sees what came of it. What the
// operator switched off (read-only) no scope switches on.
const (
	ScopeRead    Scope = "read"    // bundle, status
	ScopeDeploy  Scope = "deploy"  // deploy_temporary, request_claim
	ScopeApprove Scope = "approve" // decide about claims
	ScopeOperate Scope = "operate" // see and end what others have live
)

// Scopes lists every scope there is.
func Scopes() []Scope { return []Scope{ScopeRead, ScopeDeploy, ScopeApprove, ScopeOperate} }

// May tells whether the caller's credential allows s.
func (c Caller) May(s Scope) bool {
	if c.Scopes == nil {
		return true
	}
	for _, have := range c.Scopes {
		if have == s || have == ScopeDeploy && s == ScopeRead {
			return true
		}
	}
	return false
}

// The doors.
const (
	DoorStdio   = "stdio"
	DoorHTTP    = "http"
	DoorCommand = "command"
	// DoorConsole: a human in the console.
	DoorConsole = "console"
)

// Expect is what the caller wants the live Worker to answer.
type Expect struct {
	Path         string `json:"path,omitempty"`   // default "/"
	Status       int    `json:"status,omitempty"` // 0: any below 400
	BodyContains string `json:"body_contains,omitempty"`
}

// DeployRequest asks for one deployment. Exactly one of Source and BundleID is given.
type DeployRequest struct {
	Source    Source
	BundleID  string
	SessionID string // empty: the caller's current session, else a new one
	Fresh     bool   // retire the current account and make another
	RunID     string
	JobID     string
	// Claimed is what the model says of itself (run_id, job_id) where trusted labels took
	// the place of it in RunID and JobID; nil: it said what they say.
	Claimed map[string]string
	Expect  *Expect
	// DiscardOnFailedCheck takes the deployment down again when its check fails.
	DiscardOnFailedCheck bool `json:",omitempty"` // so that older idempotency keys keep their digests
	// IdempotencyKey makes a repeated call return the first one's result.
	IdempotencyKey string
	// Progress is told each stage as it begins; may be nil. It must not block.
	Progress func(Stage)
}

// StageTime is how long a stage took.
type StageTime struct {
	Name Stage   `json:"name"`
	MS   float64 `json:"ms"`
}

// NextStep is what an agent should do now: a sentence, and where it is a tool call,
// the tool and its arguments.
type NextStep struct {
	Do   string         `json:"do"`
	Tool string         `json:"tool,omitempty"`
	Args map[string]any `json:"args,omitempty"`
}

// What an account can be to a deployment.
const (
	AccountNew    = "new"
	AccountReused = "reused"
)

// DeployResult is what a deployment came to.
type DeployResult struct {
	Phase        Phase      `json:"phase"`
	Serving      string     `json:"serving"` // ServingYes, ServingNotYet or, with Discarded, ServingDeleted
	Changed      bool       `json:"changed"`
	URL          string     `json:"url"`
	Worker       string     `json:"worker"`
	SessionID    string     `json:"session_id"`
	DeploymentID string     `json:"deployment_id"`
	VersionID    string     `json:"version_id"`
	BundleID     string     `json:"bundle_id"`
	Account      string     `json:"account"` // AccountNew or AccountReused
	ExpiresAt    time.Time  `json:"expires_at"`
	MinutesLeft  int        `json:"minutes_left"` // rounded down
	Check        *Check     `json:"check"`
	Resources    []Resource `json:"resources,omitempty"`
	// Custody says who can open the account's claim link: "sealed to KEY", or "attended".
	Custody string `json:"custody,omitempty"`
	// Discarded is set when the check failed and the deployment was to be taken down then.
	Discarded *Discarded  `json:"discarded,omitempty"`
	Warnings  []string    `json:"warnings,omitempty"`
	Next      NextStep    `json:"next"`
	Stages    []StageTime `json:"stages,omitempty"`
}

// Discarded is what was taken down of a deployment whose check failed.
type Discarded struct {
	// By is who wanted it: "the call", or the rules that require it.
	By string `json:"by"`
	// Deleted names what is gone: "worker hello", "kv_namespace hello-cache".
	Deleted []string `json:"deleted"`
	// NotUndone says what could not be taken down, or taken back, and why.
	NotUndone []string `json:"not_undone,omitempty"`
	// Earlier is the bundle that the Worker served before; it went with the Worker. "": none.
	Earlier string `json:"earlier_bundle_id,omitempty"`
}

// BundleResult is what a bundle came to.
type BundleResult struct {
	BundleID string
	Artifact *Artifact
}

// StatusRequest asks for the state of one session, or of all of the caller's.
type StatusRequest struct {
	SessionID string
}

// StatusResult is the state of the caller's sessions, newest first.
type StatusResult struct {
	Sessions []SessionStatus `json:"sessions"`
	Next     NextStep        `json:"next"`
}

// SessionStatus is the state of one session.
type SessionStatus struct {
	SessionID   string             `json:"session_id"`
	RunID       string             `json:"run_id,omitempty"`
	JobID       string             `json:"job_id,omitempty"`
	Labels      map[string]string  `json:"labels,omitempty"`
	Current     bool               `json:"current"` // deploy_temporary without session_id goes here
	Account     string             `json:"account,omitempty"`
	ExpiresAt   time.Time          `json:"expires_at,omitzero"`
	MinutesLeft int                `json:"minutes_left"`
	Phase       Phase              `json:"phase"`
	Deployments []DeploymentStatus `json:"deployments"`
	// Retired counts accounts that the session used before.
	Retired int    `json:"retired_accounts,omitempty"`
	Claim   string `json:"claim,omitempty"` // a ClaimState, or ""
	// Custody says who can open the claim link of what was asked: "sealed to KEY", or "attended".
	Custody string `json:"custody,omitempty"`
	// Steps are remote steps of which it is not known what became of them.
	Steps    []StepStatus `json:"steps,omitempty"`
	Warnings []string     `json:"warnings,omitempty"`
	Next     NextStep     `json:"next"`
}

// StepUnresolved is the state of a step that is being taken, or that the API could not
// be asked about yet. The other state that a status names is StepLost.
const StepUnresolved = "unresolved"

// StepStatus is a remote step that ended nowhere.
type StepStatus struct {
	Kind  StepKind `json:"kind"`
	What  string   `json:"what,omitempty"`
	State string   `json:"state"`          // StepUnresolved or StepLost
	Note  string   `json:"note,omitempty"` // what it means, for the user
}

// DeploymentStatus is the state of one deployment, the newest of its Worker.
type DeploymentStatus struct {
	DeploymentID string `json:"deployment_id"`
	Worker       string `json:"worker"`
	URL          string `json:"url"`
	VersionID    string `json:"version_id"`
	BundleID     string `json:"bundle_id"`
	Digest       string `json:"digest"`
	AgeSeconds   int    `json:"age_seconds"`
	Serving      string `json:"serving"`
	Probe        *Check `json:"probe,omitempty"`
}

// ClaimRequest asks that a human be asked to keep a session's account.
type ClaimRequest struct {
	SessionID string // empty: the caller's current session
	Message   string // the agent's words to the human
	// Withdraw takes the asking back, so that the session can be deployed to again.
	Withdraw bool
}

// ClaimResult is what became of the asking.
type ClaimResult struct {
	Claim       ClaimState
	SessionID   string
	ExpiresAt   time.Time
	MinutesLeft int
	// PageURL is where the human decides: our own page, never Cloudflare's. The door
	// gives it to the client to open, or puts it into the sentence for the user.
	PageURL string
	// Command is what the human runs instead of opening a page, where the claim link is
	// sealed to their key.
	Command string
	// Login: the page is behind a login, so it may be opened anywhere.
	Login bool
	// Custody says who can open the claim link: "sealed to KEY", or "attended".
	Custody  string
	Warnings []string
	Next     NextStep
}
