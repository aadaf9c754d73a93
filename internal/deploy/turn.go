package deploy

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// renewEvery is how often a lease is lengthened while its holder works. It outlives a
	// renewal that fails.
	renewEvery = LeaseTTL / 3
	// firstTurnPoll and slowTurnPoll are how often the store is asked for a lease that
	// another process holds.
	firstTurnPoll = 50 * time.Millisecond
	slowTurnPoll  = time.Second
	// busyRetry is told to who waited in vain behind another call of this process: how
	// long that one takes is not known.
	busyRetry = 10 * time.Second
)

// sessionTurn is the name of the lease of a session, under which its steps are begun.
func sessionTurn(id string) string { return id }

// inTurn runs f while it is this call's turn at something named: no other call of this
// process, and no other process, is in its turn at the same name. It waits for its turn
// up to wait, then it is CodeBusy with RetryAfter; with no wait it asks once. The
// context of f ends when the turn is lost: the lease could not be renewed in time, and
// another process may act. What f was doing then is told as that.
func (s *Service) inTurn(ctx context.Context, name string, wait time.Duration, f func(context.Context, *Lease) error) error {
	until := time.Now().Add(wait)
	unlock, err := s.localTurn(ctx, name, wait)
	if err != nil {
		return err
	}
	defer unlock()
	lease, err := s.storeTurn(ctx, name, until)
	if err != nil {
		return err
	}
	within, lose := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		own := *lease
		keepUp(within, func(ctx context.Context) error { return s.cfg.Store.RenewLease(ctx, &own, LeaseTTL) },
			func(err error) { lose(errTurnLost(err)) })
	})
	defer func() {
		lose(nil)
		renewing.Wait()
		// One that can't be given back runs out by itself.
		_ = s.cfg.Store.ReleaseLease(context.WithoutCancel(ctx), lease)
	}()
	return orCause(within, f(within, lease))
}

// localTurn is the turn among the calls of this process.
func (s *Service) localTurn(ctx context.Context, name string, wait time.Duration) (unlock func(), err error) {
	if wait <= 0 {
		if unlock, ok := s.locks.try(name); ok {
			return unlock, nil
		}
		return nil, errBusy(busyRetry)
	}
	waiting, stop := context.WithTimeout(ctx, wait)
	defer stop()
	unlock, err = s.locks.lock(waiting, name)
	if err != nil && ctx.Err() == nil {
		return nil, errBusy(busyRetry)
	}
	return unlock, err
}

// storeTurn is the turn among processes.
func (s *Service) storeTurn(ctx context.Context, name string, until time.Time) (*Lease, error) {
	for pause := firstTurnPoll; ; pause = min(2*pause, slowTurnPoll) {
		lease, err := s.cfg.Store.AcquireLease(ctx, name, LeaseTTL)
		if err == nil {
			return lease, nil
		}
		if !IsCode(err, CodeBusy) {
			return nil, err
		}
		if left := time.Until(until); left <= 0 {
			after := AsError(err).RetryAfter
			if after <= 0 {
				after = busyRetry
			}
			return nil, errBusy(after)
		} else if err := sleep(ctx, min(pause, left)); err != nil {
			return nil, err
		}
	}
}

// keepUp calls renew again and again until ctx ends. When that did not succeed for so
// long that what is held may have run out, or another has taken it, it tells lost.
func keepUp(ctx context.Context, renew func(context.Context) error, lost func(error)) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	good := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		// Also when it is late: what ran out while the machine slept may be nobody else's yet.
		limited, stop := context.WithTimeout(ctx, max(renewEvery, time.Until(good.Add(LeaseTTL))))
		err := renew(limited)
		stop()
		switch {
		case err == nil:
			good = asked
		case ctx.Err() != nil:
			return
		case IsCode(err, CodeBusy) || time.Since(good) >= LeaseTTL-renewEvery:
			lost(err)
			return
		}
	}
}

// orCause gives the reason for which ctx was ended, where it is an Error, in place of
// the cancellation that came of it.
func orCause(ctx context.Context, err error) error {
	why, ok := errors.AsType[*Error](context.Cause(ctx))
	if !ok || err == nil {
		return err
	}
	if code := AsError(err).Code; code != CodeCancelled && code != CodeTimeout && code != CodeBusy {
		return err
	}
	told := *why
	told.Cause = errors.Join(why.Cause, err)
	return &told
}

func errBusy(after time.Duration) *Error {
	return &Error{
		Code: CodeBusy, Message: "another call is at work on this session",
		Next: "Wait as long as retry_after_seconds says, then make the same call again.", RetryAfter: after,
	}
}

func errTurnLost(cause error) *Error {
	return &Error{
		Code: CodeBusy, Message: "this server lost its hold on the session in the middle of the call, and another may be at work on it by now",
		Next: "Call status to see what is live, then make the same call again.", RetryAfter: busyRetry, Cause: cause,
	}
}
