package audit

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Entry is one record as it is kept.
type Entry struct {
	Index int64
	// Event is the content; zero where it was pruned.
	Event deploy.Event
	// Body are the bytes that were hashed; nil where they were pruned.
	Body     []byte
	Leaf     tlog.Hash
	PrunedAt time.Time
}

// Filter narrows a reading of the log. Empty members narrow nothing; records whose
// content was pruned match only the empty filter.
type Filter struct {
	// Principal is who acted, or whose session it is.
	Principal, Session, Act, Outcome, ActID string
	// Worker, Digest and URL find what something on the web belongs to. A URL matches by
	// its host.
	Worker, Digest, URL string
	// Label is "key=value" of a trusted label, of who acted or of the session.
	Label string
	// Since is the first moment, Until the first that is not any more.
	Since, Until time.Time
	// Newest turns the order round.
	Newest bool
	// Limit is the most records that are given; 0: all.
	Limit int
}

// narrow tells whether the filter leaves anything out but by Limit.
func (f Filter) narrow() bool {
	f.Newest, f.Limit = false, 0
	return f != Filter{}
}

func (f Filter) match(e *deploy.Event) bool {
	for _, p := range [][2]string{
		{f.Session, e.SessionID},
		{f.Act, e.Act},
		{f.Outcome, e.Outcome},
		{f.ActID, e.ActID},
		{f.Worker, e.Worker},
		{f.Digest, e.Digest},
		{host(f.URL), host(e.URL)},
	} {
		if p[0] != "" && p[0] != p[1] {
			return false
		}
	}
	if f.Principal != "" && f.Principal != e.Principal && f.Principal != e.SessionPrincipal {
		return false
	}
	if f.Label != "" && !labelled(e.Labels, f.Label) && !labelled(e.SessionLabels, f.Label) {
		return false
	}
	return (f.Since.IsZero() || !e.At.Before(f.Since)) && (f.Until.IsZero() || e.At.Before(f.Until))
}

// labelled tells whether labels have one, "key=value".
func labelled(labels map[string]string, label string) bool {
	k, v, _ := strings.Cut(label, "=")
	had, ok := labels[k]
	return ok && had == v
}

// host is the host of a URL, which may be given without its scheme.
func host(u string) string {
	if _, rest, ok := strings.Cut(u, "://"); ok {
		u = rest
	}
	u, _, _ = strings.Cut(u, "/")
	return strings.ToLower(u)
}

// errEnough ends a reading early.
var errEnough = errors.New("enough")

// Each gives every record that matches to f, in order, from one state of the log. It
// ends with f's error.
func (l *Log) Each(ctx context.Context, filter Filter, f func(*Entry) error) error {
	var theirs error
	given := 0
	err := l.look(ctx, func(tx *sql.Tx) error {
		err := eachEntry(ctx, tx, filter.Newest, func(e *Entry) error {
			if filter.narrow() && (e.Body == nil || !filter.match(&e.Event)) {
				return nil
			}
			if theirs = f(e); theirs != nil {
				return errEnough
			}
			if given++; given == filter.Limit {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
	return errors.Join(theirs, err)
}

// List gives the records that match.
func (l *Log) List(ctx context.Context, filter Filter) ([]Entry, error) {
	out := []Entry{}
	err := l.Each(ctx, filter, func(e *Entry) error {
		out = append(out, *e)
		return nil
	})
	return out, err
}

// look runs f in a transaction that only reads, on one state of the log, and keeps no
// writer waiting.
func (l *Log) look(ctx context.Context, f func(*sql.Tx) error) error {
	db, err := l.use(ctx)
	if err != nil {
		return err
	}
	opts := &sql.TxOptions{ReadOnly: true}
	if l.kind == Postgres {
		opts.Isolation = sql.LevelRepeatableRead
	}
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return l.failed(fmt.Errorf("reading: %w", err))
	}
	defer tx.Rollback() //nolint:errcheck // it only read
	if err := f(tx); err != nil {
		return l.failed(err)
	}
	return nil
}

func eachEntry(ctx context.Context, tx *sql.Tx, newest bool, f func(*Entry) error) error {
	order := "ASC"
	if newest {
		order = "DESC"
	}
	return each(ctx, tx, "SELECT idx, body, leaf, pruned_at FROM audit_records ORDER BY idx "+order, func(rows *sql.Rows) error {
		var e Entry
		var leaf []byte
		var pruned int64
		if err := rows.Scan(&e.Index, &e.Body, &leaf, &pruned); err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		e.Leaf, _ = asHash(leaf) // Verify tells of one that is none
		if pruned != 0 {
			e.PrunedAt = time.UnixMilli(pruned).UTC()
		}
		if e.Body != nil && json.Unmarshal(e.Body, &e.Event) != nil {
			e.Event = deploy.Event{} // Verify tells
		}
		return f(&e)
	})
}

// each runs a query and gives every row to f.
func each(ctx context.Context, tx *sql.Tx, query string, f func(*sql.Rows) error, args ...any) error {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	return nil
}

// Line is a record in the form of the export: the record's own bytes, with its index and
// leaf hash as two further members in front. Without these two it is, byte for byte,
// what the leaf hash is of.
func (e *Entry) Line() []byte {
	head := fmt.Appendf(nil, `{"index":%d,"leaf_hash":%q`, e.Index, e.Leaf.String())
	if e.Body == nil {
		return fmt.Appendf(head, `,"pruned_at":%q}`, e.PrunedAt.Format(time.RFC3339Nano))
	}
	if len(e.Body) < 3 || e.Body[0] != '{' || bytes.ContainsAny(e.Body, "\r\n") || !json.Valid(e.Body) {
		return append(head, '}') // no record of ours: Verify tells
	}
	return append(append(head, ','), e.Body[1:]...)
}

// Export writes the records that match as JSON Lines.
func (l *Log) Export(ctx context.Context, filter Filter, w io.Writer) error {
	return l.Each(ctx, filter, func(e *Entry) error {
		if _, err := w.Write(append(e.Line(), '\n')); err != nil {
			return fmt.Errorf("writing the export: %w", err)
		}
		return nil
	})
}
