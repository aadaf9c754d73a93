package session

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// schemaVersion is the newest migration.
const schemaVersion = 8

var blob = regexp.MustCompile(`\bBLOB\b`)

// migrationsIn are the migrations in a dialect: the two differ in the name of one type.
//
// Each direction of a file goes to the database as one text, which both databases take
// apart themselves. goose would do it with a buffer of 4 MiB for every file; that came to
// half of the memory that a server on stdio ever had.
func migrationsIn(d Dialect) (goose.ProviderOption, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, fmt.Errorf("the migrations: %w", err)
	}
	var all []*goose.Migration
	for _, name := range names {
		version, err := goose.NumericComponent(path.Base(name))
		if err != nil {
			return nil, fmt.Errorf("the migrations: %w", err)
		}
		text, err := migrations.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("the migrations: %w", err)
		}
		if d == Postgres {
			text = blob.ReplaceAll(text, []byte("BYTEA"))
		}
		up, down, _ := strings.Cut(string(text), "-- +goose Down")
		all = append(all, goose.NewGoMigration(version, statements(up), statements(down)))
	}
	return goose.WithGoMigrations(all...), nil
}

// statements is one direction of a migration, done in a transaction.
func statements(text string) *goose.GoFunc {
	return &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, text)
		return err
	}}
}

// errNewer refuses the schema of a newer program: what it means is not known here.
func errNewer(version int64) error {
	return fmt.Errorf("the database was written by a newer version of this program (schema %d, not %d): use that one, or another store", version, schemaVersion)
}
