package bundle_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

func must(t testing.TB, b *bundle.Bundler, src deploy.Source) *deploy.Artifact {
	t.Helper()
	a, err := b.Bundle(t.Context(), src)
	if err != nil {
		t.Fatalf("%v (next: %s) %+v cause %v", err, deploy.AsError(err).Next, deploy.AsError(err).Diagnostics, deploy.AsError(err).Cause)
	}
	return a
}

func sample() map[string]string {
	return map[string]string{
		"wrangler.jsonc": `{
			// a comment
			"name": "my-app", "main": "src/index.ts", "compatibility_date": "2026-08-10",
			"vars": {"GREETING": "hi", "LIMITS": {"n": 3}},
			"assets": {"directory": "./public", "binding": "ASSETS", "not_found_handling": "404-page", "run_worker_first": ["/api/*"]},
			"define": {"VERSION": "\"7\""},
			"alias": {"old-lib": "./src/new-lib.ts"},
			"rules": [{"type": "Text", "globs": ["**/*.md"], "fallthrough": true}],
			"observability": {"enabled": true},
			"workers_dev": true,
			"placment": {},
			"env": {"staging": {"vars": {"GREETING": "staging"}}},
		}`,
		"src/index.ts":         `import { x } from "old-lib"; import md from "./note.md"; import t from "../t.txt"; declare const VERSION: string; export default { fetch: () => new Response(x + md + t + VERSION) };`,
		"src/new-lib.ts":       `export const x: number = 1`,
		"src/note.md":          "# note",
		"t.txt":                "text",
		"public/index.html":    "<h1>hi</h1>",
		"public/.env":          "SECRET=1",
		"public/_headers":      "/*\n  X-A: b\n",
		"public/deep/ü.js":     "1",
		"public/x.map":         "{}",
		"public/.assetsignore": "*.map\n",
		"public/keys.txt":      "-----BEGIN RSA PRIVATE KEY-----\nabc",
	}
}

func TestProject(t *testing.T) {
	a := must(t, newBundler(t, bundle.Config{}), inline(sample()))
	if a.Name != "my-app" || a.MainModule != "index.js" || a.CompatibilityDate != "2026-08-10" {
		t.Errorf("%s %s %s", a.Name, a.MainModule, a.CompatibilityDate)
	}
	want := []deploy.Binding{
		{"name": "GREETING", "type": "plain_text", "text": "hi"},
		{"name": "LIMITS", "type": "json", "json": map[string]any{"n": json.Number("3")}},
		{"name": "ASSETS", "type": "assets"},
	}
	if d := cmp.Diff(want, a.Bindings); d != "" {
		t.Error(d)
	}
	var paths []string
	for _, f := range a.Assets.Files {
		paths = append(paths, f.Path)
	}
	if d := cmp.Diff([]string{"/deep/ü.js", "/index.html"}, paths); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{".env", "keys.txt"}, a.Assets.LeftOut); d != "" {
		t.Error(d)
	}
	if a.Assets.Config["_headers"] == nil || a.Assets.Config["not_found_handling"] != "404-page" {
		t.Errorf("%v", a.Assets.Config)
	}
	all := strings.Join(a.Warnings, "\n")
	for _, w := range []string{"workers_dev", `"placment" is not known and was ignored. Did you mean "placement"?`, "environments (staging)", "2 static files look like secrets"} {
		if !strings.Contains(all, w) {
			t.Errorf("no warning says %q:\n%s", w, all)
		}
	}
	var names []string
	for _, m := range a.Modules {
		names = append(names, m.Name+" "+m.Type)
	}
	if len(names) != 4 || names[0] != "index.js application/javascript+module" || names[3] != "index.js.map application/source-map" || !strings.HasSuffix(names[1], "-t.txt text/plain") && !strings.HasSuffix(names[1], "-note.md text/plain") {
		t.Errorf("%q", names)
	}
	src := inline(sample())
	src.Environment = "staging"
	if a := must(t, newBundler(t, bundle.Config{}), src); a.Name != "my-app-staging" || a.Bindings[0]["text"] != "staging" || len(a.Bindings) != 2 {
		t.Errorf("%s %v", a.Name, a.Bindings)
	}
	src.Environment = "prod"
	refused(t, newBundler(t, bundle.Config{}), src, deploy.CodeConfigInvalid, "staging")
}

// The same project gives the same artifact, byte for byte: from memory, from two
// folders at different depths, and in any order of files.
func TestDeterminism(t *testing.T) {
	files := sample()
	files["package.json"] = `{"name":"x","type":"module"}`
	files["src/many.ts"] = strings.Repeat("import './m';", 3)
	for i := range 40 {
		files["src/m"+string(rune('a'+i%26))+strings.Repeat("x", i/26)+".ts"] = "export const v = 1"
	}
	first := must(t, newBundler(t, bundle.Config{}), inline(files))
	top := t.TempDir()
	b := newBundler(t, bundle.Config{Roots: []string{top}})
	for _, dir := range []string{"a", "deep/er/and/deeper"} {
		for name, content := range files {
			write(t, filepath.Join(top, dir), name, content)
		}
		for range 3 {
			a := must(t, b, deploy.Source{ProjectDir: filepath.Join(top, dir)})
			if a.Digest != first.Digest {
				t.Fatalf("digest differs in %s", dir)
			}
		}
	}
	for _, m := range first.Modules {
		if strings.Contains(string(m.Content), top) || strings.Contains(string(m.Content), "hourglass-") {
			t.Errorf("%s names a place of ours", m.Name)
		}
	}
	sorted := deploy.Source{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		sorted.Files = append(sorted.Files, deploy.File{Path: name, Content: []byte(files[name])})
	}
	if must(t, b, sorted).Digest != first.Digest {
		t.Error("the order of files matters")
	}
}

func TestEntries(t *testing.T) {
	b := newBundler(t, bundle.Config{})
	for name, files := range map[string]map[string]string{
		"index.js":  {"src/index.ts": hello},
		"worker.js": {"worker.mjs": hello},
		"odd.js":    {"lib/odd.tsx": hello, "readme.md": "x"},
		"main.js":   {"wrangler.toml": "main = \"src/main\"\n", "src/main.ts": hello, "src/index.ts": "broken("},
	} {
		if a := must(t, b, inline(files)); a.MainModule != name {
			t.Errorf("main module %s, want %s", a.MainModule, name)
		}
	}
	site := must(t, b, inline(map[string]string{"index.html": "<p>", "style.css": "p{}", "package.json": "{}"}))
	if site.MainModule != "" || len(site.Assets.Files) != 2 {
		t.Errorf("%+v", site.Assets)
	}
	refused(t, b, inline(map[string]string{"a.js": hello, "b.js": hello}), deploy.CodeNoEntry, "a.js, b.js", "src/index")
	refused(t, b, inline(map[string]string{"wrangler.json": `{"main":"src/indx.ts"}`, "src/index.ts": hello}), deploy.CodeNoEntry, "Did you mean src/index.ts?")
}

func TestDates(t *testing.T) {
	b := newBundler(t, bundle.Config{})
	for _, c := range []struct{ in, flags, want, warning string }{
		{"", "", "2026-11-17", "No compatibility_date"},
		{"2026-11-18", "", "2026-11-17", "newer than the runtime"},
		{"2019-01-01", "", "2021-11-02", "older than the runtime"},
		{"2025-05-05", "", "2025-05-05", ""},
		{"2025-05-05", "nodejs_compat", "2026-03-17", "polyfills"},
		{"2026-04-01", "nodejs_compat", "2026-04-01", ""},
	} {
		src := inline(map[string]string{"index.js": hello})
		src.CompatibilityDate, src.Name = c.in, "x"
		if c.flags != "" {
			src.CompatibilityFlags = []string{c.flags}
		}
		a := must(t, b, src)
		all := strings.Join(a.Warnings, " ")
		if a.CompatibilityDate != c.want || !strings.Contains(all, c.warning) || c.warning == "" && strings.Contains(all, "date") {
			t.Errorf("%v: %s, %q", c, a.CompatibilityDate, all)
		}
	}
	src := inline(map[string]string{"index.js": hello})
	src.CompatibilityDate = "01.02.2026"
	refused(t, b, src, deploy.CodeInvalidArgument, "YYYY-MM-DD")
}

func TestAssetsIgnoreLikeGit(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		peertest.Skip(t, "git is not on this machine")
	}
	files := []string{"a.log", "b/a.log", "b/c/a.log", "build/x", "b/build/x", "foo/bar/x", "x/foo/bar", "deep/one/two.txt", "keep.log", "a b", "sp ", "#hash", "!bang", "q1.txt", "q12.txt", "[x].txt", "x.txt", "c/d/e/f.js", "doc/a.md", "doc/sub/b.md", "ünï.txt", "UP.TXT", "z/keep/no.tmp", "z/yes.tmp"}
	lists := []string{
		"*.log\n!keep.log\n", "/build\n", "build/\n", "foo/bar\n", "**/foo/bar\n", "deep/**\n", "a\\ b\nsp\\ \n", "\\#hash\n\\!bang\n", "q?.txt\n",
		"\\[x\\].txt\n", "[a-x].txt\n", "[!x].txt\n", "c/**/f.js\n", "doc/*.md\n", "*\n!doc\n!doc/**\n", "z/*\n!z/keep\n", "**/*.txt\n", "\n# comment\n  \n", "z/\n!z/yes.tmp\n",
		"ü*\n", "*.TXT\n", "a.log  \n", "/**/a.log\n", "b/**\n!b/c/\n", "[\n", "x[\n", "***.log\n", "[[:upper:]]*\n", "[]x]*\n",
	}
	for _, list := range lists {
		dir := t.TempDir()
		public := filepath.Join(dir, "public")
		for _, f := range files {
			write(t, public, f, "x")
		}
		write(t, public, ".gitignore", list)
		run := exec.Command(git, "init", "-q")
		run.Dir = public
		if out, err := run.CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		var want []string
		for _, f := range files {
			check := exec.Command(git, "-c", "core.excludesFile=", "check-ignore", "-q", "--no-index", "--", f)
			check.Dir = public
			if check.Run() == nil {
				want = append(want, "/"+f)
			}
		}
		if err := os.RemoveAll(filepath.Join(public, ".git")); err != nil {
			t.Fatal(err)
		}
		write(t, public, ".assetsignore", list+"\n/.gitignore\n")
		write(t, dir, "wrangler.json", `{"name":"x","compatibility_date":"2026-11-17","assets":{"directory":"public"}}`)
		left := map[string]bool{}
		a := must(t, newBundler(t, bundle.Config{Roots: []string{dir}}), deploy.Source{ProjectDir: dir})
		for _, f := range a.Assets.Files {
			left[f.Path] = true
		}
		var got []string
		for _, f := range files {
			if !left["/"+f] {
				got = append(got, "/"+f)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q ignores otherwise than git:\n%s", list, d)
		}
	}
}
