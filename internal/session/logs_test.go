package session_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

func saidLine(text string) deploy.LogLine {
	return deploy.LogLine{At: at(1), AccountID: "1", Worker: "hello", VersionID: "v", Kind: deploy.LogConsole, Text: text}
}

// TestLogsAreKept in order, sealed, within bounds that all who share the store share, and
// go with their session.
func TestLogsAreKept(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		s, other, ctx := p.open(t), p.open(t), t.Context()
		must(t, s.SaveSession(ctx, someSession("s_1", "me", 1)))
		wide := deploy.LogBounds{Lines: 100, Bytes: 1 << 20}
		_, err := s.KeepLogs(ctx, "s_none", []deploy.LogLine{saidLine("x")}, wide)
		wantCode(t, err, deploy.CodeSessionNotFound)
		if got, err := s.Logs(ctx, "s_1"); err != nil || len(got) != 0 {
			t.Errorf("%+v %v", got, err)
		}
		first, second := saidLine("the words of a stranger\n\tat index.js\x00"), saidLine("more")
		tally, err := s.KeepLogs(ctx, "s_1", []deploy.LogLine{first}, wide)
		must(t, err)
		if tally.Lines != 1 || tally.Bytes == 0 || tally.Dropped != 0 {
			t.Errorf("%+v", tally)
		}
		_, err = other.KeepLogs(ctx, "s_1", []deploy.LogLine{second}, wide)
		must(t, err)
		got, err := other.Logs(ctx, "s_1")
		must(t, err)
		if diff := cmp.Diff([]deploy.LogLine{first, second}, got); diff != "" {
			t.Error(diff)
		}
		var sealed []byte
		must(t, database(t, s).QueryRowContext(ctx, "SELECT sealed FROM worker_logs ORDER BY seq LIMIT 1").Scan(&sealed))
		if bytes.Contains(sealed, []byte("stranger")) {
			t.Error("the words lie open in the store")
		}
		// A batch in another's place does not open.
		change(t, s, "UPDATE worker_logs SET seq = seq + 10")
		if _, err := s.Logs(ctx, "s_1"); err == nil {
			t.Error("a batch that was moved opens")
		}
		change(t, s, "UPDATE worker_logs SET seq = seq - 10")
		must(t, s.ForgetSession(ctx, "s_1"))
		for _, table := range []string{"worker_logs", "worker_log_tallies", "foreign_changes"} {
			n := 0
			must(t, database(t, s).QueryRowContext(ctx, "SELECT COUNT(*) FROM "+table).Scan(&n))
			if n != 0 {
				t.Errorf("%d rows of a forgotten session in %s", n, table)
			}
		}
	})
}

// TestLogsAreBounded: many who write at once keep no more than fits, and count the rest.
func TestLogsAreBounded(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		ctx := t.Context()
		stores := []*session.Store{p.open(t), p.open(t)}
		must(t, stores[0].SaveSession(ctx, someSession("s_1", "me", 1)))
		var writing sync.WaitGroup
		for i := range 10 {
			writing.Go(func() {
				_, err := stores[i%2].KeepLogs(ctx, "s_1", []deploy.LogLine{saidLine(fmt.Sprint(i, " a")), saidLine(fmt.Sprint(i, " b"))}, deploy.LogBounds{Lines: 7, Bytes: 1 << 20})
				if err != nil {
					t.Error(err)
				}
			})
		}
		writing.Wait()
		tally, err := stores[0].LogTally(ctx, "s_1")
		must(t, err)
		got, err := stores[1].Logs(ctx, "s_1")
		must(t, err)
		if tally.Lines != 7 || tally.Dropped != 13 || len(got) != 7 {
			t.Errorf("%+v, %d lines", tally, len(got))
		}
	})
}

// TestLogsAreForgotten by their own age, before their session; how many there were stays
// known.
func TestLogsAreForgotten(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		now, ctx := at(0), t.Context()
		s := p.open(t, func(c *session.Config) {
			c.Now = func() time.Time { return now }
			c.LogTTL = 24 * time.Hour
		})
		v := someSession("s_1", "me", 1)
		v.UpdatedAt = now
		must(t, s.SaveSession(ctx, v))
		bounds := deploy.LogBounds{Lines: 100, Bytes: 1 << 20}
		_, err := s.KeepLogs(ctx, "s_1", []deploy.LogLine{saidLine("old")}, bounds)
		must(t, err)
		now = now.Add(20 * time.Hour)
		_, err = s.KeepLogs(ctx, "s_1", []deploy.LogLine{saidLine("new")}, bounds)
		must(t, err)
		now = now.Add(5 * time.Hour)
		must(t, s.Prune(ctx, now))
		got, err := s.Logs(ctx, "s_1")
		must(t, err)
		tally, err := s.LogTally(ctx, "s_1")
		must(t, err)
		if len(got) != 1 || got[0].Text != "new" || tally.Lines != 2 {
			t.Errorf("%+v, %+v", got, tally)
		}
		if _, err := s.Session(ctx, "me", "s_1"); err != nil {
			t.Error("the session went with its logs:", err)
		}
	})
}

// TestForeignIsKeptOnce, by what it is of.
func TestForeignIsKeptOnce(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		s, ctx := p.open(t), t.Context()
		must(t, s.SaveSession(ctx, someSession("s_1", "me", 1)))
		worker := deploy.ForeignChange{SessionID: "s_1", Target: "t", AccountID: "1", Worker: "strange", SeenAt: at(1)}
		version := worker
		version.Worker, version.VersionID, version.SeenAt = "hello", "v9", at(2)
		for _, f := range []deploy.ForeignChange{version, worker, worker} {
			must(t, s.SaveForeign(ctx, f))
		}
		later := worker
		later.SeenAt = at(9)
		must(t, s.SaveForeign(ctx, later))
		got, err := s.Foreign(ctx, "s_1")
		must(t, err)
		if diff := cmp.Diff([]deploy.ForeignChange{worker, version}, got); diff != "" {
			t.Error(diff)
		}
		if err := s.SaveForeign(ctx, deploy.ForeignChange{SessionID: "s_none", Worker: strings.Repeat("x", 10)}); err == nil {
			t.Error("kept for a session that is not there")
		}
	})
}
