package sandbox_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/sandbox"
)

// contains wants every text in what wrangler printed.
func contains(t testing.TB, out string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("%q is missing in:\n%s", text, out)
		}
	}
}

func rewrite(t testing.TB, path, from, to string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), from) {
		t.Fatalf("%s has no %q", path, from)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWranglerKV(t *testing.T) {
	s := box(t, sandbox.Config{ChallengeK: 1, ChallengeG: 1})
	w := newWrangler(t, s)
	dir := project(t, map[string]string{
		"wrangler.jsonc": `{"name": "kv-auto", "main": "w.js", ` + date + `, "kv_namespaces": [{"binding": "CACHE_KV"}]}`,
		"w.js":           `export default { async fetch(r, env) { const k = new URL(r.url).pathname.slice(1); return new Response(k + "=" + await env.CACHE_KV.get(k)); } };`,
	})
	out := w.ok(dir, "deploy", "--temporary")
	contains(t, out, "kv-auto-cache-kv")
	host := hostOf(t, out)
	w.ok(dir, "kv", "key", "put", "--binding", "CACHE_KV", "--remote", "--temporary", "greeting", "hello", "--metadata", `{"a":1}`)
	wantEdge(t, s, host, "/greeting", 200, "greeting=hello")
	contains(t, w.ok(dir, "kv", "key", "get", "--binding", "CACHE_KV", "--remote", "--temporary", "greeting"), "hello")
	contains(t, w.ok(dir, "kv", "key", "list", "--binding", "CACHE_KV", "--remote", "--temporary"), `"greeting"`, `"a": 1`)
	if out := w.ok(dir, "deploy", "--temporary"); !strings.Contains(out, "(inherited)") && strings.Contains(out, "Creating new") {
		t.Errorf("a redeploy made another namespace:\n%s", out)
	}
	wantEdge(t, s, host, "/greeting", 200, "greeting=hello")
	w.ok(dir, "kv", "key", "delete", "--binding", "CACHE_KV", "--remote", "--temporary", "greeting")
	wantEdge(t, s, host, "/greeting", 200, "greeting=null")
	// By id, and in bulk.
	out = w.ok(dir, "kv", "namespace", "create", "second", "--temporary")
	id := between(t, out, `"id": "`, `"`)
	bulkFile := filepath.Join(dir, "bulk.json")
	if err := os.WriteFile(bulkFile, []byte(`[{"key":"one","value":"1"},{"key":"two","value":"2"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.ok(dir, "kv", "bulk", "put", bulkFile, "--namespace-id", id, "--remote", "--temporary")
	rewrite(t, filepath.Join(dir, "wrangler.jsonc"), `"CACHE_KV"`, `"CACHE_KV", "id": "`+id+`"`)
	w.ok(dir, "deploy", "--temporary")
	wantEdge(t, s, host, "/two", 200, "two=2")
	contains(t, w.ok(dir, "kv", "namespace", "list", "--temporary"), "kv-auto-cache-kv", "second")
	w.ok(dir, "kv", "namespace", "rename", "--namespace-id", id, "--new-name", "renamed", "--temporary")
	w.ok(dir, "kv", "namespace", "delete", "--namespace-id", id, "--temporary", "--skip-confirmation")
	wantNoUnknown(t, s)
}

func between(t testing.TB, text, from, to string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, from)
	got, _, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatalf("no %q in:\n%s", from, text)
	}
	return got
}

func TestWranglerD1(t *testing.T) {
	s := box(t, sandbox.Config{ChallengeK: 1, ChallengeG: 1})
	w := newWrangler(t, s)
	dir := project(t, map[string]string{
		"wrangler.jsonc":           `{"name": "notes", "main": "w.js", ` + date + `, "d1_databases": [{"binding": "DB", "database_name": "notes-db", "migrations_dir": "migrations"}]}`,
		"w.js":                     `export default { async fetch(r, env) { const { results } = await env.DB.prepare("SELECT text FROM notes ORDER BY id").all(); return new Response(results.map((r) => r.text).join(",")); } };`,
		"migrations/0001_init.sql": "-- first;\nCREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);\nINSERT INTO notes (text) VALUES ('a;b');\n",
		"migrations/0002_more.sql": "INSERT INTO notes (text) VALUES ('it''s');",
		"more.sql":                 "INSERT INTO notes (text) VALUES ('file');\nINSERT INTO notes (text) VALUES ('file2');",
	})
	out := w.ok(dir, "deploy", "--temporary")
	host := hostOf(t, out)
	w.ok(dir, "d1", "migrations", "apply", "DB", "--remote", "--temporary")
	wantEdge(t, s, host, "/", 200, "a;b,it's")
	contains(t, w.ok(dir, "d1", "migrations", "list", "DB", "--remote", "--temporary"), "No migrations to apply")
	contains(t, w.ok(dir, "d1", "execute", "DB", "--remote", "--temporary", "--yes", "--command", "INSERT INTO notes (text) VALUES ('cmd'); SELECT count(*) AS n FROM notes"), `"n": 3`)
	w.ok(dir, "d1", "execute", "DB", "--remote", "--temporary", "--yes", "--file", "more.sql")
	wantEdge(t, s, host, "/", 200, "a;b,it's,cmd,file,file2")
	contains(t, w.ok(dir, "d1", "list", "--temporary"), "notes-db")
	dump := filepath.Join(dir, "dump.sql")
	w.ok(dir, "d1", "export", "DB", "--remote", "--temporary", "--output", dump)
	if b, err := os.ReadFile(dump); err != nil || !strings.Contains(string(b), "CREATE TABLE notes") || !strings.Contains(string(b), "'it''s'") {
		t.Errorf("%v\n%s", err, b)
	}
	w.ok(dir, "deploy", "--temporary")
	wantEdge(t, s, host, "/", 200, "a;b,it's,cmd,file,file2")
	r, err := w.peers.Wrangler(t.Context(), s.URLs().API, w.home, dir, "d1", "create", "second", "--temporary")
	if err != nil || r.Code == 0 || !strings.Contains(r.Stderr+r.Stdout, "limit") && !strings.Contains(r.Stderr+r.Stdout, "7406") {
		t.Errorf("a second database: %d %v\n%s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	wantNoUnknown(t, s)
}

func TestWranglerObjectsAndServices(t *testing.T) {
	s := box(t, sandbox.Config{ChallengeK: 1, ChallengeG: 1})
	w := newWrangler(t, s)
	dir := project(t, map[string]string{
		"wrangler.jsonc": `{"name": "counter", "main": "w.js", ` + date + `, "durable_objects": {"bindings": [{"name": "COUNTER", "class_name": "Counter"}]}, "migrations": [{"tag": "v1", "new_sqlite_classes": ["Counter"]}]}`,
		"w.js": `import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject { async next() { const n = (await this.ctx.storage.get("n") ?? 0) + 1; await this.ctx.storage.put("n", n); return n; } }
export default { async fetch(r, env) { return new Response("n=" + await env.COUNTER.getByName("x").next()); } };`,
	})
	host := hostOf(t, w.ok(dir, "deploy", "--temporary"))
	wantEdge(t, s, host, "/", 200, "n=1")
	w.ok(dir, "deploy", "--temporary")
	wantEdge(t, s, host, "/", 200, "n=2")
	// A second migration.
	rewrite(t, filepath.Join(dir, "wrangler.jsonc"), `"new_sqlite_classes": ["Counter"]}`, `"new_sqlite_classes": ["Counter"]}, {"tag": "v2", "new_sqlite_classes": ["Other"]}`)
	rewrite(t, filepath.Join(dir, "w.js"), `export default`, "export class Other extends DurableObject {}\nexport default")
	w.ok(dir, "deploy", "--temporary")
	wantEdge(t, s, host, "/", 200, "n=3")

	caller := project(t, map[string]string{
		"wrangler.jsonc": `{"name": "caller", "main": "w.js", ` + date + `, "services": [{"binding": "BACK", "service": "counter"}]}`,
		"w.js":           `export default { async fetch(r, env) { return new Response("via " + await (await env.BACK.fetch(r)).text()); } };`,
	})
	wantEdge(t, s, hostOf(t, w.ok(caller, "deploy", "--temporary")), "/", 200, "via n=4")

	secrets := filepath.Join(dir, "secrets.json")
	if err := os.WriteFile(secrets, []byte(`{"TOKEN":"very secret"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	rewrite(t, filepath.Join(dir, "w.js"), `"n=" +`, `env.TOKEN + " n=" +`)
	if out := w.ok(dir, "deploy", "--temporary", "--secrets-file", secrets); strings.Contains(out, "very secret") {
		t.Error("wrangler printed the secret")
	}
	wantEdge(t, s, host, "/", 200, "very secret n=5")
	w.ok(caller, "delete", "--temporary", "--force")
	w.ok(dir, "delete", "--temporary", "--force")
	wantEdge(t, s, host, "/", 404, "")
	wantNoUnknown(t, s)
}

func TestWranglerQueuesAndCron(t *testing.T) {
	s := box(t, sandbox.Config{ChallengeK: 1, ChallengeG: 1})
	w := newWrangler(t, s)
	dir := project(t, map[string]string{
		"wrangler.jsonc": `{"name": "jobs", "main": "w.js", ` + date + `, "kv_namespaces": [{"binding": "KV"}],
"queues": {"producers": [{"binding": "Q", "queue": "my-queue"}], "consumers": [{"queue": "my-queue", "max_batch_size": 5, "max_retries": 2, "max_batch_timeout": 1}]},
"triggers": {"crons": ["*/5 * * * *"]}}`,
		"w.js": `export default {
  async fetch(r, env) { if (new URL(r.url).pathname === "/send") { await env.Q.send({ hi: 1 }); return new Response("sent"); } return Response.json((await env.KV.list()).keys.map((k) => k.name)); },
  async queue(b, env) { for (const m of b.messages) await env.KV.put("job " + JSON.stringify(m.body), ""); },
  async scheduled(c, env) { await env.KV.put("cron " + c.cron, ""); },
};`,
	})
	out := w.ok(dir, "deploy", "--temporary")
	contains(t, out, "Producer for my-queue", "Consumer for my-queue", "schedule: */5 * * * *")
	host := hostOf(t, out)
	wantEdge(t, s, host, "/send", 200, "sent")
	o := on{t: t, s: s}
	o.eventually(host, "/", `["job {\"hi\":1}"]`)
	manage(t, s, http.MethodPost, "/clock", `{"advance_seconds":301}`, nil)
	o.eventually(host, "/", `["cron */5 * * * *","job {\"hi\":1}"]`)
	w.ok(dir, "deploy", "--temporary")
	wantEdge(t, s, host, "/send", 200, "sent")
	contains(t, w.ok(dir, "queues", "list", "--temporary"), "my-queue")
	w.ok(dir, "queues", "create", "spare", "--temporary")
	contains(t, w.ok(dir, "queues", "info", "my-queue", "--temporary"), "jobs")
	w.ok(dir, "queues", "consumer", "worker", "remove", "my-queue", "jobs", "--temporary")
	w.ok(dir, "queues", "consumer", "worker", "add", "my-queue", "jobs", "--temporary")
	w.ok(dir, "queues", "pause-delivery", "my-queue", "--temporary")
	w.ok(dir, "queues", "resume-delivery", "my-queue", "--temporary")
	w.ok(dir, "queues", "delete", "spare", "--temporary")
	wantNoUnknown(t, s)
}
