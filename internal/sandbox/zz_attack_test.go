package sandbox_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestAttackKV(t *testing.T) {
	o := newOn(t)
	id := o.made("/storage/kv/namespaces", `{"title":"one"}`, "id")
	v := "/storage/kv/namespaces/" + id
	o.call(http.MethodPut, v+"/values/k", "v")
	for _, k := range []string{"%2E", ".", "%2e%2e", "a%2F..%2F..%2Fb", "%2F", "%252F", "%00", "?", strings.Repeat("x", 513), strings.Repeat("%C3%BC", 300), "bulk", "k%0d%0aX", "%ff"} {
		for _, m := range []string{"PUT", "GET", "DELETE"} {
			fmt.Printf("%s %.20s: %.200s\n", m, k, o.raw(m, v+"/values/"+k, "val"))
		}
	}
	fmt.Println("keys", o.raw("GET", v+"/keys", ""))
	fmt.Println("bulk nl", o.raw("PUT", v+"/bulk", "[{\"key\":\"m\",\"value\":\"x\",\"metadata\":{\n \"a\": \"ü\\u2028\",\n\"b\":\"é\"}}]"))
	fmt.Println("bulk nl", o.raw("GET", v+"/metadata/m", ""))
	fmt.Println("big meta", o.raw("PUT", v+"/bulk", "[{\"key\":\"m2\",\"value\":\"x\",\"metadata\":\""+strings.Repeat("x", 2000)+"\"}]"))
	fmt.Println("bulk partial", o.raw("PUT", v+"/bulk", "[{\"key\":\"p1\",\"value\":\"x\"},{\"key\":\"\",\"value\":\"x\"}]"))
	fmt.Println("big", o.raw("PUT", v+"/values/big", strings.Repeat("x", 26<<20)))
	fmt.Println("ttl", o.raw("PUT", v+"/values/t?expiration_ttl=-5", "x"), o.raw("PUT", v+"/values/t?expiration=1", "x"), o.raw("PUT", v+"/values/t?expiration_ttl=abc", "x"))
	fmt.Println("list", o.raw("GET", v+"/keys?limit=5", ""), o.raw("GET", v+"/keys?cursor=zzz", ""), o.raw("GET", v+"/keys?prefix=%00&limit=1000", ""))
	fmt.Println("page", o.raw("GET", "/storage/kv/namespaces?page=-1&per_page=0", ""), o.raw("GET", "/storage/kv/namespaces?page=99999999999999999999&per_page=99999999999", ""))
	fmt.Println("page", o.raw("GET", "/storage/kv/namespaces?page=9223372036854775807&per_page=1000", ""))
	fmt.Println("delbulk", o.raw("DELETE", v+"/bulk", `["k","none","."]`), o.raw("POST", v+"/bulk/get", `{"keys":["m"],"withMetadata":true}`), o.raw("POST", v+"/bulk/get", `nonsense`))
	fmt.Println("keys", o.raw("GET", v+"/keys", ""))
}

func TestAttackD1(t *testing.T) {
	o := newOn(t)
	db := o.made("/d1/database", `{"name":"notes"}`, "uuid")
	q := func(sql string) string { return o.raw("POST", "/d1/database/"+db+"/query", fmt.Sprintf(`{"sql":%q}`, sql)) }
	for _, sql := range []string{
		"CREATE TABLE t (x UNIQUE, y NOT NULL); INSERT INTO t VALUES (1, 2); INSERT INTO t VALUES (1, 2)", "SELECT 1", "SELECT count(*) FROM t", "BEGIN TRANSACTION; CREATE TABLE a(x); COMMIT;", "SAVEPOINT a", "ATTACH 'x' AS y", "PRAGMA table_list", "", ";;", "-- only", "/* x", "SELECT 'a",
		"PRAGMA foreign_keys = off", "SELECT * FROM _cf_KV", "VACUUM", "SELECT sqlite_version()", "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c LIMIT 1" + " -- no",
	} {
		if strings.HasPrefix(sql, "WITH") {
			continue
		}
		fmt.Printf("%s => %.300s\n", sql, q(sql))
	}
	fmt.Println(o.raw("POST", "/d1/database/"+db+"/query", `{"sql":"SELECT ?, ?, ?, ?","params":[true,null,1.5,"x"]}`))
	fmt.Println(o.raw("POST", "/d1/database/"+db+"/query", `{"sql":"SELECT ?","params":[{"a":1}]}`))
	fmt.Println(o.raw("POST", "/d1/database/"+db+"/query", `{"sql":"SELECT 1; SELECT ?","params":[1]}`))
	fmt.Println(o.raw("POST", "/d1/database/"+db+"/query", `[{"sql":"SELECT 1"}]`))
	fmt.Println(o.raw("POST", "/d1/database/"+db+"/query", `{"batch":[{"sql":"SELECT 1"},{"sql":"SELECT ?","params":[2]}]}`))
	fmt.Println(o.raw("POST", "/d1/database/"+db+"/import", `{"action":"init","etag":"x"}`))
	fmt.Println(o.raw("POST", "/d1/database/"+db+"/import", `{"action":"ingest","filename":"../x","etag":"x"}`))
	fmt.Println(o.raw("POST", "/d1/database/"+db+"/import", `{"action":"poll","current_bookmark":"zz"}`))
	fmt.Println(o.raw("GET", "/d1/database/"+db+"/time_travel/bookmark", ""))
	fmt.Println(o.raw("POST", "/d1/database", `{"name":"../../x"}`), o.raw("POST", "/d1/database", `{"name":""}`), o.raw("POST", "/d1/database", `{"name":5}`), o.raw("POST", "/d1/database", `[1]`))
	fmt.Println(o.raw("DELETE", "/d1/database/notes", ""), o.raw("GET", "/d1/database/notes", ""))
	fmt.Println(o.raw("POST", "/d1/database", `{"name":"../../x y"}`), o.raw("GET", "/d1/database/..%2F..%2Fx%20y", ""))
}

func TestAttackQueues(t *testing.T) {
	o := newOn(t)
	q := o.made("/queues", `{"queue_name":"jobs"}`, "queue_id")
	kv := o.made("/storage/kv/namespaces", `{"title":"kv"}`, "id")
	host := o.deploy("jobs-worker", queueWorker, bindings(map[string]any{"name": "Q", "type": "queue", "queue_name": "jobs"}, map[string]any{"name": "KV", "type": "kv_namespace", "namespace_id": kv}))
	other := o.deploy("other", says("other"), nil)
	c := o.made("/queues/"+q+"/consumers", `{"type":"worker","script_name":"jobs-worker","settings":{"batch_size":10,"max_wait_time_ms":100}}`, "consumer_id")
	for _, s := range []string{`{"batch_size":-1}`, `{"batch_size":0}`, `{"batch_size":1e9}`, `{"batch_size":"x"}`, `{"batch_size":1.5}`, `{"max_wait_time_ms":1e12}`, `{"max_wait_time_ms":-1}`, `{"max_retries":-3}`, `{"max_retries":1e6}`, `{"retry_delay":1e9}`, `{"max_concurrency":-1}`, `{"max_concurrency":1e9}`, `{"nonsense":1}`} {
		fmt.Printf("%s => %.160s\n", s, o.raw("PUT", "/queues/"+q+"/consumers/"+c, `{"type":"worker","script_name":"jobs-worker","settings":`+s+`}`))
		st, body, _ := edge(t, o.s, host, "/send?n=x")
		fmt.Println("   send", st, body)
	}
	fmt.Println("self dlq", o.raw("PUT", "/queues/"+q+"/consumers/"+c, `{"type":"worker","script_name":"jobs-worker","dead_letter_queue":"jobs","settings":{"max_wait_time_ms":100,"max_retries":0}}`))
	fmt.Println("missing dlq", o.raw("PUT", "/queues/"+q+"/consumers/"+c, `{"type":"worker","script_name":"jobs-worker","dead_letter_queue":"nope","settings":{"max_wait_time_ms":100,"max_retries":0}}`))
	st, body, _ := edge(t, o.s, host, "/send?n=fail")
	fmt.Println("   send", st, body)
	fmt.Println("qname", o.raw("POST", "/queues", `{"queue_name":"../x"}`), o.raw("POST", "/queues", `{}`), o.raw("POST", "/queues", `{"queue_name":"d","settings":{"delivery_delay":-5}}`))
	fmt.Println("msg", o.raw("POST", "/queues/"+q+"/messages", `{"body":{"n":1},"delay_seconds":-5}`), o.raw("POST", "/queues/"+q+"/messages", `{}`), o.raw("POST", "/queues/"+q+"/messages", `{"body":"`+strings.Repeat("x", 200000)+`"}`))
	fmt.Println("purge", o.raw("POST", "/queues/"+q+"/purge", `{}`))
	fmt.Println("delete queue", o.raw("DELETE", "/queues/"+q, ""))
	st, body, _ = edge(t, o.s, host, "/send?n=gone")
	fmt.Println("   send to deleted", st, body)
	st, body, _ = edge(t, o.s, other, "/")
	fmt.Println("   other", st, body)
	fmt.Printf("deploy other: %+v\n", upload(t, o.s, o.g, "other", says("other2"), nil))
	st, body, _ = edge(t, o.s, other, "/")
	fmt.Println("   other", st, body)
	st, body, _ = edge(t, o.s, host, "/")
	fmt.Println("   jobs", st, body)
}

func TestAttackServices(t *testing.T) {
	o := newOn(t)
	o.deploy("back", says("back"), nil)
	calm := o.deploy("calm", says("calm"), nil)
	front := o.deploy("front", `export default { async fetch(r, env) { try { return new Response("via " + await (await env.B.fetch(r)).text()); } catch (e) { return new Response("err " + e.message); } } };`, bindings(map[string]any{"name": "B", "type": "service", "service": "back"}))
	show := func(what string) {
		for _, h := range []string{calm, front} {
			st, body, _ := edge(t, o.s, h, "/")
			fmt.Println(what, h[:6], st, body)
		}
	}
	show("before")
	fmt.Println(o.raw("DELETE", "/workers/services/back", ""))
	show("refused")
	fmt.Println(o.raw("DELETE", "/workers/services/back?force=true", ""))
	show("forced")
	fmt.Printf("%+v\n", upload(t, o.s, o.g, "calm", says("calm2"), nil))
	show("calm2")
	fmt.Printf("%+v\n", upload(t, o.s, o.g, "new", says("new"), nil))
	fmt.Printf("bad entry %+v\n", upload(t, o.s, o.g, "e", says("x"), bindings(map[string]any{"name": "B", "type": "service", "service": "calm", "entrypoint": "Nope"})))
	fmt.Printf("missing %+v\n", upload(t, o.s, o.g, "e", says("x"), bindings(map[string]any{"name": "B", "type": "service", "service": "nothing"})))
	fmt.Printf("self %+v\n", upload(t, o.s, o.g, "selfie", says("x"), bindings(map[string]any{"name": "B", "type": "service", "service": "selfie"})))
	o.deploy("back", says("back again"), nil)
	show("again")
}

func TestAttackCron(t *testing.T) {
	o := newOn(t)
	o.deploy("w", says("x"), nil)
	for _, c := range []string{`[{"cron":"* * * * *"},{"cron":"* * * * *"}]`, `[{"cron":"x"}]`, `[{"cron":"60 * * * *"}]`, `[{}]`, `{}`, `[{"cron":"0 0 31 2 *"}]`, `[{"cron":"0 0 L * *"}]`, `[{"cron":"0 0 * * 7"}]`, `[{"cron":"0 0 * * 0"}]`, `[{"cron":"0 0 ? * MON#1"}]`, `[{"cron":"1 1 1 1 *"},{"cron":"2 1 1 1 *"},{"cron":"3 1 1 1 *"},{"cron":"4 1 1 1 *"},{"cron":"5 1 1 1 *"},{"cron":"6 1 1 1 *"}]`, `[]`} {
		fmt.Println(c, o.raw("PUT", "/workers/scripts/w/schedules", c))
	}
	for _, b := range []string{`{"worker":"w"}`, `{"worker":"none"}`, `{}`, `{"worker":"w","scheduled_time":-99999999999999999}`, `{"worker":"w","cron":"not a cron"}`} {
		req, _ := http.NewRequestWithContext(t.Context(), "POST", o.s.URLs().Manage+"/cron", strings.NewReader(b))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Println(err)
			continue
		}
		buf := make([]byte, 500)
		n, _ := resp.Body.Read(buf)
		resp.Body.Close()
		fmt.Println(b, resp.StatusCode, string(buf[:n]))
	}
}
