package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// handler is everything under the address. A request goes through: guard (who may speak
// to this address at all), the mux, agent (who calls, how much, what), mcp-go.
func (e *Endpoint) handler() http.Handler {
	e.stream = server.NewStreamableHTTPServer(e.cfg.MCP,
		server.WithSessionIdManagerResolver(e.ids),
		server.WithSessionIdleTTL(e.cfg.SessionIdleTTL),
		server.WithHeartbeatInterval(heartbeat),
		server.WithHTTPContextFunc(e.ownNotifications),
		server.WithStreamableHTTPLogger(e.library()),
		server.WithDisableLocalhostProtection(true), // guard does more: it knows the public name too
	)
	e.sse = server.NewSSEServer(e.cfg.MCP,
		server.WithSSEEndpoint(PathSSE), server.WithMessageEndpoint(PathMessage),
		server.WithUseFullURLForMessageEndpoint(false),
		server.WithKeepAliveInterval(heartbeat),
		server.WithSSEContextFunc(e.ownNotifications),
		server.WithSSEDisableLocalhostProtection(true),
		server.WithSessionIDGenerator(func(ctx context.Context, _ *http.Request) (string, error) {
			return e.ids.make(CallerFrom(ctx).Principal), nil
		}),
	)
	mux := http.NewServeMux()
	mux.Handle(PathMCP, e.agent(http.HandlerFunc(e.streamable)))
	mux.Handle(PathSSE, e.agent(e.openStream(e.sse.SSEHandler())))
	mux.Handle(PathMessage, e.agent(e.message(e.sse.MessageHandler())))
	mux.HandleFunc("GET "+metadataPath, e.metadata)
	mux.HandleFunc("GET "+metadataPath+PathMCP, e.metadata)
	mux.HandleFunc("GET "+PathHealth, e.health)
	mux.HandleFunc("GET "+PathReady, e.ready)
	mux.Handle("GET "+PathMetrics, e.agent(http.HandlerFunc(e.metrics)))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		e.refuse(w, r, refusal{status: http.StatusNotFound, code: mcp.METHOD_NOT_FOUND, text: "there is nothing at this path; MCP is at " + PathMCP})
	})
	agents := http.Handler(mux)
	if e.cfg.Trace != nil {
		agents = e.cfg.Trace(mux)
	}
	return e.apart(e.guard(agents))
}

// apart gives humans their own door. What holds for agents does not hold there, nor the
// other way round: the console knows no bearer tokens, and what is under MCP no cookies.
func (e *Endpoint) apart(agents http.Handler) http.Handler {
	if e.cfg.Console == nil {
		return agents
	}
	console := e.cfg.Console.routes()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != PathConsole && !strings.HasPrefix(r.URL.Path, PathConsole+"/") || !plainPath(r) || e.stopping.Load() {
			agents.ServeHTTP(w, r) // what is odd, or too late, is refused there
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		if r.URL.Path == PathConsole+"/events" {
			defer context.AfterFunc(e.streams, cancel)()
		}
		console.ServeHTTP(newPatientWriter(w), r.WithContext(ctx))
	})
}

// guard recovers, and refuses what no client of ours sends: another name for this host,
// a page of another site, a path with tricks in it.
func (e *Endpoint) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := newPatientWriter(w)
		out.redact = e.cfg.Redactor.RedactBytes
		defer func() {
			if v := recover(); v != nil {
				e.cfg.Logger.Error().Str("panic", e.cfg.Redactor.Redact(fmt.Sprint(v))).Str("stack", e.cfg.Redactor.Redact(string(debug.Stack()))).Msg("a request failed")
				if out.status == 0 {
					e.refuse(out, r, refusal{status: http.StatusInternalServerError, code: mcp.INTERNAL_ERROR, text: "internal error; the server's log has the cause"})
				}
			}
		}()
		h := out.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		if e.byAnyName(r) {
			next.ServeHTTP(out, r)
			return
		}
		no, answered := e.admit(out, r)
		switch {
		case answered:
		case no != nil:
			e.refuse(out, r, *no)
		default:
			next.ServeHTTP(out, r)
		}
	})
}

// streamable serves Streamable HTTP to a caller that agent let in.
func (e *Endpoint) streamable(w http.ResponseWriter, r *http.Request) {
	caller := CallerFrom(r.Context())
	modern := mcp.IsModernProtocol(r.Header.Get(mcp.HeaderProtocolVersion))
	if r.Method == http.MethodPost {
		e.post(w, r, e.stream)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodDelete {
		w.Header().Set("Allow", "GET, POST, DELETE")
		e.refuse(w, r, refusal{status: http.StatusMethodNotAllowed, code: mcp.INVALID_REQUEST, text: "use POST"})
		return
	}
	if !modern { // mcp-go answers a modern one: these methods are gone
		if no := e.session(caller.Principal, r.Header.Get(server.HeaderKeySessionID)); no != nil {
			e.refuse(w, r, *no)
			return
		}
		if r.Method == http.MethodGet {
			e.openStream(e.stream).ServeHTTP(w, r)
			return
		}
	}
	e.stream.ServeHTTP(w, r)
}

// session checks a protocol session's id: missing is the client's mistake, anything else
// that is not good makes it initialize anew.
func (e *Endpoint) session(principal, id string) *refusal {
	switch {
	case id == "":
		return &refusal{status: http.StatusBadRequest, code: mcp.INVALID_REQUEST, text: "the header Mcp-Session-Id is missing: send initialize first, or speak 2026-07-28"}
	case e.ids.check(principal, id) != nil:
		return &refusal{status: http.StatusNotFound, code: mcp.INVALID_REQUEST, text: "there is no such session: send initialize again"}
	}
	return nil
}

// message serves what a client of the older transport sends.
func (e *Endpoint) message(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			e.refuse(w, r, refusal{status: http.StatusMethodNotAllowed, code: mcp.INVALID_REQUEST, text: "use POST"})
			return
		}
		if e.ids.check(CallerFrom(r.Context()).Principal, r.URL.Query().Get("sessionId")) != nil {
			e.refuse(w, r, refusal{status: http.StatusNotFound, code: mcp.INVALID_REQUEST, text: "there is no such session: open " + PathSSE + " again"})
			return
		}
		e.post(w, r, next)
	})
}

// post reads one message, checks it and has it worked on.
func (e *Endpoint) post(w http.ResponseWriter, r *http.Request, next http.Handler) {
	caller := CallerFrom(r.Context())
	body, no := e.readBody(w, r)
	if no != nil {
		e.refuse(w, r, *no)
		return
	}
	defer e.load.release(int64(len(body)))
	m, no := readMessage(r, body)
	if no == nil {
		no = e.checkMessage(r, m, caller)
	}
	if no != nil {
		no.id = m.ID
		e.refuse(w, r, *no)
		return
	}
	if older := r.URL.Path == PathMessage; m.swallowed(older) {
		w.WriteHeader(http.StatusAccepted)
		return
	} else if m.Method == string(mcp.MethodSubscriptionsListen) && m.modern {
		if older {
			e.noListening(w, r, m)
		} else {
			t := newTurn(w)
			defer t.close()
			e.openStream(next).ServeHTTP(t, withBody(r, withTurn(r.Context(), t), body))
		}
		return
	}
	if m.isRequest() { // answers and notifications take no time, and calls may wait for them
		leave, share, ok := e.load.enter(aRequest, caller.Principal)
		if !ok {
			no := tooMany("requests under way", share)
			no.id = m.ID
			e.refuse(w, r, no)
			return
		}
		defer leave()
	}
	ctx := r.Context()
	if !m.modern {
		// Before 2026-07-28 a connection that drops cancels nothing: the work goes on, and
		// a repeated call finds what it came to.
		ctx = context.WithoutCancel(ctx)
	}
	if r.URL.Path == PathMCP && m.isRequest() {
		t := newTurn(w)
		defer t.close()
		w, ctx = t, withTurn(ctx, t)
	}
	next.ServeHTTP(w, withBody(r, ctx, body))
}

// noListening answers subscriptions/listen on the older transport, where mcp-go would hold
// the subscription for ever: it does not end with the stream.
func (e *Endpoint) noListening(w http.ResponseWriter, r *http.Request, m *message) {
	answer := rpcRefusal{JSONRPC: mcp.JSONRPC_VERSION, ID: m.ID}
	answer.Error.Code, answer.Error.Message = mcp.METHOD_NOT_FOUND, "subscriptions/listen is for Streamable HTTP, at "+PathMCP
	if err := e.sse.SendEventToSession(r.URL.Query().Get("sessionId"), answer); err != nil {
		e.refuse(w, r, refusal{status: http.StatusNotFound, code: mcp.INVALID_REQUEST, text: "there is no such session: open " + PathSSE + " again", id: m.ID})
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// openStream holds a stream open while there is room, the server goes on and the
// credential is good.
func (e *Endpoint) openStream(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodGet)
			e.refuse(w, r, refusal{status: http.StatusMethodNotAllowed, code: mcp.INVALID_REQUEST, text: "use GET"})
			return
		}
		id, _ := r.Context().Value(callerKey{}).(*identity)
		leave, share, ok := e.load.enter(aStream, id.caller.Principal)
		if !ok {
			e.refuse(w, r, tooMany("open streams", share))
			return
		}
		defer leave()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(e.streams, cancel)()
		watch := time.NewTicker(e.cfg.WatchEvery)
		defer watch.Stop()
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			for {
				select {
				case <-ctx.Done():
					return
				case <-watch.C:
					if !id.good(e.cfg.Now()) {
						cancel()
					}
				}
			}
		}()
		next.ServeHTTP(w, r.WithContext(ctx))
		cancel()
		<-watched
	})
}

// watchCall counts a tool call and ends it when the process must, or after a time that no
// call needs.
func (e *Endpoint) watchCall(next server.ToolHandlerFunc) server.ToolHandlerFunc {
	return func(ctx context.Context, request mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		leave, _, _ := e.load.enter(aCall, CallerFrom(ctx).Principal)
		defer leave()
		ctx, cancel := context.WithTimeout(ctx, callWait)
		defer cancel()
		defer context.AfterFunc(e.calls, cancel)()
		if t := turnFrom(ctx); t != nil {
			defer t.settle()
		}
		return next(ctx, request)
	}
}

// refusal is an answer below the protocol: an HTTP status for proxies, and a JSON-RPC
// error for the client.
type refusal struct {
	status     int
	code       int
	text       string
	id         json.RawMessage
	retryAfter time.Duration
	challenge  string // WWW-Authenticate
}

// rpcRefusal is a JSON-RPC error; an empty id is null.
type rpcRefusal struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Error   struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func tooMany(what string, share bool) refusal {
	no := refusal{status: http.StatusServiceUnavailable, code: codeBusy, text: "this server has as many " + what + " as it takes; try again", retryAfter: time.Second}
	if share {
		no.status, no.text = http.StatusTooManyRequests, "this client has too many "+what+"; wait for some to end"
	}
	return no
}

// codeBusy is the JSON-RPC error for what may be tried again, in the range that is left
// to servers.
const codeBusy = -32000

// refuse answers with a refusal and logs it. What the client sent is not in the log.
func (e *Endpoint) refuse(w http.ResponseWriter, r *http.Request, no refusal) {
	e.cfg.Logger.Warn().Str("method", label(r.Method)).Str("path", label(r.URL.Path)).Int("status", no.status).
		Str("principal", label(CallerFrom(r.Context()).Principal)).Str("reason", e.cfg.Redactor.Redact(label(no.text))).Msg("refused a request")
	h := w.Header()
	if no.challenge != "" {
		h.Set("WWW-Authenticate", no.challenge)
	}
	if no.retryAfter > 0 {
		h.Set("Retry-After", fmt.Sprint(int((no.retryAfter+time.Second-1)/time.Second)))
	}
	if r.ContentLength != 0 {
		h.Set("Connection", "close") // what is left of the body is not read
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(no.status)
	answer := rpcRefusal{JSONRPC: mcp.JSONRPC_VERSION, ID: no.id}
	answer.Error.Code, answer.Error.Message = no.code, no.text
	if err := json.NewEncoder(w).Encode(answer); err != nil && !strings.Contains(err.Error(), "closed") {
		e.cfg.Logger.Debug().Err(err).Msg("a refusal could not be sent")
	}
}
