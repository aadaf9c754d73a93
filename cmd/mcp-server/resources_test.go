package main_test

import (
	"fmt"
	"testing"
)

func TestScratch(t *testing.T) {
	w := newWorld(t)
	config := func(name, more string) string {
		return `{"name": "` + name + `", "main": "w.js", "compatibility_date": "2026-08-01"` + more + `}`
	}
	dir := w.write("a/wrangler.jsonc", config("app", `, "d1_databases": [{"binding": "DB", "database_name": "notes"}]`),
		"a/w.js", `export default { async fetch(r, env) { return new Response("one " + JSON.stringify((await env.DB.prepare("SELECT * FROM notes").all()).results)); } };`,
		"a/migrations/0001_a.sql", "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT UNIQUE);\nINSERT INTO notes (text) VALUES ('x');\n",
		"b/wrangler.jsonc", config("hyper", `, "hyperdrive": [{"binding": "H", "id": "8cfa1af4c73c069b44c8ea79beb7f8ec"}]`), "b/w.js", `export default { fetch: (r, env) => new Response(env.H.connectionString) };`,
		"c/wrangler.jsonc", config("second", `, "d1_databases": [{"binding": "DB", "database_name": "other"}]`), "c/w.js", `export default { fetch: (r, env) => new Response("c") };`,
		"d/wrangler.jsonc", config("front", `, "services": [{"binding": "APP", "service": "app"}]`), "d/w.js", `export default { fetch: (r, env) => env.APP.fetch(r) };`,
		"e/wrangler.jsonc", config("lost", `, "services": [{"binding": "APP", "service": "nowhere"}]`), "e/w.js", `export default { fetch: (r, env) => env.APP.fetch(r) };`,
		"f/wrangler.jsonc", config("short", `, "vars": {"PIN": {"secret": "1234"}, "LONG": {"secret": "long enough secret"}}`), "f/w.js", `export default { fetch: (r, env) => new Response(env.PIN + " " + env.LONG) };`,
		"g/wrangler.jsonc", config("big", `, "queues": {"consumers": [{"queue": "q", "max_batch_size": 500}]}`), "g/w.js", `export default { fetch: (r, env) => new Response("g"), queue() {} };`,
		"h/wrangler.jsonc", config("noq", `, "queues": {"consumers": [{"queue": "q2"}]}, "triggers": {"crons": ["* * * * *"]}`), "h/w.js", `export default { fetch: (r, env) => new Response("h") };`,
	)
	a := w.agent(w.serverArgs("--root", dir))
	show := func(d string) {
		got := a.call("deploy_temporary", map[string]any{"project_dir": dir + "/" + d})
		fmt.Printf("%s: error=%v accounts=%d\n   %.1500s\n", d, got.IsError, len(w.accounts()), got.Text)
	}
	show("b")
	show("e")
	show("a")
	w.write("a/migrations/0002_b.sql", "ALTER TABLE notes ADD COLUMN more;\nINSERT INTO notes (text) VALUES ('y');\nINSERT INTO notes (text) VALUES ('x');\n", "a/w.js", `export default { fetch: () => new Response("two") };`)
	show("a")
	show("c")
	show("d")
	show("f")
	show("g")
	show("h")
}
