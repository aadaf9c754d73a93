package cloudflare

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// forwarder makes one Worker reachable on a loopback port of its own, for clients
// that resolve no workers.dev name. It passes everything on, whatever Host the client
// sent, and adds nothing.
type forwarder struct {
	url    string
	server *http.Server
	serves sync.WaitGroup // the accept loop

	mu       sync.Mutex
	closed   bool
	handlers sync.WaitGroup
}

// forward opens a forwarder for host. The caller holds e.mu.
func (e *Edge) forward(host string) (*forwarder, error) {
	// An address, not a name: "localhost" may resolve to what others listen on.
	listener, err := (&net.ListenConfig{}).Listen(e.running, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("forwarder: %w", err)
	}
	f := &forwarder{url: "http://" + listener.Addr().String()}
	proxy := &httputil.ReverseProxy{
		Transport:     e.cfg.Transport,
		FlushInterval: -1, // streams pass as they come
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "https", host
			if e.edge != nil {
				r.Out.URL.Scheme, r.Out.URL.Host = e.edge.Scheme, e.edge.Host
			}
			r.Out.Host = host
		},
		ModifyResponse: func(res *http.Response) error { return stayHere(res, host) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, "The Worker could not be reached.", http.StatusBadGateway)
		},
	}
	f.server = &http.Server{
		Handler:           f.guarded(proxy),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.New(io.Discard, "", 0),
		// An upgraded connection is no longer the server's; it ends with this context.
		BaseContext: func(net.Listener) context.Context { return e.running },
	}
	f.serves.Go(func() { _ = f.server.Serve(listener) })
	return f, nil
}

// guarded refuses what would make the forwarder a proxy to elsewhere, and counts what runs.
func (f *forwarder) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			http.Error(w, "This port serves one Worker; it is not a proxy.", http.StatusMethodNotAllowed)
			return
		}
		f.mu.Lock()
		if f.closed {
			f.mu.Unlock()
			return
		}
		f.handlers.Add(1)
		f.mu.Unlock()
		defer f.handlers.Done()
		next.ServeHTTP(w, r)
	})
}

// stayHere turns a redirect to the Worker's own public address into one within this
// port: the client may not reach the public one.
func stayHere(res *http.Response, host string) error {
	location, err := url.Parse(res.Header.Get("Location"))
	if err != nil || location.Host != host || location.Scheme != "https" && location.Scheme != "http" {
		return nil //nolint:nilerr // a stranger's Location passes as it is
	}
	location.Scheme, location.Host, location.User = "", "", nil
	if location.Path == "" {
		location.Path = "/"
	}
	res.Header.Set("Location", location.String())
	return nil
}

func (f *forwarder) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	_ = f.server.Close()
	f.serves.Wait()
	f.handlers.Wait()
}
