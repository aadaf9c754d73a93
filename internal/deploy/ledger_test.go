package deploy_test

import (
	"context"
	"slices"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// The ledger of memStore, on the clock of the test.

func busy(after time.Duration) error {
	return &deploy.Error{Code: deploy.CodeBusy, Message: "it is held", Next: "Wait.", RetryAfter: after}
}

func (m *memStore) AcquireLease(ctx context.Context, name string, ttl time.Duration) (*deploy.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "AcquireLease"); err != nil {
		return nil, err
	}
	if had, ok := m.leases[name]; ok && time.Now().Before(had.Until) {
		return nil, busy(time.Until(had.Until))
	}
	m.fence++
	l := deploy.Lease{Name: name, Owner: "me", Fence: m.fence, Until: time.Now().Add(ttl)}
	m.leases[name] = l
	return &l, nil
}

// holds tells whether a lease is held. The caller holds the lock.
func (m *memStore) holds(l *deploy.Lease) bool {
	had, ok := m.leases[l.Name]
	return ok && had.Fence == l.Fence && time.Now().Before(had.Until)
}

func (m *memStore) RenewLease(ctx context.Context, l *deploy.Lease, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "RenewLease"); err != nil {
		return err
	}
	if !m.holds(l) {
		return busy(time.Second)
	}
	l.Until = time.Now().Add(ttl)
	m.leases[l.Name] = *l
	return nil
}

func (m *memStore) ReleaseLease(ctx context.Context, l *deploy.Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "ReleaseLease"); err != nil {
		return err
	}
	if m.holds(l) {
		delete(m.leases, l.Name)
	}
	return nil
}

func (m *memStore) BeginStep(ctx context.Context, l *deploy.Lease, s deploy.Step, limits ...deploy.StepLimit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "BeginStep"); err != nil {
		return err
	}
	if !m.holds(l) {
		return busy(time.Second)
	}
	if err := m.room(s.SessionID, s.Kind, limits); err != nil {
		return err
	}
	m.steps = append(m.steps, s)
	return nil
}

func (m *memStore) Room(_ context.Context, session string, limits ...deploy.StepLimit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.room(session, "", limits)
}

func (m *memStore) room(session string, kind deploy.StepKind, limits []deploy.StepLimit) error {
	for _, l := range limits {
		var begun []time.Time
		for _, s := range m.steps {
			if s.Kind != l.Kind || l.Principal != "" && s.Principal != l.Principal || time.Since(s.BegunAt) >= l.Window {
				continue
			}
			if !l.Live || s.State == deploy.StepOpen && s.SessionID != session {
				begun = append(begun, s.BegunAt)
			}
		}
		n := len(begun)
		for _, a := range m.accounts {
			mine := slices.ContainsFunc(m.sessions, func(s deploy.Session) bool { return s.ID == a.SessionID && s.Principal == l.Principal })
			if l.Live && a.SessionID != session && a.State == deploy.AccountCurrent && a.ExpiresAt.Add(-a.Skew).After(time.Now()) && (mine || l.Principal == "") {
				n++
			}
		}
		if n < l.Most || kind != "" && kind != l.Kind {
			continue
		}
		wait := time.Minute
		if !l.Live && l.Most > 0 {
			wait = l.Window - time.Since(begun[len(begun)-l.Most])
		}
		return l.Over(n, wait)
	}
	return nil
}

func (m *memStore) Settle(ctx context.Context, l *deploy.Lease, end deploy.Settlement) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Settle"); err != nil {
		return err
	}
	i := slices.IndexFunc(m.steps, func(s deploy.Step) bool { return s.ID == end.StepID })
	if i < 0 || !m.holds(l) || m.steps[i].State.Settled() {
		return busy(time.Second)
	}
	s := &m.steps[i]
	s.State, s.Ref, s.Note, s.SettledAt = end.State, end.Ref, end.Note, time.Now()
	if end.Account != nil {
		s.AccountID = end.Account.ID
		for i := range m.accounts {
			if a := &m.accounts[i]; a.SessionID == s.SessionID && a.State == deploy.AccountCurrent {
				a.State, a.Token, a.ClaimURL = deploy.AccountRetired, "", ""
			}
		}
		m.putAccount(*end.Account)
	}
	if end.Deployment != nil {
		m.putDeployment(*end.Deployment)
	}
	return nil
}

func (m *memStore) Steps(ctx context.Context, sessionID string) ([]deploy.Step, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Steps"); err != nil {
		return nil, err
	}
	var out []deploy.Step
	for _, s := range m.steps {
		if s.SessionID == sessionID {
			out = append(out, s)
		}
	}
	return out, nil
}

func (m *memStore) Abandoned(ctx context.Context, t time.Time, limit int) ([]deploy.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Abandoned"); err != nil {
		return nil, err
	}
	var out []deploy.Session
	for _, sess := range m.sessions {
		if l, ok := m.leases[sess.ID]; ok && time.Now().Before(l.Until) {
			continue
		}
		left := slices.ContainsFunc(m.steps, func(s deploy.Step) bool { return s.SessionID == sess.ID && !s.State.Settled() })
		over := slices.ContainsFunc(m.accounts, func(a deploy.Account) bool {
			return a.SessionID == sess.ID && (a.ExpiresAt.Before(t) || a.ExpiresAt.Add(-a.Skew).Before(t)) && (a.State == deploy.AccountCurrent || !a.Token.Empty() || !a.ClaimURL.Empty())
		})
		if (left || over) && len(out) < limit {
			out = append(out, sess)
		}
	}
	return out, nil
}

func (m *memStore) Usage(_ context.Context, principal string, since time.Time) (deploy.Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var u deploy.Usage
	add := func(session string, all, own *int) {
		*all++
		if slices.ContainsFunc(m.sessions, func(s deploy.Session) bool { return s.ID == session && s.Principal == principal }) {
			*own++
		}
	}
	for _, a := range m.accounts {
		if !a.CreatedAt.Add(-a.Skew).Before(since) {
			add(a.SessionID, &u.AllAccounts, &u.Accounts)
		}
		if a.State == deploy.AccountCurrent && a.ExpiresAt.Add(-a.Skew).After(time.Now()) {
			add(a.SessionID, &u.AllLiveSessions, &u.LiveSessions)
		}
	}
	for _, d := range m.deps {
		if !d.CreatedAt.Before(since) {
			add(d.SessionID, &u.AllDeployments, &u.Deployments)
		}
	}
	return u, nil
}

// states lists the steps of a kind by their states.
func (m *memStore) states(kind deploy.StepKind) []deploy.StepState {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []deploy.StepState
	for _, s := range m.steps {
		if s.Kind == kind {
			out = append(out, s.State)
		}
	}
	return out
}
