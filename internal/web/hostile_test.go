package web_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// plainConn opens a TCP connection on which raw text is sent, and what comes is read.
func plainConn(t *testing.T, base string) func(send string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return func(send string) string {
		if _, err := io.WriteString(c, send); err != nil {
			return "write: " + err.Error()
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return "read: " + err.Error()
		}
		defer res.Body.Close()
		var b bytes.Buffer
		_ = res.Write(&b)
		return b.String()
	}
}

// TestHostileClients: each line is one thing that a hostile client does, and what comes
// of it. The lines of access tokens are in TestHostileTokens, those of handles in cmd.
func TestHostileClients(t *testing.T) {
	d := withTokens(t, func(c *web.EndpointConfig) {
		c.Limits.Body = 64 << 10
		c.AllowOrigins = []string{"https://ide.example.com"}
	})
	good, other, reader := d.token(t, "good"), d.token(t, "other"), d.token(t, "reader", deploy.ScopeRead)
	host := strings.TrimPrefix(d.base, "http://")
	_, port, _ := net.SplitHostPort(host)
	mine := d.session(t, bearer(good)...)
	body, headers := modern(1, "tools/call", "who", nil)
	with := func(more ...string) []string { return append(append(bearer(good), headers...), more...) }
	without := func(name string) (out []string) {
		for i := 0; i < len(headers); i += 2 {
			if headers[i] != name {
				out = append(out, headers[i:i+2]...)
			}
		}
		return append(out, bearer(good)...)
	}
	deployBody, deployHeaders := modern(1, "tools/call", "deploy", nil)
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		says                     string // in the body or the headers
	}{
		{"the honest client", "POST", "/mcp", body, with(), 200, "token:good"},
		{"no token", "POST", "/mcp", body, headers, 401, `Bearer resource_metadata="` + d.base + `/.well-known/oauth-protected-resource/mcp"`},
		{"no token, stream", "GET", "/sse", "", nil, 401, "no token"},
		{"no token, message", "POST", "/message?sessionId=x", body, nil, 401, "no token"},
		{"no token, a session", "GET", "/mcp", "", []string{"Mcp-Session-Id", mine}, 401, "no token"},
		{"an unknown token", "POST", "/mcp", body, append(bearer("hgt_"+strings.Repeat("a", 52)), headers...), 401, `error="invalid_token"`},
		{"half a token", "POST", "/mcp", body, append(bearer(good[:30]), headers...), 401, `error="invalid_token"`},
		{"another scheme", "POST", "/mcp", body, append([]string{"Authorization", "Basic " + good}, headers...), 401, "one token"},
		{"two tokens", "POST", "/mcp", body, with("Authorization", "Bearer "+other), 401, "one token"},
		{"the token in the address", "POST", "/mcp?access_token=" + good, body, headers, 401, "no token"},
		{"a huge token", "POST", "/mcp", body, append(bearer(strings.Repeat("x", 13<<10)), headers...), 401, "one token"},
		{"a scope that is missing", "POST", "/mcp", deployBody, append(bearer(reader), deployHeaders...), 403, `error="insufficient_scope", error_description="deploy needs the scope deploy", scope="deploy"`},
		{"another's protocol session", "POST", "/mcp", call(1, "who"), append(bearer(other), "Mcp-Session-Id", mine), 404, "no such session"},
		{"another's session, stream", "GET", "/mcp", "", append(bearer(other), "Mcp-Session-Id", mine), 404, "no such session"},
		{"another's session, end", "DELETE", "/mcp", "", append(bearer(other), "Mcp-Session-Id", mine), 404, "no such session"},
		{"another's session, message", "POST", "/message?sessionId=" + mine, body, bearer(other), 404, "no such session"},
		{"an oversized body", "POST", "/mcp", `{"x":"` + strings.Repeat("x", 65<<10) + `"}`, with(), 413, "65536 bytes"},
		{"no JSON", "POST", "/mcp", `{"jsonrpc":`, with(), 400, "-32700"},
		{"a batch", "POST", "/mcp", `[` + body + `]`, with(), 400, "batches"},
		{"a list as id", "POST", "/mcp", `{"jsonrpc":"2.0","id":[1],"method":"ping"}`, with(), 400, "string or a number"},
		{"no method", "POST", "/mcp", `{"jsonrpc":"2.0","id":1}`, append(bearer(good), "Mcp-Session-Id", mine), 202, ""},
		{"a number", "POST", "/mcp", `7`, append(bearer(good), "Mcp-Session-Id", mine), 400, "-32700"},
		{"nothing", "POST", "/mcp", ``, append(bearer(good), "Content-Type", "application/json"), 400, "-32700"},
		{"another type", "POST", "/mcp", body, append([]string{"Content-Type", "text/plain"}, with()...), 415, "application/json"},
		{"compressed", "POST", "/mcp", body, with("Content-Encoding", "gzip"), 415, "Content-Encoding"},
		{"header and body: method", "POST", "/mcp", body, append(without("Mcp-Method"), "Mcp-Method", "tools/list"), 400, "-32020"},
		{"header and body: name", "POST", "/mcp", body, append(without("Mcp-Name"), "Mcp-Name", "deploy"), 400, "-32020"},
		{"header and body: version", "POST", "/mcp", body, append(without("Mcp-Protocol-Version"), "Mcp-Protocol-Version", "2025-11-25"), 400, "-32020"},
		{"Origin of another site", "POST", "/mcp", body, with("Origin", "https://evil.example"), 403, "web page"},
		{"Origin null", "POST", "/mcp", body, with("Origin", "null"), 403, "web page"},
		{"Origin of another port", "POST", "/mcp", body, with("Origin", "http://localhost:1"), 403, "web page"},
		{"Origin of a suffix", "POST", "/mcp", body, with("Origin", "https://ide.example.com.evil.example"), 403, "web page"},
		{"an image of another site", "GET", "/sse", "", append(bearer(good), "Sec-Fetch-Site", "cross-site"), 403, "web page"},
		{"Origin that is allowed", "POST", "/mcp", body, with("Origin", "https://ide.example.com"), 200, "https://ide.example.com"},
		{"Host of another name", "POST", "/mcp", body, with("Host", "evil.example:"+port), 403, "Host"},
		{"Host without the port", "POST", "/mcp", body, with("Host", "localhost"), 403, "Host"},
		{"Host localhost", "POST", "/mcp", body, with("Host", "localhost:"+port), 200, "token:good"},
		{"a path up", "POST", "/x/../mcp", body, with(), 404, "nothing at this path"},
		{"a doubled slash", "POST", "//mcp", body, with(), 404, "nothing at this path"},
		{"a slash behind", "POST", "/mcp/", body, with(), 404, "nothing at this path"},
		{"an escaped letter", "POST", "/%6dcp", body, with(), 404, "nothing at this path"},
		{"an escaped slash", "POST", "/x%2f..%2fmcp", body, with(), 404, "nothing at this path"},
		{"a backslash", "POST", `/mcp%5c`, body, with(), 404, "nothing at this path"},
		{"a parameter", "POST", "/mcp;x=1", body, with(), 404, "nothing at this path"},
		{"the pages are not here", "GET", "/claim/" + token, "", bearer(good), 404, "nothing at this path"},
		{"another method", "PUT", "/mcp", body, with(), 405, "use POST"},
		{"a trace", "TRACE", "/mcp", "", bearer(good), 405, "use POST"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := d.send(t, c.method, c.path, c.body, c.headers...)
			var all strings.Builder
			_ = got.header.Write(&all)
			if got.status != c.status || !strings.Contains(all.String()+got.body, c.says) {
				t.Errorf("%d %s\n%s, want %d %q", got.status, all.String(), got.body, c.status, c.says)
			}
			if origin := got.header.Get("Access-Control-Allow-Origin"); origin == "*" || origin != "" && origin != "https://ide.example.com" {
				t.Errorf("every page may read the answer: %q", origin)
			}
		})
	}
	for _, secret := range []string{good, other, reader} {
		if strings.Contains(d.log.String(), secret) {
			t.Error("a token is in the log")
		}
	}
}

// TestHostileRevoked: a revoked and an expired token open nothing, at once.
func TestHostileRevoked(t *testing.T) {
	var hours atomic.Int64
	d := withTokens(t, nil)
	d2 := newDesk(t, func(c *web.EndpointConfig) {
		auth, err := web.NewAuth(web.AuthConfig{Tokens: d.tokens, Now: func() time.Time { return time.Now().Add(time.Duration(hours.Load()) * time.Hour) }})
		if err != nil {
			t.Fatal(err)
		}
		c.Auth = auth
	})
	secret, _, err := d.tokens.Add(web.Token{Name: "short", Scopes: []deploy.Scope{deploy.ScopeRead}, ExpiresAt: time.Now().Add(time.Hour)}, false, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	body, headers := modern(1, "tools/call", "who", nil)
	ask := func(d *desk) answer {
		return d.send(t, http.MethodPost, web.PathMCP, body, append(bearer(secret.Reveal()), headers...)...)
	}
	if got := ask(d2); got.status != http.StatusOK {
		t.Errorf("%+v", got)
	}
	hours.Store(2)
	if got := ask(d2); got.status != http.StatusUnauthorized || !strings.Contains(got.header.Get("WWW-Authenticate"), "expired") {
		t.Errorf("expired: %+v", got)
	}
	if got := ask(d); got.status != http.StatusOK {
		t.Errorf("%+v", got)
	}
	if n, err := web.NewTokenFile(d.tokens.Path()).Revoke("short"); n != 1 || err != nil { // as another process does it
		t.Fatal(n, err)
	}
	if got := ask(d); got.status != http.StatusUnauthorized {
		t.Errorf("revoked: %+v", got)
	}
}

// TestHostileOldStreams: streams that were opened with a token end when it is revoked.
func TestHostileOldStreams(t *testing.T) {
	d := withTokens(t, func(c *web.EndpointConfig) { c.WatchEvery = time.Millisecond })
	token := d.token(t, "soon-gone")
	_, next := d.older(t, bearer(token)...)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, d.base+web.PathMCP, nil)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Mcp-Session-Id", d.session(t, bearer(token)...))
	open, err := plainClient(t).Do(req)
	if err != nil || open.StatusCode != http.StatusOK {
		t.Fatalf("%v %+v", err, open)
	}
	defer open.Body.Close()
	if _, err := d.tokens.Revoke("soon-gone"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(open.Body); err != nil || len(rest) > 0 { // ends, or the test does not
		t.Errorf("%v %s", err, rest)
	}
	if got := next(); got != "" {
		t.Errorf("the older stream goes on: %s", got)
	}
}

// TestHostileSlowBody: a client that sends its message a byte at a time is not waited for
// beyond the limit, and holds nobody up.
func TestHostileSlowBody(t *testing.T) {
	d := newDesk(t, func(c *web.EndpointConfig) { c.Limits.BodyWait = 2 * time.Second })
	host := strings.TrimPrefix(d.base, "http://")
	slow := plainConn(t, d.base)
	got := make(chan string, 1)
	go func() {
		got <- slow("POST /mcp HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{")
	}()
	if id := d.session(t); id == "" {
		t.Error("others are held up")
	}
	if text := <-got; !strings.Contains(text, " 408 ") {
		t.Errorf("%s", text)
	}
}

// TestHostileStreams: a client that opens streams without end gets its share of them, and
// memory is bounded; another client goes on.
func TestHostileStreams(t *testing.T) {
	n := 500
	if os.Getenv("HOURGLASS_TEST") == "full" {
		n = 10_000
	}
	const share = 50
	d := withTokens(t, func(c *web.EndpointConfig) { c.Limits.StreamsEach, c.Limits.Connections = share, 2000 })
	greedy, other := d.token(t, "greedy"), d.token(t, "other")
	id := d.session(t, bearer(greedy)...)
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	before := heap()
	var opened, refused, failed atomic.Int64
	var streams sync.WaitGroup
	gate := make(chan struct{}, 100) // how many are being opened at once
	var asked sync.WaitGroup
	for i := range n {
		gate <- struct{}{}
		asked.Add(1)
		streams.Go(func() {
			path, headers := web.PathMCP, bearer(greedy)
			if i%2 == 0 {
				path = web.PathSSE
			} else {
				headers = append(headers, "Mcp-Session-Id", id)
			}
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, d.base+path, nil)
			for i := 0; i < len(headers); i += 2 {
				req.Header.Set(headers[i], headers[i+1])
			}
			res, err := tr.RoundTrip(req)
			<-gate
			switch {
			case err != nil:
				failed.Add(1)
			case res.StatusCode == http.StatusOK:
				opened.Add(1)
			case res.StatusCode == http.StatusTooManyRequests && res.Header.Get("Retry-After") != "":
				refused.Add(1)
			default:
				t.Errorf("status %d", res.StatusCode)
			}
			asked.Done()
			if err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		})
	}
	asked.Wait()
	grown := heap() - before
	t.Logf("%d asked, %d open, %d refused, %d cut off; heap grew by %d KiB", n, opened.Load(), refused.Load(), failed.Load(), grown>>10)
	if opened.Load() != share || refused.Load()+failed.Load() != int64(n-share) {
		t.Errorf("%d open, %d refused, %d failed; want %d open", opened.Load(), refused.Load(), failed.Load(), share)
	}
	if grown > 64<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	body, headers := modern(1, "tools/call", "who", nil)
	if got := d.send(t, http.MethodPost, web.PathMCP, body, append(bearer(other), headers...)...); got.status != http.StatusOK {
		t.Errorf("another client: %+v", got)
	}
	hangUp()
	streams.Wait()
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestHostileCalls: a client that begins calls without end gets its share, also by the
// older transport, whose requests end before their calls do.
func TestHostileCalls(t *testing.T) {
	const share = 3
	d := withTokens(t, func(c *web.EndpointConfig) { c.Limits.CallsEach = share })
	greedy, other := d.token(t, "greedy"), d.token(t, "other")
	endpoint, _ := d.older(t, bearer(greedy)...)
	for i := range share {
		if got := d.send(t, http.MethodPost, endpoint, call(i, "wait"), bearer(greedy)...); got.status != http.StatusAccepted {
			t.Fatalf("call %d: %+v", i, got)
		}
		<-d.waiting
	}
	if got := d.send(t, http.MethodPost, endpoint, call(share, "wait"), bearer(greedy)...); got.status != http.StatusTooManyRequests {
		t.Errorf("one too many: %+v", got)
	}
	body, headers := modern(1, "tools/call", "who", nil)
	if got := d.send(t, http.MethodPost, web.PathMCP, body, append(bearer(greedy), headers...)...); got.status != http.StatusTooManyRequests {
		t.Errorf("one too many by the other transport: %+v", got)
	}
	if got := d.send(t, http.MethodPost, web.PathMCP, body, append(bearer(other), headers...)...); got.status != http.StatusOK {
		t.Errorf("another client: %+v", got)
	}
	close(d.letGo)
	for range share {
		if err := <-d.ended; err != nil {
			t.Error(err)
		}
	}
}

// TestHostileHead: a client that never ends its header is cut off, one that sends too
// much of it refused.
func TestHostileHead(t *testing.T) {
	d := newDesk(t, nil)
	huge := plainConn(t, d.base)
	if got := huge(fmt.Sprintf("GET /sse HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 64<<10))); !strings.Contains(got, " 431 ") {
		t.Errorf("%.200s", got)
	}
	two := plainConn(t, d.base)
	if got := two("GET /sse HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"); !strings.Contains(got, " 400 ") {
		t.Errorf("%.200s", got)
	}
	absolute := plainConn(t, d.base)
	if got := absolute("GET http://evil.example/sse HTTP/1.1\r\nHost: " + strings.TrimPrefix(d.base, "http://") + "\r\n\r\n"); !strings.Contains(got, " 403 ") {
		t.Errorf("%.200s", got)
	}
}
