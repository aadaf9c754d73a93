package audit_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hourglass-mcp/hourglass/internal/audit"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

func TestAppendListExport(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		d := lay(t, p)
		if r := d.verify(t); !r.OK || r.Records != 0 {
			t.Errorf("an empty log: %+v", r)
		}
		d.fill(t, 13)
		if r := d.verify(t, d.notes...); !r.OK || r.Records != 13 || r.Checkpoints != 13 || r.Outside != 13 || r.Key == "" {
			t.Errorf("%+v", r)
		}
		for name, c := range map[string]struct {
			f    audit.Filter
			want []int64
		}{
			"all":       {audit.Filter{}, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
			"newest":    {audit.Filter{Newest: true, Limit: 2}, []int64{12, 11}},
			"session":   {audit.Filter{Session: "s_1"}, []int64{1, 5, 9}},
			"label":     {audit.Filter{Label: "n=2", Limit: 2}, []int64{2, 5}},
			"no label":  {audit.Filter{Label: "none=", Limit: 2}, nil},
			"act":       {audit.Filter{ActID: "act_07"}, []int64{7}},
			"outcome":   {audit.Filter{Outcome: "ok", Until: begin().Add(4 * time.Minute)}, []int64{1, 3}},
			"since":     {audit.Filter{Since: begin().Add(11 * time.Minute)}, []int64{11, 12}},
			"url":       {audit.Filter{URL: "HELLO-4.x.workers.dev/path"}, []int64{4}},
			"principal": {audit.Filter{Principal: "somebody"}, nil},
		} {
			got, err := d.List(t.Context(), c.f)
			var at []int64
			for _, e := range got {
				at = append(at, e.Index)
				if diff := cmp.Diff(event(int(e.Index)), e.Event); diff != "" {
					t.Errorf("%s: record %d: %s", name, e.Index, diff)
				}
			}
			if diff := cmp.Diff(c.want, at); err != nil || diff != "" {
				t.Errorf("%s: %v %s", name, err, diff)
			}
		}
		var out bytes.Buffer
		if err := d.Export(t.Context(), audit.Filter{}, &out); err != nil {
			t.Fatal(err)
		}
		checkExport(t, out.Bytes(), 13)
	})
}

// checkExport does what docs/audit.md tells a reader of an export to do: each line
// without its first two members is what the leaf hash is of.
func checkExport(t *testing.T, out []byte, want int) {
	t.Helper()
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if len(lines) != want {
		t.Fatalf("%d lines", len(lines))
	}
	for i, line := range lines {
		var v struct {
			Index    int64     `json:"index"`
			LeafHash tlog.Hash `json:"leaf_hash"`
			deploy.Event
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(line), `","act_id"`)
		if v.Index != int64(i) || tlog.RecordHash([]byte(`{"act_id"`+rest)) != v.LeafHash {
			t.Errorf("%s", line)
		}
		if diff := cmp.Diff(event(i), v.Event); diff != "" {
			t.Error(diff)
		}
	}
}

// TestConcurrentAppends: goroutines of one process, and of another log on the same
// database, at once; checkpoints come in rising size.
func TestConcurrentAppends(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		d := lay(t, p)
		other, err := audit.New(audit.Config{Database: d.cfg.Database, KeyFile: d.cfg.KeyFile})
		if err != nil {
			t.Fatal(err)
		}
		last := int64(0)
		d.cfg.Checkpoint = func(_ []byte, size int64) {
			if size <= last {
				t.Errorf("checkpoint %d after %d", size, last)
			}
			last = size
		}
		d.reopen(t)
		var wg sync.WaitGroup
		for i := range 20 {
			l := d.Log
			if i%2 == 0 {
				l = other
			}
			wg.Go(func() {
				if err := l.Append(t.Context(), event(i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if r := d.verify(t); !r.OK || r.Records != 20 {
			t.Errorf("%+v", r)
		}
	})
}

// TestCancelled: an append that is given up leaves nothing by half.
func TestCancelled(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		d := lay(t, p).fill(t, 3)
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := d.Append(ctx, event(3)); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		d.fill(t, 1)
		if r := d.verify(t, d.notes...); !r.OK || r.Records != 4 {
			t.Errorf("%+v", r)
		}
	})
}

// TestDiskFull: SQLite's own "disk is full", by a bound on the file's pages.
func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	d := lay(t, place{audit.SQLite, "sqlite", sqliteDSN(path, "max_page_count(40)")})
	big := event(0)
	big.Detail = strings.Repeat("x", 3000)
	n := 0
	var err error
	for ; n < 200; n++ {
		if err = d.Append(t.Context(), big); err != nil {
			break
		}
	}
	e := deploy.AsError(err)
	if n == 0 || n == 200 || e.Code != deploy.CodeStore || e.Next == "" || !strings.Contains(e.Message, "full") {
		t.Fatalf("after %d: %v", n, err)
	}
	if r := d.verify(t, d.notes...); !r.OK || r.Records != int64(n) {
		t.Errorf("after %d: %+v", n, r)
	}
	// Room is made, and it goes on.
	wide := lay(t, place{audit.SQLite, "sqlite", sqliteDSN(path)})
	wide.cfg.KeyFile = d.cfg.KeyFile
	wide.reopen(t)
	if err := wide.Append(t.Context(), big); err != nil {
		t.Error(err)
	}
	if r := wide.verify(t, d.notes...); !r.OK || r.Records != int64(n+1) {
		t.Errorf("%+v", r)
	}
}

// TestServerGone: a PostgreSQL that went away is told, and gone on with when it is back.
func TestServerGone(t *testing.T) {
	server := peertest.NewPostgres(t)
	d := lay(t, place{audit.Postgres, "pgx", server.Database(t)}).fill(t, 3)
	server.Stop(t)
	if err := d.Append(t.Context(), event(3)); !deploy.IsCode(err, deploy.CodeStore) || deploy.AsError(err).Next == "" || strings.Contains(err.Error(), server.Dir) || strings.Contains(err.Error(), "user=") {
		t.Errorf("%v", err)
	}
	server.Start(t)
	d.fill(t, 1)
	if r := d.verify(t, d.notes...); !r.OK || r.Records != 4 {
		t.Errorf("%+v", r)
	}
}

func TestKeyFile(t *testing.T) {
	d := lay(t, sqlitePlace(t)).fill(t, 1)
	info, err := os.Stat(d.cfg.KeyFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	private, err := os.ReadFile(d.cfg.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	public, err := d.PublicKey()
	if err != nil || strings.Contains(public, "PRIVATE") || strings.Contains(string(private), public) {
		t.Errorf("%s %v", public, err)
	}
	// A replica is given the key itself.
	d.cfg.KeyFile, d.cfg.Key = "", string(private)
	d.reopen(t)
	d.fill(t, 1)
	if r := d.verify(t, d.notes...); !r.OK || r.Records != 2 {
		t.Errorf("%+v", r)
	}
	for name, bad := range map[string]string{
		"short": "PRIVATE+KEY+x", "public": public, "broken": strings.TrimSpace(string(private))[:60] + "AAAA" + string(private)[64:],
	} {
		if _, err := audit.ParseKey(bad); err == nil || strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	open := filepath.Join(t.TempDir(), "open.key")
	if err := os.WriteFile(open, private, 0o644); err != nil {
		t.Fatal(err)
	}
	d.cfg.Key, d.cfg.KeyFile = "", open
	d.reopen(t)
	if err := d.Append(t.Context(), event(9)); !deploy.IsCode(err, deploy.CodeStore) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
}

// TestDatabaseComesLater: a database that can't be had is told, and asked for again.
func TestDatabaseComesLater(t *testing.T) {
	p := sqlitePlace(t)
	d := lay(t, p)
	away := true
	d.cfg.Database = func(context.Context) (*sql.DB, audit.Dialect, error) {
		if away {
			return nil, "", errors.New("not today")
		}
		return d.db, p.kind, nil
	}
	d.reopen(t)
	if err := d.Append(t.Context(), event(0)); !deploy.IsCode(err, deploy.CodeStore) || deploy.AsError(err).Next == "" {
		t.Errorf("%v", err)
	}
	away = false
	d.fill(t, 1)
	d.exec(t, "UPDATE audit_schema SET version_id = 99 WHERE version_id = 1")
	d.reopen(t)
	if err := d.Append(t.Context(), event(0)); !deploy.IsCode(err, deploy.CodeStore) || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("%v", err)
	}
}

func TestTooLarge(t *testing.T) {
	d := lay(t, sqlitePlace(t))
	e := event(0)
	e.Detail = strings.Repeat("x", 1<<20)
	if err := d.Append(t.Context(), e); !deploy.IsCode(err, deploy.CodeStore) {
		t.Errorf("%v", err)
	}
}

// TestWhoseSession: what an operator did to a session is found by both.
func TestWhoseSession(t *testing.T) {
	d := lay(t, sqlitePlace(t)).fill(t, 3)
	e := event(3)
	e.Principal, e.Labels = "operator:ann", map[string]string{"desk": "4"}
	e.SessionPrincipal, e.SessionLabels = "token:ci", map[string]string{"run_id": "r1"}
	if err := d.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	for _, f := range []audit.Filter{{Principal: "operator:ann"}, {Principal: "token:ci"}, {Label: "desk=4"}, {Label: "run_id=r1"}, {Principal: "token:ci", Label: "desk=4"}} {
		found, err := d.List(t.Context(), f)
		if err != nil || len(found) != 1 || found[0].Event.SessionLabels["run_id"] != "r1" {
			t.Errorf("%+v: %+v, %v", f, found, err)
		}
	}
}
