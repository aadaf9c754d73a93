package deploy_test

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// memStore keeps the contract of deploy.Store in memory. Everything is copied on the
// way in and out, so that nothing is shared with the Service but what was saved.
type memStore struct {
	mu        sync.Mutex
	sessions  []deploy.Session // in the order in which they were made
	accounts  []deploy.Account
	deps      []deploy.Deployment
	artifacts map[string]deploy.Artifact // principal NUL bundle ID
	claims    []deploy.Claim
	calls     map[string]*storedCall
	terms     []deploy.Acceptance
	leases    map[string]deploy.Lease
	fence     int64
	steps     []deploy.Step
	approvals []deploy.Approval
	freeze    *deploy.Freeze
	logs      map[string][]deploy.LogLine
	tallies   map[string]deploy.LogTally
	foreign   []deploy.ForeignChange
	// fail, where set, is asked before each operation by its name.
	fail func(op string) error
	// finished counts FinishCall by whether a result was kept.
	kept, freed int
}

type storedCall struct {
	args   string
	done   bool
	free   bool // its call failed
	heldAt time.Time
	mark   []byte
	result []byte
}

func newMemStore() *memStore {
	return &memStore{artifacts: map[string]deploy.Artifact{}, calls: map[string]*storedCall{}, leases: map[string]deploy.Lease{}}
}

func (m *memStore) begin(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.fail != nil {
		return m.fail(op)
	}
	return nil
}

func (m *memStore) SaveSession(ctx context.Context, s deploy.Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "SaveSession"); err != nil {
		return err
	}
	for i := range m.sessions {
		if m.sessions[i].ID == s.ID {
			m.sessions[i] = s
			return nil
		}
	}
	m.sessions = append(m.sessions, s)
	return nil
}

func (m *memStore) Session(ctx context.Context, principal, id string) (*deploy.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Session"); err != nil {
		return nil, err
	}
	for _, s := range m.sessions {
		if s.ID == id && s.Principal == principal {
			return &s, nil
		}
	}
	return nil, deploy.Errorf(deploy.CodeSessionNotFound, "Call status without session_id to see your sessions.", "there is no session %s", id)
}

func (m *memStore) CurrentSession(ctx context.Context, principal, scope, runID string) (*deploy.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "CurrentSession"); err != nil {
		return nil, err
	}
	for _, s := range slices.Backward(m.sessions) {
		if s.Principal == principal && s.Scope == scope && (runID == "" || s.RunID == runID) {
			return &s, nil
		}
	}
	return nil, nil
}

func (m *memStore) Sessions(ctx context.Context, principal string, limit int) ([]deploy.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Sessions"); err != nil {
		return nil, err
	}
	var out []deploy.Session
	for _, s := range slices.Backward(m.sessions) {
		if s.Principal == principal && len(out) < limit {
			out = append(out, s)
		}
	}
	return out, nil
}

func (m *memStore) Pictures(ctx context.Context, principal, id string, limit int) ([]deploy.Picture, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Pictures"); err != nil {
		return nil, err
	}
	var out []deploy.Picture
	newest := map[string]bool{}
	for _, s := range slices.Backward(m.sessions) {
		if s.Principal != principal {
			continue
		}
		p := deploy.Picture{Session: s, Newest: !newest[s.Scope]}
		newest[s.Scope] = true
		if (id == "" || s.ID == id) && len(out) < limit {
			m.paint(&p)
			out = append(out, p)
		}
	}
	if id != "" && len(out) == 0 {
		return nil, deploy.Errorf(deploy.CodeSessionNotFound, "Call status without session_id to see your sessions.", "there is no session %s", id)
	}
	return out, nil
}

// paint adds what belongs to a picture's session. The caller holds the lock.
func (m *memStore) paint(p *deploy.Picture) {
	id := p.Session.ID
	for _, a := range slices.Backward(m.accounts) {
		if a.SessionID == id {
			p.Accounts = append(p.Accounts, a)
		}
	}
	seen := map[string]bool{}
	for _, d := range slices.Backward(m.deps) {
		if key := d.AccountID + " " + d.Worker; d.SessionID == id && !seen[key] && d.Serving != deploy.ServingFailed && d.Serving != deploy.ServingDeleted {
			seen[key] = true
			if d.Check != nil {
				c := *d.Check
				d.Check = &c
			}
			p.Deployments = append(p.Deployments, d)
		}
	}
	loose := false
	for _, s := range m.steps {
		if s.SessionID == id {
			p.Steps = append(p.Steps, s)
			loose = loose || s.State != deploy.StepDone && s.State != deploy.StepFailed
		}
	}
	if !loose {
		p.Steps = nil
	}
	for _, c := range m.claims {
		if c.SessionID == id {
			c.PageToken = ""
			p.Claim = &c
		}
	}
	for _, f := range m.foreign {
		if f.SessionID == id {
			p.Foreign = append(p.Foreign, f)
		}
	}
}

func (m *memStore) SaveAccount(ctx context.Context, a deploy.Account) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "SaveAccount"); err != nil {
		return err
	}
	m.putAccount(a)
	return nil
}

func (m *memStore) putAccount(a deploy.Account) {
	for i := range m.accounts {
		if m.accounts[i].ID == a.ID && m.accounts[i].Target == a.Target {
			m.accounts[i] = a
			return
		}
	}
	m.accounts = append(m.accounts, a)
}

func (m *memStore) Accounts(ctx context.Context, sessionID string) ([]deploy.Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Accounts"); err != nil {
		return nil, err
	}
	var out []deploy.Account
	for _, a := range slices.Backward(m.accounts) {
		if a.SessionID == sessionID {
			out = append(out, a)
		}
	}
	return out, nil
}

func (m *memStore) WipeExpired(ctx context.Context, t time.Time) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "WipeExpired"); err != nil {
		return 0, err
	}
	n := 0
	for i := range m.accounts {
		a := &m.accounts[i]
		if !a.ExpiresAt.Before(t) || a.Token.Empty() && a.ClaimURL.Empty() && a.State != deploy.AccountCurrent {
			continue
		}
		a.Token, a.ClaimURL = "", ""
		a.State = cmp.Or(a.State, deploy.AccountExpired)
		n++
	}
	return n, nil
}

func (m *memStore) SaveDeployment(ctx context.Context, d deploy.Deployment) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "SaveDeployment"); err != nil {
		return err
	}
	m.putDeployment(d)
	return nil
}

func (m *memStore) putDeployment(d deploy.Deployment) {
	if d.Check != nil {
		c := *d.Check
		d.Check = &c
	}
	for i := range m.deps {
		if m.deps[i].ID == d.ID {
			m.deps[i] = d
			return
		}
	}
	m.deps = append(m.deps, d)
}

func (m *memStore) Deployments(ctx context.Context, sessionID string) ([]deploy.Deployment, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Deployments"); err != nil {
		return nil, err
	}
	var out []deploy.Deployment
	for _, d := range slices.Backward(m.deps) {
		if d.SessionID != sessionID {
			continue
		}
		if d.Check != nil {
			c := *d.Check
			d.Check = &c
		}
		out = append(out, d)
	}
	return out, nil
}

func (m *memStore) SaveArtifact(ctx context.Context, principal string, a *deploy.Artifact) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "SaveArtifact"); err != nil {
		return err
	}
	m.artifacts[principal+"\x00"+a.BundleID()] = *a
	return nil
}

func (m *memStore) Artifact(ctx context.Context, principal, bundleID string) (*deploy.Artifact, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Artifact"); err != nil {
		return nil, err
	}
	a, ok := m.artifacts[principal+"\x00"+bundleID]
	if !ok {
		return nil, deploy.Errorf(deploy.CodeBundleNotFound, "Call bundle again.", "there is no bundle %s", bundleID)
	}
	return &a, nil
}

func (m *memStore) SaveClaim(ctx context.Context, c deploy.Claim) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "SaveClaim"); err != nil {
		return err
	}
	m.claims = append(m.claims, c)
	return nil
}

func (m *memStore) Claim(ctx context.Context, sessionID string) (*deploy.Claim, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Claim"); err != nil {
		return nil, err
	}
	for _, c := range slices.Backward(m.claims) {
		if c.SessionID == sessionID {
			return &c, nil
		}
	}
	return nil, nil
}

func (m *memStore) ClaimByPage(ctx context.Context, pageToken string) (*deploy.Claim, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "ClaimByPage"); err != nil {
		return nil, err
	}
	for _, c := range m.claims {
		if c.PageToken.Reveal() == pageToken {
			return &c, nil
		}
	}
	return nil, nil
}

func (m *memStore) MoveClaim(ctx context.Context, v deploy.ClaimMove) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "MoveClaim"); err != nil {
		return false, err
	}
	for i := range m.claims {
		c := &m.claims[i]
		if c.ID != v.ID || c.State != v.From {
			continue
		}
		c.State = v.To
		c.Browser, c.Evidence = cmp.Or(v.Browser, c.Browser), cmp.Or(v.Evidence, c.Evidence)
		if c.DecidedBy == "" {
			c.DecidedBy, c.Channel = v.By, cmp.Or(v.Channel, c.Channel)
		}
		if v.From == deploy.ClaimAwaiting {
			c.DecidedAt = v.At
		}
		return true, nil
	}
	return false, nil
}

func (m *memStore) ClaimByID(ctx context.Context, id string) (*deploy.Claim, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "ClaimByID"); err != nil {
		return nil, err
	}
	for _, c := range m.claims {
		if c.ID == id {
			return &c, nil
		}
	}
	return nil, nil
}

func (m *memStore) ClaimsIn(ctx context.Context, t time.Time, limit int, states ...deploy.ClaimState) ([]deploy.Claim, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "ClaimsIn"); err != nil {
		return nil, err
	}
	var out []deploy.Claim
	for _, c := range m.claims {
		if slices.Contains(states, c.State) && c.ExpiresAt.Before(t) {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b deploy.Claim) int { return a.ExpiresAt.Compare(b.ExpiresAt) })
	return out[:min(limit, len(out))], nil
}

func (m *memStore) SaveApproval(ctx context.Context, a deploy.Approval) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "SaveApproval"); err != nil {
		return err
	}
	m.approvals = append(m.approvals, a)
	return nil
}

func (m *memStore) ApprovalFor(ctx context.Context, principal string, act deploy.Act, digest string) (*deploy.Approval, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "ApprovalFor"); err != nil {
		return nil, err
	}
	for _, a := range slices.Backward(m.approvals) {
		if a.Principal == principal && a.Act == act && a.Digest == digest {
			return &a, nil
		}
	}
	return nil, nil
}

func (m *memStore) Approvals(ctx context.Context, state deploy.ApprovalState, limit int) ([]deploy.Approval, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Approvals"); err != nil {
		return nil, err
	}
	var out []deploy.Approval
	for _, a := range slices.Backward(m.approvals) {
		if (state == "" || a.State == state) && len(out) < limit {
			out = append(out, a)
		}
	}
	return out, nil
}

func (m *memStore) MoveApproval(ctx context.Context, v deploy.ApprovalMove) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "MoveApproval"); err != nil {
		return false, err
	}
	for i := range m.approvals {
		if a := &m.approvals[i]; a.ID == v.ID && a.State == v.From {
			a.State, a.By, a.Channel, a.ByOwner, a.DecidedAt = v.To, v.By, v.Channel, v.Owner, v.At
			return true, nil
		}
	}
	return false, nil
}

func (m *memStore) SessionsWhere(ctx context.Context, f deploy.SessionFilter) ([]deploy.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "SessionsWhere"); err != nil {
		return nil, err
	}
	key, value, _ := strings.Cut(f.Label, "=")
	var out []deploy.Session
	for _, s := range slices.Backward(m.sessions) {
		has := func(d deploy.Deployment) bool {
			return d.SessionID == s.ID && (f.Worker == "" || d.Worker == f.Worker) && (f.Digest == "" || d.Digest == f.Digest)
		}
		live := func(a deploy.Account) bool { return a.SessionID == s.ID && a.State == deploy.AccountCurrent }
		switch {
		case f.ID != "" && s.ID != f.ID, f.Principal != "" && s.Principal != f.Principal, f.Label != "" && s.Labels[key] != value,
			(f.Worker != "" || f.Digest != "") && !slices.ContainsFunc(m.deps, has), f.Live && !slices.ContainsFunc(m.accounts, live):
			continue
		}
		out = append(out, s)
	}
	return out, nil
}

func (m *memStore) SetFreeze(ctx context.Context, f *deploy.Freeze) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "SetFreeze"); err != nil {
		return err
	}
	m.freeze = f
	return nil
}

func (m *memStore) Freeze(ctx context.Context) (*deploy.Freeze, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.freeze, m.begin(ctx, "Freeze")
}

// callLease is how long a call that is not renewed holds its key.
const callLease = 30 * time.Second

func (m *memStore) BeginCall(ctx context.Context, principal, key, argsDigest string, at time.Time) (deploy.CallState, []byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "BeginCall"); err != nil {
		return 0, nil, err
	}
	k := principal + "\x00" + key
	c := m.calls[k]
	switch {
	case c == nil || c.free && c.args != argsDigest:
		m.calls[k] = &storedCall{args: argsDigest, heldAt: at}
		return deploy.CallNew, nil, nil
	case c.args != argsDigest:
		return 0, nil, deploy.Errorf(deploy.CodeIdempotency, "Use a new key for a new call.", "this idempotency key was used with other arguments")
	case c.done:
		return deploy.CallDone, slices.Clone(c.result), nil
	case !c.free && at.Sub(c.heldAt) < callLease:
		return deploy.CallRunning, nil, nil
	}
	c.free, c.heldAt = false, at
	return deploy.CallNew, slices.Clone(c.mark), nil
}

func (m *memStore) MarkCall(ctx context.Context, principal, key string, mark []byte, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "MarkCall"); err != nil {
		return err
	}
	c := m.calls[principal+"\x00"+key]
	if c == nil || c.free || c.done {
		return deploy.Errorf(deploy.CodeBusy, "Repeat the call.", "the key is not held any more")
	}
	c.heldAt = at
	if mark != nil {
		c.mark = slices.Clone(mark)
	}
	return nil
}

func (m *memStore) FinishCall(ctx context.Context, principal, key string, result []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "FinishCall"); err != nil {
		return err
	}
	c := m.calls[principal+"\x00"+key]
	if result == nil {
		c.free = true
		m.freed++
		return nil
	}
	c.done, c.result = true, slices.Clone(result)
	m.kept++
	return nil
}

func (m *memStore) AcceptTerms(ctx context.Context, a deploy.Acceptance) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "AcceptTerms"); err != nil {
		return err
	}
	m.terms = append(m.terms, a)
	return nil
}

func (m *memStore) Accepted(ctx context.Context, principal, text string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Accepted"); err != nil {
		return false, err
	}
	return slices.ContainsFunc(m.terms, func(a deploy.Acceptance) bool {
		return a.Principal == principal && a.Text == text
	}), nil
}

func (m *memStore) Close() error { return nil }

// allAccounts is a look at every account, for tests.
func (m *memStore) allAccounts() []deploy.Account {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.accounts)
}

var _ deploy.Store = (*memStore)(nil)
