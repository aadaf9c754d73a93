package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// inspector runs the MCP Inspector's command line against our server.
func (w *world) inspector(p peertest.Peers, args ...string) (string, int) {
	w.t.Helper()
	all := append([]string{p.Bin("@modelcontextprotocol", "inspector", "clients", "launcher", "build", "index.js"), "--cli", program}, w.serverArgs()...)
	cmd := exec.CommandContext(w.t.Context(), p.Node, append(all, args...)...) //nolint:gosec // the pinned inspector
	cmd.Env = append(w.cleanEnv(), "PATH="+filepath.Dir(p.Node)+":/usr/bin:/bin")
	cmd.Dir = w.home
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	if cmd.ProcessState == nil {
		w.t.Fatal("the inspector did not start")
	}
	return out.String() + errs.String(), cmd.ProcessState.ExitCode()
}

// TestInspector: another client lists the tools and calls each, failures included.
func TestInspector(t *testing.T) {
	p := peertest.Get(t)
	w := kindWorld(t)
	out, code := w.inspector(p, "--method", "tools/list", "--strict")
	if code != 0 {
		t.Errorf("tools/list --strict: %d\n%s", code, out)
	}
	for _, tool := range []string{"bundle", "deploy_temporary", "status", "request_claim"} {
		if !strings.Contains(out, fmt.Sprintf("%q", tool)) {
			t.Errorf("no %s in\n%s", tool, out)
		}
	}
	call := func(tool string, args ...string) (string, int) {
		t.Helper()
		all := []string{"--method", "tools/call", "--tool-name", tool}
		if len(args) > 0 {
			all = append(append(all, "--tool-arg"), args...)
		}
		return w.inspector(p, all...)
	}
	src, _ := json.Marshal(says("inspected"))
	for _, c := range []struct {
		tool string
		args []string
		code int
		want string
	}{
		{"bundle", []string{"files=" + string(src)}, 0, "bundle_id"},
		{"bundle", nil, 5, "no_source"},
		{"deploy_temporary", []string{"files=" + string(src), "name=inspected"}, 0, "inspected"},
		{"deploy_temporary", []string{"files=" + string(src), "session_id=s_none"}, 5, "session_not_found"},
		{"status", nil, 0, "session_id"},
		{"status", []string{"session_id=s_none"}, 5, "session_not_found"},
		{"request_claim", nil, 5, "nothing_to_claim"}, // a new process has no current session
	} {
		out, code := call(c.tool, c.args...)
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s %v: code %d, want %d and %q\n%s", c.tool, c.args, code, c.code, c.want, out)
		}
	}
	out, _ = call("status")
	id := regexp.MustCompile(`s_[a-z0-9]{26}`).FindString(out)
	if out, code = call("request_claim", "session_id="+id); code != 0 || !strings.Contains(out, "awaiting_human") {
		t.Errorf("request_claim: %d\n%s", code, out)
	}
}

// TestSameWorkersAsWrangler: what wrangler deploys and what we deploy answer alike.
func TestSameWorkersAsWrangler(t *testing.T) {
	p := peertest.Get(t)
	w := kindWorld(t)
	const date = `"compatibility_date": "2026-08-01"`
	projects := map[string]struct {
		dir   string
		args  []string
		paths []string
	}{
		"typescript": {w.write("wrangler.jsonc", `{"name": "ts", "main": "src/index.ts", `+date+`, "vars": {"WHO": "you"}}`,
			"src/index.ts", `import { greet } from "./greet"; export default { fetch: (r: Request, env: { WHO: string }) => new Response(greet(env.WHO) + new URL(r.url).pathname, { headers: { "x-a": "b" } }) };`,
			"src/greet.ts", `export const greet = (who: string): string => "hello " + who + " at ";`), nil, []string{"/", "/a/b?c=d"}},
		"minified": {w.write("wrangler.jsonc", `{"name": "min", "main": "i.ts", `+date+`, "minify": true}`,
			"i.ts", `class Longish { name = "n" } export default { fetch: () => new Response(new Longish().constructor.name) };`), nil, []string{"/"}},
		"no-bundle": {w.write("wrangler.jsonc", `{"name": "multi", "main": "src/index.js", `+date+`, "no_bundle": true, "rules": [{"type": "ESModule", "globs": ["**/*.js"]}]}`,
			"src/index.js", `import { g } from "./lib/g.js"; import t from "./n.txt"; export default { fetch: () => new Response(g() + t) };`,
			"src/lib/g.js", `export const g = () => "module ";`, "src/n.txt", "text"), nil, []string{"/"}},
		"assets": {w.write("wrangler.jsonc", `{"name": "site", `+date+`, "assets": {"directory": "pub", "not_found_handling": "404-page"}}`,
			"pub/index.html", "<h1>home</h1>", "pub/about.html", "about", "pub/404.html", "lost", "pub/a b.css", "body{}",
			"pub/_redirects", "/old /about 301\n", "pub/_headers", "/*.css\n  X-Foo: bar\n"), nil, []string{"/", "/about", "/about.html", "/nope", "/old", "/a%20b.css"}},
		"assets and code": {w.write("wrangler.jsonc", `{"name": "both", "main": "w.js", `+date+`, "assets": {"directory": "pub", "binding": "ASSETS", "run_worker_first": ["/api/*"]}}`,
			"w.js", `export default { async fetch(r, env) { const u = new URL(r.url); return u.pathname === "/api/page" ? env.ASSETS.fetch(new URL("/page", u)) : new Response("worker " + u.pathname); } };`,
			"pub/page.html", "the page"), nil, []string{"/page", "/api/page", "/api/x", "/else"}},
	}
	for name, c := range projects {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			r, err := p.Wrangler(t.Context(), w.API, home, c.dir, append([]string{"deploy", "--temporary"}, c.args...)...)
			if err != nil || r.Code != 0 {
				t.Fatalf("wrangler: %d %v\n%s\n%s", r.Code, err, r.Stdout, r.Stderr)
			}
			theirs := regexp.MustCompile(`https://([a-z0-9.-]+\.workers\.dev)`).FindStringSubmatch(r.Stdout)
			if theirs == nil {
				t.Fatal(r.Stdout)
			}
			a := w.agent(w.serverArgs("--root", c.dir, "--state-dir", t.TempDir()))
			d := a.deploy(map[string]any{"project_dir": c.dir})
			for _, path := range c.paths {
				want := w.byHost(theirs[1], path)
				got := w.seen(d.URL, path)
				if got != want {
					t.Errorf("%s: ours\n%s\nwrangler's\n%s", path, got, want)
				}
			}
		})
	}
}
