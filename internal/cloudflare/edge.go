package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// maxProbeBody bounds what is read of a Worker's answer, in bytes.
const maxProbeBody = 64 << 10

// EdgeConfig is what an Edge needs. The zero value goes to workers.dev directly.
type EdgeConfig struct {
	// URL is where Workers answer when workers.dev can't be reached: every request goes
	// there, with the Worker's own host in the Host header. Empty: https://host.
	URL string
	// Transport carries the requests. Nil: one of our own.
	Transport http.RoundTripper
	// UserAgent is sent by Fetch where the caller names none. Empty: "hourglass".
	UserAgent string
	// Timeout bounds the wait for the head of an answer; default 15 s.
	Timeout time.Duration
	// BodyWait bounds the wait for the body after that; default 2 s. What came until
	// then counts, as a body may go on for ever.
	BodyWait time.Duration
}

// Edge implements deploy.Edge. All methods are safe for concurrent use.
type Edge struct {
	cfg  EdgeConfig
	edge *url.URL // nil: directly
	http *http.Client
	own  *http.Transport

	running context.Context // ends with Close; what is forwarded ends with it
	stop    context.CancelFunc

	mu         sync.Mutex
	closed     bool
	forwarders map[string]*forwarder // by host
}

// NewEdge makes an Edge. It makes no request and opens no port.
func NewEdge(cfg EdgeConfig) (*Edge, error) {
	e := &Edge{cfg: cfg, forwarders: map[string]*forwarder{}}
	if cfg.URL != "" {
		u, err := url.Parse(strings.TrimRight(cfg.URL, "/"))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, deploy.Errorf(deploy.CodeInvalidArgument, "Set the edge URL to something like http://127.0.0.1:8788.",
				"the edge URL has to be http:// or https:// with a host and perhaps a port, and nothing else")
		}
		e.edge = u
	}
	if e.cfg.UserAgent == "" {
		e.cfg.UserAgent = "hourglass"
	}
	setDefault(&e.cfg.Timeout, 15*time.Second)
	setDefault(&e.cfg.BodyWait, 2*time.Second)
	if e.cfg.Transport == nil {
		e.own = newTransport()
		e.cfg.Transport = e.own
	}
	e.http = &http.Client{Transport: e.cfg.Transport, CheckRedirect: noRedirect}
	e.running, e.stop = context.WithCancel(context.Background())
	return e, nil
}

func checkHost(host string) error {
	if !isHost(host) {
		return internal(fmt.Errorf("%q is not a Worker's host", cut(host, 80)))
	}
	return nil
}

// URL gives the address under which clients on this machine reach the Worker: on
// workers.dev itself, or that of a loopback forwarder, which is opened by the first
// call for a host and stays on until Close.
func (e *Edge) URL(_ context.Context, host string) (string, error) {
	if err := checkHost(host); err != nil {
		return "", err
	}
	if e.edge == nil {
		return "https://" + host, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return "", internal(errors.New("the edge is closed"))
	}
	f := e.forwarders[host]
	if f == nil {
		var err error
		if f, err = e.forward(host); err != nil {
			return "", deploy.Errorf(deploy.CodeInternal,
				"Tell the user that the machine of this server gives no further port; closing programs may help.",
				"no loopback port could be opened for the Worker").Caused(err)
		}
		e.forwarders[host] = f
	}
	return f.url, nil
}

// Fetch sends a GET for path (with its query) to the Worker at host. Redirects are
// not followed; at most 64 KiB of the body are read; Latency is until the head of the
// answer. An error is CodeAPIUnreachable, CodeInvalidArgument, or the context's.
func (e *Edge) Fetch(ctx context.Context, host, path string, header http.Header) (*deploy.Response, error) {
	if err := checkHost(host); err != nil {
		return nil, err
	}
	target, err := e.target(host, path)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, internal(err)
	}
	req.Host = host
	for name, values := range header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", e.cfg.UserAgent)
	}
	limit := time.AfterFunc(e.cfg.Timeout, cancel)
	defer limit.Stop()
	start := time.Now()
	res, err := e.http.Do(req)
	latency := time.Since(start)
	if err != nil {
		return nil, notServed(ctx, limited, host, err)
	}
	defer res.Body.Close() //nolint:errcheck // nothing is written
	limit.Reset(e.cfg.BodyWait)
	body, err := io.ReadAll(io.LimitReader(res.Body, maxProbeBody))
	if err != nil && ctx.Err() != nil {
		return nil, deploy.AsError(ctx.Err())
	}
	// Else a body that breaks off, or goes on for ever, is what the Worker answered.
	return &deploy.Response{Status: res.StatusCode, Header: res.Header, Body: body, Latency: latency}, nil
}

// target is the address that a path of the Worker is asked at.
func (e *Edge) target(host, path string) (*url.URL, error) {
	u, err := url.ParseRequestURI(path)
	if err != nil || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || len(path) > 8192 {
		return nil, deploy.Errorf(deploy.CodeInvalidArgument, `Give a path that begins with one "/", like /api/items?limit=3.`,
			"%q is not a path of the Worker", cut(clean(path), 80))
	}
	u.Scheme, u.Host = "https", host
	if e.edge != nil {
		u.Scheme, u.Host = e.edge.Scheme, e.edge.Host
	}
	return u, nil
}

// notServed says why a Worker's URL gave no answer. Resolvers and certificates of a
// new workers.dev name take a moment, so that this is often a matter of waiting.
func notServed(ctx, limited context.Context, host string, err error) error {
	if ctx.Err() != nil {
		return deploy.AsError(ctx.Err())
	}
	const next = "Call status in 15 seconds: a new URL takes a moment. If it stays so, the machine of this server may not reach it; the user's browser may."
	if limited.Err() != nil {
		return deploy.Errorf(deploy.CodeAPIUnreachable, next, "https://%s did not answer in time", host)
	}
	cause := bare(err)
	return deploy.Errorf(deploy.CodeAPIUnreachable, next, "https://%s could not be reached (%s)", host, cut(clean(cause.Error()), 200)).Caused(cause)
}

// Close ends the forwarders with everything that runs through them.
func (e *Edge) Close() error {
	e.mu.Lock()
	e.closed = true
	open := e.forwarders
	e.forwarders = map[string]*forwarder{}
	e.mu.Unlock()
	e.stop()
	for _, f := range open {
		f.close()
	}
	if e.own != nil {
		e.own.CloseIdleConnections()
	}
	return nil
}

var _ deploy.Edge = (*Edge)(nil)
