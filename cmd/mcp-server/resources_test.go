package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// overwrite replaces files of a project.
func overwrite(t *testing.T, dir string, pairs ...string) {
	t.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, pairs[i]), []byte(pairs[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFailedMigration: the file and the statement are named, and what was live goes on,
// with its data as it was; the corrected file goes through, once.
func TestFailedMigration(t *testing.T) {
	w := newWorld(t)
	const code = `export default { async fetch(r, env) { return new Response("one " + JSON.stringify((await env.DB.prepare("SELECT * FROM notes").all()).results)); } };`
	dir := w.write("wrangler.jsonc", `{"name": "app", "main": "w.js", "compatibility_date": "2026-08-01", "d1_databases": [{"binding": "DB"}]}`, "w.js", code,
		"migrations/1_a.sql", "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT UNIQUE);\nINSERT INTO notes (text) VALUES ('x');\n")
	a := w.agent(w.serverArgs("--root", dir))
	d := a.deploy(map[string]any{"project_dir": dir})
	const before = `one [{"id":1,"text":"x"}]`
	if _, body := w.get(d.URL); body != before {
		t.Errorf("%q", body)
	}
	const bad = "ALTER TABLE notes ADD COLUMN more;\nINSERT INTO notes (text) VALUES ('y');\n-- again\nINSERT INTO notes (text) VALUES ('x');\nSELECT 1;\n"
	overwrite(t, dir, "migrations/2_b.sql", bad, "w.js", strings.Replace(code, "one", "two", 1))
	got := a.call("deploy_temporary", map[string]any{"project_dir": dir})
	if !got.IsError || got.Error.Code != "migration_failed" || !strings.Contains(got.Text, "migrations/2_b.sql:4 ") || !strings.Contains(got.Text, "INSERT INTO notes (text) VALUES ('x');") || !strings.Contains(got.Text, "UNIQUE constraint failed") {
		t.Errorf("%+v", got)
	}
	if _, body := w.get(d.URL); body != before {
		t.Errorf("after the failure: %q", body)
	}
	overwrite(t, dir, "migrations/2_b.sql", strings.Replace(bad, "('x')", "('z')", 1))
	for range 2 {
		again := a.deploy(map[string]any{"project_dir": dir})
		if _, body := w.get(again.URL); body != `two [{"id":1,"text":"x","more":null},{"id":2,"text":"y","more":null},{"id":3,"text":"z","more":null}]` {
			t.Errorf("corrected: %q", body)
		}
	}
	if n := len(w.accounts()); n != 1 {
		t.Errorf("%d accounts", n)
	}
}

// TestWorkersOfOneSession: Workers that use each other, and limits that only the account
// knows; each refusal says what to do, and leaves what is live.
func TestWorkersOfOneSession(t *testing.T) {
	w := newWorld(t)
	config := func(name, more string) string {
		return `{"name": "` + name + `", "main": "w.js", "compatibility_date": "2026-08-01"` + more + `}`
	}
	const hi = `export default { fetch: () => new Response("back") };`
	dir := w.write(
		"front/wrangler.jsonc", config("front", `, "services": [{"binding": "BACK", "service": "back"}]`), "front/w.js", `export default { async fetch(r, env) { return new Response("via " + await (await env.BACK.fetch(r)).text()); } };`,
		"back/wrangler.jsonc", config("back", `, "d1_databases": [{"binding": "DB"}]`), "back/w.js", hi,
		"second/wrangler.jsonc", config("second", `, "d1_databases": [{"binding": "DB"}]`), "second/w.js", hi,
		"hyper/wrangler.jsonc", config("hyper", `, "hyperdrive": [{"binding": "H", "id": "8cfa1af4c73c069b44c8ea79beb7f8ec"}]`), "hyper/w.js", hi,
		"batch/wrangler.jsonc", config("batch", `, "queues": {"consumers": [{"queue": "q", "max_batch_size": 500}]}`), "batch/w.js", hi,
	)
	a := w.agent(w.serverArgs("--root", dir))
	refused := func(project, code string, accounts int, words ...string) {
		t.Helper()
		got := a.call("deploy_temporary", map[string]any{"project_dir": dir + "/" + project})
		if !got.IsError || got.Error.Code != code {
			t.Errorf("%s: %+v", project, got)
		}
		for _, text := range words {
			if !strings.Contains(got.Text, text) {
				t.Errorf("%s: %q is missing in %s", project, text, got.Text)
			}
		}
		if n := len(w.accounts()); n != accounts {
			t.Errorf("%s: %d accounts", project, n)
		}
	}
	refused("front", "config_invalid", 0, "Worker back", "session_id", "Nothing was spent")
	refused("batch", "config_invalid", 0, "max_batch_size", "1 to 100")
	a.deploy(map[string]any{"project_dir": dir + "/back"})
	front := a.deploy(map[string]any{"project_dir": dir + "/front"})
	refused("second", "not_supported", 1, "7406", "database_name")
	refused("hyper", "api_refused", 1, "10157", "the sandbox has no Hyperdrive", "Remove hyperdrive")
	if _, body := w.get(front.URL); body != "via back" {
		t.Errorf("%q", body)
	}
}

// TestObjectMigrations: the classes of a Worker over its life: made, renamed, joined by
// another, deleted. The data stays, and a history that does not fit is refused.
func TestObjectMigrations(t *testing.T) {
	w := newWorld(t)
	const v1, v2, v3 = `{"tag": "v1", "new_sqlite_classes": ["Counter"]}`,
		`{"tag": "v2", "renamed_classes": [{"from": "Counter", "to": "Meter"}], "new_sqlite_classes": ["Other"]}`, `{"tag": "v3", "deleted_classes": ["Other"]}`
	project := func(class string, others []string, steps ...string) []string {
		code := `import { DurableObject } from "cloudflare:workers";
export class ` + class + ` extends DurableObject { async next() { const n = (await this.ctx.storage.get("n") ?? 0) + 1; await this.ctx.storage.put("n", n); return n; } }
export default { async fetch(r, env) { return new Response(r.url.endsWith("/next") ? "` + class + ` " + await env.C.getByName("x").next() : "probed"); } };
`
		for _, o := range others {
			code += "export class " + o + " extends DurableObject {}\n"
		}
		return []string{
			"w.js", code,
			"wrangler.jsonc", `{"name": "meter", "main": "w.js", "compatibility_date": "2026-08-01", "durable_objects": {"bindings": [{"name": "C", "class_name": "` + class + `"}]}, "migrations": [` + strings.Join(steps, ", ") + `]}`,
		}
	}
	dir := w.write(project("Counter", nil, v1)...)
	a := w.agent(w.serverArgs("--root", dir))
	next := func(want string, files []string) {
		t.Helper()
		overwrite(t, dir, files...)
		d := a.deploy(map[string]any{"project_dir": dir})
		if _, body := w.get(d.URL + "/next"); body != want {
			t.Errorf("%q, want %q", body, want)
		}
	}
	next("Counter 1", project("Counter", nil, v1))
	next("Meter 2", project("Meter", []string{"Other"}, v1, v2))
	next("Meter 3", project("Meter", nil, v1, v2, v3))
	hidden := project("Meter", nil, v1, v2, v3)
	hidden[1] = strings.Replace(hidden[1], "export class Meter", "class Meter", 1)
	for words, files := range map[string][]string{
		"Other":                 project("Meter", nil, v1, v2), // neither exported nor deleted
		"Meter is not exported": hidden,
		"10074":                 project("Meter", nil, `{"tag": "new", "new_sqlite_classes": ["Meter"]}`), // another history
		"new_classes":           project("Meter", nil, v1, v2, v3, `{"tag": "v4", "new_classes": ["Old"]}`),
		"no migration":          project("Meter2", []string{"Meter"}, v1, v2, v3),
	} {
		overwrite(t, dir, files...)
		if got := a.call("deploy_temporary", map[string]any{"project_dir": dir}); !got.IsError || !strings.Contains(got.Text, words) {
			t.Errorf("%s: %+v", words, got)
		}
	}
	next("Meter 4", project("Meter", nil, v1, v2, v3))
	if n := len(w.accounts()); n != 1 {
		t.Errorf("%d accounts", n)
	}
}
