package deploy

import (
	"context"
	"net/http"
	"time"
)

// Bundler turns a Source into an Artifact.
//
// It is safe for concurrent use, writes nothing to the project and stops when ctx
// ends. Every error is an *Error: CodeBuildFailed carries Diagnostics, the others
// (CodeNoEntry, CodePathInvalid, CodeRootNotAllowed, CodeTooLarge, CodeTooManyFiles,
// CodeNameInvalid, CodeConfigInvalid, CodeNotSupported) name what was wrong with
// the input. The Artifact is sealed.
type Bundler interface {
	Bundle(ctx context.Context, src Source) (*Artifact, error)
}

// Booter starts an artifact in the real runtime, without network, to see whether
// it starts at all. A Worker that does not is an *Error of CodeStartFailed; any
// other error means that the boot could not be tried and says nothing of the Worker.
type Booter interface {
	Boot(ctx context.Context, a *Artifact) error
}

// Grant is a freshly made temporary account; Account.Token and Account.ClaimURL are set.
type Grant struct {
	Account Account
	// Difficulty is k*g of the challenge that was solved, in hashes.
	Difficulty int64
}

// Upload is one artifact on its way to an account.
type Upload struct {
	Artifact *Artifact
	// Bindings are the artifact's own, complete; nil: the artifact's as they are.
	Bindings []Binding
	// Objects is the migration of Durable Object classes that goes with it; nil: none.
	Objects map[string]any
	// Message and Tag become the version's annotations; at most 100 bytes of each are sent.
	Message, Tag string
	// Tags become the Worker's, so that whoever looks at the account sees whose it is; at
	// most 8, of letters, digits and _.:=/@-.
	Tags []string
}

// Uploaded is what the API answered to an upload.
type Uploaded struct {
	VersionID string
	StartupMS int
	// AssetsSent and AssetsKept count static files.
	AssetsSent, AssetsKept int
}

// TraceEvent is one invocation of a Worker as the API's tail tells it. Its texts are
// a stranger's: cut to size, never followed.
type TraceEvent struct {
	VersionID  string // "" where the API does not name it
	Outcome    string
	At         time.Time // when it began; zero where the API does not say
	ProbeID    string    // value of the probe header on the request, "" if none
	Status     int
	Exceptions []Exception
	Logs       []string
	// Truncated: it said more than the API passes on, or than is taken of one event.
	Truncated bool
}

// Exception is an uncaught exception of a Worker.
type Exception struct {
	Name, Message, Stack string
}

// Tail is an open stream of a Worker's invocations.
type Tail interface {
	// Next waits for the next event. It returns ctx's error when ctx ends, and another
	// error when the stream is over.
	Next(ctx context.Context) (TraceEvent, error)
	// Close ends the stream and tells the API; it never blocks for longer than a second.
	Close() error
	// Drop ends the stream and tells nobody: the account's token is not used any more.
	Drop()
}

// Cloud is the API of temporary accounts.
//
// Every error is an *Error that holds no secret. CodeAPIUnreachable,
// CodeAPIBadResponse and CodeRateLimited are about the moment; CodeAPIRefused,
// CodeStartFailed, CodeChallengeHard, CodeChallengeFailed are about the request;
// CodeAccountLost means that the API does not accept the account's token. Nothing
// is retried that is not idempotent: Provision never repeats the creating request.
// Every remote step that has an effect is told to the context's Journal (BeginStep)
// right before it goes out, and settled with what came of it. All methods are safe for
// concurrent use.
type Cloud interface {
	Caretaker

	// Target names the API (and instance) that accounts of this Cloud live on.
	Target() string
	// Loopback tells whether the API is on this machine, so that no one's terms are accepted.
	Loopback() bool
	// Clock is the API's time as its latest answer told it, carried on by our own clock;
	// zero when no answer has been seen yet.
	Clock() time.Time
	// AskClock asks the API for its time, without any credential.
	AskClock(ctx context.Context) (time.Time, error)
	// Provision makes an account: challenge, proof of work, creation.
	Provision(ctx context.Context, stage func(Stage)) (*Grant, error)
	// Prepare finds or makes the resources of an artifact on the account and applies the
	// migrations of its databases. Nothing is made twice: what exists under the name is
	// taken. A migration that fails is CodeMigrationFailed, and nothing was uploaded.
	Prepare(ctx context.Context, acct *Account, a *Artifact, stage func(Stage)) (*Prepared, error)
	// Trigger sets cron triggers and queue consumers of an uploaded Worker. It does all
	// that it can: what failed is a Resource of state ResourceFailed, and the first error.
	Trigger(ctx context.Context, acct *Account, a *Artifact) ([]Resource, error)
	// Upload uploads modules and assets as one new version and makes it the deployed one.
	Upload(ctx context.Context, acct *Account, up Upload) (*Uploaded, error)
	// EnableRoute makes the Worker answer on workers.dev and tells its host name.
	EnableRoute(ctx context.Context, acct *Account, worker string) (host string, err error)
	// Tail opens the stream of a Worker's invocations.
	Tail(ctx context.Context, acct *Account, worker string) (Tail, error)
}

// Response is what a Worker answered to a probe. Body is cut; the texts are a stranger's.
type Response struct {
	Status  int
	Header  http.Header
	Body    []byte
	Latency time.Duration
}

// Edge is where deployed Workers answer.
type Edge interface {
	// URL gives the address under which any client on this machine reaches the Worker
	// that is served at host, opening a loopback forwarder where that is needed.
	URL(ctx context.Context, host string) (string, error)
	// Fetch sends a GET for path to the Worker at host, not following redirects.
	Fetch(ctx context.Context, host, path string, header http.Header) (*Response, error)
}

// Store keeps sessions, accounts, deployments, artifacts, claims, idempotency keys
// and the acceptance of terms.
//
// Writes are durable when they return. Reads see all earlier writes of the process.
// What belongs to another principal is not found, in the same words as what never
// existed. Secrets (Account.Token, Account.ClaimURL, Claim.PageToken) are sealed at
// rest, bound to their row. Errors other than the documented *Error codes are
// CodeStore. All methods are safe for concurrent use, also by several processes.
type Store interface {
	Ledger
	Operators
	Approvals
	LogShelf
	ForeignShelf

	// SaveSession inserts or updates a session by ID.
	SaveSession(ctx context.Context, s Session) error
	// Session finds a session of principal; CodeSessionNotFound.
	Session(ctx context.Context, principal, id string) (*Session, error)
	// CurrentSession finds the principal's newest session of that scope and, where
	// runID is not empty, of that run; nil without error when there is none.
	CurrentSession(ctx context.Context, principal, scope, runID string) (*Session, error)
	// Sessions lists the principal's sessions, newest first, at most limit.
	Sessions(ctx context.Context, principal string, limit int) ([]Session, error)

	// Pictures gives what there is of the principal's session of that ID (or
	// CodeSessionNotFound); where id is empty, of its sessions, newest first, at most limit.
	// It is one read, as of one moment.
	Pictures(ctx context.Context, principal, id string, limit int) ([]Picture, error)

	// SaveAccount inserts or updates an account by (Target, ID). An update with empty
	// Token or ClaimURL wipes what was sealed; what is wiped, or not in use any more,
	// stays so, whatever an older picture of it says. A session has one account in use: a
	// new one retires the others and wipes their secrets with the same stroke.
	SaveAccount(ctx context.Context, a Account) error
	// Accounts lists a session's accounts, newest first, with their secrets.
	Accounts(ctx context.Context, sessionID string) ([]Account, error)
	// WipeExpired wipes the secrets of every account whose ExpiresAt is before t, marks
	// those still current as expired, and says how many rows it touched.
	WipeExpired(ctx context.Context, t time.Time) (int, error)

	// SaveDeployment inserts or updates a deployment by ID, all of it but CreatedAt.
	SaveDeployment(ctx context.Context, d Deployment) error
	// Deployments lists a session's deployments, newest first.
	Deployments(ctx context.Context, sessionID string) ([]Deployment, error)

	// SaveArtifact keeps an artifact for principal under its BundleID. Saving the
	// same one again is no error and lengthens its life.
	SaveArtifact(ctx context.Context, principal string, a *Artifact) error
	// Artifact finds one; CodeBundleNotFound.
	Artifact(ctx context.Context, principal, bundleID string) (*Artifact, error)

	// SaveClaim inserts a new claim.
	SaveClaim(ctx context.Context, c Claim) error
	// Claim gives the session's newest claim; nil without error when there is none.
	Claim(ctx context.Context, sessionID string) (*Claim, error)
	// ClaimByPage finds a claim by its page token; nil without error when there is none.
	ClaimByPage(ctx context.Context, pageToken string) (*Claim, error)
	// MoveClaim moves a claim from one state to another, once: it tells false when the
	// claim was not in the state From any more. What the move says is kept with it; its
	// empty members leave what was there, and who decided, with the channel, is the first
	// that is named. A move out of ClaimAwaiting is the decision.
	MoveClaim(ctx context.Context, m ClaimMove) (bool, error)
	// ClaimByID finds a claim; nil without error when there is none.
	ClaimByID(ctx context.Context, id string) (*Claim, error)
	// ClaimsIn lists everybody's claims in one of the states that expire before t, oldest
	// first, at most limit.
	ClaimsIn(ctx context.Context, t time.Time, limit int, states ...ClaimState) ([]Claim, error)

	// BeginCall reserves an idempotency key of principal for a call with these
	// arguments. It tells what is known of the key: CallNew (reserved now), CallRunning
	// (another call holds it), CallDone with that call's result. With CallNew come the
	// bytes that an earlier call of the same arguments left by MarkCall, which failed or
	// whose process is gone. CodeIdempotency when the key was used with other arguments.
	BeginCall(ctx context.Context, principal, key, argsDigest string, at time.Time) (CallState, []byte, error)
	// MarkCall renews the hold on a key, which ends by itself when its process is gone.
	// A mark that is not nil is kept until a result is. CodeBusy when another took the key.
	MarkCall(ctx context.Context, principal, key string, mark []byte, at time.Time) error
	// FinishCall keeps the result under the key; a nil result gives the key free again,
	// with its mark.
	FinishCall(ctx context.Context, principal, key string, result []byte) error

	// AcceptTerms records an acceptance; Accepted tells whether there is one for that text.
	AcceptTerms(ctx context.Context, a Acceptance) error
	Accepted(ctx context.Context, principal, text string) (bool, error)

	Close() error
}

// CallState is what is known of an idempotency key.
type CallState int

// The states of a key.
const (
	CallNew CallState = iota
	CallRunning
	CallDone
)

// Pages tells where a human decides on a claim. It opens the door on first use.
type Pages interface {
	// URL is the address of the page for a claim, for the human's browser only.
	URL(ctx context.Context, claim *Claim) (string, error)
}

// Stage names a step of a deployment, for progress and stage times.
type Stage string

// The stages, in the order in which they happen.
const (
	StageBundle    Stage = "bundle"
	StagePreflight Stage = "preflight"
	StageChallenge Stage = "challenge"
	StageProof     Stage = "proof_of_work"
	StageAccount   Stage = "create_account"
	StageResources Stage = "resources"
	StageMigrate   Stage = "migrations"
	StageUpload    Stage = "upload"
	StageRoute     Stage = "enable_route"
	StageTriggers  Stage = "triggers"
	StageCheck     Stage = "check"
)
