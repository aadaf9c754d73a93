package session

import (
	"context"
	"database/sql"

	"github.com/pressly/goose/v3"
)

// Dialect names the SQL that a store's home speaks, in goose's words.
type Dialect string

// The homes of a store.
const (
	SQLite   = Dialect(goose.DialectSQLite3)
	Postgres = Dialect(goose.DialectPostgres)
)

// home is what differs between the homes of a store.
type home interface {
	dialect() Dialect
	// open connects, brings the schema to this program's and refuses a newer one.
	open(ctx context.Context) (*sql.DB, error)
	// reader gives what many short reads go through, beside the database that open gave;
	// nil: that database serves as well.
	reader() (*reader, error)
	// migrations are the schema's, on a database of this home.
	migrations(db *sql.DB) (*goose.Provider, error)
	// clock is the store's own clock, in milliseconds: all who share the store read the
	// same one, whatever their machines think.
	clock(ctx context.Context, q querier) (int64, error)
	// serialise lets one transaction of that name in at a time; it ends with it.
	serialise(ctx context.Context, tx *sql.Tx, name string) error
	// again tells whether a transaction failed only because others ran at once.
	again(err error) bool
	// scrub removes what wiped bytes may still stand in, as far as the home can.
	scrub(ctx context.Context, db *sql.DB) error
	// explain words an error for a caller, who must not learn where the store is; next
	// is what to do about it.
	explain(err error) (sentence, next string)
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}
