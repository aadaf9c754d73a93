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

const worksFine = "export default { fetch() { return new Response(\"x\") } };\n"

// Nesting that would use up the stack, which ends the whole process, or that would be
// printed as gigabytes of indentation: refused by name, in every language there is.
func TestRefusesDeepNesting(t *testing.T) {
	const n = 400_000
	r := strings.Repeat
	b := newBundler(t, bundle.Config{})
	for name, c := range map[string]struct {
		file, text string
		ok         bool // bundles
	}{
		"parentheses":  {"index.js", worksFine + r("(", n) + "1" + r(")", n), false},
		"brackets":     {"index.js", worksFine + r("[", n), false},
		"blocks":       {"index.js", worksFine + r("{", 20_000) + r("}", 20_000), false},
		"few blocks":   {"index.js", worksFine + r("{", 3000) + r("}", 3000), false},
		"negations":    {"index.js", worksFine + "x=" + r("!", n) + "1", false},
		"arrows":       {"index.ts", worksFine + r("a=>", n) + "1", false},
		"assignments":  {"index.js", worksFine + r("a=", n) + "1", false},
		"conditions":   {"index.js", worksFine + r("a?b:", n) + "1", false},
		"else if":      {"index.mjs", worksFine + r("if(a)b();else ", n) + "c()", false},
		"members":      {"index.js", worksFine + "a" + r(".b", n), false},
		"calls":        {"index.js", worksFine + "a" + r("()", n), false},
		"templates":    {"index.js", worksFine + r("`${", n), false},
		"JSX":          {"index.tsx", worksFine + "x=" + r("<a>", n), false},
		"sums":         {"index.js", worksFine + "x=" + r("a+", n/10) + "1", true}, // a loop in esbuild
		"wide":         {"index.js", worksFine + "x=[" + r("{a:[1,(2)]},", 20_000) + "]", true},
		"deep enough":  {"index.js", worksFine + "x=" + r("[", 300) + r("]", 300), true},
		"else if, 500": {"index.js", worksFine + r("if(a)b();else ", 500) + "c()", true},
	} {
		t.Run(name, func(t *testing.T) {
			refusesNesting(t, b, inline(map[string]string{c.file: c.text}), c.file, c.ok)
		})
	}
	for name, c := range map[string]struct{ importer, file, text string }{
		"JSON module":   {"import x from \"./x.json\"; console.log(x);" + worksFine, "x.json", r("[", n) + r("]", n)},
		"JSON indented": {"import x from \"./x.json\"; console.log(x);" + worksFine, "x.json", r("{\n\"a\":", 4000) + "1" + r("}", 4000)},
		"CSS":           {"import \"./x.css\";" + worksFine, "x.css", r("a{", n) + r("}", n)},
		"no_bundle":     {r("(", n) + worksFine, "wrangler.json", `{"name": "x", "main": "index.js", "no_bundle": true, "compatibility_date": "2026-08-01"}`},
	} {
		t.Run(name, func(t *testing.T) {
			guilty := c.file
			if c.file == "wrangler.json" {
				guilty = "index.js"
			}
			refusesNesting(t, b, inline(map[string]string{"index.js": c.importer, c.file: c.text}), guilty, false)
		})
	}
}

func refusesNesting(t *testing.T, b *bundle.Bundler, src deploy.Source, file string, fine bool) {
	t.Helper()
	_, err := b.Bundle(t.Context(), src)
	if fine {
		if err != nil {
			t.Error(err)
		}
		return
	}
	e := deploy.AsError(err)
	if err == nil || e.Code != deploy.CodeBuildFailed || !strings.Contains(e.Message, file+" is nested so deeply") && !strings.Contains(e.Message, file+" is nested too deeply") || e.Next == "" {
		t.Errorf("%+v", e)
	}
}

// What is read of configurations and esbuild's settings can't be nested too deeply either.
func TestRefusesDeepSettings(t *testing.T) {
	const n = 4_000_000
	r := strings.Repeat
	b := newBundler(t, bundle.Config{})
	for name, c := range map[string]struct{ file, text, want string }{
		"jsonc":       {"wrangler.jsonc", r("[", 100_000), "nested too deeply"},
		"jsonc, huge": {"wrangler.jsonc", r("[", n), "a configuration has at most"},
		"json":        {"wrangler.json", "// \"\n/* [ */" + r(`{"a\"[[[":`, 100_000), "nested too deeply"},
		"toml":        {"wrangler.toml", "a = " + r("[", 100_000), "nested"},
		"toml keys":   {"wrangler.toml", r("a.", 100_000) + "a = 1", "nested too deeply"},
		"toml, huge":  {"wrangler.toml", r("a.", n) + "a = 1", "a configuration has at most"},
		"redirect":    {".wrangler/deploy/config.json", r("[", n), "must be an object"},
		"package":     {"package.json", r(`{"a":`, n), "nested too deeply"},
		"define":      {"wrangler.json", `{"name": "x", "compatibility_date": "2026-08-01", "define": {"X": "` + r("[", 500_000) + `"}}`, "define.X"},
		"jsx_factory": {"wrangler.json", `{"name": "x", "compatibility_date": "2026-08-01", "jsx_factory": "a` + r(".b", 200_000) + `"}`, "jsx_factory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.Bundle(t.Context(), inline(map[string]string{"index.js": worksFine, c.file: c.text}))
			if e := deploy.AsError(err); err == nil || e.Code != deploy.CodeConfigInvalid || !strings.Contains(e.Message, c.want) || e.Next == "" {
				t.Errorf("%+v", e)
			}
		})
	}
	// As in esbuild, a tsconfig that can't be read is passed over with a warning.
	for name, text := range map[string]string{
		"tsconfig":   r(`{"compilerOptions":`, n/4),
		"jsxFactory": `{"compilerOptions": {"jsxFactory": "a` + r(".b", 400_000) + `"}}`,
	} {
		if _, err := b.Bundle(t.Context(), inline(map[string]string{"index.tsx": "const x = <a/>;" + worksFine, "tsconfig.json": text})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Without a checker only what can't be dangerous is taken; with one that is gone the
// answer is no.
func TestNestingNeedsChecker(t *testing.T) {
	large := inline(map[string]string{"index.js": worksFine + strings.Repeat("f();\n", 10_000)})
	if _, err := newBundler(t, bundle.Config{}).Bundle(t.Context(), large); err != nil {
		t.Error(err)
	}
	for _, command := range [][]string{nil, {filepath.Join(t.TempDir(), "gone")}} {
		b, err := bundle.New(bundle.Config{Checker: command})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Bundle(t.Context(), large); err == nil {
			t.Errorf("%q: taken", command)
		}
		if _, err := b.Bundle(t.Context(), inline(map[string]string{"index.js": worksFine})); err != nil {
			t.Error(err)
		}
	}
}

// Many tsconfig files that extend each other, cycles among them, are each read a
// bounded number of times; so are package.json maps that lead in circles.
func TestCycles(t *testing.T) {
	b := newBundler(t, bundle.Config{})
	list := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("\"./t%d.json\"", i))
		}
		return strings.Join(all, ",")
	}
	files := map[string]string{
		"tsconfig.json": `{"extends": [` + list(20) + `], "compilerOptions": {"paths": {"*": ["./*", "./src/*"], "@/*": ["./@/*"]}}}`,
		"src/index.ts":  `import { a } from "self/a"; import b from "#b"; import c from "round"; export default { fetch() { return new Response(a + b + c) } }`,
		"src/a.ts":      `export const a = "a";`, "src/b.ts": `export default "b";`,
		"package.json":                    `{"name": "self", "exports": {"./a": {"worker": [{"nothing": "./none.ts"}, null, "./src/a.ts"]}}, "imports": {"#b": "#c", "#c": "./src/b.ts"}}`,
		"node_modules/round/package.json": `{"name": "round", "browser": {"./x.js": "./y.js", "./y.js": "./x.js"}, "main": "./x.js", "exports": {".": {"default": {"default": {"default": "./index.js"}}}}}`,
		"node_modules/round/index.js":     `export default require("./x.js")`,
		"node_modules/round/x.js":         `module.exports = require("./y.js")`,
		"node_modules/round/y.js":         `module.exports = "c"`,
	}
	for i := range 20 {
		files[fmt.Sprintf("t%d.json", i)] = `{"extends": ["./tsconfig.json",` + list(20) + `]}`
	}
	_, err := b.Bundle(t.Context(), inline(files))
	if e := deploy.AsError(err); err == nil || e.Code != deploy.CodeBuildFailed || !strings.Contains(e.Message, "#b") {
		t.Errorf("%v", err) // "#b" leads to "#c", which package.json may not
	}
	files["package.json"] = strings.Replace(files["package.json"], `"#c",`, `"./src/b.ts",`, 1)
	if _, err := b.Bundle(t.Context(), inline(files)); err != nil {
		t.Error(err)
	}
}

// Names of any writing, of files and folders, on the disk and in a table of import().
func TestUnicodeNames(t *testing.T) {
	dir := t.TempDir()
	names := []string{"żółć", "日本語", "👩‍👩‍👧", "e\u0301", "a b", "a'b", "a\"b", "a$b`", "\u202eevil", "\u00a0", "\U000e0001", "\a", "x\u2028y", "x\ny", "%41", "#h?q"}
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n+".js"), []byte("export default 1"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entry := "const l = (x) => import(`./${x}.js`); export default { fetch() { return l(\"x\") } }"
	if err := os.WriteFile(filepath.Join(dir, "index.js"), []byte(entry), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBundler(t, bundle.Config{Roots: []string{dir}})
	a, err := b.Bundle(t.Context(), deploy.Source{ProjectDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range a.Diagnostics {
		t.Errorf("%+v", d)
	}
	text := string(a.Modules[0].Content)
	for _, n := range names {
		if n == "#h?q" {
			continue
		}
		if !strings.Contains(text, "// "+n+".js\n") && !strings.ContainsAny(n, "\n\u2028") {
			t.Errorf("%q is not in the bundle", n)
		}
	}
}
