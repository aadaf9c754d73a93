package audit_test

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/audit"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// server is the one PostgreSQL of this test binary.
var server struct {
	once sync.Once
	dsn  string
	err  error
	stop func()
}

func stopPostgres() {
	if server.stop != nil {
		server.stop()
	}
}

// postgresPlace gives an empty schema of its own, on the server that
// HOURGLASS_TEST_POSTGRES names (a DSN in key=value form), else on a private one.
func postgresPlace(t testing.TB) place {
	t.Helper()
	server.once.Do(func() {
		if server.dsn = os.Getenv("HOURGLASS_TEST_POSTGRES"); server.dsn == "" {
			server.dsn, server.stop, server.err = startPostgres()
		}
	})
	if server.err != nil {
		peertest.Skip(t, "PostgreSQL can't be had: %v", server.err)
	}
	db, err := sql.Open("pgx", server.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	name := "audit_" + strings.ToLower(rand.Text())
	if _, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	return place{audit.Postgres, "pgx", server.dsn + " search_path=" + name}
}

// startPostgres starts a private server on a socket in a folder of its own. It refuses
// to run as root, so there it runs as its package's user, or nobody.
func startPostgres() (dsn string, stop func(), err error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", nil, errors.New("there is no initdb under /usr/lib/postgresql")
	}
	bin := filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("/tmp", "hourglass-pg-")
	if err != nil {
		return "", nil, err
	}
	attr := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			if u, err = user.Lookup("nobody"); err != nil {
				return "", nil, err
			}
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			return "", nil, err
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	run := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr, cmd.Env = dir, attr, []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
		return cmd
	}
	data := filepath.Join(dir, "data")
	if out, err := run("initdb", "-D", data, "-A", "trust", "-U", "hourglass", "-E", "UTF8", "--no-sync").CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	srv := run("postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60")
	if err := srv.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = srv.Process.Signal(syscall.SIGINT) // a fast shutdown
		_ = srv.Wait()
		_ = os.RemoveAll(dir)
	}
	for until := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if run("pg_isready", "-q", "-h", dir, "-U", "hourglass").Run() == nil {
			return "host=" + dir + " user=hourglass dbname=postgres sslmode=disable", stop, nil
		}
		if time.Now().After(until) {
			stop()
			return "", nil, errors.New("the server did not come up")
		}
	}
}
