package cloudflare_test

import (
	"net/http"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func TestEnableRoute(t *testing.T) {
	f := newFake(t).happy()
	c := f.newClient(t)
	for range 2 {
		host, err := c.EnableRoute(t.Context(), account(), worker)
		if err != nil || host != "hello.ethereal-composer.workers.dev" {
			t.Fatalf("%q, %v", host, err)
		}
	}
	if n := f.count(routeSubdomain); n != 1 {
		t.Errorf("the account's name was asked for %d times", n)
	}
	for _, s := range f.requests() {
		if s.Method == http.MethodPost && (s.Body != `{"enabled":true}` || s.Header.Get("Cloudflare-Workers-Script-Api-Date") != "2025-08-01" || s.Header.Get("Content-Type") != "application/json") {
			t.Errorf("sent %q with %v", s.Body, s.Header)
		}
	}
	known := account()
	known.ID, known.Subdomain = "ffff", "calm-river"
	f.on("POST /accounts/ffff/workers/scripts/hello/subdomain", result(map[string]any{"enabled": true}))
	if host, err := c.EnableRoute(t.Context(), known, worker); err != nil || host != "hello.calm-river.workers.dev" {
		t.Errorf("%q, %v", host, err)
	}
}

func TestEnableRouteGuessesTheNameThatItMayNotAskFor(t *testing.T) {
	f := newFake(t).happy()
	f.on(routeSubdomain, refusal(403, 10000, "Authentication error"))
	acct := account()
	acct.Name = "Ethereal Composer"
	if host, err := f.newClient(t).EnableRoute(t.Context(), acct, worker); err != nil || host != "hello.ethereal-composer.workers.dev" {
		t.Errorf("%q, %v", host, err)
	}
	f.on(routeSubdomain, says(503, ""))
	_, err := f.newClient(t).EnableRoute(t.Context(), acct, worker)
	wantError(t, err, deploy.CodeAPIBadResponse, "503")
}

func TestEnableRouteRefusals(t *testing.T) {
	for _, tc := range []struct {
		name, route string
		answer      http.HandlerFunc
		code        deploy.Code
		contains    string
	}{
		{"stays off", routeEnable, result(map[string]any{"enabled": false}), deploy.CodeAPIRefused, "stays off"},
		{"does not say", routeEnable, result(map[string]any{}), deploy.CodeAPIBadResponse, "enabled"},
		{"no worker", routeEnable, refusal(404, 10007, "x"), deploy.CodeAPIRefused, "10007"},
		{"token", routeEnable, refusal(403, 10000, "x"), deploy.CodeAccountLost, "10000"},
		{"a name nobody may ask for", routeSubdomain, refusal(403, 10000, "x"), deploy.CodeAccountLost, "10000"}, // and no account name to guess from
		{"no name", routeSubdomain, refusal(404, 10007, "x"), deploy.CodeAPIRefused, "10007"},
		{"an empty name", routeSubdomain, result(map[string]any{"subdomain": ""}), deploy.CodeAPIBadResponse, "subdomain"},
		{"a name that is a host", routeSubdomain, result(map[string]any{"subdomain": "evil.example.com/#"}), deploy.CodeAPIBadResponse, "subdomain"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t).happy()
			f.on(tc.route, tc.answer)
			_, err := f.newClient(t).EnableRoute(t.Context(), account(), worker)
			wantError(t, err, tc.code, tc.contains)
		})
	}
	f := newFake(t).happy()
	_, err := f.newClient(t).EnableRoute(t.Context(), account(), "a/b")
	wantError(t, err, deploy.CodeNameInvalid, "a/b")
}
