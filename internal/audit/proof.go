package audit

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// ProofFormat is the first member of a proof file.
const ProofFormat = "hourglass-audit-proof/1"

// Proof is a record with everything that somebody who has only the public key needs to
// see that it was signed: its path to the root, and the checkpoint that signs the root.
type Proof struct {
	Format string `json:"format"`
	Index  int64  `json:"index"`
	// Record is the record itself; only white space between its tokens may change.
	Record json.RawMessage `json:"record"`
	// Path are the hashes of the siblings on the way to the root, from the leaf up.
	Path tlog.RecordProof `json:"path"`
	// Checkpoint is the signed note.
	Checkpoint string `json:"checkpoint"`
}

// Prove makes the proof of one record, under the newest checkpoint. The proof is checked
// before it is given.
func (l *Log) Prove(ctx context.Context, index int64) (*Proof, error) {
	public, err := l.PublicKey()
	if err != nil {
		return nil, err
	}
	p := &Proof{Format: ProofFormat, Index: index}
	err = l.look(ctx, func(tx *sql.Tx) error {
		var size int64
		var msg, body []byte
		err := tx.QueryRowContext(ctx, "SELECT size, note FROM audit_checkpoints ORDER BY size DESC LIMIT 1").Scan(&size, &msg)
		if errors.Is(err, sql.ErrNoRows) || err == nil && (index < 0 || index >= size) {
			return refuse(fmt.Sprintf("The log has %d records, counted from 0; `mcp-server audit list` shows them.", size), "there is no record %d", index)
		}
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		err = tx.QueryRowContext(ctx, "SELECT body FROM audit_records WHERE idx = $1", index).Scan(&body)
		if errors.Is(err, sql.ErrNoRows) {
			return tampered("record %d is gone", index)
		}
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		if body == nil {
			return refuse("Its hash is still part of the tree: `mcp-server audit verify` covers it.", "the content of record %d was pruned, so there is nothing to prove", index)
		}
		p.Record, p.Checkpoint = body, string(msg)
		p.Path, err = tlog.ProveRecord(size, index, tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) { return readHashes(ctx, tx, at) }))
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := p.check(public); err != nil {
		return nil, tampered("the proof of record %d does not hold (%v)", index, err)
	}
	return p, nil
}

// refuse is an error of a caller who asked for what can't be.
func refuse(next, format string, args ...any) *deploy.Error {
	return &deploy.Error{Code: deploy.CodeInvalidArgument, Message: fmt.Sprintf(format, args...), Next: next}
}

// Encode writes the proof as a file, for people to read as well.
func (p *Proof) Encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("writing a proof: %w", err)
	}
	return b.Bytes(), nil
}

// Proven is what a proof that holds shows.
type Proven struct {
	Index int64 `json:"index"`
	// Size is the number of records that the checkpoint signs.
	Size   int64           `json:"size"`
	Record json.RawMessage `json:"record"`
	Event  deploy.Event    `json:"-"`
}

// maxProof bounds a proof file in bytes.
const maxProof = 2*maxRecord + 64<<10

// CheckProof checks a proof file with the public key alone. What it gives is only what
// the checkpoint signs.
func CheckProof(file []byte, public string) (*Proven, error) {
	if len(file) > maxProof {
		return nil, refuse("Give the file that `mcp-server audit prove` wrote.", "this is no proof file: it has %d bytes", len(file))
	}
	var p Proof
	dec := json.NewDecoder(bytes.NewReader(file))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil || p.Format != ProofFormat || dec.More() {
		return nil, refuse("Give the file that `mcp-server audit prove` wrote.", "this is no proof file of the form %s", ProofFormat)
	}
	proven, err := p.check(public)
	if err != nil {
		return nil, refuse("Somebody changed the record, the proof or the checkpoint, or the key is another log's.", "the proof does not hold: %v", err)
	}
	return proven, nil
}

func (p *Proof) check(public string) (*Proven, error) {
	key, err := parsePublic(public)
	if err != nil {
		return nil, err
	}
	tree, err := openCheckpoint([]byte(p.Checkpoint), key)
	if err != nil {
		return nil, fmt.Errorf("the checkpoint: %w", err)
	}
	var body bytes.Buffer
	if err := json.Compact(&body, p.Record); err != nil {
		return nil, errors.New("the record is not JSON")
	}
	if len(p.Path) > 64 || tlog.CheckRecord(p.Path, tree.N, tree.Hash, p.Index, tlog.RecordHash(body.Bytes())) != nil {
		return nil, fmt.Errorf("the checkpoint's tree of %d records has another record %d", tree.N, p.Index)
	}
	out := &Proven{Index: p.Index, Size: tree.N, Record: body.Bytes()}
	if err := json.Unmarshal(body.Bytes(), &out.Event); err != nil {
		return nil, errors.New("the record is not one of this server")
	}
	return out, nil
}
