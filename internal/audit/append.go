package audit

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// maxRecord bounds one record, in bytes of its JSON.
const maxRecord = 1 << 20

// encode gives the bytes of a record: what is hashed, kept, exported and proven.
func encode(e deploy.Event) ([]byte, error) {
	e.At, e.ExpiresAt = e.At.UTC(), e.ExpiresAt.UTC()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("writing a record: %w", err)
	}
	body := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if len(body) > maxRecord {
		return nil, fmt.Errorf("the record of one act has %d bytes, over the %d that are kept", len(body), maxRecord)
	}
	return body, nil
}

// Append implements deploy.Record. It refuses to go on where the log is not as its
// newest checkpoint, or this process, left it.
func (l *Log) Append(ctx context.Context, e deploy.Event) error {
	if e.At.IsZero() {
		e.At = l.cfg.Now()
	}
	body, err := encode(e)
	if err != nil {
		return l.failed(err)
	}
	l.appending.Lock()
	defer l.appending.Unlock()
	return l.write(ctx, func(w *writer) error {
		return w.add(e, body)
	})
}

// write runs f as the log's only writer, and makes what it added durable with one
// checkpoint for each record. The caller holds appending.
func (l *Log) write(ctx context.Context, f func(*writer) error) error {
	db, err := l.use(ctx)
	if err != nil {
		return err
	}
	key, err := l.signer()
	if err != nil {
		return err
	}
	var level *sql.TxOptions
	if l.kind == Postgres {
		level = &sql.TxOptions{Isolation: sql.LevelReadCommitted} // begin relies on it
	}
	tx, err := db.BeginTx(ctx, level)
	if err != nil {
		return l.failed(fmt.Errorf("writing: %w", err))
	}
	w := &writer{ctx: ctx, tx: tx, key: key, seen: l.seen, near: map[int64]tlog.Hash{}}
	err = w.begin(l.kind)
	if err == nil {
		err = f(w)
	}
	if err == nil {
		err = w.end()
	}
	if err != nil {
		if back := tx.Rollback(); back != nil && !errors.Is(back, sql.ErrTxDone) {
			err = errors.Join(err, back)
		}
		return l.failed(err)
	}
	if err := tx.Commit(); err != nil {
		return l.failed(fmt.Errorf("writing: %w", err))
	}
	l.seen = w.tree
	for _, c := range w.signed {
		l.cfg.Checkpoint(c.note, c.size)
	}
	return nil
}

// writer is one transaction of the only writer.
type writer struct {
	ctx    context.Context //nolint:containedctx // it lives as long as its transaction
	tx     *sql.Tx
	key    *Key
	seen   tlog.Tree
	tree   tlog.Tree // as it is now
	near   map[int64]tlog.Hash
	signed []signedTree
}

type signedTree struct {
	size int64
	note []byte
}

// begin waits for its turn and checks what it finds. The first statement is a write, on
// one row: it takes SQLite's write lock, or PostgreSQL's lock of the row, until the
// transaction's end, so that all processes and replicas append one after the other.
func (w *writer) begin(kind Dialect) error {
	if kind == Postgres {
		// Whatever the server's default is: a record is on the disk when Append returns.
		if _, err := w.tx.ExecContext(w.ctx, "SET LOCAL synchronous_commit = on"); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
	}
	err := w.tx.QueryRowContext(w.ctx, "UPDATE audit_state SET size = size WHERE id = 1 RETURNING size").Scan(&w.tree.N)
	if errors.Is(err, sql.ErrNoRows) {
		return tampered("its state is gone")
	}
	if err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if w.tree.N < w.seen.N {
		return tampered("it has %d records, and had %d", w.tree.N, w.seen.N)
	}
	if w.tree.Hash, err = tlog.TreeHash(w.tree.N, w); err != nil {
		return err
	}
	if w.seen.N > 0 {
		before, err := tlog.TreeHash(w.seen.N, w)
		if err != nil {
			return err
		}
		if before != w.seen.Hash {
			return tampered("its first %d records are not those that this process saw", w.seen.N)
		}
	}
	return w.checkLast()
}

// checkLast holds the log against its newest checkpoint.
func (w *writer) checkLast() error {
	var size int64
	var msg []byte
	err := w.tx.QueryRowContext(w.ctx, "SELECT size, note FROM audit_checkpoints ORDER BY size DESC LIMIT 1").Scan(&size, &msg)
	if errors.Is(err, sql.ErrNoRows) {
		if w.tree.N != 0 {
			return tampered("it has %d records and no checkpoint", w.tree.N)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	public, err := parsePublic(w.key.Public())
	if err != nil {
		return err
	}
	last, err := openCheckpoint(msg, public)
	switch {
	case errors.Is(err, errNotSigned):
		return tampered("its newest checkpoint is not signed with this server's audit key; if the key was replaced, give the old one back (audit.key, or HOURGLASS_AUDIT_KEY)")
	case err != nil:
		return tampered("its newest checkpoint can't be read")
	case last.N != w.tree.N || size != last.N:
		return tampered("its newest checkpoint is for %d records, and it counts %d", last.N, w.tree.N)
	case last.Hash != w.tree.Hash:
		return tampered("its hashes are not those that its newest checkpoint signs")
	}
	return nil
}

// add appends one record.
func (w *writer) add(e deploy.Event, body []byte) error {
	n := w.tree.N
	leaf := tlog.RecordHash(body)
	hashes, err := tlog.StoredHashesForRecordHash(n, leaf, w)
	if err != nil {
		return err
	}
	_, err = w.tx.ExecContext(w.ctx, "INSERT INTO audit_records (idx, at, act, body, leaf, pruned_at) VALUES ($1, $2, $3, $4, $5, 0)",
		n, e.At.UnixMilli(), e.Act, body, leaf[:])
	if err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	first := tlog.StoredHashIndex(0, n)
	for i, h := range hashes {
		if _, err := w.tx.ExecContext(w.ctx, "INSERT INTO audit_hashes (pos, hash) VALUES ($1, $2)", first+int64(i), h[:]); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		w.near[first+int64(i)] = h
	}
	root, err := tlog.TreeHash(n+1, w)
	if err != nil {
		return err
	}
	w.tree = tlog.Tree{N: n + 1, Hash: root}
	msg, err := sign(w.key, w.tree)
	if err != nil {
		return err
	}
	if _, err := w.tx.ExecContext(w.ctx, "INSERT INTO audit_checkpoints (size, note) VALUES ($1, $2)", w.tree.N, msg); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	w.signed = append(w.signed, signedTree{w.tree.N, msg})
	return nil
}

func (w *writer) end() error {
	if _, err := w.tx.ExecContext(w.ctx, "UPDATE audit_state SET size = $1 WHERE id = 1", w.tree.N); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

// ReadHashes implements tlog.HashReader. The hashes near the tree's right edge are
// wanted up to three times by one append, and read once.
func (w *writer) ReadHashes(positions []int64) ([]tlog.Hash, error) {
	var missing []int64
	for _, p := range positions {
		if _, ok := w.near[p]; !ok {
			missing = append(missing, p)
		}
	}
	read, err := readHashes(w.ctx, w.tx, missing)
	if err != nil {
		return nil, err
	}
	for i, p := range missing {
		w.near[p] = read[i]
	}
	out := make([]tlog.Hash, len(positions))
	for i, p := range positions {
		out[i] = w.near[p]
	}
	return out, nil
}

// readHashes reads stored hashes, in the order that is asked for.
func readHashes(ctx context.Context, tx *sql.Tx, positions []int64) ([]tlog.Hash, error) {
	if len(positions) == 0 {
		return nil, nil
	}
	args := make([]any, len(positions))
	marks := make([]string, len(positions))
	for i, p := range positions {
		args[i], marks[i] = p, fmt.Sprintf("$%d", i+1)
	}
	rows, err := tx.QueryContext(ctx, "SELECT pos, hash FROM audit_hashes WHERE pos IN ("+strings.Join(marks, ", ")+")", args...) //nolint:gosec // marks are ours
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	found := map[int64]tlog.Hash{}
	for rows.Next() {
		var p int64
		var raw []byte
		if err := rows.Scan(&p, &raw); err != nil {
			return nil, fmt.Errorf("reading: %w", err)
		}
		h, ok := asHash(raw)
		if !ok {
			return nil, tampered("the stored hash %d is none", p)
		}
		found[p] = h
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	out := make([]tlog.Hash, len(positions))
	for i, p := range positions {
		h, ok := found[p]
		if !ok {
			return nil, tampered("the stored hash %d is gone", p)
		}
		out[i] = h
	}
	return out, nil
}

func asHash(raw []byte) (tlog.Hash, bool) {
	if len(raw) != tlog.HashSize {
		return tlog.Hash{}, false
	}
	return tlog.Hash(raw), true
}
