package session

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
)

// folder is the home of a store in a folder of this machine, in SQLite. Several
// processes may share it.
type folder struct{ dir string }

func (folder) dialect() Dialect { return SQLite }

func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the state folder: %w", err)
	}
	return nil
}

func databaseIn(dir string) string { return filepath.Join(dir, "sessions.db") }

func (f folder) open(ctx context.Context) (*sql.DB, error) {
	if err := makeFolder(f.dir); err != nil {
		return nil, err
	}
	path := databaseIn(f.dir)
	if err := privateFile(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dsn(path, "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)", "secure_delete(ON)", "cache_size(-512)"))
	if err != nil {
		return nil, fmt.Errorf("the database: %w", err)
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4) // to open one takes longer than what most are used for
	db.SetConnMaxIdleTime(time.Minute)
	if err := f.bringUp(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// reader has a connection a core, since its reads wait for nobody, and one that is asked
// whether anybody wrote.
func (f folder) reader() (*reader, error) {
	db, err := sql.Open("sqlite", dsn(databaseIn(f.dir), "query_only(ON)", "cache_size(-2048)"))
	if err != nil {
		return nil, fmt.Errorf("the database: %w", err)
	}
	most := min(max(2, runtime.GOMAXPROCS(0)), 8) + 1
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most)
	db.SetConnMaxIdleTime(time.Minute)
	return newReader(db), nil
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

// dsn has busy_timeout first: the other pragmas may have to wait for a lock already.
func dsn(path string, pragmas ...string) string {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(10000)"}}
	for _, p := range pragmas {
		q.Add("_pragma", p)
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

// bringUp brings the database to the schema of this program. The version stands in
// user_version too, so that opening a current database asks goose nothing.
func (f folder) bringUp(ctx context.Context, db *sql.DB) error {
	version, err := schemaOf(ctx, db)
	if err != nil || version == schemaVersion {
		return err
	}
	if version > schemaVersion {
		return errNewer(version)
	}
	// Two processes that start at once: the second waits for the first at the lock of
	// its transaction, is refused what is there by then, and looks again.
	for try := 0; ; try++ {
		p, err := f.migrations(db)
		if err == nil {
			_, err = p.Up(ctx)
		}
		if err == nil {
			break
		}
		if try == 20 || ctx.Err() != nil {
			return fmt.Errorf("bringing the database up to date: %w", err)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	if _, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)); err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	return nil
}

func (folder) migrations(db *sql.DB) (*goose.Provider, error) {
	all, err := migrationsIn(SQLite)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, nil, all)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// schemaOf opens the first connection. Where several processes make a database at
// once, the change to WAL finds it locked, and SQLite does not wait for that lock
// whatever busy_timeout says (seen on a loaded machine): we do.
func schemaOf(ctx context.Context, db *sql.DB) (version int64, err error) {
	for until := time.Now().Add(10 * time.Second); ; {
		err = db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
		if err == nil || !isBusy(err) || time.Now().After(until) {
			break
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
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

// clock is the machine's: who shares a folder shares it.
func (folder) clock(context.Context, querier) (int64, error) { return time.Now().UnixMilli(), nil }

// serialise has nothing to do: a transaction holds the database's one write lock from
// its beginning (_txlock=immediate).
func (folder) serialise(context.Context, *sql.Tx, string) error { return nil }

// again is never: who waits for the lock longer than busy_timeout has waited enough.
func (folder) again(error) bool { return false }

// scrub empties the write-ahead log, in which wiped bytes would stand on for a while.
// Another process that reads just now may keep it from being cut; the next wipe then
// does it.
func (folder) scrub(ctx context.Context, db *sql.DB) error {
	var busy, pages, moved int
	return db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved)
}

func (folder) explain(err error) (sentence, next string) {
	return err.Error(), "Tell the user: the state folder (--state-dir) needs attention. `mcp-server doctor` says more. Nothing was lost."
}
