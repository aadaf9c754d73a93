package sandbox

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

//go:embed stores/kv.js
var kvFront []byte

//go:embed stores/d1.js
var d1Front []byte

//go:embed stores/cron.js
var cronFront []byte

// idHeader names a namespace, database or queue to the store that holds it. Bindings
// inject it, over whatever a Worker may have set.
const idHeader = "X-Hourglass-Id"

// maxD1Bytes is how large a database of a temporary account may grow (wrangler-wire
// fact sheet, section 21).
const maxD1Bytes = 100_000_000

// stores are what keeps the data of an account: the runtime's own KV and D1, in a
// process apart from the user's code, which may spin or be replaced. It starts when
// the first resource is made, and lives as long as the account.
type stores struct {
	mu     sync.Mutex
	home   string // a private folder with the data and the sockets
	remove func()
	base   *workerd.Process
	closed bool
}

// homeDir gives the account's private folder, made on first use.
func (a *account) homeDir() (string, error) {
	a.stores.mu.Lock()
	defer a.stores.mu.Unlock()
	return a.homeLocked()
}

func (a *account) homeLocked() (string, error) {
	st := &a.stores
	if st.closed {
		return "", errAuth(http.StatusUnauthorized)
	}
	if st.home != "" {
		return st.home, nil
	}
	dir, remove, err := workerd.NewDir(a.s.root)
	if err != nil {
		return "", err
	}
	for _, sub := range []string{"objects", "stores", "blobs", "queues"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			remove()
			return "", fmt.Errorf("the account's folder: %w", err)
		}
	}
	st.home, st.remove = dir, remove
	return dir, nil
}

// where is the account's folder, if there is one.
func (st *stores) where() string {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.home
}

// storeDate is the compatibility date of our own Workers in the stores' processes.
const storeDate = "2026-11-01"

func ours(name, bundled string, front []byte, bindings ...workerd.Binding) workerd.Worker {
	return workerd.Worker{
		Name: name, MainModule: "main.js", CompatibilityDate: storeDate, Bindings: bindings,
		Modules: []workerd.Module{
			{Name: "main.js", Type: "application/javascript+module", Content: front},
			{Name: "bundled.js", Bundled: bundled},
		},
	}
}

// storage gives the process that keeps KV and D1, starting it when it does not run.
func (a *account) storage(ctx context.Context) (*workerd.Process, error) {
	st := &a.stores
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.base != nil && st.base.Err() == nil {
		return st.base, nil
	}
	home, err := a.homeLocked()
	if err != nil {
		return nil, err
	}
	if st.base != nil {
		st.base.Stop(ctx)
		st.base = nil
	}
	kv := ours("kv", "/workerd/kv.js", kvFront,
		workerd.Binding{Name: "SHARD", Kind: workerd.Objects, Class: "KVNamespace"},
		workerd.Binding{Name: "BLOBS", Kind: workerd.Disk, Path: filepath.Join(home, "blobs")},
		workerd.Binding{Name: "TEST_CLOCK", Kind: workerd.JSON, Value: "true"})
	kv.Classes, kv.Storage = []workerd.Class{{Name: "KVNamespace", Key: "kv"}}, filepath.Join(home, "stores")
	d1 := ours("d1", "/workerd/d1.js", d1Front,
		workerd.Binding{Name: "DATABASE", Kind: workerd.Objects, Class: "D1Database"},
		workerd.Binding{Name: "LIMIT", Kind: workerd.JSON, Value: strconv.Itoa(maxD1Bytes)})
	d1.Classes, d1.Storage = []workerd.Class{{Name: "D1Database", Key: "d1"}}, filepath.Join(home, "stores")
	cron := ours("cron", "/workerd/cron.js", cronFront)
	kv.Socket, d1.Socket = filepath.Join(home, "kv"), filepath.Join(home, "d1")
	for _, path := range []string{kv.Socket, d1.Socket} {
		_ = os.Remove(path) // of a process that died
	}
	p, err := a.startOurs(ctx, kv, d1, cron)
	if err != nil {
		return nil, err
	}
	if skew := a.s.clock.offset.Load(); skew > 0 {
		if err := advanceStore(ctx, p, "kv", time.Duration(skew)); err != nil {
			p.Stop(ctx)
			return nil, err
		}
	}
	st.base = p
	a.s.serving.Go(func() { // bindings lead straight to its sockets: it must come back by itself
		<-p.Done()
		if a.s.ctx.Err() == nil {
			_, _ = a.storage(a.s.ctx) // or with the next use
		}
	})
	return p, nil
}

// startOurs starts a process with Workers of our own: without network.
func (a *account) startOurs(ctx context.Context, workers ...workerd.Worker) (*workerd.Process, error) {
	bin, err := a.s.bin()
	if err != nil {
		return nil, refuse(http.StatusServiceUnavailable, 10001, "the sandbox has no runtime: %v", err)
	}
	return workerd.Start(ctx, workerd.Config{Binary: bin.Path, Dir: a.s.root, Workers: workers, NoNetwork: true, Experimental: true})
}

// closeStores ends the stores' processes and removes all data.
func (a *account) closeStores() {
	a.queues.close()
	st := &a.stores
	st.mu.Lock()
	st.closed = true
	base, remove := st.base, st.remove
	st.base, st.remove = nil, nil
	st.mu.Unlock()
	if base != nil {
		base.Stop(context.WithoutCancel(a.s.ctx))
	}
	if remove != nil {
		remove()
	}
}

// stored is a store's answer.
type stored struct {
	status int
	reason string // the text of its status line
	header http.Header
	body   []byte
}

const maxStored = 128 << 20

// roundTrip asks a Worker of ours.
func roundTrip(ctx context.Context, p *workerd.Process, worker, id, method, target string, header http.Header, body []byte) (*stored, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://store"+target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("asking a store: %w", err)
	}
	maps.Copy(req.Header, header)
	req.Header.Set(idHeader, id)
	resp, err := p.Transport(worker).RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("asking a store: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxStored))
	if err != nil {
		return nil, fmt.Errorf("reading a store's answer: %w", err)
	}
	reason := resp.Status
	if len(reason) > 4 {
		reason = reason[4:]
	}
	return &stored{resp.StatusCode, reason, resp.Header, raw}, nil
}

// ask asks the KV or D1 of the account.
func (a *account) ask(ctx context.Context, worker, id, method, target string, header http.Header, body []byte) (*stored, error) {
	p, err := a.storage(ctx)
	if err != nil {
		return nil, err
	}
	return roundTrip(ctx, p, worker, id, method, target, header, body)
}

func advanceStore(ctx context.Context, p *workerd.Process, worker string, by time.Duration) error {
	_, err := roundTrip(ctx, p, worker, "clock", http.MethodPost, "/clock?advance="+strconv.FormatInt(by.Milliseconds(), 10), nil, nil)
	return err
}

// advance moves the clocks of the account's stores with the sandbox's.
func (a *account) advance(ctx context.Context, by time.Duration) {
	a.stores.mu.Lock()
	if p := a.stores.base; p != nil && p.Err() == nil {
		_ = advanceStore(ctx, p, "kv", by) // a store that died starts with the right time
	}
	a.stores.mu.Unlock()
	a.queues.advance(ctx, by)
}
