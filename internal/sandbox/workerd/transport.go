package workerd

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// flight counts the requests that are under way.
type flight struct {
	mu    sync.Mutex
	n     int
	last  time.Time     // when the last one ended
	empty chan struct{} // closed when n is 0; made when n leaves 0
}

func (f *flight) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == 0 {
		f.empty = make(chan struct{})
	}
	f.n++
}

func (f *flight) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n--
	f.last = time.Now()
	if f.n == 0 {
		close(f.empty)
	}
}

// state gives the count, when the last one ended, and what is closed when none is left.
func (f *flight) state() (n int, last time.Time, empty <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n, f.last, f.empty
}

// unixTransport speaks HTTP to a unix socket.
func unixTransport(path string) *http.Transport {
	var d net.Dialer
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			for wait := time.Millisecond; ; wait *= 2 {
				// The socket is announced a moment before it answers.
				c, err := d.DialContext(ctx, "unix", path)
				if err == nil || wait > 64*time.Millisecond || ctx.Err() != nil {
					return c, err
				}
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(wait):
				}
			}
		},
		MaxIdleConnsPerHost: 32, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
	}
}

// route is the road to one Worker. It counts requests in flight.
type route struct {
	p         *Process
	transport *http.Transport
}

// RoundTrip sends a request to the Worker. When the process ends meanwhile, the error
// is the process's.
func (r *route) RoundTrip(req *http.Request) (*http.Response, error) {
	r.p.flight.begin()
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		r.p.flight.end()
		return nil, r.p.reason(req.Context(), err)
	}
	resp.Body = r.counted(req.Context(), resp.Body)
	return resp, nil
}

// reason tells why a request failed: where the process is going down, its own cause.
func (p *Process) reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(100 * time.Millisecond): // the connection breaks a moment before the process is reaped
		return err
	}
}

// counted gives a body that takes the request out of the count when it is closed. A
// body that can be written to (an upgraded connection) stays one.
func (r *route) counted(ctx context.Context, body io.ReadCloser) io.ReadCloser {
	c := &countedBody{ReadCloser: body, p: r.p, ctx: ctx}
	if w, ok := body.(io.Writer); ok {
		return struct {
			*countedBody
			io.Writer
		}{c, w}
	}
	return c
}

type countedBody struct {
	io.ReadCloser
	p    *Process
	ctx  context.Context //nolint:containedctx // the request's, for as long as its body
	once sync.Once
}

// Read tells the process's cause when its end cuts the body off.
func (c *countedBody) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.p.reason(c.ctx, err)
	}
	return n, err
}

// Close ends the request.
func (c *countedBody) Close() error {
	c.once.Do(c.p.flight.end)
	return c.ReadCloser.Close()
}
