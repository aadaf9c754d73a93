package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// program is the real mcp-server, built once for all tests.
var program string //nolint:gochecknoglobals // set by TestMain

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "hourglass-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "mcp-server")
	build := exec.Command("go", "build", "-o", program, ".") //nolint:gosec // our own program
	build.Stderr = os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// world is a sandbox in a process of its own, and a home for what runs against it.
type world struct {
	t                 testing.TB
	API, Edge, Manage string
	home              string
	cache             string
	extra             []string // of the environment of servers on HTTP
}

// cleanEnv is an environment with nothing of the caller's but what a program needs.
func (w *world) cleanEnv(extra ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.home, "HOURGLASS_CACHE_DIR=" + w.cache}, extra...)
}

// kindWorld is a world whose API does not fail, for who counts requests, for other
// clients than ours, and for tests that choose the moment at which something fails.
func kindWorld(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.manage(http.MethodPut, "/faults", `{"seed":1,"rules":[]}`, nil)
	return w
}

// newWorld starts a sandbox that is as unkind as a good client does not notice.
func newWorld(t testing.TB) *world {
	t.Helper()
	peertest.Workerd(t)
	cache, err := peertest.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, home: t.TempDir(), cache: cache}
	cmd := exec.Command(program, "sandbox", "--faults", "mild") //nolint:gosec // our own program
	cmd.Env = w.cleanEnv()
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("sandbox: %v\n%s", err, stderr.String())
		}
		http.DefaultClient.CloseIdleConnections()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("sandbox: %v\n%s", err, stderr.String())
	}
	var urls struct{ API, Edge, Manage string }
	if err := json.Unmarshal(line, &urls); err != nil {
		t.Fatalf("the sandbox's first line %q: %v", line, err)
	}
	w.API, w.Edge, w.Manage = urls.API, urls.Edge, urls.Manage
	w.manage(http.MethodPut, "/challenge", `{"k":2,"g":3}`, nil)
	return w
}

// logged waits until a log has words in it: the line of a call is written beside its answer,
// and may come after it.
func logged(t *testing.T, log *lockedBuffer, words string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(log.String(), words); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the log does not say %s:\n%s", words, log.String())
		}
	}
}

// lockedBuffer is a buffer that a process writes to while a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (w *world) manage(method, path, body string, out any) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.Manage+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		w.t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, b, err)
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			w.t.Fatal(err)
		}
	}
}

type account struct {
	ID         string `json:"id"`
	APIToken   string `json:"api_token"`
	ClaimToken string `json:"claim_token"`
	Claimed    bool   `json:"claimed"`
}

func (w *world) accounts() []account {
	w.t.Helper()
	var out []account
	w.manage(http.MethodGet, "/accounts", "", &out)
	return out
}

// uploads counts the uploads that the sandbox has seen.
func (w *world) uploads() int {
	w.t.Helper()
	var reqs []struct{ Method, Path string }
	w.manage(http.MethodGet, "/requests", "", &reqs)
	n := 0
	for _, r := range reqs {
		if r.Method == http.MethodPut && strings.Contains(r.Path, "/workers/scripts/") {
			n++
		}
	}
	return n
}

// get asks an address as any program would.
func (w *world) get(url string) (int, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// agent is a real MCP client on a real child process.
type agent struct {
	t       testing.TB
	client  *client.Client
	stderr  *lockedBuffer
	said    *lockedBuffer // every text that came back
	process *os.Process
}

func (w *world) serverArgs(more ...string) []string {
	return append([]string{"stdio", "--api-base-url", w.API, "--edge-url", w.Edge, "--state-dir", filepath.Join(w.home, "state")}, more...)
}

func (w *world) agent(args []string, env ...string) *agent {
	w.t.Helper()
	return w.agentOf(program, args, env...)
}

// agentOf is agent on another build of the program.
func (w *world) agentOf(program string, args []string, env ...string) *agent {
	w.t.Helper()
	a := &agent{t: w.t, stderr: &lockedBuffer{}, said: &lockedBuffer{}}
	clean := w.cleanEnv(env...)
	var started *exec.Cmd
	tr := transport.NewStdioWithOptions(program, nil, args, transport.WithCommandStderrWriter(a.stderr),
		transport.WithCommandFunc(func(ctx context.Context, name string, _, args []string) (*exec.Cmd, error) {
			cmd := exec.CommandContext(ctx, name, args...)
			cmd.Env, cmd.Dir = clean, w.home
			started = cmd
			return cmd, nil
		}))
	if err := tr.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	a.process = started.Process
	a.client = client.NewClient(tr)
	w.t.Cleanup(func() { _ = a.client.Close() })
	init := mcp.InitializeRequest{}
	init.Params.ProtocolVersion = "2025-11-25"
	init.Params.ClientInfo = mcp.Implementation{Name: "e2e", Version: "1"}
	if _, err := a.client.Initialize(w.t.Context(), init); err != nil {
		w.t.Fatalf("initialize: %v\n%s", err, a.stderr.String())
	}
	return a
}

// answer is what a tool gave back.
type answer struct {
	IsError bool
	Text    string
	Live    live
	Error   struct{ Code, Message, Next string }
}

type live struct {
	URL          string `json:"url"`
	SessionID    string `json:"session_id"`
	DeploymentID string `json:"deployment_id"`
	VersionID    string `json:"version_id"`
	BundleID     string `json:"bundle_id"`
	Account      string `json:"account"`
	Changed      bool   `json:"changed"`
	Serving      string `json:"serving"`
	Phase        string `json:"phase"`
	Check        struct {
		Status      int    `json:"status"`
		OK          bool   `json:"ok"`
		BodyExcerpt string `json:"body_excerpt"`
		Version     string `json:"version"`
		Evidence    string `json:"evidence"`
		Error       string `json:"error"`
		At          string `json:"at"`
	} `json:"check"`
	Claim    string `json:"claim"`
	TellUser string `json:"tell_user"`
	Sessions []struct {
		SessionID string `json:"session_id"`
		Phase     string `json:"phase"`
		Claim     string `json:"claim"`
	} `json:"sessions"`
}

func (a *agent) call(tool string, args map[string]any) answer {
	a.t.Helper()
	return a.callMeta(tool, args, nil)
}

func (a *agent) callMeta(tool string, args map[string]any, meta map[string]any) answer {
	a.t.Helper()
	req := mcp.CallToolRequest{}
	req.Params.Name, req.Params.Arguments = tool, args
	if meta != nil {
		req.Params.Meta = &mcp.Meta{AdditionalFields: meta}
	}
	res, err := a.client.CallTool(a.t.Context(), req)
	if err != nil {
		a.t.Fatalf("%s: %v\n%s", tool, err, a.stderr.String())
	}
	out := answer{IsError: res.IsError}
	for _, c := range res.Content {
		if t, ok := c.(mcp.TextContent); ok {
			out.Text += t.Text
		}
	}
	structured, err := json.Marshal(res.StructuredContent)
	if err != nil {
		a.t.Fatal(err)
	}
	_, _ = fmt.Fprintf(a.said, "%s\n%s\n", out.Text, structured)
	if out.IsError {
		var body struct {
			Error struct{ Code, Message, Next string }
		}
		if err := json.Unmarshal([]byte(out.Text), &body); err != nil {
			a.t.Fatalf("%s: an error that is not JSON: %q", tool, out.Text)
		}
		if res.StructuredContent != nil {
			a.t.Errorf("%s: an error with structured content", tool)
		}
		out.Error = body.Error
		return out
	}
	if err := json.Unmarshal([]byte(out.Text), &out.Live); err != nil {
		a.t.Fatalf("%s: %v: %q", tool, err, out.Text)
	}
	return out
}

// deploy wants success.
func (a *agent) deploy(args map[string]any) live {
	a.t.Helper()
	out := a.call("deploy_temporary", args)
	if out.IsError {
		a.t.Fatalf("deploy_temporary: %s\n%s", out.Text, a.stderr.String())
	}
	return out.Live
}

// files makes the files argument from pairs of path and content.
func files(pairs ...string) []map[string]any {
	var out []map[string]any
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, map[string]any{"path": pairs[i], "content": pairs[i+1]})
	}
	return out
}

func says(text string) []map[string]any {
	return files("index.js", fmt.Sprintf("export default { fetch: () => new Response(%q) };", text))
}

// run runs the program as a command.
func (w *world) run(dir string, args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	ctx, stop := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = w.cleanEnv(), dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// write puts files into a new folder.
func (w *world) write(pairs ...string) string {
	w.t.Helper()
	dir := w.t.TempDir()
	for i := 0; i+1 < len(pairs); i += 2 {
		path := filepath.Join(dir, filepath.FromSlash(pairs[i]))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(pairs[i+1]), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	return dir
}

// byHost asks the edge for a Worker by its host; seen asks by address. Both give what
// matters of the answer in one text.
func (w *world) byHost(host, path string) string { return w.observe(w.Edge+path, host) }

func (w *world) seen(address, path string) string {
	return w.observe(strings.TrimSuffix(address, "/")+path, "")
}

func (w *world) observe(address, host string) string {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if host != "" {
		req.Host = host
	}
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	text := fmt.Sprintf("%d %s", resp.StatusCode, b)
	for _, h := range []string{"Content-Type", "Location", "Etag", "Cache-Control", "X-A", "X-Foo"} {
		if v := resp.Header.Get(h); v != "" {
			text += "\n" + h + ": " + v
		}
	}
	return text
}
