package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// recorder stands before the sandbox's API and keeps what a client says of a Worker:
// the metadata of each upload, its triggers, and what it made.
type recorder struct {
	*httptest.Server
	mu      sync.Mutex
	uploads []map[string]any
	others  []string // method, path without ids, body
}

func record(t *testing.T, api string) *recorder {
	t.Helper()
	target, err := url.Parse(strings.TrimSuffix(api, "/client/v4"))
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Upgrade") == "" {
			r.keep(req)
		}
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

var ids = regexp.MustCompile(`/[0-9a-f]{32}\b|/[0-9a-f-]{36}\b`)

func (r *recorder) keep(req *http.Request) {
	raw, _ := io.ReadAll(req.Body)
	req.Body = io.NopCloser(bytes.NewReader(raw))
	path := strings.TrimPrefix(req.URL.Path, "/client/v4")
	r.mu.Lock()
	defer r.mu.Unlock()
	_, params, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	isUpload := regexp.MustCompile(`/scripts/[^/]+(/versions)?$`).MatchString(path) && params["boundary"] != ""
	switch {
	case isUpload:
		form, err := multipart.NewReader(bytes.NewReader(raw), params["boundary"]).ReadForm(8 << 20)
		if err != nil || len(form.Value["metadata"]) != 1 {
			return
		}
		var md map[string]any
		_ = json.Unmarshal([]byte(form.Value["metadata"][0]), &md)
		r.uploads = append(r.uploads, md)
	case req.Method != http.MethodGet && regexp.MustCompile(`/(schedules|consumers|namespaces|database|queues)(/[^/]+)?$`).MatchString(path):
		r.others = append(r.others, req.Method+" "+ids.ReplaceAllString(path, "/{id}")+" "+compact(raw))
	}
}

func compact(raw []byte) string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return string(raw)
	}
	b, _ := json.Marshal(v)
	return string(b)
}

// comparable takes from metadata what is meant to differ, each for a reason, and puts
// the ids that the two accounts gave their resources under one name.
func comparable(md map[string]any) map[string]any {
	// Ours goes to the version's record; wrangler has none without --message.
	delete(md, "annotations")
	delete(md, "tags") // whose it is: ours alone
	// wrangler's own statistics, and its wish to let old Durable Objects finish for up
	// to five minutes: after a redeploy the new code is what an agent wants to see.
	delete(md, "package_dependencies")
	delete(md, "code_update_strategy")
	if assets, _ := md["assets"].(map[string]any); assets != nil {
		assets["jwt"] = "{jwt}"
	}
	list, _ := md["bindings"].([]any)
	for _, b := range list {
		one, _ := b.(map[string]any)
		for _, key := range []string{"namespace_id", "id"} {
			if one[key] != nil {
				one[key] = "{" + key + "}"
			}
		}
	}
	return md
}

// TestMetadataAsWranglers: the same projects, deployed twice by wrangler and by us on
// accounts of their own, come to the same metadata field by field, the same resources
// and triggers, and the same answers.
func TestMetadataAsWranglers(t *testing.T) {
	p := peertest.Get(t)
	w := kindWorld(t)
	const date = `"compatibility_date": "2026-08-01"`
	const object = `import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject { async next() { const n = (await this.ctx.storage.get("n") ?? 0) + 1; await this.ctx.storage.put("n", n); return n; } }
export class Other extends DurableObject {}
`
	for name, c := range map[string]struct {
		project []string
		paths   []string
	}{
		"kv": {[]string{
			"wrangler.jsonc", `{"name": "kv-auto", "main": "w.js", ` + date + `, "vars": {"A": "x", "N": 3, "O": {"a": [1, true, null]}}, "kv_namespaces": [{"binding": "CACHE_KV"}]}`,
			"w.js", `export default { async fetch(r, env) { await env.CACHE_KV.put("k", "v" + env.A + env.N); return new Response(await env.CACHE_KV.get("k")); } };`,
		}, []string{"/"}},
		"d1": {[]string{
			"wrangler.jsonc", `{"name": "d1-auto", "main": "w.js", ` + date + `, "d1_databases": [{"binding": "DB", "database_name": "notes-db"}]}`,
			"w.js", `export default { async fetch(r, env) { if (!r.url.endsWith("/count")) return new Response("probed"); await env.DB.exec("CREATE TABLE IF NOT EXISTS t (a)"); await env.DB.prepare("INSERT INTO t VALUES (1)").run(); return Response.json((await env.DB.prepare("SELECT count(*) AS n FROM t").all()).results); } };`,
		}, []string{"/count", "/count"}},
		"objects": {[]string{
			"wrangler.jsonc", `{"name": "do", "main": "w.js", ` + date + `, "durable_objects": {"bindings": [{"name": "C", "class_name": "Counter"}]}, "migrations": [{"tag": "v1", "new_sqlite_classes": ["Counter"]}, {"tag": "v2", "new_sqlite_classes": ["Other"]}]}`,
			"w.js", object + `export default { async fetch(r, env) { return new Response(r.url.endsWith("/count") ? "n=" + await env.C.getByName("x").next() : "probed"); } };`,
		}, []string{"/count", "/count"}},
		"queues and cron": {[]string{
			"wrangler.jsonc", `{"name": "jobs", "main": "w.js", ` + date + `, "queues": {"producers": [{"binding": "Q", "queue": "my-queue"}], "consumers": [{"queue": "my-queue", "max_batch_size": 5, "max_retries": 2, "max_batch_timeout": 3}]}, "triggers": {"crons": ["*/5 * * * *", "0 0 * * 1"]}}`,
			"w.js", `export default { async fetch(r, env) { await env.Q.send({ a: 1 }); return new Response("sent"); }, async queue() {}, async scheduled() {} };`,
		}, []string{"/"}},
		"flags, service and observability": {[]string{
			"wrangler.jsonc", `{"name": "self", "main": "w.ts", ` + date + `, "compatibility_flags": ["nodejs_compat"], "observability": {"enabled": true, "head_sampling_rate": 0.5}, "version_metadata": {"binding": "V"}}`,
			"w.ts", `import { Buffer } from "node:buffer"; export default { fetch: () => new Response(Buffer.from("aGk=", "base64").toString()) };`,
		}, []string{"/"}},
		"assets": {[]string{
			"wrangler.jsonc", `{"name": "site", "main": "w.js", ` + date + `, "assets": {"directory": "pub", "binding": "ASSETS", "html_handling": "none", "not_found_handling": "404-page", "run_worker_first": ["/api/*", "!/api/static/*"]}}`,
			"w.js", `export default { fetch: () => new Response("worker") };`, "pub/index.html", "<h1>home</h1>", "pub/_headers", "/*\n  X-A: b\n", "pub/_redirects", "/old /new 301\n",
		}, []string{"/index.html", "/api/x", "/old"}},
		"assets only": {[]string{
			"wrangler.jsonc", `{"name": "only", ` + date + `, "assets": {"directory": "pub", "not_found_handling": "single-page-application"}}`, "pub/index.html", "<h1>spa</h1>",
		}, []string{"/", "/deep/er"}},
	} {
		t.Run(name, func(t *testing.T) {
			theirs, ours := record(t, w.API), record(t, w.API)
			home, dir := t.TempDir(), w.write(c.project...)
			host, address := "", ""
			a := w.agent([]string{"stdio", "--api-base-url", ours.URL + "/client/v4", "--edge-url", w.Edge, "--state-dir", t.TempDir(), "--root", dir})
			for round := range 2 {
				r, err := p.Wrangler(t.Context(), theirs.URL+"/client/v4", home, dir, "deploy", "--temporary", "--keep-vars=false")
				if err != nil || r.Code != 0 {
					t.Fatalf("wrangler: %d %v\n%s\n%s", r.Code, err, r.Stdout, r.Stderr)
				}
				host = regexp.MustCompile(`https://([a-z0-9.-]+\.workers\.dev)`).FindStringSubmatch(r.Stdout)[1]
				address = a.deploy(map[string]any{"project_dir": dir, "fresh": false}).URL
				for _, path := range c.paths {
					if want, got := w.byHost(host, path), w.seen(address, path); want != got {
						t.Errorf("round %d, %s: ours\n%s\nwrangler's\n%s", round, path, got, want)
					}
				}
				if round == 0 { // else there is nothing for us to upload
					touch(t, dir)
				}
			}
			if len(ours.uploads) != 2 || len(theirs.uploads) != 2 {
				t.Fatalf("%d uploads of ours, %d of wrangler's", len(ours.uploads), len(theirs.uploads))
			}
			for i := range ours.uploads {
				if diff := cmp.Diff(comparable(theirs.uploads[i]), comparable(ours.uploads[i])); diff != "" {
					t.Errorf("upload %d (-wrangler +ours):\n%s", i, diff)
				}
			}
			slices.Sort(theirs.others)
			slices.Sort(ours.others)
			if diff := cmp.Diff(slices.Compact(theirs.others), slices.Compact(ours.others)); diff != "" {
				t.Errorf("what was made and set (-wrangler +ours):\n%s", diff)
			}
		})
	}
}

// touch changes the project's code, or its page, without changing what it does.
func touch(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"w.js", "w.ts", "pub/index.html"} {
		if appendTo(dir+"/"+name, fmt.Sprintf("\n<!-- %d -->\n", time.Now().UnixNano()), strings.HasSuffix(name, ".html")) {
			return
		}
	}
	t.Fatal("nothing to touch")
}

// appendTo adds a comment to a file that exists; it tells whether it does.
func appendTo(path, text string, html bool) bool {
	raw, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	if !html {
		text = strings.NewReplacer("<!-- ", "globalThis.touched = ", " -->", ";").Replace(text)
	}
	return os.WriteFile(path, append(raw, text...), 0o600) == nil
}
