package audit_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hourglass-mcp/hourglass/internal/audit"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// size is how many records the tampered logs have: no power of two, so that the tree
// has a ragged edge.
const size = 21

// finding is what a report must have.
type finding struct {
	kind  audit.ProblemKind
	index int64
}

// forged is the body of a record that nobody signed.
func forged(i int) []byte {
	e := event(i)
	e.Principal = "nobody"
	b, _ := json.Marshal(e)
	return b
}

// swap exchanges what stands at two indexes.
func (d *desk) swap(t testing.TB, table, column string, a, b int) {
	d.exec(t, fmt.Sprintf("UPDATE %s SET %s = -%s - 1 WHERE %s = $1", table, column, column, column), a)
	d.exec(t, fmt.Sprintf("UPDATE %s SET %s = $1 WHERE %s = $2", table, column, column), a, b)
	d.exec(t, fmt.Sprintf("UPDATE %s SET %s = $1 WHERE %s < 0", table, column, column), b)
}

// put writes a record with its leaf hash, over whatever is there.
func (d *desk) put(t testing.TB, i int, body []byte) {
	var e deploy.Event
	if err := json.Unmarshal(body, &e); err != nil {
		t.Fatal(err)
	}
	leaf := tlog.RecordHash(body)
	d.exec(t, "DELETE FROM audit_records WHERE idx = $1", i)
	d.exec(t, "INSERT INTO audit_records (idx, at, act, body, leaf) VALUES ($1, $2, $3, $4, $5)", i, e.At.UnixMilli(), e.Act, body, leaf[:])
}

// shift moves all records from an index on by one, up or down.
func (d *desk) shift(t testing.TB, from, by int) {
	d.exec(t, "UPDATE audit_records SET idx = -idx - 1 WHERE idx >= $1", from)
	d.exec(t, "UPDATE audit_records SET idx = -idx - 1 + $1 WHERE idx < 0", by)
}

// rehash makes leaf hashes, stored hashes and count agree with the records that are
// there: all that somebody can do who has the database and not the key.
func (d *desk) rehash(t testing.TB) []tlog.Tree {
	t.Helper()
	all, err := d.List(t.Context(), audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	d.exec(t, "DELETE FROM audit_hashes")
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, p := range at {
			out[i] = stored[p]
		}
		return out, nil
	})
	var trees []tlog.Tree
	for i, e := range all {
		leaf := e.Leaf
		if e.Body != nil {
			leaf = tlog.RecordHash(e.Body)
		}
		hashes, err := tlog.StoredHashesForRecordHash(int64(i), leaf, reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hashes {
			d.exec(t, "INSERT INTO audit_hashes (pos, hash) VALUES ($1, $2)", len(stored), h[:])
			stored = append(stored, h)
		}
		d.exec(t, "UPDATE audit_records SET leaf = $1 WHERE idx = $2", leaf[:], e.Index)
		root, err := tlog.TreeHash(int64(i+1), reader)
		if err != nil {
			t.Fatal(err)
		}
		trees = append(trees, tlog.Tree{N: int64(i + 1), Hash: root})
	}
	d.exec(t, "UPDATE audit_state SET size = $1", len(all))
	return trees
}

// resign writes every checkpoint anew with a key, as who has that key can.
func (d *desk) resign(t testing.TB, private string) {
	t.Helper()
	trees := d.rehash(t)
	signer, err := note.NewSigner(strings.TrimSpace(private))
	if err != nil {
		t.Fatal(err)
	}
	d.exec(t, "DELETE FROM audit_checkpoints")
	for _, tree := range trees {
		msg, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", signer.Name(), tree.N, tree.Hash)}, signer)
		if err != nil {
			t.Fatal(err)
		}
		d.exec(t, "INSERT INTO audit_checkpoints (size, note) VALUES ($1, $2)", tree.N, msg)
	}
}

// truncate cuts everything off from an index on, also the hashes and checkpoints.
func (d *desk) truncate(t testing.TB, from int64) {
	d.exec(t, "DELETE FROM audit_records WHERE idx >= $1", from)
	d.exec(t, "DELETE FROM audit_hashes WHERE pos >= $1", tlog.StoredHashCount(from))
	d.exec(t, "DELETE FROM audit_checkpoints WHERE size > $1", from)
	d.exec(t, "UPDATE audit_state SET size = $1", from)
}

func (d *desk) private(t testing.TB) string {
	b, err := os.ReadFile(d.cfg.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// tamperings are what is done to a log, and what must be found.
func tamperings() []struct {
	name string
	do   func(t *testing.T, d *desk)
	// outside: only a checkpoint that left the machine shows it.
	outside bool
	want    []finding
} {
	type T = *testing.T
	return []struct {
		name    string
		do      func(t *testing.T, d *desk)
		outside bool
		want    []finding
	}{
		{"a record's bytes", func(t T, d *desk) { d.exec(t, "UPDATE audit_records SET body = $1 WHERE idx = 7", forged(7)) }, false, []finding{{audit.Changed, 7}}},
		{"one byte of a record", func(t T, d *desk) {
			all, err := d.List(t.Context(), audit.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			d.exec(t, "UPDATE audit_records SET body = $1 WHERE idx = 12", bytes.Replace(all[12].Body, []byte("local"), []byte("locaI"), 1))
		}, false, []finding{{audit.Changed, 12}}},
		{"a record with its leaf hash", func(t T, d *desk) { d.put(t, 20, forged(20)) }, false, []finding{{audit.Changed, 20}}},
		{"a record with its leaf hash and its stored leaf", func(t T, d *desk) {
			d.put(t, 8, forged(8))
			h := tlog.RecordHash(forged(8))
			d.exec(t, "UPDATE audit_hashes SET hash = $1 WHERE pos = $2", h[:], tlog.StoredHashIndex(0, 8))
		}, false, []finding{{audit.Changed, 8}}},
		{"a record and all hashes", func(t T, d *desk) { d.put(t, 5, forged(5)); d.rehash(t) }, false, []finding{{audit.Changed, 5}}},
		{"a record, all hashes, and its checkpoint dropped", func(t T, d *desk) {
			d.put(t, 5, forged(5))
			d.rehash(t)
			d.exec(t, "DELETE FROM audit_checkpoints WHERE size = 6")
		}, false, []finding{{audit.Changed, 5}, {audit.Checkpoint, 5}}},
		{"two records", func(t T, d *desk) { d.put(t, 2, forged(2)); d.put(t, 15, forged(15)) }, false, []finding{{audit.Changed, 2}, {audit.Changed, 15}}},
		{"a leaf hash", func(t T, d *desk) { d.exec(t, "UPDATE audit_records SET leaf = $1 WHERE idx = 3", make([]byte, 32)) }, false, []finding{{audit.Hash, 3}}},
		{"a leaf hash that is none", func(t T, d *desk) { d.exec(t, "UPDATE audit_records SET leaf = $1 WHERE idx = 3", []byte("x")) }, false, []finding{{audit.Hash, 3}}},
		{"a stored hash inside the tree", func(t T, d *desk) {
			d.exec(t, "UPDATE audit_hashes SET hash = $1 WHERE pos = $2", make([]byte, 32), tlog.StoredHashIndex(2, 1))
		}, false, []finding{{audit.Hash, 7}}},
		{"a stored hash gone", func(t T, d *desk) { d.exec(t, "DELETE FROM audit_hashes WHERE pos = $1", tlog.StoredHashIndex(0, 9)) }, false, []finding{{audit.Hash, 9}}},
		{"the time beside a record", func(t T, d *desk) { d.exec(t, "UPDATE audit_records SET at = 1 WHERE idx = 4") }, false, []finding{{audit.Column, 4}}},
		{"a record removed", func(t T, d *desk) { d.exec(t, "DELETE FROM audit_records WHERE idx = 6") }, false, []finding{{audit.Removed, 6}}},
		{"a record removed and the rest moved up", func(t T, d *desk) {
			d.exec(t, "DELETE FROM audit_records WHERE idx = 6")
			d.shift(t, 7, -1)
		}, false, []finding{{audit.Removed, 6}}},
		{"a record removed, the rest moved up, all hashes", func(t T, d *desk) {
			d.exec(t, "DELETE FROM audit_records WHERE idx = 6")
			d.shift(t, 7, -1)
			d.rehash(t)
		}, false, []finding{{audit.Changed, 6}}},
		{"the first record removed", func(t T, d *desk) { d.exec(t, "DELETE FROM audit_records WHERE idx = 0") }, false, []finding{{audit.Removed, 0}}},
		{"three records removed", func(t T, d *desk) { d.exec(t, "DELETE FROM audit_records WHERE idx IN (3, 4, 11)") }, false, []finding{{audit.Removed, 3}, {audit.Removed, 4}, {audit.Removed, 11}}},
		{"a record put in", func(t T, d *desk) { d.shift(t, 10, 1); d.put(t, 10, forged(10)) }, false, []finding{{audit.Inserted, 10}}},
		{"a record put in twice", func(t T, d *desk) {
			all, err := d.List(t.Context(), audit.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			d.shift(t, 10, 1)
			d.put(t, 10, all[4].Body)
		}, false, []finding{{audit.Inserted, 10}}},
		{"a record put in, all hashes", func(t T, d *desk) { d.shift(t, 10, 1); d.put(t, 10, forged(10)); d.rehash(t) }, false, []finding{{audit.Changed, 10}, {audit.Inserted, size}}},
		{"a record put at the end", func(t T, d *desk) { d.put(t, size, forged(size)); d.rehash(t) }, false, []finding{{audit.Inserted, size}}},
		{"two records exchanged", func(t T, d *desk) { d.swap(t, "audit_records", "idx", 3, 14) }, false, []finding{{audit.Reordered, 3}, {audit.Reordered, 14}}},
		{"two neighbours exchanged", func(t T, d *desk) { d.swap(t, "audit_records", "idx", 3, 4) }, false, []finding{{audit.Reordered, 3}, {audit.Reordered, 4}}},
		{"two records exchanged, all hashes", func(t T, d *desk) { d.swap(t, "audit_records", "idx", 3, 14); d.rehash(t) }, false, []finding{{audit.Changed, 3}}},
		{"the end of the records", func(t T, d *desk) { d.exec(t, "DELETE FROM audit_records WHERE idx >= 17") }, false, []finding{{audit.Truncated, 17}}},
		{"the end, with hashes, without its checkpoints", func(t T, d *desk) {
			d.exec(t, "DELETE FROM audit_records WHERE idx >= 17")
			d.rehash(t)
		}, false, []finding{{audit.Changed, 17}, {audit.Truncated, 17}}},
		{"the end with everything", func(t T, d *desk) { d.truncate(t, 17) }, true, []finding{{audit.Truncated, 17}}},
		{"the whole log", func(t T, d *desk) { d.truncate(t, 0) }, true, []finding{{audit.Truncated, 0}}},
		{"a checkpoint gone", func(t T, d *desk) { d.exec(t, "DELETE FROM audit_checkpoints WHERE size = 9") }, false, []finding{{audit.Checkpoint, 8}}},
		{"two checkpoints exchanged", func(t T, d *desk) { d.swap(t, "audit_checkpoints", "size", 9, 10) }, false, []finding{{audit.Checkpoint, 8}, {audit.Checkpoint, 9}}},
		{"a checkpoint's text", func(t T, d *desk) {
			d.exec(t, "UPDATE audit_checkpoints SET note = $1 WHERE size = 9", bytes.Replace(d.notes[8], []byte("\n9\n"), []byte("\n8\n"), 1))
		}, false, []finding{{audit.Checkpoint, 8}}},
		{"a checkpoint in another's place", func(t T, d *desk) {
			d.exec(t, "UPDATE audit_checkpoints SET note = $1 WHERE size = 9", d.notes[4])
		}, false, []finding{{audit.Checkpoint, 8}}},
		{"the count", func(t T, d *desk) { d.exec(t, "UPDATE audit_state SET size = 4") }, false, []finding{{audit.Column, -1}}},
		{"signed anew with another key", func(t T, d *desk) {
			d.put(t, 5, forged(5))
			other, _, err := note.GenerateKey(strings.NewReader(strings.Repeat("seed", 16)), "hourglass-audit/other")
			if err != nil {
				t.Fatal(err)
			}
			d.resign(t, other)
		}, false, []finding{{audit.Checkpoint, 0}, {audit.Checkpoint, size - 1}, {audit.Inserted, 0}}},
		{"signed anew with the log's own key", func(t T, d *desk) { d.put(t, 5, forged(5)); d.resign(t, d.private(t)) }, true, []finding{{audit.Rewritten, 5}}},
		{"shortened and signed anew with the log's own key", func(t T, d *desk) {
			d.exec(t, "DELETE FROM audit_records WHERE idx = 11")
			d.shift(t, 12, -1)
			d.resign(t, d.private(t))
		}, true, []finding{{audit.Rewritten, 11}}},
		{"content gone", func(t T, d *desk) { d.exec(t, "UPDATE audit_records SET body = NULL WHERE idx = 13") }, false, []finding{{audit.Unpruned, 13}}},
		{"content gone, marked as pruned", func(t T, d *desk) {
			d.exec(t, "UPDATE audit_records SET body = NULL, at = 0, act = '', pruned_at = 1700000000000 WHERE idx = 13")
		}, false, []finding{{audit.Unpruned, 13}}},
		{"content gone, with a made-up record of the pruning", func(t T, d *desk) {
			d.exec(t, "UPDATE audit_records SET body = NULL, at = 0, act = '', pruned_at = 1700000000000 WHERE idx = 13")
			e := event(14)
			e.Phase, e.Act, e.Data = deploy.PhaseNotice, deploy.NoticePruned, map[string]string{"indexes": "13"}
			b, _ := json.Marshal(e)
			d.put(t, 14, b)
		}, false, []finding{{audit.Unpruned, 13}, {audit.Changed, 14}}},
		{"a record that says nothing", func(t T, d *desk) { d.exec(t, "UPDATE audit_records SET body = $1 WHERE idx = 2", []byte("nonsense")) }, false, []finding{{audit.Changed, 2}}},
	}
}

// TestTampering: what is done to the database behind the log's back is found, and named.
func TestTampering(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		for _, c := range tamperings() {
			t.Run(c.name, func(t *testing.T) {
				d := lay(t, p.fresh(t)).fill(t, size)
				c.do(t, d)
				d.reopen(t)
				inside, all := d.verify(t), d.verify(t, d.notes...)
				if inside.OK != c.outside {
					t.Errorf("without checkpoints from outside: %+v", inside)
				}
				if all.OK {
					t.Errorf("with checkpoints from outside it is not found: %+v", all)
				}
				for _, want := range c.want {
					if !has(all, want) {
						t.Errorf("%s of record %d is not told: %+v", want.kind, want.index, all.Problems)
					}
				}
				for _, p := range all.Problems {
					if p.Index >= 0 && !strings.Contains(p.Detail, fmt.Sprint(p.Index)) && p.Kind != audit.Checkpoint && p.Kind != audit.Hash {
						t.Errorf("the sentence does not name %d: %s", p.Index, p.Detail)
					}
				}
			})
		}
	})
}

func has(r *audit.Report, f finding) bool {
	for _, p := range r.Problems {
		if p.Kind == f.kind && p.Index == f.index {
			return true
		}
	}
	return false
}

// TestNoActOnATamperedLog: what an append can see of a tampering it refuses to go on
// after: nothing is signed over it.
func TestNoActOnATamperedLog(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		for name, do := range map[string]func(d *desk){
			"the end":                func(d *desk) { d.truncate(t, 17) },
			"the whole log":          func(d *desk) { d.truncate(t, 0) },
			"signed anew":            func(d *desk) { d.put(t, 5, forged(5)); d.resign(t, d.private(t)) },
			"a checkpoint":           func(d *desk) { d.exec(t, "DELETE FROM audit_checkpoints WHERE size = $1", size) },
			"all checkpoints":        func(d *desk) { d.exec(t, "DELETE FROM audit_checkpoints") },
			"a record at the end":    func(d *desk) { d.put(t, size, forged(size)); d.rehash(t) },
			"the newest record":      func(d *desk) { d.put(t, size-1, forged(1)); d.rehash(t) },
			"the newest stored hash": func(d *desk) { d.exec(t, "DELETE FROM audit_hashes WHERE pos = $1", tlog.StoredHashIndex(0, size-1)) },
			"the state":              func(d *desk) { d.exec(t, "DELETE FROM audit_state") },
		} {
			d := lay(t, p.fresh(t)).fill(t, size)
			do(d)
			err := d.Append(t.Context(), event(size))
			if e := deploy.AsError(err); e.Code != deploy.CodeStore || !strings.Contains(e.Next, "audit verify") {
				t.Errorf("%s: %v", name, err)
			}
			if len(d.notes) != size {
				t.Errorf("%s: a checkpoint was signed over it", name)
			}
		}
	})
}

// TestAnotherKey: a log that was begun under one key is not gone on with under another.
func TestAnotherKey(t *testing.T) {
	d := lay(t, sqlitePlace(t)).fill(t, 3)
	d.cfg.KeyFile = filepath.Join(t.TempDir(), "audit.key")
	d.reopen(t)
	if err := d.Append(t.Context(), event(3)); !deploy.IsCode(err, deploy.CodeStore) || !strings.Contains(err.Error(), "not signed with this server's audit key") {
		t.Errorf("%v", err)
	}
	if r := d.verify(t); r.OK {
		t.Error("another log's checkpoints were taken")
	}
}

// TestOutsideCheckpoints: those of another log, and broken ones, are told apart, and
// a kept log file gives its checkpoints.
func TestOutsideCheckpoints(t *testing.T) {
	d, other := lay(t, sqlitePlace(t)).fill(t, 5), lay(t, sqlitePlace(t)).fill(t, 5)
	for name, bad := range map[string][]byte{"foreign": other.notes[2], "broken": []byte("no note"), "empty": nil} {
		if r := d.verify(t, bad); r.OK || r.Problems[0].Kind != audit.Checkpoint {
			t.Errorf("%s: %+v", name, r)
		}
	}
	var log bytes.Buffer
	log.WriteString("{\"level\":\"info\",\"message\":\"other\"}\nplain text\n")
	for i, n := range d.notes {
		b, _ := json.Marshal(map[string]any{"level": "info", "size": i + 1, "checkpoint": string(n)})
		log.Write(append(b, '\n'))
	}
	found := audit.FindCheckpoints(log.Bytes())
	if r := d.verify(t, found...); len(found) != 5 || !r.OK || r.Outside != 5 {
		t.Errorf("%d found: %+v", len(found), r)
	}
	if found = audit.FindCheckpoints(d.notes[3]); len(found) != 1 || !d.verify(t, found...).OK {
		t.Errorf("a note itself: %q", found)
	}
	if found = audit.FindCheckpoints([]byte("nothing here")); len(found) != 0 {
		t.Errorf("%q", found)
	}
	// Somebody outside has the public key alone.
	public, err := d.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	outsider, err := audit.New(audit.Config{
		Database: func(context.Context) (*sql.DB, audit.Dialect, error) { return d.db, d.place.kind, nil }, KeyFile: filepath.Join(t.TempDir(), "none", "key"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := outsider.Verify(t.Context(), audit.Verification{Key: public}); err != nil || !r.OK || r.Records != 5 {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := outsider.Verify(t.Context(), audit.Verification{Key: "nonsense"}); err == nil {
		t.Error("a key that is none was taken")
	}
}
