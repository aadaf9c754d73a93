package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

func TestMain(m *testing.M) {
	peertest.FixedSeed()
	goleak.VerifyTestMain(m)
}

// world is everything that the Service meets, played: an API with accounts and
// Workers that serve with a lag, an edge, a tail, and clocks that can be wrong.
//
// A Worker's code is one line that the edge plays: "200 hello" answers so,
// "throw message" throws, "exit 503" ends with that status and no exception, and
// "path /x" answers 200 with x on /x and 404 elsewhere.
type world struct {
	t     *testing.T
	store *memStore

	mu           sync.Mutex
	target       string
	loopback     bool
	localOffset  time.Duration // our clock minus true time
	apiOffset    time.Duration // the API's clock minus true time
	heard        bool          // an answer of the API was seen
	accounts     map[string]*fakeAccount
	provisions   int
	uploads      int
	routes       int
	asks         int
	fetches      int
	fetching     int
	maxFetching  int
	boots        int
	lag          time.Duration // how long an old version goes on serving
	routeDelay   time.Duration // how long a new route answers 404
	fetchTakes   time.Duration
	uploadTakes  time.Duration
	askTakes     time.Duration
	tail         bool // the API has a tail
	tailVersions bool // and it names versions
	tailDelay    time.Duration
	tails        []*fakeTail
	pageURL      string

	// Where set, asked before the act; an error is the act's.
	onProvision, onUpload, onRoute, onFetch, onBoot, onAsk, onPrepare, onTrigger func(n int) error

	prepares, triggers int
	lastUpload         deploy.Upload
	// afterUpload lets an upload happen and its answer get lost.
	afterUpload func(n int) error
	onPage      func() error
	// afterProvision lets an account be made and the answer get lost.
	afterProvision func(n int) error
	// onLook is asked before an account is looked at.
	onLook func(n int) error
	looks  int
	// onSight is asked before an account is looked at for what is not ours, onTail before
	// a tail is opened.
	onSight, onTail func(n int) error
	sights          int
	// onDelete is asked before something is deleted, "worker hello".
	onDelete func(what string) error
	// misused are uses of a token that must not be used any more: of an account that was
	// in ended, or that is over by a clock.
	misused []string
	ended   map[string]bool
}

type fakeAccount struct {
	acct    deploy.Account
	workers map[string]*fakeWorker
}

type fakeWorker struct {
	versions []fakeVersion
	routeAt  time.Time // zero: no route
}

type fakeVersion struct {
	id     string
	tag    string
	from   time.Time
	code   string
	stack  string
	assets bool
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, store: newMemStore(), target: "test", loopback: true, tail: true, tailVersions: true,
		accounts: map[string]*fakeAccount{}, pageURL: "http://localhost:1/claim/",
	}
}

// service makes a Service in this world.
func (w *world) service(change ...func(*deploy.Config)) *deploy.Service {
	w.t.Helper()
	cfg := deploy.Config{
		Bundler: bundler{}, Cloud: (*fakeCloud)(w), Edge: (*fakeEdge)(w), Store: w.store,
		Booter: (*fakeBooter)(w), Pages: (*fakePages)(w), Now: w.localNow,
	}
	for _, c := range change {
		c(&cfg)
	}
	s, err := deploy.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) localNow() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.localOffset)
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) apiNow() time.Time { return time.Now().Add(w.apiOffset) }

// bundler makes an artifact of one inline file: its path's base is the module.
type bundler struct{}

func (bundler) Bundle(ctx context.Context, src deploy.Source) (*deploy.Artifact, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name := src.Name
	if name == "" {
		name = "hello"
	}
	a := &deploy.Artifact{Name: name, CompatibilityDate: "2026-10-01"}
	for _, f := range src.Files {
		code := string(f.Content)
		switch {
		case strings.HasPrefix(code, "syntax error"):
			return nil, &deploy.Error{
				Code: deploy.CodeBuildFailed, Message: "1 error", Next: "Fix it.",
				Diagnostics: []deploy.Diagnostic{{Severity: "error", File: f.Path, Line: 1, Column: 1, Text: code}},
			}
		case strings.HasSuffix(f.Path, ".html"):
			if a.Assets == nil {
				a.Assets = &deploy.Assets{}
			}
			a.Assets.Files = append(a.Assets.Files, deploy.Asset{Path: "/" + f.Path, Content: f.Content})
		case strings.HasSuffix(f.Path, ".map"):
			a.Modules = append(a.Modules, deploy.Module{Name: f.Path, Type: deploy.TypeSourceMap, Content: f.Content})
		default:
			a.Modules = append(a.Modules, deploy.Module{Name: f.Path, Type: deploy.TypeESModule, Content: f.Content})
			if a.MainModule == "" {
				a.MainModule = f.Path
			}
		}
	}
	return a, a.Seal()
}

type fakeCloud world

func (c *fakeCloud) Target() string { c.mu.Lock(); defer c.mu.Unlock(); return c.target }
func (c *fakeCloud) Loopback() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.loopback }

func (c *fakeCloud) Clock() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.heard {
		return time.Time{}
	}
	return (*world)(c).apiNow()
}

func (c *fakeCloud) AskClock(ctx context.Context) (time.Time, error) {
	c.mu.Lock()
	takes := c.askTakes
	c.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asks++
	if c.onAsk != nil {
		if err := c.onAsk(c.asks); err != nil {
			return time.Time{}, err
		}
	}
	c.heard = true
	return (*world)(c).apiNow(), nil
}

func (c *fakeCloud) Provision(ctx context.Context, stage func(deploy.Stage)) (*deploy.Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, deploy.AsError(err)
	}
	stage(deploy.StageChallenge)
	stage(deploy.StageProof)
	stage(deploy.StageAccount)
	c.mu.Lock()
	n := c.provisions + 1
	if c.onProvision != nil {
		if err := c.onProvision(n); err != nil {
			c.provisions++
			c.mu.Unlock()
			return nil, err
		}
	}
	c.mu.Unlock()
	settle, err := deploy.BeginStep(ctx, deploy.StepCreateAccount, "")
	if err != nil {
		return nil, err
	}
	grant, err := c.create()
	ref := ""
	if grant != nil {
		ref = grant.Account.ID
	}
	if e := settle(ref, err); e != nil && err == nil {
		return nil, e
	}
	return grant, err
}

func (c *fakeCloud) create() (*deploy.Grant, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.provisions++
	c.heard = true
	now := (*world)(c).apiNow().UTC()
	n := strconv.Itoa(c.provisions)
	acct := deploy.Account{
		ID: fmt.Sprintf("%032d", c.provisions), Name: "Quiet Test " + n, Subdomain: "quiet-test-" + n,
		Token:    deploy.Secret("token-of-account-number-" + n + "-" + strings.Repeat("x", 20)),
		ClaimURL: deploy.Secret("https://dash.example/claim-preview?claimToken=claim-token-of-account-number-" + n),
		// As the live API: the account's end without, the claim's with milliseconds.
		ExpiresAt: now.Add(time.Hour).Truncate(time.Second), ClaimExpiresAt: now.Add(time.Hour).Truncate(time.Millisecond),
	}
	c.accounts[acct.ID] = &fakeAccount{acct: acct, workers: map[string]*fakeWorker{}}
	if c.afterProvision != nil {
		if err := c.afterProvision(c.provisions); err != nil {
			return nil, err
		}
	}
	return &deploy.Grant{Account: acct, Difficulty: 1}, nil
}

// account checks a token as the API does. The caller holds the lock.
func (c *fakeCloud) account(a *deploy.Account) (*fakeAccount, error) {
	known := c.accounts[a.ID]
	ours, api := time.Now().Add(c.localOffset).Add(a.Skew), (*world)(c).apiNow()
	switch {
	case a.State != deploy.AccountCurrent || a.Token.Empty() || c.ended[a.ID]:
		c.misused = append(c.misused, "account "+a.ID+" of state "+string(a.State))
	case c.ended != nil && (!ours.Before(a.ExpiresAt) || c.heard && !api.Before(a.ExpiresAt)):
		c.misused = append(c.misused, "account "+a.ID+" after its end")
	}
	if known == nil || known.acct.Token != a.Token || !(*world)(c).apiNow().Before(known.acct.ExpiresAt) {
		return nil, deploy.Errorf(deploy.CodeAccountLost, "Call deploy_temporary with fresh: true.", "the API does not accept this token")
	}
	return known, nil
}

// told runs a step as the journal wants it: told before, settled after.
func told[T any](ctx context.Context, kind deploy.StepKind, what string, step func() (T, string, error)) (T, error) {
	settle, err := deploy.BeginStep(ctx, kind, what)
	if err != nil {
		var none T
		return none, err
	}
	v, ref, err := step()
	if e := settle(ref, err); e != nil && err == nil {
		err = e
	}
	return v, err
}

func (c *fakeCloud) Prepare(ctx context.Context, _ *deploy.Account, a *deploy.Artifact, stage func(deploy.Stage)) (*deploy.Prepared, error) {
	return told(ctx, deploy.StepCreateResource, deploy.ResourceKV+" kv", func() (*deploy.Prepared, string, error) {
		p, err := c.prepare(a, stage)
		return p, "ref-of-kv", err
	})
}

func (c *fakeCloud) prepare(a *deploy.Artifact, stage func(deploy.Stage)) (*deploy.Prepared, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prepares++
	if c.onPrepare != nil {
		if err := c.onPrepare(c.prepares); err != nil {
			return nil, err
		}
	}
	stage(deploy.StageMigrate)
	return &deploy.Prepared{Bindings: a.Bindings, Resources: []deploy.Resource{{Type: deploy.ResourceKV, Binding: "KV", Name: "kv", State: deploy.ResourceMade}}}, nil
}

func (c *fakeCloud) Trigger(ctx context.Context, _ *deploy.Account, a *deploy.Artifact) ([]deploy.Resource, error) {
	return told(ctx, deploy.StepSetTrigger, a.Name, func() ([]deploy.Resource, string, error) {
		list, err := c.trigger(a)
		return list, "", err
	})
}

func (c *fakeCloud) trigger(a *deploy.Artifact) ([]deploy.Resource, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.triggers++
	r := deploy.Resource{Type: deploy.ResourceCron, Name: a.Resources.Crons[0], State: deploy.ResourceMade}
	if c.onTrigger != nil {
		if err := c.onTrigger(c.triggers); err != nil {
			r.State = deploy.ResourceFailed
			return []deploy.Resource{r}, err
		}
	}
	return []deploy.Resource{r}, nil
}

func (c *fakeCloud) Upload(ctx context.Context, acct *deploy.Account, up deploy.Upload) (*deploy.Uploaded, error) {
	return told(ctx, deploy.StepUploadScript, up.Artifact.Name, func() (*deploy.Uploaded, string, error) {
		u, err := c.upload(ctx, acct, up)
		if err != nil {
			return nil, "", err
		}
		return u, u.VersionID, nil
	})
}

func (c *fakeCloud) upload(ctx context.Context, acct *deploy.Account, up deploy.Upload) (*deploy.Uploaded, error) {
	c.mu.Lock()
	takes := c.uploadTakes
	c.mu.Unlock()
	if takes > 0 {
		time.Sleep(takes)
	}
	if err := ctx.Err(); err != nil {
		return nil, deploy.AsError(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastUpload = up
	c.uploads++
	c.heard = true
	known, err := c.account(acct)
	if err != nil {
		return nil, err
	}
	if c.onUpload != nil {
		if err := c.onUpload(c.uploads); err != nil {
			return nil, err
		}
	}
	w := known.workers[up.Artifact.Name]
	from := time.Now()
	if w == nil {
		w = &fakeWorker{}
		known.workers[up.Artifact.Name] = w
	} else {
		from = from.Add(c.lag)
	}
	v := fakeVersion{id: fmt.Sprintf("version-%d", c.uploads), tag: up.Tag, from: from, assets: up.Artifact.MainModule == ""}
	if v.assets {
		v.code = "200 " + string(up.Artifact.Assets.Files[0].Content)
	} else {
		v.code = string(up.Artifact.Modules[0].Content)
		v.stack = "Error: x\n    at Object.fetch (" + up.Artifact.MainModule + ":2:9)"
	}
	w.versions = append(w.versions, v)
	if c.afterUpload != nil {
		if err := c.afterUpload(c.uploads); err != nil {
			return nil, err
		}
	}
	return &deploy.Uploaded{VersionID: v.id}, nil
}

func (c *fakeCloud) EnableRoute(ctx context.Context, acct *deploy.Account, worker string) (string, error) {
	return told(ctx, deploy.StepEnableRoute, worker, func() (string, string, error) {
		host, err := c.enableRoute(ctx, acct, worker)
		return host, host, err
	})
}

func (c *fakeCloud) enableRoute(ctx context.Context, acct *deploy.Account, worker string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", deploy.AsError(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.routes++
	known, err := c.account(acct)
	if err != nil {
		return "", err
	}
	if c.onRoute != nil {
		if err := c.onRoute(c.routes); err != nil {
			return "", err
		}
	}
	w := known.workers[worker]
	if w == nil {
		return "", deploy.Errorf(deploy.CodeAPIRefused, "Upload first.", "no such Worker")
	}
	if w.routeAt.IsZero() {
		w.routeAt = time.Now().Add(c.routeDelay)
	}
	return worker + "." + known.acct.Subdomain + ".workers.dev", nil
}

func (c *fakeCloud) look(ctx context.Context, acct *deploy.Account) (*fakeAccount, error) {
	if err := ctx.Err(); err != nil {
		return nil, deploy.AsError(err)
	}
	c.looks++
	if c.onLook != nil {
		if err := c.onLook(c.looks); err != nil {
			return nil, err
		}
	}
	return c.account(acct)
}

func (c *fakeCloud) Deployed(ctx context.Context, acct *deploy.Account, worker string) (*deploy.Served, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, err := c.look(ctx, acct)
	if err != nil {
		return nil, err
	}
	w := known.workers[worker]
	if w == nil {
		return nil, nil
	}
	last := w.versions[len(w.versions)-1]
	s := &deploy.Served{VersionID: last.id, Tag: last.tag}
	if !w.routeAt.IsZero() {
		s.Host = worker + "." + known.acct.Subdomain + ".workers.dev"
	}
	return s, nil
}

func (c *fakeCloud) Inventory(ctx context.Context, acct *deploy.Account) (*deploy.Inventory, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, err := c.look(ctx, acct)
	if err != nil {
		return nil, err
	}
	inv := &deploy.Inventory{}
	inv.Workers = slices.Sorted(maps.Keys(known.workers))
	if c.prepares > 0 {
		inv.Resources = []deploy.OwnedResource{{Type: deploy.ResourceKV, Name: "kv", Ref: "ref-of-kv"}}
	}
	return inv, nil
}

func (c *fakeCloud) DeleteWorker(ctx context.Context, acct *deploy.Account, worker string) error {
	_, err := told(ctx, deploy.StepDelete, "worker "+worker, func() (bool, string, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		known, err := c.account(acct)
		if err == nil && c.onDelete != nil {
			err = c.onDelete("worker " + worker)
		}
		if err == nil {
			delete(known.workers, worker)
		}
		return true, "", err
	})
	return err
}

func (c *fakeCloud) DeleteResource(ctx context.Context, acct *deploy.Account, r deploy.OwnedResource) error {
	_, err := told(ctx, deploy.StepDelete, r.Type+" "+r.Name, func() (bool, string, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, err := c.account(acct)
		if err == nil && c.onDelete != nil {
			err = c.onDelete(r.Type + " " + r.Name)
		}
		if err == nil {
			c.prepares = 0
		}
		return true, "", err
	})
	return err
}

func (c *fakeCloud) Sight(ctx context.Context, acct *deploy.Account, workers []string) (*deploy.Sighted, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sights++
	if err := ctx.Err(); err != nil {
		return nil, deploy.AsError(err)
	}
	if c.onSight != nil {
		if err := c.onSight(c.sights); err != nil {
			return nil, err
		}
	}
	known, err := c.account(acct)
	if err != nil {
		return nil, err
	}
	out := &deploy.Sighted{Workers: slices.Sorted(maps.Keys(known.workers)), Versions: map[string][]string{}}
	for _, name := range workers {
		if w := known.workers[name]; w != nil {
			for _, v := range slices.Backward(w.versions) {
				out.Versions[name] = append(out.Versions[name], v.id)
			}
		}
	}
	return out, nil
}

func (c *fakeCloud) Tail(ctx context.Context, acct *deploy.Account, worker string) (deploy.Tail, error) {
	if err := ctx.Err(); err != nil {
		return nil, deploy.AsError(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.account(acct); err != nil {
		return nil, err
	}
	if c.onTail != nil {
		if err := c.onTail(len(c.tails) + 1); err != nil {
			return nil, err
		}
	}
	if !c.tail {
		return nil, deploy.Errorf(deploy.CodeAPIRefused, "Do without.", "no tail here")
	}
	t := &fakeTail{host: worker + "." + acct.Subdomain + ".workers.dev", events: make(chan deploy.TraceEvent, 1000)}
	c.tails = append(c.tails, t)
	return t, nil
}

type fakeTail struct {
	host   string
	events chan deploy.TraceEvent
	closed atomic.Bool
}

func (t *fakeTail) Next(ctx context.Context) (deploy.TraceEvent, error) {
	select {
	case e, ok := <-t.events:
		if !ok {
			return deploy.TraceEvent{}, errors.New("the stream is over")
		}
		return e, nil
	case <-ctx.Done():
		return deploy.TraceEvent{}, ctx.Err()
	}
}

func (t *fakeTail) Close() error { t.closed.Store(true); return nil }
func (t *fakeTail) Drop()        { t.closed.Store(true) }

type fakeEdge world

func (e *fakeEdge) URL(_ context.Context, host string) (string, error) {
	if host == "" {
		return "", errors.New("URL of no host")
	}
	return "http://127.0.0.1:1/" + host, nil
}

func (e *fakeEdge) Fetch(ctx context.Context, host, path string, header http.Header) (*deploy.Response, error) {
	e.mu.Lock()
	e.fetches++
	n := e.fetches
	e.fetching++
	e.maxFetching = max(e.maxFetching, e.fetching)
	takes := e.fetchTakes
	fail := e.onFetch
	e.mu.Unlock()
	defer func() { e.mu.Lock(); e.fetching--; e.mu.Unlock() }()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, deploy.AsError(err)
	}
	if fail != nil {
		if err := fail(n); err != nil {
			return nil, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	v := e.serving(host)
	if v == nil {
		return &deploy.Response{Status: http.StatusNotFound, Header: http.Header{"Content-Type": {"text/html"}}, Body: []byte("There is nothing here yet")}, nil
	}
	resp, event := v.play(path)
	event.ProbeID = header.Get(deploy.ProbeHeader)
	if e.tailVersions {
		event.VersionID = v.id
	}
	if !v.assets {
		for _, t := range e.tails {
			if t.host == host && !t.closed.Load() {
				time.AfterFunc(e.tailDelay, func() { t.events <- event })
			}
		}
	}
	return resp, nil
}

// serving is the version that a host serves now. The caller holds the lock.
func (e *fakeEdge) serving(host string) *fakeVersion {
	for _, a := range e.accounts {
		for name, w := range a.workers {
			if name+"."+a.acct.Subdomain+".workers.dev" != host || w.routeAt.IsZero() || time.Now().Before(w.routeAt) {
				continue
			}
			for i := len(w.versions) - 1; i >= 0; i-- {
				if !time.Now().Before(w.versions[i].from) {
					return &w.versions[i]
				}
			}
		}
	}
	return nil
}

func (v *fakeVersion) play(path string) (*deploy.Response, deploy.TraceEvent) {
	verb, rest, _ := strings.Cut(v.code, " ")
	text := http.Header{"Content-Type": {"text/plain"}}
	resp := &deploy.Response{Header: text, Latency: 3 * time.Millisecond}
	event := deploy.TraceEvent{Outcome: "ok"}
	switch verb {
	case "throw":
		resp.Status, resp.Body = http.StatusInternalServerError, []byte("Internal Server Error")
		event.Outcome = "exception"
		event.Exceptions = []deploy.Exception{{Name: "Error", Message: rest, Stack: v.stack}}
	case "exit":
		resp.Status, _ = strconv.Atoi(rest)
		event.Outcome = "exceededCpu"
	case "path":
		resp.Status = http.StatusNotFound
		if path == rest {
			resp.Status, resp.Body = http.StatusOK, []byte(rest)
		}
	default:
		resp.Status, _ = strconv.Atoi(verb)
		resp.Body = []byte(rest)
	}
	event.Status = resp.Status
	return resp, event
}

type fakeBooter world

func (b *fakeBooter) Boot(ctx context.Context, _ *deploy.Artifact) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.boots++
	if b.onBoot != nil {
		return b.onBoot(b.boots)
	}
	return ctx.Err()
}

type fakePages world

func (p *fakePages) URL(_ context.Context, claim *deploy.Claim) (string, error) {
	token := claim.PageToken
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.onPage != nil {
		if err := p.onPage(); err != nil {
			return "", err
		}
	}
	return p.pageURL + token.Reveal(), nil
}

var (
	_ deploy.Bundler = bundler{}
	_ deploy.Cloud   = (*fakeCloud)(nil)
	_ deploy.Edge    = (*fakeEdge)(nil)
	_ deploy.Booter  = (*fakeBooter)(nil)
	_ deploy.Pages   = (*fakePages)(nil)
)

// me is the caller of most tests.
var me = deploy.Caller{Principal: "me", Scope: "server-1", Labels: map[string]string{"team": "a"}, Client: "tester 1"}

// source is a Worker of one file.
func source(code string) deploy.Source {
	return deploy.Source{Files: []deploy.File{{Path: "index.js", Content: []byte(code)}}}
}

func worker(code string) deploy.DeployRequest { return deploy.DeployRequest{Source: source(code)} }

// must deploys and expects success.
func must(t *testing.T, s *deploy.Service, req deploy.DeployRequest) *deploy.DeployResult {
	t.Helper()
	res, err := s.Deploy(t.Context(), me, req)
	if err != nil {
		t.Fatalf("deploy: %v", err)
	}
	if res.Next.Do == "" {
		t.Error("a result without a next step")
	}
	return res
}

// refused expects an error of that code, with something to do next.
func refused(t *testing.T, err error, code deploy.Code) *deploy.Error {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want %s", code)
	}
	e := deploy.AsError(err)
	if e.Code != code {
		t.Fatalf("%v (cause %v); want code %s", e, e.Cause, code)
	}
	if e.Next == "" || e.Message == "" {
		t.Errorf("%s: message %q, next %q: neither may be empty", e.Code, e.Message, e.Next)
	}
	return e
}
