package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// tokenPrefix marks our tokens, for people and for scanners of leaked secrets.
const tokenPrefix = "hgt_"

// Token is one static token as it is kept: what it opens, and the hash to know it by.
type Token struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// SHA256 is the hash of the token, in hex. A token has 260 random bits: there is
	// nothing that a slow hash would protect.
	SHA256    string            `json:"sha256"`
	Scopes    []deploy.Scope    `json:"scopes"`
	Labels    map[string]string `json:"labels,omitempty"`
	CreatedAt time.Time         `json:"created_at"`
	ExpiresAt time.Time         `json:"expires_at,omitzero"` // zero: it does not end by itself
}

// TokenFile is the file of static tokens. It is read again whenever it changes, so that a
// token that was revoked is refused from the next request on. All methods are safe for
// concurrent use, and several processes may share the file.
type TokenFile struct {
	path string

	mu     sync.Mutex
	seen   fs.FileInfo
	tokens []Token
}

// NewTokenFile names the file; it need not be there yet.
func NewTokenFile(path string) *TokenFile { return &TokenFile{path: path} }

// Path is where the file is.
func (f *TokenFile) Path() string { return f.path }

// List gives the tokens, the oldest first.
func (f *TokenFile) List() ([]Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(); err != nil {
		return nil, err
	}
	return slices.Clone(f.tokens), nil
}

// load reads the file if it changed. The caller holds the lock. A file that can't be
// read is an error, never an empty list or the list from before.
func (f *TokenFile) load() error {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		f.seen, f.tokens = nil, nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("the file of tokens: %w", err)
	}
	if f.seen != nil && os.SameFile(f.seen, info) && f.seen.ModTime().Equal(info.ModTime()) && f.seen.Size() == info.Size() {
		return nil
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("the file of tokens %s can be read or written by others: chmod 600 it", f.path)
	}
	raw, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("the file of tokens: %w", err)
	}
	var content struct {
		Tokens []Token `json:"tokens"`
	}
	if err := json.Unmarshal(raw, &content); err != nil {
		return fmt.Errorf("the file of tokens %s is damaged: %w", f.path, err)
	}
	f.seen, f.tokens = info, content.Tokens
	return nil
}

// identify finds whose token it is. Its error is a *denial.
func (f *TokenFile) identify(token string, now time.Time) (*identity, error) {
	hash := sha256.Sum256([]byte(token))
	t, err := f.find(hash)
	switch {
	case err != nil:
		return nil, &denial{text: "the token could not be checked", cause: err, later: true}
	case t == nil:
		return nil, &denial{text: "the token is not known"}
	case !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt):
		return nil, &denial{text: "the token has expired"}
	}
	return &identity{
		caller:  deploy.Caller{Principal: "token:" + t.Name, Labels: maps.Clone(t.Labels), Scopes: append([]deploy.Scope{}, t.Scopes...)},
		expires: t.ExpiresAt,
		still: func() bool {
			again, err := f.find(hash)
			return err == nil && again != nil
		},
	}, nil
}

// find looks at every token, however early it finds one, in constant time each.
func (f *TokenFile) find(hash [sha256.Size]byte) (*Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(); err != nil {
		return nil, err
	}
	var found *Token
	for i := range f.tokens {
		have, err := hex.DecodeString(f.tokens[i].SHA256)
		if err == nil && subtle.ConstantTimeCompare(have, hash[:]) == 1 {
			found = &f.tokens[i]
		}
	}
	return found, nil
}

var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

// Add makes a token and gives it once: only its hash is kept. again allows a name that
// has a token already: the second one is the same principal, which is how a token is
// replaced without a moment when neither works.
func (f *TokenFile) Add(t Token, again bool, now time.Time) (deploy.Secret, *Token, error) {
	if err := checkToken(&t, now); err != nil {
		return "", nil, err
	}
	secret := deploy.Secret(tokenPrefix + strings.ToLower(rand.Text()+rand.Text()))
	hash := sha256.Sum256([]byte(secret.Reveal()))
	t.ID, t.SHA256, t.CreatedAt = deploy.NewID("t"), hex.EncodeToString(hash[:]), now.UTC().Truncate(time.Second)
	err := f.change(func(all []Token) ([]Token, error) {
		if !again && slices.ContainsFunc(all, func(o Token) bool { return o.Name == t.Name }) {
			return nil, fmt.Errorf("there is a token named %s already: choose another name, or say that it is the same caller's", t.Name)
		}
		return append(all, t), nil
	})
	if err != nil {
		return "", nil, err
	}
	return secret, &t, nil
}

func checkToken(t *Token, now time.Time) error {
	if !tokenName.MatchString(t.Name) {
		return fmt.Errorf("the name %q: up to 64 letters, digits and . _ @ -", t.Name)
	}
	if len(t.Scopes) == 0 {
		return errors.New("a token needs a scope")
	}
	for _, s := range t.Scopes {
		if !slices.Contains(deploy.Scopes(), s) {
			return fmt.Errorf("there is no scope %q; there are %v", s, deploy.Scopes())
		}
	}
	for k := range t.Labels {
		if strings.TrimSpace(k) == "" {
			return errors.New("a label is key=value")
		}
	}
	if !t.ExpiresAt.IsZero() && !t.ExpiresAt.After(now) {
		return errors.New("the token would have expired before it is made")
	}
	return nil
}

// Revoke takes away the tokens of a name, or the one of an id, and tells how many.
func (f *TokenFile) Revoke(nameOrID string) (int, error) {
	gone := 0
	err := f.change(func(all []Token) ([]Token, error) {
		kept := slices.DeleteFunc(slices.Clone(all), func(t Token) bool { return t.Name == nameOrID || t.ID == nameOrID })
		if gone = len(all) - len(kept); gone == 0 {
			return nil, fmt.Errorf("there is no token of the name or id %q", nameOrID)
		}
		return kept, nil
	})
	return gone, err
}

// change rewrites the file as a whole, one process at a time.
func (f *TokenFile) change(edit func([]Token) ([]Token, error)) (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return fmt.Errorf("the folder of the file of tokens: %w", err)
	}
	unlock, err := lockFile(f.path + ".lock")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	f.seen = nil
	if err := f.load(); err != nil {
		return err
	}
	next, err := edit(f.tokens)
	if err != nil {
		return err
	}
	raw, err := json.MarshalIndent(map[string]any{"tokens": next}, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the tokens: %w", err)
	}
	f.seen = nil
	return replaceFile(f.path, append(raw, '\n'))
}

// replaceFile writes a file that is there as a whole or as it was before.
func replaceFile(path string, content []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tokens-") // mode 0600
	if err != nil {
		return fmt.Errorf("writing the file of tokens: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("writing the file of tokens: %w", err), os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if closing := tmp.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// lockFile keeps another process from changing the file meanwhile. One that died with the
// lock is waited out: changing takes milliseconds.
func lockFile(path string) (func() error, error) {
	const stale = 10 * time.Second
	for {
		l, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err == nil {
			return func() error { return errors.Join(l.Close(), os.Remove(path)) }, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("locking the file of tokens: %w", err)
		}
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > stale {
			_ = os.Remove(path) // its owner is gone; who is faster has it
			continue
		}
		time.Sleep(20 * time.Millisecond)
	}
}
