package sandbox_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/sandbox"
)

// TestFaults: each kind does what its name says, and what is "after" had its effect.
func TestFaults(t *testing.T) {
	s := box(t, sandbox.Config{ChallengeK: 1, ChallengeG: 1})
	plan := func(rule string) {
		t.Helper()
		var out any
		if status := manage(t, s, http.MethodPut, "/faults", `{"seed":1,"rules":[`+rule+`]}`, &out); status != 200 {
			t.Fatalf("%d %v", status, out)
		}
	}
	ask := func(o on, method, path, body string) (status int, text string, err error) {
		req, err := http.NewRequestWithContext(t.Context(), method, s.URLs().API+"/accounts/"+o.g.Account.ID+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+o.g.Account.APIToken)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	const endpoint = `"endpoint":"POST /accounts/*/storage/kv/namespaces"`
	for kind, want := range map[string]struct {
		status int
		text   string
		made   bool
	}{
		"rate_limited":  {429, "Too many", false},
		"server_error":  {500, `"success":false`, false},
		"bad_gateway":   {502, "<html>", false},
		"errors_null":   {500, `"errors":null`, false},
		"reset_before":  {0, "", false},
		"reset_after":   {0, "", true},
		"truncated":     {200, "", true},
		"not_json":      {200, "<html>", true},
		"token_refused": {401, "10000", false},
		"latency":       {200, `"id"`, true},
		"account_ends":  {401, "10000", false},
		"token_ends":    {401, "10000", false},
		"slow_edge":     {200, `"id"`, true},
	} {
		t.Run(kind, func(t *testing.T) {
			o := on{t, s, grant(t, s)}
			plan(`{` + endpoint + `,"kind":"` + kind + `","times":1,"latency_ms":1}`)
			status, text, err := ask(o, http.MethodPost, "/storage/kv/namespaces", `{"title":"x"}`)
			if status != want.status || !strings.Contains(text, want.text) || (err != nil) != (kind == "reset_before" || kind == "reset_after" || kind == "truncated") {
				t.Errorf("%d %q %v", status, text, err)
			}
			list := o.call(http.MethodGet, "/storage/kv/namespaces", "")
			if kind == "account_ends" || kind == "token_ends" {
				if list.status != 401 {
					t.Errorf("it lives on: %+v", list)
				}
				return
			}
			if made := strings.Contains(string(list.Result), `"x"`); made != want.made {
				t.Errorf("made: %v", made)
			}
			var met struct{ Met map[string]int }
			if manage(t, s, http.MethodGet, "/faults", "", &met); met.Met[kind] != 1 {
				t.Errorf("%v", met)
			}
			if status, _, _ := ask(o, http.MethodPost, "/storage/kv/namespaces", `{"title":"y"}`); status != 200 {
				t.Errorf("it goes on: %d", status)
			}
		})
	}
	for _, bad := range []string{`{"kind":"latency"}`, `{"endpoint":"*","kind":"nothing"}`, `{"endpoint":"*","kind":"latency","rate":2}`, `{"endpoint":"[","kind":"latency"}`} {
		if status := manage(t, s, http.MethodPut, "/faults", `{"rules":[`+bad+`]}`, nil); status != 400 {
			t.Errorf("%s: %d", bad, status)
		}
	}
	if !json.Valid([]byte(sandbox.MildFaults(7))) {
		t.Error("the mild plan is no JSON")
	}
	if status := manage(t, s, http.MethodPut, "/faults", sandbox.MildFaults(7), nil); status != 200 {
		t.Errorf("the mild plan: %d", status)
	}
}
