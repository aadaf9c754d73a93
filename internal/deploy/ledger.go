package deploy

import (
	"context"
	"time"
)

// StepKind names a remote step that has an effect.
type StepKind string

// The kinds of steps that are written down before they are taken.
const (
	StepCreateAccount  StepKind = "create_account"
	StepCreateResource StepKind = "create_resource"
	StepApplyMigration StepKind = "apply_migration"
	StepUploadAssets   StepKind = "upload_assets"
	StepUploadScript   StepKind = "upload_script"
	StepEnableRoute    StepKind = "enable_route"
	StepSetTrigger     StepKind = "set_trigger"
	StepDelete         StepKind = "delete"
	// StepDiscard is begun before a deployment that is to be taken down if its check fails,
	// and done when that is decided: Ref says how. Open, it is what whoever looks after
	// the session goes by.
	StepDiscard StepKind = "discard"
)

// StepState is what is known of a step's effect.
type StepState string

// The states of a step. Open and unknown steps wait for somebody to look; the others
// are settled for good.
const (
	StepOpen    StepState = "open"    // being taken, or its process is gone
	StepUnknown StepState = "unknown" // its answer was lost: it may have had its effect
	StepDone    StepState = "done"    // the API confirmed it, then or when it was asked later
	StepFailed  StepState = "failed"  // the API said no: there was no effect
	StepLost    StepState = "lost"    // nobody can tell any more; Note says what that means
)

// Settled tells whether nobody has to look at the step again.
func (s StepState) Settled() bool { return s != StepOpen && s != StepUnknown }

// Step is one line of the ledger: a remote step with an effect.
type Step struct {
	ID        string
	SessionID string
	Principal string
	// AccountID is empty while the account is being made.
	AccountID string
	Kind      StepKind
	State     StepState
	// What is its object, as the API names it: "kv_namespace notes-cache", a Worker's name.
	What string
	// BundleID and Digest are the artifact's that it belongs to.
	BundleID, Digest string
	// Ref is what the API calls the result (an id, a version); empty until it is known.
	Ref string
	// Note says in a sentence for the user what a lost step means.
	Note string
	// Fence, BegunAt and SettledAt are the store's to set, by its clock.
	Fence     int64
	BegunAt   time.Time
	SettledAt time.Time
}

// Lease is the right of one process to act on something named, until a time, by the
// store's own clock. Fence rises with every lease of that name: what an older fence
// writes is refused.
type Lease struct {
	// Name is the session's ID where it is a session's lease.
	Name string
	// Owner is another one for every lease, also of one process.
	Owner string
	Fence int64
	Until time.Time
}

// StepLimit refuses a step of its Kind when as many were begun lately, whatever became
// of them; a step of another kind passes it. It is counted in the transaction that
// writes the step down, by the store's clock, so that it holds across processes.
type StepLimit struct {
	// Principal narrows the count to one caller; empty: everybody's count.
	Principal string
	Kind      StepKind
	Most      int
	// Window is how far back is counted.
	Window time.Duration
	// Live counts the accounts in use instead, and the steps open since Window, of every
	// session but the step's own: a fresh account takes the place of that one's.
	Live bool
}

// Over is the refusal by a limit of which used are used up; wait is until there is room,
// 0: not known.
func (l StepLimit) Over(used int, wait time.Duration) *Error {
	what, next := "steps of the kind "+string(l.Kind)+" in "+l.Window.String(), nextHour
	switch {
	case l.Live:
		what, next = "live sessions", nextLive
	case l.Kind == StepCreateAccount:
		what = "new accounts this hour"
	case l.Kind == StepUploadScript:
		what = "deployments this hour"
	}
	return errOver(what, int64(used), int64(l.Most), l.Principal == "", wait, next)
}

// Settlement ends a step, together with what the step brought, in one transaction.
type Settlement struct {
	StepID string
	State  StepState
	Ref    string
	Note   string
	// Account is the account that the step made: every other current account of the
	// session is retired and its secrets wiped with the same stroke.
	Account *Account
	// Deployment is what the step uploaded.
	Deployment *Deployment
}

// Usage counts what was used lately, for limits and for policy.
type Usage struct {
	// Accounts and Deployments were made within the window; LiveSessions have an account
	// in use now. The All counts are everybody's.
	Accounts, Deployments, LiveSessions          int
	AllAccounts, AllDeployments, AllLiveSessions int
}

// SessionFilter narrows a list of everybody's sessions, for operators.
type SessionFilter struct {
	ID        string
	Principal string
	// Label is "key=value" of a trusted label.
	Label string
	// Worker and Digest are of any of its deployments.
	Worker, Digest string
	// Deployment is one of its deployments, by ID.
	Deployment string
	// Host and URL are where any of its deployments answers: either of them fits.
	Host, URL string
	// Live leaves out sessions without an account in use.
	Live  bool
	Limit int // 0: 100
}

// Freeze stops new deployments on every process that shares the store.
type Freeze struct {
	By     string
	Reason string
	At     time.Time
}

// Ledger is the part of the Store that makes steps outlive their process. A step is
// written down under its session's lease before it is taken. Every method but the
// reading ones is one transaction, durable when it returns.
type Ledger interface {
	// AcquireLease takes the lease of a name. CodeBusy, with RetryAfter, while another
	// holds it, also another goroutine of this process.
	AcquireLease(ctx context.Context, name string, ttl time.Duration) (*Lease, error)
	// RenewLease lengthens it and sets its Until; CodeBusy when it ran out and another
	// took it, or it was given back.
	RenewLease(ctx context.Context, l *Lease, ttl time.Duration) error
	// ReleaseLease gives it back; one that is not held any more is no error.
	ReleaseLease(ctx context.Context, l *Lease) error

	// BeginStep writes a step down as open, under its session's lease. CodeBusy when the
	// lease is not held any more, also when it only ran out; CodeRateLimited, with
	// RetryAfter, when a limit is reached; CodeSessionNotFound when the session was
	// forgotten meanwhile. Then the step must not be taken.
	BeginStep(ctx context.Context, l *Lease, s Step, limits ...StepLimit) error

	// Room refuses as BeginStep would for a step of that session ("": of a new one),
	// and reserves nothing: a word beforehand, which another may make untrue.
	Room(ctx context.Context, session string, limits ...StepLimit) error
	// Settle ends a step of the lease's session, whoever began it; with StepUnknown it
	// stays to be looked at. CodeBusy when another lease of the session was taken
	// meanwhile: then nothing was written. A lease that ran out and that nobody took
	// still settles, and the same settlement twice under one lease is no error.
	Settle(ctx context.Context, l *Lease, s Settlement) error
	// Steps lists a session's steps, oldest first.
	Steps(ctx context.Context, sessionID string) ([]Step, error)
	// Abandoned lists sessions that have steps to look at, and sessions with an account
	// that ends before t, by the API's clock or by ours (its Skew), and is in use or has
	// secrets, but none whose lease is held; at most limit of them, first those whose
	// lease was held longest ago, so that looking (under the lease) goes round.
	Abandoned(ctx context.Context, t time.Time, limit int) ([]Session, error)

	// Usage counts what principal and everybody used since a time.
	Usage(ctx context.Context, principal string, since time.Time) (Usage, error)
}

// Journal is told every remote step that has an effect, before it is taken.
type Journal interface {
	// Begin writes the step down. Where it fails the step must not be taken, and the
	// error goes to the caller as it is. settle is called once, with what the API calls
	// the result and the step's error; a failed settling is told by its own error. An error
	// in the chain of the step's that has a method NoEffect() bool which says true tells
	// that nothing was sent, whatever its code.
	Begin(ctx context.Context, kind StepKind, what string) (settle func(ref string, err error) error, err error)
}

// Served is what the API says of a Worker that is deployed on an account.
type Served struct {
	VersionID string
	// Tag is the version's annotation: the first 16 characters of the artifact's digest
	// where we uploaded it.
	Tag string
	// Message is the version's message annotation.
	Message string
	// Host is where it answers; empty: its route is not enabled, or not known.
	Host string
}

// Inventory is everything on an account, by what the API lists.
type Inventory struct {
	Workers []string
	// Resources have Type, Name and, in Ref, the API's id.
	Resources []OwnedResource
}

// OwnedResource is one resource of an account, as the API lists it.
type OwnedResource struct {
	Type string // ResourceKV, ResourceD1 or ResourceQueue
	Name string
	Ref  string
}

// Caretaker is the part of the Cloud that looks at an account and cleans up on it. Its
// errors are those of Cloud. Deletes are idempotent: what is gone is no error.
type Caretaker interface {
	// Deployed tells what is deployed under a Worker's name; nil without error when the
	// account has no such Worker.
	Deployed(ctx context.Context, acct *Account, worker string) (*Served, error)
	// Sight tells which Workers are on the account, and the versions of those named, in
	// the time of one call. A named one that is not there has none.
	Sight(ctx context.Context, acct *Account, workers []string) (*Sighted, error)
	// Inventory lists everything on the account that a temporary account can hold.
	Inventory(ctx context.Context, acct *Account) (*Inventory, error)
	// DeleteWorker takes a Worker down, with its routes, triggers and Durable Objects.
	DeleteWorker(ctx context.Context, acct *Account, worker string) error
	// DeleteResource deletes one resource, by its Type and Ref.
	DeleteResource(ctx context.Context, acct *Account, r OwnedResource) error
}

type journalKey struct{}

// WithJournal gives a context whose remote steps are told to j. It follows a call like
// its deadline does, through every method of the Cloud.
func WithJournal(ctx context.Context, j Journal) context.Context {
	return context.WithValue(ctx, journalKey{}, j)
}

// BeginStep tells the context's Journal of a step that is about to be taken, as
// Journal.Begin says; without a Journal there is nothing to tell.
func BeginStep(ctx context.Context, kind StepKind, what string) (settle func(ref string, err error) error, err error) {
	j, ok := ctx.Value(journalKey{}).(Journal)
	if !ok {
		return func(string, error) error { return nil }, nil
	}
	return j.Begin(ctx, kind, what)
}
