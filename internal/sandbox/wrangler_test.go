package sandbox_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
	"github.com/hourglass-mcp/hourglass/internal/sandbox"
	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// box starts a sandbox for a test.
func box(t testing.TB, cfg sandbox.Config) *sandbox.Sandbox {
	t.Helper()
	bin := peertest.Workerd(t)
	cfg.Workerd = func(context.Context) (workerd.Binary, error) { return bin, nil }
	if cfg.ChallengeK == 0 {
		cfg.ChallengeK, cfg.ChallengeG = 2, 3
	}
	if cfg.CheckSegments == 0 {
		cfg.CheckSegments = -1
	}
	s, err := sandbox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

// edge asks a Worker by its host.
func edge(t testing.TB, s *sandbox.Sandbox, host, path string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URLs().Edge+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// manage asks the management port.
func manage(t testing.TB, s *sandbox.Sandbox, method, path, body string, out any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URLs().Manage+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, b)
		}
	}
	return resp.StatusCode
}

// wrangler is the real wrangler with one home, so one account.
type wrangler struct {
	t     testing.TB
	peers peertest.Peers
	box   *sandbox.Sandbox
	home  string
}

func newWrangler(t testing.TB, s *sandbox.Sandbox) *wrangler {
	return &wrangler{t: t, peers: peertest.Get(t), box: s, home: t.TempDir()}
}

// ok runs wrangler and wants success.
func (w *wrangler) ok(dir string, args ...string) string {
	w.t.Helper()
	r, err := w.peers.Wrangler(w.t.Context(), w.box.URLs().API, w.home, dir, args...)
	if err != nil || r.Code != 0 {
		w.t.Fatalf("wrangler %s: code %d, %v\n%s\n%s", strings.Join(args, " "), r.Code, err, r.Stdout, r.Stderr)
	}
	return r.Stdout + r.Stderr
}

// project writes files into a new folder.
func project(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var liveHost = regexp.MustCompile(`https://([a-z0-9.-]+\.workers\.dev)`)

func hostOf(t testing.TB, out string) string {
	t.Helper()
	m := liveHost.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("wrangler printed no address:\n%s", out)
	}
	return m[1]
}

func wantEdge(t testing.TB, s *sandbox.Sandbox, host, path string, status int, body string) {
	t.Helper()
	got, text, _ := edge(t, s, host, path)
	if got != status || !strings.Contains(text, body) {
		t.Errorf("GET %s%s: %d %q, want %d and %q", host, path, got, text, status, body)
	}
}

const date = `"compatibility_date": "2026-08-01"`

func TestWranglerScripts(t *testing.T) {
	s := box(t, sandbox.Config{ChallengeK: 1000, ChallengeG: 2000})
	w := newWrangler(t, s)
	dir := project(t, map[string]string{
		"wrangler.jsonc": `{"name": "plain-ts", "main": "src/index.ts", ` + date + `, "vars": {"WHO": "you"}}`,
		"src/index.ts":   `interface Env { WHO: string; SECRET?: string } export default { async fetch(r: Request, env: Env) { console.log("seen", r.url); return new Response("one " + env.WHO + " " + (env.SECRET ?? "none")); } };`,
	})
	out := w.ok(dir, "deploy", "--temporary")
	host := hostOf(t, out)
	if !strings.Contains(out, "(created)") {
		t.Errorf("no account was made:\n%s", out)
	}
	wantEdge(t, s, host, "/", 200, "one you none")

	edit := func(from, to string) {
		t.Helper()
		path := filepath.Join(dir, "src/index.ts")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(b), from, to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit(`"one "`, `"two "`)
	if out = w.ok(dir, "deploy", "--temporary", "--minify"); !strings.Contains(out, "(reused)") {
		t.Errorf("the account was not reused:\n%s", out)
	}
	wantEdge(t, s, host, "/", 200, "two you none")

	edit(`"two "`, `"three "`)
	w.ok(dir, "versions", "upload", "--temporary")
	wantEdge(t, s, host, "/", 200, "two you none")
	if out = w.ok(dir, "versions", "list", "--temporary"); strings.Count(out, "Version ID:") != 3 {
		t.Errorf("versions list:\n%s", out)
	}
	if out = w.ok(dir, "deployments", "list", "--temporary"); strings.Count(out, "Created:") < 2 {
		t.Errorf("deployments list:\n%s", out)
	}
	w.ok(dir, "rollback", "--temporary", "--yes")
	wantEdge(t, s, host, "/", 200, "one you none")
	w.ok(dir, "deploy", "--temporary")
	wantEdge(t, s, host, "/", 200, "three you none")

	put := w.peers.WranglerCommand(t.Context(), s.URLs().API, w.home, dir, "secret", "put", "SECRET", "--temporary")
	put.Stdin = strings.NewReader("hush\n")
	if b, err := put.CombinedOutput(); err != nil {
		t.Fatalf("secret put: %v\n%s", err, b)
	}
	wantEdge(t, s, host, "/", 200, "three you hush")
	if out = w.ok(dir, "secret", "list", "--temporary"); !strings.Contains(out, "SECRET") || strings.Contains(out, "hush") {
		t.Errorf("secret list:\n%s", out)
	}
	edit(`"three "`, `"four "`)
	w.ok(dir, "deploy", "--temporary")
	wantEdge(t, s, host, "/", 200, "four you hush") // secrets survive a deploy
	w.ok(dir, "secret", "delete", "SECRET", "--temporary")
	wantEdge(t, s, host, "/", 200, "four you none")

	tailOnce(t, w, s, dir, host)

	w.ok(dir, "delete", "--temporary", "--force")
	wantEdge(t, s, host, "/", 404, "")
	wantNoUnknown(t, s)
}

func wantNoUnknown(t testing.TB, s *sandbox.Sandbox) {
	t.Helper()
	var unknown map[string]int
	manage(t, s, http.MethodGet, "/unknown", "", &unknown)
	if len(unknown) > 0 {
		t.Errorf("wrangler asked for what the sandbox has not: %v", unknown)
	}
}

// tailOnce has wrangler tail see one request.
func tailOnce(t *testing.T, w *wrangler, s *sandbox.Sandbox, dir, host string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	cmd := w.peers.WranglerCommand(ctx, s.URLs().API, w.home, dir, "tail", "plain-ts", "--temporary", "--format", "json")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ask until the tail, which opens when it likes, has seen one
		for ctx.Err() == nil {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URLs().Edge+"/tailed", nil)
			req.Host = host
			if resp, err := http.DefaultClient.Do(req); err == nil {
				resp.Body.Close()
			}
			time.Sleep(200 * time.Millisecond)
		}
	}()
	var event struct {
		ScriptName string
		Logs       []struct{ Message []any }
		Event      struct{ Request struct{ URL string } }
	}
	if err := json.NewDecoder(pipe).Decode(&event); err != nil {
		t.Error("tail: ", err)
	}
	if event.ScriptName != "plain-ts" || !strings.HasSuffix(event.Event.Request.URL, "/tailed") || len(event.Logs) == 0 || event.Logs[0].Message[0] != "seen" {
		t.Errorf("tail: %+v", event)
	}
	stop()
	_ = cmd.Wait()
}

func TestWranglerModulesAndAssets(t *testing.T) {
	s := box(t, sandbox.Config{})
	w := newWrangler(t, s)
	multi := project(t, map[string]string{
		"wrangler.jsonc":   `{"name": "multi", "main": "src/index.js", ` + date + `, "no_bundle": true, "rules": [{"type": "ESModule", "globs": ["**/*.js"]}]}`,
		"src/index.js":     `import { greet } from "./lib/greet.js"; import text from "./note.txt"; export default { fetch: () => new Response(greet() + text) };`,
		"src/lib/greet.js": `export const greet = () => "hello from a module, ";`,
		"src/note.txt":     `and a text`,
	})
	wantEdge(t, s, hostOf(t, w.ok(multi, "deploy", "--temporary")), "/", 200, "hello from a module, and a text")

	site := project(t, map[string]string{
		"wrangler.jsonc":        `{"name": "site", ` + date + `, "assets": {"directory": "./public", "not_found_handling": "404-page"}}`,
		"public/index.html":     "<h1>home</h1>",
		"public/about.html":     "<h1>about</h1>",
		"public/404.html":       "<h1>lost</h1>",
		"public/css/a b ü.css":  "body{}",
		"public/_redirects":     "/old /about 301\n",
		"public/_headers":       "/css/*\n  X-Foo: bar\n",
		"public/sub/index.html": "<h1>sub</h1>",
	})
	host := hostOf(t, w.ok(site, "deploy", "--temporary"))
	wantEdge(t, s, host, "/", 200, "home")
	wantEdge(t, s, host, "/about", 200, "about")
	wantEdge(t, s, host, "/about.html", 307, "")
	wantEdge(t, s, host, "/sub", 307, "")
	wantEdge(t, s, host, "/sub/", 200, "sub")
	wantEdge(t, s, host, "/nope", 404, "lost")
	wantEdge(t, s, host, "/old", 301, "")
	_, body, h := edge(t, s, host, "/css/a%20b%20%C3%BC.css")
	if body != "body{}" || h.Get("X-Foo") != "bar" || h.Get("Content-Type") != "text/css; charset=utf-8" || h.Get("Etag") == "" {
		t.Errorf("css: %q %v", body, h)
	}
	if err := os.WriteFile(filepath.Join(site, "public/index.html"), []byte("<h1>new home</h1>"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := w.ok(site, "deploy", "--temporary"); !strings.Contains(out, "Uploaded 1 file") && !strings.Contains(out, "1 new or modified") {
		t.Errorf("only the changed file should be sent:\n%s", out)
	}
	wantEdge(t, s, host, "/", 200, "new home")

	both := project(t, map[string]string{
		"wrangler.jsonc": `{"name": "both", "main": "w.js", ` + date + `, "assets": {"directory": "./pub", "binding": "ASSETS", "run_worker_first": ["/api/*"]}}`,
		"w.js":           `export default { async fetch(r, env) { const u = new URL(r.url); if (u.pathname === "/api/page") return env.ASSETS.fetch(new URL("/page", u)); return new Response("worker " + u.pathname); } };`,
		"pub/page.html":  "the page",
		"pub/api/x.txt":  "hidden behind the worker",
	})
	host = hostOf(t, w.ok(both, "deploy", "--temporary"))
	wantEdge(t, s, host, "/page", 200, "the page")
	wantEdge(t, s, host, "/api/page", 200, "the page")
	wantEdge(t, s, host, "/api/x.txt", 200, "worker /api/x.txt")
	wantEdge(t, s, host, "/else", 200, "worker /else")

	r, err := w.peers.Wrangler(t.Context(), s.URLs().API, w.home, project(t, map[string]string{
		"w.js": `throw new TypeError("not today"); export default {};`,
	}), "deploy", "w.js", "--name", "both", "--compatibility-date", "2026-08-01", "--temporary")
	if err != nil || r.Code == 0 || !strings.Contains(r.Stderr, "not today") || !strings.Contains(r.Stderr, "10021") {
		t.Errorf("a Worker that does not start: %d %v\n%s", r.Code, err, r.Stderr)
	}
	wantEdge(t, s, host, "/else", 200, "worker /else") // what served goes on
	wantNoUnknown(t, s)
}
