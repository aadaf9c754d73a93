package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// runtime is what runs for an account: one process with every Worker of it. Its
// fields are under account.mu; what changes it holds account.deploying too.
type runtime struct {
	closed  bool
	live    *workerd.Process    // nil: nothing runs
	serving map[string]*version // what the edge serves, by Worker
	// pending is a process that will be live when the edge has heard of it.
	pending     *workerd.Process
	pendingSet  map[string]*version
	pendingWhen *time.Timer
	pendingAt   time.Time // by the sandbox's clock, which may be advanced
	// warmed is a process that was started to try a version, kept for a deployment that
	// follows at once.
	warmed     *workerd.Process
	warmedSet  map[string]*version
	warmedWhen *time.Timer
	previews   map[string]*workerd.Process // by version
}

const (
	warmLife    = 10 * time.Second
	drainTime   = 10 * time.Second
	maxPreviews = 3
)

// program is what would run: every Worker's deployed version, with one replaced.
func (a *account) program(name string, v *version) map[string]*version {
	a.mu.Lock()
	defer a.mu.Unlock()
	set := map[string]*version{}
	for n, sc := range a.scripts {
		if d := sc.deployed(); d != nil {
			set[n] = d
		}
	}
	if v != nil {
		set[name] = v
	}
	return set
}

// deploy makes v the version of sc that serves. When it does not start, what served
// before goes on, and the error is the API's 10021 with the runtime's words. The
// caller holds account.deploying.
func (a *account) deploy(ctx context.Context, sc *script, v *version) error {
	set := a.program(sc.name, v)
	if hasObjects(set) || hasObjects(a.nowServing()) {
		return a.deployObjects(ctx, sc, v, set)
	}
	p := a.takeWarm(set)
	if p == nil {
		if err := a.tryFlags(ctx, sc, v, set); err != nil {
			return err
		}
		var err error
		began := time.Now()
		if p, err = a.start(ctx, set); err != nil {
			return startRefusal(err, sc.name)
		}
		v.startupMS = max(1, int(time.Since(began).Milliseconds()))
	}
	if err := a.openPort(sc); err != nil {
		a.discard(p)
		return err
	}
	a.mu.Lock()
	first := a.runtime.serving[sc.name] == nil
	closed := a.runtime.closed
	a.mu.Unlock()
	if closed {
		a.discard(p)
		return errAuth(http.StatusUnauthorized)
	}
	a.dropPending()
	delay := time.Duration(a.s.propagation().VersionMS)*time.Millisecond + slowEdge(ctx)
	if first || delay <= 0 {
		a.swap(p, set)
		return nil
	}
	a.mu.Lock()
	a.runtime.pending, a.runtime.pendingSet = p, set
	a.runtime.pendingWhen, a.runtime.pendingAt = time.AfterFunc(delay, a.promotePending), a.s.clock.Now().Add(delay)
	a.mu.Unlock()
	return nil
}

// tryFlags refuses flags that Cloudflare's own runtime does not take: with our events
// Worker in it, ours would.
func (a *account) tryFlags(ctx context.Context, sc *script, v *version, set map[string]*version) error {
	a.mu.Lock()
	events := a.events
	a.mu.Unlock()
	if !events || len(v.flags) == 0 {
		return nil
	}
	return a.try(ctx, sc, v, set)
}

func (a *account) nowServing() map[string]*version {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.runtime.serving
}

// deployObjects is deploy for an account with Durable Objects: what serves ends before
// the next starts, and requests wait meanwhile (workerd fact sheet, section 2). So the
// version is tried before, in a process without the objects' data.
func (a *account) deployObjects(ctx context.Context, sc *script, v *version, set map[string]*version) error {
	began := time.Now()
	if err := a.try(ctx, sc, v, set); err != nil {
		return err
	}
	v.startupMS = max(1, int(time.Since(began).Milliseconds()))
	if err := a.openPort(sc); err != nil {
		return err
	}
	a.dropPending()
	a.dropWarm()
	a.mu.Lock()
	first := a.runtime.serving[sc.name] == nil
	closed := a.runtime.closed
	a.mu.Unlock()
	if closed {
		return errAuth(http.StatusUnauthorized)
	}
	delay := time.Duration(a.s.propagation().VersionMS)*time.Millisecond + slowEdge(ctx)
	if !first && delay > 0 && sameClasses(a.nowServing()[sc.name], v) {
		a.mu.Lock()
		a.runtime.pendingSet = set
		a.runtime.pendingWhen, a.runtime.pendingAt = time.AfterFunc(delay, a.promotePending), a.s.clock.Now().Add(delay)
		a.mu.Unlock()
		return nil
	}
	return startRefusal(a.restart(ctx, set), sc.name)
}

func sameClasses(x, y *version) bool { return x != nil && maps.Equal(x.classes, y.classes) }

// try starts what would run without the data of Durable Objects, asks the version what
// it exports, and ends it again.
func (a *account) try(ctx context.Context, sc *script, v *version, set map[string]*version) error {
	cfg, err := a.config(ctx, set)
	if err != nil || cfg == nil {
		return err
	}
	scratch, remove, err := workerd.NewDir(a.s.root)
	if err != nil {
		return err
	}
	defer remove()
	for i := range cfg.Workers {
		if cfg.Workers[i].Storage != "" {
			cfg.Workers[i].Storage = scratch
		}
	}
	if i := slices.IndexFunc(cfg.Workers, func(w workerd.Worker) bool { return w.Name == sc.name }); i >= 0 {
		cfg.Workers[0], cfg.Workers[i] = cfg.Workers[i], cfg.Workers[0]
		report, err := workerd.Inspect(ctx, *cfg)
		if err != nil {
			return startRefusal(err, sc.name)
		}
		return checkObjects(v, report)
	}
	return startRefusal(workerd.Check(ctx, *cfg), sc.name)
}

// restart ends what serves and starts the set in its place, or, when that does not
// start, what served before. The caller holds account.deploying, which is what requests
// wait for meanwhile.
func (a *account) restart(ctx context.Context, set map[string]*version) error {
	a.mu.Lock()
	old, before := a.runtime.live, a.runtime.serving
	a.runtime.live = nil
	a.mu.Unlock()
	if old != nil {
		drain, stop := context.WithTimeout(ctx, time.Second)
		old.Stop(drain)
		stop()
	}
	p, err := a.start(ctx, set)
	if err != nil {
		if p, _ = a.start(a.s.ctx, before); p != nil { // or with the next request
			a.swap(p, before)
		}
		return err
	}
	a.swap(p, set)
	return nil
}

// startRefusal turns a start error into the API's.
func startRefusal(err error, script string) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*workerd.StartError](err)
	if !ok {
		return err
	}
	if e.Worker != "" && e.Worker != script {
		return refuse(http.StatusBadRequest, 10021, "the account's other Worker %s does not start: %s", e.Worker, e.Text)
	}
	return refuse(http.StatusBadRequest, 10021, "%s", e.Text)
}

// start starts a process for a set of versions; nil when none of them has code.
func (a *account) start(ctx context.Context, set map[string]*version) (*workerd.Process, error) {
	cfg, err := a.config(ctx, set)
	if err != nil || cfg == nil {
		return nil, err
	}
	a.mu.Lock()
	events := a.events
	a.mu.Unlock()
	if events {
		withEvents(cfg)
	}
	return workerd.Start(ctx, *cfg)
}

// config is how a set of versions is run; nil when none of them has code.
func (a *account) config(ctx context.Context, set map[string]*version) (*workerd.Config, error) {
	cfg := workerd.Config{Dir: a.s.root, OnTail: a.onTail, AllowPrivate: a.s.cfg.AllowPrivateNetwork}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if set[name].main == "" {
			continue
		}
		w, err := a.worker(ctx, name, set)
		if err != nil {
			return nil, err
		}
		cfg.Workers = append(cfg.Workers, w)
	}
	if len(cfg.Workers) == 0 {
		return nil, nil
	}
	bin, err := a.s.bin()
	if err != nil {
		return nil, refuse(http.StatusServiceUnavailable, 10001, "the sandbox has no runtime: %v", err)
	}
	cfg.Binary = bin.Path
	return &cfg, nil
}

// oldestDate is what the API takes for an upload without a compatibility date.
const oldestDate = "2021-11-02"

// worker gives a version as the runtime takes it.
func (a *account) worker(ctx context.Context, name string, set map[string]*version) (workerd.Worker, error) {
	v := set[name]
	w := workerd.Worker{Name: name, Version: v.id, MainModule: v.main, CompatibilityDate: v.date, CompatibilityFlags: v.flags}
	if a.s.cfg.HideVersions {
		w.Version = ""
	}
	if w.CompatibilityDate == "" {
		w.CompatibilityDate = oldestDate
	}
	for _, m := range v.modules {
		w.Modules = append(w.Modules, workerd.Module{Name: m.name, Type: m.mime, Content: m.content})
	}
	if len(v.classes) > 0 {
		home, err := a.homeDir()
		if err != nil {
			return w, err
		}
		w.Storage = filepath.Join(home, "objects")
		for _, class := range slices.Sorted(maps.Keys(v.classes)) {
			w.Classes = append(w.Classes, workerd.Class{Name: class, Key: v.classes[class]})
		}
	}
	for _, b := range v.bindings {
		rb := workerd.Binding{Name: b.str("name")}
		switch b.str("type") {
		case "kv_namespace", "d1", "queue":
			if err := a.storeBinding(ctx, b, &rb); err != nil {
				return w, err
			}
		case "durable_object_namespace":
			owner := cmp.Or(b.str("script_name"), name)
			class := set[owner].class(b.str("namespace_id"))
			if class == "" {
				continue // it was deleted: the Worker finds no such binding
			}
			rb.Kind, rb.Worker, rb.Class = workerd.Objects, owner, class
		case "plain_text", "secret_text":
			rb.Kind, rb.Value = workerd.Text, b.str("text")
		case "json":
			rb.Kind, rb.Value = workerd.JSON, stringify(b["json"])
		case "version_metadata":
			rb.Kind, rb.Value = workerd.JSON, stringify(map[string]any{"id": v.id, "tag": v.tag(), "timestamp": stamp(v.createdAt)})
		case "service":
			a.serviceBinding(b, &rb, set[b.str("service")])
		case "assets":
			if v.assets == nil {
				return w, refuse(http.StatusBadRequest, 10021, "the binding %q is for assets, but the upload has none", rb.Name)
			}
			rb.Kind, rb.Socket = workerd.External, a.s.assetSocket
			rb.Headers = map[string]string{assetHeader: a.id + "/" + v.id}
		default:
			return w, fmt.Errorf("a binding of type %q got through", b.str("type"))
		}
		w.Bindings = append(w.Bindings, rb)
	}
	return w, nil
}

// serviceBinding leads a binding to another Worker; target is what serves of that, nil
// when it was deleted. What was deleted must not keep the account's others from running.
func (a *account) serviceBinding(b binding, rb *workerd.Binding, target *version) {
	switch {
	case target == nil:
		rb.Kind, rb.Handler = workerd.External, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	case target.main == "": // static files alone
		rb.Kind, rb.Socket = workerd.External, a.s.assetSocket
		rb.Headers = map[string]string{assetHeader: a.id + "/" + target.id}
	default:
		rb.Kind, rb.Worker, rb.Entrypoint = workerd.Service, b.str("service"), b.str("entrypoint")
		if rb.Entrypoint == "default" {
			rb.Entrypoint = ""
		}
		if b["props"] != nil {
			rb.Props = stringify(b["props"])
		}
	}
}

// storeBinding leads a binding to the account's stores.
func (a *account) storeBinding(ctx context.Context, b binding, rb *workerd.Binding) error {
	if b.str("type") == "queue" {
		rb.Kind, rb.Handler = workerd.Queue, a.producer(b.str("queue_name"))
		return nil
	}
	if _, err := a.storage(ctx); err != nil {
		return err
	}
	home := a.stores.where()
	if b.str("type") == "kv_namespace" {
		rb.Kind, rb.Socket, rb.Headers = workerd.KV, filepath.Join(home, "kv"), map[string]string{idHeader: b.str("namespace_id")}
	} else {
		rb.Kind, rb.Socket, rb.Headers = workerd.D1, filepath.Join(home, "d1"), map[string]string{idHeader: b.str("id")}
	}
	return nil
}

func (v *version) tag() string {
	t, _ := v.annotations["workers/tag"].(string)
	return t
}

// swap makes p the process that serves, and lets the one before finish its requests.
func (a *account) swap(p *workerd.Process, set map[string]*version) {
	a.mu.Lock()
	old := a.runtime.live
	a.runtime.live, a.runtime.serving = p, set
	a.mu.Unlock()
	a.discard(old)
	if p != nil && hasObjects(set) {
		a.s.serving.Go(func() { a.revive(p) })
	}
}

// revive starts what serves anew when its process ends on its own: an alarm of a
// Durable Object must fire without a request.
func (a *account) revive(p *workerd.Process) {
	const pause = time.Second // between a crash and the next start
	<-p.Done()
	a.mu.Lock()
	current, set := a.runtime.live == p, a.runtime.serving
	a.mu.Unlock()
	if !current || sleep(a.s.ctx, pause) != nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if set[name].main != "" {
			_, _, _ = a.process(a.s.ctx, name) // one starts all; else the next request does
			return
		}
	}
}

// promotePending is the edge's hearing of what was deployed a while ago.
func (a *account) promotePending() {
	a.mu.Lock()
	p, set := a.runtime.pending, a.runtime.pendingSet
	a.runtime.pending, a.runtime.pendingSet = nil, nil
	closed := a.runtime.closed
	a.mu.Unlock()
	switch {
	case set == nil:
	case closed:
		a.discard(p)
	case hasObjects(set):
		a.deploying.Lock()
		defer a.deploying.Unlock()
		if a.s.ctx.Err() == nil {
			_ = a.restart(a.s.ctx, set) // it started when it was tried
		}
	default:
		a.swap(p, set)
	}
}

// promoteDue is promotePending after the clock was advanced.
func (a *account) promoteDue() {
	a.mu.Lock()
	due := a.runtime.pendingSet != nil && !a.s.clock.Now().Before(a.runtime.pendingAt)
	if due {
		a.runtime.pendingWhen.Stop()
	}
	a.mu.Unlock()
	if due {
		a.promotePending()
	}
}

// dropPending gives up what the edge has not heard of yet: something newer comes.
func (a *account) dropPending() {
	a.mu.Lock()
	p, when := a.runtime.pending, a.runtime.pendingWhen
	a.runtime.pending, a.runtime.pendingSet, a.runtime.pendingWhen = nil, nil, nil
	a.mu.Unlock()
	if when != nil {
		when.Stop()
	}
	a.discard(p)
}

// discard ends a process when its requests are through, without being waited for.
func (a *account) discard(p *workerd.Process) {
	if p == nil {
		return
	}
	a.s.serving.Go(func() {
		ctx, stop := context.WithTimeout(a.s.ctx, drainTime)
		defer stop()
		p.Stop(ctx)
	})
}

// warm starts a version to see that it starts, and keeps the process for a while. The
// caller holds account.deploying.
func (a *account) warm(ctx context.Context, sc *script, v *version) error {
	set := a.program(sc.name, v)
	began := time.Now()
	if hasObjects(set) {
		err := a.try(ctx, sc, v, set)
		v.startupMS = max(1, int(time.Since(began).Milliseconds()))
		return err
	}
	if err := a.tryFlags(ctx, sc, v, set); err != nil {
		return err
	}
	p, err := a.start(ctx, set)
	if err != nil {
		return startRefusal(err, sc.name)
	}
	v.startupMS = max(1, int(time.Since(began).Milliseconds()))
	a.dropWarm()
	a.mu.Lock()
	a.runtime.warmed, a.runtime.warmedSet = p, set
	a.runtime.warmedWhen = time.AfterFunc(warmLife, a.dropWarm)
	a.mu.Unlock()
	return nil
}

// takeWarm gives the kept process if it runs exactly that set.
func (a *account) takeWarm(set map[string]*version) *workerd.Process {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.runtime.warmed
	if p == nil || p.Err() != nil || !maps.Equal(a.runtime.warmedSet, set) {
		return nil
	}
	a.runtime.warmedWhen.Stop()
	a.runtime.warmed, a.runtime.warmedSet = nil, nil
	return p
}

func (a *account) dropWarm() {
	a.mu.Lock()
	p, when := a.runtime.warmed, a.runtime.warmedWhen
	a.runtime.warmed, a.runtime.warmedSet, a.runtime.warmedWhen = nil, nil, nil
	a.mu.Unlock()
	if when != nil {
		when.Stop()
	}
	a.discard(p)
}

// dropFromRuntime restarts the account's process without what was deleted. The caller
// holds account.deploying.
func (a *account) dropFromRuntime() {
	a.dropPending()
	set := a.program("", nil)
	if hasObjects(set) || hasObjects(a.nowServing()) {
		if a.restart(a.s.ctx, set) != nil {
			a.swap(nil, map[string]*version{})
		}
		return
	}
	p, err := a.start(a.s.ctx, set)
	if err != nil {
		p, set = nil, map[string]*version{} // what is left can't run without what was deleted
	}
	a.swap(p, set)
}

// stopRuntime ends every process of the account. The caller holds account.deploying.
func (a *account) stopRuntime() {
	a.dropPending()
	a.dropWarm()
	a.mu.Lock()
	ports := []func(){}
	for _, sc := range a.scripts {
		if sc.closePort != nil && a.s.ctx.Err() != nil { // else the port stays, and answers 410
			ports = append(ports, sc.closePort)
		}
	}
	previews := a.runtime.previews
	a.runtime.previews = nil
	a.mu.Unlock()
	for _, p := range previews {
		a.discard(p)
	}
	for _, closePort := range ports {
		closePort()
	}
	a.swap(nil, nil)
}

// lock takes mu, or gives up with ctx: what holds it may be waiting for the caller's end.
func lock(ctx context.Context, mu *sync.Mutex) error {
	for !mu.TryLock() {
		if err := sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// process gives the running process, starting it again when it ended on its own, and
// the version of the Worker that serves.
func (a *account) process(ctx context.Context, name string) (*workerd.Process, *version, error) {
	a.mu.Lock()
	p, v, closed := a.runtime.live, a.runtime.serving[name], a.runtime.closed
	a.mu.Unlock()
	if v == nil || closed || v.main == "" || p != nil && p.Err() == nil {
		return p, v, nil
	}
	if err := lock(ctx, &a.deploying); err != nil {
		return nil, v, err
	}
	defer a.deploying.Unlock()
	a.mu.Lock()
	p, v = a.runtime.live, a.runtime.serving[name]
	set := a.runtime.serving
	a.mu.Unlock()
	if v == nil || p != nil && p.Err() == nil {
		return p, v, nil
	}
	p, err := a.start(ctx, set)
	if err != nil {
		return nil, v, err
	}
	a.swap(p, set)
	return p, v, nil
}

// preview gives a process that serves another version of a Worker.
func (a *account) preview(ctx context.Context, name string, v *version) (*workerd.Process, error) {
	a.deploying.Lock()
	defer a.deploying.Unlock()
	a.mu.Lock()
	p, closed := a.runtime.previews[v.id], a.runtime.closed
	a.mu.Unlock()
	if p != nil && p.Err() == nil || closed || v.main == "" {
		return p, nil
	}
	set := a.program(name, v)
	// Cloudflare makes no previews of Workers with Durable Objects, and a second process
	// must not open their files.
	maps.DeleteFunc(set, func(_ string, o *version) bool { return len(o.classes) > 0 })
	p, err := a.start(ctx, set)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.runtime.previews == nil {
		a.runtime.previews = map[string]*workerd.Process{}
	}
	for id, old := range a.runtime.previews {
		if len(a.runtime.previews) >= maxPreviews {
			delete(a.runtime.previews, id)
			a.discard(old)
		}
	}
	a.runtime.previews[v.id] = p
	return p, nil
}
