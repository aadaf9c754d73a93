package web_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/rs/zerolog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// desk is an Endpoint in a test, with a server of three tools behind it: who tells who
// calls, wait waits until it is let go, deploy needs the scope deploy.
type desk struct {
	*web.Endpoint
	base    string
	log     *lockedText
	tokens  *web.TokenFile
	waiting chan struct{} // gets one for each wait that began
	letGo   chan struct{} // closed or sent to: a wait ends
	ended   chan error    // gets what each wait ended with
	stop    context.CancelFunc
	stopped chan error
}

type lockedText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newDesk opens an Endpoint; change may alter its configuration.
func newDesk(t *testing.T, change func(*web.EndpointConfig)) *desk {
	t.Helper()
	d := &desk{
		log: &lockedText{}, tokens: web.NewTokenFile(filepath.Join(t.TempDir(), "tokens.json")),
		waiting: make(chan struct{}, 1000), letGo: make(chan struct{}), ended: make(chan error, 1000), stopped: make(chan error, 1),
	}
	cfg := web.EndpointConfig{
		MCP: d.server(), Addr: "127.0.0.1:0", Logger: zerolog.New(d.log), StopWait: 20 * time.Second,
		NeededScope: func(tool string) deploy.Scope {
			return map[string]deploy.Scope{"who": deploy.ScopeRead, "wait": deploy.ScopeRead, "deploy": deploy.ScopeDeploy}[tool]
		},
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if d.Endpoint, err = web.NewEndpoint(cfg); err != nil {
		t.Fatal(err)
	}
	if err := d.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(d.Address())
	if err != nil {
		t.Fatal(err)
	}
	d.base = u.String()
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	go func() { d.stopped <- d.Serve(ctx) }()
	t.Cleanup(func() {
		d.stop()
		if err, open := <-d.stopped; open && err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return d
}

// withTokens makes a desk that asks for tokens.
func withTokens(t *testing.T, change func(*web.EndpointConfig)) *desk {
	t.Helper()
	file := web.NewTokenFile(filepath.Join(t.TempDir(), "tokens.json"))
	d := newDesk(t, func(c *web.EndpointConfig) {
		auth, err := web.NewAuth(web.AuthConfig{Tokens: file})
		if err != nil {
			t.Fatal(err)
		}
		c.Auth = auth
		if change != nil {
			change(c)
		}
	})
	d.tokens = file
	return d
}

// token makes a token of a name.
func (d *desk) token(t *testing.T, name string, scopes ...deploy.Scope) string {
	t.Helper()
	if len(scopes) == 0 {
		scopes = []deploy.Scope{deploy.ScopeDeploy}
	}
	secret, _, err := d.tokens.Add(web.Token{Name: name, Scopes: scopes, Labels: map[string]string{"team": name}}, true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return secret.Reveal()
}

// notes is how many notifications the tool of that name sends.
const notes = 50

func (d *desk) server() *server.MCPServer {
	srv := server.NewMCPServer("desk", "1", server.WithToolCapabilities(false), server.WithResourceCapabilities(true, true))
	tell := func(v any) (*mcp.CallToolResult, error) {
		raw, err := json.Marshal(v)
		return mcp.NewToolResultText(string(raw)), err
	}
	srv.AddTool(mcp.NewTool("who"), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return tell(web.CallerFrom(ctx))
	})
	srv.AddTool(mcp.NewTool("deploy"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return tell("deployed")
	})
	srv.AddTool(mcp.NewTool("notes"), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for i := range notes {
			if err := srv.SendNotificationToClient(ctx, "notifications/progress", map[string]any{"progressToken": "p", "progress": i}); err != nil {
				return nil, err
			}
		}
		return tell("noted")
	})
	srv.AddTool(mcp.NewTool("wait"), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		d.waiting <- struct{}{}
		var err error
		select {
		case <-d.letGo:
		case <-ctx.Done():
			err = ctx.Err()
		}
		d.ended <- err
		return tell("waited")
	})
	return srv
}

// answer is an HTTP answer that was read.
type answer struct {
	status int
	header http.Header
	body   string
}

// send sends one request; headers are name, value, name, value.
func (d *desk) send(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		switch headers[i] {
		case "Host":
			req.Host = headers[i+1]
		case "Content-Type":
			req.Header.Set(headers[i], headers[i+1])
		default:
			req.Header.Add(headers[i], headers[i+1])
		}
	}
	res, err := plainClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(raw)}
}

// plainClient follows nothing and leaves no connection behind.
func plainClient(t *testing.T) *http.Client {
	tr := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// modern is a request of 2026-07-28 with the headers that it needs.
func modern(id int, method, name string, params map[string]any) (body string, headers []string) {
	if params == nil {
		params = map[string]any{}
	}
	params["_meta"] = map[string]any{
		"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": map[string]any{},
		"io.modelcontextprotocol/clientInfo": map[string]any{"name": "test", "version": "1"},
	}
	if name != "" {
		params["name"] = name
	}
	raw, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
	headers = []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", method}
	if name != "" {
		headers = append(headers, "Mcp-Name", name)
	}
	return string(raw), headers
}

const initialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`

// session initializes a protocol session and gives its id.
func (d *desk) session(t *testing.T, headers ...string) string {
	t.Helper()
	a := d.send(t, http.MethodPost, web.PathMCP, initialize, headers...)
	if id := a.header.Get("Mcp-Session-Id"); a.status == http.StatusOK && id != "" {
		return id
	}
	t.Fatalf("initialize: %+v", a)
	return ""
}

func call(id int, tool string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":{}}}`, id, tool)
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// TestTransports: one server answers mcp-go's client on both transports, on one port.
func TestTransports(t *testing.T) {
	d := withTokens(t, nil)
	token := d.token(t, "ana")
	auth := map[string]string{"Authorization": "Bearer " + token}
	for name, open := range map[string]func() (*client.Client, error){
		"streamable": func() (*client.Client, error) {
			return client.NewStreamableHttpClient(d.base+web.PathMCP, transport.WithHTTPHeaders(auth))
		},
		"sse": func() (*client.Client, error) {
			return client.NewSSEMCPClient(d.base+web.PathSSE, transport.WithHeaders(auth))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := open()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Initialize(t.Context(), mcp.InitializeRequest{Params: mcp.InitializeParams{ProtocolVersion: "2025-11-25", ClientInfo: mcp.Implementation{Name: "t", Version: "1"}}}); err != nil {
				t.Fatal(err)
			}
			res, err := c.CallTool(t.Context(), mcp.CallToolRequest{Params: mcp.CallToolParams{Name: "who"}})
			if err != nil {
				t.Fatal(err)
			}
			var who deploy.Caller
			if err := json.Unmarshal([]byte(res.Content[0].(mcp.TextContent).Text), &who); err != nil {
				t.Fatal(err)
			}
			if who.Principal != "token:ana" || who.Labels["team"] != "ana" || who.Scope != "http" || !who.May(deploy.ScopeRead) || who.May(deploy.ScopeOperate) {
				t.Errorf("%+v", who)
			}
		})
	}
}

// TestLifeOfASession: an ended session is not found, and so is one that never was; what
// is missing is the client's mistake.
func TestLifeOfASession(t *testing.T) {
	d := newDesk(t, nil)
	id := d.session(t)
	ask := func(id string) int {
		return d.send(t, http.MethodPost, web.PathMCP, call(1, "who"), "Mcp-Session-Id", id).status
	}
	if got := ask(id); got != http.StatusOK {
		t.Errorf("alive: %d", got)
	}
	if got := d.send(t, http.MethodDelete, web.PathMCP, "", "Mcp-Session-Id", id); got.status != http.StatusOK {
		t.Errorf("delete: %+v", got)
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if got := d.send(t, method, web.PathMCP, "", "Mcp-Session-Id", id); got.status != http.StatusNotFound {
			t.Errorf("%s after its end: %+v", method, got)
		}
	}
	if got := ask(id); got != http.StatusNotFound {
		t.Errorf("after its end: %d", got)
	}
	if got := ask("mcp-session-0f8fad5b-d9cb-469f-a165-70867728950e"); got != http.StatusNotFound {
		t.Errorf("made up: %d", got)
	}
	if got := d.send(t, http.MethodPost, web.PathMCP, call(1, "who")); got.status != http.StatusBadRequest {
		t.Errorf("missing: %+v", got)
	}
}

// TestAnotherReplica: a session that one replica made goes on at another, and a client of
// 2026-07-28 needs none.
func TestAnotherReplica(t *testing.T) {
	one, two := newDesk(t, nil), newDesk(t, nil)
	id := one.session(t)
	if got := two.send(t, http.MethodPost, web.PathMCP, call(1, "who"), "Mcp-Session-Id", id); got.status != http.StatusOK || !strings.Contains(got.body, `local`) {
		t.Errorf("%+v", got)
	}
	body, headers := modern(1, "tools/call", "who", nil)
	for _, d := range []*desk{one, two} {
		if got := d.send(t, http.MethodPost, web.PathMCP, body, headers...); got.status != http.StatusOK || !strings.Contains(got.body, `local`) {
			t.Errorf("%+v", got)
		}
	}
}

// TestIdleSessions: what was kept for a client that went silent is dropped, and the
// client may go on.
func TestIdleSessions(t *testing.T) {
	var srv *server.MCPServer
	gone := make(chan string, 1)
	d := newDesk(t, func(c *web.EndpointConfig) {
		hooks := &server.Hooks{}
		hooks.AddOnUnregisterSession(func(_ context.Context, s server.ClientSession) { gone <- s.SessionID() })
		srv = server.NewMCPServer("idle", "1", server.WithHooks(hooks))
		srv.AddTool(mcp.NewTool("who"), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultText("you"), nil
		})
		c.MCP, c.SessionIdleTTL = srv, time.Millisecond
	})
	id := d.session(t)
	if got := <-gone; got != id {
		t.Errorf("%s was dropped, not %s", got, id)
	}
	if got := d.send(t, http.MethodPost, web.PathMCP, call(1, "who"), "Mcp-Session-Id", id); got.status != http.StatusOK {
		t.Errorf("%+v", got)
	}
}

// TestCancelIsOnesOwn: a cancellation of 2026-07-28 is the closing of a stream. A message
// that names another client's request ends nothing.
func TestCancelIsOnesOwn(t *testing.T) {
	d := newDesk(t, nil)
	body, headers := modern(1, "tools/call", "wait", nil)
	done := make(chan answer, 1)
	go func() { done <- d.send(t, http.MethodPost, web.PathMCP, body, headers...) }()
	<-d.waiting
	cancel := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	if got := d.send(t, http.MethodPost, web.PathMCP, cancel, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "notifications/cancelled"); got.status != http.StatusAccepted {
		t.Errorf("%+v", got)
	}
	close(d.letGo)
	if err := <-d.ended; err != nil {
		t.Errorf("another client's call was ended: %v", err)
	}
	if got := <-done; got.status != http.StatusOK || !strings.Contains(got.body, "waited") {
		t.Errorf("%+v", got)
	}
}

// TestDroppedConnection: before 2026-07-28 the work goes on; since then closing cancels.
func TestDroppedConnection(t *testing.T) {
	d := newDesk(t, nil)
	drop := func(body string, headers ...string) {
		ctx, hangUp := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, d.base+web.PathMCP, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		for i := 0; i+1 < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			if res, err := plainClient(t).Do(req); err == nil {
				_ = res.Body.Close()
			}
		}()
		<-d.waiting
		hangUp()
		<-gone
	}
	drop(call(1, "wait"), "Mcp-Session-Id", d.session(t))
	body, headers := modern(1, "tools/call", "wait", nil)
	drop(body, headers...)
	if err := <-d.ended; err == nil { // the modern one is the only that can have ended
		t.Error("a closed stream did not cancel")
	}
	close(d.letGo)
	if err := <-d.ended; err != nil {
		t.Errorf("a dropped connection cancelled: %v", err)
	}
}

// TestStop: nothing new is taken, what runs settles, streams end, and Serve returns nil.
func TestStop(t *testing.T) {
	d := newDesk(t, nil)
	id := d.session(t)
	done := make(chan answer, 1)
	go func() { done <- d.send(t, http.MethodPost, web.PathMCP, call(1, "wait"), "Mcp-Session-Id", id) }()
	<-d.waiting
	stream, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.base+web.PathMCP, nil)
	if err != nil {
		t.Fatal(err)
	}
	stream.Header.Set("Mcp-Session-Id", id)
	open, err := plainClient(t).Do(stream)
	if err != nil || open.StatusCode != http.StatusOK {
		t.Fatalf("%v %+v", err, open)
	}
	defer open.Body.Close()
	late := plainConn(t, d.base) // connected before the listener closes
	d.stop()
	for !strings.Contains(d.log.String(), "stopping") {
		time.Sleep(time.Millisecond)
	}
	if got := late("POST /mcp HTTP/1.1\r\nHost: " + strings.TrimPrefix(d.base, "http://") + "\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"); !strings.Contains(got, " 503 ") || !strings.Contains(got, "Retry-After") {
		t.Errorf("a late request: %s", got)
	}
	close(d.letGo)
	if got := <-done; got.status != http.StatusOK || !strings.Contains(got.body, "waited") {
		t.Errorf("the call that ran: %+v", got)
	}
	if _, err := io.ReadAll(open.Body); err != nil {
		t.Errorf("the open stream: %v", err)
	}
	if err := <-d.stopped; err != nil {
		t.Error(err)
	}
	close(d.stopped)
}

// TestStopEndsWhatDoesNotSettle: a call that goes on is cancelled after the time that it
// was given.
func TestStopEndsWhatDoesNotSettle(t *testing.T) {
	d := newDesk(t, func(c *web.EndpointConfig) { c.StopWait = 10 * time.Millisecond })
	id := d.session(t)
	done := make(chan answer, 1)
	go func() { done <- d.send(t, http.MethodPost, web.PathMCP, call(1, "wait"), "Mcp-Session-Id", id) }()
	<-d.waiting
	d.stop()
	if err := <-d.ended; err == nil {
		t.Error("the call was not cancelled")
	}
	<-done
	if err := <-d.stopped; err != nil {
		t.Error(err)
	}
	close(d.stopped)
}

// TestOpenness: other machines are let in with tokens, or by a flag with a frightening name.
func TestOpenness(t *testing.T) {
	auth, err := web.NewAuth(web.AuthConfig{Tokens: web.NewTokenFile("nowhere")})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  web.EndpointConfig
		want string // in the error; "": none
	}{
		"loopback":            {web.EndpointConfig{Addr: "127.0.0.1:0"}, ""},
		"all, nobody asked":   {web.EndpointConfig{Addr: "0.0.0.0:0"}, "nothing asks who calls"},
		"no host":             {web.EndpointConfig{Addr: ":0"}, "nothing asks who calls"},
		"behind a balancer":   {web.EndpointConfig{Addr: "127.0.0.1:0", PublicURL: "https://mcp.example.com"}, "nothing asks who calls"},
		"all, by flag":        {web.EndpointConfig{Addr: "0.0.0.0:0", InsecureOpen: true}, ""},
		"all, with auth":      {web.EndpointConfig{Addr: "0.0.0.0:0", Auth: auth}, "--public-url"},
		"all, named":          {web.EndpointConfig{Addr: "0.0.0.0:0", Auth: auth, PublicURL: "https://mcp.example.com"}, ""},
		"plain http":          {web.EndpointConfig{Addr: "127.0.0.1:0", Auth: auth, PublicURL: "http://mcp.example.com"}, "readable on the way"},
		"a path":              {web.EndpointConfig{Addr: "127.0.0.1:0", Auth: auth, PublicURL: "https://mcp.example.com/x"}, "more than a host"},
		"not an address":      {web.EndpointConfig{Addr: "nonsense"}, "the address"},
		"an origin with path": {web.EndpointConfig{Addr: "127.0.0.1:0", AllowOrigins: []string{"https://a.example/x"}}, "web origin"},
	} {
		c.cfg.MCP = server.NewMCPServer("x", "1")
		_, err := web.NewEndpoint(c.cfg)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// older is an open stream of the older transport: where to send to, and what comes.
func (d *desk) older(t *testing.T, headers ...string) (endpoint string, next func() string) {
	t.Helper()
	ctx, hangUp := context.WithCancel(context.Background())
	t.Cleanup(hangUp)
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, d.base+web.PathSSE, nil)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := plainClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	lines := bufio.NewScanner(res.Body)
	next = func() string {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data:"); ok {
				return strings.TrimSpace(data)
			}
		}
		return ""
	}
	return next(), next
}

// TestOlderTransportAndTheNewEra: a client of 2026-07-28 on the older transport has a
// session there: its cancellations count, and it is told that it can't listen.
func TestOlderTransportAndTheNewEra(t *testing.T) {
	d := newDesk(t, nil)
	endpoint, next := d.older(t)
	body, headers := modern(5, "tools/call", "wait", nil)
	if got := d.send(t, http.MethodPost, endpoint, body, headers...); got.status != http.StatusAccepted {
		t.Fatalf("%+v", got)
	}
	<-d.waiting
	cancel := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	if got := d.send(t, http.MethodPost, endpoint, cancel, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "notifications/cancelled"); got.status != http.StatusAccepted {
		t.Fatalf("%+v", got)
	}
	if err := <-d.ended; err == nil {
		t.Error("the call was not cancelled")
	}
	next() // what the cancelled call still said
	body, headers = modern(6, "subscriptions/listen", "", map[string]any{"notifications": map[string]any{"toolsListChanged": true}})
	if got := d.send(t, http.MethodPost, endpoint, body, headers...); got.status != http.StatusAccepted {
		t.Fatalf("%+v", got)
	}
	if got := next(); !strings.Contains(got, `"id":6`) || !strings.Contains(got, "-32601") {
		t.Errorf("%s", got)
	}
}

// TestNotificationsAreTheRequests: what a call tells while it runs comes with its own
// answer, in order, before the result, whatever else the session has open; in both eras.
func TestNotificationsAreTheRequests(t *testing.T) {
	d := newDesk(t, nil)
	id := d.session(t)
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, d.base+web.PathMCP, nil)
	req.Header.Set("Mcp-Session-Id", id)
	open, err := plainClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Body.Close()
	check := func(name string, events []string) {
		t.Helper()
		if len(events) != notes+1 {
			t.Errorf("%s: %d events", name, len(events))
			return
		}
		for i, e := range events[:notes] {
			if !strings.Contains(e, fmt.Sprintf(`"progress":%d`, i)) {
				t.Errorf("%s: event %d is %s", name, i, e)
			}
		}
		if !strings.Contains(events[notes], "noted") {
			t.Errorf("%s: the last is %s", name, events[notes])
		}
	}
	var both sync.WaitGroup
	for range 2 { // two calls of one session at once
		both.Go(func() {
			check("a session", eventsOf(d.send(t, http.MethodPost, web.PathMCP, call(1, "notes"), "Mcp-Session-Id", id).body))
		})
	}
	both.Wait()
	body, headers := modern(1, "tools/call", "notes", nil)
	check("2026-07-28", eventsOf(d.send(t, http.MethodPost, web.PathMCP, body, headers...).body))
}

func eventsOf(body string) (out []string) {
	for line := range strings.Lines(body) {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			out = append(out, strings.TrimSpace(data))
		}
	}
	return out
}

// TestSubscriptionIsAcknowledged: also one that is over at once, since nothing of what it
// asks for is offered, is acknowledged first.
func TestSubscriptionIsAcknowledged(t *testing.T) {
	d := newDesk(t, nil)
	body, headers := modern(1, "subscriptions/listen", "", map[string]any{"notifications": map[string]any{"promptsListChanged": true}})
	for range 200 {
		events := eventsOf(d.send(t, http.MethodPost, web.PathMCP, body, headers...).body)
		if len(events) != 2 || !strings.Contains(events[0], "notifications/subscriptions/acknowledged") || !strings.Contains(events[1], `"result"`) {
			t.Fatalf("%q", events)
		}
	}
}
