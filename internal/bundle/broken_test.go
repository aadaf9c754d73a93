package bundle_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

type broken struct {
	name  string
	files map[string]string
	src   deploy.Source
	args  []string
}

// brokenProjects are refused by wrangler; so they must be by us.
func brokenProjects() []broken {
	conf := func(more string) map[string]string {
		return map[string]string{"wrangler.jsonc": config(more), "src/index.ts": hello}
	}
	code := func(text string) map[string]string {
		return map[string]string{"wrangler.jsonc": config(""), "src/index.ts": text}
	}
	with := func(m map[string]string, name, content string) map[string]string { m[name] = content; return m }
	return []broken{
		{name: "syntax error", files: code("export default {\n  fetch() { return new Response('x' }\n}")},
		{name: "missing relative import", files: with(code(`import { x } from "./utlis"; export default { fetch() { return x } }`), "src/utils.ts", "export const x = 1")},
		{name: "missing package", files: code(`import x from "left-pad"; export default { fetch() { return x } }`)},
		{name: "missing export", files: with(code(`import { nope } from "./utils"; export default { fetch() { return nope } }`), "src/utils.ts", "export const yes = 1")},
		{name: "missing text file", files: code(`import t from "./missing.txt"; export default { fetch() { return new Response(t) } }`)},
		{name: "node module without compatibility", files: map[string]string{"wrangler.jsonc": `{"name":"x","compatibility_date":"2026-01-01","main":"src/index.ts"}`, "src/index.ts": `import fs from "fs"; export default { fetch() { return fs } }`}},
		{name: "unknown loader", files: with(code(`import x from "./a.png"; export default { fetch() { return x } }`), "src/a.png", "png")},
		{name: "hidden rule", files: with(with(conf(`,"rules":[{"type":"Text","globs":["**/*.md"]}]`), "src/index.ts", `import t from "./a.txt"; export default { fetch() { return new Response(t) } }`), "src/a.txt", "x")},
		{name: "unresolved alias", files: with(conf(`,"alias":{"a":"./src/none.ts"}`), "src/index.ts", `import a from "a"; export default { fetch() { return a } }`)},
		{name: "assignment to import", files: with(code("import { x } from './u'; x = 2; export default { fetch() { return x } }"), "src/u.ts", "export let x = 1")},
		{name: "duplicate declaration", files: code("const a = 1; const a = 2; " + hello)},
		{name: "broken jsonc", files: map[string]string{"wrangler.jsonc": "{\n  \"name\": \"x\",\n  \"main\" \"y\"\n}", "src/index.ts": hello}},
		{name: "broken toml", files: map[string]string{"wrangler.toml": "name = \"x\"\nmain = src/index.ts\n", "src/index.ts": hello}},
		{name: "configuration is a list", files: map[string]string{"wrangler.json": "[]", "src/index.ts": hello}},
		{name: "name of the wrong type", files: conf(`,"name":7`)},
		{name: "name with capitals", files: conf(`,"name":"My_App"`)},
		{name: "main of the wrong type", files: conf(`,"main":["a"]`)},
		{name: "main that is missing", files: conf(`,"main":"src/indx.ts"`)},
		{name: "date of the wrong form", files: conf(`,"compatibility_date":"17.11.2026"`)},
		{name: "define of the wrong type", files: conf(`,"define":{"A":1}`)},
		{name: "define that is no expression", files: conf(`,"define":{"A":"not valid ("}`)},
		{name: "rule of an unknown type", files: conf(`,"rules":[{"type":"Image","globs":["**/*.png"]}]`)},
		{name: "asset folder that is missing", files: conf(`,"assets":{"directory":"./public"}`)},
		{name: "unknown html_handling", files: with(conf(`,"assets":{"directory":"./public","html_handling":"magic"}`), "public/a.txt", "a")},
		{name: "bad run_worker_first", files: with(conf(`,"assets":{"directory":"./public","run_worker_first":["api/*"]}`), "public/a.txt", "a")},
		{name: "asset binding without a Worker", files: map[string]string{"wrangler.jsonc": `{"name":"x","compatibility_date":"2026-11-17","assets":{"directory":"./public","binding":"A"}}`, "public/a.txt": "a"}},
		{name: "_worker.js among assets", files: with(conf(`,"assets":{"directory":"./public"}`), "public/_worker.js", hello)},
		{name: "two bindings of one name", files: conf(`,"vars":{"A":"1"},"version_metadata":{"binding":"A"}`)},
		{name: "service without a name", files: conf(`,"services":[{"binding":"S"}]`)},
		{name: "tsconfig that is missing", files: conf(`,"tsconfig":"./none.json"`)},
		{name: "nothing to deploy", files: map[string]string{"wrangler.jsonc": `{"name":"x","compatibility_date":"2026-11-17"}`, "readme.md": "x"}},
		{name: "redirection to nowhere", files: with(conf(""), ".wrangler/deploy/config.json", `{"configPath":"../../none.json"}`)},
		{name: "no_bundle with a syntax error", files: map[string]string{"wrangler.jsonc": `{"name":"x","compatibility_date":"2026-11-17","main":"i.js","no_bundle":true}`, "i.js": "export default {"}},
	}
}

var wranglerError = regexp.MustCompile(`(?s)\[ERROR\]\s*(.*?)(?:\n\n\n|\n🪵|\z)`)

// What wrangler refuses we refuse, each in its own words: testdata/broken.golden has
// both. HOURGLASS_UPDATE=1 writes it anew.
func TestRefusesWhatWranglerRefuses(t *testing.T) {
	const golden = "testdata/broken.golden"
	list := brokenProjects()
	if len(list) < 20 {
		t.Fatalf("only %d broken projects", len(list))
	}
	update := os.Getenv("HOURGLASS_UPDATE") != ""
	old := readGolden(t, golden)
	var out strings.Builder
	for _, p := range list {
		root := filepath.Join(t.TempDir(), "p")
		for name, content := range p.files {
			write(t, root, name, content)
		}
		p.src.ProjectDir = root
		_, err := newBundler(t, bundle.Config{Roots: []string{root}}).Bundle(t.Context(), p.src)
		if err == nil {
			t.Errorf("%s: not refused", p.name)
			continue
		}
		e := deploy.AsError(err)
		if e.Next == "" || e.Code == deploy.CodeInternal || strings.Contains(e.Message+e.Next, root) {
			t.Errorf("%s: %+v cause %v", p.name, e, e.Cause)
		}
		ours := fmt.Sprintf("%s: %s\n          next: %s", e.Code, e.Message, e.Next)
		theirs := old[p.name]
		if update || peertest.Full() {
			theirs = wranglerRefuses(t, p, root)
			if strings.HasPrefix(theirs, "(takes") {
				t.Errorf("%s: wrangler does not refuse it", p.name)
			}
		}
		fmt.Fprintf(&out, "# %s\nwrangler: %s\nours:     %s\n\n", p.name, theirs, ours)
	}
	if update {
		write(t, ".", golden, out.String())
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), out.String()); d != "" {
		t.Error(d)
	}
}

func wranglerRefuses(t *testing.T, p broken, root string) string {
	t.Helper()
	args := append([]string{"deploy", "--dry-run", "--outdir", filepath.Join(t.TempDir(), "out")}, p.args...)
	res, err := peertest.Get(t).Wrangler(t.Context(), "http://127.0.0.1:1", t.TempDir(), root, args...)
	if err != nil {
		t.Fatal(err)
	}
	if res.Code == 0 {
		return "(takes it in a dry run)"
	}
	text := ansi.ReplaceAllString(res.Stderr, "")
	m := wranglerError.FindStringSubmatch(text)
	if m == nil {
		return oneLine(strings.TrimSpace(text))
	}
	return oneLine(strings.ReplaceAll(m[1], root, "."))
}

var ansi = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// oneLine is the text on one line, cut, without places of the machine.
func oneLine(s string) string {
	s, _, _ = strings.Cut(s, "[plugin")
	s, _, _ = strings.Cut(s, "Require stack")
	s = strings.Join(strings.Fields(s), " ")
	const most = 240
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	if s == "" {
		return "(fails without a word)"
	}
	return s
}

// readGolden gives wrangler's words by name.
func readGolden(t *testing.T, name string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	out, last := map[string]string{}, ""
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(line, "\n")
		if after, ok := strings.CutPrefix(line, "# "); ok {
			last = after
		} else if after, ok := strings.CutPrefix(line, "wrangler: "); ok {
			out[last] = after
		}
	}
	return out
}
