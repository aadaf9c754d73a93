package cloudflare_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

const (
	routeScripts = "GET /accounts/" + accountID + "/workers/scripts"
)

// TestSight: one look tells the Workers and every version that was deployed under a name,
// in whatever form the API writes it.
func TestSight(t *testing.T) {
	f := newFake(t)
	f.on(routeScripts, result([]any{map[string]any{"id": worker}, map[string]any{"id": "strange"}}))
	f.on(routeDeployments, result(map[string]any{"deployments": []any{
		map[string]any{"id": "2", "versions": []any{map[string]any{"version_id": strings.ReplaceAll(version, "-", ""), "percentage": 90}, map[string]any{"version_id": "11111111-2222-4333-8444-555555555555", "percentage": 10}}},
		map[string]any{"id": "1", "versions": []any{map[string]any{"version_id": version, "percentage": 100}}},
	}}))
	c := f.newClient(t)
	got, err := c.Sight(t.Context(), account(), []string{worker})
	want := &deploy.Sighted{Workers: []string{worker, "strange"}, Versions: map[string][]string{worker: {version, "11111111-2222-4333-8444-555555555555"}}}
	if err != nil || !cmp.Equal(want, got) {
		t.Errorf("%+v %v", got, err)
	}
	f.on(routeDeployments, refusal(http.StatusNotFound, 10007, "none"))
	if got, err = c.Sight(t.Context(), account(), []string{worker}); err != nil || len(got.Versions) != 0 {
		t.Errorf("of a Worker that is gone: %+v %v", got, err)
	}
	f.on(routeDeployments, result(map[string]any{"deployments": []any{map[string]any{"versions": []any{map[string]any{"version_id": "../x"}}}}}))
	_, err = c.Sight(t.Context(), account(), []string{worker})
	wantError(t, err, deploy.CodeAPIBadResponse, "")
	f.on(routeScripts, refusal(http.StatusUnauthorized, 10000, "no"))
	_, err = c.Sight(t.Context(), account(), nil)
	wantError(t, err, deploy.CodeAccountLost, "")
	_, err = c.Sight(t.Context(), account(), []string{"Not A Name"})
	wantError(t, err, deploy.CodeNameInvalid, "")
}

// TestSightAgainstTheSandbox: what somebody else does with the account's token shows; also
// a version that was deployed over since.
func TestSightAgainstTheSandbox(t *testing.T) {
	urls := startSandbox(t)
	c, err := cloudflare.New(cloudflare.Config{BaseURL: urls.API})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	grant, err := c.Provision(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	acct := &grant.Account
	got, err := c.Sight(t.Context(), acct, []string{worker})
	if err != nil || len(got.Workers)+len(got.Versions) != 0 {
		t.Fatalf("of nothing: %+v %v", got, err)
	}
	first, second := put(t, c, acct, code("export default { fetch: () => new Response('1') }")), put(t, c, acct, code("export default { fetch: () => new Response('2') }"))
	strange := code("export default { fetch: () => new Response('strange') }")
	strange.Name = "strange"
	put(t, c, acct, strange)
	got, err = c.Sight(t.Context(), acct, []string{worker, "gone"})
	want := &deploy.Sighted{Workers: []string{worker, "strange"}, Versions: map[string][]string{worker: {second.VersionID, first.VersionID}}}
	if err != nil || !cmp.Equal(want, got) {
		t.Errorf("%+v %v, want %+v", got, err, want)
	}
}

// TestTagsAreTheWorkers: whose a Worker is shows wherever the API shows a Worker, and
// what its configuration says of tags does not take that away.
func TestTagsAreTheWorkers(t *testing.T) {
	urls := startSandbox(t)
	c, err := cloudflare.New(cloudflare.Config{BaseURL: urls.API})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	grant, err := c.Provision(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	acct := &grant.Account
	ask := func(path string) map[string]any {
		t.Helper()
		for range 20 { // the sandbox is as unkind as a good client does not notice
			if out := askOnce(t, urls.API+"/accounts/"+acct.ID+"/workers/"+path, acct.Token.Reveal()); out != nil {
				return out
			}
		}
		t.Fatalf("%s can't be had", path)
		return nil
	}
	a := code("export default { fetch: () => new Response('1') }")
	a.Metadata = map[string]any{"tags": []any{"theirs", "hourglass", "too", "many", "of", "them", "here"}}
	up, err := c.Upload(t.Context(), acct, deploy.Upload{
		Artifact: a, Tag: "0123456789abcdef", Message: "hourglass s_1", Tags: []string{"hourglass", "session=s_1", "digest=0123456789abcdef", "team=web"},
	})
	if err != nil {
		t.Fatal(err)
	}
	tags := []any{"hourglass", "session=s_1", "digest=0123456789abcdef", "team=web", "theirs", "too", "many", "of"}
	service := ask("services/" + worker)["default_environment"].(map[string]any)["script"].(map[string]any)
	for path, got := range map[string]map[string]any{
		"script-settings": ask("scripts/" + worker + "/script-settings"), "settings": ask("scripts/" + worker + "/settings"),
		"list": ask("scripts"), "worker": ask("workers/" + worker), "service": service,
	} {
		if diff := cmp.Diff(any(tags), got["tags"]); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	notes, _ := ask("scripts/" + worker + "/versions/" + up.VersionID)["annotations"].(map[string]any)
	if notes["workers/tag"] != "0123456789abcdef" || notes["workers/message"] != "hourglass s_1" {
		t.Errorf("annotations %v", notes)
	}
}

// askOnce gives the object of an answer, or the only one of its list; nil: it failed.
func askOnce(t *testing.T, url, token string) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return nil
	}
	defer res.Body.Close()
	var in struct{ Result any }
	if json.NewDecoder(res.Body).Decode(&in) != nil {
		return nil
	}
	if rows, ok := in.Result.([]any); ok && len(rows) == 1 {
		in.Result = rows[0]
	}
	out, _ := in.Result.(map[string]any)
	return out
}

// TestSecretsInTails: what is stripped is stripped before the cut.
func TestSecretsInTails(t *testing.T) {
	f := newFake(t).happy()
	s, conn, tail, _ := openTail(t, f, func(cfg *cloudflare.Config) {
		cfg.Redact = func(x string) string { return strings.ReplaceAll(x, "the-secret", "[gone]") }
	})
	long := strings.Repeat("x", 995)
	s.send(conn, `{"outcome":"exception","truncated":true,"eventTimestamp":1760000000000,"exceptions":[{"name":"the-secret","message":"the-secret","stack":"at the-secret"}],
		"logs":[{"message":["`+long+`the-secret"],"level":"log"},{"message":[{"k":"the-secret"}],"level":"warn"},{"message":["the\u0007-secret"],"level":"log"}]}`)
	got, err := tail.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(got)
	if strings.Contains(string(text), "the-s") || len(got.Logs) != 3 || got.At.UnixMilli() != 1760000000000 || !got.Truncated {
		t.Errorf("%s", text)
	}
	tail.Drop()
	if _, err := tail.Next(t.Context()); err == nil {
		t.Error("a stream that was dropped goes on")
	}
	for _, r := range f.requests() {
		if r.Method == http.MethodDelete {
			t.Errorf("%s %s: the API was told, with a token", r.Method, r.Path)
		}
	}
}
