package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/rs/zerolog"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
	"github.com/hourglass-mcp/hourglass/internal/tools"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// The load of a team: protocol sessions that come and are never ended, and agents that poll.
const (
	lifecycles  = 30_000
	polled      = 1_000
	pollers     = 32
	pollFor     = 10 * time.Second
	idleTTL     = 5 * time.Second // of a protocol session, so that its end is seen here
	mostLeftMiB = 10.0
)

// served is an MCP server over HTTP, in this process, where its heap can be measured.
type served struct {
	url   string
	close func() error
}

// httpLoad measures our server over HTTP beside a bare one of mcp-go's under the same load.
// Who makes the load shares the cores.
func httpLoad(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "hourglass-bench-http-")
	if err != nil {
		return fmt.Errorf("a folder: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	ours, ids, err := serveOurs(ctx, dir)
	if err != nil {
		return err
	}
	theirs := serveBare()
	fmt.Printf("cores: %d; the load is made by the same process\n", runtime.NumCPU())
	rates := map[string]float64{}
	for _, side := range []struct {
		name string
		*served
	}{{"bare mcp-go", theirs}, {"hourglass", ours}} {
		r, err := poll(ctx, side.url, ids)
		if err != nil {
			return errors.Join(err, ours.close(), theirs.close())
		}
		rates[side.name] = r.rate
		fmt.Printf("%-12s %d sessions polled with status: %.0f calls/s, p50 %.1f ms, p99 %.1f ms, %.1f KiB a session\n", side.name, len(ids), r.rate, r.p50, r.p99, r.kib)
	}
	fmt.Printf("ratio: the bare server makes %.1f times as many calls (wanted: at most 2)\n", rates["bare mcp-go"]/rates["hourglass"])
	return errors.Join(lives(ctx, ours.url), ours.close(), theirs.close())
}

// serveOurs is all of our server but its command, with stored sessions whose accounts are
// over: status reads them and asks nobody.
func serveOurs(ctx context.Context, dir string) (*served, []string, error) {
	store, err := session.Open(ctx, session.Config{Dir: dir})
	if err != nil {
		return nil, nil, err
	}
	bundler, err := bundle.New(bundle.Config{CacheDir: filepath.Join(dir, "npm")})
	if err != nil {
		return nil, nil, err
	}
	cloud, err := cloudflare.New(cloudflare.Config{BaseURL: "http://127.0.0.1:1/client/v4"}) // nothing is there: it must not be asked
	if err != nil {
		return nil, nil, err
	}
	edge, err := cloudflare.NewEdge(cloudflare.EdgeConfig{})
	if err != nil {
		return nil, nil, err
	}
	service, err := deploy.New(deploy.Config{Bundler: bundler, Cloud: cloud, Edge: edge, Store: store})
	if err != nil {
		return nil, nil, err
	}
	var ids []string
	for i := range polled {
		ended := time.Now().Add(-time.Hour)
		s := deploy.Session{ID: deploy.NewID("s"), Principal: "local", Scope: "http", RunID: fmt.Sprint("run-", i), CreatedAt: ended, UpdatedAt: ended}
		a := deploy.Account{ID: deploy.NewID("a"), SessionID: s.ID, Target: cloud.Target(), Name: "bench", State: deploy.AccountExpired, CreatedAt: ended.Add(-time.Hour), ExpiresAt: ended}
		d := deploy.Deployment{ID: deploy.NewID("d"), SessionID: s.ID, AccountID: a.ID, Worker: "w", CreatedAt: ended.Add(-time.Hour)}
		if err := errors.Join(store.SaveSession(ctx, s), store.SaveAccount(ctx, a), store.SaveDeployment(ctx, d)); err != nil {
			return nil, nil, err
		}
		ids = append(ids, s.ID)
	}
	srv, err := tools.New(tools.Config{Service: service, Caller: web.CallerFrom, Logger: zerolog.Nop(), Version: "bench"})
	if err != nil {
		return nil, nil, err
	}
	end, err := web.NewEndpoint(web.EndpointConfig{MCP: srv, Addr: "127.0.0.1:0", SessionIdleTTL: idleTTL, Logger: zerolog.Nop()})
	if err != nil {
		return nil, nil, err
	}
	if err := end.Listen(ctx); err != nil {
		return nil, nil, err
	}
	serving, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- end.Serve(serving) }()
	return &served{url: end.URL(web.PathMCP), close: func() error {
		stop()
		return errors.Join(<-done, edge.Close(), cloud.Close(), store.Close())
	}}, ids, nil
}

// serveBare is mcp-go's server with a tool that answers at once.
func serveBare() *served {
	srv := server.NewMCPServer("bare", "1", server.WithToolCapabilities(false))
	srv.AddTool(mcp.NewTool("status", mcp.WithString("session_id")), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText(`{"sessions":[]}`), nil
	})
	stream := server.NewStreamableHTTPServer(srv, server.WithSessionIdleTTL(idleTTL), server.WithStreamableHTTPLogger(slog.New(slog.DiscardHandler)))
	mux := http.NewServeMux()
	mux.Handle("/mcp", stream)
	front := httptest.NewServer(mux)
	return &served{url: front.URL + "/mcp", close: func() error {
		front.Close()
		return stream.Shutdown(context.Background())
	}}
}

// errAnswer is a measurement that measured something else.
var errAnswer = errors.New("an answer that is none")

func send(ctx context.Context, c *http.Client, url, session, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return "", fmt.Errorf("a request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
	}
	res, err := c.Do(req)
	if err != nil {
		return "", fmt.Errorf("a request: %w", err)
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	raw, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 || bytes.Contains(raw, []byte(`"error":{"code"`)) || bytes.Contains(raw, []byte(`"isError":true`)) {
		return "", fmt.Errorf("%w: HTTP %d %.300s (%w)", errAnswer, res.StatusCode, raw, err)
	}
	return res.Header.Get("Mcp-Session-Id"), nil
}

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`

func statusOf(id string) string {
	return `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"status","arguments":{"session_id":"` + id + `"}}}`
}

func newPool() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: pollers, MaxConnsPerHost: pollers}}
}

// heapMiB is what is in use after a collection, twice as finalizers need one more.
func heapMiB() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// load does n things, so many at once, and gives the first error.
func load(n int64, do func(i int64) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, pollers)
	for range pollers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
				if err := do(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

type polling struct{ rate, p50, p99, kib float64 }

// poll has a thousand agents ask for their sessions again and again.
func poll(ctx context.Context, url string, ids []string) (polling, error) {
	c := newPool()
	defer c.CloseIdleConnections()
	for range pollers { // connections, and what is made once, before the heap is measured
		s, err := send(ctx, c, url, "", initialize)
		if err == nil {
			_, err = send(ctx, c, url, s, statusOf(ids[0]))
		}
		if err != nil {
			return polling{}, err
		}
	}
	before := heapMiB()
	sessions := make([]string, len(ids))
	if err := load(int64(len(ids)), func(i int64) (err error) {
		sessions[i], err = send(ctx, c, url, "", initialize)
		if err == nil {
			_, err = send(ctx, c, url, sessions[i], statusOf(ids[i]))
		}
		return err
	}); err != nil {
		return polling{}, err
	}
	out := polling{kib: (heapMiB() - before) * 1024 / float64(len(ids))}
	var mu sync.Mutex
	var took []float64
	began := time.Now()
	err := load(1<<40, func(i int64) error {
		if time.Since(began) > pollFor {
			return io.EOF
		}
		k := int(i % int64(len(ids)))
		at := time.Now()
		if _, err := send(ctx, c, url, sessions[k], statusOf(ids[k])); err != nil {
			return err
		}
		ms := float64(time.Since(at).Microseconds()) / 1000
		mu.Lock()
		took = append(took, ms)
		mu.Unlock()
		return nil
	})
	if !errors.Is(err, io.EOF) || len(took) == 0 {
		return polling{}, errors.Join(errAnswer, err)
	}
	slices.Sort(took)
	out.rate = float64(len(took)) / time.Since(began).Seconds()
	out.p50, out.p99 = took[len(took)/2], took[len(took)*99/100]
	return out, nil
}

// lives has protocol sessions come and never be ended, as clients do, and waits until
// the server has dropped them.
func lives(ctx context.Context, url string) error {
	c := newPool()
	defer c.CloseIdleConnections()
	before := heapMiB()
	one := func(int64) error {
		s, err := send(ctx, c, url, "", initialize)
		if err == nil {
			_, err = send(ctx, c, url, s, `{"jsonrpc":"2.0","id":3,"method":"tools/list"}`)
		}
		return err
	}
	began := time.Now()
	if err := load(lifecycles, one); err != nil {
		return err
	}
	took, peak := time.Since(began), heapMiB()
	left := peak - before
	for deadline := time.Now().Add(6 * idleTTL); left > mostLeftMiB && time.Now().Before(deadline); left = heapMiB() - before {
		if _, err := send(ctx, c, url, "", initialize); err != nil {
			return err
		}
		time.Sleep(time.Second)
	}
	fmt.Printf("%d protocol session lifecycles in %.1f s: heap %.1f MiB before, %.1f after, %+.1f when idle ones were dropped (wanted: within %.0f)\n",
		lifecycles, took.Seconds(), before, peak, left, mostLeftMiB)
	if left > mostLeftMiB {
		return fmt.Errorf("%w: %.1f MiB of heap are left behind", errAnswer, left)
	}
	return nil
}
