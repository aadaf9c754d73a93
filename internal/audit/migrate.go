package audit

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

const (
	// schemaVersion is the newest migration.
	schemaVersion = 1
	// versionTable is the log's own: the store's migrations in the same database are
	// counted elsewhere.
	versionTable = "audit_schema"
)

// migrate brings the database to the schema of this program. Where it is there already
// goose is not asked: one query is enough to see.
func migrate(ctx context.Context, db *sql.DB, kind Dialect) error {
	if kind != SQLite && kind != Postgres {
		return fmt.Errorf("the log can't be kept in a database of the kind %q", kind)
	}
	text, err := migrations.ReadFile("migrations/" + string(kind) + "/00001_start.sql")
	if err != nil {
		return fmt.Errorf("the migrations: %w", err)
	}
	// As one text, which the database takes apart itself: goose would take a buffer of 4 MiB.
	first := goose.NewGoMigration(1, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, string(text))
		return err
	}}, nil)
	// Several processes that start at once on a new database: one is first, the others
	// fail at its tables or its lock, and then find everything done.
	for try := 0; ; try++ {
		version := schema(ctx, db)
		if version > schemaVersion {
			return fmt.Errorf("the log was written by a newer version of this program (schema %d, not %d): use that one", version, schemaVersion)
		}
		if version == schemaVersion {
			return nil
		}
		p, err := goose.NewProvider(goose.Dialect(kind), db, nil, goose.WithGoMigrations(first), goose.WithTableName(versionTable))
		if err == nil {
			_, err = p.Up(ctx)
		}
		if err == nil {
			continue
		}
		if try == 20 || ctx.Err() != nil {
			return fmt.Errorf("bringing the log up to date: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// schema is the version that the database has; 0 where it has none, or can't be asked.
func schema(ctx context.Context, db *sql.DB) int64 {
	var version int64
	if db.QueryRowContext(ctx, "SELECT COALESCE(MAX(version_id), 0) FROM "+versionTable).Scan(&version) != nil {
		return 0
	}
	return version
}
