package deploy

import (
	"context"
	"net/url"
	"time"
)

// place is where a deployment goes: a session, its account in use (nil: one has to
// be made) and, where fresh was asked for, the account that the new one replaces.
type place struct {
	session Session
	account *Account
	retires *Account
	isNew   bool // the session was made for this call
}

// resolve finds the session of a call and decides whether it may be deployed to. It
// spends nothing. The caller holds no lock.
func (s *Service) resolve(ctx context.Context, c Caller, req DeployRequest) (*place, error) {
	if req.SessionID != "" {
		sess, err := s.cfg.Store.Session(ctx, c.Principal, req.SessionID)
		if err != nil {
			return nil, err
		}
		return s.placeIn(ctx, *sess, req)
	}
	unlock, err := s.locks.lock(ctx, "current\x00"+c.Principal+"\x00"+c.Scope+"\x00"+req.RunID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	sess, err := s.cfg.Store.CurrentSession(ctx, c.Principal, c.Scope, req.RunID)
	if err != nil {
		return nil, err
	}
	if sess != nil {
		p, err := s.placeIn(ctx, *sess, req)
		if !IsCode(err, CodeSessionExpired) {
			return p, err
		}
	}
	now := s.cfg.Now().UTC()
	fresh := Session{
		ID: NewID("s"), Principal: c.Principal, Scope: c.Scope, RunID: req.RunID, JobID: req.JobID,
		Labels: c.Labels, Client: c.Client, CreatedAt: now, UpdatedAt: now,
	}
	if err := s.cfg.Store.SaveSession(ctx, fresh); err != nil {
		return nil, err
	}
	return &place{session: fresh, isNew: true}, nil
}

// placeIn decides whether sess may be deployed to.
func (s *Service) placeIn(ctx context.Context, sess Session, req DeployRequest) (*place, error) {
	accounts, err := s.cfg.Store.Accounts(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	if len(accounts) == 0 {
		return &place{session: sess}, nil
	}
	s.learn(accounts)
	newest := &accounts[0]
	if err := s.frozen(ctx, sess, newest); err != nil {
		return nil, err
	}
	if req.Fresh {
		p := &place{session: sess}
		if newest.State == AccountCurrent {
			p.retires = newest
		}
		return p, nil
	}
	switch {
	case newest.State == AccountClaimed:
		return nil, Errorf(CodeSessionClosed,
			"To put something else live, call deploy_temporary with fresh: true; it goes to a new temporary account. What was claimed is now the user's own.",
			"session %s was handed over to a human; its account takes no more deployments from here", sess.ID)
	case newest.Target != s.cfg.Cloud.Target():
		return nil, Errorf(CodeSessionExpired,
			"Call deploy_temporary without session_id, or with fresh: true, to use a new temporary account.",
			"session %s lived on another API than the one this server talks to now", sess.ID)
	case newest.State == AccountLost:
		return nil, errAccountLost(sess.ID)
	case !newest.Usable(s.timeFor(newest), s.cfg.Margin):
		return nil, s.errExpired(sess.ID, newest)
	}
	return &place{session: sess, account: newest}, nil
}

// frozen refuses while a human has been asked about the account, and once they have
// approved, whatever the account's own record says: the two are written one after the
// other, and a crash between them must not leave it open.
func (s *Service) frozen(ctx context.Context, sess Session, acct *Account) error {
	claim, err := s.cfg.Store.Claim(ctx, sess.ID)
	if err != nil || claim == nil || claim.AccountID != acct.ID {
		return err
	}
	switch claim.StateAt(s.timeFor(acct)) {
	case ClaimApproved:
		if acct.State != AccountCurrent {
			return nil
		}
		acct.State, acct.Token = AccountClaimed, ""
		return s.cfg.Store.SaveAccount(ctx, *acct)
	case ClaimRefused, ClaimLapsed:
		return nil
	case ClaimAwaiting:
	}
	return Errorf(CodeClaimPending,
		"Stop here and wait for the user. Deploying is possible again when the user refuses; status tells.",
		"a human has been asked to keep session %s as it is; nothing is deployed to it meanwhile", sess.ID)
}

func (s *Service) errExpired(session string, a *Account) *Error {
	return Errorf(CodeSessionExpired,
		"Call deploy_temporary again without session_id, or with fresh: true, to use a new temporary account; its URL will be another one.",
		"the temporary account of session %s is over: it lived until %s", session, a.ExpiresAt.UTC().Format(time.RFC3339))
}

func errAccountLost(session string) *Error {
	return Errorf(CodeAccountLost,
		"Call deploy_temporary with fresh: true to use a new temporary account.",
		"the API does not accept the account of session %s any more: it was claimed, removed, or is over", session)
}

// learn registers accounts' secrets with the redactor, before anything is done with them.
func (s *Service) learn(accounts []Account) {
	for _, a := range accounts {
		s.cfg.Redactor.Add(a.Token.Reveal())
		s.cfg.Redactor.Add(a.ClaimURL.Reveal())
		s.cfg.Redactor.Add(a.claimToken())
	}
}

// claimToken is the secret part of the claim link (wrangler-wire fact sheet, section 3.3).
func (a *Account) claimToken() string {
	u, err := url.Parse(a.ClaimURL.Reveal())
	if err != nil {
		return ""
	}
	return u.Query().Get("claimToken")
}
