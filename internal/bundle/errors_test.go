package bundle_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

const hello = `export default { async fetch() { return new Response("hello") } }`

func refused(t *testing.T, b *bundle.Bundler, src deploy.Source, code deploy.Code, words ...string) *deploy.Error {
	t.Helper()
	a, err := b.Bundle(t.Context(), src)
	if err == nil {
		t.Fatalf("bundled to %s, want %s", a.MainModule, code)
	}
	e := deploy.AsError(err)
	if e.Code != code {
		t.Fatalf("code %s (%v, cause %v), want %s", e.Code, e.Message, e.Cause, code)
	}
	if e.Next == "" {
		t.Error("no next step")
	}
	for _, w := range words {
		if !strings.Contains(e.Message+" "+e.Next, w) {
			t.Errorf("%q does not say %q", e.Message+" | "+e.Next, w)
		}
	}
	return e
}

func TestRefusesBadInlinePaths(t *testing.T) {
	b := newBundler(t, bundle.Config{})
	for path, word := range map[string]string{
		"../x.ts":                      `".."`,
		"a/../../x.ts":                 `".."`,
		"/etc/passwd":                  "absolute",
		"C:/x.ts":                      "absolute",
		"a\\b.ts":                      "backslash",
		"a\x00b.ts":                    "control character",
		"":                             "empty",
		"src/":                         "folder",
		".":                            "names no file",
		"\xff.ts":                      "UTF-8",
		strings.Repeat("a", 300):       "longer",
		strings.Repeat("a/", 90):       "folder",
		strings.Repeat("a/", 90) + "b": "deeper",
	} {
		t.Run(path[:min(len(path), 12)], func(t *testing.T) {
			src := inline(map[string]string{"index.js": hello})
			src.Files = append(src.Files, deploy.File{Path: path, Content: []byte("x")})
			refused(t, b, src, deploy.CodePathInvalid, word)
		})
	}
	twice := deploy.Source{Files: []deploy.File{{Path: "index.js", Content: []byte(hello)}, {Path: "./index.js", Content: []byte(hello)}}}
	refused(t, b, twice, deploy.CodePathInvalid, "twice")
	under := deploy.Source{Files: []deploy.File{{Path: "a", Content: nil}, {Path: "a/b.js", Content: []byte(hello)}}}
	refused(t, b, under, deploy.CodePathInvalid, "file")
	over := deploy.Source{Files: []deploy.File{{Path: "a/b.js", Content: []byte(hello)}, {Path: "a", Content: nil}}}
	refused(t, b, over, deploy.CodePathInvalid)
}

func TestRefusesTooMuch(t *testing.T) {
	b := newBundler(t, bundle.Config{MaxFileBytes: 1000, MaxTotalBytes: 5000})
	var many deploy.Source
	for i := range 10_000 {
		many.Files = append(many.Files, deploy.File{Path: fmt.Sprintf("f%d.js", i), Content: []byte(hello)})
	}
	refused(t, b, many, deploy.CodeTooManyFiles, "10000", "max inline files")
	refused(t, b, inline(map[string]string{"index.js": strings.Repeat("x", 2000)}), deploy.CodeTooLarge, "index.js", "max file bytes")
	total := map[string]string{"index.js": hello}
	for i := range 10 {
		total[fmt.Sprintf("x%d.txt", i)] = strings.Repeat("x", 900)
	}
	refused(t, b, inline(total), deploy.CodeTooLarge, "max total bytes")
	refused(t, b, deploy.Source{}, deploy.CodeNoSource)
	refused(t, b, deploy.Source{ProjectDir: "/x", Files: many.Files[:1]}, deploy.CodeTwoSources)
}

// A file of 200 MB is refused by its size alone: it is a hole on the disk, and reading
// it would show in the time and the memory.
func TestHugeFileIsNotRead(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "index.js", `import x from "./big.js"; export default { fetch() { return new Response(x) } }`)
	f, err := os.Create(filepath.Join(dir, "big.js"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(200 << 20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b := newBundler(t, bundle.Config{Roots: []string{dir}})
	var before, after uint64
	before = heap()
	refused(t, b, deploy.Source{ProjectDir: dir}, deploy.CodeTooLarge, "big.js", "25 MiB", "max file bytes")
	if after = heap(); after > before+50<<20 {
		t.Errorf("allocated %d MiB", (after-before)>>20)
	}
}

func TestRefusesFolders(t *testing.T) {
	top := t.TempDir()
	allowed, outside := filepath.Join(top, "allowed"), filepath.Join(top, "outside")
	write(t, outside, "index.js", hello)
	write(t, allowed, "file.js", hello)
	write(t, allowed, "empty/.keep", "")
	if err := os.Symlink(outside, filepath.Join(allowed, "out")); err != nil {
		t.Fatal(err)
	}
	b := newBundler(t, bundle.Config{Roots: []string{allowed}})
	refused(t, newBundler(t, bundle.Config{}), deploy.Source{ProjectDir: allowed}, deploy.CodeRootNotAllowed, "--root")
	refused(t, b, deploy.Source{ProjectDir: outside}, deploy.CodeRootNotAllowed, "--root")
	refused(t, b, deploy.Source{ProjectDir: allowed + "/../outside"}, deploy.CodeRootNotAllowed)
	refused(t, b, deploy.Source{ProjectDir: "../outside"}, deploy.CodeRootNotAllowed)
	refused(t, b, deploy.Source{ProjectDir: filepath.Join(allowed, "out")}, deploy.CodeRootNotAllowed, "symbolic link")
	refused(t, b, deploy.Source{ProjectDir: filepath.Join(allowed, "nope")}, deploy.CodePathInvalid, "does not exist")
	refused(t, b, deploy.Source{ProjectDir: filepath.Join(allowed, "file.js")}, deploy.CodePathInvalid, "is a file")
	refused(t, b, deploy.Source{ProjectDir: filepath.Join(allowed, "empty")}, deploy.CodeNoEntry, "src/index")
	refused(t, b, deploy.Source{ProjectDir: "a\x00b"}, deploy.CodePathInvalid)
}

func TestLinks(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "root")
	write(t, top, "secret.js", `export default "SECRET-OUTSIDE"`)
	write(t, root, "app/index.js", `import p from "pkg"; export default { fetch() { return new Response(p) } }`)
	write(t, root, "store/pkg@1/node_modules/pkg/index.js", `import d from "dep"; export default "pkg+" + d`)
	write(t, root, "store/pkg@1/node_modules/dep/index.js", `export default "dep"`)
	link(t, "../../store/pkg@1/node_modules/pkg", root, "app/node_modules/pkg")
	b := newBundler(t, bundle.Config{Roots: []string{root}})
	a, err := b.Bundle(t.Context(), deploy.Source{ProjectDir: filepath.Join(root, "app")})
	if err != nil {
		t.Fatal(err)
	}
	if code := string(a.Modules[0].Content); !strings.Contains(code, `"dep"`) || !strings.Contains(code, "// ../store/pkg@1/node_modules/dep/index.js") {
		t.Errorf("pnpm's layout does not work:\n%s", code)
	}
	for name, target := range map[string]string{"relative": "../../secret.js", "absolute": filepath.Join(top, "secret.js"), "loop": "loop.js"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(root, name)
			write(t, dir, "index.js", `import s from "./loop.js"; export default { fetch() { return new Response(s) } }`)
			link(t, target, dir, "loop.js")
			e := refused(t, b, deploy.Source{ProjectDir: dir}, deploy.CodeBuildFailed)
			if text := fmt.Sprint(e, e.Diagnostics); strings.Contains(text, "SECRET") || strings.Contains(text, top) {
				t.Errorf("leaks: %s", text)
			}
		})
	}
	t.Run("entry", func(t *testing.T) {
		link(t, "../../secret.js", root, "entry/index.js")
		refused(t, b, deploy.Source{ProjectDir: filepath.Join(root, "entry"), Entry: "index.js"}, deploy.CodePathInvalid, "link")
		refused(t, b, deploy.Source{ProjectDir: filepath.Join(root, "entry"), Entry: "../../secret.js"}, deploy.CodePathInvalid)
	})
	t.Run("inside, absolute", func(t *testing.T) {
		dir := filepath.Join(root, "abs")
		write(t, dir, "index.js", hello)
		link(t, filepath.Join(root, "app/index.js"), dir, "src/index.js")
		if _, err := b.Bundle(t.Context(), deploy.Source{ProjectDir: dir}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDiagnostics(t *testing.T) {
	b := newBundler(t, bundle.Config{})
	e := refused(t, b, inline(map[string]string{
		"src/index.ts":  "const a = 1;\nimport { x } from \"./helpers.js\";\nimport pg from \"pg\";\nexport default { fetch() { return new Response(x + pg) } }\n",
		"src/helper.ts": "export const x = 1",
	}), deploy.CodeBuildFailed, "src/index.ts:2:19")
	if len(e.Diagnostics) != 2 {
		t.Fatalf("%d rows: %+v", len(e.Diagnostics), e.Diagnostics)
	}
	first, second := e.Diagnostics[0], e.Diagnostics[1]
	if first.File != "src/index.ts" || first.Line != 2 || first.Column != 19 || !strings.Contains(first.SourceLine, "helpers.js") || !strings.Contains(first.Suggestion, "./helper") {
		t.Errorf("%+v", first)
	}
	if second.Line != 3 || !strings.Contains(second.Suggestion, "package.json") {
		t.Errorf("%+v", second)
	}
	e = refused(t, b, inline(map[string]string{"index.js": "export default {\n  fetch( { return 1 }\n}"}), deploy.CodeBuildFailed, "index.js:2:19")
	if len(e.Diagnostics) == 0 || e.Diagnostics[0].SourceLine == "" {
		t.Errorf("%+v", e.Diagnostics)
	}
	src := inline(map[string]string{"index.js": `import fs from "fs"; export default { fetch() { return new Response(fs) } }`})
	src.CompatibilityDate = "2026-01-01"
	if e = refused(t, b, src, deploy.CodeBuildFailed); !strings.Contains(e.Diagnostics[0].Suggestion, "nodejs_compat") {
		t.Errorf("%+v", e.Diagnostics)
	}
	var lots strings.Builder
	for i := range 120 {
		fmt.Fprintf(&lots, "import a%d from \"./missing%d\";\n", i, i)
	}
	e = refused(t, b, inline(map[string]string{"index.js": lots.String() + hello}), deploy.CodeBuildFailed)
	if n := len(e.Diagnostics); n != 51 || e.Diagnostics[50].Text != "and 70 more" {
		t.Errorf("%d rows, last %+v", n, e.Diagnostics[n-1])
	}
}

func TestRefusesOtherFormats(t *testing.T) {
	b := newBundler(t, bundle.Config{})
	refused(t, b, inline(map[string]string{"index.js": `addEventListener("fetch", e => e.respondWith(new Response("x")))`}), deploy.CodeNotSupported, "service-worker", "export default")
	refused(t, b, inline(map[string]string{"index.js": `module.exports = { fetch() {} }`}), deploy.CodeNotSupported, "export default")
	refused(t, b, inline(map[string]string{"src/entry.py": `def x(): pass`}), deploy.CodeNotSupported, "Python")
	refused(t, b, inline(map[string]string{"index.js": hello, "wrangler.toml": "[build]\ncommand = \"rm -rf /\"\n"}), deploy.CodeNotSupported, "build.command")
	for _, name := range []string{"Bad_Name", "-x", "x-", strings.Repeat("a", 64), "a.b", "ü"} {
		src := inline(map[string]string{"index.js": hello})
		src.Name = name
		refused(t, b, src, deploy.CodeNameInvalid, "Use ")
	}
}

func write(t testing.TB, dir, name, content string) {
	t.Helper()
	full := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, target, dir, name string) {
	t.Helper()
	full := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(full); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.Symlink(target, full); err != nil {
		t.Fatal(err)
	}
}
