package workerd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

const counterWorker = `import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject {
  async next() { const n = ((await this.ctx.storage.get("n")) ?? 0) + 1; await this.ctx.storage.put("n", n); return n; }
}
export default { async fetch(r, env) { return new Response(String(await env.COUNTER.getByName("x").next())); } };`

// Durable Objects keep their data over processes; two Workers share a class, and
// another key is another namespace.
func TestObjects(t *testing.T) {
	storage := filepath.Join(t.TempDir(), "objects")
	if err := os.Mkdir(storage, 0o700); err != nil {
		t.Fatal(err)
	}
	owner := workerd.Worker{
		Name: "owner", MainModule: "i.js", CompatibilityDate: "2026-11-01", Storage: storage,
		Modules:  []workerd.Module{{Name: "i.js", Type: "application/javascript+module", Content: []byte(counterWorker)}},
		Classes:  []workerd.Class{{Name: "Counter", Key: "k1"}},
		Bindings: []workerd.Binding{{Name: "COUNTER", Kind: workerd.Objects, Class: "Counter"}},
	}
	other := workerd.Worker{
		Name: "other", MainModule: "i.js", CompatibilityDate: "2026-11-01",
		Modules:  []workerd.Module{{Name: "i.js", Type: "application/javascript+module", Content: []byte(`export default { async fetch(r, env) { return new Response("o" + await env.C.getByName("x").next()); } };`)}},
		Bindings: []workerd.Binding{{Name: "C", Kind: workerd.Objects, Class: "Counter", Worker: "owner"}},
	}
	run := func(key string, asks ...string) string {
		owner.Classes[0].Key = key
		p, err := workerd.Start(t.Context(), workerd.Config{Binary: binary(t), Workers: []workerd.Worker{owner, other}})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Stop(t.Context())
		out := []string{}
		for _, w := range asks {
			_, body := get(t, p, w, "http://w.example/")
			out = append(out, body)
		}
		return strings.Join(out, " ")
	}
	if got := run("k1", "owner", "owner", "other"); got != "1 2 o3" {
		t.Errorf("got %q", got)
	}
	if got := run("k1", "owner"); got != "4" {
		t.Errorf("after a restart: got %q", got)
	}
	if got := run("k2", "owner"); got != "1" {
		t.Errorf("under another key: got %q", got)
	}
	report, err := workerd.Inspect(t.Context(), workerd.Config{Binary: binary(t), Workers: []workerd.Worker{owner, other}})
	if err != nil || len(report.DurableObjects) != 1 || report.DurableObjects[0] != "Counter" {
		t.Errorf("inspect: %+v, %v", report, err)
	}
}
