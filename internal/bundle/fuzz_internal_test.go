package bundle

import (
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

const fuzzEntry = `export default { fetch() { return new Response("x") } }`

// fuzzBundle bundles a project; whatever it is, the answer comes soon and is an
// artifact or an error with advice.
func fuzzBundle(t *testing.T, files ...deploy.File) {
	t.Helper()
	b, err := New(Config{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.Bundle(t.Context(), deploy.Source{Files: files})
	if err == nil {
		if a.Digest == "" || a.Name == "" || len(a.Name) > maxName || !goodName.MatchString(a.Name) {
			t.Errorf("an artifact %q with digest %q", a.Name, a.Digest)
		}
		return
	}
	if e := deploy.AsError(err); e.Code == deploy.CodeInternal || e.Code == deploy.CodeTimeout || e.Next == "" {
		t.Errorf("%+v cause %v", e, e.Cause)
	}
}

func FuzzSettings(f *testing.F) {
	for i, s := range []string{
		`{"name":"x","main":"index.js","vars":{"A":[1,{"b":null}]},"rules":[{"type":"Text","globs":["**/*.md"],"fallthrough":true}]}`,
		`{/* c */ "compatibility_date":"2026-11-17","assets":{"directory":".","run_worker_first":["/a","!/b"]},"env":{"e":{"vars":{}}},}`,
		"name = \"x\"\nmain = \"index.js\"\ncompatibility_date = 2026-01-02\n[vars]\nA = 1979-05-27T07:32:00Z\n[[rules]]\ntype = \"Data\"\nglobs = [\"*\"]\n",
		`{"no_bundle":true,"base_dir":"..","find_additional_modules":true,"alias":{"a":"../../b"},"define":{"A":"b.c"},"tsconfig":"index.js"}`,
		`{"main":"../../../etc/passwd"}`, `[`, `{"assets":7,"env":[]}`, `{"services":[7],"version_metadata":[],"secrets":{"required":[1]}}`,
	} {
		f.Add(i%3, []byte(s))
	}
	f.Fuzz(func(t *testing.T, format int, text []byte) {
		name := []string{"wrangler.json", "wrangler.jsonc", "wrangler.toml"}[max(0, format)%3]
		fuzzBundle(t, deploy.File{Path: name, Content: text}, deploy.File{Path: "index.js", Content: []byte(fuzzEntry)}, deploy.File{Path: "public/a.txt", Content: []byte("a")})
	})
}

func FuzzFiles(f *testing.F) {
	f.Add("src/a.ts", "export const a = 1", "./src/a")
	f.Add("package.json", `{"type":"module","imports":{"#a":{"default":["./x",null]}},"browser":{"./a":false}}`, "#a")
	f.Add("tsconfig.json", `{"extends":"./tsconfig.json","compilerOptions":{"paths":{"*":["*"]},"baseUrl":"../.."}}`, "x")
	f.Add("node_modules/p/package.json", `{"exports":{"./*/":"./*/","./a*b":"./*"},"main":"..","module":"/"}`, "p/a1b")
	f.Add("a/../b", "", "../../..")
	f.Add("x.css", "@import url(../../../etc/passwd); a{background:url(data:x)}", "./x.css")
	f.Add("deep/dir/x.wasm", "\x00asm", "./deep/dir/x.wasm?module")
	f.Fuzz(func(t *testing.T, name, content, spec string) {
		if strings.HasPrefix(path.Base(name), "package.json") && path.Dir(path.Clean(name)) == "." && strings.Contains(content, "ependencies") {
			return // would install
		}
		spec = strings.NewReplacer("\\", "", "\n", "", "\"", "").Replace(spec)
		entry := "import * as x from \"" + spec + "\"; import \"./" + spec + "\"; const l = (n) => import(`./" + strings.NewReplacer("`", "", "$", "").Replace(spec) + "/${n}`); export default { fetch() { return new Response(x + l) } }"
		fuzzBundle(t, deploy.File{Path: name, Content: []byte(content)}, deploy.File{Path: "index.js", Content: []byte(entry)})
	})
}

func FuzzGlobs(f *testing.F) {
	for _, g := range []string{"**/*.txt", "*", "**", "a/**/b", "[a-z]?.js", "{a,b}", "a**b", "\\", "(", "/**", "**/"} {
		f.Add(g, "a/b/c.txt")
	}
	f.Fuzz(func(t *testing.T, glob, name string) {
		if len(glob) > 1000 {
			return
		}
		set, err := newRuleSet([]rule{{kind: "Text", globs: []string{glob}}})
		if err != nil {
			return // not UTF-8
		}
		set.forImport(name, true)
		set.forFile(name)
		if re, err := regexp.Compile(globRegexp(glob, true, false)); err == nil && !strings.ContainsAny(glob, "*") && !re.MatchString(glob) {
			t.Errorf("%q does not match itself", glob)
		}
		parseIgnore(glob).match(name)
	})
}

// FuzzDynamic looks for code in which esbuild sees a computed import() or require()
// but mayBeDynamic doesn't: such code would make esbuild list folders of the disk.
func FuzzDynamic(f *testing.F) {
	for _, s := range []string{
		"import(`./${a}`)", "require('./' + a)", "import/**/('./'+a)", "import\n//x\n(a)", "(require)(a)", "requ\\u0069re(a)", "import('a', b)", "require('a', b)",
		"x = { import(a) {}, require: require }", "import.meta(a)", "import x from 'y'; require('z')", "module.require(a)", "<!-- import\nimport(a)", "import\u00a0(a)", "require?.(a)",
		"`${import(a)}`", "/import(/.test(require(a))", "typeof require(a)", "import <!-- \n(a)", "import -->\n(a)", "require\u2028(a)",
	} {
		f.Add(s, 0)
	}
	kinds := []api.Loader{api.LoaderJSX, api.LoaderTS, api.LoaderTSX, api.LoaderJS}
	f.Fuzz(func(t *testing.T, code string, kind int) {
		if mayBeDynamic(code) {
			return
		}
		for _, minify := range []bool{false, true} {
			res := api.Transform(code, api.TransformOptions{
				Loader: kinds[max(0, kind)%len(kinds)], Format: api.FormatESModule, MinifySyntax: minify, TsconfigRaw: "{}", LogLevel: api.LogLevelSilent,
				LogOverride: map[string]api.LogLevel{"unsupported-dynamic-import": api.LogLevelWarning, "unsupported-require-call": api.LogLevelWarning},
			})
			for _, w := range res.Warnings {
				if len(res.Errors) == 0 && strings.Contains(w.Text, dynamicText) {
					t.Errorf("%q: %s", code, w.Text)
				}
			}
		}
	})
}
