package audit

import (
	"fmt"
	"slices"
)

// ProblemKind says in a word what was done to the log.
type ProblemKind string

// What Verify can find.
const (
	Changed    ProblemKind = "changed"    // a record is not the one that was signed
	Removed    ProblemKind = "removed"    // a record that was signed is gone
	Inserted   ProblemKind = "inserted"   // a record that nobody signed
	Reordered  ProblemKind = "reordered"  // a record that was signed with another index
	Truncated  ProblemKind = "truncated"  // the log's end is gone
	Rewritten  ProblemKind = "rewritten"  // signed, and not what an outside checkpoint attests
	Unpruned   ProblemKind = "destroyed"  // content is gone that no pruning took
	Hash       ProblemKind = "hash"       // a stored hash is not what it must be
	Checkpoint ProblemKind = "checkpoint" // a checkpoint is gone, false, or not this key's
	Column     ProblemKind = "column"     // what is kept beside a record differs from it
)

// Problem is one finding.
type Problem struct {
	Kind ProblemKind `json:"kind"`
	// Index is the record's, from 0; -1 where it is none's.
	Index  int64  `json:"index"`
	Detail string `json:"detail"`
}

// maxProblems bounds a report: a rewritten log has one for every record.
const maxProblems = 200

// Report is what Verify saw.
type Report struct {
	OK bool `json:"ok"`
	// Records is the size that the newest valid checkpoint signs, Root its root hash.
	Records int64  `json:"records"`
	Root    string `json:"root,omitempty"`
	// Pruned counts records whose content was dropped by rule: their hashes verify.
	Pruned      int64  `json:"pruned"`
	Checkpoints int64  `json:"checkpoints"`
	Outside     int    `json:"outside_checkpoints"`
	Key         string `json:"key"`
	// Problems are at most 200, by index; More counts those that were not kept.
	Problems []Problem `json:"problems"`
	More     int       `json:"more_problems,omitempty"`
}

func (r *Report) add(kind ProblemKind, index int64, format string, args ...any) {
	if len(r.Problems) >= maxProblems {
		r.More++
		return
	}
	r.Problems = append(r.Problems, Problem{kind, index, fmt.Sprintf(format, args...)})
}

// has tells whether a record has a finding already.
func (r *Report) has(index int64) bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Index == index && p.Kind != Column })
}

func (r *Report) finish() {
	r.OK = len(r.Problems) == 0
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		switch {
		case a.Index < b.Index:
			return -1
		case a.Index > b.Index:
			return 1
		}
		return 0
	})
}
