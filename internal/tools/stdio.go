package tools

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/rs/zerolog"
)

// How much may be under way at once on one pair of streams. Beyond it a request is
// answered at once with an error, so that cancellations still get through.
const (
	maxInFlight      = 128
	maxInFlightBytes = 64 << 20
)

// codeBusy is the JSON-RPC error for too much at once (in the range left to servers).
const codeBusy = -32000

// ServeStdio speaks MCP over a pair of streams, a message a line, until in ends or ctx
// does. Then it cancels what is under way and waits for it; what is answered by then is
// still written. Its error is nil for both ends, else what failed. Only the protocol is
// written to out; what is odd goes to log.
//
// If in is an io.Closer it is closed at the end, so that a read that still waits ends.
//
// It stands in for mcp-go's own stdio server, which reads lines of any length, keeps its
// session in a package variable, runs five calls at once and queues the others (a status
// would wait for deployments), loses a cancellation that comes before its call has
// begun, and lets a result overtake the progress before it.
func ServeStdio(ctx context.Context, srv *server.MCPServer, in io.Reader, out io.Writer, log zerolog.Logger) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	t := &stdio{
		srv: srv, log: log, session: newStdioSession(out, fail), running: map[string]*inFlight{},
	}
	if err := srv.RegisterSession(ctx, t.session); err != nil {
		return fmt.Errorf("stdio: %w", err)
	}
	defer srv.UnregisterSession(context.WithoutCancel(ctx), t.session.SessionID())

	pumping, stopPump := context.WithCancel(context.WithoutCancel(ctx))
	var pump sync.WaitGroup
	pump.Go(func() { t.session.pump(pumping) })

	lines := readLines(ctx, in)
	err := t.serve(srv.WithContext(ctx, t.session), lines)
	t.cancelAll()
	t.calls.Wait()
	stopPump()
	pump.Wait()
	fail(nil)
	lines.end(in)
	return err
}

// stdio is one run of ServeStdio.
type stdio struct {
	srv     *server.MCPServer
	log     zerolog.Logger
	session *stdioSession
	calls   sync.WaitGroup

	mu      sync.Mutex
	running map[string]*inFlight
	bytes   int
}

// inFlight is a request under way.
type inFlight struct {
	stop      context.CancelFunc
	size      int
	cancelled bool // by the client, which then wants no answer
}

// message is what has to be known of a line to know what to do with it.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method *string         `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

func (t *stdio) serve(ctx context.Context, lines *lineFeed) error {
	for {
		select {
		case <-ctx.Done():
			if w, ok := errors.AsType[*writeError](context.Cause(ctx)); ok {
				return w
			}
			return nil
		case l := <-lines.c:
			if l.err == nil {
				t.line(ctx, l.text)
				continue
			}
			if over, ok := errors.AsType[*tooLong](l.err); ok {
				t.refuse(over.id, mcp.INVALID_REQUEST, fmt.Sprintf(
					"the message has %d bytes; at most %d are read. Send large projects with project_dir instead of files.", over.bytes, maxLine))
				continue
			}
			if errors.Is(l.err, io.EOF) || errors.Is(l.err, io.ErrClosedPipe) {
				return nil
			}
			return fmt.Errorf("stdio: reading: %w", l.err)
		}
	}
}

// line takes one message. It does not wait for what the message asks for.
func (t *stdio) line(ctx context.Context, text []byte) {
	if len(bytes.TrimSpace(text)) == 0 {
		return
	}
	var m message
	if err := json.Unmarshal(text, &m); err != nil {
		if json.Valid(text) {
			t.refuse(nil, mcp.INVALID_REQUEST, "the line is not one JSON-RPC message")
		} else {
			t.refuse(nil, mcp.PARSE_ERROR, "the line is not valid JSON")
		}
		return
	}
	hasID := len(m.ID) > 0 && string(m.ID) != "null"
	switch {
	case m.Method == nil && (m.Result != nil || m.Error != nil):
		t.session.answered(&m)
	case hasID && !goodID(m.ID):
		t.refuse(nil, mcp.INVALID_REQUEST, "a request's id is a string or a number")
	case m.Method == nil:
		t.refuse(m.ID, mcp.INVALID_REQUEST, "the message has no method")
	case hasID:
		t.request(ctx, &m, text)
	case *m.Method == string(mcp.MethodNotificationCancelled):
		t.cancel(text)
	default:
		t.handle(ctx, m.ID, text) // a notification: nothing of it takes time
	}
}

// request begins a request on a goroutine of its own. It is known to cancel before
// anything else is read.
func (t *stdio) request(ctx context.Context, m *message, text []byte) {
	id := string(m.ID)
	ctx, stop := context.WithCancel(ctx)
	t.mu.Lock()
	var refusal string
	switch {
	case t.running[id] != nil:
		refusal = "a request with this id is still under way"
	case len(t.running) >= maxInFlight || t.bytes+len(text) > maxInFlightBytes:
		refusal = "too much is under way at once; wait for answers and send it again"
	default:
		t.running[id] = &inFlight{stop: stop, size: len(text)}
		t.bytes += len(text)
	}
	t.mu.Unlock()
	if refusal != "" {
		stop()
		t.refuse(m.ID, codeBusy, refusal)
		return
	}
	work := func() {
		defer stop()
		response := t.handle(ctx, m.ID, text)
		t.mu.Lock()
		wanted := !t.running[id].cancelled
		t.bytes -= t.running[id].size
		delete(t.running, id)
		t.mu.Unlock()
		if response != nil && wanted {
			t.send(response)
		}
	}
	if *m.Method == string(mcp.MethodInitialize) {
		work() // what follows it may rely on what it declared
		return
	}
	t.calls.Go(work)
}

// handle has mcp-go do the work; a panic of it tells the client nothing.
func (t *stdio) handle(ctx context.Context, id json.RawMessage, text []byte) (response any) {
	defer func() {
		if p := recover(); p != nil {
			t.log.Error().Str("panic", fmt.Sprint(p)).Msg("a request failed")
			response = rpcError(id, mcp.INTERNAL_ERROR, "internal error; the server's log has the cause")
		}
	}()
	if r := t.srv.HandleMessage(ctx, text); r != nil {
		return r
	}
	return nil
}

// cancel ends a request at the client's wish. One that is not known is over already.
func (t *stdio) cancel(text []byte) {
	var n struct {
		Params struct {
			RequestID json.RawMessage `json:"requestId"`
		} `json:"params"`
	}
	if json.Unmarshal(text, &n) != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.running[string(n.Params.RequestID)]; r != nil {
		r.cancelled = true
		r.stop()
	}
}

func (t *stdio) cancelAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.running {
		r.stop()
	}
}

func (t *stdio) refuse(id json.RawMessage, code int, text string) {
	t.log.Warn().Int("code", code).Str("error", text).Msg("refused a message")
	t.send(rpcError(id, code, text))
}

func (t *stdio) send(v any) {
	if err := t.session.send(v); err != nil {
		t.log.Error().Err(err).Msg("no answer could be sent")
	}
}

// rpcError is a JSON-RPC error; a nil id is null.
func rpcError(id json.RawMessage, code int, text string) any {
	type details struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	return struct {
		JSONRPC string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   details         `json:"error"`
	}{mcp.JSONRPC_VERSION, id, details{code, text}}
}

// lineFeed reads lines on a goroutine, since a read can't be called off.
type lineFeed struct {
	c    chan oneLine
	done chan struct{}
}

type oneLine struct {
	text []byte
	err  error
}

func readLines(ctx context.Context, in io.Reader) *lineFeed {
	f := &lineFeed{c: make(chan oneLine), done: make(chan struct{})}
	go func() {
		defer close(f.done)
		r := newLineReader(in, maxLine)
		for {
			text, err := r.next()
			select {
			case f.c <- oneLine{text, err}:
			case <-ctx.Done():
				return
			}
			if _, ok := errors.AsType[*tooLong](err); err != nil && !ok {
				return
			}
		}
	}()
	return f
}

// end ends the reading. A read from a terminal or pipe of the operating system may not
// end by closing; it ends with the process.
func (f *lineFeed) end(in io.Reader) {
	if c, ok := in.(io.Closer); ok {
		_ = c.Close() // nothing more is wanted of it
	}
	select {
	case <-f.done:
	case <-time.After(100 * time.Millisecond):
	}
}
