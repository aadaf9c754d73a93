package workerd_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// This binary is also the child process of its own tests: with childVariable set it does
// one thing and ends, or waits to be killed.
const childVariable = "HOURGLASS_WORKERD_TEST_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childVariable); what != "" {
		if err := beChild(what, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func beChild(what string, args []string) error {
	switch what {
	case "fetch": // npm, cache, integrity, path
		return workerd.Fetch(context.Background(), workerd.FindConfig{Npm: args[0], CacheDir: args[1]}, args[2], args[3])
	case "start", "start-shell": // binary, dir
		cfg := workerd.Config{Binary: args[0], Dir: args[1], Workers: []workerd.Worker{worker("w", `export default { fetch: () => new Response("ok") };`)}}
		if what == "start-shell" {
			cfg = cfg.WithShell()
		}
		p, err := workerd.Start(context.Background(), cfg)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(started{p.PID(), p.Dir()}); err != nil {
			return err
		}
		time.Sleep(time.Minute)
		return nil
	}
	return fmt.Errorf("no such child: %s", what)
}

// started is what a child says of the runtime that it started.
type started struct {
	PID int
	Dir string
}

// child starts this binary as a child process. The test ends it.
func child(t *testing.T, what string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childVariable+"="+what)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// childRuntime starts a child that starts a runtime, and gives what it says of it.
func childRuntime(t *testing.T, what, dir string) (*exec.Cmd, started) {
	t.Helper()
	cmd := exec.Command(os.Args[0], binary(t), dir)
	cmd.Env = append(os.Environ(), childVariable+"="+what)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var s started
	if err := json.Unmarshal(line, &s); err != nil {
		t.Fatal(err)
	}
	return cmd, s
}

// waitFor waits for a condition, five seconds at most.
func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	for began := time.Now(); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 5*time.Second {
			t.Fatal("waited for 5 s in vain")
		}
	}
}
