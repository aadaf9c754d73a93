package cloudflare_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/cloudflare/pow"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func TestProvision(t *testing.T) {
	f := newFake(t).happy()
	var mu sync.Mutex
	var secrets []string
	c := f.newClient(t, func(cfg *cloudflare.Config) {
		cfg.Instance = "i1"
		cfg.Secret = func(s string) { mu.Lock(); defer mu.Unlock(); secrets = append(secrets, s) }
	})
	var stages []deploy.Stage
	grant, err := c.Provision(t.Context(), func(s deploy.Stage) { stages = append(stages, s) })
	if err != nil {
		t.Fatal(err)
	}
	if want := []deploy.Stage{deploy.StageChallenge, deploy.StageProof, deploy.StageAccount}; !slices.Equal(stages, want) {
		t.Errorf("stages %v, want %v", stages, want)
	}
	a := grant.Account
	if a.ID != accountID || a.Name != "Ethereal Composer" || a.Token.Reveal() != apiToken || a.ClaimURL.Reveal() != claimURL || grant.Difficulty != 15 {
		t.Errorf("account %+v, difficulty %d", a, grant.Difficulty)
	}
	if want := f.URL + basePath + "#i1"; a.Target != want || c.Target() != want {
		t.Errorf("target %q and %q, want %q", a.Target, c.Target(), want)
	}
	if !a.ExpiresAt.Equal(time.Date(2026, 11, 24, 5, 0, 0, 0, time.UTC)) || a.ClaimExpiresAt.Sub(a.ExpiresAt) != 123*time.Millisecond {
		t.Errorf("expires %v and %v", a.ExpiresAt, a.ClaimExpiresAt)
	}
	for _, s := range []string{apiToken, claimToken, claimURL} {
		if !slices.Contains(secrets, s) {
			t.Errorf("the redactor was not told of %q", s)
		}
	}
	checkProvisioningRequests(t, f.requests())
}

func checkProvisioningRequests(t *testing.T, got []seen) {
	t.Helper()
	if len(got) != 2 {
		t.Fatalf("%d requests: %+v", len(got), got)
	}
	if got[0].Body != "{}" {
		t.Errorf("challenge body %q", got[0].Body)
	}
	points, err := pow.Solve(t.Context(), make([]byte, 32), 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	// the key order is wrangler's (section 3.3)
	want := `{"termsOfService":"https://www.cloudflare.com/terms/","privacyPolicy":"https://www.cloudflare.com/privacypolicy/",` +
		`"acceptTermsOfService":"yes","challengeToken":"jwt","solution":{"checkpoints":"` + base64.StdEncoding.EncodeToString(points) + `"}}`
	if diff := cmp.Diff(want, got[1].Body); diff != "" {
		t.Errorf("creating body (-want +got):\n%s", diff)
	}
	for _, r := range got {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("User-Agent") != "hourglass/test" {
			t.Errorf("%s has the headers %v", r.Path, r.Header)
		}
	}
}

func TestProvisionRefusals(t *testing.T) {
	with := func(change func(map[string]any)) http.HandlerFunc {
		m := easyChallenge()
		change(m)
		return result(m)
	}
	without := func(part, field string) http.HandlerFunc {
		m := newAccount()
		delete(m[part].(map[string]any), field)
		return result(m)
	}
	set := func(part, field string, v any) http.HandlerFunc {
		m := newAccount()
		m[part].(map[string]any)[field] = v
		return result(m)
	}
	html := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(status)
			_, _ = w.Write([]byte("<!doctype html><h1>Welcome to the hotel's network</h1>"))
		}
	}
	for _, tc := range []struct {
		name, route string
		answer      http.HandlerFunc
		code        deploy.Code
		contains    string
	}{
		{"HTML instead", routeChallenge, html(200), deploy.CodeAPIBadResponse, "text/html"},
		{"HTML 403", routeChallenge, html(403), deploy.CodeAPIRefused, "403"},
		{"HTML 502", routeCreate, html(502), deploy.CodeAPIBadResponse, "502"},
		{"empty", routeChallenge, says(200, ""), deploy.CodeAPIBadResponse, "not a JSON object"},
		{"truncated", routeChallenge, says(200, `{"success":true,"result":{"challengeTo`), deploy.CodeAPIBadResponse, "broken JSON"},
		{"a list", routeChallenge, says(200, `[1,2]`), deploy.CodeAPIBadResponse, "not a JSON object"},
		{"success of another type", routeChallenge, says(200, `{"success":"yes","result":{}}`), deploy.CodeAPIBadResponse, "wrong type"},
		{"no result", routeChallenge, says(200, `{"success":true,"errors":null}`), deploy.CodeAPIBadResponse, "result"},
		{"null result", routeChallenge, says(200, `{"success":true,"result":null}`), deploy.CodeAPIBadResponse, "result"},
		{"500 with JSON", routeChallenge, refusal(500, 1, "oops"), deploy.CodeAPIBadResponse, "oops"},
		{"500 without", routeCreate, says(500, ""), deploy.CodeAPIBadResponse, "HTTP 500"},
		{"redirect", routeChallenge, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, deploy.CodeAPIBadResponse, "redirect"},
		{"false success", routeChallenge, refusal(200, 99, "not you"), deploy.CodeAPIRefused, "not you"},
		{"unknown 403", routeCreate, refusal(403, 4711, "no\x1b[31mred"), deploy.CodeAPIRefused, "API error 4711: no[31mred"},
		{"10000 without an account", routeChallenge, refusal(403, 10000, "Authentication error"), deploy.CodeAPIRefused, "Authentication error"},
		{"firewall", routeCreate, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cf-Mitigated", "challenge")
			html(403)(w, r)
		}, deploy.CodeAPIRefused, "firewall"},
		{"proof refused", routeCreate, refusal(403, 1019, "pow_invalid"), deploy.CodeChallengeFailed, "proof of work"},
		{"event code without one", routeCreate, refusal(400, 1036, "no such code"), deploy.CodeAPIRefused, "no such code"},
		{"rate limited", routeCreate, says(429, ""), deploy.CodeRateLimited, "429"},

		{"too hard", routeChallenge, with(func(m map[string]any) { m["k"], m["g"] = 8001, 8000 }), deploy.CodeChallengeHard, "64000000"},
		{"too many segments", routeChallenge, with(func(m map[string]any) { m["k"], m["g"] = 64_000_000, 1 }), deploy.CodeChallengeHard, "k=64000000"},
		{"beyond any integer", routeChallenge, with(func(m map[string]any) { m["k"] = json.RawMessage("99999999999999999999999") }), deploy.CodeChallengeHard, ""},
		{"fraction", routeChallenge, with(func(m map[string]any) { m["k"] = 1.5 }), deploy.CodeAPIBadResponse, "k (a whole number)"},
		{"exponent", routeChallenge, with(func(m map[string]any) { m["g"] = json.RawMessage("1e3") }), deploy.CodeAPIBadResponse, "g (a whole number)"},
		{"number as text", routeChallenge, with(func(m map[string]any) { m["g"] = "5" }), deploy.CodeAPIBadResponse, "g"},
		{"zero", routeChallenge, with(func(m map[string]any) { m["k"] = 0 }), deploy.CodeAPIBadResponse, "at least 1"},
		{"negative", routeChallenge, with(func(m map[string]any) { m["g"] = -2000 }), deploy.CodeAPIBadResponse, "at least 1"},
		{"no k", routeChallenge, with(func(m map[string]any) { delete(m, "k") }), deploy.CodeAPIBadResponse, "k"},
		{"short seed", routeChallenge, with(func(m map[string]any) { m["seed"] = "AAAA" }), deploy.CodeAPIBadResponse, "seed"},
		{"seed not base64", routeChallenge, with(func(m map[string]any) { m["seed"] = "!!!!" }), deploy.CodeAPIBadResponse, "seed"},
		{"seed a number", routeChallenge, with(func(m map[string]any) { m["seed"] = 7 }), deploy.CodeAPIBadResponse, "challenge"},
		{"no challenge token", routeChallenge, with(func(m map[string]any) { m["challengeToken"] = "" }), deploy.CodeAPIBadResponse, "challengeToken"},

		{"no id", routeCreate, without("account", "id"), deploy.CodeAPIBadResponse, "account.id"},
		{"an id with a path", routeCreate, set("account", "id", "../../user"), deploy.CodeAPIBadResponse, "account.id"},
		{"no name", routeCreate, without("account", "name"), deploy.CodeAPIBadResponse, "account.name"},
		{"no token", routeCreate, without("account", "apiToken"), deploy.CodeAPIBadResponse, "account.apiToken"},
		{"a token with a line end", routeCreate, set("account", "apiToken", "a\r\nX-Evil: b"), deploy.CodeAPIBadResponse, "account.apiToken"},
		{"no expiry", routeCreate, without("account", "expiresAt"), deploy.CodeAPIBadResponse, "account.expiresAt"},
		{"expiry a number", routeCreate, set("account", "expiresAt", 17), deploy.CodeAPIBadResponse, "account"},
		{"no claim link", routeCreate, without("claim", "url"), deploy.CodeAPIBadResponse, "claim.url"},
		{"a claim link that runs", routeCreate, set("claim", "url", "javascript:alert(1)"), deploy.CodeAPIBadResponse, "claim.url"},
		{"a claim link in the clear", routeCreate, set("claim", "url", "http://example.com/?claimToken="+claimToken), deploy.CodeAPIBadResponse, "claim.url"},
		{"no claim expiry", routeCreate, without("claim", "expiresAt"), deploy.CodeAPIBadResponse, "claim.expiresAt"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t).happy()
			f.on(tc.route, tc.answer)
			_, err := f.newClient(t).Provision(t.Context(), nil)
			wantError(t, err, tc.code, tc.contains)
			if n := f.count(routeCreate); n > 1 || tc.route == routeCreate && n != 1 {
				t.Errorf("%d requests: a creating request is never repeated", n)
			}
		})
	}
}

func TestProvisionRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 24, 4, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"30": 30 * time.Second, "": 0, "soon": 0, "-5": 0, "99999999": 24 * time.Hour,
		now.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat):       0,
	} {
		f := newFake(t).happy()
		f.on(routeCreate, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", now.Format(http.TimeFormat))
			w.Header().Set("Retry-After", header)
			w.WriteHeader(http.StatusTooManyRequests)
		})
		_, err := f.newClient(t).Provision(t.Context(), nil)
		if e := wantError(t, err, deploy.CodeRateLimited, "429"); e.RetryAfter != want {
			t.Errorf("Retry-After %q: %v, want %v", header, e.RetryAfter, want)
		}
	}
}

func TestEventCode(t *testing.T) {
	f := newFake(t).happy()
	c := f.newClient(t, func(cfg *cloudflare.Config) { cfg.EventCode = "ABCD-EFGH-JKMN" })
	_, err := c.Provision(t.Context(), nil)
	wantError(t, err, deploy.CodeAPIRefused, "did not accept the event code")
	if r := f.requests(); !strings.HasSuffix(r[1].Body, `,"eventCode":"ABCD-EFGH-JKMN"}`) {
		t.Errorf("creating body ends in %q", r[1].Body[len(r[1].Body)-60:])
	}
	ok := newAccount()
	ok["eventCodeAccepted"] = true
	f.on(routeCreate, result(ok))
	if _, err := c.Provision(t.Context(), nil); err != nil {
		t.Error(err)
	}
	for code, contains := range map[int]string{
		1035: "malformed", 1036: "no such event code", 1037: "not begun", 1038: "over",
		1039: "switched off", 1040: "no accounts left", 1041: "could not be prepared",
	} {
		f.on(routeCreate, refusal(400, code, "x"))
		_, err := c.Provision(t.Context(), nil)
		wantError(t, err, deploy.CodeAPIRefused, contains)
	}
}

func TestProvisionUnreachable(t *testing.T) {
	f := newFake(t)
	c := f.newClient(t)
	f.Close()
	start := time.Now()
	_, err := c.Provision(t.Context(), nil)
	wantError(t, err, deploy.CodeAPIUnreachable, "can't be reached")
	if time.Since(start) > 5*time.Second {
		t.Error("it took too long")
	}
}

func TestProvisionTimeout(t *testing.T) {
	f := newFake(t).happy()
	f.on(routeChallenge, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c := f.newClient(t, func(cfg *cloudflare.Config) { cfg.Timeout = 30 * time.Millisecond })
	_, err := c.Provision(t.Context(), nil)
	wantError(t, err, deploy.CodeAPIUnreachable, "in time")
}

func TestCancelledBeforeTheAccountNothingIsSpent(t *testing.T) {
	f := newFake(t).happy()
	hard := easyChallenge()
	hard["k"], hard["g"] = 6400, 10000
	f.on(routeChallenge, result(hard))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := f.newClient(t).Provision(ctx, func(s deploy.Stage) {
		if s == deploy.StageProof {
			cancel()
		}
	})
	wantError(t, err, deploy.CodeCancelled, "")
	if n := f.count(routeCreate); n != 0 {
		t.Errorf("%d creating requests", n)
	}
}

func TestCancelledWhileTheAccountIsMadeItIsNotLost(t *testing.T) {
	f := newFake(t).happy()
	ctx, cancel := context.WithCancel(t.Context())
	f.on(routeCreate, func(w http.ResponseWriter, r *http.Request) {
		cancel()
		time.Sleep(50 * time.Millisecond)
		result(newAccount())(w, r)
	})
	grant, err := f.newClient(t).Provision(ctx, nil)
	if err != nil || grant.Account.ID != accountID {
		t.Errorf("grant %v, %v: an account was made and lost", grant, err)
	}
}

func TestNewRefusesBadSettings(t *testing.T) {
	for _, bad := range []string{
		"ftp://x/client/v4", "://", "https://", "https://user:pw@api.example.com/client/v4", "https://api.example.com/?a=b",
		"https://api.example.com/#x", "http://api.example.com/client/v4", "http://10.0.0.1/client/v4", "api.example.com",
	} {
		_, err := cloudflare.New(cloudflare.Config{BaseURL: bad})
		wantError(t, err, deploy.CodeInvalidArgument, "base URL")
	}
	for url, loopback := range map[string]bool{
		"": false, "https://api.example.com/client/v4/": false,
		"http://127.0.0.1:1/client/v4": true, "http://[::1]:1/x": true, "http://localhost:1": true, "http://api.localhost:1": true,
	} {
		c, err := cloudflare.New(cloudflare.Config{BaseURL: url})
		if err != nil || c.Loopback() != loopback {
			t.Errorf("%q: %v, loopback %v", url, err, c.Loopback())
		}
		if !c.Clock().IsZero() {
			t.Error("the clock of an API that never answered is not zero")
		}
	}
}
