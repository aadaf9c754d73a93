package sandbox_test

import (
	"fmt"
	"net/http"
	"testing"
)

const batchWorker = `export default {
  async fetch(r, env) {
    const u = new URL(r.url);
    if (u.pathname === "/send") { await env.Q.sendBatch(u.searchParams.get("n").split(",").map((body) => ({ body }))); return new Response("sent"); }
    return new Response((await env.KV.list()).keys.map((k) => k.name).join(" "));
  },
  async queue(batch, env) {
    const note = (what) => env.KV.put(batch.queue + ":" + what, "");
    await note("batch" + batch.messages.length);
    for (const m of batch.messages) await note(m.body + m.attempts);
    const has = (b) => batch.messages.some((m) => m.body === b && m.attempts === 1);
    if (has("throws")) throw new Error("once");
    if (has("all")) batch.retryAll();
    for (const m of batch.messages) if (m.body === "never" && batch.queue === "jobs") m.retry({ delaySeconds: 0 });
  },
};`

// TestQueueDelivery: batches of the configured size, retries one by one and all at once,
// and dead letters, which another queue's consumer gets.
func TestQueueDelivery(t *testing.T) {
	o := newOn(t)
	kv := o.made("/storage/kv/namespaces", `{"title":"kv"}`, "id")
	jobs, dead := o.made("/queues", `{"queue_name":"jobs"}`, "queue_id"), o.made("/queues", `{"queue_name":"dead"}`, "queue_id")
	host := o.deploy("w", batchWorker, bindings(map[string]any{"name": "Q", "type": "queue", "queue_name": "jobs"}, map[string]any{"name": "KV", "type": "kv_namespace", "namespace_id": kv}))
	for id, more := range map[string]string{jobs: `,"dead_letter_queue":"dead"`, dead: ""} {
		settings := `{"batch_size":3,"max_wait_time_ms":100,"max_retries":2,"retry_delay":0}`
		if a := o.call(http.MethodPost, "/queues/"+id+"/consumers", fmt.Sprintf(`{"type":"worker","script_name":"w","settings":%s%s}`, settings, more)); !a.Success {
			t.Fatalf("%+v", a)
		}
	}
	forget := func() {
		o.call(http.MethodDelete, "/storage/kv/namespaces/"+kv+"/bulk", `["jobs:batch1","jobs:batch2","jobs:batch3"]`)
	}
	o.want(host, "/send?n=a,b,c,d", "sent")
	o.eventually(host, "/", "jobs:a1 jobs:b1 jobs:batch1 jobs:batch3 jobs:c1 jobs:d1")
	forget()
	o.want(host, "/send?n=never", "sent")
	o.eventually(host, "/", "dead:batch1 dead:never1 jobs:a1 jobs:b1 jobs:batch1 jobs:c1 jobs:d1 jobs:never1 jobs:never2 jobs:never3")
	forget()
	o.want(host, "/send?n=throws", "sent")
	o.eventually(host, "/", "dead:batch1 dead:never1 jobs:a1 jobs:b1 jobs:batch1 jobs:c1 jobs:d1 jobs:never1 jobs:never2 jobs:never3 jobs:throws1 jobs:throws2")
	forget()
	o.want(host, "/send?n=all,x", "sent")
	o.eventually(host, "/", "dead:batch1 dead:never1 jobs:a1 jobs:all1 jobs:all2 jobs:b1 jobs:batch2 jobs:c1 jobs:d1 jobs:never1 jobs:never2 jobs:never3 jobs:throws1 jobs:throws2 jobs:x1 jobs:x2")
}
