package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// office is the real program serving HTTP.
type office struct {
	w            *world
	MCP, SSE     string
	consoleURL   string
	cmd          *exec.Cmd
	out          *bufio.Reader
	rest, stderr *lockedBuffer
	ended        chan error
}

// serveHTTP starts the program on a free port against the world's sandbox.
func (w *world) serveHTTP(args ...string) *office {
	w.t.Helper()
	return w.serveBy(program, args...)
}

// serveBy is serveHTTP by another build of the program.
func (w *world) serveBy(program string, args ...string) *office {
	w.t.Helper()
	// A label of the operator's: over HTTP the built-in policy wants every deployment to name its job.
	all := append([]string{"http", "--addr", "127.0.0.1:0", "--label", "job_id=e2e"}, w.serverArgs(args...)[1:]...)
	f := &office{w: w, cmd: exec.Command(program, all...), stderr: &lockedBuffer{}, rest: &lockedBuffer{}, ended: make(chan error, 1)} //nolint:gosec // our own program
	f.cmd.Env, f.cmd.Dir, f.cmd.Stderr = w.cleanEnv(w.extra...), w.home, f.stderr
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := f.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { f.stop() })
	f.out = bufio.NewReader(out)
	line, err := f.out.ReadBytes('\n')
	if err != nil {
		w.t.Fatalf("http: %v\n%s", err, f.stderr.String())
	}
	var first struct{ MCP, SSE, Console string }
	if err := json.Unmarshal(line, &first); err != nil || first.MCP == "" || first.SSE == "" || !strings.HasPrefix(first.Console, "http://localhost:") {
		w.t.Fatalf("the first line %q: %v", line, err)
	}
	f.MCP, f.SSE, f.consoleURL = first.MCP, first.SSE, first.Console
	go func() {
		_, _ = io.Copy(f.rest, f.out)
		f.ended <- f.cmd.Wait()
	}()
	return f
}

// stop tells the program to stop and gives how it ended; a second time it gives nil.
func (f *office) stop() error {
	_ = f.cmd.Process.Signal(syscall.SIGTERM)
	err, open := <-f.ended
	if open {
		close(f.ended)
	}
	return err
}

// token makes a token by the command.
func (w *world) token(name string, args ...string) string {
	w.t.Helper()
	out, errs, code := w.run(w.home, append([]string{"tokens", "add", name, "--state-dir", filepath.Join(w.home, "state")}, args...)...)
	if code != 0 {
		w.t.Fatalf("tokens add: %d %s", code, errs)
	}
	return strings.TrimSpace(out)
}

// tokensFile is where the tokens are; it is made if it is not there.
func (w *world) tokensFile() string {
	w.t.Helper()
	w.token("first")
	return filepath.Join(w.home, "state", "tokens.json")
}

// agent is mcp-go's client on one of the transports.
func (f *office) agent(kind, token string) *agent {
	f.w.t.Helper()
	a := &agent{t: f.w.t, stderr: f.stderr, said: &lockedBuffer{}}
	headers := map[string]string{}
	if token != "" {
		headers["Authorization"] = "Bearer " + token
	}
	var err error
	if kind == "sse" {
		a.client, err = client.NewSSEMCPClient(f.SSE, transport.WithHeaders(headers))
	} else {
		a.client, err = client.NewStreamableHttpClient(f.MCP, transport.WithHTTPHeaders(headers))
	}
	if err != nil {
		f.w.t.Fatal(err)
	}
	if err := a.client.Start(context.Background()); err != nil {
		f.w.t.Fatalf("%v\n%s", err, f.stderr.String())
	}
	f.w.t.Cleanup(func() { _ = a.client.Close() })
	init := mcp.InitializeRequest{}
	init.Params.ProtocolVersion = "2025-11-25"
	init.Params.ClientInfo = mcp.Implementation{Name: "e2e-" + kind, Version: "1"}
	if _, err := a.client.Initialize(f.w.t.Context(), init); err != nil {
		f.w.t.Fatalf("initialize: %v\n%s", err, f.stderr.String())
	}
	return a
}

// TestHTTPConformance: the official suite against the real server. What needs none of the
// suite's own tools passes, every check of it.
func TestHTTPConformance(t *testing.T) {
	p := peertest.Get(t)
	f := newWorld(t).serveHTTP("--accept-terms")
	checks, out := p.Conformance(t, f.MCP)
	must := []string{
		"server-initialize", "server-session-lifecycle", "ping", "logging-set-level", "completion-complete", "tools-list", "resources-list",
		"resources-subscribe", "resources-unsubscribe", "sep-2164-resource-not-found", "prompts-list", "dns-rebinding-protection", "caching",
		"http-header-validation", "server-sse-multiple-streams", "input-required-result-missing-input-response",
		"input-required-result-unsupported-methods", "input-required-result-ignore-extra-params", "input-required-result-validate-input",
	}
	passed := map[string]int{}
	stateless := 0
	for _, c := range checks {
		if c.Scenario == "server-stateless" {
			if c.Status == "SUCCESS" {
				stateless++
			} else {
				t.Logf("%s %s: %s %s", c.Scenario, c.ID, c.Status, c.Error)
			}
		}
		if !slices.Contains(must, c.Scenario) {
			continue
		}
		switch c.Status {
		case "FAILURE":
			t.Errorf("%s %s: %s", c.Scenario, c.ID, c.Error)
		case "SUCCESS":
			passed[c.Scenario]++
		}
	}
	for _, s := range must {
		if passed[s] == 0 {
			t.Errorf("%s passed no check\n%s", s, out)
		}
	}
	if stateless < 24 { // the other four need the suite's own tools
		t.Errorf("server-stateless: %d checks passed, want 24", stateless)
	}
}

// step is one call of a real client, and what comes of it.
type step struct {
	tool    string
	args    map[string]any
	isError bool
	want    string
}

// steps are successes and failures that every client goes through.
func steps(text string) []step {
	return []step{
		{"bundle", map[string]any{"files": says(text)}, false, "bundle_id"},
		{"bundle", map[string]any{}, true, "no_source"},
		{"deploy_temporary", map[string]any{"files": says(text), "run_id": text}, false, text},
		{"deploy_temporary", map[string]any{"files": says(text), "session_id": "s_none"}, true, "session_not_found"},
		{"deploy_temporary", map[string]any{"files": says(text), "fils": 1}, true, "unknown_argument"},
		{"deploy_temporary", map[string]any{"project_dir": "."}, true, "root_not_allowed"},
		{"status", map[string]any{}, false, "session_id"},
		{"request_claim", map[string]any{"session_id": "s_none"}, true, "session_not_found"},
	}
}

// TestHTTPClients: real clients over each transport, successes and failures.
func TestHTTPClients(t *testing.T) {
	p := peertest.Get(t)
	w := newWorld(t)
	token := w.token("team")
	f := w.serveHTTP("--accept-terms")
	for _, kind := range []string{"http", "sse"} {
		t.Run("mcp-go "+kind, func(t *testing.T) {
			a := f.agent(kind, token)
			a.t = t
			for _, s := range steps("mcp-go-" + kind) {
				got := a.call(s.tool, s.args)
				if got.IsError != s.isError || !strings.Contains(got.Text, s.want) {
					t.Errorf("%s: %+v, want %q", s.tool, got, s.want)
				}
			}
		})
	}
	for _, c := range []struct{ sdk, kind string }{{"v1", "http"}, {"v1", "sse"}, {"v2", "http"}, {"v2", "sse"}, {"v2-modern", "http"}} {
		t.Run("typescript "+c.sdk+" "+c.kind, func(t *testing.T) { f.typescript(t, p, c.sdk, c.kind, token) })
	}
	for _, c := range []struct{ kind, era string }{{"http", "legacy"}, {"http", "modern"}, {"sse", "legacy"}} {
		t.Run("inspector "+c.kind+" "+c.era, func(t *testing.T) { f.inspector(t, p, c.kind, c.era, token) })
	}
	if said := f.stderr.String(); strings.Contains(said, token) {
		t.Error("the token is in the log")
	}
}

func (f *office) url(kind string) string {
	if kind == "sse" {
		return f.SSE
	}
	return f.MCP
}

func (f *office) typescript(t *testing.T, p peertest.Peers, sdk, kind, token string) {
	script, err := filepath.Abs(filepath.Join("testdata", "client.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	name := "ts-" + sdk + "-" + kind
	var in strings.Builder
	for _, s := range steps(name) {
		line, _ := json.Marshal(map[string]any{"tool": s.tool, "args": s.args})
		fmt.Fprintf(&in, "%s\n", line)
	}
	cmd := exec.CommandContext(t.Context(), p.Node, script, sdk, kind, f.url(kind), token, p.Bin()) //nolint:gosec // the pinned SDK
	cmd.Env, cmd.Dir, cmd.Stdin = append(f.w.cleanEnv(), "PATH="+filepath.Dir(p.Node)), f.w.home, strings.NewReader(in.String())
	var errs lockedBuffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, errs.String(), f.stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(steps(name))+1 || lines[0] != `{"tools":["bundle","deploy_temporary","request_claim","status","teardown"]}` {
		t.Fatalf("%s", out)
	}
	for i, s := range steps(name) {
		var got struct {
			IsError    bool
			Text       string
			Thrown     string
			Structured map[string]any
		}
		if err := json.Unmarshal([]byte(lines[i+1]), &got); err != nil {
			t.Fatal(err)
		}
		if got.Thrown != "" || got.IsError != s.isError || !strings.Contains(got.Text, s.want) || (got.Structured == nil) != s.isError {
			t.Errorf("%s: %s, want %q", s.tool, lines[i+1], s.want)
		}
	}
}

func (f *office) inspector(t *testing.T, p peertest.Peers, kind, era, token string) {
	run := func(args ...string) (string, int) {
		all := append([]string{
			p.Bin("@modelcontextprotocol", "inspector", "clients", "launcher", "build", "index.js"), "--cli",
			"--server-url", f.url(kind), "--transport", kind, "--protocol-era", era, "--header", "Authorization: Bearer " + token,
		}, args...)
		cmd := exec.CommandContext(t.Context(), p.Node, all...) //nolint:gosec // the pinned inspector
		cmd.Env, cmd.Dir = append(f.w.cleanEnv(), "PATH="+filepath.Dir(p.Node)+":/usr/bin:/bin"), f.w.home
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal("the inspector did not start")
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := run("--method", "tools/list", "--strict"); code != 0 || !strings.Contains(out, "deploy_temporary") {
		t.Errorf("tools/list: %d\n%s", code, out)
	}
	src, _ := json.Marshal(says("inspected"))
	for _, c := range []struct {
		tool, arg string
		code      int
		want      string
	}{
		{"deploy_temporary", "files=" + string(src), 0, "inspected"},
		{"bundle", "name=x", 5, "no_source"},
		{"status", "session_id=s_none", 5, "session_not_found"},
	} {
		if out, code := run("--method", "tools/call", "--tool-name", c.tool, "--tool-arg", c.arg); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s %s: %d, want %d %q\n%s", c.tool, c.arg, code, c.code, c.want, out)
		}
	}
}

// TestHTTPHandles: one principal never learns that another's handle exists, a token's
// scopes are its list of tools, and a credential's run counts more than the model's.
func TestHTTPHandles(t *testing.T) {
	w := newWorld(t)
	ana, bob := w.token("ana"), w.token("bob")
	reader, job := w.token("reader", "--scope", "read"), w.token("job", "--label", "run_id=run-7", "--label", "team=shop")
	f := w.serveHTTP("--accept-terms")
	a, b := f.agent("http", ana), f.agent("http", bob)
	live := a.deploy(map[string]any{"files": says("of ana")})
	bundled := a.call("bundle", map[string]any{"files": says("of ana")}).Live.BundleID
	for _, c := range []struct {
		tool, arg, theirs, madeUp string
	}{
		{"status", "session_id", live.SessionID, "s_aaaaaaaaaaaaaaaaaaaaaaaaaa"},
		{"request_claim", "session_id", live.SessionID, "s_aaaaaaaaaaaaaaaaaaaaaaaaaa"},
		{"deploy_temporary", "session_id", live.SessionID, "s_aaaaaaaaaaaaaaaaaaaaaaaaaa"},
		{"deploy_temporary", "bundle_id", bundled, "b_" + strings.Repeat("0", len(bundled)-2)},
	} {
		ask := func(handle string) string {
			args := map[string]any{c.arg: handle}
			if c.tool == "deploy_temporary" && c.arg == "session_id" {
				args["files"] = says("of bob")
			}
			got := b.call(c.tool, args)
			if !got.IsError {
				t.Errorf("%s %s: %s", c.tool, c.arg, got.Text)
			}
			return strings.ReplaceAll(got.Text, handle, "HANDLE")
		}
		if theirs, madeUp := ask(c.theirs), ask(c.madeUp); theirs != madeUp || !strings.Contains(theirs, "not_found") {
			t.Errorf("%s %s: another's handle is told from none:\n%s\n%s", c.tool, c.arg, theirs, madeUp)
		}
	}
	if got := b.call("status", map[string]any{}); len(got.Live.Sessions) != 0 {
		t.Errorf("bob sees %s", got.Text)
	}
	if tools, err := f.agent("http", reader).client.ListTools(t.Context(), mcp.ListToolsRequest{}); err != nil || len(tools.Tools) != 2 {
		t.Errorf("a reader's tools: %v %v", tools, err)
	}
	j := f.agent("http", job)
	j.deploy(map[string]any{"files": says("of a job"), "run_id": "run-of-another"})
	if got := j.call("status", map[string]any{"detail": true}); !strings.Contains(got.Text, `"run_id":"run-7"`) || strings.Contains(got.Text, "run-of-another") || !strings.Contains(got.Text, `"team":"shop"`) {
		t.Errorf("%s", got.Text)
	}
	logged(t, f.stderr, `"claimed_run_id":"run-of-another"`)
}

// TestHTTPStop: the program ends with 0 on SIGTERM, and its stdout had one line.
func TestHTTPStop(t *testing.T) {
	w := newWorld(t)
	f := w.serveHTTP("--accept-terms")
	f.agent("http", "").deploy(map[string]any{"files": says("before the end")})
	f.agent("sse", "") // its stream is open
	if err := f.stop(); err != nil {
		t.Errorf("%v\n%s", err, f.stderr.String())
	}
	if rest := f.rest.String(); rest != "" {
		t.Errorf("stdout: %q", rest)
	}
}

// TestHTTPDroppedStream: a client whose connection breaks while its account is being made
// calls again and finds the one account, in both eras.
func TestHTTPDroppedStream(t *testing.T) {
	for era, modern := range map[string]bool{"2025-11-25": false, "2026-07-28": true} {
		t.Run(era, func(t *testing.T) {
			w := newWorld(t)
			f := w.serveHTTP("--accept-terms")
			w.manage(http.MethodPut, "/challenge", `{"k":40,"g":40000}`, nil) // long enough to hang up within
			session := ""
			if !modern {
				_, session = f.post(t.Context(), false, "", "initialize", map[string]any{
					"protocolVersion": "2025-11-25", "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "x", "version": "1"},
				})
			}
			deploy := func(ctx context.Context) string {
				out, _ := f.post(ctx, modern, session, "tools/call", map[string]any{"name": "deploy_temporary", "arguments": map[string]any{"files": says("again")}})
				return out
			}
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			done := make(chan struct{})
			go func() {
				defer close(done)
				deploy(ctx)
			}()
			for w.challenges() == 0 {
				select {
				case <-done:
					t.Fatalf("the deployment ended before the connection did\n%s", f.stderr.String())
				default:
				}
			}
			hangUp()
			<-done
			if out := deploy(t.Context()); !strings.Contains(out, "session_id") {
				t.Fatalf("%s\n%s", out, f.stderr.String())
			}
			if n := len(w.accounts()); n != 1 {
				t.Fatalf("%d accounts after a dropped stream", n)
			}
		})
	}
}

// post sends one request by hand and gives the answer and its protocol session.
func (f *office) post(ctx context.Context, modern bool, session, method string, params map[string]any) (body, newSession string) {
	if modern {
		meta := map[string]any{"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": map[string]any{}}
		if more, ok := params["_meta"].(map[string]any); ok {
			maps.Copy(meta, more)
		}
		params["_meta"] = meta
	}
	raw, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.MCP, strings.NewReader(string(raw)))
	if err != nil {
		return err.Error(), ""
	}
	req.Header.Set("Content-Type", "application/json")
	if modern {
		req.Header.Set("Mcp-Protocol-Version", "2026-07-28")
		req.Header.Set("Mcp-Method", method)
		req.Header.Set("Mcp-Name", fmt.Sprint(params["name"]))
	}
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error(), ""
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error(), ""
	}
	return string(out), res.Header.Get("Mcp-Session-Id")
}

// challenges counts how often an account was begun.
func (w *world) challenges() int {
	w.t.Helper()
	var reqs []struct{ Method, Path string }
	w.manage(http.MethodGet, "/requests", "", &reqs)
	n := 0
	for _, r := range reqs {
		if strings.HasSuffix(r.Path, "/provisioning/previews/challenge") {
			n++
		}
	}
	return n
}

// TestHTTPRefusals: what must not be served is refused with a sentence, before anything
// listens.
func TestHTTPRefusals(t *testing.T) {
	w := &world{t: t, home: t.TempDir(), cache: t.TempDir()}
	state := filepath.Join(w.home, "state")
	write := func(text string) string {
		path := filepath.Join(w.home, "issuers.jsonc")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"everybody", []string{"--addr", "0.0.0.0:0"}, "nothing asks who calls"},
		{"no such file of tokens", []string{"--tokens", filepath.Join(w.home, "none.json")}, "--tokens"},
		{"no such file of issuers", []string{"--issuers", filepath.Join(w.home, "none.json")}, "--issuers"},
		{"an unknown key", []string{"--issuers", write(`{"issuers":[{"name":"x","isuer":"https://x.example"}]}`)}, "isuer"},
	} {
		out, errs, code := w.run(w.home, append([]string{"http", "--state-dir", state}, c.args...)...)
		if code != 2 || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d %q %q, want %q", c.name, code, out, errs, c.want)
		}
	}
	issuers := write(`{ // a CI that serves everybody
		"issuers": [{"name": "gh", "issuer": "https://token.actions.githubusercontent.com", "kind": "github-actions"}]}`)
	if _, errs, code := w.run(w.home, "http", "--state-dir", state, "--issuers", issuers); code != 2 || !strings.Contains(errs, "every job of that CI would be let in") {
		t.Errorf("an unbound CI: %d %q", code, errs)
	}
}

// TestTokensCommand: a token is shown once, kept as a hash in a file of one's own, listed
// without it, and revoked.
func TestTokensCommand(t *testing.T) {
	w := &world{t: t, home: t.TempDir(), cache: t.TempDir()}
	state := filepath.Join(w.home, "state")
	token := w.token("ci", "--scope", "deploy", "--label", "team=web", "--expires", "24h")
	if !strings.HasPrefix(token, "hgt_") || len(token) < 50 {
		t.Errorf("the token has %d characters", len(token))
	}
	path := filepath.Join(state, "tokens.json")
	raw, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(raw), token) {
		t.Fatalf("%v: %s", err, raw)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	run := func(args ...string) (string, string, int) {
		return w.run(w.home, append(append([]string{"tokens"}, args...), "--state-dir", state)...)
	}
	if _, errs, code := run("add", "ci"); code != 2 || !strings.Contains(errs, "already") {
		t.Errorf("a name twice: %d %s", code, errs)
	}
	if _, errs, code := run("add", "x", "--scope", "root"); code != 2 || !strings.Contains(errs, "no scope") {
		t.Errorf("a scope that is none: %d %s", code, errs)
	}
	if out, _, code := run("list"); code != 0 || !strings.Contains(out, "ci  deploy  until ") || !strings.Contains(out, "team=web") || strings.Contains(out, token) {
		t.Errorf("list: %d %s", code, out)
	}
	if err := os.Chmod(path, 0o644); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	if _, errs, code := run("list"); code == 0 || !strings.Contains(errs, "chmod 600") {
		t.Errorf("an open file: %d %s", code, errs)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _, code := run("revoke", "ci"); code != 0 || !strings.Contains(out, "1 revoked") {
		t.Errorf("revoke: %d %s", code, out)
	}
	if _, _, code := run("revoke", "ci"); code != 2 {
		t.Errorf("revoke again: %d", code)
	}
}
