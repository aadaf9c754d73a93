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

// SaveSession implements deploy.Store.
func (s *Store) SaveSession(ctx context.Context, v deploy.Session) error {
	labels, err := toJSON(v.Labels)
	if err != nil {
		return s.failed(err)
	}
	_, err = s.exec(ctx, `INSERT INTO sessions (id, principal, scope, run_id, job_id, labels, client, created_at, updated_at, added)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, (SELECT COALESCE(MAX(added), 0) + 1 FROM sessions WHERE principal = $10))
		ON CONFLICT (id) DO UPDATE SET scope = excluded.scope, run_id = excluded.run_id, job_id = excluded.job_id,
			labels = excluded.labels, client = excluded.client, updated_at = excluded.updated_at`,
		v.ID, v.Principal, v.Scope, clean(v.RunID), clean(v.JobID), labels, clean(v.Client), millis(v.CreatedAt), millis(v.UpdatedAt), v.Principal)
	if err == nil {
		err = s.pruneNowAndThen(ctx)
	}
	return err
}

const sessionColumns = `SELECT sessions.id, sessions.principal, sessions.scope, sessions.run_id, sessions.job_id, sessions.labels,
	sessions.client, sessions.created_at, sessions.updated_at FROM sessions `

func scanSession(r *sql.Rows) (v deploy.Session, err error) {
	var labels string
	var created, updated int64
	if err := r.Scan(&v.ID, &v.Principal, &v.Scope, &v.RunID, &v.JobID, &labels, &v.Client, &created, &updated); err != nil {
		return v, err
	}
	v.CreatedAt, v.UpdatedAt = moment(created), moment(updated)
	return v, json.Unmarshal([]byte(labels), &v.Labels)
}

func (s *Store) sessions(ctx context.Context, query string, args ...any) ([]deploy.Session, error) {
	out := []deploy.Session{}
	err := s.query(ctx, func(r *sql.Rows) error {
		v, err := scanSession(r)
		out = append(out, v)
		return err
	}, sessionColumns+query, args...)
	return out, err
}

// Session implements deploy.Store.
func (s *Store) Session(ctx context.Context, principal, id string) (*deploy.Session, error) {
	if !plain(id) {
		return nil, errNoSession(id)
	}
	found, err := s.sessions(ctx, "WHERE id = $1 AND principal = $2", id, principal)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errNoSession(id)
	}
	return &found[0], nil
}

func errNoSession(id string) error {
	return deploy.Errorf(deploy.CodeSessionNotFound,
		"Call status without session_id to find your sessions, or deploy_temporary without session_id for the current one.",
		"there is no session %q of yours", shown(id))
}

// shown cuts what a caller sent to a size that can be repeated to it.
func shown(id string) string {
	const most = 64
	if len(id) > most {
		return id[:most] + "…"
	}
	return id
}

const newestFirst = "ORDER BY sessions.created_at DESC, sessions.added DESC, sessions.id DESC "

// CurrentSession implements deploy.Store.
func (s *Store) CurrentSession(ctx context.Context, principal, scope, runID string) (*deploy.Session, error) {
	query, args := "WHERE principal = $1 AND scope = $2 ", []any{principal, scope}
	if runID != "" {
		query, args = query+"AND run_id = $3 ", append(args, clean(runID))
	}
	found, err := s.sessions(ctx, query+newestFirst+"LIMIT 1", args...)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// Sessions implements deploy.Store.
func (s *Store) Sessions(ctx context.Context, principal string, limit int) ([]deploy.Session, error) {
	return s.sessions(ctx, "WHERE principal = $1 "+newestFirst+"LIMIT $2", principal, limit)
}

// SaveAccount implements deploy.Store.
func (s *Store) SaveAccount(ctx context.Context, a deploy.Account) error {
	wiped := false
	err := s.transact(ctx, func(tx *sql.Tx) (err error) {
		wiped, err = s.putAccount(ctx, tx, a)
		return err
	})
	if err == nil && wiped {
		err = s.scrub(ctx)
	}
	return err
}

// putAccount inserts or updates an account and keeps what must hold of a session's
// accounts: a new one in use retires the others, and what was retired or wiped stays
// so, whatever an older picture of it says. It tells whether a secret was wiped.
func (s *Store) putAccount(ctx context.Context, tx *sql.Tx, a deploy.Account) (wiped bool, err error) {
	if err := s.home.serialise(ctx, tx, "accounts of "+a.SessionID); err != nil {
		return false, fmt.Errorf("waiting for a turn: %w", err)
	}
	had, state := false, ""
	if had, err = one(ctx, tx, []any{&state}, "SELECT state FROM accounts WHERE target = $1 AND id = $2", a.Target, a.ID); err != nil {
		return false, err
	}
	if a.State == deploy.AccountCurrent && (!had || state == "") {
		n, err := run(ctx, tx, `UPDATE accounts SET state = 'retired', token = NULL, claim_url = NULL
			WHERE session_id = $1 AND state = '' AND NOT (target = $2 AND id = $3)`, a.SessionID, a.Target, a.ID)
		if err != nil {
			return false, err
		}
		wiped = n > 0
	}
	token := s.seal.seal([]byte(a.Token.Reveal()), place("accounts", "token", a.Target, a.ID))
	claim := s.seal.seal([]byte(a.ClaimURL.Reveal()), place("accounts", "claim_url", a.Target, a.ID))
	to, err := toJSON(a.SealedTo)
	if err != nil {
		return false, err
	}
	n, err := run(ctx, tx, `INSERT INTO accounts (target, id, session_id, name, subdomain, token, claim_url, created_at, expires_at,
			claim_expires_at, skew, state, sealed_to, added)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, (SELECT COALESCE(MAX(added), 0) + 1 FROM accounts WHERE session_id = $14))
		ON CONFLICT (target, id) DO UPDATE SET name = excluded.name, subdomain = excluded.subdomain,
			token = CASE WHEN accounts.token IS NULL THEN NULL ELSE excluded.token END,
			claim_url = CASE WHEN accounts.claim_url IS NULL THEN NULL ELSE excluded.claim_url END,
			expires_at = excluded.expires_at, claim_expires_at = excluded.claim_expires_at, skew = excluded.skew,
			state = CASE WHEN excluded.state = '' THEN accounts.state ELSE excluded.state END
		WHERE accounts.session_id = excluded.session_id`,
		a.Target, a.ID, a.SessionID, clean(a.Name), clean(a.Subdomain), token, claim, millis(a.CreatedAt), millis(a.ExpiresAt),
		millis(a.ClaimExpiresAt), a.Skew.Milliseconds(), string(a.State), to, a.SessionID)
	if err == nil && n == 0 {
		err = errors.New("writing: the account belongs to another session")
	}
	return wiped || token == nil || claim == nil, err
}

// Accounts implements deploy.Store.
func (s *Store) Accounts(ctx context.Context, sessionID string) ([]deploy.Account, error) {
	out := []deploy.Account{}
	err := s.query(ctx, func(r *sql.Rows) error {
		var a deploy.Account
		var token, claim []byte
		var created, expires, claimExpires, skew int64
		var state, to string
		err := r.Scan(&a.Target, &a.ID, &a.SessionID, &a.Name, &a.Subdomain, &token, &claim, &created, &expires, &claimExpires, &skew, &state, &to)
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(to), &a.SealedTo); err != nil {
			return err
		}
		a.CreatedAt, a.ExpiresAt, a.ClaimExpiresAt = moment(created), moment(expires), moment(claimExpires)
		a.Skew, a.State = time.Duration(skew)*time.Millisecond, deploy.AccountState(state)
		if err := s.unseal(&a, token, claim); err != nil {
			return err
		}
		out = append(out, a)
		return nil
	}, `SELECT target, id, session_id, name, subdomain, token, claim_url, created_at, expires_at, claim_expires_at, skew, state, sealed_to
		FROM accounts WHERE session_id = $1 ORDER BY added DESC`, sessionID)
	return out, err
}

// WipeExpired implements deploy.Store.
func (s *Store) WipeExpired(ctx context.Context, t time.Time) (int, error) {
	n, err := s.exec(ctx, `UPDATE accounts SET token = NULL, claim_url = NULL,
			state = CASE WHEN state = '' THEN 'expired' ELSE state END
		WHERE expires_at < $1 AND (token IS NOT NULL OR claim_url IS NOT NULL)`, millis(t))
	if err == nil && n > 0 {
		err = s.scrub(ctx)
	}
	return int(n), err
}

// SaveDeployment implements deploy.Store.
func (s *Store) SaveDeployment(ctx context.Context, d deploy.Deployment) error {
	db, err := s.use(ctx)
	if err != nil {
		return err
	}
	return s.failed(putDeployment(ctx, db, d))
}

func putDeployment(ctx context.Context, q querier, d deploy.Deployment) error {
	check, err := toJSON(d.Check)
	if err != nil {
		return err
	}
	_, err = run(ctx, q, `INSERT INTO deployments (id, session_id, account_id, worker, host, url, version_id, bundle_id, digest, created_at,
			check_json, serving, added)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, (SELECT COALESCE(MAX(added), 0) + 1 FROM deployments WHERE session_id = $13))
		ON CONFLICT (id) DO UPDATE SET host = excluded.host, url = excluded.url, version_id = excluded.version_id,
			bundle_id = excluded.bundle_id, digest = excluded.digest, check_json = excluded.check_json, serving = excluded.serving`,
		d.ID, d.SessionID, d.AccountID, d.Worker, clean(d.Host), clean(d.URL), clean(d.VersionID), d.BundleID, d.Digest, millis(d.CreatedAt),
		check, d.Serving, d.SessionID)
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
