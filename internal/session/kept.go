package session

import (
	"context"
	"database/sql"
	"slices"
	"sync"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// mostKept is how many pictures are kept in memory; some 3 KiB each.
const mostKept = 2048

// kept are pictures as they are in the database now. SQLite tells a connection whether
// any other has written since it was last asked (PRAGMA data_version), also one of another
// process; that is asked before each use, and a write of anybody, about anything, makes
// all of them forgotten. So a picture out of here is what a read would have given; to ask
// takes a tenth of the read. It is worth it where many agents poll and few deploy.
type kept struct {
	mu      sync.Mutex
	conn    *sql.Conn // nothing else is done on it; nil: none is open
	ask     *sql.Stmt
	version version
	by      map[string]deploy.Picture // as of version
}

// version is what SQLite counts, and of which connection it is the count.
type version struct {
	of    *sql.Conn
	count int64
}

// now tells the version of what is in the database. The caller holds mu.
func (k *kept) now(ctx context.Context, db *sql.DB) (version, error) {
	if k.conn == nil {
		conn, err := db.Conn(ctx)
		if err != nil {
			return version{}, err
		}
		ask, err := conn.PrepareContext(ctx, "PRAGMA data_version")
		if err != nil {
			_ = conn.Close() // the other error tells
			return version{}, err
		}
		k.conn, k.ask = conn, ask
	}
	v := version{of: k.conn}
	if err := k.ask.QueryRowContext(ctx).Scan(&v.count); err != nil {
		k.drop()
		return version{}, err
	}
	if v != k.version {
		k.version, k.by = v, nil
	}
	return v, nil
}

// drop gives the connection up. The caller holds mu.
func (k *kept) drop() {
	if k.conn != nil {
		_ = k.ask.Close()
		_ = k.conn.Close() // nothing was written on it
		k.conn, k.ask, k.by = nil, nil, nil
	}
}

// picture gives one that is kept, or what read gives, and keeps it if nobody wrote
// meanwhile.
func (k *kept) picture(ctx context.Context, db *sql.DB, key string, read func() ([]deploy.Picture, error)) ([]deploy.Picture, error) {
	k.mu.Lock()
	before, err := k.now(ctx, db)
	found, ok := k.by[key]
	k.mu.Unlock()
	if err == nil && ok {
		return []deploy.Picture{copied(found)}, nil
	}
	// Who can't be told whether anybody wrote reads.
	out, errRead := read()
	if errRead != nil || err != nil || len(out) != 1 {
		return out, errRead
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if after, err := k.now(ctx, db); err == nil && after == before {
		if k.by == nil || len(k.by) >= mostKept {
			k.by = map[string]deploy.Picture{}
		}
		k.by[key] = copied(out[0])
	}
	return out, nil
}

// copied shares no list with p: who gets a picture may sort and shorten it.
func copied(p deploy.Picture) deploy.Picture {
	p.Accounts, p.Deployments = slices.Clone(p.Accounts), slices.Clone(p.Deployments)
	p.Steps, p.Foreign = slices.Clone(p.Steps), slices.Clone(p.Foreign)
	return p
}
