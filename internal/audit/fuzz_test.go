package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hourglass-mcp/hourglass/internal/audit"
)

// fixedKey is the same in every process of a fuzzing, as what it finds must mean the
// same.
func fixedKey(t testing.TB) string {
	t.Helper()
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize)
	public, err := note.NewEd25519VerifierKey("hourglass-audit/fixed", ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return "PRIVATE+KEY+" + public[:strings.LastIndex(public, "+")+1] + base64.StdEncoding.EncodeToString(append([]byte{1}, seed...))
}

// layFixed is lay with that key.
func layFixed(f *testing.F) *desk {
	d := lay(f, place{audit.SQLite, "sqlite", sqliteDSN(filepath.Join(f.TempDir(), "log.db"), "synchronous(OFF)")})
	d.cfg.Key = fixedKey(f)
	d.reopen(f)
	return d
}

// FuzzCheckProof: whatever the file is, only a record that was signed, at its index, is
// ever called proven.
func FuzzCheckProof(f *testing.F) {
	d := layFixed(f).fill(f, 7)
	key, err := d.PublicKey()
	if err != nil {
		f.Fatal(err)
	}
	all, err := d.List(f.Context(), audit.Filter{})
	if err != nil {
		f.Fatal(err)
	}
	for i := range int64(7) {
		p, err := d.Prove(f.Context(), i)
		if err != nil {
			f.Fatal(err)
		}
		file, _ := p.Encode()
		f.Add(file)
	}
	f.Add([]byte(`{"format":"hourglass-audit-proof/1","index":0,"record":{},"path":[],"checkpoint":"` + string(bytes.ReplaceAll(d.notes[0], []byte("\n"), []byte(`\n`))) + `"}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := audit.CheckProof(file, key)
		if err != nil {
			return
		}
		if got.Index < 0 || got.Index >= 7 || !bytes.Equal(got.Record, all[got.Index].Body) {
			t.Errorf("record %d of %d is called proven: %s", got.Index, got.Size, got.Record)
		}
	})
}

// FuzzCheckpoint: only what the key signed is a checkpoint.
func FuzzCheckpoint(f *testing.F) {
	d := layFixed(f).fill(f, 3)
	key, err := d.PublicKey()
	if err != nil {
		f.Fatal(err)
	}
	var trees []tlog.Tree
	for _, n := range d.notes {
		f.Add(n)
		b, _ := json.Marshal(map[string]string{"checkpoint": string(n)})
		f.Add(b)
		tree, err := audit.OpenCheckpoint(n, key)
		if err != nil {
			f.Fatal(err)
		}
		trees = append(trees, tree)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		for _, n := range append(audit.FindCheckpoints(file), file) {
			if tree, err := audit.OpenCheckpoint(n, key); err == nil && !slices.Contains(trees, tree) {
				t.Errorf("%+v was taken from %q", tree, n)
			}
		}
	})
}

// FuzzRanges: what is read rises and is bounded, and is written the same way again.
func FuzzRanges(f *testing.F) {
	for _, s := range []string{"0", "9223372036854775806", "0-3,5", "1,2,3", "5-1", "", ",", "0-99999999999", "9223372036854775807", "-1", "1-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var all []int64
		if audit.ParseRanges(s, func(i int64) { all = append(all, i) }) != nil {
			return
		}
		var again []int64
		if err := audit.ParseRanges(audit.FormatRanges(all), func(i int64) { again = append(again, i) }); err != nil || !slices.Equal(all, again) || !slices.IsSorted(all) || len(all) > 1000 {
			t.Errorf("%q: %v, then %v %v", s, all, again, err)
		}
	})
}

// FuzzTamper: any byte of any value in the log's tables, changed, is found.
func FuzzTamper(f *testing.F) {
	type cell struct{ table, key, column string }
	cells := []cell{
		{"audit_records", "idx", "body"},
		{"audit_records", "idx", "leaf"},
		{"audit_hashes", "pos", "hash"},
		{"audit_checkpoints", "size", "note"},
	}
	d := layFixed(f).fill(f, 13)
	for i := range cells {
		f.Add(uint8(i), uint8(i), uint16(5), uint8(1), []byte{})
		f.Add(uint8(i), uint8(0), uint16(0), uint8(0), []byte("{}"))
	}
	f.Fuzz(func(t *testing.T, which, row uint8, at uint16, flip uint8, whole []byte) {
		c := cells[int(which)%len(cells)]
		var n int
		if err := d.db.QueryRow("SELECT COUNT(*) FROM " + c.table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		var id int64
		var value []byte
		query := fmt.Sprintf("SELECT %s, %s FROM %s ORDER BY %s LIMIT 1 OFFSET $1", c.key, c.column, c.table, c.key)
		if err := d.db.QueryRow(query, int(row)%n).Scan(&id, &value); err != nil {
			t.Fatal(err)
		}
		changed := slices.Clone(value)
		if len(whole) > 0 {
			changed = whole
		} else if flip != 0 {
			changed[int(at)%len(changed)] ^= flip
		}
		set := fmt.Sprintf("UPDATE %s SET %s = $1 WHERE %s = $2", c.table, c.column, c.key)
		d.exec(t, set, changed, id)
		defer d.exec(t, set, value, id)
		if r := d.verify(t); r.OK != bytes.Equal(changed, value) {
			t.Errorf("%s.%s of %d: %q for %q: %+v", c.table, c.column, id, changed, value, r)
		}
	})
}
