package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// Config says what a sandbox is like. The zero value is one with the live challenge,
// on free loopback ports.
type Config struct {
	// Addr, EdgeAddr and ManageAddr are where the API, the Workers and the management
	// port listen; loopback only. Default 127.0.0.1:0.
	Addr, EdgeAddr, ManageAddr string
	// Workerd finds the runtime when it is first needed.
	Workerd func(ctx context.Context) (workerd.Binary, error)
	// ChallengeK and ChallengeG are the proof of work's segments and hashes a segment.
	// Default 1000 and 2000, as seen on the live API.
	ChallengeK, ChallengeG int
	// CheckSegments is how many random segments of a solution are recomputed. Default
	// 16; negative: all.
	CheckSegments int
	// AccountsPerMinute bounds how many accounts are made; beyond it the answer is 429.
	// Default 600; negative: no bound.
	AccountsPerMinute int
	// EventCodes says what becomes of an event code: 0 accepts it, else the code of the
	// error (1035 to 1041). A code that is not listed is 1036.
	EventCodes map[string]int
	// AllowPrivateNetwork lets Workers reach loopback and private addresses.
	AllowPrivateNetwork bool
	// HideVersions leaves the version out of tail events, for tests of a client that
	// must do without.
	HideVersions bool
	// Faults is how unkind the API is from the start: "mild", "default", each with a seed
	// where one is wanted ("mild:7"), or a plan as PUT /faults takes it. Default: not at all.
	Faults string
	// Now is our clock; the sandbox's own is this and what was advanced. Default time.Now.
	Now func() time.Time
}

// URLs are the addresses of a running sandbox.
type URLs struct {
	API    string `json:"api"`    // base of the API, with /client/v4
	Edge   string `json:"edge"`   // Workers, by Host header
	Manage string `json:"manage"` // management port
}

// Sandbox is one running sandbox.
type Sandbox struct {
	cfg   Config
	clock clock

	mu         sync.Mutex
	accounts   map[string]*account // by id
	byToken    map[string]*account
	byClaim    map[string]*account
	bySub      map[string]*account
	challenges map[string]challenge
	k, g       int
	spread     propagation
	made       []time.Time // when accounts were made, of the last minute
	requests   []request
	unknown    map[string]int
	uploads    map[string]*assetSession // by session jwt
	manifests  map[string]*assetSession // by completion jwt

	bin         func() (workerd.Binary, error) // once
	root        string                         // the folder of all sockets and data
	removeRoot  func()
	assetSocket string
	urls        URLs
	dash        string // address of the claim page

	servers []*http.Server
	faults  faults
	serving sync.WaitGroup
	stop    context.CancelFunc
	ctx     context.Context //nolint:containedctx // the life of the sandbox, which outlasts every call
	closed  sync.Once
}

// propagation is how long what is new takes to reach the edge.
type propagation struct {
	RouteMS   int `json:"route_ms"`
	VersionMS int `json:"version_ms"`
}

// New makes a sandbox; Start starts it.
func New(cfg Config) (*Sandbox, error) {
	if cfg.Workerd == nil {
		return nil, errors.New("sandbox: Config.Workerd is needed")
	}
	for _, addr := range []*string{&cfg.Addr, &cfg.EdgeAddr, &cfg.ManageAddr} {
		if *addr == "" {
			*addr = "127.0.0.1:0"
		}
		if err := loopbackOnly(*addr); err != nil {
			return nil, err
		}
	}
	setDefault(&cfg.ChallengeK, 1000)
	setDefault(&cfg.ChallengeG, 2000)
	setDefault(&cfg.CheckSegments, 16)
	setDefault(&cfg.AccountsPerMinute, 600)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Sandbox{
		cfg: cfg, clock: clock{now: cfg.Now}, accounts: map[string]*account{}, byToken: map[string]*account{},
		byClaim: map[string]*account{}, bySub: map[string]*account{}, challenges: map[string]challenge{},
		k: cfg.ChallengeK, g: cfg.ChallengeG, unknown: map[string]int{},
		uploads: map[string]*assetSession{}, manifests: map[string]*assetSession{},
	}
	plan, err := parseFaults(cfg.Faults)
	if err == nil {
		err = s.faults.set(plan)
	}
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	return s, nil
}

func setDefault(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

// loopbackOnly refuses addresses that others could reach.
func loopbackOnly(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("sandbox: %q is not an address: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("sandbox: %s: it listens on loopback only, such as 127.0.0.1:0", addr)
	}
	return nil
}

// Start listens and returns when the sandbox can be used.
func (s *Sandbox) Start(ctx context.Context) error {
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	workerd.Sweep("")
	s.bin = sync.OnceValues(func() (workerd.Binary, error) { return s.cfg.Workerd(s.ctx) })
	var err error
	if s.root, s.removeRoot, err = workerd.NewRoot(); err != nil {
		return errors.Join(fmt.Errorf("sandbox: a folder: %w", err), s.Close())
	}
	if err := s.openAssets(); err != nil {
		return errors.Join(fmt.Errorf("sandbox: a socket for assets: %w", err), s.Close())
	}
	var api, edge, manage string
	var serve []func()
	for _, l := range []struct {
		addr    string
		handler http.Handler
		url     *string
	}{
		{s.cfg.Addr, s.unkind(s.apiHandler()), &api},
		{s.cfg.EdgeAddr, s.edgeHandler(), &edge},
		{s.cfg.ManageAddr, s.manageHandler(), &manage},
		{"127.0.0.1:0", s.dashHandler(), &s.dash},
	} {
		url, start, err := s.listen(l.addr, l.handler)
		if err != nil {
			return errors.Join(err, s.Close())
		}
		*l.url = url
		serve = append(serve, start)
	}
	s.urls = URLs{API: api + "/client/v4", Edge: edge, Manage: manage}
	for _, start := range serve { // every address is known before anything is answered
		start()
	}
	s.serving.Go(s.sweep)
	return nil
}

// listen opens addr; what it gives back serves handler there until Close.
func (s *Sandbox) listen(addr string, handler http.Handler) (string, func(), error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("sandbox: listening: %w", err)
	}
	srv := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !workerd.RefuseConnect(w, r) {
				handler.ServeHTTP(w, r)
			}
		}),
	}
	s.mu.Lock()
	s.servers = append(s.servers, srv)
	s.mu.Unlock()
	return "http://" + l.Addr().String(), func() { s.serving.Go(func() { _ = srv.Serve(l) }) }, nil
}

// URLs tells where the sandbox answers.
func (s *Sandbox) URLs() URLs { return s.urls }

// Close ends everything: listeners, runtimes, files.
func (s *Sandbox) Close() error {
	s.closed.Do(func() {
		if s.stop != nil {
			s.stop()
		}
		s.mu.Lock()
		servers := s.servers
		accounts := make([]*account, 0, len(s.accounts))
		for _, a := range s.accounts {
			accounts = append(accounts, a)
		}
		s.mu.Unlock()
		for _, srv := range servers {
			_ = srv.Close()
		}
		for _, a := range accounts {
			a.end()
		}
		s.serving.Wait()
		if s.removeRoot != nil {
			s.removeRoot()
		}
	})
	return nil
}

// sweep ends what is over, and goes on until Close.
func (s *Sandbox) sweep() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			s.endExpired()
			s.fireCrons()
		}
	}
}

// fireCrons runs the cron triggers that are due.
func (s *Sandbox) fireCrons() {
	now := s.clock.Now()
	s.mu.Lock()
	var alive []*account
	for _, a := range s.accounts {
		if !a.expired(now) {
			alive = append(alive, a)
		}
	}
	s.mu.Unlock()
	for _, a := range alive {
		a.fireCrons()
	}
}

// endExpired ends the runtimes of accounts whose hour is over.
func (s *Sandbox) endExpired() {
	now := s.clock.Now()
	s.mu.Lock()
	var over []*account
	for _, a := range s.accounts {
		if a.expired(now) && !a.ended {
			a.ended = true
			over = append(over, a)
		}
	}
	for jwt, up := range s.uploads {
		if now.Sub(up.made) > time.Hour {
			delete(s.uploads, jwt)
		}
	}
	for jwt, up := range s.manifests {
		if now.Sub(up.made) > time.Hour {
			delete(s.manifests, jwt)
		}
	}
	s.mu.Unlock()
	for _, a := range over {
		a.end()
	}
}
