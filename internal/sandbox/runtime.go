package sandbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
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
	p := a.takeWarm(set)
	if p == nil {
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
	delay := time.Duration(a.s.propagation().VersionMS) * time.Millisecond
	if first || delay <= 0 {
		a.swap(p, set)
		return nil
	}
	a.mu.Lock()
	a.runtime.pending, a.runtime.pendingSet = p, set
	a.runtime.pendingWhen = time.AfterFunc(delay, a.promotePending)
	a.mu.Unlock()
	return nil
}

// startRefusal turns a start error into the API's.
func startRefusal(err error, script string) error {
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
	cfg := workerd.Config{Dir: privateDir(), OnTail: a.onTail, AllowPrivate: a.s.cfg.AllowPrivateNetwork}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if set[name].main == "" {
			continue
		}
		w, err := a.worker(name, set)
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
	return workerd.Start(ctx, cfg)
}

// oldestDate is what the API takes for an upload without a compatibility date.
const oldestDate = "2021-11-02"

// worker gives a version as the runtime takes it.
func (a *account) worker(name string, set map[string]*version) (workerd.Worker, error) {
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
	for _, b := range v.bindings {
		rb := workerd.Binding{Name: b.str("name")}
		switch b.str("type") {
		case "plain_text", "secret_text":
			rb.Kind, rb.Value = workerd.Text, b.str("text")
		case "json":
			rb.Kind, rb.Value = workerd.JSON, stringify(b["json"])
		case "version_metadata":
			rb.Kind, rb.Value = workerd.JSON, stringify(map[string]any{"id": v.id, "tag": v.tag(), "timestamp": stamp(v.createdAt)})
		case "service":
			target := set[b.str("service")]
			if target == nil || target.main == "" {
				return w, refuse(http.StatusBadRequest, 10143, "the service binding %q names the Worker %q, which is not on this account", rb.Name, b.str("service"))
			}
			rb.Kind, rb.Worker, rb.Entrypoint = workerd.Service, b.str("service"), b.str("entrypoint")
			if rb.Entrypoint == "default" {
				rb.Entrypoint = ""
			}
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
	default:
		a.swap(p, set)
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

// process gives the running process, starting it again when it ended on its own, and
// the version of the Worker that serves.
func (a *account) process(ctx context.Context, name string) (*workerd.Process, *version, error) {
	a.mu.Lock()
	p, v, closed := a.runtime.live, a.runtime.serving[name], a.runtime.closed
	a.mu.Unlock()
	if v == nil || closed || v.main == "" || p != nil && p.Err() == nil {
		return p, v, nil
	}
	a.deploying.Lock()
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
	p, err := a.start(ctx, a.program(name, v))
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
