package audit

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Verification says what Verify holds the log against beside itself.
type Verification struct {
	// Key is the public key; empty: that of the log's own signing key.
	Key string
	// Outside are checkpoints that left the machine (FindCheckpoints). Only they show a
	// tail that was cut off together with its checkpoints, and a log that somebody with
	// the key wrote anew.
	Outside [][]byte
}

// Verify computes everything anew from the records and compares it with the leaf
// hashes, the stored hashes, the signed checkpoints, and the outside ones. Its error
// is only of a log that can't be read: what is wrong with it is in the report.
func (l *Log) Verify(ctx context.Context, opt Verification) (*Report, error) {
	key, err := l.verifier(opt.Key)
	if err != nil {
		return nil, err
	}
	v := &verification{key: key, report: &Report{Key: opt.Key, Problems: []Problem{}}}
	if v.report.Key == "" {
		v.report.Key, _ = l.PublicKey()
	}
	if err := l.look(ctx, func(tx *sql.Tx) error { return v.read(ctx, tx) }); err != nil {
		return nil, err
	}
	outside := v.readOutside(opt.Outside)
	v.trust(outside)
	v.compare()
	v.judgeOutside(outside)
	v.prunings()
	v.report.finish()
	return v.report, nil
}

// row is a record without its content.
type row struct {
	idx    int64
	hash   tlog.Hash // of the bytes, or where they were pruned, the kept leaf hash
	leaf   tlog.Hash // as it is kept
	pruned bool
	empty  bool // no bytes, though nothing says that they were pruned
}

// pruning is a record that tells of one.
type pruning struct {
	row     int // in rows
	indexes string
}

type verification struct {
	key    note.Verifier
	report *Report

	size   int64               // of the newest valid checkpoint
	signed map[int64]tlog.Hash // root by size
	stored map[int64]tlog.Hash // by position
	rows   []row               // in the order of their indexes
	prunes []pruning           // candidates: they count where their record is authentic
	leaves []tlog.Hash         // what was signed, by index, as far as known
	known  []bool              // whether leaves holds it for sure
	roots  map[int64]tlog.Hash // by size, those that outside checkpoints ask for
	proven map[int]bool        // rows that are what was signed at their index
}

// read loads the log from one state of the database.
func (v *verification) read(ctx context.Context, tx *sql.Tx) error {
	if err := v.readCheckpoints(ctx, tx); err != nil {
		return err
	}
	v.stored = map[int64]tlog.Hash{}
	err := each(ctx, tx, "SELECT pos, hash FROM audit_hashes ORDER BY pos", func(rows *sql.Rows) error {
		var pos int64
		var raw []byte
		if err := rows.Scan(&pos, &raw); err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		if h, ok := asHash(raw); ok {
			v.stored[pos] = h
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := each(ctx, tx, "SELECT idx, at, act, body, leaf, pruned_at FROM audit_records ORDER BY idx", v.readRow); err != nil {
		return err
	}
	var size int64
	err = tx.QueryRowContext(ctx, "SELECT size FROM audit_state WHERE id = 1").Scan(&size)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("reading: %w", err)
	}
	if err != nil || size != v.size {
		v.report.add(Column, -1, "the log counts %d records, and its newest checkpoint signs %d", size, v.size)
	}
	return nil
}

func (v *verification) readCheckpoints(ctx context.Context, tx *sql.Tx) error {
	v.signed = map[int64]tlog.Hash{}
	err := each(ctx, tx, "SELECT size, note FROM audit_checkpoints ORDER BY size", func(rows *sql.Rows) error {
		var size int64
		var msg []byte
		if err := rows.Scan(&size, &msg); err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		tree, err := openCheckpoint(msg, v.key)
		switch {
		case err != nil:
			v.report.add(Checkpoint, size-1, "the checkpoint of size %d: %v", size, err)
		case tree.N != size:
			v.report.add(Checkpoint, size-1, "the checkpoint of size %d is in the place of the one of size %d", tree.N, size)
			fallthrough // it is signed all the same
		default:
			if had, ok := v.signed[tree.N]; ok && had != tree.Hash {
				v.report.add(Checkpoint, tree.N-1, "there are two signed checkpoints of size %d with different roots: the key signed two logs", tree.N)
			}
			v.signed[tree.N] = tree.Hash
			v.size = max(v.size, tree.N)
			v.report.Checkpoints++
		}
		return nil
	})
	if err != nil {
		return err
	}
	for size := int64(1); size <= v.size; size++ {
		if _, ok := v.signed[size]; !ok && !v.report.has(size-1) {
			v.report.add(Checkpoint, size-1, "the checkpoint of size %d is gone", size)
		}
	}
	v.report.Records = v.size
	if root, ok := v.signed[v.size]; ok {
		v.report.Root = root.String()
	}
	return nil
}

func (v *verification) readRow(rows *sql.Rows) error {
	var r row
	var at, pruned int64
	var act string
	var body, leaf []byte
	if err := rows.Scan(&r.idx, &at, &act, &body, &leaf, &pruned); err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	h, ok := asHash(leaf)
	if !ok {
		v.report.add(Hash, r.idx, "the leaf hash of record %d is none", r.idx)
	}
	r.leaf, r.hash, r.pruned = h, h, body == nil && pruned != 0
	r.empty = body == nil && pruned == 0
	if body != nil {
		r.hash = tlog.RecordHash(body)
		var e deploy.Event
		switch {
		case json.Unmarshal(body, &e) != nil:
			v.report.add(Column, r.idx, "record %d is not readable", r.idx)
		case e.Act != act || e.At.UnixMilli() != at || pruned != 0:
			v.report.add(Column, r.idx, "the time, act or mark of pruning kept beside record %d is not the record's", r.idx)
		}
		if e.Phase == deploy.PhaseNotice && e.Act == deploy.NoticePruned {
			v.prunes = append(v.prunes, pruning{len(v.rows), e.Data["indexes"]})
		}
	}
	v.rows = append(v.rows, r)
	return nil
}

// prunings holds every tombstone against the records that tell of prunings. Such a
// record counts only where it is what was signed, and only for records before it.
func (v *verification) prunings() {
	told := map[int64]bool{}
	for _, p := range v.prunes {
		if !v.proven[p.row] {
			continue
		}
		at := v.rows[p.row].idx
		if parseRanges(p.indexes, func(i int64) {
			if i < at {
				told[i] = true
			}
		}) != nil {
			v.report.add(Column, at, "record %d tells of a pruning, and not of what", at)
		}
	}
	for i, r := range v.rows {
		switch {
		case r.empty:
			v.report.add(Unpruned, r.idx, "the content of record %d is gone, and nothing says that it was pruned", r.idx)
		case r.pruned && !told[r.idx]:
			v.report.add(Unpruned, r.idx, "record %d is marked as pruned, and no record tells of that pruning", r.idx)
		case r.pruned && v.proven[i]:
			v.report.Pruned++
		}
	}
}
