package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// TestWranglerGoesOn: after we deployed, wrangler finds its own records: no migration is
// left, nothing is made anew, and its next deployment keeps data and secrets.
func TestWranglerGoesOn(t *testing.T) {
	p := peertest.Get(t)
	w := kindWorld(t)
	dir := w.write("wrangler.jsonc", `{"name": "go-on", "main": "w.js", "compatibility_date": "2026-08-01", "vars": {"A": "x"},
		"kv_namespaces": [{"binding": "KV"}], "d1_databases": [{"binding": "DB", "database_name": "notes", "migrations_dir": "migrations"}],
		"durable_objects": {"bindings": [{"name": "C", "class_name": "Counter"}]}, "migrations": [{"tag": "v1", "new_sqlite_classes": ["Counter"]}]}`,
		"w.js", `import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject { async next() { const n = (await this.ctx.storage.get("n") ?? 0) + 1; await this.ctx.storage.put("n", n); return n; } }
export default { async fetch(r, env) {
  if (!r.url.endsWith("/go")) return new Response("probed");
  await env.KV.put("k", String(Number(await env.KV.get("k") ?? 0) + 1));
  return new Response([await env.KV.get("k"), await env.C.getByName("x").next(), (await env.DB.prepare("SELECT count(*) AS n FROM notes").first("n"))].join("|"));
} };`,
		"migrations/0001_init.sql", "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);\n", "migrations/0002_more.sql", "INSERT INTO notes (text) VALUES ('it''s; one');\n",
		"migrations/9_add.sql", "ALTER TABLE notes ADD COLUMN pinned INTEGER;\n", "migrations/10_use.sql", "UPDATE notes SET pinned = 1 -- no semicolon\n;")
	a := w.agent(w.serverArgs("--root", dir))
	d := a.deploy(map[string]any{"project_dir": dir})
	if _, body := w.get(d.URL + "/go"); body != "1|1|1" {
		t.Errorf("ours: %q", body)
	}
	acct := w.accounts()[0]
	home := t.TempDir()
	cache := filepath.Join(home, ".config", ".wrangler")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	const until = "2099-01-01T00:00:00.000Z"
	toml := fmt.Sprintf("[account]\nid = %q\nname = %q\napiToken = %q\nexpiresAt = %q\n\n[claim]\nurl = \"http://localhost/x\"\nexpiresAt = %q\n", acct.ID, "Someone", acct.APIToken, until, until)
	if err := os.WriteFile(filepath.Join(cache, "wrangler-temporary-account.toml"), []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	wrangler := func(args ...string) string {
		t.Helper()
		r, err := p.Wrangler(t.Context(), w.API, home, dir, append(args, "--temporary")...)
		if err != nil || r.Code != 0 {
			t.Fatalf("wrangler %v: %d %v\n%s\n%s", args, r.Code, err, r.Stdout, r.Stderr)
		}
		return r.Stdout + r.Stderr
	}
	if out := wrangler("d1", "migrations", "list", "DB", "--remote"); !strings.Contains(out, "No migrations to apply") {
		t.Error(out)
	}
	if out := wrangler("deploy"); strings.Contains(out, "Creating new") {
		t.Error(out)
	}
	if _, body := w.get(d.URL + "/go"); body != "2|2|1" {
		t.Errorf("wrangler's: %q", body)
	}
	if len(w.accounts()) != 1 {
		t.Error("wrangler made an account of its own")
	}
}
