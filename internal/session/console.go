package session

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

var _ deploy.Logins = (*Store)(nil)

// SaveOnce implements deploy.Logins. What is over goes when something new comes.
func (s *Store) SaveOnce(ctx context.Context, kind, hash string, body []byte, expires time.Time) error {
	if _, err := s.exec(ctx, "DELETE FROM console_once WHERE expires_at < $1", millis(s.cfg.Now())); err != nil {
		return err
	}
	_, err := s.exec(ctx, "INSERT INTO console_once (kind, hash, body, expires_at) VALUES ($1, $2, $3, $4)", kind, hash, string(body), millis(expires))
	return err
}

// TakeOnce implements deploy.Logins: of two who come at once, one gets it.
func (s *Store) TakeOnce(ctx context.Context, kind, hash string, now time.Time) ([]byte, error) {
	var body []byte
	// One statement: what is deleted is what is read.
	err := s.query(ctx, func(r *sql.Rows) error {
		var text string
		var expires int64
		if err := r.Scan(&text, &expires); err != nil {
			return err
		}
		if millis(now) < expires {
			body = []byte(text)
		}
		return nil
	}, "DELETE FROM console_once WHERE kind = $1 AND hash = $2 RETURNING body, expires_at", kind, hash)
	return body, err
}

// SaveConsoleSession implements deploy.Logins.
func (s *Store) SaveConsoleSession(ctx context.Context, c deploy.ConsoleSession) error {
	who, err := json.Marshal(c.User)
	if err != nil {
		return s.failed(err)
	}
	if _, err := s.exec(ctx, "DELETE FROM console_sessions WHERE expires_at < $1", millis(s.cfg.Now())); err != nil {
		return err
	}
	_, err = s.exec(ctx, "INSERT INTO console_sessions (hash, who, created_at, seen_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
		c.Hash, string(who), millis(c.CreatedAt), millis(c.SeenAt), millis(c.ExpiresAt))
	return err
}

// ConsoleSession implements deploy.Logins.
func (s *Store) ConsoleSession(ctx context.Context, hash string) (*deploy.ConsoleSession, error) {
	var found *deploy.ConsoleSession
	err := s.query(ctx, func(r *sql.Rows) error {
		var who string
		var created, seen, expires int64
		if err := r.Scan(&who, &created, &seen, &expires); err != nil {
			return err
		}
		c := deploy.ConsoleSession{Hash: hash, CreatedAt: moment(created), SeenAt: moment(seen), ExpiresAt: moment(expires)}
		if err := json.Unmarshal([]byte(who), &c.User); err != nil {
			return err
		}
		found = &c
		return nil
	}, "SELECT who, created_at, seen_at, expires_at FROM console_sessions WHERE hash = $1", hash)
	return found, err
}

// SeenConsoleSession implements deploy.Logins.
func (s *Store) SeenConsoleSession(ctx context.Context, hash string, at time.Time) error {
	_, err := s.exec(ctx, "UPDATE console_sessions SET seen_at = $1 WHERE hash = $2 AND seen_at < $3", millis(at), hash, millis(at))
	return err
}

// EndConsoleSession implements deploy.Logins.
func (s *Store) EndConsoleSession(ctx context.Context, hash string) error {
	_, err := s.exec(ctx, "DELETE FROM console_sessions WHERE hash = $1", hash)
	return err
}

// SavePasskey implements deploy.Logins.
func (s *Store) SavePasskey(ctx context.Context, p deploy.Passkey) error {
	_, err := s.exec(ctx, `INSERT INTO passkeys (id, user_id, credential, created_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO UPDATE SET credential = EXCLUDED.credential WHERE passkeys.user_id = EXCLUDED.user_id`,
		p.ID, p.UserID, string(p.Credential), millis(p.CreatedAt))
	return err
}

// Passkeys implements deploy.Logins.
func (s *Store) Passkeys(ctx context.Context, userID string) ([]deploy.Passkey, error) {
	out := []deploy.Passkey{}
	err := s.query(ctx, func(r *sql.Rows) error {
		p := deploy.Passkey{UserID: userID}
		var credential string
		var created int64
		if err := r.Scan(&p.ID, &credential, &created); err != nil {
			return err
		}
		p.Credential, p.CreatedAt = []byte(credential), moment(created)
		out = append(out, p)
		return nil
	}, "SELECT id, credential, created_at FROM passkeys WHERE user_id = $1 ORDER BY created_at, id", userID)
	return out, err
}
