package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// sign makes the checkpoint of a tree: three lines (origin, size, root hash in base64)
// and the signature, which is C2SP's tlog-checkpoint.
func sign(key *Key, tree tlog.Tree) ([]byte, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", key.signer.Name(), tree.N, tree.Hash)
	b, err := note.Sign(&note.Note{Text: text}, key.signer)
	if err != nil {
		return nil, fmt.Errorf("signing a checkpoint: %w", err)
	}
	return b, nil
}

var (
	errNotSigned = errors.New("it is not signed with the log's key")
	errNoNote    = errors.New("it is not a signed checkpoint")
)

// openCheckpoint checks a checkpoint's signature and reads it.
func openCheckpoint(msg []byte, key note.Verifier) (tlog.Tree, error) {
	n, err := note.Open(msg, note.VerifierList(key))
	if _, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		return tlog.Tree{}, errNotSigned
	}
	if _, ok := errors.AsType[*note.InvalidSignatureError](err); ok {
		return tlog.Tree{}, errNotSigned
	}
	if err != nil {
		return tlog.Tree{}, errNoNote
	}
	// What follows the third line is for extensions, of which we have none.
	lines := strings.SplitN(n.Text, "\n", 4)
	if len(lines) < 4 || lines[0] != key.Name() {
		return tlog.Tree{}, errNoNote
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return tlog.Tree{}, errNoNote
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return tlog.Tree{}, errNoNote
	}
	return tlog.Tree{N: size, Hash: root}, nil
}

// FindCheckpoints takes checkpoints out of a file: the file is one itself, or its lines
// are JSON objects, of which those with a "checkpoint" count. That is what this server
// logs and sends, so that its kept log can be given as it is.
func FindCheckpoints(file []byte) [][]byte {
	if bytes.Contains(file, []byte("\n\n\u2014 ")) && !bytes.HasPrefix(bytes.TrimSpace(file), []byte("{")) {
		return [][]byte{file}
	}
	var found [][]byte
	for line := range bytes.Lines(file) {
		var v struct {
			Checkpoint string `json:"checkpoint"`
		}
		if json.Unmarshal(line, &v) == nil && v.Checkpoint != "" {
			found = append(found, []byte(v.Checkpoint))
		}
	}
	return found
}
