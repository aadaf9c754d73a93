package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"regexp"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// target is what a request to the edge is for.
type target struct {
	acct    *account
	name    string
	version string // the first 8 characters of a version id, for a preview; else ""
}

// edgeHandler serves Workers by Host header.
func (s *Sandbox) edgeHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, ok := s.byHost(r.Host)
		if !ok {
			edgeError(w, s, http.StatusNotFound, "There is nothing here: no Worker has the host "+printable(r.Host))
			return
		}
		s.serveWorker(w, r, t)
	})
}

func printable(s string) string { return strings.ToValidUTF8(s[:min(len(s), 200)], "?") }

var previewHost = regexp.MustCompile(`^([0-9a-f]{8})-(.+)$`)

// byHost finds the Worker for name.subdomain.workers.dev or name.subdomain.localhost.
func (s *Sandbox) byHost(host string) (target, bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	rest, ok := strings.CutSuffix(host, ".workers.dev")
	if !ok {
		if rest, ok = strings.CutSuffix(host, ".localhost"); !ok {
			return target{}, false
		}
	}
	name, sub, ok := strings.Cut(rest, ".")
	if !ok {
		return target{}, false
	}
	s.mu.Lock()
	a := s.bySub[sub]
	s.mu.Unlock()
	if a == nil {
		return target{}, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.scripts[name] != nil {
		return target{acct: a, name: name}, true
	}
	if m := previewHost.FindStringSubmatch(name); m != nil && a.scripts[m[2]] != nil {
		return target{acct: a, name: m[2], version: m[1]}, true
	}
	return target{}, false
}

// openPort gives a Worker a loopback port of its own, once.
func (a *account) openPort(sc *script) error {
	if sc.url != "" {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("a port for the Worker: %w", err)
	}
	srv := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !workerd.RefuseConnect(w, r) {
				a.s.serveWorker(w, r, target{acct: a, name: sc.name})
			}
		}),
	}
	sc.url = "http://" + l.Addr().String()
	sc.closePort = func() { _ = srv.Close() }
	a.s.serving.Go(func() { _ = srv.Serve(l) })
	return nil
}

func edgeError(w http.ResponseWriter, s *Sandbox, status int, text string) {
	w.Header().Set("Date", s.clock.Now().UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Cf-Ray", randomHex(8)+"-SBX")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

// serveWorker answers a request for a Worker.
func (s *Sandbox) serveWorker(w http.ResponseWriter, r *http.Request, t target) {
	if t.acct.over() {
		edgeError(w, s, http.StatusGone, "This temporary account is over: it was not claimed within its hour.")
		return
	}
	t.acct.mu.Lock()
	sc := t.acct.scripts[t.name]
	up := sc != nil && sc.enabled && !s.clock.Now().Before(sc.routeAt)
	var shown *version
	if up && t.version != "" {
		up = sc.previewsEnabled
		for _, v := range sc.versions {
			if strings.HasPrefix(v.id, t.version) {
				shown = v
			}
		}
		up = up && shown != nil && len(shown.classes) == 0 // as at Cloudflare, no previews of Durable Objects
	}
	t.acct.mu.Unlock()
	if !up {
		edgeError(w, s, http.StatusNotFound, "There is nothing here: the Worker's route is not enabled, or has not reached the edge yet.")
		return
	}
	p, v, err := s.processFor(r.Context(), t, shown)
	switch {
	case err != nil:
		s.workerFailed(w, err)
	case v == nil:
		edgeError(w, s, http.StatusNotFound, "There is nothing here yet.")
	case v.assets != nil && s.serveAssetFirst(w, r, v):
	case v.main == "":
		s.assetMiss(w, r, v)
	case p == nil:
		edgeError(w, s, http.StatusGone, "This temporary account is over.")
	default:
		s.proxy(w, r, t, p)
	}
}

func (s *Sandbox) processFor(ctx context.Context, t target, shown *version) (*workerd.Process, *version, error) {
	if shown == nil {
		return t.acct.process(ctx, t.name)
	}
	p, err := t.acct.preview(ctx, t.name, shown)
	return p, shown, err
}

// workerFailed answers for a Worker that can't: as the real edge does, by code.
func (s *Sandbox) workerFailed(w http.ResponseWriter, err error) {
	if errors.Is(err, workerd.ErrSpun) || errors.Is(err, workerd.ErrMemory) {
		edgeError(w, s, http.StatusServiceUnavailable, "error code: 1102")
		return
	}
	if errors.Is(err, context.Canceled) {
		return // the visitor left
	}
	edgeError(w, s, http.StatusInternalServerError, "error code: 1101")
}

// requestCf is what a Worker sees as request.cf.
const requestCf = `{"asn":64512,"asOrganization":"Hourglass sandbox","city":"Sandbox","colo":"SBX","continent":"EU","country":"T1","httpProtocol":"HTTP/1.1","timezone":"Etc/UTC","tlsVersion":"TLSv1.3"}`

// proxy sends the request to the Worker. The Worker sees the address that it has on
// workers.dev, whatever road the request took.
func (s *Sandbox) proxy(w http.ResponseWriter, r *http.Request, t target, p *workerd.Process) {
	host := t.acct.host(t.name)
	if t.version != "" {
		host = t.version + "-" + host
	}
	proxy := httputil.ReverseProxy{
		Transport:     p.Transport(t.name),
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host, pr.Out.Host = "http", host, host
			pr.Out.Header.Del("Forwarded")
			pr.Out.Header.Del("X-Forwarded-Host")
			pr.Out.Header.Set("X-Forwarded-Proto", "https")
			pr.Out.Header.Set("X-Forwarded-For", "127.0.0.1")
			pr.Out.Header.Set("Cf-Connecting-Ip", "127.0.0.1")
			pr.Out.Header.Set("Cf-Ray", randomHex(8))
			pr.Out.Header.Set("Cf-Visitor", `{"scheme":"https"}`)
			pr.Out.Header.Set(workerd.ProtoHeader, "https")
			pr.Out.Header.Set(workerd.CfHeader, requestCf)
		},
		ModifyResponse: func(resp *http.Response) error { return asException(resp) },
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, err error) { s.workerFailed(w, err) },
	}
	w.Header().Set("Date", s.clock.Now().UTC().Format(http.TimeFormat))
	w.Header().Set("Cf-Ray", randomHex(8)+"-SBX")
	proxy.ServeHTTP(w, r)
}

// errException stands for the runtime's own answer to an uncaught exception.
var errException = errors.New("the Worker threw")

// asException finds the runtime's own answer to an uncaught exception, for which the
// real edge shows an error page.
func asException(resp *http.Response) error {
	if resp.StatusCode != http.StatusInternalServerError || resp.ContentLength != int64(len("Internal Server Error")) || resp.Header.Get("Content-Type") != "" {
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) == "Internal Server Error" {
		return errException
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{strings.NewReader(string(body)), resp.Body}
	return nil
}
