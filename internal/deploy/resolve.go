package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"time"
)

// place is where a deployment goes: a session and its account in use; nil: one has to
// be made.
type place struct {
	session Session
	account *Account
	isNew   bool // the session was made for this call
}

// resolve finds the session of a call and decides whether it may be deployed to. It
// spends nothing. The caller is in no turn.
func (r *run) resolve(ctx context.Context) (*place, error) {
	if r.req.SessionID != "" {
		sess, err := r.s.cfg.Store.Session(ctx, r.c.Principal, r.req.SessionID)
		if err != nil {
			return nil, err
		}
		return r.placeIn(ctx, *sess)
	}
	if p, err := r.current(ctx); p != nil || err != nil {
		return p, err
	}
	// Two calls, or two processes, that come at once make one session.
	sum := sha256.Sum256([]byte(r.c.Principal + "\x00" + r.c.Scope + "\x00" + r.req.RunID))
	var p *place
	err := r.s.inTurn(ctx, "current/"+hex.EncodeToString(sum[:16]), r.s.cfg.TurnWait, func(ctx context.Context, _ *Lease) (err error) {
		if p, err = r.current(ctx); p == nil && err == nil {
			p, err = r.newSession(ctx)
		}
		return err
	})
	return p, err
}

// current is the place in the session that a call goes to which names none: where the
// call before it under the same key worked, else the caller's current one. nil: there
// is none, or its account is over.
func (r *run) current(ctx context.Context) (*place, error) {
	store := r.s.cfg.Store
	var candidates []*Session
	if id := r.call.marked().Session; id != "" {
		sess, err := store.Session(ctx, r.c.Principal, id)
		if err != nil && !IsCode(err, CodeSessionNotFound) {
			return nil, err
		}
		candidates = append(candidates, sess)
	}
	sess, err := store.CurrentSession(ctx, r.c.Principal, r.c.Scope, r.req.RunID)
	if err != nil {
		return nil, err
	}
	for _, sess := range append(candidates, sess) {
		if sess == nil {
			continue
		}
		if p, err := r.placeIn(ctx, *sess); !IsCode(err, CodeSessionExpired) {
			return p, err
		}
	}
	return nil, nil
}

func (r *run) newSession(ctx context.Context) (*place, error) {
	now := r.s.cfg.Now().UTC()
	sess := Session{
		ID: NewID("s"), Principal: r.c.Principal, Scope: r.c.Scope, RunID: r.req.RunID, JobID: r.req.JobID,
		Labels: r.c.Labels, Client: r.c.Client, CreatedAt: now, UpdatedAt: now,
	}
	crash("before/SaveSession")
	if err := r.s.cfg.Store.SaveSession(ctx, sess); err != nil {
		return nil, err
	}
	crash("after/SaveSession")
	return &place{session: sess, isNew: true}, nil
}

// placeIn decides whether sess may be deployed to. Only a fresh account gets a session
// out of having lost one.
func (r *run) placeIn(ctx context.Context, sess Session) (*place, error) {
	s := r.s
	r.held = &sess
	accounts, err := s.cfg.Store.Accounts(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	steps, err := s.cfg.Store.Steps(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	s.learn(accounts)
	if len(accounts) > 0 {
		if err := s.frozen(ctx, sess, &accounts[0]); err != nil {
			return nil, err
		}
	}
	if fresh, err := r.wantsFresh(sess, steps); err != nil || fresh {
		return &place{session: sess}, err
	}
	return s.standing(sess, accounts, steps)
}

// wantsFresh tells whether an account is to be made whatever there is. A call that is
// repeated under its key, because the one before came to no result, does not make a
// second one: the first is taken, or is lost.
func (r *run) wantsFresh(sess Session, steps []Step) (bool, error) {
	mark := r.call.marked()
	if !r.req.Fresh || mark.Session != sess.ID || mark.Step == "" {
		return r.req.Fresh, nil
	}
	for _, step := range steps {
		if step.ID != mark.Step {
			continue
		}
		if step.State == StepLost {
			return false, errAccountUnknown(sess.ID)
		}
		return step.State == StepFailed, nil // an open one is settled in the turn
	}
	return true, nil // it was never begun
}

// standing is the session's place as it stands.
func (s *Service) standing(sess Session, accounts []Account, steps []Step) (*place, error) {
	last := lastAccount(steps)
	lost := last != nil && last.State == StepLost
	if len(accounts) == 0 {
		if lost {
			return nil, errAccountUnknown(sess.ID)
		}
		return &place{session: sess}, nil
	}
	newest := &accounts[0]
	switch usable := newest.Usable(s.timeFor(newest), s.cfg.Margin) && newest.Target == s.cfg.Cloud.Target(); {
	case usable:
		return &place{session: sess, account: newest}, nil
	case lost:
		return nil, errAccountUnknown(sess.ID)
	case newest.State == AccountClaimed:
		return nil, Errorf(CodeSessionClosed,
			"To put something else live, call deploy_temporary with fresh: true; it goes to a new temporary account. What was claimed is now the user's own.",
			"session %s was handed over to a human; its account takes no more deployments from here", sess.ID)
	case newest.Target != s.cfg.Cloud.Target():
		return nil, Errorf(CodeSessionExpired,
			"Call deploy_temporary without session_id, or with fresh: true, to use a new temporary account.",
			"session %s lived on another API than the one this server talks to now", sess.ID)
	case newest.State == AccountDeleted:
		return nil, Errorf(CodeSessionExpired,
			"Call deploy_temporary without session_id, or with fresh: true, to use a new temporary account; its URL will be another one.",
			"what session %s had put up was taken down", sess.ID)
	case newest.State == AccountLost:
		return nil, errAccountLost(sess.ID)
	}
	return nil, s.errExpired(sess.ID, newest)
}

// frozen refuses while a human has been asked about the account, and once they have
// approved, whatever the account's own record says: the two are written one after the
// other, and a crash between them must not leave it open.
func (s *Service) frozen(ctx context.Context, sess Session, acct *Account) error {
	state, err := s.claimOf(ctx, sess, acct)
	if err != nil || state != ClaimAwaiting {
		return err
	}
	return Errorf(CodeClaimPending,
		"Stop here and wait for the user. Deploying is possible again when the user refuses, or when request_claim was called with withdraw: true.",
		"a human has been asked to keep session %s as it is; nothing is deployed to it meanwhile", sess.ID)
}

// claimOf is the state of the claim on an account; "": there is none. An account whose
// claim is approved is handed over from then on.
func (s *Service) claimOf(ctx context.Context, sess Session, acct *Account) (ClaimState, error) {
	claim, err := s.cfg.Store.Claim(ctx, sess.ID)
	if err != nil || claim == nil || claim.AccountID != acct.ID {
		return "", err
	}
	state := claim.StateAt(s.timeFor(acct))
	if state.Given() && acct.State == AccountCurrent {
		acct.State, acct.Token = AccountClaimed, ""
		return state, s.cfg.Store.SaveAccount(ctx, *acct)
	}
	return state, nil
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
		if SealedClaim(a.ClaimURL) {
			continue // nobody here can open it
		}
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
