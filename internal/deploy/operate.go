package deploy

import (
	"context"
	"slices"
	"time"
)

// maxOperated bounds what an operator's call looks at at once.
const maxOperated = 1000

// Operators is the part of the Store that sees everybody's sessions.
type Operators interface {
	// SessionsWhere lists everybody's sessions that the filter lets through, newest first.
	SessionsWhere(ctx context.Context, f SessionFilter) ([]Session, error)
	// SetFreeze stops new deployments on every process that shares the store; nil allows
	// them again.
	SetFreeze(ctx context.Context, f *Freeze) error
	// Freeze tells whether they are stopped; nil: they are not.
	Freeze(ctx context.Context) (*Freeze, error)
}

// stopped refuses what an operator's freeze stops: everything that puts something up.
func (s *Service) stopped(ctx context.Context, kind Act) error {
	if kind != ActDeploy && kind != ActCreateAccount {
		return nil
	}
	f, err := s.cfg.Store.Freeze(ctx)
	if err != nil || f == nil {
		return err
	}
	reason := f.Reason
	if reason == "" {
		reason = "no reason was given"
	}
	return Errorf(CodeFrozen, "Stop, and tell the user. Nothing was spent; what is live stays live until its hour ends. An operator lifts it with `mcp-server unfreeze`.",
		"an operator stopped all deployments at %s: %s", f.At.UTC().Format(time.RFC3339), cut(reason, 300))
}

// SetFreeze stops all deployments from this moment, on every process that shares the
// store, or allows them again. by is the operator.
func (s *Service) SetFreeze(ctx context.Context, frozen bool, by, reason string) error {
	var f *Freeze
	state := "thawed"
	reason = cut(s.cfg.Redactor.Redact(reason), 300)
	if frozen {
		state, f = "frozen", &Freeze{By: by, Reason: reason, At: s.cfg.Now().UTC()}
	}
	// The stop comes first: a log that can't be written must not keep anybody from stopping.
	err := s.cfg.Store.SetFreeze(ctx, f)
	if err != nil {
		return err
	}
	s.notify(NoticeFrozen, map[string]any{"state": state, "by": by, "reason": reason})
	return s.notice(ctx, NoticeFreeze, Event{Principal: by, Detail: reason, Data: map[string]string{"state": state}})
}

// Frozen tells whether an operator stopped all deployments; nil: no.
func (s *Service) Frozen(ctx context.Context) (*Freeze, error) { return s.cfg.Store.Freeze(ctx) }

// SessionView is one session as an operator sees it, from what is on record alone.
type SessionView struct {
	Session Session
	// Account is its newest, without secrets; nil: it has none.
	Account     *Account
	Phase       Phase
	Left        time.Duration
	Deployments []Deployment // the newest of each Worker on that account
	Claim       *Claim       // the newest on that account, without its page token
	ClaimState  ClaimState
}

// Overview lists sessions for operators, newest first. It asks nobody.
func (s *Service) Overview(ctx context.Context, f SessionFilter) ([]SessionView, error) {
	sessions, err := s.cfg.Store.SessionsWhere(ctx, f)
	if err != nil {
		return nil, err
	}
	out := make([]SessionView, 0, len(sessions))
	for i := range sessions {
		v, err := s.view(ctx, &sessions[i])
		if err != nil {
			return nil, err
		}
		out = append(out, *v)
	}
	return out, nil
}

func (s *Service) view(ctx context.Context, sess *Session) (*SessionView, error) {
	v := &SessionView{Session: *sess, Phase: PhaseExpired}
	accounts, err := s.cfg.Store.Accounts(ctx, sess.ID)
	if err != nil || len(accounts) == 0 {
		return v, err
	}
	s.learn(accounts)
	a := accounts[0]
	now := s.timeFor(&a)
	v.Phase, v.Left = a.Phase(now), max(0, a.ExpiresAt.Sub(now))
	a.Token, a.ClaimURL = "", ""
	v.Account = &a
	deps, err := s.cfg.Store.Deployments(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	v.Deployments = newestByWorker(slices.DeleteFunc(deps, func(d Deployment) bool { return d.AccountID != a.ID || d.gone() }))
	claim, err := s.cfg.Store.Claim(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	if claim != nil && claim.AccountID == a.ID {
		v.ClaimState = claim.StateAt(now)
		claim.PageToken = ""
		v.Claim = claim
	}
	return v, nil
}
