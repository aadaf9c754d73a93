package web_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// mint is an issuer: its metadata, its keys, and tokens made by hand, so that what is
// wrong with them is wrong in their bytes.
type mint struct {
	*httptest.Server
	key     *rsa.PrivateKey
	keyID   atomic.Value
	fetched atomic.Int64 // how often its keys were asked for
	down    atomic.Bool
	// exchange gives the ID token for what a client sends to get one; "" refuses it.
	exchange func(url.Values) string
}

func newMint(t *testing.T) *mint {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	m := &mint{key: key}
	m.keyID.Store("key-1")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		if m.down.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": m.URL, "jwks_uri": m.URL + "/keys", "authorization_endpoint": m.URL + "/authorize", "token_endpoint": m.URL + "/token"})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := r.ParseForm(); err != nil || m.exchange == nil || m.exchange(r.PostForm) == "" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "unused", "token_type": "Bearer", "id_token": m.exchange(r.PostForm)})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		m.fetched.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: &m.key.PublicKey, KeyID: m.keyID.Load().(string), Algorithm: "RS256", Use: "sig"},
			{Key: []byte("a symmetric key that has no place here"), KeyID: "hmac", Algorithm: "HS256", Use: "sig"},
		}})
	})
	m.Server = httptest.NewServer(mux)
	t.Cleanup(m.Close)
	return m
}

type claimSet map[string]any

// token signs claims over good ones; a header's or a claim's nil takes it away.
func (m *mint) token(header, over claimSet) string {
	head := claimSet{"alg": "RS256", "typ": "at+jwt", "kid": m.keyID.Load()}
	body := claimSet{
		"iss": m.URL, "sub": "ana", "aud": "https://mcp.example.com/mcp", "scope": "openid deploy approve",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	change(head, header)
	change(body, over)
	text := segment(head) + "." + segment(body)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, m.key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func change(in, by claimSet) {
	maps.Copy(in, by)
	maps.DeleteFunc(in, func(_ string, v any) bool { return v == nil })
}

func segment(c claimSet) string {
	raw, _ := json.Marshal(c)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// withIssuers is a desk that takes tokens of issuers, made for https://mcp.example.com/mcp.
func withIssuers(t *testing.T, now func() time.Time, issuers ...web.IssuerConfig) *desk {
	t.Helper()
	auth, err := web.NewAuth(web.AuthConfig{Issuers: issuers, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return newDesk(t, func(c *web.EndpointConfig) {
		c.Auth, c.PublicURL = auth, "https://mcp.example.com"
	})
}

// who asks who the token speaks for.
func (d *desk) who(t *testing.T, token string) (answer, deploy.Caller) {
	t.Helper()
	body, headers := modern(1, "tools/call", "who", nil)
	a := d.send(t, http.MethodPost, web.PathMCP, body, append(bearer(token), headers...)...)
	var res struct {
		Result struct{ Content []struct{ Text string } }
	}
	var c deploy.Caller
	if json.Unmarshal([]byte(a.body), &res) == nil && len(res.Result.Content) == 1 {
		_ = json.Unmarshal([]byte(res.Result.Content[0].Text), &c)
	}
	return a, c
}

// TestHostileTokens: each line is one token that must not open the door.
func TestHostileTokens(t *testing.T) {
	m, stranger := newMint(t), newMint(t)
	d := withIssuers(t, nil, web.IssuerConfig{Name: "corp", Issuer: m.URL, Require: map[string]web.OneOf{"tenant": {"t1"}}})
	tenant := claimSet{"tenant": "t1"}
	good := m.token(nil, tenant)
	parts := strings.Split(good, ".")
	hs := segment(claimSet{"alg": "HS256", "typ": "at+jwt", "kid": "hmac"}) + "." + parts[1]
	mac := func(key []byte) string {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(hs))
		return hs + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: ec}, (&jose.SignerOptions{EmbedJWK: true}).WithType("at+jwt"))
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	embedded, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	ownKey, err := embedded.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	with := func(c claimSet) claimSet {
		out := maps.Clone(tenant)
		maps.Copy(out, c)
		return out
	}
	if a, c := d.who(t, good); a.status != http.StatusOK || c.Principal != "corp:ana" || !c.May(deploy.ScopeDeploy) || !c.May(deploy.ScopeApprove) || c.May(deploy.ScopeOperate) {
		t.Fatalf("the good token: %+v %+v", a, c)
	}
	for _, c := range []struct{ name, token, says string }{
		{"expired", m.token(nil, with(claimSet{"exp": time.Now().Add(-time.Minute).Unix()})), "expired"},
		{"without an end", m.token(nil, with(claimSet{"exp": nil})), "expired"},
		{"not yet", m.token(nil, with(claimSet{"nbf": time.Now().Add(time.Hour).Unix()})), "not valid"},
		{"wrong audience", m.token(nil, with(claimSet{"aud": "https://other.example.com/mcp"})), "another audience"},
		{"audience of the host alone", m.token(nil, with(claimSet{"aud": []string{"https://mcp.example.com"}})), "another audience"},
		{"no audience", m.token(nil, with(claimSet{"aud": nil})), "another audience"},
		{"wrong issuer", stranger.token(nil, with(nil)), "an issuer that is not accepted"},
		{"another's signature", stranger.token(nil, with(claimSet{"iss": m.URL})), "not valid"},
		{"issuer with a slash", m.token(nil, with(claimSet{"iss": m.URL + "/"})), "an issuer that is not accepted"},
		{"alg none", segment(claimSet{"alg": "none", "typ": "at+jwt"}) + "." + parts[1] + ".", "not valid"},
		{"alg None", segment(claimSet{"alg": "None", "typ": "at+jwt"}) + "." + parts[1] + "." + parts[2], "not valid"},
		{"HMAC with the public key", mac(m.key.N.Bytes()), "not valid"},
		{"HMAC with the listed key", mac([]byte("a symmetric key that has no place here")), "not valid"},
		{"a key that it brings itself", ownKey, "not valid"},
		{"an ID token", m.token(claimSet{"typ": "JWT"}, tenant), "not an access token"},
		{"no type", m.token(claimSet{"typ": nil}, tenant), "not an access token"},
		{"a critical header", m.token(claimSet{"crit": []string{"x"}, "x": 1}, tenant), "not valid"},
		{"changed claims", parts[0] + "." + segment(claimSet{"iss": m.URL, "sub": "root"}) + "." + parts[2], "not valid"},
		{"no subject", m.token(nil, with(claimSet{"sub": nil})), "no subject"},
		{"a required claim is another", m.token(nil, claimSet{"tenant": "t2"}), "claim tenant"},
		{"a required claim is missing", m.token(nil, nil), "claim tenant"},
		{"a required claim is a list", m.token(nil, claimSet{"tenant": []string{"t1"}}), "claim tenant"},
		{"four parts", good + ".x", "not known"},
		{"no JSON", "a.b.c", "not known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := d.who(t, c.token)
			if a.status != http.StatusUnauthorized || !strings.Contains(a.header.Get("WWW-Authenticate"), c.says) {
				t.Errorf("%d %s %s, want %q", a.status, a.header.Get("WWW-Authenticate"), a.body, c.says)
			}
		})
	}
	if strings.Contains(d.log.String(), parts[2]) {
		t.Error("a token is in the log")
	}
}

// TestScopesOfTokens: what a token brings counts, as far as the operator lets its issuer.
func TestScopesOfTokens(t *testing.T) {
	m := newMint(t)
	d := withIssuers(t, nil, web.IssuerConfig{Name: "corp", Issuer: m.URL, ScopePrefix: "hg:", Scopes: []deploy.Scope{deploy.ScopeRead, deploy.ScopeDeploy}, Labels: map[string]string{"group": "dept", "run_id": "run"}})
	if a, _ := d.who(t, m.token(nil, claimSet{"scope": "read deploy hg:operate"})); a.status != http.StatusForbidden || !strings.Contains(a.header.Get("WWW-Authenticate"), `scope="read"`) {
		t.Errorf("no scope of ours: %+v", a)
	}
	_, some := d.who(t, m.token(nil, claimSet{"scope": nil, "scp": []string{"hg:read"}, "dept": "web", "run": 7}))
	if !some.May(deploy.ScopeRead) || some.May(deploy.ScopeDeploy) || some.Labels["group"] != "web" || some.Labels["run_id"] != "7" || some.Scope != "http run 7" {
		t.Errorf("%+v", some)
	}
}

// TestKeys: a key that is new is found, one asking serves many, a stranger's made-up keys
// cause no askings, and an issuer that is down says so.
func TestKeys(t *testing.T) {
	var minutes atomic.Int64
	m := newMint(t)
	d := withIssuers(t, func() time.Time { return time.Now().Add(time.Duration(minutes.Load()) * time.Minute) }, web.IssuerConfig{Name: "corp", Issuer: m.URL})
	m.down.Store(true)
	if a, _ := d.who(t, m.token(nil, nil)); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("down: %+v", a)
	}
	m.down.Store(false)
	minutes.Add(1)
	for range 3 {
		if a, _ := d.who(t, m.token(nil, nil)); a.status != http.StatusOK {
			t.Errorf("%+v", a)
		}
	}
	if n := m.fetched.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	minutes.Add(1)
	for range 5 {
		if a, _ := d.who(t, m.token(claimSet{"kid": "made-up"}, nil)); a.status != http.StatusUnauthorized {
			t.Errorf("%+v", a)
		}
	}
	if n := m.fetched.Load(); n != 2 {
		t.Errorf("a stranger caused %d askings", n-1)
	}
	minutes.Add(1)
	m.keyID.Store("key-2")
	if a, _ := d.who(t, m.token(nil, nil)); a.status != http.StatusOK {
		t.Errorf("a new key: %+v", a)
	}
}

// TestCIIdentities: a job's token says which repository and run it is; the operator says
// what it may do and whose it has to be.
func TestCIIdentities(t *testing.T) {
	m := newMint(t)
	github := claimSet{
		"sub": "repo:acme/shop:ref:refs/heads/main", "repository": "acme/shop", "repository_owner": "acme", "ref": "refs/heads/main",
		"sha": "abc", "run_id": "42", "run_attempt": "1", "workflow": "ci", "event_name": "push", "actor": "ana", "scope": "operate",
	}
	d := withIssuers(t, nil, web.IssuerConfig{Name: "gh", Issuer: m.URL, Kind: web.KindGitHub, Require: map[string]web.OneOf{"repository_owner": {"acme", "acme-labs"}}})
	a, c := d.who(t, m.token(claimSet{"typ": "JWT"}, github))
	if a.status != http.StatusOK || c.Principal != "gh:repo:acme/shop:ref:refs/heads/main" || c.Labels["repository"] != "acme/shop" ||
		c.Labels["run_id"] != "42" || c.Scope != "http run 42" || !c.May(deploy.ScopeDeploy) || c.May(deploy.ScopeOperate) || c.May(deploy.ScopeApprove) {
		t.Errorf("%+v %+v", a, c)
	}
	github["repository_owner"] = "evil"
	if a, _ := d.who(t, m.token(claimSet{"typ": "JWT"}, github)); a.status != http.StatusUnauthorized {
		t.Errorf("another owner: %+v", a)
	}
	gl := withIssuers(t, nil, web.IssuerConfig{Name: "gl", Issuer: m.URL, Kind: web.KindGitLab, Audience: "hourglass", Require: map[string]web.OneOf{"namespace_path": {"acme"}}})
	job := claimSet{"aud": "hourglass", "sub": "project_path:acme/shop:ref_type:branch:ref:main", "namespace_path": "acme", "project_path": "acme/shop", "pipeline_id": "9", "job_id": "10", "ref": "main"}
	if a, c := gl.who(t, m.token(claimSet{"typ": "JWT"}, job)); a.status != http.StatusOK || c.Labels["run_id"] != "9" || c.Labels["job_id"] != "10" || c.Labels["repository"] != "acme/shop" {
		t.Errorf("%+v %+v", a, c)
	}
}

// TestIssuersRefused: what would let strangers in is refused before anything is served.
func TestIssuersRefused(t *testing.T) {
	const gh, corp = "https://token.actions.githubusercontent.com", "https://login.example.com"
	for name, c := range map[string]struct {
		cfg  web.IssuerConfig
		want string
	}{
		"everybody's jobs":           {web.IssuerConfig{Name: "gh", Issuer: gh, Kind: web.KindGitHub}, "every job of that CI would be let in"},
		"bound by what says nothing": {web.IssuerConfig{Name: "gh", Issuer: gh, Kind: web.KindGitHub, Require: map[string]web.OneOf{"ref": {"refs/heads/main"}}}, "every job"},
		"a CI as an oauth issuer":    {web.IssuerConfig{Name: "gh", Issuer: gh}, "its kind is github-actions"},
		"gitlab.com as oauth":        {web.IssuerConfig{Name: "gl", Issuer: "https://gitlab.com"}, "its kind is gitlab-ci"},
		"an empty bound":             {web.IssuerConfig{Name: "gh", Issuer: gh, Kind: web.KindGitHub, Require: map[string]web.OneOf{"repository_owner": {""}}}, "no value"},
		"a job that approves":        {web.IssuerConfig{Name: "gh", Issuer: gh, Kind: web.KindGitHub, Scopes: []deploy.Scope{"approve"}, Require: map[string]web.OneOf{"repository_owner": {"acme"}}}, "no human"},
		"plain http":                 {web.IssuerConfig{Name: "corp", Issuer: "http://login.example.com"}, "https address"},
		"no name":                    {web.IssuerConfig{Issuer: corp}, "name"},
		"the name of static tokens":  {web.IssuerConfig{Name: "token", Issuer: corp}, "name"},
		"a kind that is none":        {web.IssuerConfig{Name: "corp", Issuer: corp, Kind: "saml"}, "no kind"},
		"a scope that is none":       {web.IssuerConfig{Name: "corp", Issuer: corp, Scopes: []deploy.Scope{"root"}}, "no scope"},
	} {
		_, err := web.NewAuth(web.AuthConfig{Issuers: []web.IssuerConfig{c.cfg}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	twice := web.IssuerConfig{Name: "corp", Issuer: corp}
	if _, err := web.NewAuth(web.AuthConfig{Issuers: []web.IssuerConfig{twice, twice}}); err == nil {
		t.Error("an issuer was taken twice")
	}
}

// TestMetadata: RFC 9728, at both of its paths, without a token.
func TestMetadata(t *testing.T) {
	m := newMint(t)
	d := withIssuers(t, nil,
		web.IssuerConfig{Name: "corp", Issuer: m.URL},
		web.IssuerConfig{Name: "gh", Issuer: "https://token.actions.githubusercontent.com", Kind: web.KindGitHub, Require: map[string]web.OneOf{"repository_owner": {"acme"}}})
	for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"} {
		a := d.send(t, http.MethodGet, path, "")
		var doc struct {
			Resource string   `json:"resource"`
			Servers  []string `json:"authorization_servers"`
			Scopes   []string `json:"scopes_supported"`
			Methods  []string `json:"bearer_methods_supported"`
		}
		if err := json.Unmarshal([]byte(a.body), &doc); err != nil || a.status != http.StatusOK {
			t.Fatalf("%v %+v", err, a)
		}
		if doc.Resource != "https://mcp.example.com/mcp" || len(doc.Servers) != 1 || doc.Servers[0] != m.URL || len(doc.Scopes) != 4 || doc.Methods[0] != "header" {
			t.Errorf("%+v", doc)
		}
	}
	if a := newDesk(t, nil).send(t, http.MethodGet, "/.well-known/oauth-protected-resource", ""); a.status != http.StatusNotFound {
		t.Errorf("without tokens: %+v", a)
	}
}
