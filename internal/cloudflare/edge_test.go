package cloudflare_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

const host = "hello.ethereal-composer.workers.dev"

func newEdge(t *testing.T, cfg cloudflare.EdgeConfig) *cloudflare.Edge {
	t.Helper()
	e, err := cloudflare.NewEdge(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func edgeServer(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// get asks as a browser does: by the address alone.
func get(t *testing.T, method, url string) (status int, header http.Header, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // nothing is written
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(body)
}

func TestEdgeFetch(t *testing.T) {
	s := edgeServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Answer", "yes")
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusFound)
		fmt.Fprintf(w, "%s %s %s %s %s", r.Method, r.Host, r.RequestURI, r.Header.Get("X-Hourglass-Probe"), r.UserAgent())
	})
	e := newEdge(t, cloudflare.EdgeConfig{URL: s.URL + "/", UserAgent: "hourglass/test"})
	for path, asked := range map[string]string{"/": "/", "/a%2Fb?x=%20y&z": "/a%2Fb?x=%20y&z", "/ü": "/%C3%BC"} {
		got, err := e.Fetch(t.Context(), host, path, http.Header{"x-hourglass-probe": {"p_1"}})
		if err != nil {
			t.Fatal(err)
		}
		if want := "GET " + host + " " + asked + " p_1 hourglass/test"; string(got.Body) != want || got.Status != 302 || got.Header.Get("X-Answer") != "yes" {
			t.Errorf("%d %q, want %q", got.Status, got.Body, want)
		}
		if got.Latency <= 0 || got.Latency > 5*time.Second {
			t.Errorf("latency %v", got.Latency)
		}
	}
}

func TestEdgeFetchBounds(t *testing.T) {
	s := edgeServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			_, _ = w.Write(make([]byte, 1<<20))
		case "/endless":
			fmt.Fprint(w, "first")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case "/broken":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
		case "/silent":
			<-r.Context().Done()
		}
	})
	e := newEdge(t, cloudflare.EdgeConfig{URL: s.URL, Timeout: 100 * time.Millisecond, BodyWait: 50 * time.Millisecond})
	for path, want := range map[string]int{"/large": 64 << 10, "/endless": len("first"), "/broken": len("half")} {
		got, err := e.Fetch(t.Context(), host, path, nil)
		if err != nil || len(got.Body) != want || got.Status != 200 {
			t.Errorf("%s: %v, %+v", path, err, got)
		}
	}
	_, err := e.Fetch(t.Context(), host, "/silent", nil)
	wantError(t, err, deploy.CodeAPIUnreachable, "in time")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = e.Fetch(ctx, host, "/silent", nil)
	wantError(t, err, deploy.CodeTimeout, "")
}

func TestEdgeRefusals(t *testing.T) {
	s := edgeServer(t, func(http.ResponseWriter, *http.Request) { t.Error("a bad request left") })
	e := newEdge(t, cloudflare.EdgeConfig{URL: s.URL})
	for _, path := range []string{"", "x", "//evil.example.com/", "http://evil.example.com/", "/a b\n", "/%zz", "/" + strings.Repeat("a", 9000)} {
		_, err := e.Fetch(t.Context(), host, path, nil)
		wantError(t, err, deploy.CodeInvalidArgument, "path")
	}
	for _, bad := range []string{"", "a", "a b.c", "evil.example.com/x", "a.b:80", "user@a.b", "A.B.C"} {
		_, err := e.Fetch(t.Context(), bad, "/", nil)
		wantError(t, err, deploy.CodeInternal, "")
		_, err = e.URL(t.Context(), bad)
		wantError(t, err, deploy.CodeInternal, "")
	}
	for _, bad := range []string{"127.0.0.1:8788", "ftp://x", "http://", "http://u:p@x", "http://x/path", "http://x?q", "http://x#f"} {
		_, err := cloudflare.NewEdge(cloudflare.EdgeConfig{URL: bad})
		wantError(t, err, deploy.CodeInvalidArgument, "edge URL")
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	_, err := newEdge(t, cloudflare.EdgeConfig{URL: gone.URL}).Fetch(t.Context(), host, "/", nil)
	wantError(t, err, deploy.CodeAPIUnreachable, host)
}

// Without an edge URL, requests go to the host itself, over TLS.
func TestEdgeDirect(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) }))
	defer s.Close()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr != host+":443" {
				t.Errorf("dialled %s", addr)
			}
			return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
		},
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the test's own server
		DisableKeepAlives: true,
	}
	e := newEdge(t, cloudflare.EdgeConfig{Transport: transport})
	got, err := e.Fetch(t.Context(), host, "/", nil)
	if err != nil || string(got.Body) != host {
		t.Errorf("%+v, %v", got, err)
	}
	if url, err := e.URL(t.Context(), host); err != nil || url != "https://"+host {
		t.Errorf("%q, %v", url, err)
	}
}

func TestForwarder(t *testing.T) {
	s := edgeServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "https://"+host+"/next?a=b", http.StatusFound)
		case "/away":
			http.Redirect(w, r, "https://example.com/next", http.StatusFound)
		default:
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s|%s|%s", r.Method, r.Host, r.RequestURI, body, r.Header.Get("X-Forwarded-For")+r.Header.Get("Forwarded"))
		}
	})
	e := newEdge(t, cloudflare.EdgeConfig{URL: s.URL})
	base, err := e.URL(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" || u.Hostname() != "127.0.0.1" {
		t.Fatalf("the forwarder is at %q", base)
	}
	if again, _ := e.URL(t.Context(), host); again != base {
		t.Errorf("%q, then %q", base, again)
	}
	if other, _ := e.URL(t.Context(), "other.x.workers.dev"); other == base {
		t.Error("two Workers share a port")
	}
	if _, _, body := get(t, "DELETE", base+"/a%2Fb?q=1"); body != "DELETE "+host+" /a%2Fb?q=1||" {
		t.Errorf("the Worker got %q", body)
	}
	if _, header, _ := get(t, "GET", base+"/redirect"); header.Get("Location") != "/next?a=b" {
		t.Errorf("redirected to %q", header.Get("Location"))
	}
	if _, header, _ := get(t, "GET", base+"/away"); header.Get("Location") != "https://example.com/next" {
		t.Errorf("redirected to %q", header.Get("Location"))
	}
	s.Close()
	if status, _, _ := get(t, "GET", base+"/"); status != http.StatusBadGateway {
		t.Errorf("without an edge: %d", status)
	}
}

func TestForwarderIsNoProxy(t *testing.T) {
	s := edgeServer(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) })
	base, err := newEdge(t, cloudflare.EdgeConfig{URL: s.URL}).URL(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	for head, want := range map[string]string{
		"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n":                                             "405",
		"GET http://127.0.0.1:22/ HTTP/1.1\r\nHost: 127.0.0.1:22\r\nConnection: close\r\n\r\n":                    "200",
		"GET / HTTP/1.1\r\nHost: evil.example.com\r\nX-Forwarded-Host: other\r\nConnection: close\r\n\r\n":        "200",
		"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + strings.Repeat("x", 1<<20) + "\r\nConnection: close\r\n\r\n": "431",
	} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(conn, head) }()
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		if !strings.HasPrefix(res.Status, want) || want == "200" && string(body) != host {
			t.Errorf("%.40q: %s %q, want %s", head, res.Status, body, want)
		}
		_ = res.Body.Close()
		_ = conn.Close()
	}
}

func TestForwarderStreams(t *testing.T) {
	more := make(chan struct{})
	s := edgeServer(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-more
		fmt.Fprint(w, "data: 2\n\n")
	})
	base, err := newEdge(t, cloudflare.EdgeConfig{URL: s.URL}).URL(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // nothing is written
	first := make([]byte, len("data: 1\n\n"))
	if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "data: 1\n\n" {
		t.Errorf("%q, %v", first, err)
	}
	close(more)
	if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "data: 2\n\n" {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestForwarderWebSocketAndClose(t *testing.T) {
	ended := make(chan struct{})
	s := edgeServer(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		if r.Host != host {
			t.Errorf("the Worker sees the host %q", r.Host)
		}
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow() //nolint:errcheck // it is over
		for {
			kind, msg, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			if err := conn.Write(context.Background(), kind, append([]byte("echo "), msg...)); err != nil {
				return
			}
		}
	})
	e := newEdge(t, cloudflare.EdgeConfig{URL: s.URL})
	base, err := e.URL(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := websocket.Dial(t.Context(), strings.Replace(base, "http", "ws", 1)+"/chat", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow() //nolint:errcheck // it is over
	for i := range 3 {
		if err := conn.Write(t.Context(), websocket.MessageText, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		if _, msg, err := conn.Read(t.Context()); err != nil || string(msg) != fmt.Sprint("echo ", i) {
			t.Fatalf("%q, %v", msg, err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the Worker's end of the WebSocket is still open")
	}
	if _, _, err := conn.Read(t.Context()); err == nil {
		t.Error("the client's end of the WebSocket is still open")
	}
	_, err = e.URL(t.Context(), host)
	wantError(t, err, deploy.CodeInternal, "")
}
