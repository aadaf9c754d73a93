package session_test

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// begun makes a store with something in it and closes it.
func begun(t *testing.T, p place) {
	t.Helper()
	s := p.open(t)
	must(t, s.SaveSession(t.Context(), someSession("s_a", "me", 1)))
	must(t, s.SaveAccount(t.Context(), someAccount("1", "s_a")))
	must(t, s.Close())
}

// unusable opens a spoiled store: every way to use it says why it can't be.
func unusable(t *testing.T, s *session.Store, want string) {
	t.Helper()
	ctx := t.Context()
	_, leaseErr := s.AcquireLease(ctx, "s_a", 1e9)
	_, readErr := s.Accounts(ctx, "s_a")
	for _, err := range []error{readErr, s.Ping(ctx), s.SaveSession(ctx, someSession("s_b", "me", 1)), leaseErr} {
		wantCode(t, err, deploy.CodeStore)
		if err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	must(t, s.Close())
}

// TestWhatIsWrongIsSaid: nothing is overwritten by a store that can't be used.
func TestWhatIsWrongIsSaid(t *testing.T) {
	write := func(name string, content []byte, mode os.FileMode) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.WriteFile(filepath.Join(dir, name), content, mode))
			must(t, os.Chmod(filepath.Join(dir, name), mode))
		}
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
	}{
		"another key": {write("key", bytes.Repeat([]byte{7}, 32), 0o600), "not the one"},
		"a short key": {write("key", []byte("short"), 0o600), "5 bytes"},
		"an open key": {func(t *testing.T, dir string) { t.Helper(); must(t, os.Chmod(filepath.Join(dir, "key"), 0o644)) }, "chmod 600"},
		"a lost key":  {func(t *testing.T, dir string) { t.Helper(); must(t, os.Remove(filepath.Join(dir, "key"))) }, "key is gone"},
		"no database": {write("sessions.db", bytes.Repeat([]byte("no database "), 1000), 0o600), "damaged"},
		"a torn one": {func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.Truncate(filepath.Join(dir, "sessions.db"), 5000))
		}, "malformed"},
		"a spoilt one": {spoilPages, "malformed"},
		"from the future": {func(t *testing.T, dir string) {
			t.Helper()
			db, err := sql.Open("sqlite", filepath.Join(dir, "sessions.db"))
			must(t, err)
			_, err = db.Exec("PRAGMA user_version = 99")
			must(t, errors.Join(err, db.Close()))
		}, "newer version"},
	} {
		t.Run(name, func(t *testing.T) {
			p := place{dir: t.TempDir()}
			begun(t, p)
			c.spoil(t, p.dir)
			before := folder(t, p.dir)
			unusable(t, p.open(t), c.want)
			if folder(t, p.dir) != before {
				t.Error("something was written")
			}
		})
	}
	t.Run("a folder that is a file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(path, nil, 0o600))
		_, err := open(t, path).Sessions(t.Context(), "me", 1)
		wantCode(t, err, deploy.CodeStore)
	})
	t.Run("a key file that is not there", func(t *testing.T) {
		dir := t.TempDir()
		unusable(t, open(t, dir, func(c *session.Config) { c.KeyFile = filepath.Join(dir, "mine") }), "key file")
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("%v %v", entries, err)
		}
	})
}

// spoilPages leaves the database's first page and fills the others.
func spoilPages(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "sessions.db")
	b, err := os.ReadFile(path)
	must(t, err)
	for i := 4096; i < len(b); i++ {
		b[i] = 0xa5
	}
	must(t, os.WriteFile(path, b, 0o600))
}

// TestWrongOnPostgres is the same for the other home.
func TestWrongOnPostgres(t *testing.T) {
	rows := func(t *testing.T, s *session.Store) (n int) {
		t.Helper()
		must(t, database(t, s).QueryRowContext(t.Context(), "SELECT (SELECT COUNT(*) FROM sessions) + (SELECT COUNT(*) FROM leases) + (SELECT COUNT(*) FROM meta)").Scan(&n))
		return n
	}
	url := peertest.Postgres(t)
	p := place{url: url}
	begun(t, p)
	before := rows(t, p.open(t))
	other := func(c *session.Config) { c.Key = bytes.Repeat([]byte{8}, 32) }
	unusable(t, p.open(t, other), "not the one")
	unusable(t, p.open(t, func(c *session.Config) { c.Key = nil }), "--key-file")
	unusable(t, p.open(t, func(c *session.Config) { c.Key = []byte("short") }), "5 bytes")
	if n := rows(t, p.open(t)); n != before {
		t.Errorf("%d rows, %d before", n, before)
	}
	file := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(file, []byte("CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=\n"), 0o600))
	s := p.open(t, func(c *session.Config) { c.Key, c.KeyFile = nil, file })
	must(t, s.Ping(t.Context()))
	change(t, s, "INSERT INTO hourglass_schema (version_id, is_applied) VALUES (99, true)")
	unusable(t, p.open(t), "newer version")
	change(t, s, "DELETE FROM hourglass_schema WHERE version_id = 99")
	must(t, p.open(t).Ping(t.Context()))
}
