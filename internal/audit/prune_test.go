package audit_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/audit"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// TestPrune: content goes by rule, hashes stay, and the log verifies.
func TestPrune(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		d := lay(t, p)
		d.cfg.Keep = audit.Retention{Acts: map[string]time.Duration{
			"teardown": 730 * 24 * time.Hour, "freeze": audit.Forever, "expired": time.Hour,
		}}
		d.reopen(t)
		for i, act := range []string{"deploy", "teardown", "freeze", "deploy", "expired", "deploy"} {
			e := event(i)
			e.Act = act
			if i == 5 {
				e.At = begin().Add(20 * 24 * time.Hour)
			}
			if err := d.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		prune := func(after time.Duration, want int) {
			t.Helper()
			d.clock = begin().Add(after)
			if n, err := d.Prune(t.Context()); err != nil || n != want {
				t.Errorf("after %s: %d pruned, %v", after, n, err)
			}
			if r := d.verify(t, d.notes...); !r.OK {
				t.Errorf("after %s: %+v", after, r)
			}
		}
		prune(time.Hour, 0)
		prune(2*time.Hour, 1) // expired
		prune(365*24*time.Hour, 0)
		prune(366*24*time.Hour, 2) // two of deploy
		prune(366*24*time.Hour, 0)
		prune(3*365*24*time.Hour, 2) // the third, and teardown; what tells of prunings stays
		all, err := d.List(t.Context(), audit.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		var kept, told []string
		for _, e := range all {
			switch {
			case e.Body == nil:
				kept = append(kept, "-")
				if e.PrunedAt.IsZero() || e.Event.ActID != "" {
					t.Errorf("%+v", e)
				}
			case e.Event.Act == deploy.NoticePruned:
				told = append(told, e.Event.Data["indexes"])
			default:
				kept = append(kept, e.Event.Act)
			}
		}
		if diff := cmp.Diff([]string{"-", "-", "freeze", "-", "-", "-"}, kept); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"4", "0,3", "1,5"}, told); diff != "" {
			t.Error(diff)
		}
		if r := d.verify(t); r.Pruned != 5 || r.Records != 9 {
			t.Errorf("%+v", r)
		}
		var out bytes.Buffer
		if err := d.Export(t.Context(), audit.Filter{}, &out); err != nil || strings.Count(out.String(), `"pruned_at":"2`) != 5 || strings.Contains(out.String(), "hello-1") {
			t.Errorf("%v %s", err, &out)
		}
		if _, err := d.Prove(t.Context(), 1); !deploy.IsCode(err, deploy.CodeInvalidArgument) || !strings.Contains(err.Error(), "pruned") {
			t.Errorf("%v", err)
		}
		if _, err := d.Prove(t.Context(), 2); err != nil {
			t.Error(err)
		}
	})
}

// TestPruneMany: more than one transaction's worth, and abuse of what is pruned.
func TestPruneMany(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		d := lay(t, p.fresh(t)).fill(t, 30)
		d.clock = begin().Add(365*24*time.Hour + 10*time.Minute)
		if n, err := d.Prune(t.Context()); err != nil || n != 10 {
			t.Fatalf("%d %v", n, err)
		}
		if err := d.Append(t.Context(), event(31)); err != nil {
			t.Fatal(err)
		}
		if r := d.verify(t, d.notes...); !r.OK || r.Pruned != 10 {
			t.Fatalf("%+v", r)
		}
		for name, c := range map[string]struct {
			do   func()
			undo func()
			want finding
		}{
			"one more": {
				func() {
					d.exec(t, "UPDATE audit_records SET body = NULL, at = 0, act = '', pruned_at = (SELECT pruned_at FROM audit_records WHERE idx = 3) WHERE idx = 20")
				}, func() { d.put(t, 20, body(t, 20)) },
				finding{audit.Unpruned, 20},
			},
			"a tombstone's leaf hash": {
				func() { d.exec(t, "UPDATE audit_records SET leaf = $1 WHERE idx = 4", make([]byte, 32)) }, nil,
				finding{audit.Changed, 4},
			},
			"a tombstone removed": {
				func() { d.exec(t, "DELETE FROM audit_records WHERE idx = 6") }, nil,
				finding{audit.Removed, 6},
			},
			"a tombstone filled with something": {
				func() { d.put(t, 8, forged(8)) }, nil,
				finding{audit.Changed, 8},
			},
			"what tells of the pruning removed": {
				func() { d.exec(t, "DELETE FROM audit_records WHERE idx = 30") }, nil,
				finding{audit.Removed, 30},
			},
		} {
			c.do()
			if r := d.verify(t, d.notes...); !has(r, c.want) {
				t.Errorf("%s: %+v", name, r)
			}
			if c.undo != nil {
				c.undo()
			}
		}
	})
}

// body is what record i of a test was written as.
func body(t *testing.T, i int) []byte {
	d := lay(t, sqlitePlace(t))
	if err := d.Append(t.Context(), event(i)); err != nil {
		t.Fatal(err)
	}
	all, err := d.List(t.Context(), audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return all[0].Body
}

// TestPrunedIsGone: the bytes of pruned records are in none of SQLite's files.
func TestPrunedIsGone(t *testing.T) {
	p := sqlitePlace(t)
	d := lay(t, p)
	e := event(0)
	e.Detail = strings.Repeat("the-word-that-must-go ", 400) // over a page
	if err := d.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(strings.Split(p.dsn, "?")[0], "file:")
	holds := func() bool {
		for _, f := range []string{path, path + "-wal"} {
			if b, _ := os.ReadFile(f); bytes.Contains(b, []byte("the-word-that-must-go")) {
				return true
			}
		}
		return false
	}
	if !holds() {
		t.Fatal("the test looks in the wrong place")
	}
	d.clock = begin().Add(2 * 365 * 24 * time.Hour)
	if n, err := d.Prune(t.Context()); err != nil || n != 1 {
		t.Fatalf("%d %v", n, err)
	}
	if holds() {
		t.Error("pruned content is still on the disk")
	}
}

func TestParseRetention(t *testing.T) {
	got, err := audit.ParseRetention([]string{"90d", "deploy=730d", "freeze=forever", "expired=12h"})
	want := audit.Retention{Default: 90 * 24 * time.Hour, Acts: map[string]time.Duration{
		"deploy": 730 * 24 * time.Hour, "freeze": audit.Forever, "expired": 12 * time.Hour,
	}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	for _, bad := range []string{"", "=", "0d", "-1d", "1", "d", "1w", "=1d", "deploy=", "99999999999d", "300000d", "deploy=1d=2d"} {
		if _, err := audit.ParseRetention([]string{bad}); err == nil || !strings.Contains(err.Error(), "90d") {
			t.Errorf("%q was taken: %v", bad, err)
		}
	}
}
