package sandbox_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestKVMistakes: what is wrong with a write is refused whole, and what only looks odd is
// not.
func TestKVMistakes(t *testing.T) {
	o := newOn(t)
	kv := "/storage/kv/namespaces/" + o.made("/storage/kv/namespaces", `{"title":"kv"}`, "id")
	a := o.call(http.MethodPut, kv+"/bulk", "[{\"key\":\"m\",\"value\":\"v\",\"metadata\":{\n  \"a\": \"\u00fc\",\r\n\t\"b\": \"\\u000a\"\n}}]")
	if !a.Success {
		t.Errorf("metadata on several lines: %+v", a)
	}
	if a := o.call(http.MethodGet, kv+"/metadata/m", ""); string(a.Result) != `{"a":"ü","b":"\u000a"}` {
		t.Errorf("%s", a.Result)
	}
	for _, second := range []string{`{"key":"","value":"x"}`, `{"key":"..","value":"x"}`, `{"key":"k","value":"%","base64":true}`, `{"key":"` + strings.Repeat("k", 513) + `","value":"x"}`} {
		if a := o.call(http.MethodPut, kv+"/bulk", `[{"key":"first","value":"x"},`+second+`]`); a.Success {
			t.Errorf("%.50s was taken", second)
		}
	}
	if got := o.raw(http.MethodGet, kv+"/keys", ""); strings.Contains(got, "first") {
		t.Errorf("half of a refused bulk write stays: %s", got)
	}
}

// TestQueueSettings: a consumer's settings that Cloudflare does not take would have the
// runtime fail later, at the sender's.
func TestQueueSettings(t *testing.T) {
	o := newOn(t)
	q := o.made("/queues", `{"queue_name":"jobs"}`, "queue_id")
	o.deploy("w", says("w"), nil)
	consumer := func(settings string) answer {
		return o.call(http.MethodPost, "/queues/"+q+"/consumers", `{"type":"worker","script_name":"w","settings":`+settings+`}`)
	}
	for _, s := range []string{
		`{"batch_size":0}`, `{"batch_size":101}`, `{"batch_size":1.5}`, `{"batch_size":"x"}`, `{"max_wait_time_ms":60001}`, `{"max_wait_time_ms":-1}`,
		`{"max_retries":101}`, `{"max_retries":-1}`, `{"retry_delay":86401}`, `{"max_concurrency":0}`, `{"max_concurrency":251}`,
	} {
		if a := consumer(s); a.status != 400 || a.code() != 100127 || !strings.Contains(a.Errors[0].Message, strings.Split(s, `"`)[1]) {
			t.Errorf("%s: %+v", s, a)
		}
	}
	for _, delay := range []string{"-1", "86401", "1.5"} {
		if a := o.call(http.MethodPatch, "/queues/"+q, `{"settings":{"delivery_delay":`+delay+`}}`); a.status != 400 {
			t.Errorf("a delivery delay of %s: %+v", delay, a)
		}
		if a := o.call(http.MethodPost, "/queues/"+q+"/messages", `{"body":1,"delay_seconds":`+delay+`}`); a.code() != 10203 {
			t.Errorf("a message's delay of %s: %+v", delay, a)
		}
	}
	if a := consumer(`{"batch_size":100,"max_wait_time_ms":60000,"max_retries":100,"retry_delay":86400,"max_concurrency":null}`); !a.Success {
		t.Errorf("%+v", a)
	}
}

// TestWhatIsGone: what a Worker is bound to may be deleted; that is the Worker's own
// trouble, and not that of the account's others.
func TestWhatIsGone(t *testing.T) {
	o := newOn(t)
	q := o.made("/queues", `{"queue_name":"jobs"}`, "queue_id")
	kv := o.made("/storage/kv/namespaces", `{"title":"kv"}`, "id")
	o.deploy("back", `import { DurableObject } from "cloudflare:workers";
export class Room extends DurableObject { hi() { return "room"; } }
export default { fetch: () => new Response("back") };`, map[string]any{"migrations": map[string]any{"new_tag": "v1", "steps": []any{map[string]any{"new_sqlite_classes": []string{"Room"}}}}})
	calm := o.deploy("calm", says("calm"), nil)
	front := o.deploy("front", `export default { async fetch(r, env) {
  const tried = [];
  for (const f of [async () => (await env.BACK.fetch(r)).text(), () => env.ROOM.getByName("x").hi(), async () => (await env.Q.send(1), "sent"), async () => "kv " + await env.KV.get("k")]) {
    try { tried.push(await f()); } catch (e) { tried.push("no: " + e.message); }
  }
  return new Response(tried.join("|"));
} };`, bindings(
		map[string]any{"name": "BACK", "type": "service", "service": "back"}, map[string]any{"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room", "script_name": "back"},
		map[string]any{"name": "Q", "type": "queue", "queue_name": "jobs"}, map[string]any{"name": "KV", "type": "kv_namespace", "namespace_id": kv}))
	o.want(front, "/", "back|room|sent|kv null")
	for _, path := range []string{"/queues/" + q, "/storage/kv/namespaces/" + kv, "/workers/services/back?force=true"} {
		if a := o.call(http.MethodDelete, path, ""); !a.Success {
			t.Errorf("%s: %+v", path, a)
		}
	}
	o.want(calm, "/", "calm")
	_, body, _ := edge(t, o.s, front, "/")
	// A binding reads a deleted namespace until it is deployed anew.
	if got := strings.Split(body, "|"); len(got) != 4 || strings.Count(body, "no: ") != 3 || !strings.Contains(body, "Queue does not exist (10104)") {
		t.Errorf("%q", body)
	}
	o.deploy("calm", says("still calm"), nil)
	o.want(calm, "/", "still calm")
	// A new version may not be bound to what is not there; one that is there again is found.
	for _, b := range []map[string]any{
		{"name": "X", "type": "service", "service": "back"},
		{"name": "X", "type": "queue", "queue_name": "jobs"},
		{"name": "X", "type": "kv_namespace", "namespace_id": kv},
		{"name": "X", "type": "durable_object_namespace", "class_name": "Room", "script_name": "back"},
	} {
		if a := upload(t, o.s, o.g, "late", says("x"), bindings(b)); a.Success {
			t.Errorf("%v was bound", b)
		}
	}
	o.made("/queues", `{"queue_name":"jobs"}`, "queue_id")
	o.deploy("back", says("back again"), nil)
	if _, body, _ := edge(t, o.s, front, "/"); !strings.HasPrefix(body, "back again|no: ") || !strings.Contains(body, "|sent|") {
		t.Errorf("%q", body)
	}
}

// TestClassesOfOthers: a class that another Worker is bound to may be renamed, and not
// deleted.
func TestClassesOfOthers(t *testing.T) {
	o := newOn(t)
	class := func(name, migrations string) (string, map[string]any) {
		return `import { DurableObject } from "cloudflare:workers";
export class ` + name + ` extends DurableObject { async hi() { const n = (await this.ctx.storage.get("n") ?? 0) + 1; await this.ctx.storage.put("n", n); return this.constructor.name + n; } }
export default { fetch: () => new Response("owner") };`, map[string]any{"migrations": json.RawMessage(migrations)}
	}
	code, md := class("Room", `{"new_tag":"v1","steps":[{"new_sqlite_classes":["Room"]}]}`)
	o.deploy("owner", code, md)
	user := o.deploy("user", `export default { async fetch(r, env) { return new Response(await env.ROOM.getByName("x").hi()); } };`,
		bindings(map[string]any{"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room", "script_name": "owner"}))
	o.want(user, "/", "Room1")
	code, md = class("Hall", `{"old_tag":"v1","new_tag":"v2","steps":[{"renamed_classes":[{"from":"Room","to":"Hall"}]}]}`)
	o.deploy("owner", code, md)
	o.want(user, "/", "Hall2")
	if a := upload(t, o.s, o.g, "owner", says("none"), map[string]any{"migrations": json.RawMessage(`{"old_tag":"v2","new_tag":"v3","steps":[{"deleted_classes":["Hall"]}]}`)}); a.code() != 10064 || !strings.Contains(a.Errors[0].Message, "user") {
		t.Errorf("%+v", a)
	}
	o.want(user, "/", "Hall3")
	o.call(http.MethodDelete, "/workers/services/user", "")
	if a := upload(t, o.s, o.g, "owner", says("none"), map[string]any{"migrations": json.RawMessage(`{"old_tag":"v2","new_tag":"v3","steps":[{"deleted_classes":["Hall"]}]}`)}); !a.Success {
		t.Errorf("%+v", a)
	}
}

// TestServiceOfFiles: a Worker of static files alone serves them over a binding as well.
func TestServiceOfFiles(t *testing.T) {
	o := newOn(t)
	files := filesOnly(o, "site", "/index.html", "<h1>home</h1>")
	o.want(files, "/", "<h1>home</h1>")
	host := o.deploy("front", `export default { async fetch(r, env) { return new Response("via " + await (await env.SITE.fetch(r)).text()); } };`, bindings(map[string]any{"name": "SITE", "type": "service", "service": "site"}))
	o.want(host, "/", "via <h1>home</h1>")
}

// filesOnly deploys a Worker of one static file and gives its host.
func filesOnly(o on, name, path, content string) string {
	o.t.Helper()
	form := func(field, text string) (kind, body string) {
		const boundary = "a-boundary"
		return "multipart/form-data; boundary=" + boundary, "--" + boundary + "\r\nContent-Disposition: form-data; name=\"" + field + "\"; filename=\"" + field + "\"\r\nContent-Type: text/html\r\n\r\n" + text + "\r\n--" + boundary + "--\r\n"
	}
	send := func(method, path, token, kind, body string) (jwt string) {
		o.t.Helper()
		a := api(o.t, o.s, method, "/accounts/"+o.g.Account.ID+path, token, kind, strings.NewReader(body))
		var r struct{ JWT string }
		if err := json.Unmarshal(a.Result, &r); err != nil || !a.Success {
			o.t.Fatalf("%s: %+v %v", path, a, err)
		}
		return r.JWT
	}
	const hash = "0123456789abcdef0123456789abcdef"
	scripts := "/workers/scripts/" + name
	jwt := send(http.MethodPost, scripts+"/assets-upload-session", o.g.Account.APIToken, "", fmt.Sprintf(`{"manifest":{%q:{"hash":%q,"size":%d}}}`, path, hash, len(content)))
	kind, body := form(hash, base64.StdEncoding.EncodeToString([]byte(content)))
	jwt = send(http.MethodPost, "/workers/assets/upload?base64=true", jwt, kind, body)
	kind, body = form("metadata", `{"assets":{"jwt":"`+jwt+`"},"compatibility_date":"2026-08-01"}`)
	send(http.MethodPut, scripts, o.g.Account.APIToken, kind, body)
	send(http.MethodPost, scripts+"/subdomain", o.g.Account.APIToken, "", `{"enabled":true}`)
	return name + "." + strings.ToLower(strings.ReplaceAll(o.g.Account.Name, " ", "-")) + ".workers.dev"
}

// TestResourcesAtOnce: limits and names hold when everything comes at once, and the
// account works afterwards.
func TestResourcesAtOnce(t *testing.T) {
	o := newOn(t)
	var all sync.WaitGroup
	var made, titles, queues atomic.Int32
	kv := o.made("/storage/kv/namespaces", `{"title":"shared"}`, "id")
	count := func(n *atomic.Int32, path, body string) {
		if o.call(http.MethodPost, path, body).Success {
			n.Add(1)
		}
	}
	for i := range 24 {
		all.Go(func() { count(&made, "/d1/database", fmt.Sprintf(`{"name":"db%d"}`, i%3)) })
		all.Go(func() { count(&titles, "/storage/kv/namespaces", `{"title":"same"}`) })
		all.Go(func() { count(&queues, "/queues", fmt.Sprintf(`{"queue_name":"q%d"}`, i)) })
		all.Go(func() {
			name := fmt.Sprintf("w%d", i%4)
			upload(t, o.s, o.g, name, kvWorker, bindings(map[string]any{"name": "KV", "type": "kv_namespace", "namespace_id": kv}))
			o.call(http.MethodPut, "/workers/scripts/"+name+"/schedules", `[{"cron":"0 0 1 1 *"},{"cron":"1 0 1 1 *"}]`)
			if i%5 == 0 {
				o.call(http.MethodDelete, "/workers/services/"+name+"?force=true", "")
			}
		})
	}
	all.Wait()
	if made.Load() != 1 || titles.Load() != 1 || queues.Load() != 10 {
		t.Errorf("%d databases, %d namespaces of a title, %d queues", made.Load(), titles.Load(), queues.Load())
	}
	crons := 0
	for i := range 4 {
		a := o.call(http.MethodGet, fmt.Sprintf("/workers/scripts/w%d/schedules", i), "")
		crons += strings.Count(string(a.Result), `"cron"`)
	}
	if crons > 5 {
		t.Errorf("%d cron triggers", crons)
	}
	host := o.deploy("after", kvWorker, bindings(map[string]any{"name": "KV", "type": "kv_namespace", "namespace_id": kv}))
	o.want(host, "/put?k=a&v=1", "ok")
	o.want(host, "/?k=a", `1 {"from":"worker"}`)
}
