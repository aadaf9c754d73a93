package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Key signs checkpoints. Its private part prints as nothing.
type Key struct {
	signer note.Signer
	public string
}

// Public is the verifier's key.
func (k *Key) Public() string { return k.public }

// String is the public part.
func (k *Key) String() string { return k.public }

// GoString is the public part.
func (k *Key) GoString() string { return k.public }

// origin begins the name of every log. The rest of the name tells logs apart.
const origin = "hourglass-audit/"

// ParseKey reads a signing key ("PRIVATE+KEY+name+hash+seed", as package note writes it).
// The error never repeats it.
func ParseKey(text string) (*Key, error) {
	text = strings.TrimSpace(text)
	signer, err := note.NewSigner(text)
	if err != nil {
		return nil, errors.New("the audit key is not a signing key (PRIVATE+KEY+…): give the content of an audit.key file")
	}
	parts := strings.SplitN(text, "+", 5) // the last may hold more of them: it is base64
	raw, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return nil, errors.New("the audit key is not an Ed25519 key: give the content of an audit.key file")
	}
	pub, ok := ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("the audit key has no public part")
	}
	public, err := note.NewEd25519VerifierKey(signer.Name(), pub)
	if err != nil {
		return nil, fmt.Errorf("the audit key: %w", err)
	}
	return &Key{signer: signer, public: public}, nil
}

// parsePublic reads a verifier's key.
func parsePublic(text string) (note.Verifier, error) {
	v, err := note.NewVerifier(strings.TrimSpace(text))
	if err != nil {
		return nil, errors.New("this is not a public audit key (name+hash+key): `mcp-server audit key` prints the right one")
	}
	return v, nil
}

// loadKey reads the key file, or makes it. Several processes that start at once agree
// on one key: whoever links first wins, and all read what is there.
func loadKey(path string) (*Key, error) {
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	fresh, _, err := note.GenerateKey(rand.Reader, origin+strings.ToLower(rand.Text()[:10]))
	if err != nil {
		return nil, fmt.Errorf("making the audit key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("the audit key's folder: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".audit-key-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("making the audit key's file: %w", err)
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // only its link is kept
	_, err = tmp.WriteString(fresh + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, fmt.Errorf("writing the audit key's file: %w", err)
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making the audit key's file: %w", err)
	}
	return readKey(path)
}

func readKey(path string) (*Key, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("the audit key's file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 && filepath.Separator == '/' {
		return nil, fmt.Errorf("the audit key's file %s can be read by others (mode %o): chmod 600 it", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("the audit key's file: %w", err)
	}
	key, err := ParseKey(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}
