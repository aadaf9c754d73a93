package session

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

//go:embed migrations/*.sql
var migrations embed.FS

// schemaVersion is the newest migration; it stands in the database's user_version too,
// so that opening a current database asks goose nothing.
const schemaVersion = 1

// Config says where the store is and how long it remembers.
type Config struct {
	// Dir is the state folder; it is made with mode 0700. Several processes may share it.
	Dir string
	// KeyFile holds the 32 bytes that everything secret is sealed under. Default: key in
	// Dir, made when it is not there.
	KeyFile string
	// ArtifactTTL is how long an artifact is kept after its last use. Default 7 days.
	ArtifactTTL time.Duration
	// RecordTTL is how long sessions and what belongs to them are kept. Default 90 days.
	RecordTTL time.Duration
	// MaxArtifactBytes bounds the artifacts of one principal; the oldest go first.
	// Default 512 MiB.
	MaxArtifactBytes int64
	// CallTTL is how long the result under an idempotency key is kept. Default 24 hours.
	CallTTL time.Duration
	// CallLease is how long a running call holds its key when its process is gone.
	// Default 5 minutes.
	CallLease time.Duration
	Now       func() time.Time
}

// Store implements deploy.Store on SQLite. The database is opened on first use, so
// that a server that is only asked for its tools costs nothing.
type Store struct {
	cfg   Config
	owner string // of this process, for leases

	mu     sync.Mutex
	opened bool
	closed bool
	db     *sql.DB
	seal   *sealer
}

var _ deploy.Store = (*Store)(nil)

// Open makes a store in cfg.Dir. Problems with the folder, the key or the database are
// told by the first call that needs them, as deploy.CodeStore.
func Open(_ context.Context, cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("session: Config.Dir is needed")
	}
	if cfg.KeyFile == "" {
		cfg.KeyFile = filepath.Join(cfg.Dir, "key")
	}
	setDefault(&cfg.ArtifactTTL, 7*24*time.Hour)
	setDefault(&cfg.RecordTTL, 90*24*time.Hour)
	setDefault(&cfg.CallTTL, 24*time.Hour)
	setDefault(&cfg.CallLease, 5*time.Minute)
	if cfg.MaxArtifactBytes == 0 {
		cfg.MaxArtifactBytes = 512 << 20
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{cfg: cfg, owner: rand.Text()}, nil
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// Close closes the database, if it was opened.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.db == nil {
		return nil
	}
	db := s.db
	s.db, s.opened = nil, false
	if err := db.Close(); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}

// use gives the open database. A failed opening is tried again by the next call: the
// disk may have been made room on, the folder made writable.
func (s *Store) use(ctx context.Context) (*sql.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, storeError(errors.New("the store is closed"))
	}
	if s.opened {
		return s.db, nil
	}
	if err := s.open(ctx); err != nil {
		return nil, storeError(err)
	}
	s.opened = true
	return s.db, nil
}

// storeError is what a caller is told of a store that can't be read or written.
func storeError(err error) error {
	if _, ok := errors.AsType[*deploy.Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &deploy.Error{
		Code: deploy.CodeStore, Message: "the session store can't be used: " + err.Error(), Cause: err,
		Next: "Tell the user: the state folder (--state-dir) needs attention. `mcp-server doctor` says more. Nothing was lost.",
	}
}

func (s *Store) open(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("the state folder: %w", err)
	}
	key, err := loadKey(s.cfg.KeyFile)
	if err != nil {
		return err
	}
	if s.seal, err = newSealer(key); err != nil {
		return err
	}
	path := filepath.Join(s.cfg.Dir, "sessions.db")
	if err := privateFile(path); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(2)
	if err := s.prepare(ctx, db); err != nil {
		_ = db.Close()
		return err
	}
	s.db = db
	return nil
}

// privateFile makes the database's file readable to its owner only, before SQLite
// makes it readable to more.
func privateFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // in the state folder
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("the database can't be written: %w", err)
	}
	if err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	return f.Close()
}

// dsn has busy_timeout first: the others may have to wait for a lock already.
func dsn(path string) string {
	q := url.Values{"_txlock": {"immediate"}}
	for _, p := range []string{
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)", "secure_delete(ON)", "cache_size(-512)",
	} {
		q.Add("_pragma", p)
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

// prepare brings the database to the schema of this program and checks that the key
// is its key.
func (s *Store) prepare(ctx context.Context, db *sql.DB) error {
	version, err := schemaOf(ctx, db)
	if err != nil {
		return err
	}
	switch {
	case version > schemaVersion:
		return fmt.Errorf("the database was written by a newer version of this program (schema %d, not %d): use that one, or another --state-dir", version, schemaVersion)
	case version < schemaVersion:
		if err := migrate(ctx, db); err != nil {
			return err
		}
	}
	return s.checkKey(ctx, db)
}

// schemaOf opens the first connection. Where several processes make a database at
// once, the change to WAL finds it locked, and SQLite does not wait for that lock
// whatever busy_timeout says (seen on a loaded machine): we do.
func schemaOf(ctx context.Context, db *sql.DB) (version int, err error) {
	for until := time.Now().Add(10 * time.Second); ; {
		err = db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
		if err == nil || !isBusy(err) || time.Now().After(until) {
			break
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	switch {
	case isBusy(err):
		return 0, fmt.Errorf("the database is held by another process: %w", err)
	case err != nil:
		return 0, fmt.Errorf("the database can't be read (it may be damaged): %w", err)
	}
	return version, nil
}

// isBusy tells whether another connection holds the database (SQLITE_BUSY and its kin).
func isBusy(err error) bool {
	const busy = 5
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == busy
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("the migrations: %w", err)
	}
	// Two processes that start at once: the second waits for the first at the lock of
	// its transaction, and then finds everything done.
	for try := 0; ; try++ {
		p, err := goose.NewProvider(goose.DialectSQLite3, db, files)
		if err == nil {
			_, err = p.Up(ctx)
		}
		if err == nil {
			break
		}
		if try == 20 || ctx.Err() != nil {
			return fmt.Errorf("bringing the database up to date: %w", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if _, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)); err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	return nil
}

const keyProof = "this store is sealed under this key"

// checkKey refuses a key that is not the one that the store was begun with.
func (s *Store) checkKey(ctx context.Context, db *sql.DB) error {
	where := place("meta", "value", "key")
	_, err := db.ExecContext(ctx, "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING", "key", s.seal.seal([]byte(keyProof), where))
	if err != nil {
		return fmt.Errorf("the database can't be written: %w", err)
	}
	var sealed []byte
	if err := db.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = $1", "key").Scan(&sealed); err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	plain, err := s.seal.open(sealed, where)
	if err != nil || string(plain) != keyProof {
		return fmt.Errorf("the key in %s is not the one that this store was sealed under: give the right one, or another --state-dir", s.cfg.KeyFile)
	}
	return nil
}
