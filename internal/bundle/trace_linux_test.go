package bundle_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// The system calls of a process that bundles hostile projects name nothing outside the
// root: not to open it, not to look at it, not to run it.
func TestNoSystemCallOutsideTheRoot(t *testing.T) {
	const begin, end = "/hourglass-trace-begins", "/hourglass-trace-ends"
	if root := os.Getenv("HOURGLASS_TRACE_ROOT"); root != "" {
		tracedBundles(t, root, begin, end)
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		peertest.Skip(t, "strace is not on this machine (Debian package strace)")
	}
	outside := secretFolder(t)
	root := filepath.Join(filepath.Dir(outside), "root")
	for name, code := range hostile() {
		dir := filepath.Join(root, strings.ReplaceAll(name, " ", "-"))
		hostileProject(t, dir, outside, code, strings.HasPrefix(name, "ts "))
		link(t, outside, dir, "linked")
		link(t, filepath.Join("..", "..", "outside", "secret.js"), dir, "linked.js")
	}
	log := filepath.Join(t.TempDir(), "trace")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := exec.Command(strace, "-f", "-qq", "-s", "8192", "-e", "trace=%file,fchdir", "-o", log, self, "-test.run=^TestNoSystemCallOutsideTheRoot$", "-test.v")
	run.Env = append(os.Environ(), "HOURGLASS_TRACE_ROOT="+root)
	out, err := run.CombinedOutput()
	if bytes.Contains(out, []byte("PTRACE")) || bytes.Contains(out, []byte("Operation not permitted")) {
		peertest.Skip(t, "strace may not trace here: %s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	trace, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	_, trace, found1 := bytes.Cut(trace, []byte(begin))
	trace, _, found2 := bytes.Cut(trace, []byte(end))
	if !found1 || !found2 {
		t.Fatal("the marks are not in the trace")
	}
	checkTrace(t, string(trace), root)
}

func tracedBundles(t *testing.T, root, begin, end string) {
	list, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	b := newBundler(t, bundle.Config{Roots: []string{root}})
	_, _ = os.Stat(begin)
	for _, e := range list {
		for _, src := range []deploy.Source{{}, {Minify: true}, {Entry: "linked.js"}, {Entry: "linked/secret.js"}} {
			src.ProjectDir = filepath.Join(root, e.Name())
			_, _ = b.Bundle(t.Context(), src)
		}
	}
	_, _ = os.Stat(end)
}

var (
	traceCall = regexp.MustCompile(`^\d+ +(?:<\.\.\. )?(\w+)`)
	traceText = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
)

func checkTrace(t *testing.T, trace, root string) {
	t.Helper()
	calls, inside := 0, 0
	for line := range strings.Lines(trace) {
		call := traceCall.FindStringSubmatch(line)
		text := traceText.FindStringSubmatch(line)
		if call == nil || text == nil {
			continue
		}
		if strings.Contains(line, "readlinkat resumed>") {
			continue // the text is what the link says; its address is in the line that was interrupted
		}
		calls++
		name := text[1]
		switch {
		case name == root || strings.HasPrefix(name, root+"/"):
			inside++
		case strings.HasPrefix(name, "/"):
			t.Errorf("an address outside the root: %s", line)
		case strings.Contains(line, "AT_FDCWD") || !slices.Contains([]string{"openat", "newfstatat", "readlinkat"}, call[1]):
			t.Errorf("a relative address: %s", line)
		case slices.Contains(strings.Split(name, "/"), ".."):
			t.Errorf("upwards: %s", line)
		}
	}
	if calls < 100 || inside == 0 {
		t.Errorf("only %d calls (%d of the root) were traced", calls, inside)
	}
	t.Logf("%d calls, %d of them with the root's address", calls, inside)
}
