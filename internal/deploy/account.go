package deploy

import (
	"context"
	"time"
)

// account makes sure that there is one to deploy to.
func (r *run) account(ctx context.Context) error {
	if r.place.account != nil {
		r.acct, r.isNew = r.place.account, false
		return nil
	}
	if err := standsAlone(r.art); err != nil {
		return err
	}
	if err := r.s.termsAccepted(ctx, r.c); err != nil {
		return err
	}
	return r.onRecord(ctx, ActCreateAccount, func(ctx context.Context) error {
		if err := r.s.boot(ctx, r.art); err != nil {
			return err
		}
		return r.makeAccount(ctx)
	})
}

// makeAccount makes the session's new current account. It is never done twice for one
// wish: where its answer is lost, or we are before it is on record, the step stays in
// the ledger as lost, and the session says so until the caller asks for a fresh one.
func (r *run) makeAccount(ctx context.Context) error {
	s := r.s
	r.acct = nil // of an attempt before
	j := r.journal()
	j.before = func(ctx context.Context, step *Step) error {
		return r.call.keep(ctx, callMark{Session: step.SessionID, Step: step.ID})
	}
	grant, err := s.cfg.Cloud.Provision(WithJournal(ctx, j), r.stage)
	if err != nil {
		if j.made() == nil {
			return err
		}
		return errAccountUnknown(r.place.session.ID).Caused(err)
	}
	acct := grant.Account
	acct.SessionID = r.place.session.ID
	acct.Target = s.cfg.Cloud.Target()
	now := s.cfg.Now()
	if api := s.cfg.Cloud.Clock(); !api.IsZero() {
		acct.Skew = api.Sub(now)
	}
	if acct.CreatedAt.IsZero() {
		acct.CreatedAt = now.Add(acct.Skew).UTC()
	}
	s.learn([]Account{acct})
	s.sealClaim(&acct)
	// The account exists now, whether or not the caller still waits for it.
	if err := j.keepAccount(context.WithoutCancel(ctx), &acct); err != nil {
		return errAccountUnknown(r.place.session.ID).Caused(err)
	}
	r.acct, r.isNew = &acct, true
	return nil
}

// journal is the one of this run's turn, for steps on its account.
func (r *run) journal() *journal {
	return &journal{s: r.s, lease: r.lease, session: &r.place.session, acct: r.acct, art: r.art}
}

// end takes an account out of use and wipes what could act on it.
func (s *Service) end(ctx context.Context, a *Account, state AccountState) error {
	s.watches.stopOf(a.ID)
	over := *a
	over.State, over.Token, over.ClaimURL = state, "", ""
	return s.cfg.Store.SaveAccount(ctx, over)
}

// failed is what the failure of an upload comes to. Where the API did not accept the
// account's token, the account is over, or lost for a reason that only the API knows.
func (r *run) failed(ctx context.Context, err error) error {
	if !IsCode(err, CodeAccountLost) || r.isNew {
		return err
	}
	over, errEnd := r.s.endRefused(context.WithoutCancel(ctx), r.acct)
	if errEnd != nil {
		return errEnd
	}
	if over {
		return r.s.errExpired(r.place.session.ID, r.acct)
	}
	return errAccountLost(r.place.session.ID).Caused(err)
}

// endRefused writes down that the API does not accept an account's token any more, and
// tells whether that is because its hour is over.
func (s *Service) endRefused(ctx context.Context, a *Account) (over bool, err error) {
	if !s.timeFor(a).Before(a.ExpiresAt) {
		return true, s.end(ctx, a, AccountExpired)
	}
	if err := s.end(ctx, a, AccountLost); err != nil {
		return false, err
	}
	return false, s.notice(ctx, NoticeAccountLost, Event{SessionID: a.SessionID, AccountID: a.ID, AccountName: a.Name, ExpiresAt: a.ExpiresAt})
}

// termsAccepted holds back the making of an account for which nobody accepted the terms.
func (s *Service) termsAccepted(ctx context.Context, c Caller) error {
	if s.cfg.TermsAccepted || s.cfg.Cloud.Loopback() {
		return nil
	}
	ok, err := s.cfg.Store.Accepted(ctx, c.Principal, termsText)
	if err != nil || ok {
		return err
	}
	next := "Ask the user to run `mcp-server setup` in their own terminal, or to start the server with --accept-terms. Only a human can accept the terms."
	if c.Door == DoorHTTP { // setup would accept them for another machine's user
		next = "Tell the user: a client that can show forms is asked for a yes; else this server's operator accepts the terms with --accept-terms. Only a human can accept them."
	}
	return Errorf(CodeTermsNeeded, next, "no human has accepted Cloudflare's terms for this caller yet. %s", termsText)
}

// noteAccountLost says what a lost creation means.
const noteAccountLost = "An account may have been made that nobody can reach. It costs nothing and ends by itself within the hour."

// lastAccount reads the ledger for the last step that made, or may have made, an
// account. One that is still open is somebody's who is at work.
func lastAccount(steps []Step) (last *Step) {
	for i := range steps {
		if steps[i].Kind == StepCreateAccount && steps[i].State != StepFailed {
			last = &steps[i]
		}
	}
	return last
}

// errAccountUnknown: the making of an account had no answer that is on record.
func errAccountUnknown(session string) *Error {
	return Errorf(CodeAccountLost,
		"Call deploy_temporary with fresh: true to make another account; nothing else does. If an idempotency key was used, use a new one.",
		"the answer to the making of session %s's account was lost. %s", session, noteAccountLost)
}

// timeFor is the time by which an account's life is measured, in the API's terms: the
// later of our clock, corrected by what was between the two when the account was
// made, and the API's own clock as last heard. Either can end a use, neither can
// lengthen it, and both that jump back never give more than the account had.
func (s *Service) timeFor(a *Account) time.Time {
	now := s.cfg.Now().Add(a.Skew)
	if now.Before(a.CreatedAt) {
		now = a.CreatedAt
	}
	if a.Target != s.cfg.Cloud.Target() {
		return now // another API's clock says nothing of this account
	}
	if api := s.cfg.Cloud.Clock(); api.After(now) {
		return api
	}
	return now
}

const (
	// wipeMargin is how long both clocks must agree that an account is over before its
	// secrets are wiped: a clock that jumps must not throw a living account away.
	wipeMargin = 5 * time.Minute
	// wipeUnheard is that margin where the API's clock was not heard.
	wipeUnheard = 24 * time.Hour
)

// overForGood tells whether an account is over beyond doubt, so that its secrets can be
// wiped: by both clocks, with a margin. Accounts of a sandbox are over with either.
func (s *Service) overForGood(a *Account) bool {
	ours := s.cfg.Now().Add(a.Skew)
	if a.Target != s.cfg.Cloud.Target() {
		return !ours.Before(a.ExpiresAt.Add(wipeUnheard))
	}
	if s.cfg.Cloud.Loopback() {
		return !s.timeFor(a).Before(a.ExpiresAt)
	}
	api := s.cfg.Cloud.Clock()
	if api.IsZero() {
		return !ours.Before(a.ExpiresAt.Add(wipeUnheard))
	}
	until := a.ExpiresAt.Add(wipeMargin)
	return !ours.Before(until) && !api.Before(until)
}
