package cloudflare_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// driveAll makes the client do everything that it can do.
func driveAll(t *testing.T, f *fake, c *cloudflare.Client) {
	t.Helper()
	newAssetServer(t, f, 2)
	newTailServer(t, f)
	if _, err := c.AskClock(t.Context()); err != nil {
		t.Fatal(err)
	}
	grant, err := c.Provision(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	acct := &grant.Account
	a := hello()
	a.Assets = site().Assets
	if _, err := c.Upload(t.Context(), acct, deploy.Upload{Artifact: a}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.EnableRoute(t.Context(), acct, worker); err != nil {
		t.Fatal(err)
	}
	ok := f.routes[routeUpload]
	f.on(routeUpload, refusal(403, 10000, "Authentication error"))
	_, err = c.Upload(t.Context(), acct, deploy.Upload{Artifact: hello()})
	wantError(t, err, deploy.CodeAPIRefused, "")
	f.on(routeUpload, ok)
	driveResources(t, f, c)
	driveCaretaker(t, f, c)
	tail, err := c.Tail(t.Context(), acct, worker)
	if err != nil {
		t.Fatal(err)
	}
	if err := tail.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteWorker(t.Context(), acct, worker); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// driveResources makes every call about resources.
func driveResources(t *testing.T, f *fake, c *cloudflare.Client) {
	t.Helper()
	const base = "/accounts/" + accountID
	id := map[string]string{"id": "x1", "uuid": "x1", "queue_id": "x1", "queue_name": "jobs"}
	f.on("GET "+base+"/workers/scripts/"+worker+"/settings", result(map[string]any{"bindings": []any{}}))
	f.on("GET "+base+"/workers/services/"+worker, result(map[string]any{}))
	f.on("PUT "+base+"/workers/scripts/"+worker+"/schedules", result(nil))
	f.on("GET "+base+"/storage/kv/namespaces", result([]any{}))
	f.on("POST "+base+"/storage/kv/namespaces", result(id))
	f.on("GET "+base+"/storage/kv/namespaces/none", refusal(404, 10013, "none"))
	f.on("GET "+base+"/d1/database/notes", refusal(404, 7404, "none"))
	f.on("POST "+base+"/d1/database", result(id))
	f.on("POST "+base+"/d1/database/x1/query", result([]any{map[string]any{"success": true}}))
	f.on("GET "+base+"/queues", result([]any{}))
	f.on("POST "+base+"/queues", result(id))
	f.on("POST "+base+"/queues/x1/consumers", result(nil))
	f.on("PUT "+base+"/queues/x1/consumers/c1", result(nil))
	a := app()
	a.Bindings[1]["namespace_id"] = "none"
	if _, err := c.Prepare(t.Context(), account(), a, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Trigger(t.Context(), account(), a); err != nil {
		t.Fatal(err)
	}
	f.on("GET "+base+"/queues", result([]any{map[string]any{"queue_id": "x1", "queue_name": "jobs", "consumers": []any{map[string]any{"consumer_id": "c1", "type": "worker", "script": worker}}}}))
	if _, err := c.Trigger(t.Context(), account(), a); err != nil {
		t.Fatal(err)
	}
}

func TestEveryCallIsOnTheList(t *testing.T) {
	f := newFake(t).happy()
	driveAll(t, f, f.newClient(t))
	pattern := func(c cloudflare.Call) *regexp.Regexp {
		return regexp.MustCompile("^" + strings.ReplaceAll(c.Path, "{id}", "[A-Za-z0-9_-]+") + "$")
	}
	used := map[string]bool{}
	for _, s := range f.requests() {
		if s.Path == tailPath {
			if s.Header.Get("Authorization") != "" || strings.Contains(s.Query, "SECRET_of") {
				t.Error("the WebSocket carries the account's token")
			}
			continue
		}
		listed := false
		for _, call := range cloudflare.Calls() {
			if call.Method != s.Method || !pattern(call).MatchString(s.Path) {
				continue
			}
			listed, used[call.Method+call.Path] = true, true
			want := map[cloudflare.Credential]string{
				cloudflare.NoCredential: "", cloudflare.AccountToken: "Bearer " + apiToken, cloudflare.AssetToken: "Bearer jwt_SECRET_session",
			}[call.Credential]
			if got := s.Header.Get("Authorization"); got != want {
				t.Errorf("%s %s carries %q, want %q", s.Method, s.Path, got, want)
			}
		}
		if !listed {
			t.Errorf("%s %s is not on the list", s.Method, s.Path)
		}
	}
	for _, call := range cloudflare.Calls() {
		if !used[call.Method+call.Path] {
			t.Errorf("%s %s is on the list, but nothing makes it", call.Method, call.Path)
		}
		if call.Why == "" {
			t.Errorf("%s %s: why?", call.Method, call.Path)
		}
	}
}

func TestWhatIsNotOnTheListNeverLeaves(t *testing.T) {
	f := newFake(t).happy()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request to another host left") }))
	defer other.Close()
	base := f.URL + basePath
	token := http.Header{"Authorization": {"Bearer " + apiToken}}
	for _, tc := range []struct {
		method, url string
		header      http.Header
	}{
		{"GET", base + "/user", token},
		{"GET", base + "/accounts", token},
		{"DELETE", base + "/accounts/" + accountID, token},
		{"DELETE", base + scriptPath + "/subdomain", token},
		{"GET", base + scriptPath, token},
		{"PUT", base + "/accounts/" + accountID + "/workers/scripts/a%2F..%2Fb", token},
		{"PUT", base + "/accounts/" + accountID + "/workers/scripts/..", token},
		{"PUT", base + scriptPath + "/", token},
		{"PUT", base + "/" + scriptPath, token},
		{"PUT", f.URL + scriptPath, token},
		{"POST", base + "/provisioning/previews", token},                                          // a credential where none belongs
		{"PUT", base + scriptPath, nil},                                                           // none where one belongs
		{"PUT", base + scriptPath, http.Header{"Authorization": {"Basic x"}}},                     // another kind
		{"PUT", base + scriptPath, http.Header{"Authorization": {"Bearer a", "Bearer b"}}},        // two
		{"PUT", base + scriptPath, http.Header{"Authorization": {"Bearer a"}, "Cookie": {"a=b"}}}, // a cookie
		{"GET", base, http.Header{"X-Auth-Key": {"k"}}},                                           // the old kind
		{"GET", other.URL + basePath, nil},
		{"PUT", other.URL + basePath + scriptPath, token},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, tc.url, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(req.Header, tc.header)
		res, err := f.newClient(t).HTTP().Do(req)
		if err == nil {
			_ = res.Body.Close()
			t.Errorf("%s %s left with %v", tc.method, tc.url, tc.header)
			continue
		}
		wantError(t, err, deploy.CodeInternal, "")
	}
	if n := len(f.requests()); n != 0 {
		t.Errorf("%d requests left", n)
	}
}

func TestTheSocketClientOpensSocketsOnly(t *testing.T) {
	f := newFake(t)
	c := f.newClient(t)
	for _, header := range []http.Header{nil, {"Upgrade": {"websocket"}, "Authorization": {"Bearer x"}}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(req.Header, header)
		res, err := c.Sockets().Do(req)
		if err == nil {
			_ = res.Body.Close()
		}
		wantError(t, err, deploy.CodeInternal, "")
	}
	if len(f.requests()) != 0 {
		t.Error("something left")
	}
}

func TestARedirectDoesNotCarryTheTokenAway(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		f := newFake(t).happy()
		f.on(routeUpload, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, status) })
		_, err := f.newClient(t).Upload(t.Context(), account(), deploy.Upload{Artifact: hello()})
		wantError(t, err, deploy.CodeAPIBadResponse, "redirect")
	}
}
