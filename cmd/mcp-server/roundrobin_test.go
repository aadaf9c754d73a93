//go:build unix

package main_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// roundRobin is a load balancer: each request goes to the next replica that is up, and one
// that a replica did not answer is answered 502.
type roundRobin struct {
	next    atomic.Int64
	proxies []*httputil.ReverseProxy
	down    []atomic.Bool
	served  []atomic.Int64
}

func newRoundRobin(t *testing.T, replicas ...*office) *roundRobin {
	t.Helper()
	r := &roundRobin{down: make([]atomic.Bool, len(replicas)), served: make([]atomic.Int64, len(replicas))}
	for i, f := range replicas {
		u, err := url.Parse(strings.TrimSuffix(f.MCP, "/mcp"))
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		r.proxies = append(r.proxies, &httputil.ReverseProxy{
			Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(u) }, // with the replica's own Host
			Transport: transport,
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
				r.down[i].Store(true)
				w.WriteHeader(http.StatusBadGateway)
			},
		})
	}
	return r
}

func (r *roundRobin) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	for range r.proxies {
		i := int(r.next.Add(1)) % len(r.proxies)
		if !r.down[i].Load() {
			r.served[i].Add(1)
			r.proxies[i].ServeHTTP(w, req)
			return
		}
	}
	w.WriteHeader(http.StatusBadGateway)
}

// teamAgent is one agent of the team behind the load balancer.
type teamAgent struct {
	f       *office // its MCP is the load balancer's
	n       int
	modern  bool
	session string
	hops    int // how often an older client had to initialize
}

func (a *teamAgent) initialize(ctx context.Context) {
	a.hops++
	_, a.session = a.f.post(ctx, false, "", "initialize", map[string]any{
		"protocolVersion": "2025-11-25", "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "team", "version": "1"},
	})
}

// text is what a tool said, out of an answer that is JSON or an event stream; "" when
// there was none.
func toolText(body string) (text string, failed bool) {
	for line := range strings.Lines(body) {
		var msg struct {
			Result struct {
				IsError bool `json:"isError"`
				Content []struct{ Text string }
			}
		}
		line = strings.TrimPrefix(strings.TrimSpace(line), "data:")
		if json.Unmarshal([]byte(line), &msg) == nil && len(msg.Result.Content) > 0 {
			return msg.Result.Content[0].Text, msg.Result.IsError
		}
	}
	return "", false
}

// deploy repeats its call under its key until it is live: at a replica that does not
// know its protocol session it initializes, as clients do; where its account was lost
// with a replica it asks for another.
func (a *teamAgent) deploy(ctx context.Context) (live, error) {
	args := map[string]any{"files": says(fmt.Sprintf("agent %d", a.n)), "name": "w", "run_id": fmt.Sprintf("run-%d", a.n)}
	meta := map[string]any{"idempotencyKey": fmt.Sprintf("team-%d", a.n)}
	last := ""
	for range 60 {
		if !a.modern && a.session == "" {
			a.initialize(ctx)
		}
		body, _ := a.f.post(ctx, a.modern, a.session, "tools/call", map[string]any{"name": "deploy_temporary", "arguments": args, "_meta": meta})
		text, failed := toolText(body)
		last = text + body[:min(len(body), 300)]
		var got live
		switch {
		case ctx.Err() != nil:
			return live{}, fmt.Errorf("agent %d: %w; the last it heard: %s", a.n, ctx.Err(), last)
		case text == "":
			a.session = "" // another replica's, or one that is gone
		case !failed:
			return got, json.Unmarshal([]byte(text), &got)
		case strings.Contains(text, "account_lost"):
			args["fresh"], args["session_id"] = true, sessionID.FindString(text)
			meta = map[string]any{}
		case strings.Contains(text, `"busy"`):
		default:
			return live{}, fmt.Errorf("agent %d: %s", a.n, text)
		}
	}
	return live{}, fmt.Errorf("agent %d got nowhere; the last it heard: %s", a.n, last)
}

// TestTeamBehindALoadBalancer: two replicas on one PostgreSQL behind a proxy that takes
// them in turn; agents of both eras deploy, nothing sticks to a replica, one is killed in
// the middle: all end live, and the sandbox has the accounts that the store knows, and no
// more than the lost ones beside them.
func TestTeamBehindALoadBalancer(t *testing.T) {
	agents, atOnce := 16, 8
	if peertest.Full() {
		agents, atOnce = 200, 12
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	auditKey, _, err := note.GenerateKey(rand.Reader, "hourglass-audit/team")
	if err != nil {
		t.Fatal(err)
	}
	store := peertest.Postgres(t)
	w := newWorld(t)
	w.extra = []string{"HOURGLASS_KEY=" + base64.StdEncoding.EncodeToString(key), "HOURGLASS_AUDIT_KEY=" + auditKey}
	replica := func() *office { return w.serveHTTP("--accept-terms", "--store", store, "--state-dir", t.TempDir()) }
	first, second := replica(), replica()
	balancer := newRoundRobin(t, first, second)
	front := httptest.NewServer(balancer)
	defer front.Close()
	team := &office{w: w, MCP: front.URL + "/mcp"}

	var wg sync.WaitGroup
	var ended, hops atomic.Int64
	var kill sync.Once
	turns := make(chan struct{}, atOnce)
	got := make([]live, agents)
	for i := range agents {
		turns <- struct{}{}
		if int(ended.Load()) >= agents/3 {
			kill.Do(func() {
				_ = first.cmd.Process.Kill()
				t.Logf("killed one after %d of %d", ended.Load(), agents)
			})
		}
		wg.Go(func() {
			defer func() { <-turns }()
			ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
			defer stop()
			a := &teamAgent{f: team, n: i, modern: i%2 == 0}
			var err error
			if got[i], err = a.deploy(ctx); err != nil {
				t.Error(err)
			}
			hops.Add(int64(a.hops))
			ended.Add(1)
		})
	}
	wg.Wait()
	for i, g := range got {
		if want := fmt.Sprintf("agent %d", i); g.Serving != "yes" || g.Check.BodyExcerpt != want {
			t.Errorf("%s: %+v", want, g)
		}
	}
	if balancer.served[0].Load() == 0 || balancer.served[1].Load() == 0 {
		t.Error("a replica served nothing")
	}
	t.Logf("requests by replica: %d, %d; %d initializations of %d older clients", balancer.served[0].Load(), balancer.served[1].Load(), hops.Load(), agents/2)
	(&crashWorld{world: w}).agrees(t, store, key)
}
