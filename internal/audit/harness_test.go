package audit_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/hourglass-mcp/hourglass/internal/audit"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// place is a database that a log can be in, as another process would open it.
type place struct {
	kind   audit.Dialect
	driver string
	dsn    string
}

func sqlitePlace(t testing.TB) place {
	return place{audit.SQLite, "sqlite", sqliteDSN(filepath.Join(t.TempDir(), "log.db"))}
}

// sqliteDSN has what the store's has.
func sqliteDSN(path string, more ...string) string {
	q := url.Values{"_txlock": {"immediate"}}
	for _, p := range append([]string{"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)", "secure_delete(ON)"}, more...) {
		q.Add("_pragma", p)
	}
	return "file:" + path + "?" + q.Encode()
}

// postgresPlace is a database of its own.
func postgresPlace(t testing.TB) place {
	return place{audit.Postgres, "pgx", peertest.Postgres(t)}
}

// fresh is an empty place of the same kind, for a test that ends neither a process nor
// a disk, and so need not wait for the disk: of PostgreSQL a schema of its own.
func (p place) fresh(t testing.TB) place {
	t.Helper()
	if p.kind == audit.SQLite {
		return place{audit.SQLite, "sqlite", sqliteDSN(filepath.Join(t.TempDir(), "log.db"), "synchronous(OFF)")}
	}
	name := "s_" + strings.ToLower(rand.Text())
	if _, err := p.open(t).ExecContext(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	p.dsn += "&search_path=" + name
	return p
}

func (p place) open(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open(p.driver, p.dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(4)
	t.Cleanup(func() { db.Close() })
	return db
}

// everywhere runs a test on each kind of database.
func everywhere(t *testing.T, f func(t *testing.T, p place)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, sqlitePlace(t)) })
	t.Run("postgres", func(t *testing.T) { f(t, postgresPlace(t)) })
}

// desk is a log with what a test wants to do to it.
type desk struct {
	*audit.Log
	db    *sql.DB
	place place
	cfg   audit.Config
	// notes are the checkpoints that left the machine, by size from 1.
	notes [][]byte
	clock time.Time
}

func begin() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

// lay opens a log in p, with a key of its own.
func lay(t testing.TB, p place) *desk {
	t.Helper()
	d := &desk{place: p, db: p.open(t), clock: begin()}
	d.cfg = audit.Config{
		Database:   func(context.Context) (*sql.DB, audit.Dialect, error) { return d.db, p.kind, nil },
		KeyFile:    filepath.Join(t.TempDir(), "audit.key"),
		Checkpoint: func(note []byte, _ int64) { d.notes = append(d.notes, note) },
		Now:        func() time.Time { return d.clock },
	}
	d.reopen(t)
	return d
}

// reopen is a new process on the same database, which remembers nothing.
func (d *desk) reopen(t testing.TB) {
	t.Helper()
	l, err := audit.New(d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.Log = l
}

// event is the record number i of a test.
func event(i int) deploy.Event {
	e := deploy.Event{
		ActID: fmt.Sprintf("act_%02d", i), Phase: deploy.PhaseDecision, At: begin().Add(time.Duration(i) * time.Minute), Act: string(deploy.ActDeploy),
		Principal: "local", Labels: map[string]string{"team": "web", "n": fmt.Sprint(i % 3)}, SessionID: fmt.Sprintf("s_%d", i%4),
		Worker: fmt.Sprintf("hello-%d", i), Verdict: deploy.Allow, URL: fmt.Sprintf("https://hello-%d.x.workers.dev/", i),
		Rules: []deploy.Reason{{Rule: "default <&>", Verdict: deploy.Allow, Message: "deploying is allowed: 日本\u2028"}},
	}
	if i%2 == 1 {
		e.Phase, e.Outcome, e.Verdict, e.Rules = deploy.PhaseOutcome, "ok", "", nil
	}
	return e
}

// fill appends n records.
func (d *desk) fill(t testing.TB, n int) *desk {
	t.Helper()
	for range n {
		if err := d.Append(t.Context(), event(len(d.notes))); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// exec changes the database behind the log's back.
func (d *desk) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	if _, err := d.db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (d *desk) verify(t testing.TB, outside ...[]byte) *audit.Report {
	t.Helper()
	r, err := d.Verify(t.Context(), audit.Verification{Outside: outside})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMain(m *testing.M) {
	if os.Getenv("AUDIT_TEST_APPEND") != "" {
		os.Exit(appendAsProcess())
	}
	os.Exit(m.Run())
}
