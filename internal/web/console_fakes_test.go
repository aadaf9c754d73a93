package web_test

import (
	"context"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// board is a ConsoleService with one claim and one approval, by the rules of the real one.
type board struct {
	mu       sync.Mutex
	view     deploy.ClaimView
	deps     []deploy.Deployment
	approval deploy.Approval
	fourEyes bool
	channels []string
	decided  []deploy.Human
	revoked  []deploy.SessionFilter
	by       []deploy.Caller
	frozen   *deploy.Freeze
	link     deploy.Secret
	logs     deploy.WorkerLogs
	access   []deploy.Access
	unnoted  error  // what NoteAccess fails with
	deciding func() // called before a decision is taken, without the lock
}

func newBoard() *board {
	view := newClaims().view
	view.Session.Principal, view.Session.Labels = "ci-bot", map[string]string{"owner": "bob", "team": "web"}
	var deps []deploy.Deployment
	for _, d := range view.Estate.Deployments {
		deps = append(deps, deploy.Deployment{Worker: d.Worker, URL: d.URL, Digest: d.Digest, VersionID: d.VersionID, CreatedAt: d.CreatedAt, Serving: d.Serving})
	}
	return &board{view: view, deps: deps, link: claimURL, approval: deploy.Approval{
		ID: "ap_1", Principal: "ci-bot", Act: deploy.ActDeploy, Worker: "shop", Digest: "digest-of-act", State: deploy.ApprovalWaiting,
		Labels: map[string]string{"owner": "bob"}, Reasons: []deploy.Reason{{Rule: "prod-asks", Verdict: deploy.Ask, Message: "production asks"}},
		ExpiresAt: time.Now().Add(time.Hour),
	}}
}

func (d *board) Overview(_ context.Context, f deploy.SessionFilter) ([]deploy.SessionView, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.ID != "" && f.ID != d.view.Session.ID {
		return nil, nil
	}
	claim := d.view.Claim
	return []deploy.SessionView{{
		Session: d.view.Session, Account: &d.view.Account, Phase: deploy.PhaseLive, Left: d.view.Left, Deployments: d.deps,
		Claim: &claim, ClaimState: d.view.State,
	}}, nil
}

func (d *board) ClaimViewByID(_ context.Context, id string) (*deploy.ClaimView, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id != d.view.Claim.ID {
		return nil, deploy.Errorf(deploy.CodeSessionNotFound, "Ask again.", "there is no claim under this address")
	}
	v := d.view
	return &v, nil
}

func (d *board) may(who deploy.Human, owner string) error {
	if d.channels != nil && who.Channel != d.channels[0] {
		return deploy.Errorf(deploy.CodeNoApproval, "Decide in the console.", "a yes by %s does not count", who.Channel)
	}
	if d.fourEyes && who.Owner == owner {
		return deploy.Errorf(deploy.CodePolicyDenied, "Ask somebody else to decide.", "four eyes")
	}
	return nil
}

func (d *board) DecideClaimBy(_ context.Context, _ string, approve bool, who deploy.Human) (*deploy.ClaimView, error) {
	if d.deciding != nil {
		d.deciding()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if approve {
		if err := d.may(who, d.view.Session.Owner()); err != nil {
			return nil, err
		}
	}
	switch d.view.State {
	case deploy.ClaimAwaiting:
	case deploy.ClaimLapsed:
		return nil, deploy.Errorf(deploy.CodeSessionExpired, "Ask again.", "too late")
	default:
		return nil, deploy.Errorf(deploy.CodeSessionClosed, "Nothing.", "decided already")
	}
	d.decided = append(d.decided, who)
	d.view.State = deploy.ClaimRefused
	if approve {
		d.view.State = deploy.ClaimApproved
	}
	d.view.Claim.DecidedBy, d.view.Claim.Channel, d.view.Claim.Browser = who.Name, who.Channel, who.Browser
	v := d.view
	return &v, nil
}

func (d *board) ClaimLinkByID(_ context.Context, _, browser string) (deploy.Secret, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !d.view.State.Given():
		return "", deploy.Errorf(deploy.CodeClaimPending, "Decide.", "not approved")
	case browser == "" || browser != d.view.Claim.Browser:
		return "", deploy.Errorf(deploy.CodeSessionClosed, "Other browser.", "another browser approved this")
	}
	return d.link, nil
}

func (d *board) ClaimFileByID(_ context.Context, id string) (*deploy.ClaimFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id != d.view.Claim.ID || !d.view.Sealed {
		return nil, deploy.Errorf(deploy.CodeNoApproval, "Decide on the page.", "the claim link is not sealed")
	}
	return deploy.NewClaimFile(d.view.Session, d.view.Account, d.view.Claim.Digest, d.view.Estate), nil
}

func (d *board) Opened(context.Context, string, string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.view.State = deploy.ClaimOpened
	return nil
}

func (d *board) Adopted(_ context.Context, _ string, did bool, who deploy.Human) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.view.State = deploy.ClaimLapsed
	if did {
		d.view.State = deploy.ClaimAdopted
	}
	d.view.Claim.Evidence = "the word of " + who.Name
	return nil
}

func (d *board) WaitingApprovals(context.Context) ([]deploy.Approval, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.approval.State != deploy.ApprovalWaiting {
		return nil, nil
	}
	return []deploy.Approval{d.approval}, nil
}

func (d *board) DecideApprovalBy(_ context.Context, _ string, approve bool, digest string, who deploy.Human) (*deploy.Approval, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if approve && digest != d.approval.Digest {
		return nil, deploy.Errorf(deploy.CodeSessionClosed, "Look again.", "something else")
	}
	if approve {
		if err := d.may(who, d.approval.Labels["owner"]); err != nil {
			return nil, err
		}
	}
	d.approval.State = deploy.ApprovalRefused
	if approve {
		d.approval.State = deploy.ApprovalGiven
	}
	d.decided = append(d.decided, who)
	a := d.approval
	return &a, nil
}

func (d *board) Revoke(_ context.Context, by deploy.Caller, f deploy.SessionFilter, _ string) ([]deploy.RevokeResult, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.revoked, d.by = append(d.revoked, f), append(d.by, by)
	return []deploy.RevokeResult{{SessionID: "s_1", Principal: "ci-bot", Result: &deploy.TeardownResult{Deleted: []string{"worker shop"}, Closed: true}}}, nil
}

func (d *board) SetFreeze(_ context.Context, frozen bool, by, reason string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frozen = nil
	if frozen {
		d.frozen = &deploy.Freeze{By: by, Reason: reason, At: time.Now()}
	}
	return nil
}

func (d *board) NoteAccess(_ context.Context, a deploy.Access) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unnoted == nil {
		d.access = append(d.access, a)
	}
	return d.unnoted
}

func (d *board) Frozen(context.Context) (*deploy.Freeze, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.frozen, nil
}

func (d *board) Records(_ context.Context, f web.RecordFilter) ([]web.Recorded, error) {
	all := []web.Recorded{
		{Index: 2, Event: deploy.Event{Act: "deploy", Phase: deploy.PhaseOutcome, Principal: "ci-bot", SessionID: "s_1", Worker: "shop", Outcome: "ok"}},
		{Index: 1, Event: deploy.Event{Act: "create_account", Phase: deploy.PhaseOutcome, Principal: "other", Outcome: "ok"}},
		{Index: 0, Pruned: true},
	}
	var out []web.Recorded
	for _, r := range all {
		if f.Principal == "" || f.Principal == r.Event.Principal {
			out = append(out, r)
		}
	}
	return out, nil
}

// book is deploy.Logins in memory.
type book struct {
	mu       sync.Mutex
	once     map[string][]byte
	until    map[string]time.Time
	sessions map[string]deploy.ConsoleSession
	keys     map[string]deploy.Passkey
}

func newBook() *book {
	return &book{once: map[string][]byte{}, until: map[string]time.Time{}, sessions: map[string]deploy.ConsoleSession{}, keys: map[string]deploy.Passkey{}}
}

func (b *book) SaveOnce(_ context.Context, kind, hash string, body []byte, expires time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.once[kind+hash], b.until[kind+hash] = body, expires
	return nil
}

func (b *book) TakeOnce(_ context.Context, kind, hash string, now time.Time) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	body := b.once[kind+hash]
	delete(b.once, kind+hash)
	if !now.Before(b.until[kind+hash]) {
		return nil, nil
	}
	return body, nil
}

func (b *book) SaveConsoleSession(_ context.Context, s deploy.ConsoleSession) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sessions[s.Hash] = s
	return nil
}

func (b *book) ConsoleSession(_ context.Context, hash string) (*deploy.ConsoleSession, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.sessions[hash]
	if !ok {
		return nil, nil
	}
	return &s, nil
}

func (b *book) SeenConsoleSession(_ context.Context, hash string, at time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sessions[hash]
	s.SeenAt = at
	b.sessions[hash] = s
	return nil
}

func (b *book) EndConsoleSession(_ context.Context, hash string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.sessions, hash)
	return nil
}

func (b *book) SavePasskey(_ context.Context, p deploy.Passkey) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys[p.ID] = p
	return nil
}

func (b *book) Passkeys(_ context.Context, user string) ([]deploy.Passkey, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []deploy.Passkey
	for _, p := range b.keys {
		if p.UserID == user {
			out = append(out, p)
		}
	}
	return out, nil
}
