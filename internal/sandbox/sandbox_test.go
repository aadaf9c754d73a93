package sandbox_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare/pow"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
	"github.com/hourglass-mcp/hourglass/internal/sandbox"
)

// answer is the API's envelope.
type answer struct {
	Success bool
	Errors  []struct {
		Code    int
		Message string
	}
	Result json.RawMessage
	status int
	header http.Header
}

func (a answer) code() int {
	if len(a.Errors) == 0 {
		return 0
	}
	return a.Errors[0].Code
}

func api(t testing.TB, s *sandbox.Sandbox, method, path, token, contentType string, body io.Reader) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URLs().API+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	a.status, a.header = resp.StatusCode, resp.Header
	return a
}

type granted struct {
	Account struct{ ID, Name, APIToken, ExpiresAt string }
	Claim   struct{ Token, URL, ExpiresAt string }
}

// solve asks for a challenge and solves it; spoil may change the solution.
func solve(t testing.TB, s *sandbox.Sandbox, spoil func(points []byte), more map[string]any) answer {
	t.Helper()
	var ch struct {
		ChallengeToken, Seed string
		K, G                 int
	}
	a := api(t, s, http.MethodPost, "/provisioning/previews/challenge", "", "", strings.NewReader("{}"))
	if err := json.Unmarshal(a.Result, &ch); err != nil {
		t.Fatal(err)
	}
	seed, err := base64.RawURLEncoding.DecodeString(ch.Seed)
	if err != nil || len(seed) != 32 {
		t.Fatal(ch.Seed)
	}
	points, err := pow.Solve(t.Context(), seed, ch.K, ch.G)
	if err != nil {
		t.Fatal(err)
	}
	if spoil != nil {
		spoil(points)
	}
	body := map[string]any{
		"termsOfService": "https://www.cloudflare.com/terms/", "privacyPolicy": "https://www.cloudflare.com/privacypolicy/", "acceptTermsOfService": "yes",
		"challengeToken": ch.ChallengeToken, "solution": map[string]string{"checkpoints": base64.StdEncoding.EncodeToString(points)},
	}
	maps.Copy(body, more)
	b, _ := json.Marshal(body)
	return api(t, s, http.MethodPost, "/provisioning/previews", "", "", bytes.NewReader(b))
}

func grant(t testing.TB, s *sandbox.Sandbox) granted {
	t.Helper()
	var g granted
	a := solve(t, s, nil, nil)
	if err := json.Unmarshal(a.Result, &g); err != nil || !a.Success {
		t.Fatalf("%v %+v", err, a)
	}
	return g
}

func upload(t testing.TB, s *sandbox.Sandbox, g granted, name, code string, metadata map[string]any) answer {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	md := map[string]any{"main_module": "index.js", "compatibility_date": "2026-08-01", "compatibility_flags": []string{}, "bindings": []any{}}
	maps.Copy(md, metadata)
	b, _ := json.Marshal(md)
	_ = w.WriteField("metadata", string(b))
	part, _ := w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="index.js"; filename="index.js"`}, "Content-Type": {"application/javascript+module"},
	})
	_, _ = part.Write([]byte(code))
	_ = w.Close()
	return api(t, s, http.MethodPut, "/accounts/"+g.Account.ID+"/workers/scripts/"+name, g.Account.APIToken, w.FormDataContentType(), &body)
}

// live uploads a Worker, enables its route and gives its host.
func live(t testing.TB, s *sandbox.Sandbox, g granted, name, code string) string {
	t.Helper()
	if a := upload(t, s, g, name, code, nil); !a.Success {
		t.Fatalf("%+v", a)
	}
	if a := api(t, s, http.MethodPost, "/accounts/"+g.Account.ID+"/workers/scripts/"+name+"/subdomain", g.Account.APIToken, "", strings.NewReader(`{"enabled":true}`)); !a.Success {
		t.Fatalf("%+v", a)
	}
	return name + "." + strings.ToLower(strings.ReplaceAll(g.Account.Name, " ", "-")) + ".workers.dev"
}

func says(text string) string {
	return fmt.Sprintf("export default { fetch: () => new Response(%q) };", text)
}

func TestProvisioning(t *testing.T) {
	s := box(t, sandbox.Config{ChallengeK: 5, ChallengeG: 7, EventCodes: map[string]int{"GOOD": 0, "ENDED": 1038}})
	g := grant(t, s)
	for name, ok := range map[string]bool{
		"id":    regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(g.Account.ID),
		"token": len(g.Account.APIToken) == 53,
		"dates": !strings.Contains(g.Account.ExpiresAt, ".") && regexp.MustCompile(`\.\d{3}Z$`).MatchString(g.Claim.ExpiresAt),
		"claim": regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(g.Claim.Token) && strings.HasSuffix(g.Claim.URL, "/claim-preview?claimToken="+g.Claim.Token),
	} {
		if !ok {
			t.Errorf("%s: %+v", name, g)
		}
	}
	for segment := range 6 { // a mistake in any of the checkpoints is found
		if a := solve(t, s, func(p []byte) { p[segment*32+31] ^= 1 }, nil); a.status != 403 || a.code() != 1019 {
			t.Errorf("checkpoint %d: %d %d", segment, a.status, a.code())
		}
	}
	for name, c := range map[string]struct {
		more map[string]any
		code int
	}{
		"terms":           {map[string]any{"acceptTermsOfService": "no"}, 1018},
		"another token":   {map[string]any{"challengeToken": "x"}, 1019},
		"no solution":     {map[string]any{"solution": map[string]string{"checkpoints": "AAAA"}}, 1019},
		"an ended event":  {map[string]any{"eventCode": "ENDED"}, 1038},
		"an unknown code": {map[string]any{"eventCode": "NEVER"}, 1036},
	} {
		if a := solve(t, s, nil, c.more); a.Success || a.code() != c.code {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a := solve(t, s, nil, map[string]any{"eventCode": "GOOD"}); !a.Success || !strings.Contains(string(a.Result), `"eventCodeAccepted":true`) {
		t.Errorf("a good event code: %+v", a)
	}
	limited := box(t, sandbox.Config{AccountsPerMinute: 1})
	grant(t, limited)
	if a := solve(t, limited, nil, nil); a.status != 429 || a.header.Get("Retry-After") == "" {
		t.Errorf("the rate limit: %+v", a)
	}
	if _, err := sandbox.New(sandbox.Config{Addr: "0.0.0.0:0", Workerd: nil}); err == nil {
		t.Error("it would listen for everybody")
	}
}

func TestTheHour(t *testing.T) {
	s := box(t, sandbox.Config{})
	lost, kept := grant(t, s), grant(t, s)
	lostHost, keptHost := live(t, s, lost, "a", says("lost")), live(t, s, kept, "a", says("kept"))
	page, _ := url.Parse(kept.Claim.URL)
	for _, method := range []string{http.MethodGet, http.MethodHead} { // looking claims nothing
		req, _ := http.NewRequestWithContext(t.Context(), method, page.String(), nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(err, resp)
		}
		resp.Body.Close()
	}
	cross, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, page.String(), nil)
	cross.Header.Set("Origin", "https://evil.example")
	if resp, err := http.DefaultClient.Do(cross); err != nil || resp.StatusCode != 403 {
		t.Errorf("a claim from another site: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
	resp, err := http.Post(page.String(), "", nil) //nolint:noctx // a test's
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(err)
	}
	resp.Body.Close()
	if a := upload(t, s, kept, "a", says("x"), nil); a.status != 401 || a.code() != 10000 {
		t.Errorf("the token of a claimed account: %+v", a)
	}
	manage(t, s, http.MethodPost, "/clock", `{"advance_seconds":3601}`, nil)
	wantEdge(t, s, lostHost, "/", 410, "")
	wantEdge(t, s, keptHost, "/", 200, "kept")
	if a := upload(t, s, lost, "a", says("x"), nil); a.status != 401 || a.code() != 10000 {
		t.Errorf("the token of a dead account: %+v", a)
	}
	a := api(t, s, http.MethodGet, "/accounts/x", "", "", nil)
	if at, err := http.ParseTime(a.header.Get("Date")); err != nil || time.Until(at) < 59*time.Minute {
		t.Errorf("the Date header is not the sandbox's clock: %v", a.header)
	}
	_, _, h := edge(t, s, keptHost, "/")
	if at, err := http.ParseTime(h.Get("Date")); err != nil || time.Until(at) < 59*time.Minute {
		t.Errorf("the edge's Date header is not the sandbox's clock: %v", h["Date"])
	}
	if code := manage(t, s, http.MethodPost, "/accounts/"+lost.Account.ID+"/claim", "", nil); code != 410 {
		t.Errorf("a claim after the hour: %d", code)
	}
}

func TestAccountsCantSeeEachOther(t *testing.T) {
	s := box(t, sandbox.Config{})
	mine, yours := grant(t, s), grant(t, s)
	live(t, s, yours, "secret", says("yours"))
	for path, want := range map[string]int{
		"/accounts/" + yours.Account.ID + "/workers/scripts":        10000,
		"/accounts/" + mine.Account.ID + "/workers/services/secret": 10007,
		"/accounts/" + mine.Account.ID + "/workers/nothing-of-this": 7000,
	} {
		if a := api(t, s, http.MethodGet, path, mine.Account.APIToken, "", nil); a.Success || a.code() != want {
			t.Errorf("%s: %+v", path, a)
		}
	}
	if a := api(t, s, http.MethodGet, "/accounts/"+mine.Account.ID+"/workers/scripts", "guessed", "", nil); a.status != 401 {
		t.Errorf("a guessed token: %+v", a)
	}
	a := upload(t, s, mine, "w", says("x"), map[string]any{"bindings": []any{map[string]any{"type": "service", "name": "S", "service": "secret"}}})
	if a.Success || a.code() != 10144 {
		t.Errorf("a binding to another account's Worker: %+v", a)
	}
	var unknown map[string]int
	manage(t, s, http.MethodGet, "/unknown", "", &unknown)
	if len(unknown) != 1 {
		t.Errorf("unknown: %v", unknown)
	}
}

func TestBadUploadsLeaveWhatServes(t *testing.T) {
	s := box(t, sandbox.Config{})
	g := grant(t, s)
	host := live(t, s, g, "w", says("good"))
	for name, c := range map[string]struct {
		code string
		md   map[string]any
		want int
		text string
	}{
		"syntax":             {"export default {", nil, 10021, "SyntaxError"},
		"throws at start":    {"throw new Error('nope'); export default {};", nil, 10021, "nope"},
		"an unknown flag":    {says("x"), map[string]any{"compatibility_flags": []string{"no_such_flag"}}, 10021, "no_such_flag"},
		"experimental":       {says("x"), map[string]any{"compatibility_flags": []string{"experimental"}}, 10021, "experimental"},
		"a future date":      {says("x"), map[string]any{"compatibility_date": "2031-01-01"}, 10021, ""},
		"an unknown binding": {says("x"), map[string]any{"bindings": []any{map[string]any{"type": "vectorize", "name": "V"}}}, 10021, "vectorize"},
		"inherit":            {says("x"), map[string]any{"bindings": []any{map[string]any{"type": "inherit", "name": "GONE"}}}, 10057, "GONE"},
		"too large":          {"export default {}; //" + incompressible(4<<20), nil, 10027, "3 MiB"},
		"service-worker":     {says("x"), map[string]any{"body_part": "index.js"}, 10021, "service-worker"},
	} {
		t.Run(name, func(t *testing.T) {
			a := upload(t, s, g, "w", c.code, c.md)
			if a.Success || a.code() != c.want || !strings.Contains(fmt.Sprint(a.Errors), c.text) {
				t.Errorf("%+v", a.Errors)
			}
			wantEdge(t, s, host, "/", 200, "good")
		})
	}
	if a := api(t, s, http.MethodPut, "/accounts/"+g.Account.ID+"/workers/scripts/w", g.Account.APIToken, "text/plain", strings.NewReader("x")); a.code() != 10004 {
		t.Errorf("no multipart: %+v", a)
	}
}

func incompressible(n int) string {
	var b strings.Builder
	for x := uint32(1); b.Len() < n; {
		x = x*1664525 + 1013904223
		b.WriteByte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[x>>26])
	}
	return b.String()
}

func TestWorkersThatFail(t *testing.T) {
	s := box(t, sandbox.Config{})
	bad, good := grant(t, s), grant(t, s)
	badHost := live(t, s, bad, "w", `export default { fetch(r) {
  const p = new URL(r.url).pathname;
  if (p === "/throw") throw new Error("x");
  if (p === "/own") return new Response("my own", { status: 500 });
  if (p === "/spin") for (;;) {}
  if (p === "/see") return Response.json({ url: r.url, colo: r.cf.colo, spoof: r.headers.get("x-hourglass-proto") });
  return new Response("fine");
} };`)
	goodHost := live(t, s, good, "w", says("unharmed"))
	wantEdge(t, s, badHost, "/throw", 500, "error code: 1101")
	wantEdge(t, s, badHost, "/own", 500, "my own")
	wantEdge(t, s, badHost, "/see", 200, `"url":"https://`+badHost+`/see"`)
	var spun sync.WaitGroup
	spun.Go(func() { wantEdge(t, s, badHost, "/spin", 503, "error code: 1102") })
	time.Sleep(200 * time.Millisecond)
	wantEdge(t, s, goodHost, "/", 200, "unharmed")
	spun.Wait()
	wantEdge(t, s, badHost, "/", 200, "fine") // it is back
}

func TestConnectAndForeignSitesAreRefused(t *testing.T) {
	s := box(t, sandbox.Config{})
	g := grant(t, s)
	live(t, s, g, "w", says("x"))
	var workers []struct{ URL string }
	manage(t, s, http.MethodGet, "/workers", "", &workers)
	api, _ := url.Parse(s.URLs().API)
	for _, addr := range []string{api.Host, strings.TrimPrefix(s.URLs().Edge, "http://"), strings.TrimPrefix(s.URLs().Manage, "http://"), strings.TrimPrefix(workers[0].URL, "http://")} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n")
		line, _ := bufio.NewReader(c).ReadString('\n')
		c.Close()
		if !strings.Contains(line, "405") {
			t.Errorf("CONNECT to %s: %s", addr, line)
		}
	}
	for name, change := range map[string]func(*http.Request){
		"another name": func(r *http.Request) { r.Host = "evil.example" },
		"another site": func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
	} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URLs().Manage+"/clock", strings.NewReader(`{"advance_seconds":1}`))
		change(req)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 403 {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
}

// TestTailFrames: wrangler's first frame is unmasked, others' are masked.
func TestTailFrames(t *testing.T) {
	s := box(t, sandbox.Config{})
	g := grant(t, s)
	host := live(t, s, g, "w", `export default { fetch(r) { console.log("hello tail"); return new Response("x"); } };`)
	a := api(t, s, http.MethodPost, "/accounts/"+g.Account.ID+"/workers/scripts/w/tails", g.Account.APIToken, "text/plain", strings.NewReader(`{"filters":[]}`))
	var tail struct{ ID, URL string }
	if err := json.Unmarshal(a.Result, &tail); err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(tail.URL)
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: trace-v1\r\n\r\n", u.Path, u.Host)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || resp.Header.Get("Sec-WebSocket-Protocol") != "trace-v1" {
		t.Fatalf("%v %+v", err, resp)
	}
	_, _ = c.Write(append([]byte{0x81, 15}, `{"debug":false}`...))   // unmasked
	_, _ = c.Write([]byte{0x89, 0x82, 1, 2, 3, 4, 'h' ^ 1, 'i' ^ 2}) // a masked ping "hi"
	if b, err := r.Peek(4); err != nil || string(b) != "\x8a\x02hi" {
		t.Fatalf("no pong: %q %v", b, err)
	}
	_, _ = r.Discard(4)
	wantEdge(t, s, host, "/seen", 200, "x")
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	head, err := r.Peek(4)
	if err != nil || head[0] != 0x81 || head[1] != 126 {
		t.Fatalf("%v %v", head, err)
	}
	frame := make([]byte, 4+int(head[2])<<8+int(head[3]))
	if _, err := io.ReadFull(r, frame); err != nil || !bytes.Contains(frame, []byte("hello tail")) || !bytes.Contains(frame, []byte("/seen")) {
		t.Errorf("%s %v", frame, err)
	}
	api(t, s, http.MethodDelete, "/accounts/"+g.Account.ID+"/workers/scripts/w/tails/"+tail.ID, g.Account.APIToken, "", nil)
	if b, err := r.Peek(4); err != nil || string(b) != "\x88\x02\x03\xe8" {
		t.Errorf("no normal end: %q %v", b, err)
	}
}

func TestPropagation(t *testing.T) {
	s := box(t, sandbox.Config{})
	g := grant(t, s)
	manage(t, s, http.MethodPut, "/propagation", `{"route_ms":400,"version_ms":600}`, nil)
	host := live(t, s, g, "w", says("one"))
	wantEdge(t, s, host, "/", 404, "")
	until := func(want string) {
		t.Helper()
		for range 100 {
			if _, body, _ := edge(t, s, host, "/"); body == want {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Errorf("%s was never served", want)
	}
	until("one")
	if a := upload(t, s, g, "w", says("two"), nil); !a.Success {
		t.Fatalf("%+v", a)
	}
	wantEdge(t, s, host, "/", 200, "one")
	until("two")
}

// TestManyAtOnce: accounts deploy at the same time as others end, and Close comes in
// the middle.
func TestManyAtOnce(t *testing.T) {
	s := box(t, sandbox.Config{})
	var wg sync.WaitGroup
	for i := range 6 {
		g := grant(t, s)
		wg.Go(func() {
			host := live(t, s, g, "w", says("first"))
			for j := range 3 {
				text := fmt.Sprintf("%d-%d", i, j)
				if a := upload(t, s, g, "w", says(text), nil); !a.Success {
					t.Errorf("%+v", a)
				}
				wantEdge(t, s, host, "/", 200, text)
			}
		})
	}
	wg.Wait()
	g := grant(t, s)
	wg.Go(func() { upload(t, s, g, "w", says("late"), nil) }) // before or after the hour's end
	manage(t, s, http.MethodPost, "/clock", `{"advance_seconds":3601}`, nil)
	wg.Wait()
}

// TestKillLeavesNoRuntime: after kill -9 of the process that holds the sandbox, neither
// a workerd nor a file of it remains.
func TestKillLeavesNoRuntime(t *testing.T) {
	if os.Getenv("HOURGLASS_SANDBOX_CHILD") != "" {
		s := box(t, sandbox.Config{})
		o := on{t, s, grant(t, s)}
		live(t, s, o.g, "w", says("x"))
		kv := o.made("/storage/kv/namespaces", `{"title":"kv"}`, "id")
		o.call(http.MethodPut, "/storage/kv/namespaces/"+kv+"/values/k", "v")
		q := o.made("/queues", `{"queue_name":"q"}`, "queue_id")
		o.call(http.MethodPost, "/queues/"+q+"/messages", `{"body":1}`)
		fmt.Println("UP")
		select {}
	}
	box(t, sandbox.Config{}) // fetches the runtime, or skips
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), self, "-test.run", "^TestKillLeavesNoRuntime$")
	cmd.Env = append(os.Environ(), "HOURGLASS_SANDBOX_CHILD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "UP" {
	}
	left := runtimes(cmd.Process.Pid)
	data := dataOf(cmd.Process.Pid)
	if len(left) != 0 && (len(left) < 3 || len(data) != 1) {
		t.Errorf("runtimes %v, folders %v", left, data)
	}
	if len(left) == 0 {
		peertest.Skip(t, "the child's runtime can't be seen on this system")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for range 100 {
		left = slices.DeleteFunc(left, func(pid int) bool { return syscall.Kill(pid, 0) != nil })
		if len(left) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if len(left) != 0 {
		t.Errorf("runtimes were left behind: %v", left)
	}
	for _, dir := range data { // without a further start
		root := filepath.Dir(dir)
		for range 200 {
			if _, err := os.Stat(root); err != nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if _, err := os.Stat(root); err == nil || !strings.HasPrefix(filepath.Base(root), "hgw-") {
			t.Errorf("data was left behind in %s", root)
		}
	}
}

// dataOf gives the accounts' folders that a process holds.
func dataOf(pid int) []string {
	var out []string
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err != nil || filepath.Base(to) != "lock" {
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(to), "stores")); err == nil {
			out = append(out, filepath.Dir(to))
		}
	}
	return out
}

// runtimes gives the children of a process that are a runtime.
func runtimes(parent int) []int {
	var out []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for f := range strings.FieldsSeq(string(b)) {
			pid, err := strconv.Atoi(f)
			cmdline, _ := os.ReadFile("/proc/" + f + "/cmdline")
			if err == nil && bytes.Contains(cmdline, []byte("workerd")) {
				out = append(out, pid)
			}
		}
	}
	return out
}
