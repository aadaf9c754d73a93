package web

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/server"
	"github.com/rs/zerolog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// The paths under which agents find the server.
const (
	PathMCP     = "/mcp"     // Streamable HTTP, both eras of the protocol
	PathSSE     = "/sse"     // HTTP+SSE of 2024-11-05: the stream
	PathMessage = "/message" // HTTP+SSE of 2024-11-05: what the client sends
)

// EndpointConfig is what an Endpoint needs.
type EndpointConfig struct {
	// MCP is the server that the tools built. The Endpoint adds a middleware to it that
	// counts calls and ends them when the process must.
	MCP *server.MCPServer
	// Addr is where to listen, an IP address or localhost and a port. Default 127.0.0.1:8900.
	Addr string
	// PublicURL is the address that clients use when it is not Addr, without a path: a
	// load balancer's. It names the resource that access tokens are made for.
	PublicURL string
	// Auth tells who calls; nil: nobody is asked, and everybody is Local.
	Auth *Auth
	// Local is the caller where nobody is asked.
	Local deploy.Caller
	// Labels are the operator's, for everybody who calls here; a credential's own label
	// of the same name wins.
	Labels map[string]string
	// InsecureOpen allows an address that other machines reach without Auth.
	InsecureOpen bool
	// NeededScope tells which scope a tool needs; "" for a tool that there is not.
	NeededScope func(tool string) deploy.Scope
	// Console is where humans decide, under PathConsole; nil: there is none.
	Console *Console
	// AllowOrigins are web origins, such as https://ide.example.com, whose pages may call.
	AllowOrigins []string
	// SessionIdleTTL is how long the protocol session of a client that is silent is
	// kept. Default 30 minutes.
	SessionIdleTTL time.Duration
	// WatchEvery is how often open streams are looked at: one whose credential does not
	// hold any more is ended. Default 15 seconds.
	WatchEvery time.Duration
	// StopWait is how long calls under way may take to settle when the server stops.
	// Default 30 seconds.
	StopWait time.Duration
	// Limits bound what clients may hold open; zero fields have defaults.
	Limits Limits
	// Checks are what PathReady answers for.
	Checks []Check
	// Metrics serves PathMetrics; nil: there are none.
	Metrics http.Handler
	// Trace takes the trace context of a request's headers along; nil: nobody does.
	Trace  func(http.Handler) http.Handler
	Logger zerolog.Logger
	// Redactor strips secrets from log lines; nil: one that knows shapes only.
	Redactor *deploy.Redactor
	Now      func() time.Time
}

// Endpoint is where agents reach the MCP server over HTTP.
type Endpoint struct {
	cfg      EndpointConfig
	public   *url.URL // what clients call us; set by Listen
	listener net.Listener
	http     *http.Server
	load     *load
	checks   []*checked
	rates    *rates
	ids      *sessionIDs
	stream   *server.StreamableHTTPServer
	sse      *server.SSEServer

	// stopping refuses what is new; streams ends what is open; calls ends what runs.
	stopping    atomic.Bool
	streams     context.Context //nolint:containedctx // the life of what is open, not of a call
	endStreams  context.CancelFunc
	calls       context.Context //nolint:containedctx // the same
	endCalls    context.CancelFunc
	serving     sync.WaitGroup
	allowedHost map[string]bool
	allowedFrom map[string]bool
}

// NewEndpoint makes an Endpoint that listens to nothing yet.
func NewEndpoint(cfg EndpointConfig) (*Endpoint, error) {
	if cfg.MCP == nil {
		return nil, errors.New("web.NewEndpoint: MCP is needed")
	}
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:8900"
	}
	if cfg.Redactor == nil {
		cfg.Redactor = deploy.NewRedactor()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NeededScope == nil {
		cfg.NeededScope = func(string) deploy.Scope { return "" }
	}
	if cfg.Local.Principal == "" {
		cfg.Local.Principal = "local"
	}
	if cfg.SessionIdleTTL <= 0 {
		cfg.SessionIdleTTL = 30 * time.Minute
	}
	if cfg.WatchEvery <= 0 {
		cfg.WatchEvery = 15 * time.Second
	}
	if cfg.StopWait <= 0 {
		cfg.StopWait = 30 * time.Second
	}
	cfg.Limits.setDefaults()
	public, err := publicURL(cfg.PublicURL)
	if err != nil {
		return nil, err
	}
	if err := checkOpenness(&cfg); err != nil {
		return nil, err
	}
	e := &Endpoint{cfg: cfg, public: public, load: newLoad(cfg.Limits), rates: newRates(cfg.Limits.RateEach, cfg.Limits.Rate, cfg.Now), ids: newSessionIDs(cfg.Now)}
	for _, c := range cfg.Checks {
		e.checks = append(e.checks, &checked{Check: c})
	}
	if e.allowedFrom, err = origins(cfg.AllowOrigins); err != nil {
		return nil, err
	}
	e.streams, e.endStreams = context.WithCancel(context.Background())
	e.calls, e.endCalls = context.WithCancel(context.Background())
	cfg.MCP.Use(e.watchCall)
	return e, nil
}

// publicURL checks the address that clients use; nil for "".
func publicURL(text string) (*url.URL, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // none is none
	}
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("web: the public URL %q is not an http or https address", text)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return nil, fmt.Errorf("web: the public URL %q has more than a host: have the load balancer pass on %s at its root", text, PathMCP)
	case u.Scheme == "http" && !loopbackName(u.Hostname()):
		return nil, fmt.Errorf("web: the public URL %q is plain http: bearer tokens would be readable on the way; give its https address", text)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// checkOpenness refuses to let other machines in without asking who they are.
func checkOpenness(cfg *EndpointConfig) error {
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return fmt.Errorf("web: the address %q: %w", cfg.Addr, err)
	}
	if loopbackName(host) && (cfg.PublicURL == "" || loopbackName(mustHost(cfg.PublicURL))) {
		return nil
	}
	if cfg.Auth == nil && !cfg.InsecureOpen {
		return fmt.Errorf("web: %s can be reached from other machines, and nothing asks who calls: make a token (mcp-server tokens add) "+
			"or name issuers, or listen on 127.0.0.1", stringOr(cfg.PublicURL, cfg.Addr))
	}
	if cfg.PublicURL == "" && cfg.Auth != nil && !specific(host) {
		return fmt.Errorf("web: %s is every address of this machine: give the one that clients use with --public-url; tokens are made for it", cfg.Addr)
	}
	return nil
}

func mustHost(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func stringOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// loopbackName tells whether a host name means this machine to itself alone.
func loopbackName(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// specific tells whether an address names one interface.
func specific(host string) bool {
	ip := net.ParseIP(host)
	return host != "" && (ip == nil || !ip.IsUnspecified())
}

// Listen opens the address. It serves nothing yet.
func (e *Endpoint) Listen(ctx context.Context) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", e.cfg.Addr)
	if err != nil {
		return fmt.Errorf("web: listening on %s: %w", e.cfg.Addr, err)
	}
	if e.public == nil {
		e.public = &url.URL{Scheme: "http", Host: l.Addr().String()}
	}
	if e.cfg.Auth != nil {
		e.cfg.Auth.bind(e.Resource())
	}
	e.setHosts(l.Addr())
	if e.cfg.Console != nil {
		e.cfg.Console.bindTo(consoleBase(e.cfg.PublicURL != "", e.public, l.Addr()))
	}
	e.listener = &boundedListener{Listener: l, free: make(chan struct{}, e.cfg.Limits.Connections)}
	e.http = &http.Server{
		Handler:           e.handler(),
		ReadHeaderTimeout: headerWait, ReadTimeout: e.cfg.Limits.BodyWait, IdleTimeout: keepAliveWait,
		MaxHeaderBytes: maxAgentHeader,
		ErrorLog:       log.New(e.cfg.Redactor.Writer(debugWriter{e.cfg.Logger}), "", 0),
	}
	return nil
}

// consoleBase is the one name under which the console answers: the public one, or this
// machine's by its name. Never a loopback address in numbers: cookies go to every port of
// a name, and Workers of the sandbox are under 127.0.0.1.
func consoleBase(named bool, public *url.URL, bound net.Addr) *url.URL {
	base := *public
	ip := net.ParseIP(base.Hostname())
	if ip == nil || !ip.IsLoopback() && !ip.IsUnspecified() {
		return &base
	}
	port := base.Port()
	if !named {
		_, port, _ = net.SplitHostPort(bound.String())
	}
	base.Host = "localhost"
	if port != "" {
		base.Host = net.JoinHostPort("localhost", port)
	}
	return &base
}

// Address is where the Endpoint listens, as a URL.
func (e *Endpoint) Address() string { return "http://" + e.listener.Addr().String() }

// URL is the address under which clients reach a path.
func (e *Endpoint) URL(path string) string { return e.public.String() + path }

// Resource is the identifier that access tokens must be made for (RFC 8707, RFC 9728).
func (e *Endpoint) Resource() string { return e.URL(PathMCP) }

// Serve serves until ctx ends, then stops: nothing new is taken, calls under way may
// settle for StopWait, then streams and calls are ended. Listen came before.
func (e *Endpoint) Serve(ctx context.Context) error {
	failed := make(chan error, 1)
	e.serving.Go(func() {
		if err := e.http.Serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("web: serving: %w", err)
		}
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	return errors.Join(err, e.stop())
}

// Close ends an Endpoint that was never served.
func (e *Endpoint) Close() error {
	e.endCalls()
	e.endStreams()
	err := e.listener.Close()
	if closing := e.stream.Shutdown(context.Background()); err == nil {
		err = closing
	}
	return err
}

// stop ends serving in order: what is new, what runs, what is merely open.
func (e *Endpoint) stop() error {
	e.stopping.Store(true)
	e.cfg.Logger.Info().Int("calls", e.load.running()).Msg("stopping: nothing new is taken")
	wait, done := context.WithTimeout(context.Background(), e.cfg.StopWait)
	defer done()
	e.load.settled(wait)
	if left := e.load.running(); left > 0 {
		e.cfg.Logger.Warn().Int("calls", left).Msg("calls did not settle in time and are ended")
	}
	e.endCalls()
	e.endStreams()
	last, finished := context.WithTimeout(context.Background(), lastWait)
	defer finished()
	e.load.settled(last)
	err := e.http.Shutdown(last)
	if err != nil {
		err = e.http.Close()
	}
	if closing := e.stream.Shutdown(last); err == nil {
		err = closing
	}
	e.serving.Wait()
	if err != nil {
		return fmt.Errorf("web: closing: %w", err)
	}
	return nil
}

// debugWriter logs what net/http says of its connections: strangers cause it at will.
type debugWriter struct{ log zerolog.Logger }

func (d debugWriter) Write(p []byte) (int, error) {
	d.log.Debug().Str("text", label(string(p))).Msg("http")
	return len(p), nil
}

// library gives mcp-go a logger. What it reports is a client's doing and quotes it.
func (e *Endpoint) library() *slog.Logger {
	return slog.New(slog.NewTextHandler(e.cfg.Redactor.Writer(debugWriter{e.cfg.Logger}), nil))
}
