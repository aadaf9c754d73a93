package bundle_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// TestTsconfigOfEachFolder: compiler options are those of the tsconfig closest to each
// file, as in esbuild, and the source map still leads to what was written.
func TestTsconfigOfEachFolder(t *testing.T) {
	a := must(t, newBundler(t, bundle.Config{}), inline(map[string]string{
		"wrangler.jsonc":      `{"name": "mono", "main": "src/index.tsx", "compatibility_date": "2026-08-01"}`,
		"tsconfig.json":       `{"compilerOptions": {"jsx": "react", "jsxFactory": "outer"}}`,
		"src/index.tsx":       `import { inner } from "../lib/inner"; const outer = (n: string) => "outer " + n; export default { fetch: () => new Response(<a /> + inner) };`,
		"lib/tsconfig.json":   `{"compilerOptions": {"jsx": "react", "jsxFactory": "h"}}`,
		"lib/inner.tsx":       `const h = (n: string): string => "inner " + n;` + "\n" + `export const inner = <b />;`,
		"lib/deep/unused.tsx": `x`,
	}))
	code := string(a.Modules[0].Content)
	if !strings.Contains(code, `outer("a"`) || !strings.Contains(code, `h("b"`) {
		t.Errorf("%s", code)
	}
	var m struct{ Sources []string }
	if err := json.Unmarshal(a.SourceMap(a.MainModule), &m); err != nil || strings.Join(m.Sources, " ") != "lib/inner.tsx src/index.tsx" {
		t.Errorf("%v %v", m.Sources, err)
	}
	refused(t, newBundler(t, bundle.Config{}), inline(map[string]string{
		"index.ts": `import "./lib/x"; export default {};`, "lib/tsconfig.json": `{"compilerOptions": {"experimentalDecorators": true}}`, "lib/x.ts": "const = 1;",
	}), deploy.CodeBuildFailed, "lib/x.ts:1:")
}

// TestUnbundledSourceMaps: maps next to the files of no_bundle go with them.
func TestUnbundledSourceMaps(t *testing.T) {
	files := map[string]string{
		"wrangler.jsonc":      `{"name": "n", "main": "dist/index.js", "compatibility_date": "2026-08-01", "no_bundle": true, "rules": [{"type": "ESModule", "globs": ["**/*.js"]}]}`,
		"dist/index.js":       "import './lib/a.js';\nexport default {};\n//# sourceMappingURL=index.js.map\n",
		"dist/index.js.map":   `{"version":3,"sources":["../src/index.ts"],"mappings":"AAAA","names":[]}`,
		"dist/lib/a.js":       "export {};\n//# sourceMappingURL=maps/a.map",
		"dist/lib/maps/a.map": `{"version":3,"sourceRoot":"../../../src","sources":["a.ts"],"mappings":"","names":[]}`,
		"dist/lib/b.js":       "export {};\n//# sourceMappingURL=../../../../etc/passwd",
		"dist/lib/c.js":       "export {};\n//# sourceMappingURL=data:application/json;base64,e30=",
	}
	b := newBundler(t, bundle.Config{})
	a := must(t, b, inline(files))
	for module, source := range map[string]string{"index.js": "src/index.ts", "lib/a.js": "src/a.ts"} {
		var m struct {
			Sources []string
			File    string
		}
		if err := json.Unmarshal(a.SourceMap(module), &m); err != nil || len(m.Sources) != 1 || m.Sources[0] != source || m.File != module {
			t.Errorf("%s: %v %+v", module, err, m)
		}
	}
	if len(a.Modules) != 6 {
		t.Errorf("%d modules", len(a.Modules))
	}
	files["wrangler.jsonc"] = strings.Replace(files["wrangler.jsonc"], `"no_bundle"`, `"upload_source_maps": true, "no_bundle"`, 1)
	refused(t, b, inline(files), deploy.CodeConfigInvalid, "upload_source_maps", "lib/b.js")
	files["wrangler.jsonc"] = strings.Replace(files["wrangler.jsonc"], `true, "no`, `false, "no`, 1)
	if a := must(t, b, inline(files)); len(a.Modules) != 4 {
		t.Errorf("%d modules", len(a.Modules))
	}
}

// TestInstallationsAge: without a lock file an installation is made anew after a while;
// what was left behind, and what there is no room for, goes.
func TestInstallationsAge(t *testing.T) {
	cache := t.TempDir()
	r := newRegistry(t)
	r.add("thing", map[string]any{"main": "main.js"}, map[string]string{"main.js": `export default "thing"`})
	b := npmBundler(t, r, func(c *bundle.Config) { c.CacheDir, c.MaxCacheBytes = cache, 1 })
	src := withPackages(`{"thing":"^1.0.0"}`, nil)
	only := func() string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(cache, "npm-*", "complete"))
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		return found[0]
	}
	must(t, b, src)
	complete := only()
	first, _ := os.Stat(complete)
	long := time.Now().Add(-48 * time.Hour)
	left := filepath.Join(cache, "installing-left")
	unused := filepath.Join(cache, "npm-unused")
	for _, dir := range []string{left, unused} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "x"), []byte("0123456789"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(dir, long, long); err != nil {
			t.Fatal(err)
		}
	}
	must(t, b, src)
	if again, _ := os.Stat(only()); !again.ModTime().Equal(first.ModTime()) {
		t.Error("it was installed again at once")
	}
	if err := os.Chtimes(complete, long, long); err != nil {
		t.Fatal(err)
	}
	must(t, b, src)
	if again, _ := os.Stat(only()); time.Since(again.ModTime()) > time.Hour {
		t.Error("it was not installed again after two days")
	}
	for _, dir := range []string{left, unused} {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is still there", filepath.Base(dir))
		}
	}
	// An old installation is better than none.
	if err := os.Chtimes(complete, long, long); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := os.RemoveAll(filepath.Join(cache, "npm-cache")); err != nil { // what npm itself falls back to
		t.Fatal(err)
	}
	a := must(t, b, src)
	if told := strings.Join(a.Warnings, "\n"); !strings.Contains(told, "installed earlier") {
		t.Errorf("warnings %q", told)
	}
	only()
	// Without any, the advice is not about package.json.
	_, err := npmBundler(t, r, func(*bundle.Config) {}).Bundle(t.Context(), src)
	if e := deploy.AsError(err); err == nil || !strings.Contains(e.Next, "try again in a minute") {
		t.Errorf("%v, next %q", err, e.Next)
	}
}
