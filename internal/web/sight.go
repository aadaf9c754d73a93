package web

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// The paths for those who run the server.
const (
	PathHealth  = "/healthz" // the process answers
	PathReady   = "/readyz"  // it can do its work
	PathMetrics = "/metrics" // Prometheus
)

// Check is one thing without which the server can't do its work.
type Check struct {
	// Name is shown to whoever asks, e.g. "store".
	Name string
	// Probe finds out. Its error is for the log alone.
	Probe func(ctx context.Context) error
	// Every is how long an answer holds: anybody may ask, and must cause no load.
	Every time.Duration
}

// checkWait bounds one probe; orchestrators give up after a second or a few.
const checkWait = 3 * time.Second

// checked is a Check with its latest answer.
type checked struct {
	Check
	mu    sync.Mutex
	asked time.Time
	err   error
}

// answer probes, unless that was done lately. Who comes meanwhile hears the same.
func (c *checked) answer(e *Endpoint) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := e.cfg.Now()
	if !c.asked.IsZero() && now.Sub(c.asked) < c.Every {
		return c.err
	}
	// Not the request's context: one who hangs up must not make the others hear of a failure.
	ctx, stop := context.WithTimeout(context.Background(), checkWait)
	defer stop()
	was := c.err
	c.asked, c.err = now, c.Probe(ctx)
	if (was == nil) != (c.err == nil) {
		line := e.cfg.Logger.Warn()
		if c.err == nil {
			line = e.cfg.Logger.Info()
		} else {
			line = line.Str("cause", e.cfg.Redactor.Redact(label(deploy.AsError(c.err).Message)))
		}
		line.Str("check", c.Name).Bool("ok", c.err == nil).Msg("readiness")
	}
	return c.err
}

// health tells that the process answers, also while it stops.
func (e *Endpoint) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // who is gone is told nothing
}

// ready tells whether the server can do its work, in fixed words: anybody may ask.
func (e *Endpoint) ready(w http.ResponseWriter, _ *http.Request) {
	answer := struct {
		Ready  bool              `json:"ready"`
		Checks map[string]string `json:"checks"`
	}{true, map[string]string{}}
	for _, c := range e.checks {
		answer.Checks[c.Name] = "ok"
		if c.answer(e) != nil {
			answer.Ready, answer.Checks[c.Name] = false, "failing"
		}
	}
	if e.stopping.Load() {
		answer.Ready, answer.Checks["process"] = false, "stopping"
	}
	w.Header().Set("Content-Type", "application/json")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		e.cfg.Logger.Debug().Err(err).Msg("readiness could not be sent")
	}
}

// metrics shows the counts to operators: where tokens are asked for, to one of the scope
// operate; where none are, to this machine alone.
func (e *Endpoint) metrics(w http.ResponseWriter, r *http.Request) {
	caller := CallerFrom(r.Context())
	switch {
	case e.cfg.Metrics == nil:
		e.refuse(w, r, refusal{status: http.StatusNotFound, code: mcp.METHOD_NOT_FOUND, text: "this server keeps no metrics"})
	case e.cfg.Auth == nil && !fromHere(r):
		e.refuse(w, r, refusal{status: http.StatusForbidden, code: mcp.INVALID_REQUEST, text: "metrics are shown on this machine alone where nobody is asked who they are"})
	case e.cfg.Auth != nil && !caller.May(deploy.ScopeOperate):
		e.refuse(w, r, refusal{
			status: http.StatusForbidden, code: mcp.INVALID_REQUEST, text: "metrics need a token of the scope operate",
			challenge: e.challenge("insufficient_scope", "metrics need the scope operate", deploy.ScopeOperate),
		})
	default:
		e.cfg.Metrics.ServeHTTP(w, r)
	}
}

// fromHere tells whether a request came over loopback.
func fromHere(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	return err == nil && loopbackName(host)
}

// byAnyName tells whether a path is served under whatever name this host is asked by: an
// orchestrator's probe, or a scraper with a token, knows an address alone. A page of
// another site learns nothing: it has no token, and the others say what is public.
func (e *Endpoint) byAnyName(r *http.Request) bool {
	switch r.URL.Path {
	case PathHealth, PathReady:
		return plainPath(r)
	case PathMetrics:
		return plainPath(r) && e.cfg.Auth != nil
	}
	return false
}
