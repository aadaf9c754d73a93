package tools

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// stdioSession is the one client at the other end of a pair of streams, as mcp-go wants
// to see it, and everything that is written to that client.
type stdioSession struct {
	out   io.Writer
	outMu sync.Mutex
	fail  context.CancelCauseFunc // ends serving when the client can't be written to

	queue chan mcp.JSONRPCNotification // mcp-go's own notifications
	ready atomic.Bool

	mu      sync.Mutex
	info    mcp.Implementation
	caps    mcp.ClientCapabilities
	version string
	level   mcp.LoggingLevel
	lastID  int64
	waiting map[int64]chan answer
}

// answer is the client's response to a request of ours.
type answer struct {
	result json.RawMessage
	err    error
}

var (
	_ server.SessionWithClientInfo      = (*stdioSession)(nil)
	_ server.SessionWithElicitation     = (*stdioSession)(nil)
	_ server.SessionWithProtocolVersion = (*stdioSession)(nil)
	_ server.SessionWithLogging         = (*stdioSession)(nil)
	_ notifier                          = (*stdioSession)(nil)
)

func newStdioSession(out io.Writer, fail context.CancelCauseFunc) *stdioSession {
	return &stdioSession{
		out: out, fail: fail, level: mcp.LoggingLevelEmergency, queue: make(chan mcp.JSONRPCNotification, 64), waiting: map[int64]chan answer{},
	}
}

// SessionID names the session; on stdio there is one.
func (s *stdioSession) SessionID() string { return "stdio" }

// Initialize marks the session as ready for notifications.
func (s *stdioSession) Initialize() { s.ready.Store(true) }

// Initialized tells whether it is.
func (s *stdioSession) Initialized() bool { return s.ready.Load() }

// NotificationChannel is mcp-go's own way of notifying.
func (s *stdioSession) NotificationChannel() chan<- mcp.JSONRPCNotification { return s.queue }

// GetClientInfo is what the client called itself.
func (s *stdioSession) GetClientInfo() mcp.Implementation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info
}

// SetClientInfo is called by mcp-go.
func (s *stdioSession) SetClientInfo(info mcp.Implementation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info = info
}

// GetClientCapabilities is what the client declared.
func (s *stdioSession) GetClientCapabilities() mcp.ClientCapabilities {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.caps
}

// SetClientCapabilities is called by mcp-go.
func (s *stdioSession) SetClientCapabilities(caps mcp.ClientCapabilities) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.caps = caps
}

// ProtocolVersion is what initialize agreed on; "" for requests that name their own.
func (s *stdioSession) ProtocolVersion() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// SetProtocolVersion is called by mcp-go.
func (s *stdioSession) SetProtocolVersion(v string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = v
}

// GetLogLevel is from which level on the client wants log messages.
func (s *stdioSession) GetLogLevel() mcp.LoggingLevel {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.level
}

// SetLogLevel is called by mcp-go.
func (s *stdioSession) SetLogLevel(level mcp.LoggingLevel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.level = level
}

// Notify sends a notification before it returns.
func (s *stdioSession) Notify(method string, params map[string]any) error {
	return s.send(mcp.JSONRPCNotification{
		JSONRPC:      mcp.JSONRPC_VERSION,
		Notification: mcp.Notification{Method: method, Params: mcp.NotificationParams{AdditionalFields: params}},
	})
}

// RequestElicitation asks the client and waits for its answer, or until ctx ends; then
// it tells the client that the answer is not wanted any more.
func (s *stdioSession) RequestElicitation(ctx context.Context, request mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
	s.mu.Lock()
	s.lastID++
	id := s.lastID
	reply := make(chan answer, 1)
	s.waiting[id] = reply
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiting, id)
		s.mu.Unlock()
	}()
	err := s.send(struct {
		JSONRPC string                `json:"jsonrpc"`
		ID      int64                 `json:"id"`
		Method  mcp.MCPMethod         `json:"method"`
		Params  mcp.ElicitationParams `json:"params"`
	}{mcp.JSONRPC_VERSION, id, mcp.MethodElicitationCreate, request.Params})
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		// A client that can't be told is gone, and serving ends anyway.
		_ = s.Notify(string(mcp.MethodNotificationCancelled), map[string]any{"requestId": id, "reason": "no longer needed"})
		return nil, ctx.Err()
	case a := <-reply:
		if a.err != nil {
			return nil, a.err
		}
		var result mcp.ElicitationResult
		if err := json.Unmarshal(a.result, &result); err != nil {
			return nil, fmt.Errorf("reading the client's answer: %w", err)
		}
		return &result, nil
	}
}

// answered takes a client's response to a request of ours; one that nobody waits for is
// dropped.
func (s *stdioSession) answered(m *message) {
	var id int64
	if json.Unmarshal(m.ID, &id) != nil {
		return
	}
	s.mu.Lock()
	reply := s.waiting[id]
	delete(s.waiting, id)
	s.mu.Unlock()
	if reply == nil {
		return
	}
	a := answer{result: m.Result}
	if len(m.Error) > 0 && string(m.Error) != "null" {
		var e mcp.JSONRPCErrorDetails
		if json.Unmarshal(m.Error, &e) != nil {
			e.Message = "an error that can't be read"
		}
		a.err = fmt.Errorf("the client refused: %s", clip(foreign(e.Message), 200))
	}
	reply <- a
}

// send writes one message as one line. A client that can't be written to ends serving.
func (s *stdioSession) send(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a message: %w", err)
	}
	s.outMu.Lock()
	defer s.outMu.Unlock()
	if _, err := s.out.Write(append(line, '\n')); err != nil {
		failed := &writeError{err}
		s.fail(failed)
		return failed
	}
	return nil
}

// writeError says that the client can't be written to any more.
type writeError struct{ err error }

func (e *writeError) Error() string { return "stdio: writing to the client: " + e.err.Error() }

func (e *writeError) Unwrap() error { return e.err }

// pump sends what mcp-go queued, until ctx ends.
func (s *stdioSession) pump(ctx context.Context) {
	for {
		select {
		case n := <-s.queue:
			if s.send(n) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
