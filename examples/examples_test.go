package examples_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
		{"clients", nil, 2},
	} {
		report, code := run(c.example, c.args...)
		if code != c.code || report["ok"] != (c.code == 0) {
			t.Errorf("%s %v: code %d, want %d: %v", c.example, c.args, code, c.code, report)
		}
	}
	if n := strings.Count(fmt.Sprint(workers(t, urls.Manage)), "enabled:true"); n < 3 {
		t.Errorf("%d Workers are on the sandbox", n)
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
