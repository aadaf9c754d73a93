package peertest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// postgresVar tells the processes that a test starts, and its other tests, of the
// server that is running already.
const postgresVar = "HOURGLASS_TEST_POSTGRES"

// Postgres gives the URL of an empty database of its own on a private PostgreSQL
// server, or skips the test with the reason. A test binary starts one server, at first
// use; it ends with the binary, however that ends.
func Postgres(t testing.TB) string {
	t.Helper()
	bin := postgresBin(t)
	// The lock is between goroutines: parallel tests ask at once.
	unlock, err := lock(t.Context(), filepath.Join(os.TempDir(), fmt.Sprintf("hourglass-postgres-%d.flock", os.Getpid())))
	if err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv(postgresVar)
	if dir == "" {
		dir, err = startPostgres(bin)
		if err == nil {
			err = os.Setenv(postgresVar, dir)
		}
	}
	unlock()
	if err != nil {
		Skip(t, "PostgreSQL does not start: %v", err)
	}
	s := &PostgresServer{Dir: dir, bin: bin}
	return s.Database(t)
}

// PostgresServer is a server that a test may stop and start.
type PostgresServer struct {
	Dir string // its data, its log and its socket
	bin string
}

// NewPostgres starts a server for one test, or skips it with the reason. It ends with
// the test.
func NewPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	bin := postgresBin(t)
	dir, err := startPostgres(bin)
	if err != nil {
		Skip(t, "PostgreSQL does not start: %v", err)
	}
	s := &PostgresServer{Dir: dir, bin: bin}
	t.Cleanup(func() {
		s.Stop(t)
		_ = os.RemoveAll(dir)
	})
	return s
}

// Database makes an empty database and gives its URL. It is removed after the test.
func (s *PostgresServer) Database(t testing.TB) string {
	t.Helper()
	name := "t_" + strings.ToLower(rand.Text())
	s.tool(t, "createdb", name)
	t.Cleanup(func() {
		// With the server's end it is gone anyway.
		cmd := s.command(context.Background(), "dropdb", "--force", "--if-exists", name)
		_ = cmd.Run()
	})
	return s.URL(name)
}

// URL is the address of a database on the server.
func (s *PostgresServer) URL(name string) string {
	return "postgres:///" + name + "?" + url.Values{"host": {s.Dir}, "user": {"hourglass"}, "sslmode": {"disable"}}.Encode()
}

// Stop ends the server at once, as a machine that fails would, but with its data on
// the disk.
func (s *PostgresServer) Stop(t testing.TB) {
	t.Helper()
	pid, _, _ := strings.Cut(s.pidFile(), "\n")
	if pid == "" {
		return
	}
	if err := exec.Command("kill", "-QUIT", pid).Run(); err != nil {
		t.Errorf("stopping PostgreSQL: %v", err)
	}
	// Its process stays, until its watch ends too; its pid file goes with its last child.
	if !waitFor(func() bool { return s.pidFile() == "" }) {
		t.Error("PostgreSQL does not end")
	}
}

// Start starts it again.
func (s *PostgresServer) Start(t testing.TB) {
	t.Helper()
	if err := runPostgres(s.bin, s.Dir); err != nil {
		t.Fatal(err)
	}
}

func (s *PostgresServer) pidFile() string {
	b, _ := os.ReadFile(filepath.Join(s.Dir, "data", "postmaster.pid"))
	return string(b)
}

// ready tells whether the server takes connections, by the status in its pid file.
func (s *PostgresServer) ready() bool {
	lines := strings.Split(s.pidFile(), "\n")
	return len(lines) >= 8 && strings.TrimSpace(lines[7]) == "ready"
}

func (s *PostgresServer) command(ctx context.Context, tool string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, tool), append([]string{"-h", s.Dir, "-U", "hourglass"}, args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	return cmd
}

func (s *PostgresServer) tool(t testing.TB, tool string, args ...string) {
	t.Helper()
	if out, err := s.command(t.Context(), tool, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", tool, err, out)
	}
}

// postgresBin finds the server's programs: the newest of Debian's package, else those
// in the path.
func postgresBin(t testing.TB) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		Skip(t, "PostgreSQL is started on Unix only")
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) > 0 {
		return filepath.Dir(slices.Max(found))
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		Skip(t, "there is no PostgreSQL server here (Debian: apt-get install postgresql)")
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		Skip(t, "PostgreSQL: %v", err)
	}
	return filepath.Dir(path)
}

// startPostgres makes a database cluster in a new folder and starts a server on it. It
// listens on a socket in that folder only, for whoever can reach it, and does without
// fsync: what it keeps need not outlive the machine.
func startPostgres(bin string) (dir string, err error) {
	// A socket's path has at most 107 bytes, and root's temporary folder may be closed to
	// the user that the server runs as.
	if dir, err = os.MkdirTemp("/tmp", "hourglass-pg-"); err != nil {
		return "", fmt.Errorf("a folder: %w", err)
	}
	if err = giveAway(dir); err != nil {
		return "", err
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-U", "hourglass", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
	initdb.Dir, initdb.Env = dir, []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=" + dir}
	unprivileged(initdb)
	if out, err := initdb.CombinedOutput(); err != nil {
		_ = os.RemoveAll(dir)
		return "", fmt.Errorf("initdb: %w: %s", err, tail(string(out)))
	}
	if err = runPostgres(bin, dir); err != nil {
		_ = os.RemoveAll(dir)
		return "", err
	}
	return dir, nil
}

// watch starts the server and waits on a pipe that this process holds open: when it
// closes, because the process ended in whatever way, the server ends and its folder goes.
const watch = `"$0" -D "$1/data" -k "$1" -c listen_addresses= -c fsync=off -c full_page_writes=off -c max_connections=200 -c shared_buffers=32MB >>"$1/log" 2>&1 &
read -r never
kill -QUIT "$(head -n 1 "$1/data/postmaster.pid")"
wait
rm -rf "$1"
`

func runPostgres(bin, dir string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("a pipe: %w", err)
	}
	cmd := exec.Command("/bin/sh", "-c", watch, filepath.Join(bin, "postgres"), dir)
	cmd.Dir, cmd.Env, cmd.Stdin = dir, []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}, r
	unprivileged(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	_ = r.Close()
	keepOpen(w)
	if s := (&PostgresServer{Dir: dir}); !waitFor(s.ready) {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		return fmt.Errorf("PostgreSQL is not ready: %s", tail(string(log)))
	}
	return nil
}

// waitFor looks every few milliseconds, for a minute at most.
func waitFor(done func() bool) bool {
	for range 3000 {
		if done() {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}
