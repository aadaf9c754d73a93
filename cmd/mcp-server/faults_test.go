package main_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/sandbox"
)

// TestMildFaults: what an API does now and then is not the agent's business: every
// deployment comes out live, on one account, with its resources made once.
func TestMildFaults(t *testing.T) {
	w := kindWorld(t)
	dir := w.write("wrangler.jsonc", `{"name": "mild", "main": "w.js", "compatibility_date": "2026-08-01", "kv_namespaces": [{"binding": "KV"}], "d1_databases": [{"binding": "DB"}], "triggers": {"crons": ["0 * * * *"]}}`,
		"w.js", `export default { async fetch(r, env) { await env.KV.put("k", "v"); return new Response("round 0 " + await env.KV.get("k")); }, async scheduled() {} };`,
		"migrations/1_a.sql", "CREATE TABLE a (x);")
	a := w.agent(w.serverArgs("--root", dir))
	w.manage(http.MethodPut, "/faults", sandbox.MildFaults(3), nil)
	for round := range 25 {
		d := a.deploy(map[string]any{"project_dir": dir})
		if _, body := w.get(d.URL); body != fmt.Sprintf("round %d v", round) {
			t.Fatalf("round %d: %q", round, body)
		}
		rewrite(t, dir+"/w.js", fmt.Sprintf("round %d ", round), fmt.Sprintf("round %d ", round+1))
	}
	var met struct{ Met map[string]int }
	w.manage(http.MethodGet, "/faults", "", &met)
	total := 0
	for _, n := range met.Met {
		total += n
	}
	if total < 5 || len(w.accounts()) != 1 {
		t.Errorf("%d faults met (%v), %d accounts", total, met.Met, len(w.accounts()))
	}
	t.Logf("faults met: %v", met.Met)
	if said := a.said.String(); strings.Contains(said, `"failed"`) {
		t.Error("something failed for good")
	}
}

func rewrite(t *testing.T, path, from, to string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}
