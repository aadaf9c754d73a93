package deploy

import (
	"context"
	"slices"
	"strings"
	"time"
)

// lookLimit bounds what looking after a session may ask the API.
const lookLimit = 10 * time.Second

// lookAfter settles, in a turn at the session, what a process left behind in it: steps
// whose turn is over, deployments that came no further, accounts whose hour is over.
// What can't be told now, because the API does not answer, is left for the next time.
func (s *Service) lookAfter(ctx context.Context, lease *Lease, sess *Session) error {
	accounts, err := s.cfg.Store.Accounts(ctx, sess.ID)
	if err != nil {
		return err
	}
	steps, err := s.cfg.Store.Steps(ctx, sess.ID)
	if err != nil {
		return err
	}
	deps, err := s.cfg.Store.Deployments(ctx, sess.ID)
	if err != nil {
		return err
	}
	s.learn(accounts)
	for i := range accounts {
		if _, err := s.claimOf(ctx, *sess, &accounts[i]); err != nil {
			return err
		}
	}
	c := &caretaking{s: s, lease: lease, sess: sess, accounts: accounts, deps: deps}
	var stop context.CancelFunc
	c.asking, stop = context.WithTimeout(ctx, lookLimit)
	defer stop()
	promised := false
	for i := range steps {
		if step := &steps[i]; !step.State.Settled() && step.Fence < lease.Fence {
			if promised = promised || step.Kind == StepDiscard; step.Kind == StepDiscard {
				continue // it goes by what the others came to
			}
			if err := c.settle(context.WithoutCancel(ctx), step); err != nil {
				return err
			}
		}
	}
	if promised {
		if err := c.discard(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	if err := c.complete(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	return s.endOver(context.WithoutCancel(ctx), sess, c.accounts)
}

// caretaking looks after one session in one turn.
type caretaking struct {
	s        *Service
	lease    *Lease
	sess     *Session
	accounts []Account
	deps     []Deployment // newest first
	asking   context.Context
	// what the API said, by account and Worker, and by account
	served      map[string]*Served
	inventories map[string]*Inventory
}

// What a lost step means for the user.
const (
	noteOver      = "Its account is over, and what it did with it."
	noteHanded    = "Its account was handed over to a human; what it did there can't be looked at any more."
	noteElsewhere = "Its account is on another API than the one this server talks to now."
	noteRepeated  = "Whether it took effect is not known. The next deployment to this session does it again, which is safe."
	noteMigration = "Whether it took effect is not known. The next deployment to this session reads which migrations the database has had, and applies the others."
)

// settle finds out what became of a step and writes that down. Where the API can't be
// asked now, the step stays as it is.
func (c *caretaking) settle(ctx context.Context, step *Step) error {
	end := c.judge(ctx, step)
	if !end.State.Settled() {
		// The API may have said by now that the account is over.
		acct, note := c.usable(step.AccountID)
		if acct != nil {
			return nil
		}
		end = Settlement{State: StepLost, Note: note}
	}
	end.StepID = step.ID
	return c.s.cfg.Store.Settle(ctx, c.lease, end)
}

// judge tells what became of a step; open: nobody can tell yet.
func (c *caretaking) judge(ctx context.Context, step *Step) Settlement {
	if step.Kind == StepCreateAccount {
		return Settlement{State: StepLost, Note: noteAccountLost}
	}
	acct, note := c.usable(step.AccountID)
	if acct == nil {
		return Settlement{State: StepLost, Note: note}
	}
	switch step.Kind {
	case StepUploadScript:
		return c.judgeUpload(ctx, acct, step)
	case StepEnableRoute:
		served, ok := c.deployed(ctx, acct, step.What)
		return answered(ok, served != nil && served.Host != "", "")
	case StepCreateResource:
		kind, name, _ := strings.Cut(step.What, " ")
		ref, ok := c.resource(ctx, acct, kind, name)
		return answered(ok, ref != "", ref)
	case StepDelete:
		kind, name, _ := strings.Cut(step.What, " ")
		if kind == resourceWorker {
			served, ok := c.deployed(ctx, acct, name)
			return answered(ok, served == nil, "")
		}
		ref, ok := c.resource(ctx, acct, kind, name)
		return answered(ok, ref == "", "")
	case StepApplyMigration:
		return Settlement{State: StepLost, Note: noteMigration}
	default:
		return Settlement{State: StepLost, Note: noteRepeated}
	}
}

// resourceWorker is what a StepDelete's object begins with where it is a Worker; else
// with a resource's type.
const resourceWorker = "worker"

// answered is the settlement that the API's answer, if there is one, makes of a step.
func answered(ok, done bool, ref string) Settlement {
	switch {
	case !ok:
		return Settlement{State: StepOpen}
	case done:
		return Settlement{State: StepDone, Ref: ref}
	}
	return Settlement{State: StepFailed}
}

// usable gives an account whose token may be used to look, or why there is none.
func (c *caretaking) usable(id string) (*Account, string) {
	i := slices.IndexFunc(c.accounts, func(a Account) bool { return a.ID == id })
	switch {
	case i < 0:
		return nil, noteOver
	case c.accounts[i].State == AccountClaimed:
		return nil, noteHanded
	case c.accounts[i].Target != c.s.cfg.Cloud.Target():
		return nil, noteElsewhere
	case !c.accounts[i].Usable(c.s.timeFor(&c.accounts[i]), lifeFor("")):
		return nil, noteOver
	}
	return &c.accounts[i], ""
}

// judgeUpload tells from the deployed version whether an upload took effect, and brings
// its deployment up to date with that.
func (c *caretaking) judgeUpload(ctx context.Context, acct *Account, step *Step) Settlement {
	served, ok := c.deployed(ctx, acct, step.What)
	if !ok {
		return Settlement{State: StepOpen}
	}
	id := deploymentID(step)
	i := slices.IndexFunc(c.deps, func(d Deployment) bool { return d.ID == id })
	if served == nil || !c.isNew(acct, served, step) {
		end := Settlement{State: StepFailed}
		if i >= 0 {
			c.deps[i].Serving, c.deps[i].URL = ServingFailed, ""
			end.Deployment = &c.deps[i]
		}
		return end
	}
	if i < 0 {
		c.deps = slices.Insert(c.deps, 0, Deployment{
			ID: id, SessionID: step.SessionID, AccountID: acct.ID, Worker: step.What,
			BundleID: step.BundleID, Digest: step.Digest, CreatedAt: step.BegunAt, Serving: ServingNotYet,
		})
		i = 0
	}
	c.deps[i].VersionID = served.VersionID
	c.answersAt(ctx, &c.deps[i], served)
	return Settlement{State: StepDone, Ref: served.VersionID, Deployment: &c.deps[i]}
}

// isNew tells whether what is deployed is what a step uploaded: of that artifact, and
// no version that was on record before.
func (c *caretaking) isNew(acct *Account, served *Served, step *Step) bool {
	if served.Tag != "" && served.Tag != versionTag(step.Digest) {
		return false
	}
	return !slices.ContainsFunc(c.deps, func(d Deployment) bool {
		return d.AccountID == acct.ID && d.VersionID != "" && d.VersionID == served.VersionID && d.ID != deploymentID(step)
	})
}

// answersAt makes a deployment complete with the host under which the API says that it
// answers. Whether all its triggers were set can't be told: without a digest, the next
// deployment does not take it for the same and sets them.
func (c *caretaking) answersAt(ctx context.Context, d *Deployment, served *Served) {
	if served.Host == "" {
		return
	}
	d.Host = served.Host
	if url, err := c.s.cfg.Edge.URL(ctx, d.Host); err == nil {
		d.URL = url // else the next look at it asks again
	}
	art, err := c.s.cfg.Store.Artifact(ctx, c.sess.Principal, d.BundleID)
	if err != nil || art.HasTriggers() {
		d.Digest = ""
	}
}

// complete brings deployments further whose process ended between the upload and the
// route.
func (c *caretaking) complete(ctx context.Context) error {
	for _, i := range unfinished(c.deps) {
		d := &c.deps[i]
		acct, _ := c.usable(d.AccountID)
		if acct == nil {
			continue
		}
		served, ok := c.deployed(ctx, acct, d.Worker)
		if !ok || served == nil || served.VersionID != d.VersionID || served.Host == "" {
			continue
		}
		c.answersAt(ctx, d, served)
		if err := c.s.cfg.Store.SaveDeployment(ctx, *d); err != nil {
			return err
		}
	}
	return nil
}

// unfinished finds the deployments, each the newest of its Worker on its account, that
// were uploaded and never came to answer.
func unfinished(deps []Deployment) (at []int) {
	seen := map[string]bool{}
	for i, d := range deps {
		if d.gone() || seen[d.AccountID+" "+d.Worker] {
			continue
		}
		seen[d.AccountID+" "+d.Worker] = true
		if d.VersionID != "" && d.Host == "" {
			at = append(at, i)
		}
	}
	return at
}

// deployed asks what is deployed under a Worker's name, once; not ok: no answer.
func (c *caretaking) deployed(ctx context.Context, acct *Account, worker string) (served *Served, ok bool) {
	key := acct.ID + " " + worker
	if served, ok := c.served[key]; ok {
		return served, true
	}
	served, err := c.s.cfg.Cloud.Deployed(c.asking, acct, worker)
	if err != nil {
		c.refused(ctx, acct, err)
		return nil, false
	}
	if c.served == nil {
		c.served = map[string]*Served{}
	}
	c.served[key] = served
	return served, true
}

// resource finds a resource on the account by its type and name; "": there is none.
func (c *caretaking) resource(ctx context.Context, acct *Account, kind, name string) (ref string, ok bool) {
	inv := c.inventories[acct.ID]
	if inv == nil {
		var err error
		if inv, err = c.s.cfg.Cloud.Inventory(c.asking, acct); err != nil {
			c.refused(ctx, acct, err)
			return "", false
		}
		if c.inventories == nil {
			c.inventories = map[string]*Inventory{}
		}
		c.inventories[acct.ID] = inv
	}
	for _, r := range inv.Resources {
		if r.Type == kind && r.Name == name {
			return r.Ref, true
		}
	}
	return "", true
}

// refused ends an account whose token the API does not accept any more; its steps are
// settled as those of an account that is over.
func (c *caretaking) refused(ctx context.Context, acct *Account, err error) {
	if !IsCode(err, CodeAccountLost) {
		return
	}
	if _, err := c.s.endRefused(ctx, acct); err == nil {
		acct.State, acct.Token, acct.ClaimURL = AccountLost, "", ""
	}
}
