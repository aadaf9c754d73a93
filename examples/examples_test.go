package examples_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
	"github.com/hourglass-mcp/hourglass/internal/sandbox"
	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// TestExamples deploys each example with the headless runner on the sandbox and uses it.
func TestExamples(t *testing.T) {
	bin := peertest.Workerd(t)
	dir := t.TempDir()
	for _, p := range []string{"mcp-server", "headless"} {
		pkg := map[string]string{"mcp-server": "../cmd/mcp-server", "headless": "./headless"}[p]
		if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, p), pkg).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	box, err := sandbox.New(sandbox.Config{ChallengeK: 2, ChallengeG: 2, Workerd: func(context.Context) (workerd.Binary, error) { return bin, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := box.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	urls := box.URLs()
	run := func(example string, args ...string) (report map[string]any, code int) {
		t.Helper()
		server := fmt.Sprintf("%s stdio --api-base-url %s --edge-url %s --state-dir %s --root %s --log-level error", filepath.Join(dir, "mcp-server"), urls.API, urls.Edge, filepath.Join(dir, "state"), root)
		cmd := exec.Command(filepath.Join(dir, "headless"), append([]string{"-server", server, "-dir", example, "-run", "test"}, args...)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &report); err != nil {
			t.Fatalf("%s: %v\n%s\n%s", example, err, out, stderr.String())
		}
		return report, code
	}
	for _, c := range []struct {
		example string
		args    []string
		code    int
	}{
		{"hello", []string{"-path", "/?name=example", "-contains", "Hello, example!"}, 0},
		{"hello", []string{"-contains", "Goodbye"}, 3},
		{"api", []string{"-path", "/items/b", "-contains", "glass"}, 0},
		{"api", []string{"-path", "/items/z", "-status", "404"}, 0},
		{"site", []string{"-path", "/about", "-contains", "Static files alone"}, 0},
		{"site", []string{"-path", "/nothing", "-status", "404", "-contains", "Nothing here"}, 0},
		{"counter-kv", []string{"-path", "/a", "-contains", `"visits":1`}, 0},
		{"notes-d1", []string{"-path", "/notes", "-contains", "an hour"}, 0},
		{"chat-durable", []string{"-path", "/rooms/lobby", "-contains", "[]"}, 0},
		{"chat-durable", []string{"-path", "/", "-contains", "<title>Chat</title>"}, 0},
		{"jobs-queue", []string{"-path", "/jobs/none", "-status", "404", "-contains", "waiting"}, 0},
		{"clients", nil, 2},
	} {
		report, code := run(c.example, c.args...)
		if code != c.code || report["ok"] != (c.code == 0) {
			t.Errorf("%s %v: code %d, want %d: %v", c.example, c.args, code, c.code, report)
		}
	}
	all := workers(t, urls.Manage)
	if n := strings.Count(fmt.Sprint(all), "enabled:true"); n < 7 {
		t.Errorf("%d Workers are on the sandbox", n)
	}
	addresses := map[string]string{}
	for _, w := range all {
		name, _ := w["name"].(string)
		addresses[name], _ = w["url"].(string)
	}
	useApps(t, addresses, urls.Manage)
}

// useApps uses the four applications as their users would.
func useApps(t *testing.T, urls map[string]string, manage string) {
	t.Helper()
	do := func(method, app, path, body string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, urls[app]+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	want := func(got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("%q, want %q in it", got, want)
		}
	}
	want(do("GET", "counter-kv", "/a", ""), `"visits":2`)
	want(do("GET", "counter-kv", "/b", ""), `"visits":1`)

	want(do("POST", "notes-d1", "/notes", "buy it's milk"), `"id":2`)
	want(do("POST", "notes-d1", "/notes", "  "), "a note has a text")
	want(do("GET", "notes-d1", "/notes", ""), "buy it's milk")

	chat(t, urls["chat-durable"])
	want(do("GET", "chat-durable", "/rooms/lobby", ""), `[{"from":"ada","text":"hello"},{"from":"anonymous","text":"by post"}]`)
	want(do("GET", "chat-durable", "/rooms/other", ""), `[]`)

	var job struct{ ID string }
	if err := json.Unmarshal([]byte(do("POST", "jobs-queue", "/jobs", "abc")), &job); err != nil || job.ID == "" {
		t.Fatal(err)
	}
	got := ""
	for range 200 {
		if got = do("GET", "jobs-queue", "/jobs/"+job.ID, ""); strings.Contains(got, "cba") {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	want(got, `"result":"cba"`)
	post(t, manage+"/cron", `{"worker":"jobs-queue","cron":"0 * * * *"}`)
	want(do("GET", "jobs-queue", "/jobs/"+job.ID, ""), "waiting")
}

// chat has two visitors of a room: what one says, and what is posted, reaches the other.
func chat(t *testing.T, base string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	join := func(name string) *websocket.Conn {
		c, resp, err := websocket.Dial(ctx, base+"/rooms/lobby?name="+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body != nil {
			_ = resp.Body.Close()
		}
		return c
	}
	ada, bob := join("ada"), join("bob")
	defer ada.CloseNow() //nolint:errcheck // the test's end
	defer bob.CloseNow() //nolint:errcheck // the test's end
	if err := ada.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*websocket.Conn{ada, bob} {
		if _, b, err := c.Read(ctx); err != nil || string(b) != `{"from":"ada","text":"hello"}` {
			t.Errorf("%s %v", b, err)
		}
	}
	post(t, base+"/rooms/lobby", "by post")
	if _, b, err := bob.Read(ctx); err != nil || string(b) != `{"from":"anonymous","text":"by post"}` {
		t.Errorf("%s %v", b, err)
	}
}

func post(t *testing.T, url, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Errorf("%s: %d", url, resp.StatusCode)
	}
}

func workers(t *testing.T, manage string) []map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, manage+"/workers", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out []map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestClientFilesAreJSON: what is to be copied can be read.
func TestClientFilesAreJSON(t *testing.T) {
	found, err := filepath.Glob("clients/*.json")
	if err != nil || len(found) != 4 {
		t.Fatal(found, err)
	}
	for _, f := range found {
		b, err := os.ReadFile(f)
		if err != nil || !json.Valid(b) || !strings.Contains(string(b), `"hourglass"`) {
			t.Errorf("%s: %v %s", f, err, b)
		}
	}
}
