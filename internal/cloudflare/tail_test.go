package cloudflare_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

const (
	tailPath    = "/tail_SECRET_path"
	routeSocket = "GET " + tailPath
	routeEnd    = "DELETE " + scriptPath + "/tails/tail1"
)

// tailServer is the tail half of an API.
type tailServer struct {
	t     *testing.T
	conns chan *websocket.Conn // each opened one, after its first frame
	over  chan struct{}
}

func newTailServer(t *testing.T, f *fake) *tailServer {
	s := &tailServer{t: t, conns: make(chan *websocket.Conn, 16), over: make(chan struct{})}
	f.on(routeTail, result(map[string]any{"id": "tail1", "url": strings.Replace(f.URL, "http", "ws", 1) + basePath + tailPath, "expires_at": "2026-11-24T05:00:00Z"}))
	f.on(routeEnd, result(nil))
	f.on(routeSocket, func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"trace-v1"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow() //nolint:errcheck // it is over
		_, first, err := conn.Read(r.Context())
		if err != nil || string(first) != `{"debug":false}` || conn.Subprotocol() != "trace-v1" {
			t.Errorf("first frame %q, %v, subprotocol %q", first, err, conn.Subprotocol())
		}
		ctx := conn.CloseRead(r.Context())
		s.conns <- conn
		select {
		case <-ctx.Done():
		case <-s.over:
		}
	})
	t.Cleanup(sync.OnceFunc(func() { close(s.over) }))
	return s
}

func (s *tailServer) send(conn *websocket.Conn, frames ...string) {
	s.t.Helper()
	for _, f := range frames {
		if err := conn.Write(s.t.Context(), websocket.MessageText, []byte(f)); err != nil {
			s.t.Fatal(err)
		}
	}
}

const liveFrame = `{"wallTime":1,"cpuTime":0,"truncated":false,"executionModel":"stateless","outcome":"exception","scriptName":"hello",
"scriptVersion":{"id":"770daf3a-ff88-4160-9c05-262a87a5a923"},
"exceptions":[{"name":"TypeError","message":"x is\u001b[31m not a function","stack":"    at index.js:5:3","timestamp":1}],
"logs":[{"message":["a",{"b":1},null,2],"level":"log","timestamp":1},{"message":["bad"],"level":"error","timestamp":2}],
"eventTimestamp":1,"event":{"request":{"url":"https://hello.x.workers.dev/","method":"GET","headers":{"accept":"*/*","x-hourglass-probe":"p_1","authorization":"REDACTED"},"cf":{}},"response":{"status":500}}}`

func liveEvent() deploy.TraceEvent {
	return deploy.TraceEvent{
		VersionID: version, Outcome: "exception", ProbeID: "p_1", Status: 500,
		Exceptions: []deploy.Exception{{Name: "TypeError", Message: "x is[31m not a function", Stack: "    at index.js:5:3"}},
		Logs:       []string{`a {"b":1} null 2`, "error: bad"},
	}
}

func openTail(t *testing.T, f *fake, change ...func(*cloudflare.Config)) (*tailServer, *websocket.Conn, deploy.Tail, *cloudflare.Client) {
	t.Helper()
	s := newTailServer(t, f)
	c := f.newClient(t, change...)
	tail, err := c.Tail(t.Context(), account(), worker)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tail.Close() })
	return s, <-s.conns, tail, c
}

func TestTail(t *testing.T) {
	f := newFake(t).happy()
	var secrets []string
	s, conn, tail, c := openTail(t, f, func(cfg *cloudflare.Config) {
		cfg.Secret = func(x string) { secrets = append(secrets, x) }
	})
	if !slices.ContainsFunc(secrets, func(x string) bool { return strings.HasSuffix(x, tailPath) }) {
		t.Errorf("the redactor knows only %v", secrets)
	}
	s.send(conn, "not JSON", "[]", `{"outcome":5}`, liveFrame, `{"outcome":"ok"}`)
	for _, want := range []deploy.TraceEvent{liveEvent(), {Outcome: "ok"}} {
		got, err := tail.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("event (-want +got):\n%s", diff)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := tail.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting in vain: %v", err)
	}
	for range 2 {
		if err := tail.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := tail.Next(t.Context())
	wantError(t, err, deploy.CodeAPIUnreachable, "over")
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if n := f.count(routeEnd); n != 1 {
		t.Errorf("the API was told %d times", n)
	}
	for _, r := range f.requests() {
		if r.Path == strings.TrimPrefix(routeTail, "POST ") && r.Body != `{"filters":[]}` {
			t.Errorf("the tail was asked for with %q", r.Body)
		}
	}
}

func TestTailEndsWithTheServer(t *testing.T) {
	f := newFake(t).happy()
	s, conn, tail, _ := openTail(t, f)
	s.send(conn, liveFrame)
	_ = conn.Close(websocket.StatusNormalClosure, "")
	if ev, err := tail.Next(t.Context()); err != nil || ev.ProbeID != "p_1" {
		t.Errorf("the event before the end: %+v, %v", ev, err)
	}
	_, err := tail.Next(t.Context())
	wantError(t, err, deploy.CodeAPIUnreachable, "over")
}

func TestTailNobodyReads(t *testing.T) {
	f := newFake(t).happy()
	s, conn, tail, _ := openTail(t, f)
	const sent = 1000
	for i := range sent {
		s.send(conn, fmt.Sprintf(`{"outcome":"%d"}`, i))
	}
	_ = conn.Close(websocket.StatusNormalClosure, "")
	var got []string
	for {
		ev, err := tail.Next(t.Context())
		if err != nil {
			break
		}
		got = append(got, ev.Outcome)
	}
	if len(got) == 0 || len(got) > 128 || got[len(got)-1] != fmt.Sprint(sent-1) {
		t.Errorf("%d events are kept, the last %v", len(got), got[max(0, len(got)-1):])
	}
}

func TestTailTooLongAFrameEndsIt(t *testing.T) {
	f := newFake(t).happy()
	_, conn, tail, _ := openTail(t, f)
	_ = conn.Write(t.Context(), websocket.MessageText, []byte(`{"outcome":"`+strings.Repeat("x", 2<<20)+`"}`))
	_, err := tail.Next(t.Context())
	wantError(t, err, deploy.CodeAPIUnreachable, "over")
}

func TestTailCloseWhileTheAPIHangs(t *testing.T) {
	f := newFake(t).happy()
	_, _, tail, c := openTail(t, f)
	f.on(routeEnd, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	start := time.Now()
	_ = tail.Close()
	if d := time.Since(start); d > 500*time.Millisecond {
		t.Errorf("Close took %v", d)
	}
	_ = c.Close()
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("the client's Close took %v", d)
	}
}

func TestTailPings(t *testing.T) {
	f := newFake(t).happy()
	pinged := make(chan struct{}, 100)
	newTailServer(t, f)
	f.on(routeSocket, func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			Subprotocols:   []string{"trace-v1"},
			OnPingReceived: func(context.Context, []byte) bool { pinged <- struct{}{}; return len(pinged) < 3 }, // then silent
		})
		if err != nil {
			return
		}
		defer conn.CloseNow() //nolint:errcheck // it is over
		for {
			if _, _, err := conn.Read(r.Context()); err != nil {
				return
			}
		}
	})
	c := f.newClient(t, func(cfg *cloudflare.Config) { cfg.PingEvery = 50 * time.Millisecond })
	tail, err := c.Tail(t.Context(), account(), worker)
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close() //nolint:errcheck // it is over
	_, err = tail.Next(t.Context())
	wantError(t, err, deploy.CodeAPIUnreachable, "over")
	if len(pinged) < 3 {
		t.Errorf("%d pings", len(pinged))
	}
}

func TestTailRefusals(t *testing.T) {
	at := func(url string) http.HandlerFunc {
		return result(map[string]any{"id": "tail1", "url": url})
	}
	for _, tc := range []struct {
		name     string
		tail     http.HandlerFunc
		code     deploy.Code
		contains string
		ended    int
	}{
		{"no such worker", refusal(404, 10007, "no"), deploy.CodeAPIRefused, "10007", 0},
		{"token", refusal(403, 10000, "no"), deploy.CodeAccountLost, "10000", 0},
		{"no id", result(map[string]any{"url": "ws://127.0.0.1:1/"}), deploy.CodeAPIBadResponse, "id", 0},
		{"an id with a path", result(map[string]any{"id": "../..", "url": "ws://127.0.0.1:1/"}), deploy.CodeAPIBadResponse, "id", 0},
		{"no url", at(""), deploy.CodeAPIBadResponse, "address", 1},
		{"http", at("http://127.0.0.1/"), deploy.CodeAPIBadResponse, "encrypted", 1},
		{"in the clear to elsewhere", at("ws://tail.example.com/tail_SECRET"), deploy.CodeAPIBadResponse, "encrypted", 1},
		{"nobody there", at("ws://127.0.0.1:1/tail_SECRET"), deploy.CodeAPIUnreachable, "reached", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t).happy()
			f.on(routeTail, tc.tail)
			f.on(routeEnd, result(nil))
			c := f.newClient(t)
			_, err := c.Tail(t.Context(), account(), worker)
			wantError(t, err, tc.code, tc.contains)
			_ = c.Close()
			if n := f.count(routeEnd); n != tc.ended {
				t.Errorf("the tail was ended %d times, want %d", n, tc.ended)
			}
			if n := f.count(routeTail); n != 1 {
				t.Errorf("%d tails were made", n)
			}
		})
	}
	f := newFake(t).happy()
	newTailServer(t, f)
	f.on(routeSocket, says(403, "no"))
	_, err := f.newClient(t).Tail(t.Context(), account(), worker)
	wantError(t, err, deploy.CodeAPIBadResponse, "403 instead of a WebSocket")
}

func TestTraceEventSizes(t *testing.T) {
	long := strings.Repeat("é", 100_000)
	frame := `{"outcome":"` + long + `","exceptions":[` + strings.Repeat(`{"name":"`+long[:100]+`","message":7,"stack":["x"]},`, 50) + `{}],` +
		`"logs":[` + strings.Repeat(`{"message":"plain","level":null},`, 500) + `{}],"event":{"request":{"headers":{"X-Hourglass-Probe":"p"}}}}`
	ev, ok := cloudflare.ParseTraceEvent([]byte(frame))
	if !ok || len(ev.Outcome) > 1000 || len(ev.Exceptions) != 8 || len(ev.Logs) != 50 || ev.Logs[0] != "plain" || ev.ProbeID != "p" || ev.Exceptions[0].Message != "7" {
		t.Errorf("event %v %d %d %q %+v", ok, len(ev.Outcome), len(ev.Exceptions), ev.Logs[0], ev.Exceptions[0])
	}
}
