package cloudflare_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

func TestMain(m *testing.M) {
	peertest.FixedSeed()
	goleak.VerifyTestMain(m)
}

const ( //nolint:gosec // made up
	accountID  = "0123456789abcdef0123456789abcdef"
	apiToken   = "tok_SECRET_of_53_characters_abcdefghijklmnopqrstuvwxyz"
	claimToken = "claim_SECRET_43_characters_abcdefghijklmnopq"
	claimURL   = "https://dash.cloudflare.com/claim-preview?claimToken=" + claimToken
)

func account() *deploy.Account { return &deploy.Account{ID: accountID, Token: apiToken} }

// seen is one request as the fake got it.
type seen struct {
	Method, Path, Query string
	Header              http.Header
	Body                string
}

// fake is an API that answers as the test says, path by path, and keeps what it was asked.
type fake struct {
	*httptest.Server
	mu     sync.Mutex
	seen   []seen
	routes map[string]http.HandlerFunc // "METHOD /path under the base"
}

const basePath = "/client/v4"

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{routes: map[string]http.HandlerFunc{}}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	path := strings.TrimPrefix(r.URL.Path, basePath)
	f.mu.Lock()
	f.seen = append(f.seen, seen{r.Method, path, r.URL.RawQuery, r.Header.Clone(), string(body)})
	h := f.routes[r.Method+" "+path]
	f.mu.Unlock()
	if h == nil {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"success":false,"errors":[{"code":7003,"message":"no such route"}],"messages":[],"result":null}`)
		return
	}
	h(w, r)
}

func (f *fake) on(route string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.routes[route] = h
}

func (f *fake) requests() []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

func (f *fake) count(route string) int {
	n := 0
	for _, s := range f.requests() {
		if s.Method+" "+s.Path == route {
			n++
		}
	}
	return n
}

// says answers with a status and a body, as JSON.
func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func result(v any) http.HandlerFunc {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return says(http.StatusOK, `{"success":true,"errors":null,"messages":[],"result":`+string(raw)+`}`)
}

func refusal(status, code int, message string) http.HandlerFunc {
	said, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	return says(status, fmt.Sprintf(`{"success":false,"errors":[{"code":%d,"message":%s}],"messages":[],"result":null}`, code, said))
}

const (
	routeChallenge   = "POST /provisioning/previews/challenge"
	routeCreate      = "POST /provisioning/previews"
	worker           = "hello"
	scriptPath       = "/accounts/" + accountID + "/workers/scripts/" + worker
	routeUpload      = "PUT " + scriptPath
	routeDelete      = "DELETE " + scriptPath
	routeEnable      = "POST " + scriptPath + "/subdomain"
	routeSession     = "POST " + scriptPath + "/assets-upload-session"
	routeTail        = "POST " + scriptPath + "/tails"
	routeSubdomain   = "GET /accounts/" + accountID + "/workers/subdomain"
	routeDeployments = "GET " + scriptPath + "/deployments"
	routeAssets      = "POST /accounts/" + accountID + "/workers/assets/upload"
	version          = "770daf3a-ff88-4160-9c05-262a87a5a923"
)

func seed() string { return base64.RawURLEncoding.EncodeToString(make([]byte, 32)) }

func easyChallenge() map[string]any {
	return map[string]any{"challengeToken": "jwt", "seed": seed(), "k": 3, "g": 5, "s": 16, "expiresAt": 1}
}

func newAccount() map[string]any {
	return map[string]any{
		"account": map[string]any{
			"id": accountID, "name": "Ethereal Composer", "type": "standard", "apiToken": apiToken, "tokenId": "x",
			"expiresAt": "2026-11-24T05:00:00Z",
		},
		"claim": map[string]any{"token": claimToken, "url": claimURL, "expiresAt": "2026-11-24T05:00:00.123Z"},
	}
}

// happy answers every call as the live API does.
func (f *fake) happy() *fake {
	f.on(routeChallenge, result(easyChallenge()))
	f.on(routeCreate, result(newAccount()))
	f.on(routeUpload, result(map[string]any{"id": worker, "deployment_id": strings.ReplaceAll(version, "-", ""), "startup_time_ms": 7}))
	f.on(routeDelete, result(map[string]any{"id": worker}))
	f.on(routeEnable, result(map[string]any{"enabled": true, "previews_enabled": false}))
	f.on(routeSubdomain, result(map[string]any{"subdomain": "ethereal-composer"}))
	f.on(routeDeployments, result(map[string]any{"deployments": []any{}}))
	return f
}

// newClient makes a client for the fake with quick repeats; its secrets are collected.
func (f *fake) newClient(t *testing.T, change ...func(*cloudflare.Config)) *cloudflare.Client {
	t.Helper()
	cfg := cloudflare.Config{BaseURL: f.URL + basePath, RetryWait: time.Millisecond, UserAgent: "hourglass/test"}
	for _, ch := range change {
		ch(&cfg)
	}
	c, err := cloudflare.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func hello() *deploy.Artifact {
	return &deploy.Artifact{
		Name: worker, MainModule: "index.js", CompatibilityDate: "2026-08-01",
		Modules: []deploy.Module{{Name: "index.js", Type: deploy.TypeESModule, Content: []byte("export default {}")}},
	}
}

// wantError holds an error to the contract: a *deploy.Error of that code, with a next
// step, without a secret in anything that could be printed, its cause included.
func wantError(t *testing.T, err error, code deploy.Code, contains string) *deploy.Error {
	t.Helper()
	e, ok := errors.AsType[*deploy.Error](err)
	if !ok {
		t.Fatalf("got %v (%T), want a *deploy.Error of %s", err, err, code)
	}
	if e.Code != code || !strings.Contains(e.Message, contains) {
		t.Errorf("got %s: %q, want %s with %q", e.Code, e.Message, code, contains)
	}
	if e.Next == "" {
		t.Error("it says not what to do next")
	}
	var printed strings.Builder
	fmt.Fprintf(&printed, "%v %+v %#v", err, e, e)
	for cause := e.Cause; cause != nil; cause = errors.Unwrap(cause) {
		fmt.Fprintf(&printed, " %v %+v", cause, cause)
	}
	for _, secret := range []string{apiToken, claimToken, "tail_SECRET", "jwt_SECRET"} {
		if strings.Contains(printed.String(), secret) {
			t.Errorf("a secret is in %s", printed.String())
		}
	}
	return e
}

// instant is an API without a network: every upload succeeds.
type instant struct{}

func (instant) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, err
	}
	body := `{"success":true,"result":{"deployment_id":"` + version + `"}}`
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
}
