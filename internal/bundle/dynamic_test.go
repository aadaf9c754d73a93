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

// hostile are entries that make esbuild, left alone, look at the disk outside the
// project, or quote what it finds there. OUT is the path of a folder outside.
func hostile() map[string]string {
	up := strings.Repeat("../", 40)
	entry := func(s string) string {
		return s + "\nexport default { fetch(r) { return new Response(String(globalThis.x)) } };\n"
	}
	return map[string]string{
		"template":          entry("const n = globalThis.n; globalThis.x = await import(`" + "./" + up + "OUT/${n}.js`);"),
		"concat":            entry("const n = globalThis.n; globalThis.x = await import('./" + up + "OUT/' + n);"),
		"comment":           entry("const n = globalThis.n; globalThis.x = await import/* a */ ( // b\n /* c */ './" + up + "OUT/' + n);"),
		"non-breaking":      entry("const n = globalThis.n; globalThis.x = await import\u00a0\u2003\ufeff('./" + up + "OUT/' + n);"),
		"html comment":      "export {};\n" + entry("const n = globalThis.n; var require; globalThis.x = import\n/**/(`./"+up+"OUT/${n}`);"),
		"folded escape":     entry("const n = globalThis.n; globalThis.x = await import('\\x2e/' + '" + up + "OUT/' + n);"),
		"folded constant":   entry("const up = './" + up + "OUT/'; const n = globalThis.n; globalThis.x = await import(up + n);"),
		"conditional":       entry("const n = globalThis.n; globalThis.x = await import(n ? './a.js' : './" + up + "OUT/' + n);"),
		"attributes":        entry("const n = globalThis.n; globalThis.x = await import('./" + up + "OUT/' + n, { with: { type: 'json' } });"),
		"require":           entry("const n = globalThis.n; globalThis.x = require('./" + up + "OUT/' + n);"),
		"require escaped":   entry("const n = globalThis.n; globalThis.x = requ\\u0069re('./" + up + "OUT/' + n);"),
		"require escaped 2": entry("const n = globalThis.n; globalThis.x = \\u{00072}equire('./" + up + "OUT/' + n);"),
		"require in parens": entry("const n = globalThis.n; globalThis.x = (require)('./" + up + "OUT/' + n);"),
		"module.require":    entry("const n = globalThis.n; globalThis.x = module.require('./" + up + "OUT/' + n);"),
		"ts non-null":       entry("const n: any = (globalThis as any).n; (globalThis as any).x = require!('./" + up + "OUT/' + n);"),
		"ts cast":           entry("const n: any = (globalThis as any).n; (globalThis as any).x = (require as any)('./" + up + "OUT/' + n);"),
		"ts generic":        entry("const n: any = (globalThis as any).n; (globalThis as any).x = require<any>('./" + up + "OUT/' + n);"),
		"ts enum":           entry("enum E { a = '../../', b = `${a}${a}`, c = `./${b}${b}${b}${b}${b}${b}${b}OUT/` } const n: any = (globalThis as any).n; (globalThis as any).x = await import(E.c + n);"),
		"relative":          entry("import s from './" + up + "OUT/secret.js'; globalThis.x = s;"),
		"absolute":          entry("import s from '/OUT/secret.js'; globalThis.x = s;"),
		"file URL":          entry("import s from 'file:///OUT/secret.js'; globalThis.x = s;"),
		"text":              entry("import s from '/OUT/secret.txt'; globalThis.x = s;"),
		"text relative":     entry("import s from './" + up + "OUT/secret.txt'; globalThis.x = s;"),
		"map comment":       entry("globalThis.x = 1;") + "//# sourceMappingURL=file:///OUT/secret.map\n",
		"map comment 2":     entry("globalThis.x = 1;") + "/*# sourceMappingURL=../../../../../../../../OUT/secret.map */",
		"map sources":       entry("globalThis.x = 1;") + `//# sourceMappingURL=data:application/json,{"version":3,"sources":["file:///OUT/secret.js"],"names":[],"mappings":"AAAA"}` + "\n",
		"css url":           entry("import './x.css'; globalThis.x = 1;"),
		"data url":          entry("import s from 'data:text/javascript,import%20s%20from%20%22/OUT/secret.js%22;export%20default%20s'; globalThis.x = s;"),
		"package":           entry("import s from 'evil'; globalThis.x = s;"),
		"package main":      entry("import s from 'evil-main'; globalThis.x = s;"),
		"package browser":   entry("import s from 'evil-browser'; globalThis.x = s;"),
		"package imports":   entry("import s from '#evil'; globalThis.x = s;"),
		"dot dot package":   entry("import s from 'evil/../../" + up + "OUT/secret.js'; globalThis.x = s;"),
	}
}

func hostileProject(t testing.TB, dir, outside, code string, typescript bool) {
	t.Helper()
	out := strings.TrimPrefix(filepath.ToSlash(outside), "/")
	fill := func(s string) string { return strings.ReplaceAll(s, "OUT", out) }
	name := "index.js"
	if typescript {
		name = "index.ts"
	}
	up := strings.Repeat("../", 40)
	write(t, dir, name, fill(code))
	write(t, dir, "a.js", "export default 1")
	write(t, dir, "x.css", fill("@import '/OUT/secret.css'; @import './"+up+"OUT/secret.css'; a { background: url(file:///OUT/secret.png) }\n/*# sourceMappingURL=file:///OUT/secret.map */"))
	write(t, dir, "tsconfig.json", fill(`{"extends":["/OUT/tsconfig.json","./`+up+`OUT/tsconfig.json","../outside/tsconfig.json"],"compilerOptions":{"baseUrl":"./`+up+`OUT","paths":{"secret":["/OUT/secret.js","`+up+`OUT/secret.js"]}}}`))
	write(t, dir, "package.json", fill(`{"name":"x","imports":{"#evil":"./`+up+`OUT/secret.js"},"browser":{"./a.js":"./`+up+`OUT/secret.js"}}`))
	write(t, dir, "node_modules/evil/package.json", fill(`{"name":"evil","exports":{".":"./`+up+`OUT/secret.js"}}`))
	write(t, dir, "node_modules/evil-main/package.json", fill(`{"name":"evil-main","main":"/OUT/secret.js","module":"`+up+`OUT/secret.js"}`))
	write(t, dir, "node_modules/evil-browser/package.json", fill(`{"name":"evil-browser","browser":{"./index.js":"`+up+`OUT/secret.js"}}`))
	write(t, dir, "node_modules/evil-browser/index.js", "export default 1")
}

func secretFolder(t testing.TB) string {
	t.Helper()
	outside, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	outside = filepath.Join(outside, "outside")
	for _, name := range []string{"secret.js", "secret.css", "secret.txt", "secret.map", "tsconfig.json"} {
		write(t, outside, name, "THE-SECRET-LINE")
	}
	return outside
}

// Nothing outside the root gets into the bundle, the source map or a message.
func TestHostileProjects(t *testing.T) {
	outside := secretFolder(t)
	for name, code := range hostile() {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(filepath.Dir(outside), "root-"+strings.ReplaceAll(name, " ", "-"))
			hostileProject(t, filepath.Join(root, "app"), outside, code, strings.HasPrefix(name, "ts "))
			b := newBundler(t, bundle.Config{Roots: []string{root}})
			for _, minify := range []bool{false, true} {
				a, err := b.Bundle(t.Context(), deploy.Source{ProjectDir: filepath.Join(root, "app"), Minify: minify})
				var text strings.Builder
				if err != nil {
					e := deploy.AsError(err)
					fmt.Fprint(&text, e.Message, e.Next, e.Diagnostics, e.Cause)
				} else {
					for _, m := range a.Modules {
						text.Write(m.Content)
					}
					fmt.Fprint(&text, a.Diagnostics, a.Warnings, a.Largest)
				}
				if strings.Contains(text.String(), "THE-SECRET") || strings.Contains(text.String(), "secret.txt\"") && !strings.Contains(code, "secret.txt") {
					t.Errorf("what lies outside shows:\n%s", text.String())
				}
			}
		})
	}
}

func TestGlobImports(t *testing.T) {
	b := newBundler(t, bundle.Config{})
	a := must(t, b, inline(map[string]string{
		"src/index.ts":    "const load = (l: string) => import(`./lang/${l}.js`); const old = (x) => require('./cjs/' + x); const any = (u) => import(u);\nexport default { async fetch(r) { return new Response((await load('en')).default + old('a.js') + any) } }",
		"src/lang/en.js":  "export default 'english'",
		"src/lang/de.js":  "export default 'deutsch'",
		"src/lang/x.json": "{}",
		"src/cjs/a.js":    "module.exports = 'cjs-a'",
		"src/cjs/d/b.js":  "module.exports = 'cjs-b'",
	}))
	code := string(a.Modules[0].Content)
	for _, w := range []string{"english", "deutsch", "cjs-a", "cjs-b", `"./lang/en.js": `} {
		if !strings.Contains(code, w) {
			t.Errorf("no %s in\n%s", w, code)
		}
	}
}

func TestDeviceAndPipe(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "index.js", `import x from "./p.js"; export default { fetch() { return new Response(x) } }`)
	if err := mkfifo(filepath.Join(dir, "p.js")); err != nil {
		t.Skip(err)
	}
	b := newBundler(t, bundle.Config{Roots: []string{dir}})
	refused(t, b, deploy.Source{ProjectDir: dir}, deploy.CodeBuildFailed)
	if err := os.Remove(filepath.Join(dir, "p.js")); err != nil {
		t.Fatal(err)
	}
	link(t, "/dev/zero", dir, "p.js")
	refused(t, b, deploy.Source{ProjectDir: dir}, deploy.CodeBuildFailed)
}
