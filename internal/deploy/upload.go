package deploy

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// upload brings the artifact to the account, unless it is there already.
func (r *run) upload(ctx context.Context) error {
	if err := r.previous(ctx); err != nil {
		return err
	}
	if r.unchanged() {
		return r.lookAgain(ctx)
	}
	if err := r.promiseToDiscard(ctx); err != nil {
		return err
	}
	r.dep = Deployment{
		ID: NewID(deploymentPrefix), SessionID: r.place.session.ID, AccountID: r.acct.ID, Worker: r.art.Name,
		BundleID: r.art.BundleID(), Digest: r.art.Digest, CreatedAt: r.s.cfg.Now().UTC(), Serving: ServingNotYet,
	}
	j := r.journal()
	j.brought = r.brought
	ctx = WithJournal(ctx, j)
	prepared, err := r.prepare(ctx)
	if err != nil {
		return err
	}
	if r.kept.Wait(); r.errKept != nil {
		return r.errKept // before the upload: what is live can always be put live again
	}
	if err := r.send(ctx, prepared); err != nil {
		return err
	}
	err = r.route(ctx)
	if err == nil {
		r.triggers(ctx)
	}
	// On disk before the wait: a crash from here on must not lose what the account has.
	return cmp.Or(err, r.s.saveDeployment(context.WithoutCancel(ctx), r.dep))
}

// unchanged tells whether the account has this very artifact already. Values of secrets
// may have changed without it.
func (r *run) unchanged() bool {
	return r.prev != nil && r.prev.Digest == r.art.Digest && r.prev.Host != "" && len(r.secrets) == 0
}

// lookAgain makes ready for a check of what is there already.
func (r *run) lookAgain(ctx context.Context) (err error) {
	r.dep = *r.prev
	r.openEvents(ctx)
	r.dep.URL, err = r.s.cfg.Edge.URL(ctx, r.dep.Host)
	return err
}

// keepArtifact saves the artifact while other work goes on; the caller waits for it.
func (r *run) keepArtifact(ctx context.Context) *sync.WaitGroup {
	r.kept = &sync.WaitGroup{}
	r.kept.Go(func() {
		crash("before/SaveArtifact")
		if r.errKept = r.s.cfg.Store.SaveArtifact(ctx, r.c.Principal, r.art); r.errKept == nil {
			crash("after/SaveArtifact")
		}
	})
	return r.kept
}

// send uploads modules and static files as one new version.
func (r *run) send(ctx context.Context, prepared *Prepared) error {
	bindings := prepared.Bindings
	if bindings == nil {
		bindings = r.art.Bindings
	}
	r.stage(StageUpload)
	if r.prev != nil { // the tail of a Worker that is not there yet can't be opened
		r.openEvents(ctx)
		r.prevMet = r.meetsBefore(ctx)
	}
	up, err := r.s.cfg.Cloud.Upload(ctx, r.acct, Upload{
		Artifact: r.art, Bindings: withSecrets(bindings, r.secrets), Objects: prepared.Objects,
		Tag: versionTag(r.art.Digest), Message: "hourglass " + r.place.session.ID, Tags: r.tags(),
	})
	if err != nil {
		if e := startError(r.art, err); e != nil {
			return e
		}
		return err
	}
	r.dep.VersionID = up.VersionID
	if len(r.secrets) > 0 {
		r.s.watches.know(r.dep.ID)
	}
	r.openEvents(ctx)
	return nil
}

// tags say on the account itself whose a Worker is: the session, the artifact, and the
// trusted labels as far as there is room.
func (r *run) tags() []string {
	const most, longest = 8, 100
	out := []string{"hourglass", "session=" + r.place.session.ID, "digest=" + versionTag(r.art.Digest)}
	for _, key := range slices.Sorted(maps.Keys(r.c.Labels)) {
		if len(out) < most {
			out = append(out, cut(r.s.cfg.Redactor.Redact(key+"="+r.c.Labels[key]), longest))
		}
	}
	for i := range out {
		out[i] = strings.Map(tagRune, out[i])
	}
	return out
}

// tagRune keeps what the API takes in a tag.
func tagRune(c rune) rune {
	if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_.:=/@-", c) {
		return c
	}
	return '_'
}

// versionTag is the annotation by which a version is known to be of an artifact.
func versionTag(digest string) string { return digest[:min(16, len(digest))] }

// brought is what goes on record with an upload that is done, or that may be. Without a
// host it is taken for nothing that is served: neither is what was there before. One
// whose route is known and that has nothing more to set up is complete.
func (r *run) brought(step *Step, done bool) *Deployment {
	r.dep.ID, r.dep.VersionID = deploymentID(step), step.Ref
	d := r.dep
	if r.prev != nil {
		d.URL = r.prev.URL
		if done && !r.art.HasTriggers() {
			d.Host = r.prev.Host
		}
	}
	return &d
}

func (s *Service) saveDeployment(ctx context.Context, d Deployment) error {
	crash("before/SaveDeployment")
	if err := s.cfg.Store.SaveDeployment(ctx, d); err != nil {
		return err
	}
	crash("after/SaveDeployment")
	return nil
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
		case d.AccountID != r.acct.ID || d.Worker != r.art.Name || d.gone():
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
		r.watch = r.s.listen(&r.place.session, r.acct, r.art.Name, true)
	}
}

func (r *run) closeEvents() {
	r.watch.settle()
	r.watch = nil
	if r.events != nil {
		r.events.close()
		r.events = nil
	}
}
