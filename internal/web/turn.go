package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// turn is one POST of Streamable HTTP and what is answered to it. It stands between
// mcp-go and the client for the sake of notifications: mcp-go (v1.2.1) has one queue a
// protocol session, from which another request, or the session's own stream, may take
// what belongs to this one, and it drops what it has taken when the result is ready. Here
// each request has a queue of its own, and its result waits until the queue is written.
type turn struct {
	w      http.ResponseWriter
	header http.Header // mcp-go's, until an answer begins
	end    chan struct{}
	pumped chan struct{}
	even   chan struct{} // the mark of settle was reached

	opening sync.Mutex
	queue   chan mcp.JSONRPCNotification // nil: nobody had anything to tell yet
	ended   bool

	mu    sync.Mutex
	begun bool // the status is sent
	wrap  bool // mcp-go writes one JSON answer into what is a stream of events by now
}

// mark is a notification that is not sent: what was queued before it is written.
const mark = "hourglass/mark"

func newTurn(w http.ResponseWriter) *turn { return &turn{w: w, header: http.Header{}} }

// notes is the queue. Most calls tell nothing on the way, and need neither it nor who
// writes what is in it.
func (t *turn) notes() chan mcp.JSONRPCNotification {
	t.opening.Lock()
	defer t.opening.Unlock()
	if t.queue != nil {
		return t.queue
	}
	t.queue = make(chan mcp.JSONRPCNotification, 100)
	if t.ended {
		return t.queue // too late: nobody writes any more
	}
	t.end, t.pumped, t.even = make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(t.pumped)
		for {
			select {
			case n := <-t.queue:
				t.take(n)
			case <-t.end:
				return
			}
		}
	}()
	return t.queue
}

func (t *turn) take(n mcp.JSONRPCNotification) {
	if n.Method != mark {
		t.event(n)
		return
	}
	select {
	case t.even <- struct{}{}:
	case <-t.end:
	}
}

// close ends the turn; nothing is written after it.
func (t *turn) close() {
	t.opening.Lock()
	t.ended = true
	open := t.queue != nil
	t.opening.Unlock()
	if open {
		close(t.end)
		<-t.pumped
	}
}

// settle waits until what was queued is written.
func (t *turn) settle() {
	t.opening.Lock()
	open := t.queue != nil && !t.ended
	t.opening.Unlock()
	if !open {
		return
	}
	select {
	case t.queue <- mcp.JSONRPCNotification{Notification: mcp.Notification{Method: mark}}:
	case <-t.end:
		return
	}
	select {
	case <-t.even:
	case <-t.end:
	}
}

// event writes a notification into the answer, which becomes a stream of events by it.
func (t *turn) event(n mcp.JSONRPCNotification) {
	raw, err := json.Marshal(n)
	if err != nil {
		return // a notification that can't be encoded is none
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.begun {
		t.begun = true
		h := t.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("X-Accel-Buffering", "no")
		t.w.WriteHeader(http.StatusOK)
	}
	_, _ = fmt.Fprintf(t.w, "event: message\ndata: %s\n\n", raw) // a client that is gone loses notes
	flush(t.w)
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

// Header is mcp-go's own: what it sets counts if it begins the answer.
func (t *turn) Header() http.Header { return t.header }

// WriteHeader begins the answer, unless a notification did. A JSON answer is the last
// that is written: what was told before it comes first.
func (t *turn) WriteHeader(status int) {
	if t.header.Get("Content-Type") == "application/json" {
		t.settle()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begin(status)
}

func (t *turn) begin(status int) {
	if t.begun {
		t.wrap = t.header.Get("Content-Type") == "application/json"
		return
	}
	t.begun = true
	maps.Copy(t.w.Header(), t.header)
	t.w.WriteHeader(status)
}

// Write writes a piece of the answer: mcp-go writes an event, or its one JSON answer, at
// once.
func (t *turn) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.begun {
		t.begin(http.StatusOK)
	}
	if !t.wrap {
		return t.w.Write(p)
	}
	if _, err := fmt.Fprintf(t.w, "event: message\ndata: %s\n\n", bytes.TrimSpace(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush sends what was written.
func (t *turn) Flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	flush(t.w)
}

type turnKey struct{}

func withTurn(ctx context.Context, t *turn) context.Context {
	return context.WithValue(ctx, turnKey{}, t)
}

func turnFrom(ctx context.Context) *turn {
	t, _ := ctx.Value(turnKey{}).(*turn)
	return t
}

// plainSession is what mcp-go's sessions of both transports can do.
type plainSession interface {
	server.SessionWithTools
	server.SessionWithResources
	server.SessionWithResourceTemplates
	server.SessionWithLogging
	server.SessionWithClientInfo
	server.SessionWithProtocolVersion
	SetProtocolVersion(version string)
}

// richSession is what those of Streamable HTTP can do.
type richSession interface {
	plainSession
	server.SessionWithStreamableHTTPConfig
	server.SessionWithSubscriptionFilter
	server.SessionWithSampling
	server.SessionWithElicitation
	server.SessionWithRoots
}

// turnSession is a session as one request sees it: its notifications are the request's.
type turnSession struct {
	richSession
	t *turn
}

// NotificationChannel is the request's own queue.
func (s *turnSession) NotificationChannel() chan<- mcp.JSONRPCNotification { return s.t.notes() }

// UpgradeToSSEWhenReceiveNotification does nothing: the turn makes a stream of the answer
// when there is a notification, and of no other request's.
func (s *turnSession) UpgradeToSSEWhenReceiveNotification() {}

// Notify sends a notification before it returns.
func (s *turnSession) Notify(method string, params map[string]any) error {
	s.t.event(notification(method, params))
	return nil
}

func notification(method string, params map[string]any) mcp.JSONRPCNotification {
	return mcp.JSONRPCNotification{
		JSONRPC:      mcp.JSONRPC_VERSION,
		Notification: mcp.Notification{Method: method, Params: mcp.NotificationParams{AdditionalFields: params}},
	}
}

// olderSession is a session of the older transport, with the one queue that its results
// go through: a notification can't be overtaken in it.
type olderSession struct {
	plainSession
	sse *server.SSEServer
}

// Notify queues a notification where the result will be queued.
func (s *olderSession) Notify(method string, params map[string]any) error {
	return s.sse.SendEventToSession(s.SessionID(), notification(method, params))
}

// ownNotifications is the context of a request in which its session notifies as above.
func (e *Endpoint) ownNotifications(ctx context.Context, _ *http.Request) context.Context {
	switch s := server.ClientSessionFromContext(ctx).(type) {
	case richSession:
		if t := turnFrom(ctx); t != nil {
			return e.cfg.MCP.WithContext(ctx, &turnSession{s, t})
		}
	case plainSession:
		return e.cfg.MCP.WithContext(ctx, &olderSession{s, e.sse})
	}
	return ctx
}
