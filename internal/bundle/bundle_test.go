package bundle_test

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// TestMain makes the test's program one that checks nesting, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == bundle.CheckCommand {
		if bundle.ServeChecks(os.Stdin, os.Stdout) != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func newBundler(t testing.TB, cfg bundle.Config) *bundle.Bundler {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Checker = []string{self, bundle.CheckCommand}
	b, err := bundle.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func inline(files map[string]string) deploy.Source {
	var src deploy.Source
	for name, content := range files {
		src.Files = append(src.Files, deploy.File{Path: name, Content: []byte(content)})
	}
	return src
}

func TestSmoke(t *testing.T) {
	b := newBundler(t, bundle.Config{})
	a, err := b.Bundle(t.Context(), inline(map[string]string{
		"src/index.ts": `import { greet } from "./lib"; import text from "./hello.txt"; import data from "../d.json"; import {Hono} from "hono"; import fs from "node:fs";
export default { async fetch(r: Request): Promise<Response> { class Foo{}; return new Response(greet(text) + JSON.stringify(data) + Foo.name + new Hono().x + fs) } }`,
		"src/lib.ts":                     `export function greet(s: string) { return "hi " + s }`,
		"src/hello.txt":                  "hello",
		"d.json":                         `{"a":1}`,
		"package.json":                   `{"name":"@me/My Thing","type":"module"}`,
		"node_modules/hono/package.json": `{"name":"hono","main":"./index.js","sideEffects":false}`,
		"node_modules/hono/index.js":     `exports.__esModule = true; exports.Hono = class Hono { x = 1 }`,
	}))
	if err != nil {
		t.Fatalf("%+v %+v", err, deploy.AsError(err).Diagnostics)
	}
	for _, m := range a.Modules {
		t.Logf("== %s %s\n%s", m.Name, m.Type, m.Content)
	}
	t.Logf("%+v", a.Warnings)
	t.Logf("%+v %d %d", a.Largest, a.Bytes, a.GzipBytes)
	if strings.Contains(string(a.Modules[0].Content), "hourglass-") {
		t.Error("a name of ours is left in the code")
	}
}

func BenchmarkPlainWorker(b *testing.B) {
	bu := newBundler(b, bundle.Config{})
	src := inline(map[string]string{"src/index.ts": `export default { async fetch(r: Request): Promise<Response> { return new Response("hello") } }`})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bu.Bundle(b.Context(), src); err != nil {
			b.Fatal(err)
		}
	}
}

// heap is how much was ever allocated, in bytes.
func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
