package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Dialect names the kind of database that the log is in, as the store and goose do.
type Dialect string

// The dialects.
const (
	SQLite   Dialect = "sqlite3"
	Postgres Dialect = "postgres"
)

// Config says where the log is, what it is signed with and how long it is kept.
type Config struct {
	// Database gives the store's database, which stays the store's to close. It is asked
	// on first use. On SQLite the handle must have synchronous=FULL and a busy timeout.
	Database func(ctx context.Context) (*sql.DB, Dialect, error)
	// Key is the signing key itself ("PRIVATE+KEY+…"), for replicas that share a log.
	// Empty: the one in KeyFile.
	Key string
	// KeyFile holds the signing key, mode 0600; it is made when it is not there.
	KeyFile string
	// Keep says how long records are kept; see Prune.
	Keep Retention
	// Checkpoint is told every checkpoint of an append of this process, in rising size,
	// after it is durable. It carries them off the machine, and must not block.
	Checkpoint func(note []byte, size int64)
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Log implements deploy.Record.
type Log struct {
	cfg Config

	mu     sync.Mutex
	opened bool
	db     *sql.DB
	kind   Dialect
	key    *Key

	// appending keeps this process's writers in line, so that they queue here and not at
	// the database, and checkpoints come in order. It guards seen.
	appending sync.Mutex
	// seen is the newest tree that this process knows of: the log never shrinks below it.
	seen tlog.Tree
}

var _ deploy.Record = (*Log)(nil)

// New makes a log. Problems with the database or the key file are told by the first
// call that needs them, as deploy.CodeStore.
func New(cfg Config) (*Log, error) {
	if cfg.Database == nil {
		return nil, errors.New("audit: Config.Database is needed")
	}
	if cfg.Key == "" && cfg.KeyFile == "" {
		return nil, errors.New("audit: Config.Key or Config.KeyFile is needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Checkpoint == nil {
		cfg.Checkpoint = func([]byte, int64) {}
	}
	l := &Log{cfg: cfg}
	if cfg.Key != "" {
		key, err := ParseKey(cfg.Key)
		if err != nil {
			return nil, err
		}
		l.key = key
	}
	return l, nil
}

// use gives the database, brought to this program's schema. A failed opening is tried
// again by the next call.
func (l *Log) use(ctx context.Context) (*sql.DB, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opened {
		return l.db, nil
	}
	db, kind, err := l.cfg.Database(ctx)
	if err != nil {
		return nil, storeError("its database can't be opened", err)
	}
	l.db, l.kind = db, kind
	if err := migrate(ctx, db, kind); err != nil {
		return nil, l.failed(err)
	}
	l.opened = true
	return db, nil
}

// signer gives the key, read from its file (or made) on first use.
func (l *Log) signer() (*Key, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.key != nil {
		return l.key, nil
	}
	key, err := loadKey(l.cfg.KeyFile)
	if err != nil {
		return nil, storeError(err.Error(), err)
	}
	l.key = key
	return key, nil
}

// PublicKey is the key that checkpoints are verified with, in the form of package
// note: name, hash and key, joined by "+".
func (l *Log) PublicKey() (string, error) {
	key, err := l.signer()
	if err != nil {
		return "", err
	}
	return key.Public(), nil
}

// verifier is the given public key's, or without one our own.
func (l *Log) verifier(public string) (note.Verifier, error) {
	if public == "" {
		own, err := l.PublicKey()
		if err != nil {
			return nil, err
		}
		public = own
	}
	return parsePublic(public)
}

// failed is what a caller is told of a log that can't be read or written. What a
// database server says may name its address, so that is for the operator's log alone.
func (l *Log) failed(err error) error {
	if l.kind == Postgres {
		return storeError("its database server can't be reached, or does not do what it is asked", err)
	}
	return storeError(err.Error(), err)
}

func storeError(sentence string, err error) error {
	if _, ok := errors.AsType[*deploy.Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &deploy.Error{
		Code: deploy.CodeStore, Message: "the record of acts can't be used: " + sentence, Cause: err,
		Next: "Tell the user: the store (--state-dir, or the database) needs attention, and nothing is done that can't be recorded. `mcp-server doctor` says more.",
	}
}

// tampered is what a caller is told of a log that is not as it was left.
func tampered(format string, args ...any) error {
	return &deploy.Error{
		Code: deploy.CodeStore, Message: "the record of acts is not as this server left it: " + fmt.Sprintf(format, args...),
		Next: "Tell the user: nothing more is done until somebody has looked; `mcp-server audit verify` says what was changed.",
	}
}
