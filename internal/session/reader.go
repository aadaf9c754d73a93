package session

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
)

// reader is what short reads of a store go through where they are many. In a folder it
// has connections of its own, on which nothing is ever written: a writer that waits for
// the database's one write lock holds none of them, and the text of a query is parsed once
// a connection, which costs more than to run it.
type reader struct {
	db *sql.DB

	mu    sync.Mutex
	texts map[string]*sql.Stmt
	kept  kept
}

func newReader(db *sql.DB) *reader { return &reader{db: db, texts: map[string]*sql.Stmt{}} }

// statement is the prepared query.
func (r *reader) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if st := r.texts[query]; st != nil {
		return st, nil
	}
	st, err := r.db.PrepareContext(ctx, query) //nolint:sqlclosecheck // it is used as long as the reader
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	r.texts[query] = st
	return st, nil
}

func (r *reader) close() error {
	if r == nil {
		return nil
	}
	r.kept.mu.Lock()
	r.kept.drop()
	r.kept.mu.Unlock()
	return r.db.Close() // its statements end with it
}

// read is query for a short read that is done often.
func (s *Store) read(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	if _, err := s.use(ctx); err != nil {
		return err
	}
	if s.reads == nil { // the server keeps what it parsed by itself
		return s.query(ctx, scan, query, args...)
	}
	if err := plainArgs(args); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// It waits for no lock and takes microseconds: to watch its context would cost more.
	ctx = context.WithoutCancel(ctx)
	st, err := s.reads.statement(ctx, query) //nolint:sqlclosecheck // the same
	if err != nil {
		return s.told(ctx, err)
	}
	rows, err := st.QueryContext(ctx, args...)
	if err != nil {
		return s.told(ctx, fmt.Errorf("reading: %w", err))
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	for rows.Next() {
		if err := scan(rows); err != nil {
			return s.told(ctx, fmt.Errorf("reading: %w", err))
		}
	}
	if err := rows.Err(); err != nil {
		return s.told(ctx, fmt.Errorf("reading: %w", err))
	}
	return nil
}
