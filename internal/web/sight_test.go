package web_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// TestSightPaths: who runs the server sees how it is, under whatever name an orchestrator
// knows, and nobody else learns more than that.
func TestSightPaths(t *testing.T) {
	var down atomic.Bool
	var asked atomic.Int64
	var clock atomic.Int64
	change := func(c *web.EndpointConfig) {
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("counted 1\n")) })
		c.Now = func() time.Time { return time.Unix(1_800_000_000+clock.Load(), 0) }
		c.Checks = []web.Check{{Name: "store", Every: 10 * time.Second, Probe: func(context.Context) error {
			asked.Add(1)
			if down.Load() {
				return deploy.Errorf(deploy.CodeStore, "Wait.", "the host secret-db is away")
			}
			return nil
		}}}
	}
	d := withTokens(t, change)
	agent, operator := d.token(t, "agent"), d.token(t, "operator", deploy.ScopeOperate)
	for _, c := range []struct {
		path, token string
		status      int
		want        string
	}{
		{"/healthz", "", 200, "ok\n"},
		{"/readyz", "", 200, `{"ready":true,"checks":{"store":"ok"}}`},
		{"/metrics", "", 401, "no token was sent"},
		{"/metrics", agent, 403, "scope operate"},
		{"/metrics", operator, 200, "counted 1\n"},
		{"/healthz/", "", 403, "Host"},
		{"/mcp", operator, 403, "Host"},
	} {
		headers := []string{"Host", "10.1.2.3:8900"}
		if c.token != "" {
			headers = append(headers, "Authorization", "Bearer "+c.token)
		}
		if got := d.send(t, http.MethodGet, c.path, "", headers...); got.status != c.status || !strings.Contains(got.body, c.want) {
			t.Errorf("%s: %d %s, want %d %s", c.path, got.status, got.body, c.status, c.want)
		}
	}
	down.Store(true)
	if got := d.send(t, http.MethodGet, "/readyz", ""); got.status != 200 || asked.Load() != 1 {
		t.Errorf("an answer does not hold: %d, asked %d times", got.status, asked.Load())
	}
	clock.Add(11)
	got := d.send(t, http.MethodGet, "/readyz", "")
	if got.status != 503 || !strings.Contains(got.body, `{"ready":false,"checks":{"store":"failing"}}`) || strings.Contains(got.body, "secret-db") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if !strings.Contains(d.log.String(), "secret-db") {
		t.Error("the cause is not in the log")
	}
}

// TestMetricsWithoutTokens: where nobody is asked, this machine sees the metrics, under its
// own name, and a page of another site does not.
func TestMetricsWithoutTokens(t *testing.T) {
	d := newDesk(t, func(c *web.EndpointConfig) {
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("counted 1\n")) })
	})
	for _, c := range []struct {
		headers []string
		status  int
	}{{nil, 200}, {[]string{"Host", "evil.example"}, 403}, {[]string{"Origin", "https://evil.example"}, 403}} {
		if got := d.send(t, http.MethodGet, "/metrics", "", c.headers...); got.status != c.status {
			t.Errorf("%q: %d %s", c.headers, got.status, got.body)
		}
	}
}

// TestRate: requests beyond a rate are refused below the protocol, each principal's
// by its own, and what is over a while ago counts no more.
func TestRate(t *testing.T) {
	var clock atomic.Int64
	d := withTokens(t, func(c *web.EndpointConfig) {
		c.Limits.RateEach, c.Limits.Rate = 2, 3
		c.Now = func() time.Time { return time.Unix(1_800_000_000, clock.Load()) }
	})
	greedy, modest := d.token(t, "greedy"), d.token(t, "modest")
	ask := func(token string) answer {
		return d.send(t, http.MethodPost, "/mcp", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`,
			"Authorization", "Bearer "+token, "Content-Type", "application/json", "Accept", "application/json, text/event-stream")
	}
	for i := range 10 { // a burst of two seconds' worth, then no more
		got := ask(greedy)
		if want := map[bool]int{true: 200, false: 429}[i < 4]; got.status != want || want == 429 && got.header.Get("Retry-After") != "1" {
			t.Errorf("%d: %d %q %s", i, got.status, got.header.Get("Retry-After"), got.body)
		}
	}
	if got := ask(modest); got.status != 200 {
		t.Errorf("another pays for it: %d %s", got.status, got.body)
	}
	if ask(modest); ask(modest).status != 429 {
		t.Error("all together may do more than they may")
	}
	clock.Add(int64(500 * time.Millisecond))
	if got := ask(greedy); got.status != 200 {
		t.Errorf("after a while: %d %s", got.status, got.body)
	}
}
