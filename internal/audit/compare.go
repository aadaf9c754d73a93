package audit

import (
	"cmp"
	"slices"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

// compare holds the records that are here against the leaves that were signed.
func (v *verification) compare() {
	v.proven = map[int]bool{}
	if v.straight() {
		return
	}
	v.align()
}

// straight compares one by one, where every index is here once; it tells whether
// nothing was found.
func (v *verification) straight() bool {
	if int64(len(v.rows)) != v.size {
		return false
	}
	for i, r := range v.rows {
		if r.idx != int64(i) || v.known[i] && r.hash != v.leaves[i] {
			return false
		}
	}
	for i := range v.rows {
		v.settle(i, int64(i))
	}
	return true
}

// settle is for a row at its place: it is what was signed, as far as that is known.
func (v *verification) settle(i int, at int64) {
	r := v.rows[i]
	if !v.known[at] {
		if r.hash != r.leaf && !v.report.has(at) {
			v.report.add(Changed, r.idx, "record %d is not what its leaf hash is of", r.idx)
		}
		return
	}
	v.proven[i] = r.idx == at
	if r.leaf != r.hash {
		v.report.add(Hash, r.idx, "the leaf hash beside record %d is not the record's", r.idx)
	}
}

// align walks both sequences and says at every difference what it is: a record that
// nobody signed, one that is gone, one that was changed in its place, or one that was
// signed with another index.
func (v *verification) align() {
	signedAt, here := map[tlog.Hash]int64{}, map[tlog.Hash]bool{}
	for j, h := range slices.Backward(v.leaves) {
		signedAt[h] = int64(j)
	}
	for _, r := range v.rows {
		here[r.hash] = true
	}
	i, j := 0, int64(0)
	shifted := int64(-1)
	for i < len(v.rows) && j < v.size {
		r := v.rows[i]
		p, signed := signedAt[r.hash]
		present := here[v.leaves[j]]
		switch {
		case r.hash == v.leaves[j] || !v.known[j] && r.idx == j:
			if r.idx != j && shifted < 0 {
				shifted = r.idx
				v.report.add(Reordered, r.idx, "record %d was signed as record %d, and so on from here", r.idx, j)
			}
			v.settle(i, j)
			i, j = i+1, j+1
		case !signed && present, signed && p < j && i+1 < len(v.rows) && v.rows[i+1].hash == v.leaves[j]:
			v.report.add(Inserted, r.idx, "record %d was never signed: it was put in", r.idx)
			i++
		case !signed && r.idx <= j:
			v.report.add(Changed, r.idx, "record %d is not the one that was signed: it was changed", r.idx)
			i, j = i+1, j+1
		case !signed || !present:
			v.report.add(Removed, j, "record %d is gone", j)
			j++
		default:
			v.report.add(Reordered, r.idx, "record %d holds what was signed as record %d", r.idx, p)
			i, j = i+1, j+1
		}
	}
	for ; i < len(v.rows); i++ {
		v.report.add(Inserted, v.rows[i].idx, "record %d is covered by no signed checkpoint", v.rows[i].idx)
	}
	if j < v.size {
		v.report.add(Truncated, j, "the log's end is gone: its checkpoints sign %d records, and %s not here", v.size, span(j, v.size))
	}
}

// span words a range of records.
func span(from, to int64) string {
	if to-from == 1 {
		return "record " + strconv.FormatInt(from, 10) + " is"
	}
	return "records " + strconv.FormatInt(from, 10) + " to " + strconv.FormatInt(to-1, 10) + " are"
}

// readOutside checks the signatures of outside checkpoints and sorts them by size.
func (v *verification) readOutside(notes [][]byte) []tlog.Tree {
	var out []tlog.Tree
	for i, msg := range notes {
		tree, err := openCheckpoint(msg, v.key)
		if err != nil {
			v.report.add(Checkpoint, -1, "outside checkpoint %d of %d: %v", i+1, len(notes), err)
			continue
		}
		out = append(out, tree)
	}
	slices.SortFunc(out, func(a, b tlog.Tree) int { return cmp.Compare(a.N, b.N) })
	v.report.Outside = len(out)
	return out
}

// judgeOutside holds the log against checkpoints that left the machine. The first that
// does not fit bounds where the log was written anew.
func (v *verification) judgeOutside(outside []tlog.Tree) {
	fits := int64(0)
	for _, t := range outside {
		switch {
		case t.N > v.size:
			v.report.add(Truncated, v.size, "an outside checkpoint attests %d records, and the log's own go to %d: %s gone", t.N, v.size, span(v.size, t.N))
			return
		case t.N == 0 || v.roots[t.N] == t.Hash:
			fits = t.N
		case v.roots[t.N] == tlog.Hash{}:
			// The tree could not be followed up to there, and that was told.
		default:
			v.report.add(Rewritten, fits, "an outside checkpoint of size %d attests other records than the log's: one from %d to %d is not what it was, and the log was signed anew by somebody with the key",
				t.N, fits, t.N-1)
			return
		}
	}
}
