package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Forever keeps a record for good.
const Forever = time.Duration(math.MaxInt64)

// DefaultKeep is how long records are kept where nothing else is said.
const DefaultKeep = 365 * 24 * time.Hour

// Retention says how long records are kept, from the time in them.
type Retention struct {
	// Default is for every act without a rule of its own; 0: DefaultKeep.
	Default time.Duration
	// Acts are rules for single acts and kinds of notices, by Event.Act.
	Acts map[string]time.Duration
}

// ParseRetention reads rules: "90d" for everything, "deploy=730d" for one act; a number
// and d or h, or "forever".
func ParseRetention(rules []string) (Retention, error) {
	r := Retention{Acts: map[string]time.Duration{}}
	for _, rule := range rules {
		act, text, one := strings.Cut(rule, "=")
		if !one {
			act, text = "", rule
		}
		keep, err := parseKeep(text)
		if err != nil || one && act == "" {
			return r, fmt.Errorf("%q: a rule is how long to keep (90d, 12h, forever), or ACT= and how long", rule)
		}
		if one {
			r.Acts[act] = keep
		} else {
			r.Default = keep
		}
	}
	return r, nil
}

func parseKeep(text string) (time.Duration, error) {
	if text == "forever" {
		return Forever, nil
	}
	unit := time.Hour
	digits, ok := strings.CutSuffix(text, "h")
	if !ok {
		if digits, ok = strings.CutSuffix(text, "d"); !ok {
			return 0, errors.New("no unit")
		}
		unit = 24 * time.Hour
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n < 1 || n > int64(Forever/unit) {
		return 0, errors.New("no number of hours or days")
	}
	return time.Duration(n) * unit, nil
}

// over is the time before which records of an act are pruned; false: never.
func (r Retention) over(act string, now time.Time) (time.Time, bool) {
	keep, ok := r.Acts[act]
	if !ok {
		keep = r.Default
	}
	if keep == 0 {
		keep = DefaultKeep
	}
	// What says that others were pruned is kept for good: without it a tombstone could
	// not be told from a record that somebody destroyed.
	if keep == Forever || act == deploy.NoticePruned {
		return time.Time{}, false
	}
	return now.Add(-keep), true
}

// reach is the newest of all rules' times: nothing younger is pruned.
func (r Retention) reach(now time.Time) time.Time {
	at, some := r.over("", now)
	for act := range r.Acts {
		if t, ok := r.over(act, now); ok && (!some || t.After(at)) {
			at, some = t, true
		}
	}
	return at
}

// pruneBatch bounds what one transaction, and one record of a pruning, covers.
const pruneBatch = 1000

// Prune drops the content of records that were kept long enough and leaves tombstones:
// index, leaf hash, time. The tree stays what it was. Every pruning is a record itself,
// by name of the indexes, so that nobody can pass off destroyed records as pruned. It
// tells how many were pruned.
func (l *Log) Prune(ctx context.Context) (int, error) {
	total := 0
	for {
		n, err := l.pruneSome(ctx)
		total += n
		if err != nil || n < pruneBatch {
			return total, err
		}
	}
}

func (l *Log) pruneSome(ctx context.Context) (int, error) {
	now := l.cfg.Now().UTC().Truncate(time.Millisecond)
	l.appending.Lock()
	defer l.appending.Unlock()
	var pruned []int64
	due := func(w *writer) error {
		var err error
		pruned, err = l.due(ctx, w.tx, now)
		return err
	}
	// Looked at first without the write lock: mostly there is nothing to do.
	if err := l.look(ctx, func(tx *sql.Tx) (err error) { pruned, err = l.due(ctx, tx, now); return err }); err != nil || len(pruned) == 0 {
		return 0, err
	}
	err := l.write(ctx, func(w *writer) error {
		if err := due(w); err != nil || len(pruned) == 0 {
			return err
		}
		for _, i := range pruned {
			_, err := w.tx.ExecContext(ctx, "UPDATE audit_records SET body = NULL, at = 0, act = '', pruned_at = $1 WHERE idx = $2", now.UnixMilli(), i)
			if err != nil {
				return fmt.Errorf("pruning: %w", err)
			}
		}
		e := deploy.Event{
			ActID: deploy.NewID("act"), Phase: deploy.PhaseNotice, At: now, Act: deploy.NoticePruned, Outcome: "ok",
			Detail: fmt.Sprintf("the content of %d records was kept long enough and dropped", len(pruned)),
			Data:   map[string]string{"indexes": formatRanges(pruned)},
		}
		body, err := encode(e)
		if err != nil {
			return err
		}
		return w.add(e, body)
	})
	if err == nil {
		err = l.forgetLog(ctx)
	}
	return len(pruned), err
}

// due lists records to prune, oldest first, at most pruneBatch.
func (l *Log) due(ctx context.Context, tx *sql.Tx, now time.Time) ([]int64, error) {
	var out []int64
	err := each(ctx, tx, "SELECT idx, at, act FROM audit_records WHERE body IS NOT NULL AND at < $1 ORDER BY idx", func(rows *sql.Rows) error {
		var i, at int64
		var act string
		if err := rows.Scan(&i, &at, &act); err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		if over, ok := l.cfg.Keep.over(act, now); ok && at < over.UnixMilli() {
			out = append(out, i)
		}
		if len(out) == pruneBatch {
			return errEnough
		}
		return nil
	}, l.cfg.Keep.reach(now).UnixMilli())
	if errors.Is(err, errEnough) {
		err = nil
	}
	return out, err
}

// forgetLog empties SQLite's write-ahead log, in which dropped bytes would stand on for
// a while. Where a reader keeps it from being cut, the next pruning does it.
func (l *Log) forgetLog(ctx context.Context) error {
	if l.kind != SQLite {
		return nil
	}
	rows, err := l.db.QueryContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	if err != nil {
		return l.failed(fmt.Errorf("emptying the write-ahead log: %w", err))
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	for rows.Next() {  //nolint:revive // one row of counts that nobody needs
	}
	if err := rows.Err(); err != nil {
		return l.failed(fmt.Errorf("emptying the write-ahead log: %w", err))
	}
	return nil
}

// formatRanges writes rising numbers as "0-41,44,50-60".
func formatRanges(all []int64) string {
	var b strings.Builder
	for i := 0; i < len(all); {
		j := i
		for j+1 < len(all) && all[j+1] == all[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(all[i], 10))
		if j > i {
			b.WriteString("-" + strconv.FormatInt(all[j], 10))
		}
		i = j + 1
	}
	return b.String()
}

// parseRanges gives the numbers that formatRanges wrote to f. It refuses what has more
// of them than one pruning covers, and numbers that do not rise.
func parseRanges(text string, f func(int64)) error {
	last, count := int64(-1), int64(0)
	for part := range strings.SplitSeq(text, ",") {
		a, b, two := strings.Cut(part, "-")
		from, err := strconv.ParseInt(a, 10, 64)
		to := from
		if err == nil && two {
			to, err = strconv.ParseInt(b, 10, 64)
		}
		if err != nil || from <= last || to < from || to-from >= pruneBatch || to == math.MaxInt64 {
			return errors.New("not a list of indexes")
		}
		if count += to - from + 1; count > pruneBatch {
			return errors.New("more indexes than one pruning covers")
		}
		for i := from; i <= to; i++ {
			f(i)
		}
		last = to
	}
	return nil
}
