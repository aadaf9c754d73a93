package main_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// ask sends a GET to the server and gives what it answered.
func (f *office) ask(t *testing.T, path, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(f.MCP, "/mcp")+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

// collector takes spans as an OTLP collector does.
type collector struct {
	mu           sync.Mutex
	bodies, keys string
}

func (c *collector) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bodies += string(raw)
	c.keys += r.Header.Get("X-Collector-Key")
}

// series is a line of /metrics; labels are words of ours, or the runtime's.
var (
	series  = regexp.MustCompile(`^[a-z_][a-zA-Z0-9_]*(\{[^}]*\})? \S+$`)
	label   = regexp.MustCompile(`(\w+)="([^"]*)"`)
	ownWord = regexp.MustCompile(`^[a-z0-9_.+/-]{0,40}$|^(go1\.\S+|\+Inf|[0-9.e+-]+)$`)
)

// TestSight: the real server tells those who run it how it is, and nothing that is
// somebody's: over the whole text of /metrics there is no secret, no name of a caller's
// and no label that is not one of ours. A call's span goes to the collector in the agent's
// own trace, with the operator's key, which is nowhere else.
func TestSight(t *testing.T) {
	w := newWorld(t)
	seen := &collector{}
	spans := httptest.NewServer(seen)
	defer spans.Close()
	const key, traceID = "k-very-secret-collector", "4bf92f3577b34da6a3ce929d0e0e4736"
	agentToken, operator := w.token("ana"), w.token("ops", "--scope", "operate")
	w.extra = []string{"HOURGLASS_OTLP_HEADERS=X-Collector-Key=" + key}
	f := w.serveHTTP("--accept-terms", "--otlp-endpoint", spans.URL)
	a := f.agent("http", agentToken)
	d := a.callMeta("deploy_temporary", map[string]any{"files": says("a body of ana's"), "run_id": "run-of-ana"},
		map[string]any{"traceparent": "00-" + traceID + "-00f067aa0ba902b7-01"})
	if d.IsError {
		t.Fatal(d.Text)
	}
	a.call("status", map[string]any{"session_id": "s_none"})
	a.call("deploy_temporary", map[string]any{"bundle_id": "b_none"})
	if code, text := f.ask(t, "/readyz", ""); code != 200 || !strings.Contains(text, `"api":"ok"`) || !strings.Contains(text, `"store":"ok"`) {
		t.Errorf("readyz: %d %s", code, text)
	}
	if code, _ := f.ask(t, "/healthz", ""); code != 200 {
		t.Errorf("healthz: %d", code)
	}
	if code, _ := f.ask(t, "/metrics", agentToken); code != 403 {
		t.Errorf("metrics for an agent: %d", code)
	}
	code, text := f.ask(t, "/metrics", operator)
	if code != 200 {
		t.Fatalf("metrics: %d %s", code, text)
	}
	for _, want := range []string{
		`hourglass_tool_calls_total{outcome="ok",tool="deploy_temporary"} 1`,
		`hourglass_tool_calls_total{outcome="session_not_found",tool="status"} 1`,
		"hourglass_live_sessions 1", "hourglass_accounts_last_hour 1", "hourglass_deployments_last_hour 1", "hourglass_accounts_created_total 1",
		`hourglass_api_circuit{state="closed"} 1`, `hourglass_api_circuit{state="open"} 0`,
		`hourglass_bundles{state="waiting"} 0`, "hourglass_api_calls_total ",
		`hourglass_stage_duration_seconds_count{stage="create_account"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s", want)
		}
	}
	secrets := []string{key, traceID, agentToken, operator, "ana", d.Live.SessionID, d.Live.BundleID, d.Live.DeploymentID, d.Live.URL, "127.0.0.1", "b_none"}
	for _, acct := range w.accounts() {
		secrets = append(secrets, acct.ID, acct.APIToken, acct.ClaimToken)
	}
	logged(t, f.stderr, traceID)
	said := f.stderr.String()
	for _, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("/metrics tells %s", s)
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			continue
		}
		if !series.MatchString(line) {
			t.Errorf("what is %q", line)
		}
		for _, m := range label.FindAllStringSubmatch(line, -1) {
			if !ownWord.MatchString(m[2]) {
				t.Errorf("a label that is no word of ours: %s", line)
			}
		}
	}
	if strings.Contains(said, key) {
		t.Error("the collector's key is in the log")
	}
	if err := f.stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if !strings.Contains(seen.bodies, "tools/call deploy_temporary") || !strings.Contains(seen.bodies, "create_account") || !strings.Contains(seen.keys, key) {
		t.Error("the spans did not reach the collector with its key")
	}
	for _, s := range []string{agentToken, "a body of ana's", d.Live.SessionID} {
		if strings.Contains(seen.bodies, s) {
			t.Errorf("the spans tell %s", s)
		}
	}
}

// TestSandboxProcesses: a server with its own sandbox tells how many runtimes it has.
func TestSandboxProcesses(t *testing.T) {
	w := newWorld(t)
	f := w.serveHTTP("--accept-terms", "--platform", "sandbox", "--api-base-url", "")
	const series = "hourglass_sandbox_processes"
	if _, text := f.ask(t, "/metrics", ""); !strings.Contains(text, "\n"+series+" 0\n") {
		t.Errorf("before there is a Worker: %s", text)
	}
	f.agent("http", "").deploy(map[string]any{"files": says("in a sandbox of its own")})
	if _, text := f.ask(t, "/metrics", ""); !strings.Contains(text, "\n"+series+" 1\n") {
		t.Errorf("with one Worker: %s", text)
	}
}

// TestStdioTrace: a call on stdio is in the agent's own trace without a collector, and a
// wrong address of one is refused at the start.
func TestStdioTrace(t *testing.T) {
	w := newWorld(t)
	a := w.agent(w.serverArgs())
	a.callMeta("status", map[string]any{}, map[string]any{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
	logged(t, a.stderr, "4bf92f3577b34da6a3ce929d0e0e4736")
	if _, errs, code := w.run(w.home, w.serverArgs("--otlp-endpoint", "collector:4318")...); code != 2 || !strings.Contains(errs, "http://127.0.0.1:4318") {
		t.Errorf("%d %s", code, errs)
	}
}
