package web

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Service is what the pages call. Its errors are *deploy.Error; an unknown token is
// deploy.CodeSessionNotFound. All methods are safe for concurrent use.
type Service interface {
	// ClaimView is what a human is shown under a page token.
	ClaimView(ctx context.Context, token string) (*deploy.ClaimView, error)
	// DecideClaim records the decision, once: a second one is deploy.CodeSessionClosed,
	// one that came too late deploy.CodeSessionExpired. browser is kept with a yes.
	DecideClaim(ctx context.Context, token string, approve bool, browser string) (*deploy.ClaimView, error)
	// ClaimLink is Cloudflare's claim link, after a yes and only for that browser.
	ClaimLink(ctx context.Context, token, browser string) (deploy.Secret, error)
	// Opened records that a human was led on to Cloudflare's page; only the first time counts.
	Opened(ctx context.Context, claimID, by string) error
	// AdoptedOnPage records the word of the browser that said yes about how it ended at Cloudflare.
	AdoptedOnPage(ctx context.Context, token string, did bool, browser string) error
}

// Config is what a Server needs.
type Config struct {
	// Service may be set later by Bind, since the Service itself needs the pages.
	Service Service
	// Addr is where to listen; a loopback address. Default 127.0.0.1:0.
	Addr string
	// Logger gets a line a request, without its path.
	Logger zerolog.Logger
	// Redactor strips secrets from what an error page shows; nil: one that knows the
	// shapes of secrets only.
	Redactor *deploy.Redactor
}

// Server serves the pages for humans. It is a deploy.Pages.
type Server struct {
	cfg Config

	mu      sync.Mutex
	service Service
	port    int
	http    *http.Server
	serving sync.WaitGroup
	closed  bool
}

var _ deploy.Pages = (*Server)(nil)

// New makes a Server that listens to nothing yet.
func New(cfg Config) (*Server, error) {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("web: the address %q: %w", cfg.Addr, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("web: %q is not a loopback address; the approval page is for this machine alone", cfg.Addr)
	}
	if cfg.Redactor == nil {
		cfg.Redactor = deploy.NewRedactor()
	}
	return &Server{cfg: cfg, service: cfg.Service}, nil
}

// Bind gives the Server its Service, where Config could not.
func (s *Server) Bind(svc Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.service = svc
}

// URL is the address of the page under a claim's token. The first call opens the door.
func (s *Server) URL(ctx context.Context, claim *deploy.Claim) (string, error) {
	pageToken := claim.PageToken
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return "", errors.New("web: the pages are closed")
	case s.service == nil:
		return "", errors.New("web: no Service is bound")
	case !goodToken(pageToken.Reveal()):
		return "", errors.New("web: the page token is not one")
	}
	if s.http == nil {
		if err := s.open(ctx); err != nil {
			return "", err
		}
	}
	return "http://" + s.host() + "/claim/" + pageToken.Reveal(), nil
}

// Open opens the door now, and gives the address under which the pages are.
func (s *Server) Open(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return "", errors.New("web: the pages are closed")
	case s.service == nil:
		return "", errors.New("web: no Service is bound")
	}
	if s.http == nil {
		if err := s.open(ctx); err != nil {
			return "", err
		}
	}
	return "http://" + s.host(), nil
}

func (s *Server) host() string { return "localhost:" + strconv.Itoa(s.port) }

// Limits of the page's HTTP server: it serves a person.
const (
	readTimeout  = 10 * time.Second
	writeTimeout = 20 * time.Second
	idleTimeout  = time.Minute
	maxHeader    = 16 << 10
	maxForm      = 4 << 10
	closeWait    = 2 * time.Second
)

// open listens. The caller holds the lock.
func (s *Server) open(ctx context.Context) error {
	listeners, port, err := listen(ctx, s.cfg.Addr)
	if err != nil {
		return err
	}
	s.port = port
	s.http = &http.Server{
		Handler:           s.handler(s.service, s.host()),
		ReadHeaderTimeout: readTimeout / 2, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       log.New(s.cfg.Redactor.Writer(s.cfg.Logger), "", 0),
	}
	for _, l := range listeners {
		s.serving.Go(func() {
			if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				s.cfg.Logger.Error().Err(err).Msg("the approval page stopped")
			}
		})
	}
	return nil
}

// listen opens addr and, where there is IPv6, the same port of ::1. A browser resolves
// localhost to either: a port of which we hold one half could be another program's on
// the other.
func listen(ctx context.Context, addr string) ([]net.Listener, int, error) {
	var config net.ListenConfig
	for try := 0; ; try++ {
		first, err := config.Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, 0, fmt.Errorf("web: opening the approval page: %w", err)
		}
		bound, ok := first.Addr().(*net.TCPAddr)
		if !ok || bound.IP.To4() == nil {
			return []net.Listener{first}, bound.Port, nil
		}
		second, err := config.Listen(ctx, "tcp6", net.JoinHostPort("::1", strconv.Itoa(bound.Port)))
		switch {
		case err == nil:
			return []net.Listener{first, second}, bound.Port, nil
		case !inUse(err): // no IPv6 here, so nobody else can have it either
			return []net.Listener{first}, bound.Port, nil
		}
		_ = first.Close() // another port is tried
		if try == 4 {
			return nil, 0, fmt.Errorf("web: the port %d of localhost is half taken: %w", bound.Port, err)
		}
	}
}

// Close shuts the door and waits until nothing is served any more.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	srv := s.http
	s.mu.Unlock()
	if srv == nil {
		return nil
	}
	ctx, stop := context.WithTimeout(context.Background(), closeWait)
	defer stop()
	err := srv.Shutdown(ctx)
	if err != nil {
		err = srv.Close()
	}
	s.serving.Wait()
	if err != nil {
		return fmt.Errorf("web: closing: %w", err)
	}
	return nil
}
