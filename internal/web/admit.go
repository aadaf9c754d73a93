package web

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
)

// setHosts says under which names this address may be asked for: a name that a foreign
// site made point at this machine (DNS rebinding) is not among them.
func (e *Endpoint) setHosts(bound net.Addr) {
	e.allowedHost = map[string]bool{}
	allow := func(scheme, host string) {
		e.allowedHost[strings.ToLower(host)] = true
		if e.allowedFrom != nil {
			e.allowedFrom[strings.ToLower(scheme+"://"+host)] = true
		}
	}
	allow(e.public.Scheme, e.public.Host)
	if e.public.Port() == "" { // some clients write the default port out
		e.allowedHost[strings.ToLower(e.public.Host)+map[string]string{"http": ":80", "https": ":443"}[e.public.Scheme]] = true
	}
	host, port, err := net.SplitHostPort(bound.String())
	if err != nil {
		return
	}
	allow("http", net.JoinHostPort(host, port))
	if ip := net.ParseIP(host); ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
			allow("http", net.JoinHostPort(name, port))
		}
	}
}

// origins checks the web origins that the operator allows. The map is never nil.
func origins(list []string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, o := range list {
		u, err := url.Parse(o)
		if err != nil || !fetchable(u) || u.Path != "" || u.RawQuery != "" {
			return nil, fmt.Errorf("web: %q is not a web origin such as https://ide.example.com", o)
		}
		out[strings.ToLower(o)] = true
	}
	return out, nil
}

// admit decides what can be said before anybody is asked who they are. It answers a
// browser's preliminary question itself.
func (e *Endpoint) admit(w http.ResponseWriter, r *http.Request) (no *refusal, answered bool) {
	switch {
	case !e.allowedHost[strings.ToLower(r.Host)]:
		return &refusal{status: http.StatusForbidden, code: mcp.INVALID_REQUEST, text: "this server does not answer to that Host"}, false
	case !plainPath(r):
		return &refusal{status: http.StatusNotFound, code: mcp.METHOD_NOT_FOUND, text: "there is nothing at this path; MCP is at " + PathMCP}, false
	}
	origin := r.Header.Get("Origin")
	switch site := r.Header.Get("Sec-Fetch-Site"); {
	case len(r.Header.Values("Origin")) > 1, origin != "" && !e.allowedFrom[strings.ToLower(origin)],
		origin == "" && site != "" && site != "same-origin" && site != "none":
		return &refusal{status: http.StatusForbidden, code: mcp.INVALID_REQUEST, text: "the request comes from a web page that may not use this server"}, false
	case e.stopping.Load():
		return &refusal{status: http.StatusServiceUnavailable, code: codeBusy, text: "this server is stopping; try again", retryAfter: lastWait}, false
	case origin == "" || !slices.Contains(e.cfg.AllowOrigins, origin):
		return nil, false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Expose-Headers", "Mcp-Session-Id, WWW-Authenticate, Retry-After")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Accept, Last-Event-ID, Mcp-Session-Id, Mcp-Protocol-Version, Mcp-Method, Mcp-Name")
		h.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
		return nil, true
	}
	return nil, false
}

// plainPath tells whether the path is written the one way that it can be: no escapes, no
// dots, no doubled slashes. A proxy in front that reads such a path otherwise than we do
// would guard the wrong one.
func plainPath(r *http.Request) bool {
	p := r.URL.Path
	return r.URL.RawPath == "" && strings.HasPrefix(p, "/") && path.Clean(p) == p && r.URL.EscapedPath() == p && !strings.ContainsAny(p, "\\;")
}
