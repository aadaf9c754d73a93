package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/audit"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// recordBatch is how many records one round appends.
const recordBatch = 200

// record measures an append to the record of acts on SQLite, where the store keeps it,
// beside what any durable write costs there: one row in a transaction of its own. Then
// verifying it all.
func record(ctx context.Context, rounds int) error {
	dir, err := os.MkdirTemp("", "hourglass-bench-record-")
	if err != nil {
		return fmt.Errorf("a folder: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	store, err := session.Open(ctx, session.Config{Dir: dir})
	if err != nil {
		return err
	}
	log, err := audit.New(audit.Config{
		Database: func(ctx context.Context) (*sql.DB, audit.Dialect, error) {
			db, kind, err := store.DB(ctx)
			return db, audit.Dialect(kind), err
		},
		KeyFile: filepath.Join(dir, "audit.key"),
	})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	return errors.Join(recordRounds(ctx, rounds, store, log), store.Close())
}

func recordRounds(ctx context.Context, rounds int, store *session.Store, log *audit.Log) error {
	db, _, err := store.DB(ctx)
	if err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, "CREATE TABLE bench_rows (id INTEGER PRIMARY KEY, body BLOB)"); err != nil {
		return fmt.Errorf("a table: %w", err)
	}
	body := make([]byte, 700) // a record's size
	var bare, appends, verify []float64
	for round := range rounds + 1 { // the first is a warm-up
		a, err := each(recordBatch, func() error {
			_, err := db.ExecContext(ctx, "INSERT INTO bench_rows (body) VALUES ($1)", body)
			return err
		})
		if err != nil {
			return err
		}
		b, err := each(recordBatch, func() error { return log.Append(ctx, sampleEvent()) })
		if err != nil {
			return err
		}
		var report *audit.Report
		c, err := each(1, func() (err error) { report, err = log.Verify(ctx, audit.Verification{}); return err })
		if err != nil {
			return err
		}
		if !report.OK || report.Records != int64((round+1)*recordBatch) {
			return fmt.Errorf("the log does not verify: %+v", report)
		}
		if round > 0 {
			bare, appends, verify = append(bare, a), append(appends, b), append(verify, c/float64(report.Records))
		}
	}
	fmt.Printf("\n| the record of acts, median | one | beside a bare durable row |\n|---|---:|---:|\n"+
		"| a bare durable row on SQLite | %.2f ms | 1 |\n| a record appended and signed | %.2f ms | %.1f× |\n| a record verified | %.3f ms | %.2f× |\n",
		median(bare), median(appends), median(appends)/median(bare), median(verify), median(verify)/median(bare))
	return nil
}

// each runs f n times and gives the mean in milliseconds.
func each(n int, f func() error) (float64, error) {
	began := time.Now()
	for range n {
		if err := f(); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(began).Microseconds()) / 1000 / float64(n), nil
}

// sampleEvent is a decision as a deployment of an agent has it.
func sampleEvent() deploy.Event {
	return deploy.Event{
		ActID: deploy.NewID("act"), Phase: deploy.PhaseDecision, At: time.Now(), Act: string(deploy.ActDeploy), Principal: "local",
		Labels: map[string]string{"team": "web", "run_id": "1234567890"}, ClaimedLabels: map[string]string{"run_id": "7"}, Client: "bench", Door: "stdio",
		Target: "https://api.cloudflare.com/client/v4", SessionID: deploy.NewID("s"), AccountID: "0123456789abcdef0123456789abcdef",
		Worker: "hello", BundleID: "b_0123456789abcdef0123456789abcdef", Digest: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		Verdict: deploy.Allow, Rules: []deploy.Reason{{Rule: "default", Verdict: deploy.Allow, Message: "deploying is allowed"}},
	}
}
