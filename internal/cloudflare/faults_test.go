package cloudflare_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/sandbox"
)

// unkind is a sandbox whose faults a test chooses.
type unkind struct {
	t    *testing.T
	urls sandbox.URLs
}

// plan sets the faults; none with "".
func (u unkind) plan(rules string) {
	u.t.Helper()
	req, err := http.NewRequestWithContext(u.t.Context(), http.MethodPut, u.urls.Manage+"/faults", bytes.NewReader([]byte(`{"seed":1,"rules":[`+rules+`]}`)))
	if err != nil {
		u.t.Fatal(err)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		u.t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // nothing is written
	if text, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		u.t.Fatalf("%d %s", res.StatusCode, text)
	}
}

// met counts the faults that happened.
func (u unkind) met() (n int) {
	u.t.Helper()
	var in struct{ Met map[string]int }
	if err := json.Unmarshal([]byte(manageGet(u.t, u.urls.Manage+"/faults")), &in); err != nil {
		u.t.Fatal(err)
	}
	for _, k := range in.Met {
		n += k
	}
	return n
}

func (u unkind) client() *cloudflare.Client {
	u.t.Helper()
	c, err := cloudflare.New(cloudflare.Config{BaseURL: u.urls.API, RetryWait: time.Millisecond})
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (u unkind) account() *deploy.Account {
	u.t.Helper()
	grant, err := u.client().Provision(u.t.Context(), nil)
	if err != nil {
		u.t.Fatal(err)
	}
	return &grant.Account
}

// momentary are the kinds of faults that a call gets over, with what it repeats for.
func momentary() map[string]cloudflare.Reason {
	return map[string]cloudflare.Reason{
		"latency": "", "slow_edge": "", "rate_limited": "rate_limited", "server_error": "server_error", "bad_gateway": "server_error",
		"errors_null": "server_error", "reset_before": "cut_off", "reset_after": "cut_off", "truncated": "truncated", "not_json": "not_json",
	}
}

func once(why cloudflare.Reason) map[cloudflare.Reason]int64 {
	if why == "" {
		return nil
	}
	return map[cloudflare.Reason]int64{why: 1}
}

// TestFaultsWhereThingsAreMade: whatever goes wrong once with a request that makes
// something, it is there once afterwards, and the call succeeds.
func TestFaultsWhereThingsAreMade(t *testing.T) {
	u := unkind{t, startSandbox(t)}
	for kind, why := range momentary() {
		u.plan("")
		acct := u.account()
		a := app()
		a.Modules[0].Content = []byte(resourceful)
		var rules []string
		for _, endpoint := range []string{"storage/kv/namespaces", "d1/database", "queues", "queues/*/consumers"} {
			rules = append(rules, fmt.Sprintf(`{"endpoint":"POST /accounts/*/%s","kind":%q,"times":1,"latency_ms":1}`, endpoint, kind))
		}
		u.plan(strings.Join(rules, ","))
		c := u.client()
		p, err := c.Prepare(t.Context(), acct, a, nil)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		for _, r := range p.Resources {
			if r.State != deploy.ResourceMade {
				t.Errorf("%s: %+v", kind, r)
			}
		}
		if _, err = c.Upload(t.Context(), acct, deploy.Upload{Artifact: a, Bindings: p.Bindings, Objects: p.Objects}); err == nil {
			_, err = c.Trigger(t.Context(), acct, a)
		}
		want := map[cloudflare.Reason]int64{why: 4}
		if why == "" {
			want = nil
		}
		if diff := cmp.Diff(want, c.Stats().Retries); diff != "" || u.met() != 4 || err != nil {
			t.Errorf("%s: met %d, repeats: %s, %v", kind, u.met(), diff, err)
		}
		all, err := c.Inventory(t.Context(), acct)
		if err != nil || len(all.Resources) != 4 {
			t.Errorf("%s: %+v %v", kind, all, err)
		}
	}
}

// TestFaultsOfMigrations: a migration whose answer was lost is not applied twice. The
// second statement of each would fail, and the record would tell.
func TestFaultsOfMigrations(t *testing.T) {
	u := unkind{t, startSandbox(t)}
	for kind, why := range momentary() {
		u.plan("")
		acct := u.account()
		a := hello()
		a.Bindings = []deploy.Binding{{"name": "DB", "type": "d1"}}
		a.Resources = &deploy.Resources{Databases: []deploy.Database{{Binding: "DB", Name: "notes", Migrations: []deploy.Migration{
			{Name: "1.sql", File: "m/1.sql", SQL: "CREATE TABLE a (x); INSERT INTO a VALUES (1);"}, {Name: "2.sql", File: "m/2.sql", SQL: "INSERT INTO a SELECT x+1 FROM a;"},
		}}}}
		c := u.client()
		// The first two requests are about the record; the next is the first migration.
		u.plan(`{"endpoint":"POST /accounts/*/d1/database/*/query","kind":"latency","times":2},` + fmt.Sprintf(`{"endpoint":"POST /accounts/*/d1/database/*/query","kind":%q,"times":2,"latency_ms":1}`, kind))
		p, err := c.Prepare(t.Context(), acct, a, nil)
		if err != nil || len(p.Resources) != 1 || len(p.Resources[0].Applied) != 2 {
			t.Errorf("%s: %+v %v", kind, p, err)
			continue
		}
		if got := c.Stats().Retries[why]; why != "" && got != 2 {
			t.Errorf("%s: %d repeats for %s", kind, got, why)
		}
		u.plan("")
		if n := rows(t, u, acct, member(p.Bindings[0], "id"), "SELECT x FROM a"); n != 2 {
			t.Errorf("%s: %d rows: a migration ran twice, or not", kind, n)
		}
	}
}

func member(b deploy.Binding, key string) string { s, _ := b[key].(string); return s }

// rows asks the database from outside.
func rows(t *testing.T, u unkind, acct *deploy.Account, id, sql string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.urls.API+"/accounts/"+acct.ID+"/d1/database/"+id+"/query", strings.NewReader(fmt.Sprintf(`{"sql":%q}`, sql)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+acct.Token.Reveal())
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // nothing is written
	var in struct {
		Result []struct{ Results []any }
	}
	if err := json.NewDecoder(res.Body).Decode(&in); err != nil || len(in.Result) != 1 {
		t.Fatalf("%+v %v", in, err)
	}
	return len(in.Result[0].Results)
}

// TestFaultsOfUploads: an upload that was lost is made again, also where it carried a
// migration of Durable Object classes, which can be had once only.
func TestFaultsOfUploads(t *testing.T) {
	u := unkind{t, startSandbox(t)}
	for kind, why := range momentary() {
		u.plan("")
		acct := u.account()
		a := hello()
		a.Modules[0].Content = []byte(resourceful)
		a.Bindings = []deploy.Binding{{"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room"}}
		up := deploy.Upload{Artifact: a, Objects: map[string]any{"new_tag": "v1", "steps": []any{map[string]any{"new_sqlite_classes": []string{"Room"}}}}}
		c := u.client()
		u.plan(fmt.Sprintf(`{"endpoint":"PUT /accounts/*/workers/scripts/*","kind":%q,"times":1,"latency_ms":1}`, kind))
		got, err := c.Upload(t.Context(), acct, up)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		if diff := cmp.Diff(once(why), c.Stats().Retries); diff != "" || u.met() != 1 {
			t.Errorf("%s: met %d, repeats: %s", kind, u.met(), diff)
		}
		served, err := c.Deployed(t.Context(), acct, worker)
		if err != nil || served == nil || served.VersionID != got.VersionID {
			t.Errorf("%s: %+v is deployed, %+v was said (%v)", kind, served, got, err)
		}
	}
}

// TestFaultsOfTokens: a token that is refused once is not given up; one that works no
// more, or whose account is over, is, and nothing is repeated.
func TestFaultsOfTokens(t *testing.T) {
	u := unkind{t, startSandbox(t)}
	for kind, want := range map[string]deploy.Code{"token_refused": deploy.CodeAPIRefused, "token_ends": deploy.CodeAccountLost, "account_ends": deploy.CodeAccountLost} {
		u.plan("")
		acct := u.account()
		u.plan(fmt.Sprintf(`{"endpoint":"PUT /accounts/*/workers/scripts/*","kind":%q,"times":1}`, kind))
		c := u.client()
		_, err := c.Upload(t.Context(), acct, deploy.Upload{Artifact: code(thrower)})
		wantError(t, err, want, "")
		if got := c.Stats(); got.Calls != 2 || len(got.Retries) != 0 {
			t.Errorf("%s: %+v, want the upload and one question", kind, got)
		}
		_, err = c.Upload(t.Context(), acct, deploy.Upload{Artifact: code(thrower)})
		if (err == nil) != (kind == "token_refused") {
			t.Errorf("%s: the next upload: %v", kind, err)
		}
	}
}

// TestFaultsWhereAnAccountIsMade: the creating request is sent once, whatever becomes
// of it; the challenge before it as often as it takes.
func TestFaultsWhereAnAccountIsMade(t *testing.T) {
	u := unkind{t, startSandbox(t)}
	accounts := func() int {
		var all []any
		if err := json.Unmarshal([]byte(manageGet(t, u.urls.Manage+"/accounts")), &all); err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	made := map[string]int{"reset_after": 1, "truncated": 1, "not_json": 1}
	codes := map[string]deploy.Code{
		"reset_before": deploy.CodeAPIUnreachable, "reset_after": deploy.CodeAPIUnreachable, "rate_limited": deploy.CodeRateLimited,
	}
	for kind, why := range momentary() {
		before := accounts()
		u.plan(fmt.Sprintf(`{"endpoint":"POST /provisioning/previews","kind":%q,"times":1,"latency_ms":1}`, kind))
		c := u.client()
		grant, err := c.Provision(t.Context(), nil)
		switch {
		case why == "":
			if err != nil || accounts() != before+1 {
				t.Errorf("%s: %v", kind, err)
			}
		case grant != nil || accounts() != before+made[kind]:
			t.Errorf("%s: %d accounts were made, want %d", kind, accounts()-before, made[kind])
		default:
			want := codes[kind]
			if want == "" {
				want = deploy.CodeAPIBadResponse
			}
			wantError(t, err, want, "making a temporary account failed")
		}
		if got := c.Stats(); got.Calls != 2 || len(got.Retries) != 0 {
			t.Errorf("%s: %+v", kind, got)
		}
		u.plan(fmt.Sprintf(`{"endpoint":"POST /provisioning/previews/challenge","kind":%q,"times":1,"latency_ms":1}`, kind))
		c = u.client()
		if _, err := c.Provision(t.Context(), nil); err != nil || !cmp.Equal(c.Stats().Retries, once(why)) {
			t.Errorf("%s at the challenge: %v, %+v", kind, err, c.Stats())
		}
	}
}

// TestFaultsOfTheRoute: enabling it is repeated, and comes to one route.
func TestFaultsOfTheRoute(t *testing.T) {
	u := unkind{t, startSandbox(t)}
	acct := u.account()
	put(t, u.client(), acct, code(thrower))
	e := newEdge(t, cloudflare.EdgeConfig{URL: u.urls.Edge})
	for kind, why := range momentary() {
		u.plan(fmt.Sprintf(`{"endpoint":"POST /accounts/*/workers/scripts/*/subdomain","kind":%q,"times":1,"latency_ms":1}`, kind))
		c := u.client()
		host, err := c.EnableRoute(t.Context(), acct, worker)
		if err != nil || !cmp.Equal(c.Stats().Retries, once(why)) || u.met() != 1 {
			t.Errorf("%s: %v, %+v", kind, err, c.Stats())
			continue
		}
		if res := fetch(t, e, host, "/", nil); res.Status != http.StatusOK {
			t.Errorf("%s: it answers %d", kind, res.Status)
		}
	}
}
