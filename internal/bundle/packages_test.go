package bundle_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// TestPackages: what the artifact knows of the packages in it, for the rules that see it.
func TestPackages(t *testing.T) {
	a, err := newBundler(t, bundle.Config{}).Bundle(t.Context(), inline(map[string]string{
		"src/index.js": `import { a } from "hono"; import b from "@scope/b/sub"; import c from "alias"; import "unused"; import n from "./n";
export default { fetch: () => new Response(a + b + c + n) }`,
		"src/n.js":                                        "export default 1",
		"package.json":                                    `{"name": "me", "version": "9.9.9"}`,
		"node_modules/hono/package.json":                  `{"name": "hono", "version": "4.6.0", "main": "index.js"}`,
		"node_modules/hono/index.js":                      `import inner from "inner"; export const a = "a" + inner`,
		"node_modules/hono/node_modules/inner/index.js":   `import d from "@scope/b"; export default d + "x"`,
		"node_modules/@scope/b/package.json":              `{"name": "@scope/b", "version": "1.0.0"}`,
		"node_modules/@scope/b/index.js":                  `export default "b"`,
		"node_modules/@scope/b/sub/index.js":              `export default "sub"`,
		"node_modules/alias/package.json":                 `{"name": "real", "version": "2.0.0"}`,
		"node_modules/alias/index.js":                     `export default "c"`,
		"node_modules/unused/package.json":                `{"name": "unused", "version": "3.0.0", "sideEffects": false}`,
		"node_modules/unused/index.js":                    `export default "unused"`,
		"node_modules/never-imported-at-all/package.json": `{"name": "never-imported-at-all", "version": "3.0.0"}`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := []deploy.PackageFact{{Name: "@scope/b", Version: "1.0.0"}, {Name: "alias", Version: "2.0.0"}, {Name: "hono", Version: "4.6.0"}, {Name: "inner"}, {Name: "real", Version: "2.0.0"}}
	if d := cmp.Diff(want, a.Packages); d != "" {
		t.Error(d)
	}
}
