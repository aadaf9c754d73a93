package deploy

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

// journal writes the remote steps of one turn at a session into the ledger: each before
// it is taken, each again with what came of it.
type journal struct {
	s       *Service
	lease   *Lease
	session *Session
	acct    *Account  // nil while it is being made
	art     *Artifact // nil: the steps belong to none
	// before is asked before a step is written down; its error is the step's.
	before func(ctx context.Context, step *Step) error
	// brought is the deployment that an upload comes to, or may have come to; nil: none is kept.
	brought func(step *Step, done bool) *Deployment

	mu sync.Mutex
	// making is the step that makes the account. When the account is there, the Service
	// settles it, with the account in the same stroke.
	making *Step
}

// Begin implements Journal. Nothing is begun for which the account has not enough life
// left: CodeSessionExpired.
func (j *journal) Begin(ctx context.Context, kind StepKind, what string) (func(string, error) error, error) {
	if err := ctx.Err(); err != nil {
		return nil, AsError(err)
	}
	if j.acct != nil && !j.acct.Usable(j.s.timeFor(j.acct), lifeFor(kind)) {
		return nil, j.s.errExpired(j.session.ID, j.acct)
	}
	step := &Step{
		ID: NewID(stepPrefix), SessionID: j.session.ID, Principal: j.session.Principal, Kind: kind, State: StepOpen,
		What: cut(j.s.cfg.Redactor.Redact(what), 200), Fence: j.lease.Fence, BegunAt: j.s.cfg.Now().UTC(),
	}
	if j.acct != nil {
		step.AccountID = j.acct.ID
	}
	if j.art != nil {
		step.BundleID, step.Digest = j.art.BundleID(), j.art.Digest
	}
	if j.before != nil {
		if err := j.before(ctx, step); err != nil {
			return nil, err
		}
	}
	crash(crashBefore + string(kind))
	if err := j.write(context.WithoutCancel(ctx), step); err != nil {
		return nil, err
	}
	crash(crashBegun + string(kind))
	return func(ref string, err error) error { return j.settle(context.WithoutCancel(ctx), step, ref, err) }, nil
}

// write puts the step into the ledger. One that may or may not have been written is
// not taken, and said so as far as that can be written.
func (j *journal) write(ctx context.Context, step *Step) error {
	err := j.s.cfg.Store.BeginStep(ctx, j.lease, *step, j.s.limits(step)...)
	if err != nil && !IsCode(err, CodeBusy) && !IsCode(err, CodeRateLimited) {
		_ = j.s.cfg.Store.Settle(ctx, j.lease, Settlement{StepID: step.ID, State: StepFailed})
	}
	return err
}

func (j *journal) settle(ctx context.Context, step *Step, ref string, err error) error {
	crash(crashTaken + string(step.Kind))
	ended := Settlement{StepID: step.ID, State: outcome(err), Ref: ref}
	switch {
	case step.Kind == StepCreateAccount && ended.State == StepDone:
		j.setMaking(step)
		return nil
	case step.Kind == StepCreateAccount && ended.State == StepUnknown:
		// Nobody can ask for an account whose name is not known.
		ended.State, ended.Note = StepLost, noteAccountLost
		j.setMaking(step)
	case step.Kind == StepUploadScript && ended.State != StepFailed && j.brought != nil:
		// Also where the answer was lost: what served before is not to be taken for what
		// serves now.
		step.Ref = ref
		ended.Deployment = j.brought(step, ended.State == StepDone)
	}
	if err := j.s.cfg.Store.Settle(ctx, j.lease, ended); err != nil {
		return err
	}
	crash(crashSettled + string(step.Kind))
	return nil
}

func (j *journal) setMaking(step *Step) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.making = step
}

// made is the step that made an account, or may have.
func (j *journal) made() *Step {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.making
}

// keepAccount settles the making of an account: it is the session's current one from
// here on, and every other is retired.
func (j *journal) keepAccount(ctx context.Context, acct *Account) error {
	step := j.made()
	if step == nil {
		return Errorf(CodeInternal, "Tell the user to report it: a mistake of this server.", "an account was made without a word to the ledger")
	}
	err := j.s.cfg.Store.Settle(ctx, j.lease, Settlement{StepID: step.ID, State: StepDone, Ref: acct.ID, Account: acct})
	if err == nil {
		crash(crashSettled + string(StepCreateAccount))
	}
	return err
}

const (
	stepPrefix       = "l"
	deploymentPrefix = "d"
)

// deploymentID is the name of what a step uploads. It follows from the step's, so that
// whoever looks after the step finds the deployment, and makes no second one.
func deploymentID(step *Step) string {
	return deploymentPrefix + strings.TrimPrefix(step.ID, stepPrefix)
}

// outcome is what an error tells of a step's effect: the API's no is one that had none;
// no answer, or none that can be read, leaves it open, unless the Cloud knows that
// nothing was sent (an error in its chain has the method NoEffect).
func outcome(err error) StepState {
	if err == nil {
		return StepDone
	}
	type unsent interface {
		error
		NoEffect() bool
	}
	if none, ok := errors.AsType[unsent](err); ok && none.NoEffect() {
		return StepFailed
	}
	switch AsError(err).Code {
	case CodeAPIUnreachable, CodeAPIBadResponse, CodeCancelled, CodeTimeout, CodeInternal, CodeStore, CodeBusy:
		return StepUnknown
	}
	return StepFailed
}

// lifeFor is how much life an account must have left for a step to begin. An upload may
// be 3 MiB on a slow line; the others are one small request.
func lifeFor(kind StepKind) time.Duration {
	switch kind {
	case StepUploadAssets, StepUploadScript:
		return 30 * time.Second
	default:
		return 10 * time.Second
	}
}

// limits are the operator's on what may be begun.
func (s *Service) limits(step *Step) []StepLimit {
	limits := s.hourLimits(step.Principal, step.Kind)
	if step.Kind == StepCreateAccount {
		limits = append(limits, s.liveLimits(step.Principal)...)
	}
	return limits
}
