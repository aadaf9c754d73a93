package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// readBody reads a message of bounded size. Its bytes are reserved as they come, so that
// a slow client holds no more than it sent; the caller releases them.
func (e *Endpoint) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	most := e.cfg.Limits.Body
	tooLarge := &refusal{status: http.StatusRequestEntityTooLarge, code: mcp.INVALID_REQUEST, text: fmt.Sprintf("the message has more than %d bytes", most)}
	if r.ContentLength > most {
		return nil, tooLarge
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return nil, &refusal{status: http.StatusUnsupportedMediaType, code: mcp.INVALID_REQUEST, text: "send one JSON-RPC message with Content-Type: application/json"}
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, &refusal{status: http.StatusUnsupportedMediaType, code: mcp.INVALID_REQUEST, text: "send the message without Content-Encoding"}
	}
	from := http.MaxBytesReader(w, r.Body, most)
	var body bytes.Buffer
	for held := int64(0); ; {
		if !e.load.hold(bodyPiece) {
			e.load.release(held)
			no := tooMany("messages in hand", false)
			return nil, &no
		}
		n, err := io.CopyN(&body, from, bodyPiece)
		held += n
		e.load.release(bodyPiece - n)
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			return body.Bytes(), nil
		}
		e.load.release(held)
		if _, over := errors.AsType[*http.MaxBytesError](err); over {
			return nil, tooLarge
		}
		return nil, &refusal{status: http.StatusRequestTimeout, code: mcp.INVALID_REQUEST, text: "the message did not arrive in time"}
	}
}

const bodyPiece = 64 << 10

// message is what has to be known of a message before it is worked on. mcp-go reads it
// with the same library and the same names of fields, so the two can't disagree.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
	Params struct {
		Name string `json:"name"`
		Meta struct {
			Version string `json:"io.modelcontextprotocol/protocolVersion"`
		} `json:"_meta"`
	} `json:"params"`
	// modern: the message is of 2026-07-28 or later by what it or its header says.
	modern bool
}

func readMessage(r *http.Request, body []byte) (*message, *refusal) {
	m := &message{}
	if trimmed := bytes.TrimSpace(body); len(trimmed) > 0 && trimmed[0] == '[' {
		return m, &refusal{status: http.StatusBadRequest, code: mcp.INVALID_REQUEST, text: "send one message a request: batches are not taken"}
	}
	err := json.Unmarshal(body, m)
	if _, odd := errors.AsType[*json.UnmarshalTypeError](err); odd {
		// JSON, but not of the shape: mcp-go says what is wrong. Whoever asks for a scope
		// below is asked for it again by the tool.
		err = nil
	}
	if err != nil {
		m.ID = nil
		return m, &refusal{status: http.StatusBadRequest, code: mcp.PARSE_ERROR, text: "the message is not valid JSON"}
	}
	if len(m.ID) > 0 && !goodID(m.ID) {
		m.ID = nil
		return m, &refusal{status: http.StatusBadRequest, code: mcp.INVALID_REQUEST, text: "a request's id is a string or a number"}
	}
	m.modern = mcp.IsModernProtocol(m.Params.Meta.Version) || mcp.IsModernProtocol(r.Header.Get(mcp.HeaderProtocolVersion))
	return m, nil
}

// goodID tells whether an id is one that JSON-RPC allows; null is none.
func goodID(id json.RawMessage) bool {
	return id[0] == '"' || id[0] == '-' || id[0] >= '0' && id[0] <= '9' || string(id) == "null"
}

func (m *message) isRequest() bool {
	return m.Method != "" && len(m.ID) > 0 && string(m.ID) != "null"
}

// swallowed tells whether a message is accepted and does nothing: since 2026-07-28 a
// request is cancelled by closing its stream. mcp-go would look for a request of that id
// among all clients that have no session, and cancel another's. On the older transport
// there is a session.
func (m *message) swallowed(older bool) bool {
	return m.modern && !older && !m.isRequest() && m.Method == string(mcp.MethodNotificationCancelled)
}

// checkMessage refuses what this caller may not send, below the protocol.
func (e *Endpoint) checkMessage(r *http.Request, m *message, caller deploy.Caller) *refusal {
	if r.URL.Path == PathMCP && !m.modern && m.Method != string(mcp.MethodInitialize) {
		if no := e.session(caller.Principal, r.Header.Get(server.HeaderKeySessionID)); no != nil {
			return no
		}
	}
	if m.Method != string(mcp.MethodToolsCall) {
		return nil
	}
	if scope := e.cfg.NeededScope(m.Params.Name); scope != "" && !caller.May(scope) {
		return &refusal{
			status: http.StatusForbidden, code: mcp.INVALID_REQUEST,
			text:      fmt.Sprintf("the token does not have the scope %q, which %s needs", scope, label(m.Params.Name)),
			challenge: e.challenge("insufficient_scope", fmt.Sprintf("%s needs the scope %s", label(m.Params.Name), scope), scope),
		}
	}
	return nil
}

// withBody is the request with its message, to be read again.
func withBody(r *http.Request, ctx context.Context, body []byte) *http.Request { //nolint:revive // the request is the subject
	next := r.WithContext(ctx)
	next.Body = io.NopCloser(bytes.NewReader(body))
	next.ContentLength = int64(len(body))
	return next
}
