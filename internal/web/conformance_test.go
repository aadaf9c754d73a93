package web_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// TestConformanceOfOurLayers runs the whole official suite, but for tasks, which we do
// not offer, against the suite's own fixtures behind our Endpoint. What fails must be on
// the list with its reason, and what is on the list must fail.
func TestConformanceOfOurLayers(t *testing.T) {
	p := peertest.Get(t)
	d := newDesk(t, func(c *web.EndpointConfig) { c.MCP = fixtureServer() })
	checks, out := p.Conformance(t, d.base+web.PathMCP)
	expected := expectedFailures(t)
	seen := map[string]bool{}
	passed := 0
	for _, c := range checks {
		if strings.HasPrefix(c.Scenario, "tasks-") {
			continue
		}
		name := c.Scenario + " " + c.ID
		switch {
		case c.Status == "FAILURE" && expected[name] == "":
			t.Errorf("%s failed: %s", name, c.Error)
		case c.Status == "FAILURE":
			seen[name] = true
		case c.Status == "SUCCESS":
			passed++
		}
	}
	for name := range expected {
		if !seen[name] {
			t.Errorf("%s is expected to fail and did not: take it off the list", name)
		}
	}
	t.Logf("%d checks passed, %d failed as expected", passed, len(seen))
	if passed < 150 {
		t.Errorf("only %d checks passed; did the suite run?\n%s", passed, out)
	}
}

// expectedFailures reads the list: a line "scenario check: reason" each.
func expectedFailures(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "conformance-expected-failures.txt"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, ok := strings.Cut(line, ": ")
		if !ok || len(reason) < 20 || !regexp.MustCompile(`^[a-z0-9-]+ [A-Za-z0-9-]+$`).MatchString(name) {
			t.Fatalf("not a line of the list: %q", line)
		}
		out[name] = reason
	}
	return out
}
