package bundle_test

import "github.com/hourglass-mcp/hourglass/internal/deploy"

const (
	respond  = `export default { fetch() { return new Response(`
	globDiff = "our own table stands where esbuild's glob helper would read the disk"
	wasmAdd  = "\x00asm\x01\x00\x00\x00\x01\x07\x01\x60\x02\x7f\x7f\x01\x7f\x03\x02\x01\x00\x07\x07\x01\x03add\x00\x00\x0a\x09\x01\x07\x00\x20\x00\x20\x01\x6a\x0b"
)

// fixtures are small projects, at least one for every feature of the bundler, and some
// with real packages. The first of every eight runs by default.
func fixtures() []fixture {
	ts := func(name, code string, more ...string) fixture {
		f := fixture{name: name, files: map[string]string{"wrangler.jsonc": config(""), "src/index.ts": code}}
		for i := 0; i+1 < len(more); i += 2 {
			f.files[more[i]] = more[i+1]
		}
		return f
	}
	differs := func(f fixture, why string) fixture { f.differs = why; return f }
	gets := func(f fixture, paths ...string) fixture { f.gets = paths; return f }
	return []fixture{
		gets(ts("hono-zod", `import { Hono } from "hono"; import { z } from "zod"; const app = new Hono(); const S = z.object({ n: z.coerce.number().int() });
app.get("/", (c) => c.text("hono")); app.get("/n/:n", (c) => { const r = S.safeParse({ n: c.req.param("n") }); return c.json(r.success ? r.data : { bad: r.error.issues[0].message }, r.success ? 200 : 400) });
app.get("/go", (c) => c.redirect("/")); export default app`), "/", "/n/5", "/n/x", "/go", "/none"),
		ts("plain", respond+`"plain") } }`),
		ts("typescript", `enum E { A = 1, B = A << 3 } const enum C { X = "cx" } namespace N { export const v = 5 } interface I { a: string } abstract class P<T> { constructor(public readonly x: T, private y = 2) {} get z() { return this.y } } class Q extends P<number> {}
`+respond+`JSON.stringify([E.B, C.X, N.v, new Q(3).x, new Q(1).z, Q.name, ({ a: "s" } satisfies I).a])) } }`),
		ts("relative", `import { a } from "./a"; import b from "./dir"; import { c } from "./c.js"; import * as d from "./d.mjs"; `+respond+`a + b + c + d.d) } }`,
			"src/a.ts", "export const a = 'a'", "src/dir/index.ts", "export default 'dir'", "src/c.ts", "export const c = 'c-ts'", "src/d.mjs", "export const d = 'd'"),
		ts("json", `import data from "./data.json"; import { n } from "./data.json"; import w from "./data.json" with { type: "json" }; `+respond+`JSON.stringify([data, n, w])) } }`, "src/data.json", `{"n":1,"list":[1,2,{"x":null}],"a-b":"c"}`),
		ts("text", `import t from "./hello.txt"; import h from "./page.html"; import q from "../db/schema.sql"; `+respond+`t + h + q, { headers: { "content-type": "text/html", "x-test": "1" } }) } }`,
			"src/hello.txt", "héllo\n", "src/page.html", "<p>hi</p>", "db/schema.sql", "select 1;"),
		ts("data", `import d from "./x.bin"; `+respond+`String(d.byteLength) + new Uint8Array(d)[1]) } }`, "src/x.bin", "\x00\x07\xff"),
		ts("wasm", `import m from "./add.wasm"; import n from "./add.wasm?module"; const i = new WebAssembly.Instance(m as any, {}); const j = new WebAssembly.Instance(n as any, {}); `+respond+`String((i.exports as any).add(2, 3) + (j.exports as any).add(1, 1))) } }`, "src/add.wasm", wasmAdd),

		{name: "react-page", files: map[string]string{
			"wrangler.jsonc": `{"name":"x","compatibility_date":"2026-11-17","main":"src/index.tsx"}`,
			"src/index.tsx": `import React from "react"; import { renderToString } from "react-dom/server"; function Page({ n }: { n: number }) { const [v] = React.useState(n); return <main className="p"><h1>Count {v}</h1><>{[1, 2].map((i) => <li key={i}>{i}</li>)}</></main> }
export default { fetch() { return new Response(renderToString(<Page n={3} />), { headers: { "content-type": "text/html" } }) } }`,
		}},
		{name: "react-jsx-automatic", files: map[string]string{
			"wrangler.jsonc": `{"name":"x","compatibility_date":"2026-11-17","main":"src/index.tsx"}`,
			"tsconfig.json":  `{ /* c */ "compilerOptions": { "jsx": "react-jsx", "target": "es2022", } }`,
			"src/index.tsx":  `import { renderToStaticMarkup } from "react-dom/server.edge"; export default { fetch() { return new Response(renderToStaticMarkup(<p>auto</p>)) } }`,
		}},
		{name: "hono-jsx", files: map[string]string{
			"wrangler.jsonc": `{"name":"x","compatibility_date":"2026-11-17","main":"src/index.tsx"}`,
			"tsconfig.json":  `{"compilerOptions":{"jsx":"react-jsx","jsxImportSource":"hono/jsx"}}`,
			"src/index.tsx":  `import { Hono } from "hono"; const app = new Hono(); app.get("/", (c) => c.html(<b>{"hono <jsx>"}</b>)); export default app`,
		}},
		gets(ts("itty", `import { AutoRouter } from "itty-router"; const r = AutoRouter(); r.get("/hi/:name", ({ name }) => "hi " + name); export default r`), "/hi/bob", "/no"),
		{name: "pg-node", files: map[string]string{
			"wrangler.jsonc": `{"name":"x","compatibility_date":"2026-04-01","compatibility_flags":["nodejs_compat"],"main":"src/index.ts"}`,
			"src/index.ts":   `import pg from "pg"; import { Client } from "pg"; ` + respond + `[typeof pg.Pool, typeof Client, pg.types.builtins.INT8, new Client({ connectionString: "postgres://u:p@h:5/db" }).port].join()) } }`,
		}},
		ts("nanoid", `import { customAlphabet } from "nanoid"; `+respond+`customAlphabet("a", 5)()) } }`),
		differs(ts("cross-fetch", `import f, { Headers as H } from "cross-fetch"; `+respond+`typeof f + new H({ a: "b" }).get("a")) } }`), "the stand-in of this package is worded by us, not unenv's"),
		differs(ts("inherits", `import inherits from "inherits"; function A() {} function B() {} inherits(A, B); `+respond+`String(new (A as any)() instanceof (B as any))) } }`), "the stand-in of this package is worded by us, not unenv's"),

		ts("node-builtins", `import fs from "node:fs"; import { Buffer } from "buffer"; import path from "path"; import { createHash } from "node:crypto"; import EventEmitter from "events"; `+respond+`[typeof fs.readFileSync, Buffer.from("hi").toString("hex"), path.join("a", "..", "b"), createHash("sha256").update("x").digest("hex"), typeof EventEmitter].join()) } }`),
		ts("node-require", `const path = require("path"); const util = require("node:util"); `+respond+`path.basename("/a/b.c") + util.format("%s", 1)) } }`),
		{name: "node-date-default", files: map[string]string{
			"wrangler.toml": "name = \"x\"\nmain = \"src/index.ts\"\ncompatibility_date = \"2026-08-04\"\n",
			"src/index.ts":  `import os from "node:os"; ` + respond + `typeof os.platform + typeof process.env) } }`,
		}},
		{name: "old-date", files: map[string]string{
			"wrangler.toml": "name = \"x\"\nmain = \"src/index.js\"\ncompatibility_date = \"2022-01-01\"\n",
			"src/index.js":  respond + `String(typeof navigator) + new URL("http://x/a b").href) } }`,
		}},
		{name: "vars-toml", files: map[string]string{
			"wrangler.toml": "name = \"x\"\nmain = \"src/index.js\"\ncompatibility_date = \"2026-11-17\"\n[vars]\nA = \"text\"\nB = { c = [1, 2.5, true] }\nN = 7\n",
			"src/index.js":  `export default { fetch(r, env) { return Response.json([env.A, env.B, env.N]) } }`,
		}},
		{name: "environment", args: []string{"--env", "staging"}, src: deploy.Source{Environment: "staging"}, files: map[string]string{
			"wrangler.jsonc": config(`,"vars":{"A":"top"},"define":{"D":"\"top\""},"env":{"staging":{"vars":{"A":"staging"},"define":{"D":"\"staging\""}}}`),
			"src/index.ts":   `declare const D: string; export default { fetch(r: Request, env: any) { return new Response(env.A + D) } }`,
		}},
		{name: "define-alias", files: map[string]string{
			"wrangler.jsonc": config(`,"define":{"VERSION":"\"1.2\"","FLAG":"false"},"alias":{"old":"./src/new.ts","itty-router":"hono"}`),
			"src/index.ts":   `import { v } from "old"; import * as h from "itty-router"; declare const VERSION: string, FLAG: boolean; export default { fetch() { return new Response(v + VERSION + (FLAG ? "on" : "off") + typeof (h as any).Hono + process.env.NODE_ENV + navigator.userAgent) } }`,
			"src/new.ts":     `export const v = "new"`,
		}},
		{name: "minify", args: []string{"--minify"}, src: deploy.Source{Minify: true}, files: map[string]string{
			"wrangler.jsonc": config(""),
			"src/index.ts":   `import { Hono } from "hono"; class LongName { method() { return "m" } } const app = new Hono(); app.get("/", (c) => c.text(LongName.name + new LongName().method())); export default app`,
		}},

		{name: "keep-names-off", files: map[string]string{
			"wrangler.jsonc": config(`,"keep_names":false`),
			"src/index.ts":   `function foo() {} const bar = () => {}; ` + respond + `foo.name + bar.name) } }`,
		}},
		{name: "no-source-maps", files: map[string]string{
			"wrangler.jsonc": config(`,"upload_source_maps":false`),
			"src/index.ts":   respond + `"no maps") } }`,
		}},
		{name: "jsx-factory", files: map[string]string{
			"wrangler.jsonc": `{"name":"x","compatibility_date":"2026-11-17","main":"src/index.jsx","jsx_factory":"h","jsx_fragment":"F"}`,
			"src/index.jsx":  `const F = "frag"; function h(t, p, ...c) { return t + "(" + c.join() + ")" } ` + respond + `<><a x="1">b</a></>) } }`,
		}},
		{name: "tsconfig-paths", files: map[string]string{
			"wrangler.jsonc":          config(""),
			"tsconfig.json":           `{"extends":"./base/tsconfig.base.json","compilerOptions":{"paths":{"@/*":["./src/lib/*"],"exact":["./src/exact.ts"]}}}`,
			"base/tsconfig.base.json": `{"compilerOptions":{"baseUrl":"..","experimentalDecorators":true,"useDefineForClassFields":false}}`,
			"src/index.ts":            `import { a } from "@/deep/a"; import e from "exact"; import b from "src/based"; function dec(t: any, k: string) { t["dec_" + k] = 1 } class B { set v(x: string) { (this as any).seen = x } } class A extends B { @dec m() {} } ` + respond + `a + e + b + (A.prototype as any).dec_m) } }`,
			"src/lib/deep/a.ts":       "export const a = 'a'", "src/exact.ts": "export default 'exact'", "src/based.ts": "export default 'based'",
		}},
		{name: "tsconfig-named", files: map[string]string{
			"wrangler.jsonc":       config(`,"tsconfig":"./tsconfig.worker.json"`),
			"tsconfig.json":        `{"compilerOptions":{"paths":{"lib":["./src/wrong.ts"]}}}`,
			"tsconfig.worker.json": `{"compilerOptions":{"paths":{"lib":["./src/right.ts"]}}}`,
			"src/index.ts":         `import x from "lib"; ` + respond + `x) } }`,
			"src/right.ts":         "export default 'right'", "src/wrong.ts": "export default 'wrong'",
		}},
		{name: "rules", files: map[string]string{
			"wrangler.jsonc": config(`,"rules":[{"type":"Text","globs":["**/*.md","**/*.graphql"],"fallthrough":true},{"type":"Data","globs":["**/*.dat"]}]`),
			"src/index.ts":   `import md from "./a.md"; import gql from "./b.graphql"; import dat from "./c.dat"; import t from "./d.txt"; ` + respond + `md + gql + dat.byteLength + t) } }`,
			"src/a.md":       "# md", "src/b.graphql": "type Q", "src/c.dat": "12345", "src/d.txt": "txt",
		}},
		{name: "preserve-names", files: map[string]string{
			"wrangler.jsonc":     config(`,"preserve_file_names":true`),
			"src/index.ts":       `import t from "./deep/hello.txt"; ` + respond + `t) } }`,
			"src/deep/hello.txt": "kept",
		}},
		{name: "additional-modules", files: map[string]string{
			"wrangler.jsonc": config(`,"find_additional_modules":true,"rules":[{"type":"ESModule","globs":["lang/*.js"]}]`),
			"src/index.ts":   `import en from "./lang/en.js"; import t from "./t.txt"; export default { async fetch() { const l = "de"; const m = "./lang/" + ["d", "e"].join("") + ".js"; return new Response(en + t + (await import(m)).default) } }`,
			"src/lang/en.js": "export default 'english'", "src/lang/de.js": "export default 'deutsch'", "src/t.txt": "text",
		}},

		{name: "no-bundle", unbundled: true, files: map[string]string{
			"wrangler.jsonc": `{"name":"x","compatibility_date":"2026-11-17","main":"src/index.js","no_bundle":true,"rules":[{"type":"ESModule","globs":["**/*.js"]},{"type":"CommonJS","globs":["**/*.cjs"]}]}`,
			"src/index.js":   `import { a } from "./lib/a.js"; import t from "./t.txt"; import c from "./c.cjs"; export default { async fetch() { const name = "b"; return new Response(a + t + c + (await import("./lib/" + name + ".js")).default) } }`,
			"src/lib/a.js":   "export const a = 'a'", "src/lib/b.js": "export default 'b'", "src/c.cjs": "module.exports = 'c'", "src/t.txt": "txt",
		}},
		ts("cjs-interop", `import a, { named } from "cjs-esm"; import b from "cjs-plain"; import * as ns from "cjs-esm"; `+respond+`JSON.stringify([a, named, b, Object.keys(ns)])) } }`,
			"node_modules/cjs-esm/index.js", "Object.defineProperty(exports, '__esModule', { value: true }); exports.default = 'def'; exports.named = 'n';",
			"node_modules/cjs-plain/index.js", "module.exports = { plain: 1 };"),
		ts("cjs-interop-module", `import a, { named } from "cjs-esm"; import * as ns from "cjs-esm"; `+respond+`JSON.stringify([a, named, Object.keys(ns)])) } }`,
			"package.json", `{"type":"module"}`, "node_modules/cjs-esm/package.json", `{"main":"index.js"}`,
			"node_modules/cjs-esm/index.js", "Object.defineProperty(exports, '__esModule', { value: true }); exports.default = 'def'; exports.named = 'n';"),
		ts("exports-conditions", `import a from "cond"; import sub from "cond/sub"; import p from "cond/feature/x.js"; const r = require("cond"); `+respond+`[a, sub, p, r].join()) } }`,
			"node_modules/cond/package.json", `{"name":"cond","exports":{".":{"types":"./t.d.ts","workerd":{"import":"./w.mjs","require":"./w.cjs"},"default":"./d.js"},"./sub":["invalid","./sub.js"],"./feature/*":"./f/*","./feature/private/*":null}}`,
			"node_modules/cond/w.mjs", "export default 'w-import'", "node_modules/cond/w.cjs", "module.exports = 'w-require'", "node_modules/cond/d.js", "export default 'd'",
			"node_modules/cond/sub.js", "export default 'sub'", "node_modules/cond/f/x.js", "export default 'fx'"),
		ts("browser-field", `import a from "bf"; import b from "bf2"; import c from "dual-import"; `+respond+`JSON.stringify([a, b, c])) } }`,
			"node_modules/bf/package.json", `{"main":"./main.js","browser":"./browser.js","module":"./module.js"}`, "node_modules/bf/browser.js", "export default 'browser'", "node_modules/bf/main.js", "module.exports='main'", "node_modules/bf/module.js", "export default 'module'",
			"node_modules/bf2/package.json", `{"main":"./lib/index","browser":{"./lib/node.js":"./lib/web.js","fs":false,"other":"./lib/other.js"}}`, "node_modules/bf2/lib/index.js", "module.exports = [require('./node'), typeof require('fs'), require('other')].join()", "node_modules/bf2/lib/node.js", "module.exports = 'node'", "node_modules/bf2/lib/web.js", "module.exports = 'web'", "node_modules/bf2/lib/other.js", "module.exports = 'other'",
			"node_modules/dual-import/package.json", `{"main":"./main.js","module":"./module.js"}`, "node_modules/dual-import/main.js", "module.exports = 'cjs'", "node_modules/dual-import/module.js", "export default 'esm'"),
		ts("dual-both", `import c from "dual"; import u from "user"; `+respond+`JSON.stringify([c.tag ?? c, u])) } }`,
			"node_modules/dual/package.json", `{"main":"./main.js","module":"./module.js"}`, "node_modules/dual/main.js", "exports.tag = 'cjs'", "node_modules/dual/module.js", "export default { tag: 'esm' }",
			"node_modules/user/index.js", "module.exports = require('dual').tag"),
		ts("imports-self", `import a from "#lib/a"; import s from "me/pub"; `+respond+`a + s) } }`,
			"package.json", `{"name":"me","type":"module","imports":{"#lib/*":{"workerd":"./src/lib/*.ts"}},"exports":{"./pub":"./src/pub.ts"}}`, "src/lib/a.ts", "export default 'a'", "src/pub.ts", "export default 'pub'"),
		ts("side-effects", `import { used } from "pure"; import "pure/effect.js"; `+respond+`used + (globalThis as any).effects) } }`,
			"node_modules/pure/package.json", `{"sideEffects":["./effect.js"],"main":"index.js"}`, "node_modules/pure/index.js", "export { used } from './used.js'; export { unused } from './unused.js'", "node_modules/pure/used.js", "globalThis.effects = (globalThis.effects ?? '') + 'used '; export const used = 'u'", "node_modules/pure/unused.js", "globalThis.effects = (globalThis.effects ?? '') + 'unused '; export const unused = 1", "node_modules/pure/effect.js", "globalThis.effects = (globalThis.effects ?? '') + 'effect '"),
		ts("dynamic-import", `export default { async fetch() { const { x } = await import("./lazy"); let caught = "no"; try { await import("./missing-on-purpose") } catch { caught = "yes" } return new Response(x + caught) } }`, "src/lazy.ts", "export const x = 'lazy'"),

		differs(gets(ts("glob-import", "export default { async fetch(r: Request) { const l = new URL(r.url).pathname.slice(1) || 'en'; try { return new Response((await import(`./lang/${l}.js`)).default) } catch (e) { return new Response(String(e), { status: 404 }) } } }", "src/lang/en.js", "export default 'english'", "src/lang/de.js", "export default 'deutsch'", "src/lang/readme.md", "x"), "/", "/de", "/fr"), globDiff),
		differs(ts("glob-require", `const load = (n: string) => require("./parts/" + n); `+respond+`load("a.js") + load("deep/b.js")) } }`, "src/parts/a.js", "module.exports = 'a'", "src/parts/deep/b.js", "module.exports = 'b'"), globDiff),
		ts("css-json-tree", `import "./style.css"; import pkg from "../package.json"; `+respond+`pkg.name) } }`, "src/style.css", "p { color: red }", "package.json", `{"name":"named-here"}`),
		ts("classes", `class A { static s = 1; #p = 2; static { A.s = 5 } get p() { return this.#p } accessor q = 3 } `+respond+`[A.s, new A().p, new A().q, A.name].join()) } }`),
		ts("cloudflare-workers", `import { WorkerEntrypoint, env } from "cloudflare:workers"; export class Other extends WorkerEntrypoint { hi() { return 1 } } export default class extends WorkerEntrypoint { async fetch() { return new Response(typeof env) } }`),
		ts("top-level-await", `const v = await Promise.resolve("tla"); `+respond+`v) } }`),
		gets(ts("throws", `export default { fetch(r: Request) { if (new URL(r.url).pathname === "/boom") throw new TypeError("boom"); return new Response("ok") } }`), "/", "/boom"),
		{name: "js-with-jsx", files: map[string]string{
			"wrangler.jsonc": `{"name":"x","compatibility_date":"2026-11-17","main":"src/index.js"}`,
			"src/index.js":   `const React = { createElement: (t, p, c) => t + c }; ` + respond + `<b>in js</b>) } }`,
		}},
		{name: "entry-by-argument", args: []string{"lib/odd.ts"}, src: deploy.Source{Entry: "lib/odd.ts", Name: "x", CompatibilityDate: "2026-11-17"}, files: map[string]string{
			"lib/odd.ts": `import { y } from "../y"; ` + respond + `y) } }`, "y.ts": "export const y = 'up'",
		}},
		{name: "redirected-config", files: map[string]string{
			"wrangler.jsonc":               `{"name":"x","compatibility_date":"2026-11-17","main":"src/wrong.ts"}`,
			".wrangler/deploy/config.json": `{"configPath":"../../dist/wrangler.json"}`,
			"dist/wrangler.json":           `{"name":"x","compatibility_date":"2026-11-17","main":"index.js"}`,
			"dist/index.js":                respond + `"redirected") } }`,
			"src/wrong.ts":                 respond + `"wrong") } }`,
		}},
	}
}
