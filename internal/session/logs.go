package session

import (
	"context"
	"database/sql"
	"encoding/json"
	"strconv"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// KeepLogs implements deploy.LogShelf. Two that add to one session take turns, so that
// its bounds hold across processes.
func (s *Store) KeepLogs(ctx context.Context, sessionID string, lines []deploy.LogLine, b deploy.LogBounds) (deploy.LogTally, error) {
	var after deploy.LogTally
	err := s.change(ctx, "logs of "+sessionID, func(tx *sql.Tx, _ int64) error {
		there := 0
		found, err := one(ctx, tx, []any{&there}, "SELECT 1 FROM sessions WHERE id = $1", sessionID)
		if err != nil {
			return err
		}
		if !found {
			return errNoSession(sessionID)
		}
		had, seq, err := tallyOf(ctx, tx, sessionID)
		if err != nil {
			return err
		}
		var fit []deploy.LogLine
		fit, after = had.Fit(lines, b)
		if len(fit) > 0 {
			seq++
			if err := s.putLogs(ctx, tx, sessionID, seq, fit); err != nil {
				return err
			}
		}
		_, err = run(ctx, tx, `INSERT INTO worker_log_tallies (session_id, seq, lines, bytes, dropped) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (session_id) DO UPDATE SET seq = excluded.seq, lines = excluded.lines, bytes = excluded.bytes, dropped = excluded.dropped`,
			sessionID, seq, after.Lines, after.Bytes, after.Dropped)
		return err
	})
	return after, err
}

func (s *Store) putLogs(ctx context.Context, tx *sql.Tx, sessionID string, seq int64, lines []deploy.LogLine) error {
	text, err := json.Marshal(lines)
	if err != nil {
		return err
	}
	_, err = run(ctx, tx, "INSERT INTO worker_logs (session_id, seq, kept_at, sealed) VALUES ($1, $2, $3, $4)",
		sessionID, seq, millis(s.cfg.Now()), s.seal.seal(text, logPlace(sessionID, seq)))
	return err
}

func logPlace(sessionID string, seq int64) []byte {
	return place("worker_logs", "sealed", sessionID, strconv.FormatInt(seq, 10))
}

func tallyOf(ctx context.Context, q querier, sessionID string) (t deploy.LogTally, seq int64, err error) {
	_, err = one(ctx, q, []any{&seq, &t.Lines, &t.Bytes, &t.Dropped}, "SELECT seq, lines, bytes, dropped FROM worker_log_tallies WHERE session_id = $1", sessionID)
	return t, seq, err
}

// Logs implements deploy.LogShelf.
func (s *Store) Logs(ctx context.Context, sessionID string) ([]deploy.LogLine, error) {
	out := []deploy.LogLine{}
	err := s.query(ctx, func(r *sql.Rows) error {
		var seq int64
		var sealed []byte
		if err := r.Scan(&seq, &sealed); err != nil {
			return err
		}
		text, err := s.seal.open(sealed, logPlace(sessionID, seq))
		if err != nil {
			return err
		}
		var batch []deploy.LogLine
		err = json.Unmarshal(text, &batch)
		out = append(out, batch...)
		return err
	}, "SELECT seq, sealed FROM worker_logs WHERE session_id = $1 ORDER BY seq", sessionID)
	return out, err
}

// LogTally implements deploy.LogShelf.
func (s *Store) LogTally(ctx context.Context, sessionID string) (deploy.LogTally, error) {
	db, err := s.use(ctx)
	if err != nil {
		return deploy.LogTally{}, err
	}
	t, _, err := tallyOf(ctx, db, sessionID)
	return t, s.told(ctx, err)
}

// SaveForeign implements deploy.ForeignShelf.
func (s *Store) SaveForeign(ctx context.Context, f deploy.ForeignChange) error {
	_, err := s.exec(ctx, `INSERT INTO foreign_changes (target, account_id, worker, version_id, session_id, seen_at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT DO NOTHING`, f.Target, f.AccountID, clean(f.Worker), clean(f.VersionID), f.SessionID, millis(f.SeenAt))
	return err
}

// Foreign implements deploy.ForeignShelf.
func (s *Store) Foreign(ctx context.Context, sessionID string) ([]deploy.ForeignChange, error) {
	out := []deploy.ForeignChange{}
	err := s.query(ctx, func(r *sql.Rows) error {
		f := deploy.ForeignChange{SessionID: sessionID}
		var seen int64
		err := r.Scan(&f.Target, &f.AccountID, &f.Worker, &f.VersionID, &seen)
		f.SeenAt = moment(seen)
		out = append(out, f)
		return err
	}, "SELECT target, account_id, worker, version_id, seen_at FROM foreign_changes WHERE session_id = $1 ORDER BY seen_at, worker, version_id", sessionID)
	return out, err
}
