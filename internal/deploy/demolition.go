package deploy

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// demolition is one teardown under way, in a turn at its session.
type demolition struct {
	s     *Service
	c     Caller
	sess  *Session
	req   TeardownRequest
	lease *Lease
	acct  *Account        // the session's newest; nil: it has none
	only  string          // the one Worker that goes
	with  []OwnedResource // what goes with that one Worker
	// earlier says what stays of accounts that the session had before.
	earlier []string
	res     *TeardownResult
	again   bool // something may be deleted by a later call
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
		d.earlier = d.s.stillUp(accounts)
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
	for k := range accounts {
		if accounts[k].ID == deps[i].AccountID {
			d.acct = &accounts[k]
		}
	}
	return nil
}

// stillUp says what accounts still serve that a session had before its newest one: their
// tokens were dropped when they were replaced.
func (s *Service) stillUp(accounts []Account) (out []string) {
	for i := range accounts {
		a := &accounts[i]
		if i > 0 && a.State == AccountRetired && s.timeFor(a).Before(a.ExpiresAt) {
			out = append(out, fmt.Sprintf("%s, an earlier account of this session: fresh: true replaced it and dropped its token; what is on it ends by itself at %s.",
				a.Name, a.ExpiresAt.UTC().Format(time.RFC3339)))
		}
	}
	return out
}

func (d *demolition) carryOut(ctx context.Context) error {
	d.res = &TeardownResult{SessionID: d.sess.ID, Deleted: []string{}}
	d.res.Next = NextStep{Do: "It is taken down. Tell the user what not_undone says, if it says anything."}
	d.res.NotUndone = append(d.res.NotUndone, d.earlier...)
	if d.acct == nil {
		d.res.Closed = true
		return nil
	}
	if why := d.beyond(); why != "" {
		d.res.NotUndone = append(d.res.NotUndone, why)
		if d.elsewhere() {
			d.res.Next = NextStep{Do: "Nothing was done: tell the user to take it down with a server, or mcp-server revoke, that talks to the API it lives on."}
			return nil // its token stays, for whoever can use it
		}
		d.res.Closed = d.only == ""
		return d.close(ctx)
	}
	if err := d.demolish(ctx); err != nil {
		return err
	}
	if d.only != "" && slices.Contains(d.res.Deleted, resourceWorker+" "+d.only) { // also where something of it stays
		if err := d.markGone(ctx); err != nil {
			return err
		}
	}
	if d.again {
		d.res.Next = NextStep{
			Do:   "Not everything could be taken down (see not_undone). Call teardown again in a minute; what is left ends with the account at the latest.",
			Tool: "teardown", Args: map[string]any{"session_id": d.sess.ID},
		}
		return nil
	}
	if d.only != "" {
		if d.acct.State != AccountCurrent {
			return nil // not_undone says why
		}
		return d.markGone(ctx)
	}
	d.res.Closed = true
	return d.close(ctx)
}

// elsewhere tells whether another server can do what this one can't: the account is in
// use on another API.
func (d *demolition) elsewhere() bool {
	return d.acct.State == AccountCurrent && d.acct.Target != d.s.cfg.Cloud.Target() && !d.s.overForGood(d.acct)
}

// beyond says why nothing on the account can be deleted from here any more.
func (d *demolition) beyond() string {
	switch a := d.acct; {
	case a.State == AccountClaimed:
		return "The account was handed over to a human: what is on it is theirs, and only they can delete it."
	case a.State == AccountDeleted:
		return ""
	case a.State == AccountRetired:
		return "Its account was replaced by fresh: true, which dropped the token; what is on it ends by itself at " + a.ExpiresAt.UTC().Format(time.RFC3339) + "."
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
	inv := &Inventory{Workers: []string{d.only}, Resources: d.with}
	if d.only == "" {
		var err error
		if inv, err = d.s.cfg.Cloud.Inventory(ctx, d.acct); err != nil {
			return d.lost(ctx, err)
		}
		if err := d.foreign(ctx, inv.Workers); err != nil {
			return err
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

// foreign puts on record which Workers of the account are not ours: somebody else used it.
// They go with the rest.
func (d *demolition) foreign(ctx context.Context, workers []string) error {
	if err := d.s.noteForeign(ctx, d.sess, d.acct, &Sighted{Workers: workers}); err != nil {
		return err
	}
	known, err := d.s.foreignOn(ctx, d.acct)
	if err != nil {
		return err
	}
	for _, f := range known {
		what := "The account had a Worker that was not deployed from here: " + d.s.cfg.Redactor.Redact(f.Worker)
		if f.VersionID != "" {
			what = fmt.Sprintf("The Worker %s has had a version that was not deployed from here: %s", d.s.cfg.Redactor.Redact(f.Worker), f.VersionID)
		}
		d.res.Warnings = append(d.res.Warnings, what)
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
	over, e := d.s.endRefused(context.WithoutCancel(ctx), d.acct)
	if e != nil {
		return e
	}
	d.acct.State, d.acct.Token, d.acct.ClaimURL = AccountLost, "", ""
	if over {
		d.acct.State = AccountExpired
	}
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
	if !d.acct.Usable(d.s.timeFor(d.acct), lifeFor(StepDelete)) {
		return d.s.end(ctx, d.acct, AccountExpired)
	}
	return d.s.end(ctx, d.acct, AccountDeleted)
}

func (d *demolition) withdrawClaim(ctx context.Context) error {
	claim, err := d.s.cfg.Store.Claim(ctx, d.sess.ID)
	if err != nil || claim == nil || claim.AccountID != d.acct.ID || claim.State != ClaimAwaiting {
		return err
	}
	unrecorded, err := d.s.moveClaim(ctx, claim, d.sess, ClaimMove{To: ClaimWithdrawn, By: d.c.Principal, Evidence: "taken down"})
	if unrecorded != nil {
		d.res.Warnings = append(d.res.Warnings, AsError(unrecorded).Message)
	}
	return err
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
