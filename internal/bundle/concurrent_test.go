package bundle_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// A hundred sessions bundle at once: each gets its own code and nobody else's, and
// memory follows the limit on how many run, not how many ask.
func TestHundredSessions(t *testing.T) {
	b := newBundler(t, bundle.Config{MaxConcurrent: 2})
	var peak atomic.Uint64
	watch, stop := context.WithCancel(t.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for watch.Err() == nil {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse))
			time.Sleep(10 * time.Millisecond)
		}
	})
	filler := strings.Repeat("export const filler = () => { console.log('a line of code that weighs something') };\n", 1)
	var sessions sync.WaitGroup
	for i := range 100 {
		sessions.Go(func() {
			files := map[string]string{"package.json": fmt.Sprintf(`{"name":"session-%d"}`, i), "secret.txt": fmt.Sprintf("secret of %d.", i)}
			var imports strings.Builder
			for k := range 40 {
				files[fmt.Sprintf("src/m%d.ts", k)] = filler + fmt.Sprintf("export const v%d: string = 'module %d of %d.';", k, k, i)
				fmt.Fprintf(&imports, "import { v%d } from './m%d';\n", k, k)
			}
			files["src/index.ts"] = imports.String() + "import s from '../secret.txt';\nexport default { fetch() { return new Response(s + v0 + v39) } }"
			a, err := b.Bundle(t.Context(), inline(files))
			if err != nil {
				t.Error(err)
				return
			}
			if a.Name != fmt.Sprintf("session-%d", i) || !strings.Contains(string(a.Modules[0].Content), fmt.Sprintf("module 39 of %d.", i)) || string(a.Modules[1].Content) != fmt.Sprintf("secret of %d.", i) {
				t.Errorf("session %d got %s: %s", i, a.Name, a.Modules[1].Content)
			}
			for j := range 100 {
				if j != i && strings.Contains(string(a.Modules[0].Content), fmt.Sprintf(" of %d.", j)) {
					t.Errorf("session %d sees %d", i, j)
				}
			}
		})
	}
	sessions.Wait()
	stop()
	watcher.Wait()
	if got := peak.Load() >> 20; got > 150 {
		t.Errorf("the heap grew to %d MiB", got)
	}
	t.Logf("heap at most %d MiB", peak.Load()>>20)
}

func TestCancelAndTimeout(t *testing.T) {
	files := map[string]string{}
	var imports strings.Builder
	for i := range 1500 {
		files[fmt.Sprintf("m%d.ts", i)] = strings.Repeat(fmt.Sprintf("export const v%d = [1, 2, 3].map((x) => x + %d);\n", i, i), 1) + strings.Repeat("console.log({ a: 1, b: [1, 2, 3] });\n", 60)
		fmt.Fprintf(&imports, "import './m%d';\n", i)
	}
	files["index.ts"] = imports.String() + hello
	began := time.Now()
	refused(t, newBundler(t, bundle.Config{Timeout: 20 * time.Millisecond}), inline(files), deploy.CodeTimeout, "limit: timeout")
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the time limit took %s to work", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err := newBundler(t, bundle.Config{}).Bundle(ctx, inline(files))
	if !deploy.IsCode(err, deploy.CodeCancelled) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// Waiting for a turn ends with the call, too.
	b := newBundler(t, bundle.Config{MaxConcurrent: 1})
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = b.Bundle(t.Context(), inline(files)) })
	time.Sleep(30 * time.Millisecond)
	short, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	if _, err := b.Bundle(short, inline(map[string]string{"index.js": hello})); err == nil {
		t.Error("two ran at once")
	}
	wg.Wait()
}

// fiveHundred is a project of 500 modules on the disk.
func fiveHundred(t testing.TB) string {
	dir := t.TempDir()
	var imports, sum strings.Builder
	for i := range 500 {
		next := ""
		if i+10 < 500 {
			next = fmt.Sprintf("import { f%d } from '../d%d/m%d';\n", i+10, (i+10)%10, i+10)
		}
		write(t, dir, fmt.Sprintf("src/d%d/m%d.ts", i%10, i), next+fmt.Sprintf("export interface I%d { a: number }\nexport function f%d(x: I%d): number { return x.a * %d + [1, 2, 3].reduce((p, c) => p + c, 0) }\nexport class C%d { constructor(private v: string) {} get(): string { return this.v + '%d' } }\n", i, i, i, i, i, i))
		fmt.Fprintf(&imports, "import { f%d, C%d } from './d%d/m%d';\n", i, i, i%10, i)
		fmt.Fprintf(&sum, "f%d({ a: 1 }) + new C%d('x').get().length + ", i, i)
	}
	write(t, dir, "src/index.ts", imports.String()+"export default { fetch() { return new Response(String("+sum.String()+"0)) } }")
	write(t, dir, "package.json", `{"name":"five-hundred","type":"module"}`)
	return dir
}

func BenchmarkFiveHundredModules(b *testing.B) {
	dir := fiveHundred(b)
	bu := newBundler(b, bundle.Config{Roots: []string{filepath.Dir(dir)}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bu.Bundle(b.Context(), deploy.Source{ProjectDir: dir}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlainWorkerFolder(b *testing.B) {
	dir := b.TempDir()
	write(b, dir, "src/index.ts", `export default { async fetch(r: Request): Promise<Response> { return new Response("hello") } }`)
	write(b, dir, "wrangler.jsonc", `{"name":"x","main":"src/index.ts","compatibility_date":"2026-11-17"}`)
	bu := newBundler(b, bundle.Config{Roots: []string{dir}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bu.Bundle(b.Context(), deploy.Source{ProjectDir: dir}); err != nil {
			b.Fatal(err)
		}
	}
}
