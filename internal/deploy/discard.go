package deploy

import (
	"context"
	"slices"
	"strings"
	"time"
)

// A deployment can be made on the condition that it goes again when its check fails
// (discard_on_failed_check). The promise is a step in the ledger, StepDiscard, begun before
// anything is uploaded and ended by the check, so that a process that dies in between
// leaves it open: then whoever looks after the session keeps it, because nobody saw the
// check pass. Of what was live already and is only looked at again, the promise is made
// when the check failed.
//
// What goes is the Worker, with every version of it, and the resources that this
// deployment made for it. What the Worker served before is not put back: migrations may
// have run under it, and nothing would have checked it. The result names its bundle.

// discardLimit bounds the taking down, which goes on when the caller is gone.
const discardLimit = 30 * time.Second

// How a promise to discard can end: what its step has as Ref.
const (
	promiseKept      = "the check passed"
	promiseDone      = "taken down"
	promiseNothing   = "nothing was uploaded"
	promiseOvertaken = "deployed over since"
)

// noteDiscard says what an open promise means for the user.
const noteDiscard = "The deployment is taken down unless its check passes."

// reasonDiscard goes on record as why it was taken down.
const reasonDiscard = "its check did not pass"

// mayHaveToGo are the reasons for which the deployment goes when its check fails: the
// rules that require it, or the caller's own wish; nil: it stays.
func (r *run) mayHaveToGo(a *act) []Reason {
	by := requiring(a.event.Rules, RequireDiscard)
	if len(by) == 0 && r.req.DiscardOnFailedCheck {
		by = []Reason{askedToDiscard("asked for by the call, and decided with it")}
	}
	for i := range by {
		by[i].Verdict = Allow // of the teardown; what it said of the deployment is on record there
	}
	return by
}

func askedToDiscard(why string) Reason {
	return Reason{Rule: RequireDiscard, Verdict: Allow, Message: why}
}

// discardedBy is who wanted it, for the result.
func discardedBy(by []Reason) string {
	var rules []string
	for _, r := range by {
		if r.Rule == RequireDiscard {
			return "the call"
		}
		rules = append(rules, r.Rule)
	}
	return "the policy: " + strings.Join(rules, ", ")
}

// promiseToDiscard writes down that the Worker is to go: what is uploaded of it, or, of
// what is live already, the deployment.
func (r *run) promiseToDiscard(ctx context.Context) (err error) {
	if len(r.discardBy) == 0 {
		return nil
	}
	what := r.art.Name
	if r.unchanged() {
		what += " " + r.dep.ID
	}
	r.promise, err = r.journal().Begin(ctx, StepDiscard, what)
	return err
}

// passed tells whether the check saw what was wanted.
func (r *run) passed() bool {
	return r.dep.Serving == ServingYes && r.dep.Check != nil && r.dep.Check.OK
}

// keep ends the promises about a Worker that passed: this run's, and those that earlier
// ones left open, which its passing overtook.
func (r *run) keep(ctx context.Context) error {
	if r.promise != nil {
		if err := r.promise(promiseKept, nil); err != nil {
			return err
		}
	}
	steps, err := r.s.cfg.Store.Steps(ctx, r.place.session.ID)
	if err != nil {
		return err
	}
	for i := range steps {
		step := &steps[i]
		worker, _, _ := strings.Cut(step.What, " ")
		if step.Kind != StepDiscard || step.State.Settled() || step.AccountID != r.acct.ID || worker != r.art.Name || step.Fence >= r.lease.Fence {
			continue
		}
		if err := r.s.cfg.Store.Settle(ctx, r.lease, Settlement{StepID: step.ID, State: StepDone, Ref: promiseOvertaken}); err != nil {
			return err
		}
	}
	return nil
}

// discardFailed takes a deployment down whose check failed, where that was wanted.
func (r *run) discardFailed(ctx context.Context) error {
	if len(r.discardBy) == 0 {
		return nil
	}
	if r.promise == nil {
		if err := r.promiseToDiscard(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	r.discard(ctx)
	return nil
}

// neverChecked is the error of a deployment that came to no check. What it uploaded goes
// all the same: nobody saw it pass. Where it is not known whether it uploaded anything,
// the promise stays open until that is known.
func (r *run) neverChecked(ctx context.Context, err error) error {
	if r.promise == nil || IsCode(err, CodeAccountLost) || IsCode(err, CodeSessionExpired) {
		return err
	}
	steps, errSteps := r.s.cfg.Store.Steps(context.WithoutCancel(ctx), r.place.session.ID)
	if errSteps != nil {
		return err
	}
	told := *AsError(err)
	told.Cause = err
	switch up := uploadOf(steps, r.lease.Fence, r.art.Name); {
	case up != nil && up.State == StepDone:
		r.discard(ctx)
		if told.Message += ". It was not checked, so it was taken down (" + RequireDiscard + ")"; len(r.discarded.NotUndone) > 0 {
			told.Message += ", but not all of it: " + strings.Join(r.discarded.NotUndone, "; ")
		}
	case up == nil || up.State == StepFailed:
		_ = r.promise(promiseNothing, nil) // else it is ended by who looks next
		return err
	default:
		told.Message += ". Should it have been uploaded all the same, it is taken down as soon as the API tells (" + RequireDiscard + ")"
	}
	return &told
}

// discard takes the deployment down. What can't be done now is said, and left to who
// looks after the session next.
func (r *run) discard(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), discardLimit)
	defer stop()
	r.discarded = &Discarded{By: discardedBy(r.discardBy), Deleted: []string{}}
	if r.prev != nil && r.prev.ID != r.dep.ID {
		r.discarded.Earlier = r.prev.BundleID
	}
	steps, err := r.s.cfg.Store.Steps(ctx, r.place.session.ID)
	d := &demolition{
		s: r.s, c: r.c, sess: &r.place.session, acct: r.acct, lease: r.lease, only: r.art.Name, with: madeIn(steps, r.lease.Fence),
		req: TeardownRequest{SessionID: r.place.session.ID, DeploymentID: r.dep.ID, Reason: reasonDiscard},
	}
	if err == nil {
		crash("before/Discard")
		err = d.onRecord(ctx, &Decision{Verdict: Allow, Reasons: r.discardBy})
		crash("after/Discard")
	}
	if d.res != nil {
		r.discarded.Deleted, r.discarded.NotUndone = d.res.Deleted, d.res.NotUndone
		r.warn = append(r.warn, d.res.Warnings...)
	}
	if err == nil && !d.again {
		err = r.promise(promiseDone, nil)
	}
	if err != nil {
		r.discarded.NotUndone = append(r.discarded.NotUndone, r.s.cfg.Redactor.Redact(AsError(err).Message))
	}
	if slices.Contains(r.discarded.Deleted, resourceWorker+" "+r.art.Name) {
		r.dep.Serving, r.dep.Host, r.dep.URL = ServingDeleted, "", ""
	}
}

// onRecord adds to the outcome of a deployment that it was discarded. d may be nil.
func (d *Discarded) onRecord(e *Event) {
	if d == nil {
		return
	}
	if e.Detail == "" {
		e.Detail = reasonDiscard + ", so it was taken down"
	}
	if e.Data == nil {
		e.Data = map[string]string{}
	}
	e.Data["discarded_by"], e.Data["discarded"] = d.By, strings.Join(d.Deleted, ", ")
	if len(d.NotUndone) > 0 {
		e.Data["not_undone"] = strings.Join(d.NotUndone, "; ")
	}
}

// uploadOf finds the upload of a Worker in one turn; nil: it came to none.
func uploadOf(steps []Step, fence int64, worker string) *Step {
	for i := range slices.Backward(steps) {
		if s := &steps[i]; s.Kind == StepUploadScript && s.Fence == fence && s.What == worker {
			return s
		}
	}
	return nil
}

// madeIn are the resources that one turn made.
func madeIn(steps []Step, fence int64) (out []OwnedResource) {
	for _, s := range steps {
		if kind, name, ok := strings.Cut(s.What, " "); ok && s.Kind == StepCreateResource && s.Fence == fence && s.State == StepDone && s.Ref != "" {
			out = append(out, OwnedResource{Type: kind, Name: name, Ref: s.Ref})
		}
	}
	return out
}

// discard keeps the promises that processes left open. One that can't be kept now stays
// open, and is no reason to fail whoever looks.
func (c *caretaking) discard(ctx context.Context) error {
	if c.s.cfg.ReadOnly {
		return nil
	}
	steps, err := c.s.cfg.Store.Steps(ctx, c.sess.ID)
	if err != nil {
		return err
	}
	for i := range steps {
		step := &steps[i]
		if step.Kind != StepDiscard || step.State.Settled() || step.Fence >= c.lease.Fence {
			continue
		}
		if end := c.judgePromise(ctx, step, steps); end.State.Settled() {
			end.StepID = step.ID
			if err := c.s.cfg.Store.Settle(ctx, c.lease, end); err != nil {
				return err
			}
		}
	}
	c.deps, err = c.s.cfg.Store.Deployments(ctx, c.sess.ID)
	return err
}

// judgePromise finds out what became of a deployment whose check nobody saw pass, and
// takes it down.
func (c *caretaking) judgePromise(ctx context.Context, step *Step, steps []Step) Settlement {
	acct, note := c.usable(step.AccountID)
	if acct == nil {
		return Settlement{State: StepLost, Note: note}
	}
	worker, deployment, before := strings.Cut(step.What, " ")
	up := uploadOf(steps, step.Fence, worker)
	switch over, known := overtaken(steps, step, worker); {
	case !known:
		return Settlement{State: StepOpen}
	case over:
		return Settlement{State: StepDone, Ref: promiseOvertaken}
	case before: // it was up already
	case up == nil || up.State == StepFailed:
		return Settlement{State: StepDone, Ref: promiseNothing}
	case up.State != StepDone:
		return Settlement{State: StepOpen}
	default:
		deployment = deploymentID(up)
	}
	ctx, stop := context.WithTimeout(ctx, discardLimit)
	defer stop()
	d := &demolition{
		s: c.s, c: Caller{Principal: c.sess.Principal, Labels: c.sess.Labels, Client: c.sess.Client}, sess: c.sess, acct: acct, lease: c.lease,
		only: worker, with: madeIn(steps, step.Fence), req: TeardownRequest{SessionID: c.sess.ID, DeploymentID: deployment, Reason: reasonDiscard},
	}
	err := d.onRecord(ctx, &Decision{Verdict: Allow, Reasons: []Reason{askedToDiscard("decided with the deployment, whose process ended before its check passed")}})
	if err != nil || d.again {
		return Settlement{State: StepOpen}
	}
	return Settlement{State: StepDone, Ref: promiseDone}
}

// overtaken tells whether the Worker was deployed again in a later turn, as far as that is
// known: then another promise holds, or none.
func overtaken(steps []Step, promise *Step, worker string) (over, known bool) {
	known = true
	for _, s := range steps {
		if s.Kind != StepUploadScript || s.What != worker || s.AccountID != promise.AccountID || s.Fence <= promise.Fence {
			continue
		}
		over = over || s.State == StepDone
		known = known && s.State.Settled()
	}
	return over, over || known
}

// nextDiscarded is what to do with a deployment that was taken down.
func (r *run) nextDiscarded() NextStep {
	next := NextStep{
		Do:   "Its check failed and it was taken down, so there is no URL to give: fix the code (see check) and deploy again into the same session.",
		Tool: "deploy_temporary", Args: map[string]any{"session_id": r.dep.SessionID},
	}
	if id := r.discarded.Earlier; id != "" {
		next.Do += " What this Worker served before is gone with it; deploying bundle_id " + id + " puts it back."
	}
	if r.dep.Serving != ServingDeleted {
		next.Do = "Its check failed, and it could not be taken down now (see discarded.not_undone); this server tries again. Look in a minute whether it is gone."
		next.Tool = "status"
	}
	return next
}
