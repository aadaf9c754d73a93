package audit

import (
	"errors"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// frontier is a Merkle tree's right edge: the roots of its complete subtrees, the
// largest first. It grows by leaves and gives the root at every size.
type frontier struct {
	size  int64
	roots []tlog.Hash
}

// push appends a leaf and gives every hash that this completes to f, with its position
// among stored hashes.
func (f *frontier) push(leaf tlog.Hash, g func(pos int64, h tlog.Hash)) {
	n := f.size
	pos := tlog.StoredHashIndex(0, n)
	g(pos, leaf)
	f.roots = append(f.roots, leaf)
	for ; n&1 == 1; n >>= 1 {
		last := len(f.roots) - 1
		f.roots[last-1] = tlog.NodeHash(f.roots[last-1], f.roots[last])
		f.roots = f.roots[:last]
		pos++
		g(pos, f.roots[last-1])
	}
	f.size++
}

// with gives the root of the tree with one more leaf.
func (f *frontier) with(leaf tlog.Hash) tlog.Hash {
	h := leaf
	for _, left := range slices.Backward(f.roots) {
		h = tlog.NodeHash(left, h)
	}
	return h
}

// trust finds out which leaf was signed at every index. Three copies of it may be left
// (the stored hash, the leaf hash beside the record, the hash of its bytes): the one
// that gives the root that the next checkpoint signs is the right one. Where none
// does, the tree can't be followed from there on, until the stored hashes give a
// signed root again.
func (v *verification) trust(outside []tlog.Tree) {
	v.leaves, v.known = make([]tlog.Hash, v.size), make([]bool, v.size)
	v.roots = map[int64]tlog.Hash{}
	for _, t := range outside {
		v.roots[t.N] = tlog.Hash{}
	}
	byIndex := map[int64]*row{}
	for i := range v.rows {
		byIndex[v.rows[i].idx] = &v.rows[i]
	}
	var f frontier
	// Since open, checkpoints are missing, and the next one decides over all leaves since;
	// since lost, the tree can't be followed.
	open, lost := int64(-1), int64(-1)
	for n := range v.size {
		root, signed := v.signed[n+1]
		leaf, sure := v.pick(&f, byIndex[n], n, root, signed)
		if open < 0 {
			open = n
		}
		if !sure && lost < 0 {
			lost = open
			clear(v.known[lost:n])
		}
		sure = sure && lost < 0
		if sure && signed {
			open = -1
		}
		v.leaves[n], v.known[n] = leaf, sure
		f.push(leaf, func(pos int64, h tlog.Hash) {
			if sure {
				v.checkStored(pos, h, n)
			}
		})
		if lost >= 0 && signed && v.resync(&f, n+1, root) {
			v.tellLost(lost, n+1, true)
			open, lost = -1, -1
		}
		if _, asked := v.roots[n+1]; asked && lost < 0 {
			v.roots[n+1] = f.rootNow()
		}
	}
	if lost >= 0 {
		v.tellLost(lost, v.size, false)
	}
	for pos := range v.stored {
		if pos >= tlog.StoredHashCount(v.size) {
			v.report.add(Hash, -1, "the stored hash %d belongs to no signed record", pos)
		}
	}
}

// pick chooses the leaf at index n and tells whether it is the signed one for sure.
func (v *verification) pick(f *frontier, r *row, n int64, root tlog.Hash, signed bool) (tlog.Hash, bool) {
	var copies []tlog.Hash
	if h, ok := v.stored[tlog.StoredHashIndex(0, n)]; ok {
		copies = append(copies, h)
	}
	if r != nil {
		copies = append(copies, r.leaf, r.hash)
	}
	if len(copies) == 0 {
		return tlog.Hash{}, false
	}
	if !signed {
		// Its own checkpoint is gone, which was told: the next one decides.
		return copies[0], true
	}
	for _, h := range copies {
		if f.with(h) == root {
			return h, true
		}
	}
	return copies[0], false
}

// resync takes the right edge from the stored hashes, if they give the signed root.
func (v *verification) resync(f *frontier, size int64, root tlog.Hash) bool {
	var edge []tlog.Hash
	got, err := tlog.TreeHash(size, tlog.HashReaderFunc(func(positions []int64) ([]tlog.Hash, error) {
		edge = make([]tlog.Hash, len(positions))
		for i, p := range positions {
			h, ok := v.stored[p]
			if !ok {
				return nil, errors.New("gone")
			}
			edge[i] = h
		}
		return edge, nil
	}))
	if err != nil || got != root {
		return false
	}
	f.roots = append(f.roots[:0], edge...)
	return true
}

// tellLost names the record at which the tree could not be followed any more.
func (v *verification) tellLost(from, to int64, found bool) {
	what := "no later checkpoint fits the records that are here"
	if found {
		what = "the stored hashes fit again from there on"
	}
	if to-from <= 1 {
		v.report.add(Changed, from, "record %d is not the one that was signed: neither it nor its stored hashes give the root of checkpoint %d", from, from+1)
		return
	}
	v.report.add(Changed, from, "record %d is not the one that was signed: neither it nor its stored hashes give the root of checkpoint %d. Records %d to %d can't be told one by one; %s",
		from, from+1, from+1, to-1, what)
}

// checkStored compares a computed hash with the stored one.
func (v *verification) checkStored(pos int64, h tlog.Hash, n int64) {
	had, ok := v.stored[pos]
	if ok && had == h {
		return
	}
	what := "is not what the records give"
	if !ok {
		what = "is gone"
	}
	level, m := tlog.SplitStoredHashIndex(pos)
	v.report.add(Hash, n, "the stored hash %d (level %d, number %d) %s", pos, level, m, what)
}

// rootNow is the root of the tree as it is.
func (f *frontier) rootNow() tlog.Hash {
	if len(f.roots) == 0 {
		h, _ := tlog.TreeHash(0, nil)
		return h
	}
	h := f.roots[len(f.roots)-1]
	for i := len(f.roots) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.roots[i], h)
	}
	return h
}
