package workerd

import (
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// servers are our listeners that one process may speak to.
type servers struct {
	list   []*http.Server
	active sync.WaitGroup
}

// listen answers a unix socket with a handler, which never sees a CONNECT.
func (s *servers) listen(path string, h http.Handler) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	srv := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // a Worker could fill it
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if RefuseConnect(w, r) {
				return
			}
			s.active.Add(1)
			defer s.active.Done()
			h.ServeHTTP(w, r)
		}),
	}
	s.list = append(s.list, srv)
	s.active.Go(func() { _ = srv.Serve(l) }) // until close
	return nil
}

// close ends the listeners and their connections, and waits for their handlers, whose
// contexts are done.
func (s *servers) close() {
	for _, srv := range s.list {
		_ = srv.Close()
	}
	s.active.Wait()
}

// RefuseConnect answers a CONNECT with 405 and ends the connection; it tells whether
// it did. Answered with 2xx, the Worker that asked would own a raw pipe to the
// listener and could forge headers (workerd fact sheet, section 3).
func RefuseConnect(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodConnect {
		return false
	}
	w.Header().Set("Connection", "close")
	http.Error(w, "CONNECT is refused here", http.StatusMethodNotAllowed)
	return true
}
