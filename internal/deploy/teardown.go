package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// TeardownRequest asks that what a session put up be taken down.
type TeardownRequest struct {
	SessionID string // empty: the caller's current session
	// DeploymentID narrows it to that deployment's Worker; the session goes on.
	DeploymentID string
	// Reason goes on record.
	Reason string
}

// TeardownResult is what a teardown came to.
type TeardownResult struct {
	SessionID string `json:"session_id"`
	// Deleted names what is gone: "worker hello", "kv_namespace hello-cache".
	Deleted []string `json:"deleted"`
	// NotUndone says what could not be taken down, or taken back, and why.
	NotUndone []string `json:"not_undone,omitempty"`
	// Closed: the token and the claim link are wiped, and the session takes no more.
	Closed   bool     `json:"closed"`
	Warnings []string `json:"warnings,omitempty"`
	Next     NextStep `json:"next"`
}

// Teardown deletes the Workers and resources of a session's account, then drops its
// token and claim link, then closes the session. It is idempotent: what is gone is no
// error. While something could not be deleted that a later call may delete, the token
// stays and the result says so.
func (s *Service) Teardown(ctx context.Context, c Caller, req TeardownRequest) (*TeardownResult, error) {
	if s.cfg.ReadOnly {
		return nil, errReadOnly()
	}
	sess, err := s.teardownSession(ctx, c, req.SessionID)
	if err != nil {
		return nil, err
	}
	return s.teardown(ctx, c, *sess, req)
}

func (s *Service) teardownSession(ctx context.Context, c Caller, id string) (*Session, error) {
	if id != "" {
		return s.cfg.Store.Session(ctx, c.Principal, id)
	}
	sess, err := s.cfg.Store.CurrentSession(ctx, c.Principal, c.Scope, "")
	if err == nil && sess == nil {
		return nil, Errorf(CodeSessionNotFound, "Call status to find a session, and name it in session_id.", "this caller has no current session")
	}
	return sess, err
}

// RevokeResult is what the taking down of several sessions came to.
type RevokeResult struct {
	SessionID string          `json:"session_id"`
	Principal string          `json:"principal"`
	Result    *TeardownResult `json:"result,omitempty"`
	Error     string          `json:"error,omitempty"`
}

// Revoke takes down every session that the filter lets through, whoever's it is, for an
// operator. One that fails does not keep the others up.
func (s *Service) Revoke(ctx context.Context, operator Caller, f SessionFilter, reason string) ([]RevokeResult, error) {
	if f.Limit == 0 {
		f.Limit = maxOperated
	}
	sessions, err := s.cfg.Store.SessionsWhere(ctx, f)
	if err != nil {
		return nil, err
	}
	out := make([]RevokeResult, 0, len(sessions))
	for _, sess := range sessions {
		r := RevokeResult{SessionID: sess.ID, Principal: sess.Principal}
		if r.Result, err = s.teardown(ctx, operator, sess, TeardownRequest{SessionID: sess.ID, Reason: reason}); err != nil {
			e := AsError(err)
			r.Error = string(e.Code) + ": " + e.Message
		}
		out = append(out, r)
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
	}
	return out, nil
}

func (s *Service) teardown(ctx context.Context, c Caller, sess Session, req TeardownRequest) (*TeardownResult, error) {
	var res *TeardownResult
	err := s.inTurn(ctx, sessionTurn(sess.ID), s.cfg.TurnWait, func(ctx context.Context, lease *Lease) error {
		d := &demolition{s: s, c: c, sess: &sess, req: req, lease: lease}
		if err := d.look(ctx); err != nil {
			return err
		}
		e := aboutSession(&sess, d.acct)
		e.Detail, e.DeploymentID, e.Worker = req.Reason, req.DeploymentID, d.only
		a, err := s.decide(ctx, ActTeardown, c, e, Facts{Worker: WorkerFacts{Name: d.only}})
		if err != nil {
			return err
		}
		err = d.carryOut(ctx)
		res = d.res
		unrecorded := a.end(ctx, err, func(e *Event) {
			if d.res != nil {
				e.Data = map[string]string{"deleted": strings.Join(d.res.Deleted, ", "), "not_undone": strings.Join(d.res.NotUndone, "; ")}
			}
		})
		if unrecorded != nil && res != nil {
			res.Warnings = append(res.Warnings, "The outcome could not be put on record: "+AsError(unrecorded).Message)
		}
		return err
	})
	return res, err
}

// demolition is one teardown under way, in a turn at its session.
type demolition struct {
	s     *Service
	c     Caller
	sess  *Session
	req   TeardownRequest
	lease *Lease
	acct  *Account // the session's newest; nil: it has none
	only  string   // the one Worker that goes
	res   *TeardownResult
	again bool // something may be deleted by a later call
}

func (d *demolition) look(ctx context.Context) error {
	if err := d.s.lookAfter(ctx, d.lease, d.sess); err != nil {
		return err
	}
	accounts, err := d.s.cfg.Store.Accounts(ctx, d.sess.ID)
	if err != nil {
		return err
	}
	d.s.learn(accounts)
	if len(accounts) > 0 {
		d.acct = &accounts[0]
	}
	if d.req.DeploymentID == "" {
		return nil
	}
	deps, err := d.s.cfg.Store.Deployments(ctx, d.sess.ID)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(deps, func(x Deployment) bool { return x.ID == d.req.DeploymentID })
	if i < 0 {
		return Errorf(CodeSessionNotFound, "Call status with session_id to see its deployments.",
			"session %s has no deployment %q", d.sess.ID, cut(d.req.DeploymentID, 60))
	}
	d.only = deps[i].Worker
	return nil
}

func (d *demolition) carryOut(ctx context.Context) error {
	d.res = &TeardownResult{SessionID: d.sess.ID, Deleted: []string{}}
	d.res.Next = NextStep{Do: "It is taken down. Tell the user what not_undone says, if it says anything."}
	if d.acct == nil {
		d.res.Closed = true
		return nil
	}
	if why := d.beyond(); why != "" {
		d.res.NotUndone = append(d.res.NotUndone, why)
		d.res.Closed = d.only == ""
		return d.close(ctx)
	}
	if err := d.demolish(ctx); err != nil {
		return err
	}
	if d.again {
		d.res.Next = NextStep{
			Do:   "Not everything could be taken down (see not_undone). Call teardown again in a minute; what is left ends with the account at the latest.",
			Tool: "teardown", Args: map[string]any{"session_id": d.sess.ID},
		}
		return nil
	}
	if d.only != "" {
		return d.markGone(ctx)
	}
	d.res.Closed = true
	return d.close(ctx)
}

// beyond says why nothing on the account can be deleted from here any more.
func (d *demolition) beyond() string {
	switch a := d.acct; {
	case a.State == AccountClaimed:
		return "The account was handed over to a human: what is on it is theirs, and only they can delete it."
	case a.State == AccountDeleted:
		return ""
	case a.Target != d.s.cfg.Cloud.Target():
		return "Its account is on another API than the one this server talks to now; it ends by itself within its hour."
	case a.State == AccountLost:
		return "The API does not accept the account's token any more: it was claimed, removed, or is over."
	case !a.Usable(d.s.timeFor(a), lifeFor(StepDelete)):
		return "The account's hour is over, and everything on it with it."
	}
	return ""
}

// demolish deletes Workers, then resources. What fails is said, and the rest is tried.
func (d *demolition) demolish(ctx context.Context) error {
	if d.acct.State == AccountDeleted {
		return nil
	}
	ctx = WithJournal(ctx, &journal{s: d.s, lease: d.lease, session: d.sess, acct: d.acct})
	inv := &Inventory{Workers: []string{d.only}}
	if d.only == "" {
		var err error
		if inv, err = d.s.cfg.Cloud.Inventory(ctx, d.acct); err != nil {
			return d.lost(ctx, err)
		}
	}
	for _, w := range inv.Workers {
		if err := d.did(resourceWorker+" "+w, d.s.cfg.Cloud.DeleteWorker(ctx, d.acct, w)); err != nil {
			return d.lost(ctx, err)
		}
	}
	for _, r := range inv.Resources {
		if err := d.did(r.Type+" "+r.Name, d.s.cfg.Cloud.DeleteResource(ctx, d.acct, r)); err != nil {
			return d.lost(ctx, err)
		}
	}
	return nil
}

// did notes what came of one deletion. It fails where no further one can succeed.
func (d *demolition) did(what string, err error) error {
	switch {
	case err == nil:
		d.res.Deleted = append(d.res.Deleted, what)
	case IsCode(err, CodeAccountLost) || IsCode(err, CodeBusy) || IsCode(err, CodeStore) || IsCode(err, CodeSessionExpired):
		return err
	default:
		d.again = true
		d.res.NotUndone = append(d.res.NotUndone, fmt.Sprintf("%s: %s", what, d.s.cfg.Redactor.Redact(AsError(err).Message)))
	}
	return nil
}

// lost takes the end of the account for what it is: the end of everything on it.
func (d *demolition) lost(ctx context.Context, err error) error {
	if !IsCode(err, CodeAccountLost) {
		return err
	}
	if _, e := d.s.endRefused(context.WithoutCancel(ctx), d.acct); e != nil {
		return e
	}
	d.acct.State = AccountLost
	d.res.NotUndone = append(d.res.NotUndone, d.beyond())
	return nil
}

// close drops token and claim link, and closes the session.
func (d *demolition) close(ctx context.Context) error {
	if d.only != "" {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if err := d.withdrawClaim(ctx); err != nil {
		return err
	}
	if d.acct.State != AccountCurrent {
		if d.acct.Token.Empty() && d.acct.ClaimURL.Empty() || d.acct.State == AccountClaimed {
			return nil
		}
		return d.s.end(ctx, d.acct, d.acct.State)
	}
	return d.s.end(ctx, d.acct, AccountDeleted)
}

func (d *demolition) withdrawClaim(ctx context.Context) error {
	claim, err := d.s.cfg.Store.Claim(ctx, d.sess.ID)
	if err != nil || claim == nil || claim.AccountID != d.acct.ID || claim.State != ClaimAwaiting {
		return err
	}
	return d.s.moveClaim(ctx, claim, d.sess, ClaimMove{To: ClaimWithdrawn, By: d.c.Principal, Evidence: "taken down"})
}

// markGone keeps on record that a Worker's deployments are taken down.
func (d *demolition) markGone(ctx context.Context) error {
	deps, err := d.s.cfg.Store.Deployments(ctx, d.sess.ID)
	if err != nil {
		return err
	}
	for _, x := range deps {
		if x.Worker != d.only || x.AccountID != d.acct.ID || x.gone() {
			continue
		}
		x.Serving, x.Host, x.URL = ServingDeleted, "", ""
		if err := d.s.saveDeployment(context.WithoutCancel(ctx), x); err != nil {
			return err
		}
	}
	return nil
}
