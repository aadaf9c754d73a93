package cloudflare

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// Credential is what a call carries in its Authorization header.
type Credential string

// The credentials.
const (
	NoCredential  Credential = "none"
	AccountToken  Credential = "account token"
	AssetToken    Credential = "asset session token"
	accountPrefix            = "/accounts/{id}"
	scriptPrefix             = accountPrefix + "/workers/scripts/{id}"
	kvPrefix                 = accountPrefix + "/storage/kv/namespaces"
	d1Prefix                 = accountPrefix + "/d1/database"
	queuePrefix              = accountPrefix + "/queues"
)

// Call is one API call that this client may make: a method, and a path under the
// base URL in which {id} stands for one identifier.
type Call struct {
	Method     string
	Path       string
	Credential Credential
	Why        string
}

// Calls lists every API call that this client ever makes; the transport refuses any
// other. Beside them there is one WebSocket, to the address that the tail call gave,
// which carries no credential but that address.
func Calls() []Call {
	return []Call{
		{http.MethodGet, "", NoCredential, "to read the API's clock from the Date header"},
		{http.MethodPost, pathChallenge, NoCredential, "to ask for a proof-of-work challenge"},
		{http.MethodPost, pathCreate, NoCredential, "to make a temporary account"},
		{http.MethodPut, scriptPrefix, AccountToken, "to upload and deploy a Worker"},
		{http.MethodDelete, scriptPrefix, AccountToken, "to take a Worker down again"},
		{http.MethodGet, accountPrefix + "/workers/scripts", AccountToken, "to list the Workers of an account that is looked after"},
		{http.MethodGet, scriptPrefix + "/versions/{id}", AccountToken, "to learn which artifact the deployed version is"},
		{http.MethodGet, accountPrefix + "/workers/workers/{id}", AccountToken, "to learn whether a Worker's route is enabled, and where it answers"},
		{http.MethodPost, scriptPrefix + "/assets-upload-session", AccountToken, "to learn which static files the account lacks"},
		{http.MethodPost, accountPrefix + "/workers/assets/upload", AssetToken, "to upload static files"},
		{http.MethodPost, scriptPrefix + "/subdomain", AccountToken, "to make the Worker answer on workers.dev"},
		{http.MethodGet, accountPrefix + "/workers/subdomain", AccountToken, "to learn the account's workers.dev name"},
		{http.MethodGet, scriptPrefix + "/deployments", AccountToken, "to learn which version is deployed; to tell a token that is not accepted any more from an upload that is not wanted"},
		{http.MethodGet, scriptPrefix + "/settings", AccountToken, "to learn what the deployed version is bound to"},
		{http.MethodGet, accountPrefix + "/workers/services/{id}", AccountToken, "to learn which Durable Object migration a Worker has had"},
		{http.MethodPut, scriptPrefix + "/schedules", AccountToken, "to set cron triggers"},
		{http.MethodGet, kvPrefix, AccountToken, "to find a KV namespace by its title, and to list them"},
		{http.MethodPost, kvPrefix, AccountToken, "to make a KV namespace"},
		{http.MethodGet, kvPrefix + "/{id}", AccountToken, "to see whether the account has a configured KV namespace"},
		{http.MethodDelete, kvPrefix + "/{id}", AccountToken, "to clean up a KV namespace that nothing uses"},
		{http.MethodGet, d1Prefix, AccountToken, "to list D1 databases"},
		{http.MethodDelete, d1Prefix + "/{id}", AccountToken, "to clean up a D1 database that nothing uses"},
		{http.MethodPost, d1Prefix, AccountToken, "to make a D1 database"},
		{http.MethodGet, d1Prefix + "/{id}", AccountToken, "to find a D1 database by its name or id"},
		{http.MethodPost, d1Prefix + "/{id}/query", AccountToken, "to apply migrations"},
		{http.MethodGet, queuePrefix, AccountToken, "to find a queue by its name, and to list them"},
		{http.MethodPost, queuePrefix, AccountToken, "to make a queue"},
		{http.MethodGet, queuePrefix + "/{id}", AccountToken, "to learn who consumes a queue that is cleaned up"},
		{http.MethodDelete, queuePrefix + "/{id}", AccountToken, "to clean up a queue that nothing uses"},
		{http.MethodDelete, queuePrefix + "/{id}/consumers/{id}", AccountToken, "to remove a queue's consumer before the queue"},
		{http.MethodPost, queuePrefix + "/{id}/consumers", AccountToken, "to make a Worker a queue's consumer"},
		{http.MethodPut, queuePrefix + "/{id}/consumers/{id}", AccountToken, "to change how a Worker consumes a queue"},
		{http.MethodPost, scriptPrefix + "/tails", AccountToken, "to open the stream of the Worker's invocations"},
		{http.MethodDelete, scriptPrefix + "/tails/{id}", AccountToken, "to end that stream"},
	}
}

// The names that may stand in a path or a host. They are checked beside these for
// length: counted repetition makes an expression slow to compile, and the server has
// to be up at once.
var (
	identifierForm = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	workerForm     = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]*$`)
	labelForm      = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	hostForm       = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9-]+)+$`)
)

const maxLabel = 63 // bytes of one label of a host name

// isIdentifier holds what came from outside (an account ID of an answer, a tail ID)
// to what is harmless in a URL.
func isIdentifier(s string) bool { return len(s) <= 128 && identifierForm.MatchString(s) }

// isWorkerName holds a name to what wrangler takes (section 19), and to one label.
func isWorkerName(s string) bool { return len(s) <= maxLabel && workerForm.MatchString(s) }

// isLabel tells whether s can be one label of a host name.
func isLabel(s string) bool { return len(s) <= maxLabel && labelForm.MatchString(s) }

// isHost tells whether s is a host name of two labels or more.
func isHost(s string) bool { return len(s) <= 253 && hostForm.MatchString(s) }

// guard is the transport of every API request. It lets out what is on the list, with
// the credential that the list names, to the API's own host; and it reads the clock.
type guard struct {
	base  *url.URL
	clock *clock
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.allowed(req); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, internal(err)
	}
	res, err := g.next.RoundTrip(req)
	if err == nil {
		g.clock.heard(res.Header.Get("Date"))
	}
	return res, err
}

func (g *guard) allowed(req *http.Request) error {
	if req.URL.Scheme != g.base.Scheme || req.URL.Host != g.base.Host || req.Host != "" && req.Host != g.base.Host {
		return fmt.Errorf("a request to %q is not one to the API", req.URL.Host)
	}
	rest, under := strings.CutPrefix(req.URL.EscapedPath(), g.base.EscapedPath())
	if under {
		for _, call := range Calls() {
			if call.Method == req.Method && matches(call.Path, rest) {
				return call.check(req.Header)
			}
		}
	}
	return fmt.Errorf("%s %s is not on the list of calls", req.Method, req.URL.Path)
}

// matches compares segment by segment.
func matches(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] == "{id}" && isIdentifier(got[i]) {
			continue
		}
		if want[i] != got[i] {
			return false
		}
	}
	return true
}

// check holds a request to the one credential that its call carries.
func (call Call) check(h http.Header) error {
	for _, name := range []string{"X-Auth-Key", "X-Auth-Email", "X-Auth-User-Service-Key", "Cookie"} {
		if h.Get(name) != "" {
			return fmt.Errorf("a request with the header %s must not leave", name)
		}
	}
	values := h.Values("Authorization")
	bearer := len(values) == 1 && strings.HasPrefix(values[0], "Bearer ") && len(values[0]) > len("Bearer ")
	if (call.Credential == NoCredential) != (len(values) == 0) || len(values) > 0 && !bearer {
		return fmt.Errorf("%s %s carries the wrong kind of credential", call.Method, call.Path)
	}
	return nil
}

// socketGuard is the transport of the tail's WebSocket: nothing but an upgrade,
// without a credential, encrypted unless it stays on this machine.
type socketGuard struct {
	loopback bool // the API itself is on this machine
	next     http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (g *socketGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	switch {
	case req.Method != http.MethodGet || !strings.EqualFold(req.Header.Get("Upgrade"), "websocket"):
		return nil, internal(fmt.Errorf("%s is not a WebSocket's beginning", req.Method))
	case req.Header.Get("Authorization") != "" || req.Header.Get("Cookie") != "":
		return nil, internal(fmt.Errorf("a tail carries no credential"))
	}
	return g.next.RoundTrip(req)
}

// checkSocketURL holds the address of a tail, which an answer named, to a WebSocket
// that is encrypted, or that stays on this machine as the API does.
func (g *socketGuard) checkSocketURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return fmt.Errorf("the tail's address is not a URL")
	case u.Scheme == "wss" && !g.loopback && isLoopback(u.Hostname()):
		return fmt.Errorf("the tail's address is on this machine, and the API is not")
	case u.Scheme == "wss":
		return nil
	case u.Scheme == "ws" && g.loopback && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("the tail's address is not an encrypted WebSocket")
}
