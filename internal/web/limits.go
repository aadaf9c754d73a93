package web

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// How long a client may take, and how much it may send, whatever it asks for.
const (
	headerWait     = 10 * time.Second
	keepAliveWait  = 2 * time.Minute
	writeWait      = 30 * time.Second // for one piece of an answer, not for a stream
	callWait       = 15 * time.Minute // for one tool call
	lastWait       = 5 * time.Second  // at the end of the process
	heartbeat      = 30 * time.Second
	maxAgentHeader = 32 << 10
)

// Limits bound what clients may hold open at once. A caller is a principal.
type Limits struct {
	// Body is the largest message, in bytes. Default 16 MiB.
	Body int64
	// BodyWait is how long a request may take to arrive. Default 30 seconds.
	BodyWait time.Duration
	// Bodies bounds the bytes of all messages that are being read or worked on. Default 256 MiB.
	Bodies int64
	// Connections bounds the TCP connections. Default 8192.
	Connections int
	// Streams and StreamsEach bound open event streams, in all and for one caller.
	// Defaults 4096 and 256.
	Streams, StreamsEach int
	// Calls and CallsEach bound requests under way, in all and for one caller.
	// Defaults 1024 and 128.
	Calls, CallsEach int
	// Rate and RateEach bound requests a second, in all and of one caller. 0: no bound.
	Rate, RateEach float64
}

func (l *Limits) setDefaults() {
	orInt(&l.Connections, 8192)
	orInt(&l.Streams, 4096)
	orInt(&l.StreamsEach, 256)
	orInt(&l.Calls, 1024)
	orInt(&l.CallsEach, 128)
	if l.Body <= 0 {
		l.Body = 16 << 20
	}
	if l.Bodies <= 0 {
		l.Bodies = 256 << 20
	}
	l.Bodies = max(l.Bodies, l.Body)
	if l.BodyWait <= 0 {
		l.BodyWait = 30 * time.Second
	}
}

func orInt(v *int, def int) {
	if *v <= 0 {
		*v = def
	}
}

// kind is what a client holds open.
type kind int

const (
	aRequest kind = iota // a POST that waits for its answer
	aStream              // an event stream
	aCall                // a tool call, which may outlive the POST that began it
	kinds
)

// load counts what clients hold open. It forgets a caller who holds nothing.
type load struct {
	limits Limits

	mu     sync.Mutex
	each   map[string]*[kinds]int
	all    [kinds]int
	bodies int64
	idle   chan struct{} // closed when nothing is running; nil while nobody waits
}

func newLoad(l Limits) *load { return &load{limits: l, each: map[string]*[kinds]int{}} }

func (l *load) most(k kind) (all, each int) {
	if k == aStream {
		return l.limits.Streams, l.limits.StreamsEach
	}
	return l.limits.Calls, l.limits.CallsEach
}

// enter counts one thing more, if there is room: whole says whether it is the caller's
// own share that is used up, or everybody's. Calls always fit: the POST that brings one
// was let in or not.
func (l *load) enter(k kind, principal string) (leave func(), share, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := l.each[principal]
	if mine == nil {
		mine = new([kinds]int)
	}
	all, each := l.most(k)
	// A POST of the older transport ends before its call does, so calls count as well.
	if k != aCall && (mine[k] >= each || k == aRequest && mine[aCall] >= each) {
		return nil, true, false
	}
	if k != aCall && (l.all[k] >= all || k == aRequest && l.all[aCall] >= all) {
		return nil, false, false
	}
	l.each[principal] = mine
	mine[k]++
	l.all[k]++
	return sync.OnceFunc(func() { l.leave(k, principal) }), false, true
}

func (l *load) leave(k kind, principal string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := l.each[principal]
	mine[k]--
	l.all[k]--
	if *mine == [kinds]int{} {
		delete(l.each, principal)
	}
	l.tell()
}

// tell wakes who waits for the end of what runs. The caller holds the lock.
func (l *load) tell() {
	if l.idle != nil && l.all[aRequest]+l.all[aCall] == 0 {
		close(l.idle)
		l.idle = nil
	}
}

// running is how many requests and calls are under way; a call counts beside its POST.
func (l *load) running() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.all[aRequest], l.all[aCall])
}

// settled waits until nothing runs, or ctx ends.
func (l *load) settled(ctx context.Context) {
	l.mu.Lock()
	if l.all[aRequest]+l.all[aCall] == 0 {
		l.mu.Unlock()
		return
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// hold reserves n bytes for a message, if there is room.
func (l *load) hold(n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bodies+n > l.limits.Bodies {
		return false
	}
	l.bodies += n
	return true
}

func (l *load) release(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bodies -= n
}

// boundedListener closes connections beyond a number at once: a client that opens
// thousands must not use up what others need.
type boundedListener struct {
	net.Listener
	free chan struct{}
}

func (b *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case b.free <- struct{}{}:
			return &boundedConn{Conn: c, free: sync.OnceFunc(func() { <-b.free })}, nil
		default:
			_ = c.Close() // one too many
		}
	}
}

type boundedConn struct {
	net.Conn
	free func()
}

func (c *boundedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}

// patientWriter gives each piece of an answer its own time to be taken, so that a stream
// may last and a client that reads nothing may not.
type patientWriter struct {
	// redact strips secrets from each piece; nil: what is written has been looked at. What
	// agents are answered is written message by message, so that no secret is cut in two.
	redact func([]byte) []byte
	http.ResponseWriter
	rc     *http.ResponseController
	status int
}

func newPatientWriter(w http.ResponseWriter) *patientWriter {
	p := &patientWriter{ResponseWriter: w, rc: http.NewResponseController(w)}
	p.more()
	return p
}

func (p *patientWriter) more() { _ = p.rc.SetWriteDeadline(time.Now().Add(writeWait)) } // none to be set is none to be missed

// WriteHeader sends the status, and never leave for every page there is: mcp-go gives it
// with each stream of the older transport.
func (p *patientWriter) WriteHeader(status int) {
	p.more()
	if p.status == 0 {
		p.status = status
		if p.Header().Get("Access-Control-Allow-Origin") == "*" {
			p.Header().Del("Access-Control-Allow-Origin")
		}
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *patientWriter) Write(b []byte) (int, error) {
	p.more()
	if p.status == 0 {
		p.WriteHeader(http.StatusOK)
	}
	if p.redact == nil {
		return p.ResponseWriter.Write(b)
	}
	if _, err := p.ResponseWriter.Write(p.redact(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Flush sends what was written.
func (p *patientWriter) Flush() {
	p.more()
	_ = p.rc.Flush() // a client that is gone ends the request by its context
}

// Unwrap is for http.ResponseController.
func (p *patientWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }
