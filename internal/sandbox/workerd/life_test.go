package workerd_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

const hello = `export default { fetch: () => new Response("ok") };`

// request makes a request that a test may end.
func request(ctx context.Context, t testing.TB, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// gone tells whether nothing runs under a process id, nor in its process group.
func gone(pid int) bool {
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) && errors.Is(syscall.Kill(-pid, 0), syscall.ESRCH)
}

// Whoever is killed leaves no runtime, and the next start removes the folder.
func TestNothingOutlivesAKill(t *testing.T) {
	for _, how := range []string{"start", "start-shell"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			cmd, s := childRuntime(t, how, dir)
			if gone(s.PID) {
				t.Fatal("it does not even run")
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			waitFor(t, func() bool { return gone(s.PID) })
			if _, err := os.Stat(s.Dir); err != nil {
				t.Fatalf("the folder should be left for the next start: %v", err)
			}
			p := start(t, workerd.Config{Dir: dir, Workers: []workerd.Worker{worker("w", hello)}})
			if _, err := os.Stat(s.Dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the dead one's folder is still there: %v", err)
			}
			if n := workerd.Sweep(dir); n != 0 {
				t.Errorf("%d folders were swept, though the one that is left is in use", n)
			}
			if _, body := get(t, p, "w", "http://w/"); body != "ok" {
				t.Errorf("got %q", body)
			}
		})
	}
}

func TestShellSupervisor(t *testing.T) {
	cfg := workerd.Config{Binary: binary(t), Dir: t.TempDir(), Workers: []workerd.Worker{worker("w", hello)}}.WithShell()
	p := start(t, cfg)
	if _, body := get(t, p, "w", "http://w/"); body != "ok" {
		t.Errorf("got %q", body)
	}
	began := time.Now()
	p.Stop(t.Context())
	if !errors.Is(p.Err(), workerd.ErrStopped) || time.Since(began) > 30*time.Second {
		t.Errorf("got %v after %s", p.Err(), time.Since(began))
	}
	waitFor(t, func() bool { return gone(p.PID()) })
	cfg.Workers[0] = worker("w", "syntax error")
	_, err := workerd.Start(t.Context(), cfg)
	if e, ok := errors.AsType[*workerd.StartError](err); !ok || !strings.Contains(e.Text, "SyntaxError") {
		t.Errorf("got %v", err)
	}
	cfg.Workers[0], cfg.StartTimeout = worker("w", "while (true) {}"), 300*time.Millisecond
	_, err = workerd.Start(t.Context(), cfg)
	if e, ok := errors.AsType[*workerd.StartError](err); !ok || !strings.Contains(e.Text, "loop") {
		t.Errorf("got %v", err)
	}
	waitFor(t, func() bool { left, _ := filepath.Glob(filepath.Join(cfg.Dir, "*")); return len(left) == 0 })
}

func TestStopLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	p := start(t, workerd.Config{Dir: dir, OnTail: func(workerd.TailEvent) {}, Workers: []workerd.Worker{worker("w", hello)}})
	if info, err := os.Stat(p.Dir()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the private folder: %v, %v", info, err)
	}
	if p.Err() != nil {
		t.Errorf("it runs, and Err is %v", p.Err())
	}
	get(t, p, "w", "http://w/")
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { p.Stop(t.Context()) })
	}
	all.Wait()
	if !gone(p.PID()) || !errors.Is(p.Err(), workerd.ErrStopped) {
		t.Errorf("it still runs, or %v", p.Err())
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := p.Transport("w").RoundTrip(request(t.Context(), t, "http://w/")); !errors.Is(err, workerd.ErrStopped) { //nolint:bodyclose // there is none
		t.Errorf("a request after the end: %v", err)
	}
	if p.Transport("nobody") != nil {
		t.Error("there is a road to a Worker that there isn't")
	}
}

// A request in flight holds Stop back until it is through, or Stop's context ends.
func TestStopWaitsForRequests(t *testing.T) {
	const slow = `export default { async fetch(r) { await scheduler.wait(Number(new URL(r.url).searchParams.get("ms"))); return new Response("late"); } };`
	p := start(t, workerd.Config{Workers: []workerd.Worker{worker("w", slow)}})
	answered := make(chan string, 1)
	go func() { _, body := get(t, p, "w", "http://w/?ms=300"); answered <- body }()
	waitFor(t, func() bool { return p.InFlight() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Drain did not wait: %v", err)
	}
	p.Stop(t.Context())
	if body := <-answered; body != "late" || p.InFlight() != 0 {
		t.Errorf("got %q, %d in flight", body, p.InFlight())
	}

	p = start(t, workerd.Config{StopTimeout: 50 * time.Millisecond, Workers: []workerd.Worker{worker("w", slow)}})
	failed := make(chan error, 1)
	go func() {
		_, err := p.Transport("w").RoundTrip(request(t.Context(), t, "http://w/?ms=60000")) //nolint:bodyclose // there is none
		failed <- err
	}()
	waitFor(t, func() bool { return p.InFlight() == 1 })
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p.Stop(ctx)
	if err := <-failed; !errors.Is(err, workerd.ErrStopped) {
		t.Errorf("got %v", err)
	}
}

func TestTenAtOnce(t *testing.T) {
	bin := binary(t)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			p, err := workerd.Start(t.Context(), workerd.Config{Binary: bin, Workers: []workerd.Worker{worker("w", hello)}})
			if err != nil {
				t.Error(err)
				return
			}
			defer p.Stop(context.Background())
			resp, err := p.Transport("w").RoundTrip(request(t.Context(), t, "http://w/"))
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
		})
	}
	all.Wait()
}

func TestStartCanBeCancelled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	dir := t.TempDir()
	_, err := workerd.Start(ctx, workerd.Config{Binary: binary(t), Dir: dir, Workers: []workerd.Worker{worker("w", "while (true) {}")}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWhatNothingCanBeStartedWith(t *testing.T) {
	ws := []workerd.Worker{worker("w", hello)}
	long := filepath.Join(t.TempDir(), strings.Repeat("long/", 20))
	if err := os.MkdirAll(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  workerd.Config
		want workerd.Code
	}{
		"no binary":       {workerd.Config{Workers: ws}, workerd.CodeBinary},
		"a missing one":   {workerd.Config{Binary: "/nowhere/workerd", Workers: ws}, workerd.CodeBinary},
		"a folder":        {workerd.Config{Binary: t.TempDir(), Workers: ws}, workerd.CodeBinary},
		"no such folder":  {workerd.Config{Binary: "/bin/sh", Dir: "/nowhere", Workers: ws}, workerd.CodeDir},
		"a too long path": {workerd.Config{Binary: "/bin/sh", Dir: long, Workers: ws}, workerd.CodeDir},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := workerd.Start(t.Context(), c.cfg)
			if got := codeOf(t, err); got != c.want {
				t.Errorf("got %s: %v", got, err)
			}
		})
	}
	t.Setenv("TMPDIR", long)
	p := start(t, workerd.Config{Workers: ws})
	if !strings.HasPrefix(p.Dir(), "/tmp/") {
		t.Errorf("a long TMPDIR: %s", p.Dir())
	}
}

// A loop keeps a neighbour from being answered; the caller can see it, and the watchdog ends it.
func TestSpinningIsSeenAndEnded(t *testing.T) {
	p := start(t, workerd.Config{PingEvery: 50 * time.Millisecond, SpinLimit: 700 * time.Millisecond, Workers: []workerd.Worker{
		worker("spin", `export default { fetch(r, env, ctx) { ctx.waitUntil((async () => { await scheduler.wait(50); while (true) {} })()); return new Response("ok"); } };`),
		worker("good", hello),
	}})
	if _, body := get(t, p, "spin", "http://x/"); body != "ok" {
		t.Fatalf("got %q", body)
	}
	if p.Stalled() > time.Second {
		t.Errorf("stalled from the start: %s", p.Stalled())
	}
	// The request is over: what spins now is what follows it.
	waitFor(t, func() bool { return p.Stalled() > 300*time.Millisecond })
	_, err := p.Transport("good").RoundTrip(request(t.Context(), t, "http://x/")) //nolint:bodyclose // there is none
	if !errors.Is(err, workerd.ErrSpun) || !errors.Is(p.Err(), workerd.ErrSpun) {
		t.Errorf("got %v, %v", err, p.Err())
	}
	if !strings.Contains(p.Err().Error(), "700ms") {
		t.Errorf("the limit is not told: %v", p.Err())
	}
}

// A Worker that is slow but lets others run isn't taken for one that spins.
func TestWaitingIsNotSpinning(t *testing.T) {
	p := start(t, workerd.Config{PingEvery: 20 * time.Millisecond, SpinLimit: 200 * time.Millisecond, Workers: []workerd.Worker{
		worker("w", `export default { async fetch() { await scheduler.wait(1000); return new Response("ok"); } };`),
	}})
	if _, body := get(t, p, "w", "http://x/"); body != "ok" {
		t.Errorf("got %q", body)
	}
}

func TestKilledFromOutside(t *testing.T) {
	p := start(t, workerd.Config{Workers: []workerd.Worker{worker("w", hello)}})
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if !errors.Is(p.Err(), workerd.ErrCrashed) || !strings.Contains(p.Err().Error(), "killed") {
		t.Errorf("got %v", p.Err())
	}
	p.Stop(t.Context())
	if _, err := os.Stat(p.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
}

// Memory beyond the limits, at the start and later, in the heap and outside of it.
func TestMemoryAtTheStart(t *testing.T) {
	_, err := workerd.Start(t.Context(), workerd.Config{Binary: binary(t), HeapMiB: 64, Workers: []workerd.Worker{
		worker("heap", `const a = []; for (;;) a.push({ x: "y".repeat(100) + a.length });`),
	}})
	e, ok := errors.AsType[*workerd.StartError](err)
	if !ok || e.Worker != "heap" || !strings.Contains(e.Text, "64 MiB") {
		t.Errorf("got %v", err)
	}
}
