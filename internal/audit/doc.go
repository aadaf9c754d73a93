// Package audit is the record of acts: an append-only log in the store's database in
// which a change shows.
//
// Every record is a leaf of a Merkle tree (RFC 6962, by golang.org/x/mod/sumdb/tlog).
// Every append signs the tree's size and root hash in a checkpoint (a signed note, in
// the form of C2SP's tlog-checkpoint). Whoever can write the database can't forge a
// checkpoint; whoever has the key as well can, so checkpoints also leave the machine,
// by Config.Checkpoint, and Verify compares the log with those that did.
//
// What goes into a record, and that no act goes without one, is package deploy's.
package audit
