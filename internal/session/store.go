package session

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// millis and moment keep times as UTC unix milliseconds; the zero time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// exec runs one statement.
func (s *Store) exec(ctx context.Context, query string, args ...any) (int64, error) {
	db, err := s.use(ctx)
	if err != nil {
		return 0, err
	}
	res, err := db.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, storeError(fmt.Errorf("writing: %w", err))
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, storeError(fmt.Errorf("writing: %w", err))
	}
	return n, nil
}

// query reads every row with scan.
func (s *Store) query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	db, err := s.use(ctx)
	if err != nil {
		return err
	}
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return storeError(fmt.Errorf("reading: %w", err))
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	for rows.Next() {
		if err := scan(rows); err != nil {
			return storeError(fmt.Errorf("reading: %w", err))
		}
	}
	if err := rows.Err(); err != nil {
		return storeError(fmt.Errorf("reading: %w", err))
	}
	return nil
}

// SaveSession implements deploy.Store.
func (s *Store) SaveSession(ctx context.Context, v deploy.Session) error {
	labels, err := json.Marshal(v.Labels)
	if err != nil {
		return storeError(err)
	}
	_, err = s.exec(ctx, `INSERT INTO sessions (id, principal, scope, run_id, job_id, labels, client, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (id) DO UPDATE SET scope = excluded.scope, run_id = excluded.run_id, job_id = excluded.job_id,
			labels = excluded.labels, client = excluded.client, updated_at = excluded.updated_at`,
		v.ID, v.Principal, v.Scope, v.RunID, v.JobID, string(labels), v.Client, millis(v.CreatedAt), millis(v.UpdatedAt))
	if err == nil {
		err = s.purge(ctx)
	}
	return err
}

const sessionColumns = `SELECT id, principal, scope, run_id, job_id, labels, client, created_at, updated_at FROM sessions `

func (s *Store) sessions(ctx context.Context, query string, args ...any) ([]deploy.Session, error) {
	out := []deploy.Session{}
	err := s.query(ctx, func(r *sql.Rows) error {
		var v deploy.Session
		var labels string
		var created, updated int64
		if err := r.Scan(&v.ID, &v.Principal, &v.Scope, &v.RunID, &v.JobID, &labels, &v.Client, &created, &updated); err != nil {
			return err
		}
		v.CreatedAt, v.UpdatedAt = moment(created), moment(updated)
		out = append(out, v)
		return json.Unmarshal([]byte(labels), &out[len(out)-1].Labels)
	}, sessionColumns+query, args...)
	return out, err
}

// Session implements deploy.Store.
func (s *Store) Session(ctx context.Context, principal, id string) (*deploy.Session, error) {
	found, err := s.sessions(ctx, "WHERE id = $1 AND principal = $2", id, principal)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, deploy.Errorf(deploy.CodeSessionNotFound,
			"Call status without session_id to find your sessions, or deploy_temporary without session_id for the current one.",
			"there is no session %q of yours", shown(id))
	}
	return &found[0], nil
}

// shown cuts what a caller sent to a size that can be repeated to it.
func shown(id string) string {
	const most = 64
	if len(id) > most {
		return id[:most] + "…"
	}
	return id
}

// CurrentSession implements deploy.Store.
func (s *Store) CurrentSession(ctx context.Context, principal, scope, runID string) (*deploy.Session, error) {
	query, args := "WHERE principal = $1 AND scope = $2 ", []any{principal, scope}
	if runID != "" {
		query, args = query+"AND run_id = $3 ", append(args, runID)
	}
	found, err := s.sessions(ctx, query+"ORDER BY created_at DESC, rowid DESC LIMIT 1", args...)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// Sessions implements deploy.Store.
func (s *Store) Sessions(ctx context.Context, principal string, limit int) ([]deploy.Session, error) {
	return s.sessions(ctx, "WHERE principal = $1 ORDER BY created_at DESC, rowid DESC LIMIT $2", principal, limit)
}

// SaveAccount implements deploy.Store.
func (s *Store) SaveAccount(ctx context.Context, a deploy.Account) error {
	if _, err := s.use(ctx); err != nil {
		return err
	}
	token := s.seal.seal([]byte(a.Token.Reveal()), place("accounts", "token", a.Target, a.ID))
	claim := s.seal.seal([]byte(a.ClaimURL.Reveal()), place("accounts", "claim_url", a.Target, a.ID))
	_, err := s.exec(ctx, `INSERT INTO accounts (target, id, session_id, name, subdomain, token, claim_url, created_at, expires_at,
			claim_expires_at, skew, state, added)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, (SELECT COALESCE(MAX(added), 0) + 1 FROM accounts))
		ON CONFLICT (target, id) DO UPDATE SET name = excluded.name, subdomain = excluded.subdomain, token = excluded.token,
			claim_url = excluded.claim_url, expires_at = excluded.expires_at, claim_expires_at = excluded.claim_expires_at,
			skew = excluded.skew, state = excluded.state`,
		a.Target, a.ID, a.SessionID, a.Name, a.Subdomain, token, claim, millis(a.CreatedAt), millis(a.ExpiresAt),
		millis(a.ClaimExpiresAt), a.Skew.Milliseconds(), string(a.State))
	if err == nil && (token == nil || claim == nil) {
		err = s.forgetLog(ctx)
	}
	return err
}

// forgetLog empties the write-ahead log, in which wiped bytes would stand on for a
// while. Another process that reads just now may keep it from being cut; the next
// wipe then does it.
func (s *Store) forgetLog(ctx context.Context) error {
	return s.query(ctx, func(*sql.Rows) error { return nil }, "PRAGMA wal_checkpoint(TRUNCATE)")
}

// Accounts implements deploy.Store.
func (s *Store) Accounts(ctx context.Context, sessionID string) ([]deploy.Account, error) {
	out := []deploy.Account{}
	err := s.query(ctx, func(r *sql.Rows) error {
		var a deploy.Account
		var token, claim []byte
		var created, expires, claimExpires, skew int64
		var state string
		err := r.Scan(&a.Target, &a.ID, &a.SessionID, &a.Name, &a.Subdomain, &token, &claim, &created, &expires, &claimExpires, &skew, &state)
		if err != nil {
			return err
		}
		a.CreatedAt, a.ExpiresAt, a.ClaimExpiresAt = moment(created), moment(expires), moment(claimExpires)
		a.Skew, a.State = time.Duration(skew)*time.Millisecond, deploy.AccountState(state)
		plain, err := s.seal.open(token, place("accounts", "token", a.Target, a.ID))
		if err != nil {
			return err
		}
		a.Token = deploy.Secret(plain)
		if plain, err = s.seal.open(claim, place("accounts", "claim_url", a.Target, a.ID)); err != nil {
			return err
		}
		a.ClaimURL = deploy.Secret(plain)
		out = append(out, a)
		return nil
	}, `SELECT target, id, session_id, name, subdomain, token, claim_url, created_at, expires_at, claim_expires_at, skew, state
		FROM accounts WHERE session_id = $1 ORDER BY added DESC`, sessionID)
	return out, err
}

// WipeExpired implements deploy.Store.
func (s *Store) WipeExpired(ctx context.Context, t time.Time) (int, error) {
	n, err := s.exec(ctx, `UPDATE accounts SET token = NULL, claim_url = NULL,
			state = CASE WHEN state = '' THEN 'expired' ELSE state END
		WHERE expires_at < $1 AND (token IS NOT NULL OR claim_url IS NOT NULL)`, millis(t))
	if err == nil && n > 0 {
		err = s.forgetLog(ctx)
	}
	return int(n), err
}

// SaveDeployment implements deploy.Store.
func (s *Store) SaveDeployment(ctx context.Context, d deploy.Deployment) error {
	check, err := json.Marshal(d.Check)
	if err != nil {
		return storeError(err)
	}
	_, err = s.exec(ctx, `INSERT INTO deployments (id, session_id, account_id, worker, host, url, version_id, bundle_id, digest, created_at,
			check_json, serving, added)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, (SELECT COALESCE(MAX(added), 0) + 1 FROM deployments))
		ON CONFLICT (id) DO UPDATE SET host = excluded.host, url = excluded.url, version_id = excluded.version_id,
			check_json = excluded.check_json, serving = excluded.serving`,
		d.ID, d.SessionID, d.AccountID, d.Worker, d.Host, d.URL, d.VersionID, d.BundleID, d.Digest, millis(d.CreatedAt), string(check), d.Serving)
	return err
}

// Deployments implements deploy.Store.
func (s *Store) Deployments(ctx context.Context, sessionID string) ([]deploy.Deployment, error) {
	out := []deploy.Deployment{}
	err := s.query(ctx, func(r *sql.Rows) error {
		var d deploy.Deployment
		var created int64
		var check string
		err := r.Scan(&d.ID, &d.SessionID, &d.AccountID, &d.Worker, &d.Host, &d.URL, &d.VersionID, &d.BundleID, &d.Digest, &created, &check, &d.Serving)
		if err != nil {
			return err
		}
		d.CreatedAt = moment(created)
		out = append(out, d)
		return json.Unmarshal([]byte(check), &out[len(out)-1].Check)
	}, `SELECT id, session_id, account_id, worker, host, url, version_id, bundle_id, digest, created_at, check_json, serving
		FROM deployments WHERE session_id = $1 ORDER BY added DESC`, sessionID)
	return out, err
}

// purge forgets what was kept long enough.
func (s *Store) purge(ctx context.Context) error {
	now := s.cfg.Now()
	for _, p := range []struct {
		query string
		age   time.Duration
	}{
		{"DELETE FROM sessions WHERE updated_at < $1", s.cfg.RecordTTL},
		{"DELETE FROM artifacts WHERE used_at < $1", s.cfg.ArtifactTTL},
		{"DELETE FROM calls WHERE lease_at < $1", s.cfg.CallTTL},
	} {
		if _, err := s.exec(ctx, p.query, millis(now.Add(-p.age))); err != nil {
			return err
		}
	}
	return nil
}

// AcceptTerms implements deploy.Store.
func (s *Store) AcceptTerms(ctx context.Context, a deploy.Acceptance) error {
	_, err := s.exec(ctx, `INSERT INTO acceptances (principal, text_hash, text, source, at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (principal, text_hash) DO NOTHING`, a.Principal, hash(a.Text), a.Text, a.By, millis(a.At))
	return err
}

// Accepted implements deploy.Store.
func (s *Store) Accepted(ctx context.Context, principal, text string) (bool, error) {
	found := false
	err := s.query(ctx, func(*sql.Rows) error { found = true; return nil },
		"SELECT 1 FROM acceptances WHERE principal = $1 AND text_hash = $2", principal, hash(text))
	return found, err
}

// transact runs f in a transaction that holds the write lock from its beginning.
func (s *Store) transact(ctx context.Context, f func(tx *sql.Tx) error) error {
	db, err := s.use(ctx)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return storeError(fmt.Errorf("writing: %w", err))
	}
	if err := f(tx); err != nil {
		return errors.Join(storeError(err), ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return storeError(fmt.Errorf("writing: %w", err))
	}
	return nil
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}
