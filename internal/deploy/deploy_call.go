package deploy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Deploy puts a Worker live on the caller's temporary account and reads what it
// serves. Nothing is spent before bundle and preflight are through. A call with an
// idempotency key is done once; repeated, also while the first still runs, it gives
// the first one's result with a fresh countdown.
func (s *Service) Deploy(ctx context.Context, c Caller, req DeployRequest) (*DeployResult, error) {
	if err := s.validate(req); err != nil {
		return nil, err
	}
	if req.IdempotencyKey == "" {
		return s.deploy(ctx, c, req)
	}
	digest, err := req.digest()
	if err != nil {
		return nil, err
	}
	for {
		state, kept, err := s.cfg.Store.BeginCall(ctx, c.Principal, req.IdempotencyKey, digest, s.cfg.Now())
		if err != nil {
			return nil, err
		}
		switch state {
		case CallNew:
			return s.deployOnce(ctx, c, req)
		case CallDone:
			return s.repeat(ctx, c, kept)
		case CallRunning:
			if err := sleep(ctx, 100*time.Millisecond); err != nil {
				return nil, err
			}
		}
	}
}

// deployOnce deploys under a reserved key. A failure gives the key free: what was
// spent by then belongs to the session, where the next call finds it.
func (s *Service) deployOnce(ctx context.Context, c Caller, req DeployRequest) (res *DeployResult, err error) {
	var kept []byte
	// Deferred, so that a panic that the door recovers from gives the key free too.
	defer func() {
		if e := s.cfg.Store.FinishCall(context.WithoutCancel(ctx), c.Principal, req.IdempotencyKey, kept); err == nil && e != nil {
			res, err = nil, e
		}
	}()
	if res, err = s.deploy(ctx, c, req); err != nil {
		return nil, err
	}
	if kept, err = json.Marshal(res); err != nil {
		return nil, fmt.Errorf("keeping a result: %w", err)
	}
	return res, nil
}

// repeat gives a kept result with a fresh countdown.
func (s *Service) repeat(ctx context.Context, c Caller, kept []byte) (*DeployResult, error) {
	var res DeployResult
	if err := json.Unmarshal(kept, &res); err != nil {
		return nil, fmt.Errorf("reading a kept result: %w", err)
	}
	sess, err := s.cfg.Store.Session(ctx, c.Principal, res.SessionID)
	if err != nil {
		return nil, err
	}
	deps, err := s.cfg.Store.Deployments(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	accounts, err := s.cfg.Store.Accounts(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	s.learn(accounts)
	for _, d := range deps {
		for i := range accounts {
			if d.ID == res.DeploymentID && d.AccountID == accounts[i].ID {
				s.countdown(&res, &accounts[i])
			}
		}
	}
	return &res, nil
}

func (s *Service) countdown(res *DeployResult, a *Account) {
	now := s.timeFor(a)
	res.ExpiresAt = a.ExpiresAt
	res.MinutesLeft = minutesLeft(a, now)
	res.Phase = a.Phase(now)
	if res.Phase == PhaseExpired || res.Phase == PhaseClosed {
		res.Next = NextStep{
			Do:   "The account of this result is over. Call deploy_temporary again, without the idempotency key, to put it live anew.",
			Tool: "deploy_temporary", Args: map[string]any{"bundle_id": res.BundleID},
		}
	}
}

func minutesLeft(a *Account, now time.Time) int {
	if a.State == AccountRetired || a.State == AccountExpired || a.State == AccountLost {
		return 0
	}
	return max(0, int(a.ExpiresAt.Sub(now)/time.Minute))
}

// digest fixes the arguments of a call for its idempotency key.
func (r DeployRequest) digest() (string, error) {
	r.Progress, r.IdempotencyKey = nil, ""
	b, err := json.Marshal(struct {
		DeployRequest
		Progress bool
	}{DeployRequest: r})
	if err != nil {
		return "", fmt.Errorf("digest of a call: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

func (s *Service) validate(req DeployRequest) error {
	if s.cfg.ReadOnly {
		return errReadOnly()
	}
	if req.BundleID != "" && !req.Source.Empty() {
		return Errorf(CodeTwoSources, "Give exactly one of project_dir, files and bundle_id.",
			"both bundle_id and a source were given")
	}
	if req.BundleID == "" && req.Source.Empty() {
		return errNoSource()
	}
	if e := req.Expect; e != nil {
		if e.Path != "" && !isPath(e.Path) {
			return Errorf(CodeInvalidArgument, "Begin expect.path with one slash, e.g. /health or /items?limit=3.",
				"expect.path %q is not a path of the Worker", cut(e.Path, 80))
		}
		if e.Status != 0 && (e.Status < 100 || e.Status > 599) {
			return Errorf(CodeInvalidArgument, "Give an HTTP status such as 200.", "expect.status %d is not an HTTP status", e.Status)
		}
	}
	return nil
}

// isPath tells whether the edge can be asked for p: else only the check, after
// everything is spent, would find out.
func isPath(p string) bool {
	_, err := url.ParseRequestURI(p)
	return err == nil && p[0] == '/' && !strings.HasPrefix(p, "//") && len(p) <= 8192
}

func errReadOnly() *Error {
	return &Error{
		Code: CodeReadOnly, Message: "this server is read-only: its operator allows bundle and status",
		Next: "Tell the user that deploying needs a server that runs without --read-only.",
	}
}

// run is one deployment under way.
type run struct {
	s     *Service
	c     Caller
	req   DeployRequest
	art   *Artifact
	place *place
	acct  *Account
	isNew bool        // acct was made by this run
	prev  *Deployment // what this Worker served before on this account
	older bool        // prev replaced another version
	// prevMet: what served before met the expectation too, or it is not known.
	prevMet bool
	events  *eventBook
	dep     Deployment
	// secrets are the values of secret bindings, by binding; nowhere else.
	secrets map[string]string
	// resources are what was found and made for this deployment.
	resources []Resource
	warn      []string
	stages    []StageTime
	began     time.Time
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

// deploy is the road of a deployment.
func (s *Service) deploy(ctx context.Context, c Caller, req DeployRequest) (*DeployResult, error) {
	r := &run{s: s, c: c, req: req}
	if req.SessionID != "" { // a wrong handle is told before any work is done
		if _, err := s.resolve(ctx, c, req); err != nil {
			return nil, err
		}
	}
	if err := r.bundle(ctx); err != nil {
		return nil, err
	}
	warnings, err := preflight(r.art)
	if err != nil {
		return nil, err
	}
	if r.secrets, err = s.secrets(r.art); err != nil {
		return nil, err
	}
	r.warn = append(append(append(r.warn, r.art.Warnings...), warnings...), shortSecrets(r.art, r.secrets)...)
	var res *DeployResult
	for {
		again, err := r.attempt(ctx)
		if err != nil {
			return nil, err
		}
		if !again {
			res = r.result()
			return res, nil
		}
	}
}

// attempt goes from the session to the check under the session's lock. It tells to try
// again when the account turned out to be over and the caller did not insist on it.
func (r *run) attempt(ctx context.Context) (again bool, err error) {
	s := r.s
	if r.place, err = s.resolve(ctx, r.c, r.req); err != nil {
		return false, err
	}
	unlock, err := s.locks.lock(ctx, r.place.session.ID)
	if err != nil {
		return false, err
	}
	defer unlock()
	// What was seen before the lock was had may be over: another call held it.
	if r.place, err = s.reread(ctx, r.place, r.req); err != nil {
		return IsCode(err, CodeSessionExpired) && r.req.SessionID == "", ignoreExpired(err, r.req)
	}
	if err := r.account(ctx); err != nil {
		return false, err
	}
	defer r.closeEvents()
	if err := r.upload(ctx); err != nil {
		if !IsCode(err, CodeAccountLost) {
			return false, err
		}
		err = r.lost(ctx, err)
		return err == nil, err
	}
	r.stage(StageCheck)
	r.check(ctx)
	r.stage("")
	return false, s.saveChecked(context.WithoutCancel(ctx), r.dep)
}

// saveChecked keeps a deployment with its check, never over the check of a later look.
func (s *Service) saveChecked(ctx context.Context, d Deployment) error {
	unlock, err := s.locks.lock(ctx, "row\x00"+d.ID)
	if err != nil {
		return err
	}
	defer unlock()
	return s.cfg.Store.SaveDeployment(ctx, d)
}

func ignoreExpired(err error, req DeployRequest) error {
	if IsCode(err, CodeSessionExpired) && req.SessionID == "" {
		return nil
	}
	return err
}

// reread looks at the session again under its lock.
func (s *Service) reread(ctx context.Context, p *place, req DeployRequest) (*place, error) {
	again, err := s.placeIn(ctx, p.session, req)
	if err != nil {
		return nil, err
	}
	again.isNew = p.isNew
	return again, nil
}

func (r *run) bundle(ctx context.Context) (err error) {
	r.stage(StageBundle)
	if r.req.BundleID != "" {
		r.art, err = r.s.cfg.Store.Artifact(ctx, r.c.Principal, r.req.BundleID)
	} else {
		r.art, err = r.s.cfg.Bundler.Bundle(ctx, r.req.Source)
	}
	if err == nil {
		r.stage(StagePreflight)
	}
	return err
}

// account makes sure that there is one to deploy to.
func (r *run) account(ctx context.Context) error {
	if r.place.account != nil {
		r.acct, r.isNew = r.place.account, false
		return nil
	}
	s := r.s
	if err := standsAlone(r.art); err != nil {
		return err
	}
	if err := s.termsAccepted(ctx, r.c); err != nil {
		return err
	}
	if err := s.boot(ctx, r.art); err != nil {
		return err
	}
	grant, err := s.cfg.Cloud.Provision(ctx, r.stage)
	if err != nil {
		return err
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
	// The account exists now, whether or not the caller still waits for it.
	keep := context.WithoutCancel(ctx)
	if err := s.cfg.Store.SaveAccount(keep, acct); err != nil {
		return err
	}
	if old := r.place.retires; old != nil {
		if err := s.end(keep, old, AccountRetired); err != nil {
			return err
		}
	}
	r.acct, r.isNew = &acct, true
	return nil
}

// end takes an account out of use and wipes what could act on it.
func (s *Service) end(ctx context.Context, a *Account, state AccountState) error {
	over := *a
	over.State, over.Token, over.ClaimURL = state, "", ""
	return s.cfg.Store.SaveAccount(ctx, over)
}

// lost settles that the API did not accept the account's token: because its hour is
// over, or for a reason that only the API knows.
func (r *run) lost(ctx context.Context, cause error) error {
	s := r.s
	keep := context.WithoutCancel(ctx)
	if r.isNew {
		return cause
	}
	if !s.timeFor(r.acct).Before(r.acct.ExpiresAt) {
		if err := s.end(keep, r.acct, AccountExpired); err != nil {
			return err
		}
		if r.req.SessionID == "" {
			return nil
		}
		return s.errExpired(r.place.session.ID, r.acct)
	}
	if err := s.end(keep, r.acct, AccountLost); err != nil {
		return err
	}
	e := errAccountLost(r.place.session.ID)
	e.Cause = cause
	return e
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
	return Errorf(CodeTermsNeeded,
		"Ask the user to run `mcp-server setup` in their own terminal, or to start the server with --accept-terms. Only a human can accept the terms.",
		"no human has accepted Cloudflare's terms on this machine yet. %s", termsText)
}

// upload brings the artifact to the account, unless it is there already.
func (r *run) upload(ctx context.Context) (err error) {
	s := r.s
	if err := r.previous(ctx); err != nil {
		return err
	}
	now := s.cfg.Now().UTC()
	if r.prev != nil && r.prev.Digest == r.art.Digest && r.prev.Host != "" && len(r.secrets) == 0 { // whose values may have changed
		r.dep = *r.prev
		r.openEvents(ctx)
		r.dep.URL, err = s.cfg.Edge.URL(ctx, r.dep.Host)
		return err
	}
	prepared, err := r.prepare(ctx)
	if err != nil {
		return err
	}
	bindings := prepared.Bindings
	if bindings == nil {
		bindings = r.art.Bindings
	}
	saved := make(chan error, 1)
	go func() { saved <- s.cfg.Store.SaveArtifact(ctx, r.c.Principal, r.art) }()
	r.stage(StageUpload)
	if r.prev != nil { // the tail of a Worker that is not there yet can't be opened
		r.openEvents(ctx)
		r.prevMet = r.meetsBefore(ctx)
	}
	up, err := s.cfg.Cloud.Upload(ctx, r.acct, Upload{
		Artifact: r.art, Bindings: withSecrets(bindings, r.secrets), Objects: prepared.Objects,
		Tag: r.art.Digest[:16], Message: "hourglass " + r.place.session.ID,
	})
	errSaved := <-saved
	r.dep = Deployment{
		ID: NewID("d"), SessionID: r.place.session.ID, AccountID: r.acct.ID, Worker: r.art.Name,
		BundleID: r.art.BundleID(), Digest: r.art.Digest, CreatedAt: now, Serving: ServingNotYet,
	}
	if err != nil {
		return r.uploadFailed(ctx, err)
	}
	r.dep.VersionID = up.VersionID
	r.openEvents(ctx)
	err = r.route(ctx)
	if err == nil {
		r.triggers(ctx)
	}
	// On disk before the wait, and also when the route failed: a crash or a failure from
	// here on must not lose what the account has.
	errKept := s.cfg.Store.SaveDeployment(context.WithoutCancel(ctx), r.dep)
	return cmp.Or(err, errSaved, errKept)
}

// prepare makes ready on the account what the Worker needs beside its code.
func (r *run) prepare(ctx context.Context) (*Prepared, error) {
	if !r.art.NeedsResources() {
		return &Prepared{}, nil
	}
	r.stage(StageResources)
	p, err := r.s.cfg.Cloud.Prepare(ctx, r.acct, r.art, r.stage)
	if err != nil {
		return nil, err
	}
	r.warn = append(r.warn, p.Warnings...)
	r.resources = p.Resources
	return p, nil
}

// triggers sets up what calls the Worker beside its route. The Worker is live by then,
// so a failure is a warning; without a digest the deployment is not taken for the
// same one when it is called for again, and the triggers are set up then.
func (r *run) triggers(ctx context.Context) {
	if !r.art.HasTriggers() {
		return
	}
	r.stage(StageTriggers)
	list, err := r.s.cfg.Cloud.Trigger(ctx, r.acct, r.art)
	r.resources = append(r.resources, list...)
	if err == nil {
		return
	}
	r.dep.Digest = ""
	e := AsError(err)
	r.warn = append(r.warn, fmt.Sprintf("The Worker is live, but not all that triggers it could be set up (%s): %s Call deploy_temporary again with the same source to try once more. %s",
		resourceSummary(list), e.Message, e.Next))
}

// uploadFailed tells an upload's failure. Unless the API said no, the version may be
// there all the same: then a deployment without a host goes on record, so that neither
// it nor the one before is taken for what is served.
func (r *run) uploadFailed(ctx context.Context, err error) error {
	if e := startError(r.art, err); e != nil {
		return e
	}
	switch AsError(err).Code {
	case CodeAPIUnreachable, CodeAPIBadResponse, CodeCancelled, CodeTimeout, CodeInternal:
		if r.prev != nil {
			r.dep.URL = r.prev.URL
		}
		if e := r.s.cfg.Store.SaveDeployment(context.WithoutCancel(ctx), r.dep); e != nil {
			return e
		}
	}
	return err
}

// route makes the Worker answer under a host name. One that did so before still does.
func (r *run) route(ctx context.Context) (err error) {
	host := ""
	if r.prev != nil {
		host = r.prev.Host
	}
	if host == "" {
		r.stage(StageRoute)
		if host, err = r.s.cfg.Cloud.EnableRoute(ctx, r.acct, r.art.Name); err != nil {
			return err
		}
	}
	if r.dep.URL, err = r.s.cfg.Edge.URL(ctx, host); err != nil {
		return err
	}
	r.dep.Host = host
	return nil
}

// previous finds what this Worker served before on this account.
func (r *run) previous(ctx context.Context) error {
	r.prev, r.older, r.prevMet = nil, false, true
	if r.isNew {
		return nil
	}
	deps, err := r.s.cfg.Store.Deployments(ctx, r.place.session.ID)
	if err != nil {
		return err
	}
	for i := range deps {
		switch d := &deps[i]; {
		case d.AccountID != r.acct.ID || d.Worker != r.art.Name:
		case r.prev == nil:
			r.prev = d
		default:
			r.older = true
			return nil
		}
	}
	return nil
}

// meetsBefore tells whether what serves now meets the expectation already, in which
// case meeting it will be no proof of the new version.
func (r *run) meetsBefore(ctx context.Context) bool {
	e := r.req.Expect
	if e == nil || r.prev.Host == "" {
		return true
	}
	if r.older && !r.prev.confirmed() {
		return true // what serves now may be older still, and say nothing of prev
	}
	ctx, stop := context.WithTimeout(ctx, 3*time.Second)
	defer stop()
	resp, err := r.s.cfg.Edge.Fetch(ctx, r.prev.Host, e.path(), nil)
	return err != nil || meets(e, resp)
}

func (e *Expect) path() string {
	if e == nil || e.Path == "" {
		return "/"
	}
	return e.Path
}

// openEvents opens the Worker's tail once, while other work goes on. Static files
// alone are served without an invocation, so no tail tells of them.
func (r *run) openEvents(ctx context.Context) {
	if r.events == nil && r.art.MainModule != "" {
		r.events = openEvents(ctx, r.s.cfg.Cloud, r.acct, r.art.Name)
	}
}

func (r *run) closeEvents() {
	if r.events != nil {
		r.events.close()
		r.events = nil
	}
}

func (r *run) result() *DeployResult {
	s, d := r.s, &r.dep
	res := &DeployResult{
		Serving: d.Serving, Changed: r.prev == nil || r.prev.ID != d.ID, URL: d.URL, Worker: d.Worker,
		SessionID: d.SessionID, DeploymentID: d.ID, VersionID: d.VersionID, BundleID: d.BundleID,
		Account: AccountReused, Check: d.Check, Resources: r.resources, Warnings: r.warn, Stages: r.stages,
	}
	if r.isNew {
		res.Account = AccountNew
	}
	res.Next = r.next()
	s.countdown(res, r.acct)
	if res.Phase == PhaseExpiring {
		res.Warnings = append(res.Warnings, fmt.Sprintf(
			"The account ends in %d minutes and everything on it with it. If the user wants to keep it, call request_claim now.", res.MinutesLeft))
	}
	return res
}

// next is the one thing to do now.
func (r *run) next() NextStep {
	d := &r.dep
	again := map[string]any{"session_id": d.SessionID}
	switch {
	case d.Serving == ServingNotYet && d.Check != nil && d.Check.Status != 0 && d.Check.Status != http.StatusNotFound:
		return NextStep{Do: "It is uploaded, but what answers may still be the version before (see check); look again in 15 seconds.", Tool: "status", Args: again}
	case d.Serving == ServingNotYet:
		return NextStep{Do: "It is uploaded but does not answer yet; look again in 15 seconds.", Tool: "status", Args: again}
	case d.Check != nil && d.Check.Error != "":
		return NextStep{Do: "It is live but fails: fix the code (see check.error and check.at) and deploy again into the same session.", Tool: "deploy_temporary", Args: again}
	case d.Check != nil && !d.Check.OK:
		return NextStep{Do: "It is live but does not answer as expected (see check): fix the code and deploy again into the same session.", Tool: "deploy_temporary", Args: again}
	}
	return NextStep{
		Do: "Give the user the URL and say that it is public and ends at expires_at. To change it, deploy again into the same session. Call request_claim only if the user wants to keep it.",
	}
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
