package deploy

import (
	"cmp"
	"context"
	"strconv"
	"sync"
	"time"
)

// run is one deployment under way.
type run struct {
	s     *Service
	c     Caller
	req   DeployRequest
	call  *keyedCall // nil: without an idempotency key
	art   *Artifact
	place *place
	held  *Session // the session that was looked at last, for heldBack
	lease *Lease
	acct  *Account
	isNew bool        // acct was made by this run
	prev  *Deployment // what this Worker served before on this account
	older bool        // prev replaced another version
	// prevMet: what served before met the expectation too, or it is not known.
	prevMet bool
	events  *eventBook
	watch   *watch   // keeps what the Worker says; nil: nobody does
	look    *looking // at what is on the account beside; nil: nobody looks
	dep     Deployment
	// secrets are the values of secret bindings, by binding; nowhere else.
	secrets map[string]string
	// resources are what was found and made for this deployment.
	resources []Resource
	// discardBy are the rules by which the deployment goes if its check fails; nil: it stays.
	discardBy []Reason
	// promise ends the step that was written down for that; nil: there is none.
	promise   func(ref string, err error) error
	discarded *Discarded
	// facts and findings are what the policy sees of the artifact.
	facts    WorkerFacts
	findings []Finding
	// kept ends when the artifact is in the store; then errKept tells how that went.
	kept    *sync.WaitGroup
	errKept error
	warn    []string
	stages  []StageTime
	began   time.Time
}

// maxAttempts bounds how often a run starts over because an account was over just when
// it was to be used: once is usual, and each costs an account.
const maxAttempts = 3

// deploy is the road of a deployment.
func (s *Service) deploy(ctx context.Context, c Caller, req DeployRequest, call *keyedCall) (*DeployResult, error) {
	r := &run{s: s, c: c, req: req, call: call}
	r.tame()
	if err := r.named(ctx); err != nil {
		return nil, r.heldBack(ctx, err)
	}
	if err := r.withinLimits(ctx); err != nil {
		return nil, err
	}
	if err := r.bundle(ctx); err != nil {
		return nil, err
	}
	if err := r.preflight(ctx); err != nil {
		return nil, err
	}
	for left := maxAttempts - 1; ; left-- {
		err := r.attempt(ctx)
		if err == nil {
			return r.result(), nil
		}
		if left == 0 || !r.startsOver(err) {
			return nil, r.heldBack(ctx, err)
		}
	}
}

// attempt goes from the session to the check, in a turn at the session.
func (r *run) attempt(ctx context.Context) (err error) {
	r.dep, r.discardBy, r.promise, r.discarded = Deployment{}, nil, nil, nil
	if r.place, err = r.resolve(ctx); err != nil {
		return err
	}
	return r.s.inTurn(ctx, sessionTurn(r.place.session.ID), r.s.cfg.TurnWait, func(ctx context.Context, lease *Lease) error {
		r.lease = lease
		if err := r.reread(ctx); err != nil {
			return err
		}
		if err := r.mayMakeAccount(ctx); err != nil {
			return err
		}
		return r.onRecord(ctx, ActDeploy, r.carryOut)
	})
}

// carryOut does what was decided.
func (r *run) carryOut(ctx context.Context) error {
	defer r.keepArtifact(ctx).Wait()
	if err := r.account(ctx); err != nil {
		return err
	}
	defer r.closeEvents()
	if !r.isNew {
		r.look = r.s.lookAround(ctx, &r.place.session, r.acct)
		defer r.look.giveUp()
	}
	if err := r.upload(ctx); err != nil {
		return r.neverChecked(ctx, r.failed(ctx, err))
	}
	r.stage(StageCheck)
	r.check(ctx)
	r.stage("")
	if r.unchanged() && ctx.Err() != nil {
		return nil // nobody saw the end of this check: what was seen before stands
	}
	var kept error
	if r.passed() { // first: whatever comes between, what passed is not taken down
		kept = r.keep(context.WithoutCancel(ctx))
	}
	err := r.s.saveChecked(context.WithoutCancel(ctx), r.dep)
	if err == nil {
		r.foreign(ctx)
	}
	if !r.passed() {
		kept = r.discardFailed(ctx)
	}
	return cmp.Or(err, kept)
}

// foreign notices what else is on an account that was there before this run. It fails no
// deployment: what can't be noted now is seen again at the next touch.
func (r *run) foreign(ctx context.Context) {
	if r.isNew {
		return
	}
	if seen := r.look.wait(); seen != nil {
		if err := r.s.noteForeign(ctx, &r.place.session, r.acct, seen); err != nil {
			r.warn = append(r.warn, "The account has something that was not deployed from here, and it could not be put on record: "+AsError(err).Message)
		}
	}
	r.warn = append(r.warn, r.s.foreignWarnings(ctx, r.acct)...)
}

// onRecord has the policy decide about an act of this run, does it, and puts both on
// record.
func (r *run) onRecord(ctx context.Context, kind Act, do func(context.Context) error) error {
	e := aboutSession(&r.place.session, r.place.account)
	e.ClaimedLabels = r.claimedLabels()
	e.Worker, e.Digest, e.BundleID = r.art.Name, r.art.Digest, r.art.BundleID()
	a, err := r.s.decide(ctx, kind, r.c, e, Facts{
		Fresh: r.req.Fresh, DiscardOnFailedCheck: r.req.DiscardOnFailedCheck, Worker: r.facts, Findings: r.findings,
	})
	if err != nil {
		return err
	}
	if kind == ActDeploy {
		r.discardBy = r.mayHaveToGo(a)
	}
	err = do(ctx)
	if err != nil && (r.startsOver(err) || !r.isNew && r.dep.ID == "") {
		err = cmp.Or(a.giveBack(ctx), err) // nothing of it was done
	}
	unrecorded := a.end(ctx, err, func(e *Event) {
		if r.acct != nil {
			e.AccountID, e.AccountName, e.ExpiresAt = r.acct.ID, r.acct.Name, r.acct.ExpiresAt
		}
		if kind == ActCreateAccount && r.isNew {
			e.Data = map[string]string{"custody": r.acct.custody(r.s.yesRule(""))}
		}
		if kind == ActDeploy {
			e.DeploymentID, e.VersionID, e.URL = r.dep.ID, r.dep.VersionID, r.dep.URL
			if c := r.dep.Check; c != nil {
				e.Data = map[string]string{"serving": r.dep.Serving, "status": strconv.Itoa(c.Status), "version": c.Version}
			}
			r.discarded.onRecord(e)
		}
	})
	if unrecorded != nil {
		r.warn = append(r.warn, notOnRecord(unrecorded))
	}
	return alsoUnrecorded(err, unrecorded)
}

// claimedLabels are what the caller says of itself.
func (r *run) claimedLabels() map[string]string {
	if r.req.Claimed != nil {
		return r.req.Claimed
	}
	return claimed(r.req.RunID, r.req.JobID, r.c.Labels)
}

// startsOver tells whether to try again: the account turned out to be over, and the
// caller did not insist on it.
func (r *run) startsOver(err error) bool {
	return IsCode(err, CodeSessionExpired) && r.req.SessionID == "" && !r.isNew
}

// tame strips secrets from what the caller says of itself, before it is kept.
func (r *run) tame() {
	clean := r.s.cfg.Redactor.Redact
	r.c.Client, r.req.RunID, r.req.JobID = clean(r.c.Client), clean(r.req.RunID), clean(r.req.JobID)
	if r.req.Claimed != nil {
		told := map[string]string{}
		for k, v := range r.req.Claimed {
			told[clean(k)] = clean(v)
		}
		r.req.Claimed = told
	}
}

// named tells a wrong handle before any work is done.
func (r *run) named(ctx context.Context) error {
	if r.req.SessionID == "" {
		return nil
	}
	_, err := r.resolve(ctx)
	return err
}

func (r *run) bundle(ctx context.Context) (err error) {
	r.stage(StageBundle)
	if r.req.BundleID != "" {
		r.art, err = r.s.cfg.Store.Artifact(ctx, r.c.Principal, r.req.BundleID)
	} else {
		r.art, err = r.s.bundle(ctx, r.c.Principal, r.req.Source)
	}
	return err
}

// preflight refuses what would be refused later, before anything is spent.
func (r *run) preflight(ctx context.Context) (err error) {
	r.stage(StagePreflight)
	warnings, err := preflight(r.art)
	if err != nil {
		return err
	}
	if r.secrets, err = r.s.secrets(r.art); err != nil {
		return err
	}
	r.warn = append(append(append(r.warn, r.art.Warnings...), warnings...), shortSecrets(r.art, r.secrets)...)
	r.facts = r.art.Facts()
	if r.s.cfg.Scanner != nil {
		r.findings, err = r.s.cfg.Scanner.Scan(ctx, r.art)
	}
	return err
}

// reread looks at the session again in its turn: what was seen before may be over by
// now. What a process left behind in it is looked after first.
func (r *run) reread(ctx context.Context) error {
	sess := r.place.session
	if err := r.s.lookAfter(ctx, r.lease, &sess); err != nil {
		return err
	}
	again, err := r.placeIn(ctx, sess)
	if err != nil {
		return err
	}
	again.isNew = r.place.isNew
	r.place = again
	mark := r.call.marked()
	if mark.Session != sess.ID {
		mark = callMark{Session: sess.ID}
	}
	return r.call.keep(ctx, mark)
}

// stage ends the running stage and begins another; "" only ends.
func (r *run) stage(next Stage) {
	now := time.Now()
	if n := len(r.stages); n > 0 && r.stages[n-1].MS == 0 {
		r.stages[n-1].MS = float64(now.Sub(r.began).Microseconds()) / 1000
	}
	r.began = now
	if next == "" {
		return
	}
	r.stages = append(r.stages, StageTime{Name: next})
	if r.req.Progress != nil {
		r.req.Progress(next)
	}
}

// saveChecked keeps a deployment with its check, never over the check of a later look.
func (s *Service) saveChecked(ctx context.Context, d Deployment) error {
	unlock, err := s.locks.lock(ctx, "row\x00"+d.ID)
	if err != nil {
		return err
	}
	defer unlock()
	crash("before/SaveChecked")
	if err := s.cfg.Store.SaveDeployment(ctx, d); err != nil {
		return err
	}
	crash("after/SaveChecked")
	return nil
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
