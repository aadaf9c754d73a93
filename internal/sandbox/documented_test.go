package sandbox_test

import (
	"net/http"
	"testing"
)

// TestDocumentedUse runs Workers written the way Cloudflare's documentation shows each
// binding, method by method, unchanged.
func TestDocumentedUse(t *testing.T) {
	o := newOn(t)
	kv := o.made("/storage/kv/namespaces", `{"title":"kv"}`, "id")
	db := o.made("/d1/database", `{"name":"db"}`, "uuid")
	o.made("/queues", `{"queue_name":"q"}`, "queue_id")

	t.Run("kv", func(t *testing.T) {
		o := on{t, o.s, o.g}
		host := o.deploy("kv", `export default { async fetch(request, env) {
  await env.NS.put("text", "a"); await env.NS.put("json", JSON.stringify({ n: 1 })); await env.NS.put("bin", new Uint8Array([1, 2, 3]).buffer);
  await env.NS.put("stream", new Response("streamed").body); await env.NS.put("meta", "m", { metadata: { tags: ["x"] }, expirationTtl: 3600 });
  const out = [
    await env.NS.get("text"), (await env.NS.get("json", { type: "json" })).n, new Uint8Array(await env.NS.get("bin", "arrayBuffer")).length,
    await new Response(await env.NS.get("stream", "stream")).text(), (await env.NS.getWithMetadata("meta")).metadata.tags[0],
    [...(await env.NS.get(["text", "none"])).entries()].map(([k, v]) => k + ":" + v).join(),
  ];
  const page = await env.NS.list({ limit: 2 });
  const rest = await env.NS.list({ limit: 10, cursor: page.cursor });
  out.push(page.keys.length, page.list_complete, rest.keys.length, rest.list_complete, rest.keys.some((k) => k.expiration > 0));
  await env.NS.delete("text"); out.push(await env.NS.get("text"));
  return new Response(out.join("|"));
} };`, bindings(map[string]any{"name": "NS", "type": "kv_namespace", "namespace_id": kv}))
		o.want(host, "/", "a|1|3|streamed|x|text:a,none:null|2|false|3|true|true|")
	})
	t.Run("d1", func(t *testing.T) {
		o := on{t, o.s, o.g}
		host := o.deploy("d1", `export default { async fetch(request, env) {
  await env.DB.exec("CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT)");
  const insert = env.DB.prepare("INSERT INTO customers (name) VALUES (?)");
  const batch = await env.DB.batch([insert.bind("Ann"), insert.bind("Bob"), env.DB.prepare("SELECT count(*) AS n FROM customers")]);
  const out = [batch[2].results[0].n, batch[0].meta.last_row_id, batch[1].meta.changes];
  const stmt = env.DB.prepare("SELECT * FROM customers WHERE name = ?1").bind("Bob");
  out.push((await stmt.first()).id, await stmt.first("name"), (await stmt.run()).success, (await stmt.all()).results.length, JSON.stringify(await stmt.raw({ columnNames: true })));
  try { await env.DB.prepare("SELECT nope FROM customers").run(); } catch (e) { out.push(e.message); }
  return new Response(out.join("|"));
} };`, bindings(map[string]any{"name": "DB", "type": "d1", "id": db}))
		o.want(host, "/", `2|1|1|2|Bob|true|1|[["id","name"],[2,"Bob"]]|D1_ERROR: no such column: nope at offset 7: SQLITE_ERROR`)
	})
	t.Run("service bindings", func(t *testing.T) {
		o := on{t, o.s, o.g}
		o.deploy("service", `import { WorkerEntrypoint, RpcTarget } from "cloudflare:workers";
class Adder extends RpcTarget { constructor(by) { super(); this.by = by; } add(n) { return n + this.by; } }
export class Named extends WorkerEntrypoint { hello(who) { return "named " + who + " " + this.env.OWN + " " + this.ctx.props.team; } adder(by) { return new Adder(by); } }
export default class extends WorkerEntrypoint { async fetch(r) { return new Response("fetched " + new URL(r.url).pathname); } async sum(a, b) { return a + b; } }`,
			bindings(map[string]any{"name": "OWN", "type": "plain_text", "text": "own"}))
		host := o.deploy("caller", `export default { async fetch(request, env) {
  using adder = await env.NAMED.adder(5);
  return new Response([await (await env.SVC.fetch("https://x/path")).text(), await env.SVC.sum(1, 2), await env.NAMED.hello("you"), await adder.add(2)].join("|"));
} };`, bindings(map[string]any{"name": "SVC", "type": "service", "service": "service"}, map[string]any{"name": "NAMED", "type": "service", "service": "service", "entrypoint": "Named", "props": map[string]any{"team": "red"}}))
		o.want(host, "/", "fetched /path|3|named you own red|7")
	})
	t.Run("durable objects", func(t *testing.T) {
		o := on{t, o.s, o.g}
		m := bindings(map[string]any{"name": "O", "type": "durable_object_namespace", "class_name": "MyObject"})
		m["migrations"] = map[string]any{"new_tag": "v1", "steps": []any{map[string]any{"new_sqlite_classes": []string{"MyObject"}}}}
		host := o.deploy("objects", `import { DurableObject } from "cloudflare:workers";
export class MyObject extends DurableObject {
  constructor(ctx, env) { super(ctx, env); ctx.blockConcurrencyWhile(async () => { this.start = (await ctx.storage.get("start")) ?? "new"; await ctx.storage.put("start", "old"); }); }
  async fetch(r) { return new Response("object " + this.start); }
  async kv() { await this.ctx.storage.put({ a: 1, b: { c: [2] } }); const all = await this.ctx.storage.list({ prefix: "b" }); return [await this.ctx.storage.get("a"), all.get("b").c[0], all.size]; }
  sql() { const s = this.ctx.storage.sql; s.exec("CREATE TABLE IF NOT EXISTS t (x INTEGER); DELETE FROM t;"); s.exec("INSERT INTO t VALUES (?), (?)", 1, 2); return s.exec("SELECT sum(x) AS s FROM t").one().s; }
  tx() { try { this.ctx.storage.transactionSync(() => { this.ctx.storage.sql.exec("INSERT INTO t VALUES (100)"); throw new Error("back"); }); } catch {} return this.ctx.storage.sql.exec("SELECT count(*) AS n FROM t").one().n; }
}
export default { async fetch(request, env) {
  const id = env.O.idFromName("one"), stub = env.O.get(id);
  const unique = env.O.newUniqueId(), again = env.O.idFromString(unique.toString());
  return new Response([await (await stub.fetch("https://x/")).text(), (await stub.kv()).join(), await stub.sql(), await stub.tx(), again.equals(unique), id.name].join("|"));
} };`, m)
		o.want(host, "/", "object new|1,2,1|3|2|true|one")
	})
	t.Run("queues", func(t *testing.T) {
		o := on{t, o.s, o.g}
		host := o.deploy("producer", `export default { async fetch(request, env, ctx) {
  await env.Q.send({ url: request.url }); await env.Q.send("text", { contentType: "text", delaySeconds: 60 }); await env.Q.sendBatch([{ body: 1 }, { body: [2], contentType: "json" }], { delaySeconds: 5 });
  ctx.waitUntil(env.Q.send("later"));
  try { await env.Q.send("x".repeat(200_000)); } catch (e) { return new Response("too large: " + (e instanceof Error)); }
} };`, bindings(map[string]any{"name": "Q", "type": "queue", "queue_name": "q"}))
		o.want(host, "/", "too large: true")
	})
	t.Run("variables, secrets and version", func(t *testing.T) {
		o := on{t, o.s, o.g}
		host := o.deploy("vars", `import { env as global } from "cloudflare:workers";
export default { async fetch(request, env) { return new Response([env.TEXT, env.OBJ.a[0], env.SECRET, global.TEXT, typeof env.V.id, typeof env.V.timestamp, process.env.TEXT].join("|")); } };`,
			map[string]any{"compatibility_flags": []string{"nodejs_compat"}, "bindings": []any{
				map[string]any{"name": "TEXT", "type": "plain_text", "text": "t"},
				map[string]any{"name": "OBJ", "type": "json", "json": map[string]any{"a": []int{7}}},
				map[string]any{"name": "SECRET", "type": "secret_text", "text": "s"},
				map[string]any{"name": "V", "type": "version_metadata"},
			}})
		o.want(host, "/", "t|7|s|t|string|string|t")
		if a := o.call(http.MethodGet, "/workers/scripts/vars/settings", ""); !a.Success || len(a.Result) == 0 {
			t.Errorf("%+v", a)
		}
	})
}
