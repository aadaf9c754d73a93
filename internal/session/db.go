package session

import (
	"context"
	"database/sql"
)

// Dialect names the SQL of a database.
type Dialect string

// SQLite is this store's.
const SQLite Dialect = "sqlite3"

// DB gives the open database, for other rooms that keep tables of their own in it.
func (s *Store) DB(ctx context.Context) (*sql.DB, Dialect, error) {
	db, err := s.use(ctx)
	return db, SQLite, err
}
