package peertest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// Check is one check of the official conformance suite.
type Check struct {
	Scenario string
	ID       string `json:"id"`
	Status   string `json:"status"` // SUCCESS, FAILURE, WARNING, SKIPPED or INFO
	Error    string `json:"errorMessage"`
}

// scenarioDir is how the suite names a scenario's folder of results.
var scenarioDir = regexp.MustCompile(`^server-(.+)-\d{4}-\d\d-\d\dT[0-9-]+Z$`)

// Conformance runs the official conformance suite's scenarios for servers, all of them,
// against a server, and gives every check with what the suite printed.
func (p Peers) Conformance(t testing.TB, url string) ([]Check, string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), p.Node, p.Bin("@modelcontextprotocol", "conformance", "dist", "index.js"),
		"server", "--url", url, "--suite", "all", "--output-dir", dir)
	cmd.Env = []string{"PATH=" + filepath.Dir(p.Node) + ":/usr/bin:/bin", "HOME=" + dir, "NO_COLOR=1"}
	cmd.Dir = dir
	res, err := p.run(cmd) // its exit code says whether everything passed; the caller says what has to
	if err != nil {
		t.Fatal(err)
	}
	folders, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []Check
	for _, f := range folders {
		m := scenarioDir.FindStringSubmatch(f.Name())
		if m == nil {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, f.Name(), "checks.json"))
		if err != nil {
			t.Fatal(err)
		}
		var checks []Check
		if err := json.Unmarshal(raw, &checks); err != nil {
			t.Fatalf("%s: %v", f.Name(), err)
		}
		for _, c := range checks {
			c.Scenario = m[1]
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		t.Fatalf("the conformance suite ran nothing:\n%s%s", res.Stdout, tail(res.Stderr))
	}
	return out, res.Stdout
}
