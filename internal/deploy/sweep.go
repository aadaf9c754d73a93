package deploy

import (
	"context"
	"errors"
	"slices"
	"time"
)

// sweepBatch is how many sessions one pass looks after.
const sweepBatch = 100

// Pruner is a Store that forgets what was kept long enough.
type Pruner interface {
	Prune(ctx context.Context, now time.Time) error
}

// RunSweeper sweeps every so often until ctx ends. What went wrong in a pass is told to
// failed; the next pass tries again. One process at a time sweeps a store.
func (s *Service) RunSweeper(ctx context.Context, every time.Duration, failed func(error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			failed(err)
		}
	}
}

// Sweep is one pass: it settles what processes left behind, ends the accounts that are
// over and wipes their secrets, and forgets what was kept long enough. While another
// process sweeps, it does nothing; where there is nothing to do, it asks the API nothing.
func (s *Service) Sweep(ctx context.Context) error {
	err := s.inTurn(ctx, "sweeper", 0, s.sweep)
	if IsCode(err, CodeBusy) {
		return nil
	}
	return err
}

func (s *Service) sweep(ctx context.Context, _ *Lease) error {
	now := s.cfg.Now()
	if api := s.cfg.Cloud.Clock(); api.After(now) {
		now = api
	}
	left, err := s.cfg.Store.Abandoned(ctx, now, sweepBatch)
	if err != nil {
		return err
	}
	if len(left) > 0 && !s.cfg.Cloud.Loopback() {
		s.askClock(ctx) // secrets are wiped when both clocks agree
	}
	var errs []error
	for i := range left {
		errs = append(errs, s.tendIfNeeded(ctx, &left[i]))
	}
	errs = append(errs, s.settleClaims(ctx))
	if p, ok := s.cfg.Store.(Pruner); ok {
		errs = append(errs, p.Prune(ctx, s.cfg.Now()))
	}
	return errors.Join(errs...)
}

// tendIfNeeded looks after a session where there is something to look after.
func (s *Service) tendIfNeeded(ctx context.Context, sess *Session) error {
	p, err := s.picture(ctx, sess)
	if IsCode(err, CodeSessionNotFound) {
		return nil // it was forgotten meanwhile
	}
	if err != nil {
		return err
	}
	s.learn(p.Accounts)
	if !s.needsTending(p) {
		return nil
	}
	return s.tend(ctx, sess)
}

// tend looks after a session, unless somebody is at work on it: who is does so too.
func (s *Service) tend(ctx context.Context, sess *Session) error {
	err := s.inTurn(ctx, sessionTurn(sess.ID), 0, func(ctx context.Context, lease *Lease) error {
		return s.lookAfter(ctx, lease, sess)
	})
	if IsCode(err, CodeBusy) {
		return nil
	}
	return err
}

// needsTending tells whether there is something to look after in a session: a step of
// which nobody knows what became, an account that is over, or was given away by a yes that came no further, a deployment that came no
// further.
func (s *Service) needsTending(p *Picture) bool {
	if slices.ContainsFunc(p.Steps, func(step Step) bool { return !step.State.Settled() }) {
		return true
	}
	alive := map[string]bool{}
	for i := range p.Accounts {
		a := &p.Accounts[i]
		if s.toEnd(a) || p.Claim != nil && p.Claim.AccountID == a.ID && p.Claim.State.Given() && a.State == AccountCurrent {
			return true
		}
		alive[a.ID] = a.Usable(s.timeFor(a), 0)
	}
	return slices.ContainsFunc(unfinished(p.Deployments), func(i int) bool { return alive[p.Deployments[i].AccountID] })
}

// toEnd tells whether an account is over beyond doubt and that is not on record yet.
func (s *Service) toEnd(a *Account) bool {
	open := a.State == AccountCurrent || !a.Token.Empty() || !a.ClaimURL.Empty()
	return open && s.overForGood(a)
}

// endOver writes down which accounts are over, and wipes what could act on them.
func (s *Service) endOver(ctx context.Context, sess *Session, accounts []Account) error {
	for i := range accounts {
		a := &accounts[i]
		if !s.toEnd(a) {
			continue
		}
		state := a.State
		if state == AccountCurrent {
			state = AccountExpired
		}
		if err := s.end(ctx, a, state); err != nil {
			return err
		}
		a.State, a.Token, a.ClaimURL = state, "", ""
		if state != AccountExpired {
			continue // its end is on record already; only secrets were left
		}
		e := aboutSession(sess, a)
		e.Principal, e.Labels, e.Data = sess.Principal, sess.Labels, s.logFacts(ctx, sess.ID)
		if err := s.notice(ctx, NoticeExpired, e); err != nil {
			return err
		}
	}
	return nil
}
