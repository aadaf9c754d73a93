package session_test

import (
	"bytes"
	"database/sql"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// place is one store, which several processes, or one after the other, may open.
type place struct{ dir, url string }

func (p place) open(t testing.TB, change ...func(*session.Config)) *session.Store {
	t.Helper()
	return open(t, p.dir, append([]func(*session.Config){func(c *session.Config) {
		c.URL = deploy.Secret(p.url)
		if p.url != "" {
			c.Key = someKey()
		}
	}}, change...)...)
}

func someKey() []byte { return bytes.Repeat([]byte{9}, 32) }

// homes runs a test on an empty store of each home.
func homes(t *testing.T, test func(t *testing.T, p place)) {
	t.Run("SQLite", func(t *testing.T) { test(t, place{dir: t.TempDir()}) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, place{url: peertest.Postgres(t)}) })
}

// database is a store's database, behind its back.
func database(t testing.TB, s *session.Store) *sql.DB {
	t.Helper()
	db, _, err := s.DB(t.Context())
	must(t, err)
	return db
}

// change is one statement behind the store's back.
func change(t testing.TB, s *session.Store, query string, args ...any) {
	t.Helper()
	_, err := database(t, s).ExecContext(t.Context(), query, args...)
	must(t, err)
}
