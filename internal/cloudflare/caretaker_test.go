package cloudflare_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

const (
	base         = "/accounts/" + accountID
	routeVersion = "GET " + scriptPath + "/versions/" + version
	routeWorker  = "GET " + base + "/workers/workers/" + worker
)

func deployments(ids ...string) http.HandlerFunc {
	all := []any{}
	for _, id := range ids {
		all = append(all, map[string]any{"id": "d", "versions": []any{map[string]any{"version_id": id, "percentage": 100}}})
	}
	return result(map[string]any{"deployments": all})
}

func served(enabled bool, url string) http.HandlerFunc {
	return result(map[string]any{"subdomain": map[string]any{"enabled": enabled, "url": url}})
}

// cared answers everything that a caretaker asks, as the live API does.
func (f *fake) cared() *fake {
	f.on(routeDeployments, deployments(version, "00000000-0000-4000-8000-000000000000"))
	f.on(routeVersion, result(map[string]any{"id": version, "annotations": map[string]any{
		"workers/triggered_by": "upload", "workers/tag": "0123456789abcdef", "workers/message": "hourglass s_1",
	}}))
	f.on(routeWorker, served(true, "https://hello.ethereal-composer.workers.dev:8080"))
	f.on("GET "+base+"/workers/scripts", result([]any{map[string]any{"id": worker, "tag": "t"}, map[string]any{"id": "other"}}))
	f.on("GET "+base+"/storage/kv/namespaces", result([]any{map[string]any{"id": "n1", "title": "notes cache"}}))
	f.on("GET "+base+"/d1/database", result([]any{map[string]any{"uuid": "u-1", "name": "notes"}}))
	f.on("GET "+base+"/queues", result([]any{map[string]any{"queue_id": "q1", "queue_name": "jobs"}}))
	f.on("GET "+base+"/queues/q1", result(map[string]any{"queue_id": "q1", "queue_name": "jobs", "consumers": []any{map[string]any{"consumer_id": "c1", "type": "worker", "script": worker}}}))
	f.on("DELETE "+base+"/queues/q1/consumers/c1", result(nil))
	for _, path := range []string{"/queues/q1", "/storage/kv/namespaces/n1", "/d1/database/u-1"} {
		f.on("DELETE "+base+path, result(nil))
	}
	return f
}

// driveCaretaker makes every call of the caretaker.
func driveCaretaker(t *testing.T, f *fake, c *cloudflare.Client) {
	t.Helper()
	f.cared()
	if _, err := c.Deployed(t.Context(), account(), worker); err != nil {
		t.Fatal(err)
	}
	all, err := c.Inventory(t.Context(), account())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all.Resources {
		if err := c.DeleteResource(t.Context(), account(), r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeployed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(f *fake)
		want   *deploy.Served
		code   deploy.Code
	}{
		{name: "serving", want: &deploy.Served{VersionID: version, Tag: "0123456789abcdef", Message: "hourglass s_1", Host: "hello.ethereal-composer.workers.dev"}},
		{name: "no such Worker", change: func(f *fake) { f.on(routeDeployments, refusal(404, 10007, "none")) }},
		{name: "nor such a service", change: func(f *fake) { f.on(routeDeployments, refusal(404, 10090, "none")) }},
		{name: "a draft", change: func(f *fake) { f.on(routeDeployments, deployments()) }},
		{
			name: "route off", change: func(f *fake) { f.on(routeWorker, served(false, "https://hello.ethereal-composer.workers.dev")) },
			want: &deploy.Served{VersionID: version, Tag: "0123456789abcdef", Message: "hourglass s_1"},
		},
		{
			name: "no address", change: func(f *fake) { f.on(routeWorker, served(true, "")) },
			want: &deploy.Served{VersionID: version, Tag: "0123456789abcdef", Message: "hourglass s_1", Host: "hello.ethereal-composer.workers.dev"},
		},
		{
			name: "no notes", change: func(f *fake) { f.on(routeVersion, result(map[string]any{"id": version})) },
			want: &deploy.Served{VersionID: version, Host: "hello.ethereal-composer.workers.dev"},
		},
		{name: "not authorized", change: func(f *fake) { f.on(routeDeployments, refusal(401, 10000, "Authentication error")) }, code: deploy.CodeAccountLost},
		{name: "no list", change: func(f *fake) { f.on(routeDeployments, result([]any{})) }, code: deploy.CodeAPIBadResponse},
		{name: "no versions", change: func(f *fake) { f.on(routeDeployments, result(map[string]any{"deployments": []any{map[string]any{}}})) }, code: deploy.CodeAPIBadResponse},
		{name: "no id", change: func(f *fake) { f.on(routeDeployments, deployments("../x")) }, code: deploy.CodeAPIBadResponse},
		{name: "whether it is on is not said", change: func(f *fake) { f.on(routeWorker, result(map[string]any{})) }, code: deploy.CodeAPIBadResponse},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t).happy().cared()
			if tc.change != nil {
				tc.change(f)
			}
			got, err := f.newClient(t).Deployed(t.Context(), account(), worker)
			if tc.code != "" {
				wantError(t, err, tc.code, "")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInventory(t *testing.T) {
	f := newFake(t).cared()
	// 250 namespaces in three pages; queues come whole whatever page is asked for.
	f.on("GET "+base+"/storage/kv/namespaces", func(w http.ResponseWriter, r *http.Request) {
		rows := []any{}
		var page int
		_, _ = fmt.Sscan(r.URL.Query().Get("page"), &page)
		for i := (page - 1) * 100; i < min(250, page*100); i++ {
			rows = append(rows, map[string]any{"id": fmt.Sprintf("n%03d", i), "title": fmt.Sprintf("title %03d", i)})
		}
		result(rows)(w, r)
	})
	many := []any{}
	for i := range 100 {
		many = append(many, map[string]any{"queue_id": fmt.Sprintf("q%02d", i), "queue_name": fmt.Sprintf("jobs-%02d", i)})
	}
	f.on("GET "+base+"/queues", result(many))
	got, err := f.newClient(t).Inventory(t.Context(), account())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Workers, []string{worker, "other"}) || len(got.Resources) != 351 {
		t.Fatalf("%v, %d resources", got.Workers, len(got.Resources))
	}
	if got.Resources[0] != (deploy.OwnedResource{Type: "d1", Name: "notes", Ref: "u-1"}) || got.Resources[250] != (deploy.OwnedResource{Type: "kv_namespace", Name: "title 249", Ref: "n249"}) {
		t.Errorf("%+v %+v", got.Resources[0], got.Resources[250])
	}
	// What can't be read whole is not taken for less than there is.
	for _, bad := range []http.HandlerFunc{
		result(map[string]any{}), result([]any{map[string]any{"title": "x"}}), result([]any{map[string]any{"id": "../x", "title": "x"}}),
		result([]any{map[string]any{"id": "x"}}), result([]any{7}),
	} {
		f.on("GET "+base+"/storage/kv/namespaces", bad)
		_, err := f.newClient(t).Inventory(t.Context(), account())
		wantError(t, err, deploy.CodeAPIBadResponse, "listing KV namespaces")
	}
}

// TestDeletes: each is forced or in order where it has to be, and what is gone is no error.
func TestDeletes(t *testing.T) {
	f := newFake(t).happy().cared()
	c := f.newClient(t)
	all := []deploy.OwnedResource{{Type: "queue", Name: "jobs", Ref: "q1"}, {Type: "kv_namespace", Name: "x", Ref: "n1"}, {Type: "d1", Name: "y", Ref: "u-1"}}
	drop := func() {
		t.Helper()
		if err := c.DeleteWorker(t.Context(), account(), worker); err != nil {
			t.Error(err)
		}
		for _, r := range all {
			if err := c.DeleteResource(t.Context(), account(), r); err != nil {
				t.Errorf("%s: %v", r.Type, err)
			}
		}
	}
	drop()
	var did []string
	for _, s := range f.requests() {
		did = append(did, strings.TrimPrefix(s.Method+" "+strings.TrimPrefix(s.Path, base)+"?"+s.Query, ""))
	}
	want := []string{
		"DELETE /workers/scripts/hello?force=true", "GET /queues/q1?", "DELETE /queues/q1/consumers/c1?", "DELETE /queues/q1?",
		"DELETE /storage/kv/namespaces/n1?", "DELETE /d1/database/u-1?",
	}
	if diff := cmp.Diff(want, did); diff != "" {
		t.Error(diff)
	}
	f.on(routeDelete, refusal(404, 10007, "gone"))
	f.on("GET "+base+"/queues/q1", refusal(404, 11000, "gone"))
	f.on("DELETE "+base+"/queues/q1", refusal(404, 11000, "gone"))
	f.on("DELETE "+base+"/storage/kv/namespaces/n1", refusal(404, 10013, "gone"))
	f.on("DELETE "+base+"/d1/database/u-1", refusal(404, 7404, "gone"))
	drop()
	for _, bad := range []deploy.OwnedResource{{Type: "r2", Ref: "x"}, {Type: "d1"}, {Type: "d1", Ref: "../x"}} {
		n := len(f.requests())
		wantError(t, c.DeleteResource(t.Context(), account(), bad), deploy.CodeInternal, "")
		if len(f.requests()) != n {
			t.Errorf("%+v: something was sent", bad)
		}
	}
	f.on(routeDelete, refusal(403, 4711, "no"))
	wantError(t, c.DeleteWorker(t.Context(), account(), worker), deploy.CodeAPIRefused, "no")
}
