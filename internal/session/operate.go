package session

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// SessionsWhere lists everybody's sessions, newest first, for operators.
func (s *Store) SessionsWhere(ctx context.Context, f deploy.SessionFilter) ([]deploy.Session, error) {
	var where []string
	var args []any
	and := func(cond string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			cond = strings.Replace(cond, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		where = append(where, cond)
	}
	if f.Principal != "" {
		and("sessions.principal = ?", f.Principal)
	}
	if f.ID != "" {
		and("sessions.id = ?", f.ID)
	}
	if f.Deployment != "" {
		and("EXISTS (SELECT 1 FROM deployments AS d WHERE d.session_id = sessions.id AND d.id = ?)", f.Deployment)
	}
	if f.Host != "" || f.URL != "" {
		and("EXISTS (SELECT 1 FROM deployments AS d WHERE d.session_id = sessions.id AND (d.host <> '' AND d.host = ? OR d.url <> '' AND d.url = ?))", f.Host, f.URL)
	}
	switch {
	case f.Worker != "" && f.Digest != "":
		and("EXISTS (SELECT 1 FROM deployments AS d WHERE d.session_id = sessions.id AND d.worker = ? AND d.digest = ?)", f.Worker, f.Digest)
	case f.Worker != "":
		and("EXISTS (SELECT 1 FROM deployments AS d WHERE d.session_id = sessions.id AND d.worker = ?)", f.Worker)
	case f.Digest != "":
		and("EXISTS (SELECT 1 FROM deployments AS d WHERE d.session_id = sessions.id AND d.digest = ?)", f.Digest)
	}
	if f.Live {
		and("EXISTS (SELECT 1 FROM accounts AS a WHERE a.session_id = sessions.id AND a.state = '' AND a.expires_at - a.skew > ?)", millis(s.cfg.Now()))
	}
	query := sessionColumns
	if len(where) > 0 {
		query += "WHERE " + strings.Join(where, " AND ") + " "
	}
	most := f.Limit
	if most <= 0 {
		most = 100
	}
	key, value, _ := strings.Cut(f.Label, "=")
	out := []deploy.Session{}
	err := s.query(ctx, func(r *sql.Rows) error {
		if len(out) == most {
			return errEnough
		}
		v, err := scanSession(r)
		if err != nil {
			return err
		}
		// The two homes look into JSON in different words, so we do.
		if has, ok := v.Labels[key]; f.Label == "" || ok && has == value {
			out = append(out, v)
		}
		return nil
	}, query+newestFirst, args...)
	return out, err
}

// SessionByID finds anybody's session, for operators; CodeSessionNotFound.
func (s *Store) SessionByID(ctx context.Context, id string) (*deploy.Session, error) {
	none := deploy.Errorf(deploy.CodeSessionNotFound, "`mcp-server sessions list` has those that are kept.", "there is no session %q", shown(id))
	if !plain(id) {
		return nil, none
	}
	found, err := s.sessions(ctx, "WHERE id = $1", id)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, none
	}
	return &found[0], nil
}

// ForgetSession removes everything of one session: its records, its secrets, and the
// artifacts that none of its principal's other sessions has deployed. CodeBusy while
// its lease is held, CodeSessionNotFound. An account that is live runs on to its end,
// and nobody here can reach it any more.
func (s *Store) ForgetSession(ctx context.Context, id string) error {
	if !plain(id) {
		return errNoSession(id)
	}
	err := s.change(ctx, turn(id), func(tx *sql.Tx, now int64) error {
		had, err := leaseOf(ctx, tx, id)
		if err != nil {
			return err
		}
		if had.heldAt(now) {
			return errBusy(id, had.until-now)
		}
		var principal string
		found, err := one(ctx, tx, []any{&principal}, "SELECT principal FROM sessions WHERE id = $1", id)
		if err != nil {
			return err
		}
		if !found {
			return errNoSession(id)
		}
		_, err = run(ctx, tx, `DELETE FROM artifacts WHERE principal = $1
			AND bundle_id IN (SELECT bundle_id FROM deployments WHERE session_id = $2)
			AND bundle_id NOT IN (SELECT d.bundle_id FROM deployments AS d JOIN sessions AS o ON o.id = d.session_id WHERE o.principal = $3 AND o.id <> $4)`,
			principal, id, principal, id)
		if err != nil {
			return err
		}
		if _, err := run(ctx, tx, "DELETE FROM leases WHERE name = $1", id); err != nil {
			return err
		}
		_, err = run(ctx, tx, "DELETE FROM sessions WHERE id = $1", id)
		return err
	})
	if err == nil {
		err = s.scrub(ctx)
	}
	return err
}

// SetFreeze stops new deployments on every process that shares the store, or, with
// nil, allows them again. The store only remembers it.
func (s *Store) SetFreeze(ctx context.Context, f *deploy.Freeze) error {
	if f == nil {
		_, err := s.exec(ctx, "DELETE FROM meta WHERE name = $1", "freeze")
		return err
	}
	text, err := toJSON(f)
	if err != nil {
		return s.failed(err)
	}
	_, err = s.exec(ctx, "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", "freeze", []byte(text))
	return err
}

// Freeze tells whether new deployments are stopped; nil: they are not.
func (s *Store) Freeze(ctx context.Context) (*deploy.Freeze, error) {
	var f *deploy.Freeze
	err := s.query(ctx, func(r *sql.Rows) error {
		var text []byte
		if err := r.Scan(&text); err != nil {
			return err
		}
		return json.Unmarshal(text, &f)
	}, "SELECT value FROM meta WHERE name = $1", "freeze")
	return f, err
}

// pruneEvery is how often a store that is written to applies its retention by itself.
const pruneEvery = time.Hour

func (s *Store) pruneNowAndThen(ctx context.Context) error {
	now := s.cfg.Now()
	s.mu.Lock()
	due := now.Sub(s.prunedAt).Abs() >= pruneEvery
	if due {
		s.prunedAt = now
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.Prune(ctx, now)
}

// Prune forgets what was kept long enough at now: records, artifacts, idempotency
// keys. A session that somebody works on, or whose account may still be used, stays.
func (s *Store) Prune(ctx context.Context, now time.Time) error {
	gone := int64(0)
	err := s.change(ctx, "prune", func(tx *sql.Tx, clock int64) (err error) {
		gone, err = run(ctx, tx, `DELETE FROM sessions WHERE updated_at < $1
			AND NOT EXISTS (SELECT 1 FROM accounts AS a WHERE a.session_id = sessions.id AND a.state = '' AND a.expires_at - a.skew > $2)
			AND NOT EXISTS (SELECT 1 FROM leases AS l WHERE l.name = sessions.id AND l.owner <> '' AND l.until_at > $3)`,
			millis(now.Add(-s.cfg.RecordTTL)), millis(now), clock)
		if err != nil {
			return err
		}
		for _, p := range []struct {
			query string
			age   time.Duration
		}{
			{"DELETE FROM artifacts WHERE used_at < $1", s.cfg.ArtifactTTL},
			{"DELETE FROM calls WHERE lease_at < $1", s.cfg.CallTTL},
		} {
			if _, err := run(ctx, tx, p.query, millis(now.Add(-p.age))); err != nil {
				return err
			}
		}
		old, err := run(ctx, tx, "DELETE FROM worker_logs WHERE kept_at < $1", millis(now.Add(-s.cfg.LogTTL)))
		if err != nil {
			return err
		}
		gone += old
		// The fence of what is gone begins anew: an owner is never used twice.
		_, err = run(ctx, tx, `DELETE FROM leases WHERE until_at < $1 AND NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.id = leases.name)`,
			clock-s.cfg.RecordTTL.Milliseconds())
		return err
	})
	if err == nil && gone > 0 {
		err = s.scrub(ctx)
	}
	return err
}
