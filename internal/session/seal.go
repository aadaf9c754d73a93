package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keyBytes is the length of the store's key: AES-256.
const keyBytes = 32

// errSealed says that sealed bytes can't be opened: another key, another row, or
// bytes that were changed. It never says which, and never holds any of them.
var errSealed = errors.New("a sealed value can't be opened")

// sealer seals values with AES-256-GCM. What a value belongs to (table, column, row)
// is bound in, so that it can't be moved to another place.
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (*sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("the store's key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("the store's key: %w", err)
	}
	return &sealer{aead: aead}, nil
}

// place names what a sealed value belongs to, unambiguously.
func place(parts ...string) []byte {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%d:%s|", len(p), p)
	}
	return []byte(b.String())
}

// seal gives nil for an empty value: there is nothing to keep.
func (s *sealer) seal(plain, where []byte) []byte {
	if len(plain) == 0 {
		return nil
	}
	return s.aead.Seal(nil, nil, plain, where)
}

func (s *sealer) open(sealed, where []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	plain, err := s.aead.Open(nil, nil, sealed, where)
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

// DerivedKey gives a key for another purpose, which says nothing of the store's own: 32
// bytes, the same for all who share the store.
func (s *Store) DerivedKey(purpose string) ([]byte, error) {
	key, err := s.key()
	if err != nil {
		return nil, err
	}
	return hkdf.Expand(sha256.New, key, "hourglass key for "+purpose, keyBytes)
}

// loadKey reads the key file, or makes it. Several processes that start at once agree
// on one key: whoever links first wins, and all read what is there.
func loadKey(path string) ([]byte, error) {
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	fresh := make([]byte, keyBytes)
	_, _ = rand.Read(fresh)
	tmp, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("making the key file: %w", err)
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // only its link is kept
	_, err = tmp.Write(fresh)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, fmt.Errorf("writing the key file: %w", err)
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making the key file: %w", err)
	}
	return readKey(path)
}

func readKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("the key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 && filepath.Separator == '/' {
		return nil, fmt.Errorf("the key file %s can be read by others (mode %o): chmod 600 it", path, info.Mode().Perm())
	}
	key, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("the key file: %w", err)
	}
	if len(key) == keyBytes {
		return key, nil
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(key)))
	if err == nil && len(text) == keyBytes {
		return text, nil
	}
	return nil, fmt.Errorf("the key file %s has %d bytes, not %d: it is not a key of this store", path, len(key), keyBytes)
}
