package cloudflare

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/cloudflare/cloudflare-go/v7/option"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// DefaultBaseURL is Cloudflare's public API.
const DefaultBaseURL = "https://api.cloudflare.com/client/v4"

// Config is what a Client needs. The zero value speaks to Cloudflare.
type Config struct {
	// BaseURL is the API's address, with its path (".../client/v4"). Empty:
	// DefaultBaseURL. Plain http is taken for this machine only, as tokens travel on it.
	BaseURL string
	// Instance tells apart what lives under one address, one after another (an
	// embedded sandbox); it becomes part of Target.
	Instance string
	// Transport carries the requests. Nil: one of our own with keep-alive, honouring
	// HTTPS_PROXY for everything that is not loopback.
	Transport http.RoundTripper
	// UserAgent is sent with every request. Empty: "hourglass".
	UserAgent string
	// EventCode asks for an account of an event (section 3.3); empty: an ordinary one.
	EventCode string
	// Secret is told every secret as soon as it is learnt, before it is used: API
	// tokens, claim links, tail addresses, asset tokens. Nil: nobody is told.
	Secret func(string)
	// Redact strips secrets from what Workers say, before it is cut to size. Nil: nothing
	// is stripped.
	Redact func(string) string
	// Now is the clock that the API's is carried on by. Nil: time.Now.
	Now func() time.Time
	// Timeout bounds one API call; default 30 s. UploadTimeout bounds one that
	// carries code or files; default 2 minutes.
	Timeout, UploadTimeout time.Duration
	// RetryWait is the middle of the first pause before a call is repeated that may be;
	// each later one is twice as long. Default 200 ms.
	RetryWait time.Duration
	// Jitter gives numbers from 0 up to 1, by which pauses are spread: from half of one
	// to one and a half. Nil: random ones. It has to be safe for concurrent use.
	Jitter func() float64
	// CircuitAfter is how many failures in a row, over all calls, open the circuit:
	// nothing goes out for CircuitPause, then one call to see, and so on with pauses twice
	// as long, up to 2 minutes. Default 12 and 5 s; a negative CircuitAfter never opens.
	CircuitAfter int
	CircuitPause time.Duration
	// PingEvery is how often an open tail is pinged; default 10 s, as wrangler does.
	PingEvery time.Duration
}

// Client implements deploy.Cloud. All methods are safe for concurrent use.
type Client struct {
	cfg      Config
	base     *url.URL // without a trailing slash
	loopback bool
	http     *http.Client // guarded: only what is on the list of calls leaves
	sockets  *http.Client // for the tail's WebSocket, which carries no token
	options  []option.RequestOption
	clock    clock
	circuit  circuit
	stats    stats
	own      *http.Transport // closed with the client; nil when it came from outside

	mu         sync.Mutex
	subdomains map[string]string // by account ID: it does not change in an account's hour
	closed     bool
	background sync.WaitGroup
}

// New makes a Client. It makes no request. The error names the setting that is wrong.
func New(cfg Config) (*Client, error) {
	if cfg.BaseURL == "" {
		cfg.BaseURL = DefaultBaseURL
	}
	base, err := parseBase(cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "hourglass"
	}
	if cfg.Secret == nil {
		cfg.Secret = func(string) {}
	}
	if cfg.Redact == nil {
		cfg.Redact = func(s string) string { return s }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	setDefault(&cfg.Timeout, 30*time.Second)
	setDefault(&cfg.UploadTimeout, 2*time.Minute)
	setDefault(&cfg.RetryWait, 200*time.Millisecond)
	setDefault(&cfg.PingEvery, 10*time.Second)
	setDefault(&cfg.CircuitPause, 5*time.Second)
	if cfg.CircuitAfter == 0 {
		cfg.CircuitAfter = 12
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	c := &Client{cfg: cfg, base: base, loopback: isLoopback(base.Hostname()), subdomains: map[string]string{}}
	c.clock.now = cfg.Now
	c.circuit.now, c.circuit.after, c.circuit.pause = cfg.Now, cfg.CircuitAfter, cfg.CircuitPause
	transport := cfg.Transport
	if transport == nil {
		c.own = newTransport()
		transport = c.own
	}
	c.http = &http.Client{Transport: &guard{base: base, clock: &c.clock, next: transport}, CheckRedirect: noRedirect}
	c.sockets = &http.Client{Transport: &socketGuard{loopback: c.loopback, next: transport}, CheckRedirect: noRedirect}
	c.options = []option.RequestOption{
		option.WithBaseURL(base.String()),
		option.WithHTTPClient(c.http),
		option.WithHeader("User-Agent", cfg.UserAgent),
		// The SDK repeats whatever failed, 409 included, and waits for as long as the
		// server says. What may be repeated is decided in call.
		option.WithMaxRetries(0),
	}
	return c, nil
}

// Target names the API, and the instance behind it.
func (c *Client) Target() string {
	if c.cfg.Instance == "" {
		return c.base.String()
	}
	return c.base.String() + "#" + c.cfg.Instance
}

// Loopback tells whether the API is on this machine.
func (c *Client) Loopback() bool { return c.loopback }

// Close waits for what goes on in the background, at most about a second, and ends
// idle connections. Calls after it are an error of the caller's.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.background.Wait()
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
	return nil
}

// inBackground runs f on a goroutine that Close waits for; after Close it does not run.
func (c *Client) inBackground(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.background.Go(f)
	}
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// newTransport has room for the buckets of assets that travel at once.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment, // leaves loopback alone by itself
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          32,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

// noRedirect: a redirect would carry a token, or a claim link, to where nobody chose.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func parseBase(s string) (*url.URL, error) {
	bad := func(why string) error {
		return deploy.Errorf(deploy.CodeInvalidArgument,
			"Set the API's base URL to something like "+DefaultBaseURL+".", "the API's base URL %s", why)
	}
	u, err := url.Parse(strings.TrimRight(s, "/"))
	switch {
	case err != nil:
		return nil, bad("is not a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, bad("has to begin with https:// or http://")
	case u.Hostname() == "":
		return nil, bad("has no host")
	case u.User != nil:
		return nil, bad("must not hold a user or a password")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return nil, bad("must not have a query or a fragment")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, bad("is plain http to another machine: tokens would travel in the clear")
	}
	return u, nil
}

// isLoopback tells whether a host name is this machine's own, without asking any resolver.
func isLoopback(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// errNoAccount is a caller's mistake; the ports are given accounts with a token.
var errNoAccount = errors.New("the account has no ID or no token")

func checkAccount(acct *deploy.Account) error {
	if acct == nil || acct.Token.Empty() || !isIdentifier(acct.ID) {
		return internal(errNoAccount)
	}
	return nil
}

// checkWorker refuses a name that the API would refuse.
func checkWorker(name string) error {
	if isWorkerName(name) {
		return nil
	}
	return deploy.Errorf(deploy.CodeNameInvalid,
		"Use a name of lower-case letters, digits and dashes, at most 63 characters, that begins with a letter or digit.",
		"%q is not a name that Cloudflare takes for a Worker", cut(name, 80))
}

func internal(err error) *deploy.Error {
	return deploy.AsError(fmt.Errorf("cloudflare client: %w", err))
}
