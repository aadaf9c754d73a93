package session

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Config says where the store is and how long it remembers.
type Config struct {
	// Dir is the state folder; it is made with mode 0700. Several processes may share it.
	Dir string
	// URL is the address of a PostgreSQL database that is used in place of the folder;
	// several machines may share it. What it leaves out comes from PGPASSWORD and its
	// kin, or from the password file, as with PostgreSQL's own programs.
	URL deploy.Secret
	// Secret is told the database's password before it is used.
	Secret func(string)
	// Key is the 32 bytes that everything secret is sealed under.
	Key []byte
	// KeyFile holds the key, as it is or as base64, where Key is not given; it must be
	// there. Default: key in Dir, made when it is not there. With URL, one of the two must
	// be given: a key that one machine makes is of no use to the others.
	KeyFile string
	// ArtifactTTL is how long an artifact is kept after its last use. Default 7 days.
	ArtifactTTL time.Duration
	// RecordTTL is how long sessions and what belongs to them are kept. Default 90 days.
	RecordTTL time.Duration
	// LogTTL is how long what Workers said is kept. Default 7 days.
	LogTTL time.Duration
	// MaxArtifactBytes bounds the artifacts of one principal; the oldest go first.
	// Default 512 MiB.
	MaxArtifactBytes int64
	// CallTTL is how long the result under an idempotency key is kept. Default 24 hours.
	CallTTL time.Duration
	// CallLease is how long a running call holds its key when its process is gone: three
	// times as long as it takes to renew its hold. Default 30 s.
	CallLease time.Duration
	// Now is the clock that ages and hours are reckoned by; leases go by the store's own.
	Now func() time.Time
}

// Store implements deploy.Store and deploy.Ledger. The database is opened on first
// use, so that a server that is only asked for its tools costs nothing.
type Store struct {
	cfg   Config
	home  home
	owner string // of this store in this process, for leases
	texts pictureTexts

	// turn is held while the database is opened; to wait for it ends with the call.
	turn chan struct{}

	mu       sync.Mutex
	closed   bool
	db       *sql.DB
	reads    *reader // nil: db serves
	seal     *sealer
	prunedAt time.Time

	packers sync.Pool // of *flate.Writer, which are large
}

var (
	_ deploy.Store  = (*Store)(nil)
	_ deploy.Ledger = (*Store)(nil)
)

// Open makes a store in cfg.Dir, or at cfg.URL. Problems with the folder, the key or
// the database are told by the first call that needs them, as deploy.CodeStore.
func Open(_ context.Context, cfg Config) (*Store, error) {
	if cfg.Dir == "" && cfg.URL.Empty() {
		return nil, errors.New("session: Config.Dir or Config.URL is needed")
	}
	if cfg.ArtifactTTL < 0 || cfg.RecordTTL < 0 || cfg.LogTTL < 0 {
		return nil, errors.New("session: what is kept is kept for a time that is not negative")
	}
	setDefault(&cfg.ArtifactTTL, 7*24*time.Hour)
	setDefault(&cfg.RecordTTL, 90*24*time.Hour)
	setDefault(&cfg.LogTTL, 7*24*time.Hour)
	setDefault(&cfg.CallTTL, 24*time.Hour)
	setDefault(&cfg.CallLease, 30*time.Second)
	if cfg.MaxArtifactBytes == 0 {
		cfg.MaxArtifactBytes = 512 << 20
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Secret == nil {
		cfg.Secret = func(string) {}
	}
	s := &Store{cfg: cfg, home: folder{cfg.Dir}, owner: rand.Text(), turn: make(chan struct{}, 1), texts: pictureTexts{pictures(oneSession), pictures(newSessions)}}
	if !cfg.URL.Empty() {
		s.home = server{cfg.URL, cfg.Secret}
	}
	return s, nil
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
	s.db = nil
	if err := errors.Join(s.reads.close(), db.Close()); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}

// DB gives the open database to another room that keeps tables of its own in it, and
// the SQL that it speaks. It is closed with the store.
func (s *Store) DB(ctx context.Context) (*sql.DB, Dialect, error) {
	db, err := s.use(ctx)
	return db, s.home.dialect(), err
}

// Ping tells whether the store can be used now.
func (s *Store) Ping(ctx context.Context) error {
	return s.query(ctx, func(*sql.Rows) error { return nil }, "SELECT name FROM meta WHERE name = $1", "key")
}

// use gives the open database. A failed opening is tried again by the next call: the
// disk may have been made room on, the folder made writable, the server be back.
func (s *Store) use(ctx context.Context) (*sql.DB, error) {
	if db, err := s.current(); db != nil || err != nil {
		return db, err
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.turn }()
	if db, err := s.current(); db != nil || err != nil {
		return db, err // another call opened it meanwhile
	}
	db, seal, err := s.open(ctx)
	if err != nil {
		return nil, s.told(ctx, err)
	}
	reads, err := s.home.reader()
	if err != nil {
		return nil, s.failed(errors.Join(err, db.Close()))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, s.failed(errors.Join(errClosed, reads.close(), db.Close()))
	}
	s.db, s.reads, s.seal = db, reads, seal
	return db, nil
}

var errClosed = errors.New("the store is closed")

// current gives the database that is open; nil: none is yet.
func (s *Store) current() (*sql.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, s.failed(errClosed)
	}
	return s.db, nil
}

func (s *Store) open(ctx context.Context) (*sql.DB, *sealer, error) {
	key, err := s.key()
	if err != nil {
		return nil, nil, err
	}
	seal, err := newSealer(key)
	if err != nil {
		return nil, nil, err
	}
	db, err := s.home.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := checkKey(ctx, db, seal); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, seal, nil
}

// key gives the key that is configured, or the folder's own.
func (s *Store) key() ([]byte, error) {
	switch {
	case len(s.cfg.Key) == keyBytes:
		return s.cfg.Key, nil
	case len(s.cfg.Key) > 0:
		return nil, fmt.Errorf("the key has %d bytes, not %d", len(s.cfg.Key), keyBytes)
	case s.cfg.KeyFile != "":
		return readKey(s.cfg.KeyFile)
	case !s.cfg.URL.Empty():
		return nil, errors.New("a store on PostgreSQL needs a key that all who share it have: make one (head -c 32 /dev/urandom > FILE; chmod 600 FILE) and give it to each with --key-file, or as base64 in HOURGLASS_KEY")
	}
	if err := makeFolder(s.cfg.Dir); err != nil {
		return nil, err
	}
	// The key is made before the database: one that is there has its key, or lost it.
	info, err := os.Stat(databaseIn(s.cfg.Dir))
	path := filepath.Join(s.cfg.Dir, "key")
	if err != nil || info.Size() == 0 {
		return loadKey(path)
	}
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the database is there but its key %s is gone: put the key back, give it with --key-file, or use another store", path)
	}
	return key, err
}

const keyProof = "this store is sealed under this key"

// checkKey refuses a key that is not the one that the store was begun with: nothing
// could be read, and what was written could not be read by the others.
func checkKey(ctx context.Context, db *sql.DB, seal *sealer) error {
	where := place("meta", "value", "key")
	var sealed []byte
	err := db.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = $1", "key").Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		// Of several that begin a store at once, one writes the proof and all read it.
		_, err = db.ExecContext(ctx, "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING", "key", seal.seal([]byte(keyProof), where))
		if err != nil {
			return fmt.Errorf("the database can't be written: %w", err)
		}
		err = db.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = $1", "key").Scan(&sealed)
	}
	if err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	plain, err := seal.open(sealed, where)
	if err != nil || string(plain) != keyProof {
		return errors.New("the key given here is not the one that this store was sealed under: give the right one, or use another store")
	}
	return nil
}
