package session

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// server is the home of a store that several machines share, in PostgreSQL. Its
// address is a secret: no error of ours says it.
type server struct {
	url    deploy.Secret
	secret func(string) // told the password, wherever it came from
}

func (server) dialect() Dialect { return Postgres }

// connectLimit bounds the making of a connection where the address sets no bound.
const connectLimit = 10 * time.Second

// maxConnections of one process: a server allows 100 unless it is told otherwise, and
// several processes share it.
const maxConnections = 10

// atConnect is said to the server on every new connection, where nobody decided it. A
// record is on its disk when a write returns; a process that stands still in the middle
// of a transaction loses it, so that the others need not wait for good.
const atConnect = `
	SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
	SELECT set_config('idle_in_transaction_session_timeout', '60s', false) WHERE current_setting('idle_in_transaction_session_timeout') = '0';
	SELECT set_config('lock_timeout', '30s', false) WHERE current_setting('lock_timeout') = '0'`

func (h server) open(ctx context.Context) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(h.url.Reveal())
	if err != nil {
		// Its text may hold the address.
		return nil, errors.New("the address of the store is not a PostgreSQL URL (postgres://user@host:5432/database?sslmode=verify-full)")
	}
	h.secret(cfg.Password)
	keepTLS(cfg)
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectLimit
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "hourglass"
	}
	db := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, atConnect, pgx.QueryExecModeSimpleProtocol)
		return err
	}))
	db.SetMaxOpenConns(maxConnections)
	db.SetMaxIdleConns(maxConnections / 2)
	db.SetConnMaxIdleTime(5 * time.Minute)
	if err := h.bringUp(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// keepTLS takes away the way without TLS that the default (sslmode=prefer) would fall
// back to over a network: somebody between could ask for the password there. Who says
// sslmode=disable has decided.
func keepTLS(cfg *pgx.ConnConfig) {
	speaks := map[string]bool{cfg.Host: cfg.TLSConfig != nil}
	for _, f := range cfg.Fallbacks {
		speaks[f.Host] = speaks[f.Host] || f.TLSConfig != nil
	}
	cfg.Fallbacks = slices.DeleteFunc(cfg.Fallbacks, func(f *pgconn.FallbackConfig) bool {
		return f.TLSConfig == nil && speaks[f.Host] && !onThisMachine(f.Host)
	})
}

func onThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || ip != nil && ip.IsLoopback()
}

// schemaTable is goose's: not its default name, which another program may use in the
// same database.
const schemaTable = "hourglass_schema"

// bringUp brings the database to the schema of this program. Of many processes that
// start at once one does it, under a lock of its connection; the others wait and find it done.
func (h server) bringUp(ctx context.Context, db *sql.DB) error {
	version, err := h.schemaOf(ctx, db)
	if err != nil || version == schemaVersion {
		return err
	}
	if version > schemaVersion {
		return errNewer(version)
	}
	p, err := h.migrations(db)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bringing the database up to date: %w", err)
	}
	// Another one may have brought it further while this one waited.
	if version, err = h.schemaOf(ctx, db); err == nil && version > schemaVersion {
		err = errNewer(version)
	}
	return err
}

// schemaOf gives the schema's version, 0 where there is none yet.
func (server) schemaOf(ctx context.Context, db *sql.DB) (version int64, err error) {
	there := false
	if _, err = one(ctx, db, []any{&there}, "SELECT to_regclass($1) IS NOT NULL", schemaTable); err == nil && there {
		_, err = one(ctx, db, []any{&version}, "SELECT COALESCE(MAX(version_id), 0) FROM "+schemaTable+" WHERE is_applied")
	}
	return version, err
}

// reader is not needed: the driver keeps what it had parsed, and a read is one round trip.
func (server) reader() (*reader, error) { return nil, nil } //nolint:nilnil // none is none

func (server) migrations(db *sql.DB) (*goose.Provider, error) {
	all, err := migrationsIn(Postgres)
	if err != nil {
		return nil, err
	}
	// It asks again each second, for two minutes.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 120))
	if err != nil {
		return nil, fmt.Errorf("the migrations: %w", err)
	}
	return goose.NewProvider(goose.DialectPostgres, db, nil, all, goose.WithTableName(schemaTable), goose.WithSessionLocker(locker))
}

// clock is the server's, as it is now: that of a transaction's beginning may be old
// when its turn comes.
func (server) clock(ctx context.Context, q querier) (ms int64, err error) {
	_, err = one(ctx, q, []any{&ms}, "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint")
	return ms, err
}

// serialise takes a lock of the name that ends with the transaction.
func (server) serialise(ctx context.Context, tx *sql.Tx, name string) error {
	_, err := run(ctx, tx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "hourglass "+name)
	return err
}

// again is after a deadlock and a conflict of transactions: the server undid this one
// and let the others go on.
func (server) again(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "40P01" || e.Code == "40001")
}

// scrub has no way: what was wiped stands on in the server's files, sealed, until its
// own housekeeping comes by.
func (server) scrub(context.Context, *sql.DB) error { return nil }

func (server) explain(err error) (sentence, next string) {
	const tell = "Tell the user: the database that --store names needs attention. Make the same call again when it answers."
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Sprintf("the database server says: %s (%s)", e.Message, e.Code), tell
	}
	_, distrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, unconnected := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[net.Error](err)
	switch {
	case distrusted:
		return "the certificate of its database server is not trusted", tell
	case strings.Contains(err.Error(), "refused TLS"):
		return "its database server does not speak TLS, and over a network nothing else is spoken unless its address says sslmode=disable", tell
	case unconnected:
		return "its database server can't be reached", tell
	case network, pgconn.Timeout(err), strings.Contains(err.Error(), "unexpected EOF"), strings.Contains(err.Error(), "conn closed"):
		return "the connection to its database server broke", tell
	}
	return err.Error(), tell
}
