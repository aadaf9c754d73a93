package sandbox_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox"
)

// on is a client of one account.
type on struct {
	t testing.TB
	s *sandbox.Sandbox
	g granted
}

func newOn(t testing.TB) on {
	s := box(t, sandbox.Config{ChallengeK: 1, ChallengeG: 1})
	return on{t, s, grant(t, s)}
}

func (o on) call(method, path, body string) answer {
	o.t.Helper()
	return api(o.t, o.s, method, "/accounts/"+o.g.Account.ID+path, o.g.Account.APIToken, "application/json", strings.NewReader(body))
}

// made makes a resource and gives the field of its answer.
func (o on) made(path, body, field string) string {
	o.t.Helper()
	a := o.call(http.MethodPost, path, body)
	var r map[string]any
	if err := json.Unmarshal(a.Result, &r); err != nil || !a.Success {
		o.t.Fatalf("%s: %+v", path, a)
	}
	s, _ := r[field].(string)
	return s
}

func (o on) deploy(name, code string, metadata map[string]any) string {
	o.t.Helper()
	if a := upload(o.t, o.s, o.g, name, code, metadata); !a.Success {
		o.t.Fatalf("%+v", a)
	}
	if a := o.call(http.MethodPost, "/workers/scripts/"+name+"/subdomain", `{"enabled":true}`); !a.Success {
		o.t.Fatalf("%+v", a)
	}
	return name + "." + strings.ToLower(strings.ReplaceAll(o.g.Account.Name, " ", "-")) + ".workers.dev"
}

func (o on) want(host, path, want string) {
	o.t.Helper()
	if status, body, _ := edge(o.t, o.s, host, path); status != 200 || body != want {
		o.t.Errorf("%s%s: %d %q, want %q", host, path, status, body, want)
	}
}

// eventually asks again and again: what it waits for happens by itself.
func (o on) eventually(host, path, want string) {
	o.t.Helper()
	var body string
	for range 200 {
		if _, body, _ = edge(o.t, o.s, host, path); body == want {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	o.t.Errorf("%s%s: %q, want %q", host, path, body, want)
}

func bindings(all ...map[string]any) map[string]any { return map[string]any{"bindings": all} }

const kvWorker = `export default { async fetch(r, env) {
  const u = new URL(r.url), key = u.searchParams.get("k");
  try {
    switch (u.pathname) {
    case "/put": await env.KV.put(key, u.searchParams.get("v"), { metadata: { from: "worker" }, expirationTtl: Number(u.searchParams.get("ttl")) || undefined }); return new Response("ok");
    case "/delete": await env.KV.delete(key); return new Response("ok");
    case "/list": return Response.json((await env.KV.list({ prefix: key })).keys.map((k) => k.name));
    case "/big": await env.KV.put(key, "x".repeat(3_000_000)); return new Response(String((await env.KV.get(key)).length));
    }
    const { value, metadata } = await env.KV.getWithMetadata(key);
    return new Response(value + " " + JSON.stringify(metadata));
  } catch (e) { return new Response(e.message); }
} };`

func TestKV(t *testing.T) {
	o := newOn(t)
	id := o.made("/storage/kv/namespaces", `{"title":"one"}`, "id")
	if a := o.call(http.MethodPost, "/storage/kv/namespaces", `{"title":"one"}`); a.code() != 10014 {
		t.Errorf("the same title again: %+v", a)
	}
	host := o.deploy("kv", kvWorker, bindings(map[string]any{"name": "KV", "type": "kv_namespace", "namespace_id": id}))
	o.want(host, "/put?k=a/b%20%C3%BC&v=1", "ok")
	o.want(host, "/?k=a/b%20%C3%BC", `1 {"from":"worker"}`)
	o.want(host, "/?k=none", `null null`)
	o.want(host, "/big?k=big", "3000000")
	o.want(host, "/put?k=x&v=1&ttl=5", "KV PUT failed: 400 Invalid expiration_ttl of 5. Expiration TTL must be at least 60.")
	values := "/storage/kv/namespaces/" + id + "/values/"
	if got := o.raw(http.MethodGet, values+"a%2Fb%20%C3%BC", ""); got != "1" {
		t.Errorf("by the API: %q", got)
	}
	if a := o.call(http.MethodPut, values+"from%20api?expiration_ttl=60", "two"); !a.Success {
		t.Errorf("%+v", a)
	}
	o.want(host, "/?k=from%20api", `two null`)
	o.want(host, "/list?k=", `["a/b ü","big","from api"]`)
	if a := o.call(http.MethodGet, values+"nothing", ""); a.status != 404 || a.code() != 10009 {
		t.Errorf("%+v", a)
	}
	if a := o.call(http.MethodPut, "/storage/kv/namespaces/"+id+"/bulk", `[{"key":"b1","value":"dmFs","base64":true,"metadata":{"m":1}},{"key":"b2","value":"v2"}]`); !a.Success {
		t.Errorf("%+v", a)
	}
	o.want(host, "/?k=b1", `val {"m":1}`)
	a := o.call(http.MethodGet, "/storage/kv/namespaces/"+id+"/keys?prefix=b&limit=10", "")
	if !strings.Contains(string(a.Result), `{"metadata":{"m":1},"name":"b1"}`) || !strings.Contains(string(a.Result), `"b2"`) || strings.Contains(string(a.Result), "from api") {
		t.Errorf("%s", a.Result)
	}
	if a := o.call(http.MethodPost, "/storage/kv/namespaces/"+id+"/bulk/delete", `["b1","b2"]`); !a.Success {
		t.Errorf("%+v", a)
	}
	o.want(host, "/?k=b1", `null null`)
	// The hour's clock is the stores' clock.
	manage(t, o.s, http.MethodPost, "/clock", `{"advance_seconds":61}`, nil)
	o.want(host, "/?k=from%20api", `null null`)
	// A new version keeps the data; inherit leads to the same namespace.
	o.deploy("kv", kvWorker, bindings(map[string]any{"name": "KV", "type": "inherit"}))
	o.want(host, "/?k=a/b%20%C3%BC", `1 {"from":"worker"}`)
	if a := upload(t, o.s, o.g, "bad", kvWorker, bindings(map[string]any{"name": "KV", "type": "kv_namespace", "namespace_id": strings.Repeat("0", 32)})); a.code() != 10041 {
		t.Errorf("an unknown namespace: %+v", a)
	}
}

func (o on) raw(method, path, body string) string {
	o.t.Helper()
	req, err := http.NewRequestWithContext(o.t.Context(), method, o.s.URLs().API+"/accounts/"+o.g.Account.ID+path, strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+o.g.Account.APIToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

const d1Worker = `export default { async fetch(r, env) {
  try {
    switch (new URL(r.url).pathname) {
    case "/add": { const x = await env.DB.prepare("INSERT INTO notes (text, data) VALUES (?1, ?2)").bind("hé", new Uint8Array([1, 2, 255])).run(); return new Response(String(x.meta.last_row_id)); }
    case "/batch": await env.DB.batch([env.DB.prepare("INSERT INTO notes (text) VALUES ('b1')"), env.DB.prepare("INSERT INTO nowhere VALUES (1)")]); return new Response("?");
    case "/exec": return new Response(String((await env.DB.exec("CREATE TABLE IF NOT EXISTS z (a)\nINSERT INTO z VALUES (1)")).count));
    case "/first": return new Response(String(await env.DB.prepare("SELECT count(*) AS n FROM notes").first("n")));
    case "/session": { const s = env.DB.withSession("first-primary"); await s.prepare("SELECT 1").run(); return new Response(s.getBookmark() ? "bookmark" : "none"); }
    }
    return Response.json((await env.DB.prepare("SELECT id, text, data FROM notes ORDER BY id").all()).results);
  } catch (e) { return new Response(e.message); }
} };`

func TestD1(t *testing.T) {
	o := newOn(t)
	id := o.made("/d1/database", `{"name":"notes"}`, "uuid")
	if a := o.call(http.MethodPost, "/d1/database", `{"name":"notes"}`); a.code() != 7502 {
		t.Errorf("the same name: %+v", a)
	}
	if a := o.call(http.MethodPost, "/d1/database", `{"name":"more"}`); a.code() != 7406 {
		t.Errorf("a second database: %+v", a)
	}
	if a := o.call(http.MethodGet, "/d1/database/none", ""); a.status != 404 || a.code() != 7404 {
		t.Errorf("%+v", a)
	}
	a := o.call(http.MethodPost, "/d1/database/"+id+"/query", `{"sql":"CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT, data BLOB); -- a; comment\nCREATE TRIGGER t AFTER INSERT ON notes BEGIN SELECT CASE WHEN 1 THEN 2 END; SELECT ';'; END; SELECT count(*) AS n FROM notes"}`)
	var results []struct {
		Success bool
		Results []map[string]any
		Meta    map[string]any
	}
	if err := json.Unmarshal(a.Result, &results); err != nil || len(results) != 3 || results[2].Results[0]["n"] != 0.0 {
		t.Fatalf("%v %+v", err, a)
	}
	host := o.deploy("d1", d1Worker, bindings(map[string]any{"name": "DB", "type": "d1", "id": id}))
	o.want(host, "/add", "1")
	o.want(host, "/", `[{"id":1,"text":"hé","data":[1,2,255]}]`)
	o.want(host, "/batch", "D1_ERROR: no such table: nowhere: SQLITE_ERROR")
	o.want(host, "/first", "1") // the batch was rolled back
	o.want(host, "/exec", "2")
	o.want(host, "/session", "bookmark")
	if a := o.call(http.MethodPost, "/d1/database/notes/query", `{"sql":"SELECT text FROM notes WHERE id = ?","params":[1]}`); !strings.Contains(string(a.Result), "hé") {
		t.Errorf("%+v", a)
	}
	if a := o.call(http.MethodPost, "/d1/database/"+id+"/query", `{"sql":"SELEKT 1"}`); a.status != 400 || a.code() != 7500 {
		t.Errorf("%+v", a)
	}
	if a := o.call(http.MethodPost, "/d1/database/"+id+"/raw", `{"sql":"SELECT id FROM notes"}`); !strings.Contains(string(a.Result), `"columns":["id"]`) {
		t.Errorf("%s", a.Result)
	}
	if a := upload(t, o.s, o.g, "bad", d1Worker, bindings(map[string]any{"name": "DB", "type": "d1", "id": "52bdea48-0000-0000-0000-000000000000"})); a.code() != 10181 {
		t.Errorf("%+v", a)
	}
}

const queueWorker = `const got = [];
export default {
  async fetch(r, env) {
    const u = new URL(r.url);
    switch (u.pathname) {
    case "/send": await env.Q.send({ n: u.searchParams.get("n") }); return new Response("sent");
    case "/batch": await env.Q.sendBatch([{ body: new Map([["k", new Date(0)]]), contentType: "v8" }, { body: "text", contentType: "text" }, { body: new Uint8Array([1, 2]), contentType: "bytes" }]); return new Response("sent");
    }
    return Response.json((await env.KV.list()).keys.map((k) => k.name));
  },
  async queue(batch, env) {
    for (const m of batch.messages) {
      const b = m.body;
      if (b?.n === "fail") { m.retry(); continue; }
      if (b?.n === "throw") throw new Error("no");
      await env.KV.put(batch.queue + ":" + (b instanceof Map ? "map" + b.get("k").getTime() : b instanceof ArrayBuffer ? "bytes" + b.byteLength : typeof b === "string" ? b : b.n) + ":" + m.attempts, "");
      m.ack();
    }
  },
};`

func TestQueues(t *testing.T) {
	o := newOn(t)
	kv := o.made("/storage/kv/namespaces", `{"title":"kv"}`, "id")
	q := o.made("/queues", `{"queue_name":"jobs"}`, "queue_id")
	dead := o.made("/queues", `{"queue_name":"dead"}`, "queue_id")
	both := bindings(map[string]any{"name": "Q", "type": "queue", "queue_name": "jobs"}, map[string]any{"name": "KV", "type": "kv_namespace", "namespace_id": kv})
	host := o.deploy("jobs-worker", queueWorker, both)
	o.want(host, "/send?n=early", "sent") // before there is a consumer
	for _, k := range [][2]string{{dead, `"max_retries":0}`}, {q, `"max_retries":1,"retry_delay":0},"dead_letter_queue":"dead"`}} {
		if a := o.call(http.MethodPost, "/queues/"+k[0]+"/consumers", `{"type":"worker","script_name":"jobs-worker","settings":{"batch_size":10,"max_wait_time_ms":100,`+k[1]+`}`); !a.Success {
			t.Fatalf("%+v", a)
		}
	}
	if a := o.call(http.MethodPost, "/queues/"+q+"/consumers", `{"type":"worker","script_name":"jobs-worker"}`); a.Success {
		t.Error("two consumers of one queue")
	}
	o.eventually(host, "/", `["jobs:early:1"]`)
	o.want(host, "/batch", "sent")
	o.eventually(host, "/", `["jobs:bytes2:1","jobs:early:1","jobs:map0:1","jobs:text:1"]`)
	// A failing message is tried twice and then buried: the dead letter queue's consumer
	// fails on it as well, and it is gone.
	o.want(host, "/send?n=fail", "sent")
	o.want(host, "/send?n=late", "sent")
	o.eventually(host, "/", `["jobs:bytes2:1","jobs:early:1","jobs:late:1","jobs:map0:1","jobs:text:1"]`)
	// The consumer is another version after a deployment, and its queue is the same.
	o.deploy("jobs-worker", strings.ReplaceAll(queueWorker, `"bytes"`, `"raw"`), bindings(map[string]any{"name": "Q", "type": "inherit"}, map[string]any{"name": "KV", "type": "inherit"}))
	if a := o.call(http.MethodPost, "/queues/"+q+"/messages", `{"body":{"n":"api"}}`); !a.Success {
		t.Fatalf("%+v", a)
	}
	o.eventually(host, "/", `["jobs:api:1","jobs:bytes2:1","jobs:early:1","jobs:late:1","jobs:map0:1","jobs:text:1"]`)
	for i := range 8 {
		o.made("/queues", fmt.Sprintf(`{"queue_name":"q%d"}`, i), "queue_id")
	}
	if a := o.call(http.MethodPost, "/queues", `{"queue_name":"eleventh"}`); a.Success {
		t.Error("eleven queues")
	}
	if a := upload(t, o.s, o.g, "bad", queueWorker, bindings(map[string]any{"name": "Q", "type": "queue", "queue_name": "none"})); a.code() != 11000 {
		t.Errorf("%+v", a)
	}
}

const objectWorker = `import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject {
  constructor(ctx, env) { super(ctx, env); ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS n (v)"); this.memory = 0; }
  next() { this.ctx.storage.sql.exec("INSERT INTO n VALUES (1)"); return this.ctx.storage.sql.exec("SELECT count(*) AS n FROM n").one().n + "/" + ++this.memory; }
  async later() { await this.ctx.storage.setAlarm(Date.now() + 50); }
  alarm() { this.ctx.storage.sql.exec("INSERT INTO n VALUES (2)"); }
  total() { return this.ctx.storage.sql.exec("SELECT coalesce(sum(v), 0) AS n FROM n").one().n; }
}
export default { async fetch(r, env) {
  const c = env.C.getByName("one");
  switch (new URL(r.url).pathname) {
  case "/later": await c.later(); return new Response("set");
  case "/total": return new Response(String(await c.total()));
  case "/id": return new Response(c.id.toString().length + "");
  }
  return new Response(await c.next());
} };`

func TestObjects(t *testing.T) {
	o := newOn(t)
	c := map[string]any{"name": "C", "type": "durable_object_namespace", "class_name": "Counter"}
	if a := upload(t, o.s, o.g, "do", objectWorker, bindings(c)); a.code() != 10061 {
		t.Errorf("without a migration: %+v", a)
	}
	step := func(old, tag string, steps string) map[string]any {
		m := bindings(c)
		mig := map[string]any{"new_tag": tag, "steps": json.RawMessage(steps)}
		if old != "" {
			mig["old_tag"] = old
		}
		m["migrations"] = mig
		return m
	}
	if a := upload(t, o.s, o.g, "do", objectWorker, step("", "v1", `[{"new_classes":["Counter"]}]`)); a.status != 403 || a.code() != 10097 {
		t.Errorf("a key-value class: %+v", a)
	}
	if a := upload(t, o.s, o.g, "do", objectWorker, step("", "v1", `[{"new_sqlite_classes":["Counter","Missing"]}]`)); a.Success || !strings.Contains(a.Errors[0].Message, "Missing") {
		t.Errorf("a class that is not exported: %+v", a)
	}
	host := o.deploy("do", objectWorker, step("", "v1", `[{"new_sqlite_classes":["Counter"]}]`))
	o.want(host, "/", "1/1")
	o.want(host, "/", "2/2")
	o.want(host, "/id", "64")
	if a := o.call(http.MethodGet, "/workers/services/do", ""); !strings.Contains(string(a.Result), `"migration_tag":"v1"`) {
		t.Errorf("%s", a.Result)
	}
	// A new version: the data stays, the memory does not.
	o.deploy("do", objectWorker, bindings(c))
	o.want(host, "/", "3/1")
	// One that does not start leaves what served, and its data.
	if a := upload(t, o.s, o.g, "do", objectWorker+"\nthrow new Error('at start');", bindings(c)); a.code() != 10021 {
		t.Errorf("%+v", a)
	}
	o.want(host, "/", "4/2")
	if a := upload(t, o.s, o.g, "do", says("no class"), nil); a.code() != 10064 {
		t.Errorf("a version without the class: %+v", a)
	}
	if a := upload(t, o.s, o.g, "do", objectWorker, step("", "v1", `[{"new_sqlite_classes":["Counter"]}]`)); a.code() != 10079 {
		t.Errorf("a wrong tag: %+v", a)
	}
	// An alarm fires by itself.
	o.want(host, "/later", "set")
	o.eventually(host, "/total", "6")
	// A renamed class keeps its data; a deleted one does not.
	renamed := strings.ReplaceAll(objectWorker, "Counter", "Renamed")
	m := step("v1", "v2", `[{"renamed_classes":[{"from":"Counter","to":"Renamed"}]}]`)
	m["bindings"] = []any{map[string]any{"name": "C", "type": "durable_object_namespace", "class_name": "Renamed"}}
	o.deploy("do", renamed, m)
	o.want(host, "/total", "6")
	m = step("v2", "v3", `[{"deleted_classes":["Renamed"]},{"new_sqlite_classes":["Counter"]}]`)
	o.deploy("do", objectWorker, m)
	o.want(host, "/total", "0")
	// Another Worker of the account uses the class; one of another account can't.
	other := o.deploy("other", objectWorker[strings.Index(objectWorker, "export default"):], bindings(map[string]any{"name": "C", "type": "durable_object_namespace", "class_name": "Counter", "script_name": "do"}))
	o.want(other, "/", "1/1")
	o.want(host, "/", "2/2")
	stranger := on{t, o.s, grant(t, o.s)}
	if a := upload(t, o.s, stranger.g, "thief", objectWorker[strings.Index(objectWorker, "export default"):], bindings(map[string]any{"name": "C", "type": "durable_object_namespace", "class_name": "Counter", "script_name": "do"})); a.code() != 10061 {
		t.Errorf("a stranger's binding: %+v", a)
	}
}

const cronWorker = `export default {
  async fetch(r, env) { return Response.json((await env.KV.list()).keys.map((k) => k.name)); },
  async scheduled(c, env) { if (c.cron === "fail") throw new Error("x"); await env.KV.put(c.cron + "@" + new Date(c.scheduledTime).getUTCMinutes(), "1"); },
};`

func TestCron(t *testing.T) {
	o := newOn(t)
	kv := o.made("/storage/kv/namespaces", `{"title":"kv"}`, "id")
	host := o.deploy("cron", cronWorker, bindings(map[string]any{"name": "KV", "type": "kv_namespace", "namespace_id": kv}))
	if a := o.call(http.MethodPut, "/workers/scripts/cron/schedules", `[{"cron":"61 * * * *"}]`); a.Success || a.code() != 10100 {
		t.Errorf("%+v", a)
	}
	if a := o.call(http.MethodPut, "/workers/scripts/cron/schedules", `[{"cron":"30 * * * *"},{"cron":"0 0 L * *"}]`); !a.Success {
		t.Fatalf("%+v", a)
	}
	o.want(host, "/", `[]`)
	// To the next half hour, which lies before the account's end, on the sandbox's clock.
	now := time.Now().UTC()
	next := now.Truncate(time.Hour).Add(30 * time.Minute)
	if !next.After(now) {
		next = next.Add(time.Hour)
	}
	wait := next.Sub(now) + time.Second
	if wait < 59*time.Minute {
		manage(t, o.s, http.MethodPost, "/clock", fmt.Sprintf(`{"advance_seconds":%d}`, int(wait.Seconds())), nil)
		o.eventually(host, "/", `["30 * * * *@30"]`)
	}
	var out struct{ Outcome string }
	if status := manage(t, o.s, http.MethodPost, "/cron", `{"worker":"cron","cron":"by hand","scheduled_time":1700000040000}`, &out); status != 200 || out.Outcome != "ok" {
		t.Errorf("%d %+v", status, out)
	}
	o.eventuallyHas(host, "/", `by hand@14`)
	if status := manage(t, o.s, http.MethodPost, "/cron", `{"worker":"cron","cron":"fail"}`, &out); status != 200 || out.Outcome != "exception" {
		t.Errorf("%d %+v", status, out)
	}
	if status := manage(t, o.s, http.MethodPost, "/cron", `{"worker":"none"}`, nil); status != 404 {
		t.Errorf("%d", status)
	}
	if a := o.call(http.MethodPut, "/workers/scripts/cron/schedules", `[{"cron":"1 * * * *"},{"cron":"2 * * * *"},{"cron":"3 * * * *"},{"cron":"4 * * * *"},{"cron":"5 * * * *"},{"cron":"6 * * * *"}]`); a.code() != 10072 {
		t.Errorf("%+v", a)
	}
	if a := o.call(http.MethodGet, "/workers/scripts/cron/schedules", ""); strings.Count(string(a.Result), `"cron"`) != 2 {
		t.Errorf("%s", a.Result)
	}
}

func (o on) eventuallyHas(host, path, want string) {
	o.t.Helper()
	var body string
	for range 200 {
		if _, body, _ = edge(o.t, o.s, host, path); strings.Contains(body, want) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	o.t.Errorf("%s%s: %q, want %q in it", host, path, body, want)
}
