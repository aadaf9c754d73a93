package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// call is one API request on its way through a handler.
type call struct {
	s    *Sandbox
	w    http.ResponseWriter
	r    *http.Request
	acct *account          // nil where no token is asked for
	args map[string]string // of the path
}

// handler does what an endpoint does.
type handler func(c *call) (answer, error)

// endpoint is one line of the API's table.
type endpoint struct {
	method  string
	pattern string // segments; {x} is an argument
	auth    authKind
	do      handler
}

// authKind says which token an endpoint wants.
type authKind int

const (
	withToken authKind = iota // the account's API token, on its own path
	anyToken                  // an account's API token, no account in the path
	noToken                   // none
	ownToken                  // the handler looks itself
)

// endpoints is the API: everything that it has.
func endpoints() []endpoint {
	const a, sc = "/accounts/{account}", "/accounts/{account}/workers/scripts/{script}"
	const kv, d1, queues = a + "/storage/kv/namespaces", a + "/d1/database", a + "/queues"
	return []endpoint{
		{"POST", "/provisioning/previews/challenge", noToken, postChallenge},
		{"POST", "/provisioning/previews", noToken, postPreview},
		{"GET", "/user", anyToken, getUser},
		{"GET", "/accounts", anyToken, getAccounts},
		{"GET", "/memberships", anyToken, getMemberships},
		{"GET", a, withToken, getAccount},
		{"GET", a + "/workers/subdomain", withToken, getSubdomain},
		{"GET", a + "/workers/services/{script}", withToken, getService},
		{"DELETE", a + "/workers/services/{script}", withToken, deleteScript},
		{"GET", a + "/workers/scripts", withToken, listScripts},
		{"PUT", sc, withToken, putScript},
		{"GET", sc, withToken, getScript},
		{"DELETE", sc, withToken, deleteScript},
		{"GET", sc + "/settings", withToken, getSettings},
		{"PATCH", sc + "/settings", withToken, patchScriptSettings},
		{"GET", sc + "/script-settings", withToken, getScriptSettings},
		{"PATCH", sc + "/script-settings", withToken, patchScriptSettings},
		{"GET", sc + "/subdomain", withToken, getScriptSubdomain},
		{"POST", sc + "/subdomain", withToken, postScriptSubdomain},
		{"GET", sc + "/deployments", withToken, getDeployments},
		{"POST", sc + "/deployments", withToken, postDeployment},
		{"GET", sc + "/versions", withToken, listVersions},
		{"POST", sc + "/versions", withToken, postVersion},
		{"GET", sc + "/versions/{version}", withToken, getVersion},
		{"GET", sc + "/secrets", withToken, listSecrets},
		{"PUT", sc + "/secrets", withToken, putSecret},
		{"DELETE", sc + "/secrets/{secret}", withToken, deleteSecret},
		{"PATCH", sc + "/secrets-bulk", withToken, bulkSecrets},
		{"GET", sc + "/schedules", withToken, getSchedules},
		{"GET", sc + "/references", withToken, getReferences},
		{"POST", sc + "/tails", withToken, postTail},
		{"GET", sc + "/tails", withToken, listTails},
		{"DELETE", sc + "/tails/{tail}", withToken, deleteTail},
		{"POST", sc + "/assets-upload-session", withToken, postAssetSession},
		{"POST", a + "/workers/assets/upload", ownToken, postAssets},
		{"GET", a + "/workers/tails/by-consumer/{script}", withToken, emptyList},
		{"GET", a + "/workers/workers/{script}", withToken, getWorker},
		{"PATCH", a + "/workers/workers/{script}/versions/latest", withToken, patchLatestVersion},
		{"PUT", sc + "/schedules", withToken, putSchedules},
		{"GET", a + "/workers/durable_objects/namespaces", withToken, listObjectNamespaces},
		{"GET", a + "/containers/applications", withToken, noContainers}, // wrangler asks when it deletes
		{"GET", kv, withToken, listNamespaces},
		{"POST", kv, withToken, postNamespace},
		{"GET", kv + "/{namespace}", withToken, getNamespace},
		{"PUT", kv + "/{namespace}", withToken, putNamespace},
		{"DELETE", kv + "/{namespace}", withToken, deleteNamespace},
		{"GET", kv + "/{namespace}/keys", withToken, listKeys},
		{"GET", kv + "/{namespace}/values/{key}", withToken, getValue},
		{"PUT", kv + "/{namespace}/values/{key}", withToken, putValue},
		{"DELETE", kv + "/{namespace}/values/{key}", withToken, deleteValue},
		{"GET", kv + "/{namespace}/metadata/{key}", withToken, getMetadata},
		{"PUT", kv + "/{namespace}/bulk", withToken, putBulk},
		{"DELETE", kv + "/{namespace}/bulk", withToken, deleteBulk},
		{"POST", kv + "/{namespace}/bulk/delete", withToken, deleteBulk},
		{"POST", kv + "/{namespace}/bulk/get", withToken, getBulk},
		{"GET", d1, withToken, listDatabases},
		{"POST", d1, withToken, postDatabase},
		{"GET", d1 + "/{database}", withToken, getDatabase},
		{"DELETE", d1 + "/{database}", withToken, deleteDatabase},
		{"POST", d1 + "/{database}/query", withToken, postQuery},
		{"POST", d1 + "/{database}/raw", withToken, postRaw},
		{"POST", d1 + "/{database}/import", withToken, postImport},
		{"POST", d1 + "/{database}/export", withToken, postExport},
		{"GET", queues, withToken, listQueues},
		{"POST", queues, withToken, postQueue},
		{"GET", queues + "/{queue}", withToken, getQueue},
		{"PUT", queues + "/{queue}", withToken, patchQueue},
		{"PATCH", queues + "/{queue}", withToken, patchQueue},
		{"DELETE", queues + "/{queue}", withToken, deleteQueue},
		{"GET", queues + "/{queue}/consumers", withToken, listConsumers},
		{"POST", queues + "/{queue}/consumers", withToken, postConsumer},
		{"PUT", queues + "/{queue}/consumers/{consumer}", withToken, putConsumer},
		{"DELETE", queues + "/{queue}/consumers/{consumer}", withToken, deleteConsumer},
		{"POST", queues + "/{queue}/messages", withToken, postMessages},
		{"POST", queues + "/{queue}/messages/batch", withToken, postMessages},
	}
}

// apiHandler serves the API and the WebSockets of tails.
func (s *Sandbox) apiHandler() http.Handler {
	table := endpoints()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", s.clock.Now().UTC().Format(http.TimeFormat))
		if id, ok := strings.CutPrefix(r.URL.Path, "/tail/"); ok {
			s.serveTail(w, r, id)
			return
		}
		if path, ok := strings.CutPrefix(r.URL.Path, "/d1-files/"); ok {
			s.serveFile(w, r, path)
			return
		}
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		s.serveAPI(rec, r, table)
		s.note(r, rec.status)
	})
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers the status.
func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

const maxRequests = 10_000 // kept for GET /requests

// request is a line of GET /requests.
type request struct {
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Status int       `json:"status"`
	At     time.Time `json:"at"`
}

func (s *Sandbox) note(r *http.Request, status int) {
	path := r.URL.Path
	if r.URL.RawQuery != "" {
		path += "?" + r.URL.RawQuery
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) >= maxRequests {
		s.requests = append(s.requests[:0], s.requests[maxRequests/2:]...)
	}
	s.requests = append(s.requests, request{r.Method, path, status, s.clock.Now().UTC()})
}

func (s *Sandbox) serveAPI(w http.ResponseWriter, r *http.Request, table []endpoint) {
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), "/client/v4")
	if !ok {
		s.writeError(w, refuse(http.StatusNotFound, 7000, "No route for that URI: the API is under /client/v4"))
		return
	}
	if path == "" || path == "/" {
		s.writeError(w, refuse(http.StatusNotFound, 7000, "No route for that URI"))
		return
	}
	ep, args := find(table, r.Method, path)
	if ep == nil {
		s.mu.Lock()
		s.unknown[r.Method+" "+path]++
		s.mu.Unlock()
		s.writeError(w, refuse(http.StatusNotFound, 7000, "The sandbox has no endpoint %s %s; see docs/sandbox.md for what it has", r.Method, path))
		return
	}
	c := &call{s: s, w: w, r: r, args: args}
	if err := c.authenticate(ep.auth); err != nil {
		s.fail(w, err)
		return
	}
	a, err := ep.do(c)
	if err != nil {
		s.fail(w, err)
		return
	}
	s.writeAnswer(w, a)
}

func (s *Sandbox) fail(w http.ResponseWriter, err error) {
	if e, ok := errors.AsType[*apiError](err); ok {
		s.writeError(w, e)
		return
	}
	s.writeError(w, refuse(http.StatusInternalServerError, 10001, "the sandbox failed: %v", err))
}

// find matches a request with the table.
func find(table []endpoint, method, path string) (*endpoint, map[string]string) {
	have := strings.Split(strings.Trim(path, "/"), "/")
	for i := range table {
		ep := &table[i]
		if ep.method != method {
			continue
		}
		want := strings.Split(strings.Trim(ep.pattern, "/"), "/")
		if args, ok := match(want, have); ok {
			return ep, args
		}
	}
	return nil, nil
}

func match(want, have []string) (map[string]string, bool) {
	if len(want) != len(have) {
		return nil, false
	}
	args := map[string]string{}
	for i, w := range want {
		if !strings.HasPrefix(w, "{") {
			if w != have[i] {
				return nil, false
			}
			continue
		}
		v, err := url.PathUnescape(have[i])
		if err != nil || v == "" {
			return nil, false
		}
		args[strings.Trim(w, "{}")] = v
	}
	return args, true
}

// authenticate finds the account whose token the request carries. A token works on
// its own account's paths only, and only while the account lives unclaimed.
func (c *call) authenticate(kind authKind) error {
	if kind == noToken || kind == ownToken {
		return nil
	}
	token, ok := bearer(c.r)
	if !ok {
		return errAuth(http.StatusUnauthorized)
	}
	c.s.mu.Lock()
	acct := c.s.byToken[token]
	dead := acct == nil || acct.claimed || acct.locked || acct.expired(c.s.clock.Now())
	c.s.mu.Unlock()
	if dead {
		return errAuth(http.StatusUnauthorized)
	}
	if kind == withToken && acct.id != c.args["account"] {
		return errAuth(http.StatusForbidden)
	}
	c.acct = acct
	return nil
}

func bearer(r *http.Request) (string, bool) {
	return strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
}

const maxJSONBody = 4 << 20

// body decodes the request's JSON, whatever its content type says.
func (c *call) body(v any) error {
	raw, err := io.ReadAll(io.LimitReader(c.r.Body, maxJSONBody+1))
	if err != nil {
		return refuse(http.StatusBadRequest, 10001, "the body could not be read")
	}
	if len(raw) > maxJSONBody {
		return refuse(http.StatusRequestEntityTooLarge, 10001, "the body is over %d bytes", maxJSONBody)
	}
	if len(strings.TrimSpace(string(raw))) == 0 {
		raw = []byte("{}")
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return refuse(http.StatusBadRequest, 6007, "Malformed JSON in request body")
	}
	return nil
}

// noContainers is what a temporary account is told of containers.
func noContainers(*call) (answer, error) {
	return answer{}, errAuth(http.StatusForbidden)
}

// emptyList is an endpoint whose things a sandbox does not have yet.
func emptyList(*call) (answer, error) {
	return answer{result: []any{}, info: &info{Page: 1, PerPage: 100, TotalPages: 1}}, nil
}
