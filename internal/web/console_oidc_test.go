package web_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

var onward = regexp.MustCompile(`content="0;url=([^"]+)"`)

// begin goes to the issuer and gives what it was asked.
func (p *person) begin() url.Values {
	p.h.t.Helper()
	p.get("/console/login", http.StatusOK, "Log in with Example")
	p.post("/console/oidc", http.StatusOK, "next", "/console/claims/c_1")
	m := onward.FindStringSubmatch(p.last)
	if m == nil {
		p.h.t.Fatalf("it does not lead to the issuer\n%s", p.last)
	}
	u, err := url.Parse(html.UnescapeString(m[1]))
	if err != nil || u.Path != "/authorize" {
		p.h.t.Fatalf("it leads to %q: %v", m[1], err)
	}
	return u.Query()
}

// TestConsoleIssuer: a human comes in by the issuer's word, made for this login in this
// browser, and by nothing else.
func TestConsoleIssuer(t *testing.T) {
	m := newMint(t)
	h := newHall(t, web.ConsoleConfig{OIDC: &web.OIDCConfig{
		Name: "Example", Issuer: m.URL, ClientID: "hourglass", ClientSecret: "s", Claim: "groups", Owner: "email",
		Scopes: map[string][]deploy.Scope{"reviewers": {approve}, "platform": {approve, operate}},
	}})
	good := claimSet{"aud": "hourglass", "sub": "ana", "email": "ana@example.com", "email_verified": true, "groups": []string{"staff", "reviewers"}}
	for name, c := range map[string]struct {
		over   claimSet // of the ID token
		header claimSet
		query  map[string]string // of the answer
		other  bool              // in another browser
		want   int
	}{
		"good":                    {want: http.StatusOK},
		"another login's nonce":   {over: claimSet{"nonce": "x"}, want: http.StatusForbidden},
		"another audience":        {over: claimSet{"aud": "other"}, want: http.StatusForbidden},
		"another issuer":          {over: claimSet{"iss": "https://evil.example"}, want: http.StatusForbidden},
		"over":                    {over: claimSet{"exp": 1}, want: http.StatusForbidden},
		"not signed":              {header: claimSet{"alg": "none"}, want: http.StatusForbidden},
		"no group that counts":    {over: claimSet{"groups": []string{"staff"}}, want: http.StatusForbidden},
		"no groups":               {over: claimSet{"groups": nil}, want: http.StatusForbidden},
		"an email nobody checked": {over: claimSet{"email_verified": false}, want: http.StatusForbidden},
		"another state":           {query: map[string]string{"state": "x"}, want: http.StatusForbidden},
		"an error":                {query: map[string]string{"code": "", "error": "access_denied"}, want: http.StatusForbidden},
		"another code":            {query: map[string]string{"code": "stolen"}, want: http.StatusForbidden},
		"another browser":         {other: true, want: http.StatusForbidden},
	} {
		p := h.person()
		asked := p.begin()
		if asked.Get("code_challenge_method") != "S256" || asked.Get("redirect_uri") != h.con.Address()+"/oidc" || asked.Get("response_type") != "code" {
			t.Fatalf("asked %v", asked)
		}
		m.exchange = func(form url.Values) string {
			sum := sha256.Sum256([]byte(form.Get("code_verifier")))
			if form.Get("code") != "the-code" || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") {
				return ""
			}
			claims := claimSet{"nonce": asked.Get("nonce")}
			change(claims, good)
			maps.Copy(claims, c.over)
			return m.token(c.header, claims)
		}
		q := url.Values{"state": {asked.Get("state")}, "code": {"the-code"}}
		for k, v := range c.query {
			q.Set(k, v)
		}
		in := p
		if c.other {
			in = h.person()
		}
		in.get("/console/oidc?"+q.Encode(), c.want)
		if t.Failed() {
			t.Fatal(name)
		}
		if c.want != http.StatusOK {
			in.get("/console", http.StatusUnauthorized)
			continue
		}
		if !strings.Contains(in.last, `content="0;url=/console/claims/c_1"`) {
			t.Errorf("it does not lead on\n%s", in.last)
		}
		in.get("/console", http.StatusOK, "ana@example.com")
		in.get("/console/record", http.StatusForbidden)           // reviewers don't operate
		in.get("/console/oidc?"+q.Encode(), http.StatusForbidden) // once
	}
	for _, s := range h.book.sessions {
		if s.User.Owner != "ana@example.com" || s.User.ID != "oidc:ana" {
			t.Errorf("the owner is %+v", s.User)
		}
	}
	logins, refused := 0, 0
	for _, a := range h.accesses() {
		switch {
		case a.Kind == deploy.NoticeLogin && a.How == deploy.AccessIssuer && a.User.ID == "oidc:ana":
			logins++
		case a.Kind == deploy.NoticeAccessRefused && a.How == deploy.AccessIssuer && a.Why != "" && a.User.ID == "":
			refused++
		default:
			t.Errorf("on record: %+v", a)
		}
		if text := fmt.Sprintf("%+v", a); strings.Contains(text, "the-code") || strings.Contains(text, "stolen") || strings.Contains(text, "access_denied") {
			t.Errorf("what the browser brought is on record: %s", text)
		}
	}
	if logins != 1 || refused != 10 { // of thirteen in one minute
		t.Errorf("%d logins and %d tries in vain on record", logins, refused)
	}
}

// TestConsoleIssuerRefused: settings that let the wrong people in are refused.
func TestConsoleIssuerRefused(t *testing.T) {
	ok := web.OIDCConfig{Issuer: "https://sso.example.com", ClientID: "c", Claim: "groups", Scopes: map[string][]deploy.Scope{"a": {approve}}}
	for name, spoil := range map[string]func(*web.OIDCConfig){
		"plain http": func(c *web.OIDCConfig) { c.Issuer = "http://sso.example.com" },
		"no client":  func(c *web.OIDCConfig) { c.ClientID = "" },
		"no claim":   func(c *web.OIDCConfig) { c.Claim = "" },
		"no scopes":  func(c *web.OIDCConfig) { c.Scopes = nil },
		"deploys":    func(c *web.OIDCConfig) { c.Scopes = map[string][]deploy.Scope{"a": {deploy.ScopeDeploy}} },
		"owner":      func(c *web.OIDCConfig) { c.Owner = "name" },
	} {
		c := ok
		spoil(&c)
		if _, err := web.NewConsole(web.ConsoleConfig{OIDC: &c}); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
