package session

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// millis and moment keep times as UTC unix milliseconds; the zero time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// clean makes a text that is only kept and shown fit for both homes: PostgreSQL takes
// neither a zero byte nor what is not UTF-8.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// plain tells whether a text that something is found by fits both homes. Such a text
// is never changed: two names must not become one.
func plain(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

func plainArgs(args []any) error {
	for _, a := range args {
		if s, ok := a.(string); ok && !plain(s) {
			return deploy.Errorf(deploy.CodeInvalidArgument, "Give a text of plain UTF-8.", "a name or handle holds a zero byte or is not UTF-8")
		}
	}
	return nil
}

// failed is what a caller is told of a store that can't be read or written.
func (s *Store) failed(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*deploy.Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	sentence, next := s.home.explain(err)
	return &deploy.Error{Code: deploy.CodeStore, Message: "the session store can't be used: " + sentence, Next: next, Cause: err}
}

// told is failed, or the end of the call where that came first: a database has many
// words for it.
func (s *Store) told(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return s.failed(err)
}

// run is one statement that writes, on a database or in a transaction.
func run(ctx context.Context, q querier, query string, args ...any) (int64, error) {
	if err := plainArgs(args); err != nil {
		return 0, err
	}
	res, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("writing: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("writing: %w", err)
	}
	return n, nil
}

// one scans the first row into to; it tells whether there is one.
func one(ctx context.Context, q querier, to []any, query string, args ...any) (bool, error) {
	if err := plainArgs(args); err != nil {
		return false, err
	}
	err := q.QueryRowContext(ctx, query, args...).Scan(to...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading: %w", err)
	}
	return true, nil
}

// exec runs one statement that writes.
func (s *Store) exec(ctx context.Context, query string, args ...any) (int64, error) {
	db, err := s.use(ctx)
	if err != nil {
		return 0, err
	}
	n, err := run(ctx, db, query, args...)
	return n, s.told(ctx, err)
}

// errEnough ends a query early.
var errEnough = errors.New("enough rows")

// query reads every row with scan, or until it says errEnough.
func (s *Store) query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	if err := plainArgs(args); err != nil {
		return err
	}
	db, err := s.use(ctx)
	if err != nil {
		return err
	}
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return s.told(ctx, fmt.Errorf("reading: %w", err))
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	for rows.Next() {
		err := scan(rows)
		if errors.Is(err, errEnough) {
			return nil
		}
		if err != nil {
			return s.told(ctx, fmt.Errorf("reading: %w", err))
		}
	}
	if err := rows.Err(); err != nil {
		return s.told(ctx, fmt.Errorf("reading: %w", err))
	}
	return nil
}

// transact runs f in a transaction, and anew where it failed only because others ran at
// once: f must not mind to be run again.
func (s *Store) transact(ctx context.Context, f func(tx *sql.Tx) error) error {
	db, err := s.use(ctx)
	if err != nil {
		return err
	}
	const most = 10
	for try := 1; ; try++ {
		err = transactOnce(ctx, db, f)
		if err == nil || try == most || !s.home.again(err) {
			return s.told(ctx, err)
		}
	}
}

func transactOnce(ctx context.Context, db *sql.DB, f func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if err = f(tx); err != nil {
		// What undoing says is not worth saying: nothing was kept either way.
		_ = tx.Rollback()
	} else if err = tx.Commit(); err != nil {
		err = fmt.Errorf("writing: %w", err)
	}
	return err
}

// change is a transaction about something named: no two of one name run at once. It is
// told the store's time, as it is when its turn has come.
func (s *Store) change(ctx context.Context, name string, f func(tx *sql.Tx, now int64) error) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		if err := s.home.serialise(ctx, tx, name); err != nil {
			return fmt.Errorf("waiting for a turn: %w", err)
		}
		now, err := s.home.clock(ctx, tx)
		if err != nil {
			return fmt.Errorf("the store's clock: %w", err)
		}
		return f(tx, now)
	})
}

// scrub removes what wiped bytes may still stand in.
func (s *Store) scrub(ctx context.Context) error {
	db, err := s.use(ctx)
	if err != nil {
		return err
	}
	return s.failed(s.home.scrub(ctx, db))
}

func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("writing: %w", err)
	}
	return string(b), nil
}
