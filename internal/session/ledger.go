package session

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// leaseRow is a lease as it stands in the store.
type leaseRow struct {
	owner        string // empty: it was given back
	fence, until int64
}

func (r leaseRow) heldAt(now int64) bool { return r.owner != "" && r.until > now }

// heldBy tells whether nobody took it since l did.
func (r leaseRow) heldBy(l *deploy.Lease) bool { return r.owner == l.Owner && r.fence == l.Fence }

func leaseOf(ctx context.Context, q querier, name string) (r leaseRow, err error) {
	_, err = one(ctx, q, []any{&r.owner, &r.fence, &r.until}, "SELECT owner, fence, until_at FROM leases WHERE name = $1", name)
	return r, err
}

// turn names the transactions that change a lease, or what it guards.
func turn(lease string) string { return string(place("lease", lease)) }

// AcquireLease implements deploy.Ledger. The owner is another one each time, so that
// not even this process takes an old lease of its own for the new one.
func (s *Store) AcquireLease(ctx context.Context, name string, ttl time.Duration) (*deploy.Lease, error) {
	if err := checkTTL(ttl); err != nil {
		return nil, s.failed(err)
	}
	var l *deploy.Lease
	err := s.change(ctx, turn(name), func(tx *sql.Tx, now int64) error {
		had, err := leaseOf(ctx, tx, name)
		if err != nil {
			return err
		}
		if had.heldAt(now) {
			return errBusy(name, had.until-now)
		}
		until := now + ttl.Milliseconds()
		l = &deploy.Lease{Name: name, Owner: s.owner + "." + rand.Text()[:8], Fence: had.fence + 1, Until: moment(until)}
		_, err = run(ctx, tx, `INSERT INTO leases (name, owner, fence, until_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, fence = excluded.fence, until_at = excluded.until_at`,
			name, l.Owner, l.Fence, until)
		return err
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

func checkTTL(ttl time.Duration) error {
	if ttl < time.Millisecond {
		return fmt.Errorf("a lease of %s is none", ttl)
	}
	return nil
}

// errBusy says that somebody else works on what the lease guards.
func errBusy(name string, leftMS int64) error {
	left := time.Duration(max(leftMS, 1)) * time.Millisecond
	e := deploy.Errorf(deploy.CodeBusy, fmt.Sprintf("Wait; within %s the other is done or given up. Then make the same call again.", left.Round(time.Second)+time.Second),
		"%s is being worked on by another call", shown(name))
	e.RetryAfter = left
	return e
}

// errLeaseLost says that somebody else took over.
func errLeaseLost(name string) error {
	e := deploy.Errorf(deploy.CodeBusy, "Call status to see what was done, then make the same call again.",
		"this call took too long, and %s was handed to another one meanwhile", shown(name))
	e.RetryAfter = time.Second
	return e
}

// RenewLease implements deploy.Ledger.
func (s *Store) RenewLease(ctx context.Context, l *deploy.Lease, ttl time.Duration) error {
	if err := checkTTL(ttl); err != nil {
		return s.failed(err)
	}
	until := int64(0)
	err := s.change(ctx, turn(l.Name), func(tx *sql.Tx, now int64) error {
		had, err := leaseOf(ctx, tx, l.Name)
		if err != nil {
			return err
		}
		if !had.heldBy(l) {
			return errLeaseLost(l.Name)
		}
		until = max(had.until, now+ttl.Milliseconds())
		_, err = run(ctx, tx, "UPDATE leases SET until_at = $1 WHERE name = $2", until, l.Name)
		return err
	})
	if err == nil {
		l.Until = moment(until)
	}
	return err
}

// ReleaseLease implements deploy.Ledger. The row stays, with its fence and the time,
// which Abandoned goes by.
func (s *Store) ReleaseLease(ctx context.Context, l *deploy.Lease) error {
	return s.change(ctx, turn(l.Name), func(tx *sql.Tx, now int64) error {
		_, err := run(ctx, tx, "UPDATE leases SET owner = '', until_at = $1 WHERE name = $2 AND owner = $3 AND fence = $4", now, l.Name, l.Owner, l.Fence)
		return err
	})
}

// BeginStep implements deploy.Ledger.
func (s *Store) BeginStep(ctx context.Context, l *deploy.Lease, v deploy.Step, limits ...deploy.StepLimit) error {
	if v.SessionID != l.Name {
		return s.failed(errors.New("a step is begun under its own session's lease only"))
	}
	return s.change(ctx, turn(l.Name), func(tx *sql.Tx, now int64) error {
		had, err := leaseOf(ctx, tx, l.Name)
		if err != nil {
			return err
		}
		if !had.heldBy(l) || !had.heldAt(now) {
			return errLeaseLost(l.Name)
		}
		there := 0
		found, err := one(ctx, tx, []any{&there}, "SELECT 1 FROM sessions WHERE id = $1", v.SessionID)
		if err == nil && !found {
			err = errNoSession(v.SessionID)
		}
		if err != nil {
			return err
		}
		limits = slices.DeleteFunc(slices.Clone(limits), func(lim deploy.StepLimit) bool { return lim.Kind != v.Kind })
		if len(limits) > 0 { // nobody else counts meanwhile
			if err := s.home.serialise(ctx, tx, string(place("limit", string(v.Kind)))); err != nil {
				return fmt.Errorf("waiting for a turn: %w", err)
			}
		}
		for _, lim := range limits {
			if err := s.within(ctx, tx, now, v.SessionID, lim); err != nil {
				return err
			}
		}
		_, err = run(ctx, tx, `INSERT INTO steps (id, session_id, principal, account_id, kind, state, what, bundle_id, digest, ref, note, fence,
				settled_by, begun_at, settled_at, added)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '', '', $10, 0, $11, 0, (SELECT COALESCE(MAX(added), 0) + 1 FROM steps WHERE session_id = $12))`,
			v.ID, v.SessionID, v.Principal, v.AccountID, string(v.Kind), string(deploy.StepOpen), clean(v.What), v.BundleID, v.Digest, l.Fence, now, v.SessionID)
		return err
	})
}

// Room implements deploy.Ledger.
func (s *Store) Room(ctx context.Context, session string, limits ...deploy.StepLimit) error {
	db, err := s.use(ctx)
	if err != nil {
		return err
	}
	now, err := s.home.clock(ctx, db)
	if err != nil {
		return s.failed(err)
	}
	for _, lim := range limits {
		if err := s.within(ctx, db, now, session, lim); err != nil {
			return s.failed(err)
		}
	}
	return nil
}

// within refuses a step of a session over a limit, by the store's clock.
func (s *Store) within(ctx context.Context, db querier, now int64, session string, lim deploy.StepLimit) error {
	if lim.Live {
		return s.withinLive(ctx, db, now, session, lim)
	}
	left := lim.Window
	if lim.Most > 0 {
		query, args := "WHERE kind = $1 AND begun_at > $2 ", []any{string(lim.Kind), now - lim.Window.Milliseconds()}
		if lim.Principal != "" {
			query, args = query+"AND principal = $3 ", append(args, lim.Principal)
		}
		var begun int64
		// With that one over, there is room for one more.
		full, err := one(ctx, db, []any{&begun}, "SELECT begun_at FROM steps "+query+fmt.Sprintf("ORDER BY begun_at DESC LIMIT 1 OFFSET %d", lim.Most-1), args...)
		if err != nil || !full {
			return err
		}
		left -= time.Duration(now-begun) * time.Millisecond
	}
	return lim.Over(lim.Most, max(left, time.Millisecond))
}

// withinLive refuses an account more over a limit on live sessions; there is room again
// when the first of them ends.
func (s *Store) withinLive(ctx context.Context, db querier, now int64, session string, lim deploy.StepLimit) error {
	var live, open int
	var end sql.NullInt64
	at := millis(s.cfg.Now())
	whose, args := "", []any{session, at}
	if lim.Principal != "" {
		whose, args = " AND sessions.principal = $3", append(args, lim.Principal)
	}
	_, err := one(ctx, db, []any{&live, &end}, `SELECT COUNT(*), MIN(expires_at - skew) FROM accounts JOIN sessions ON sessions.id = accounts.session_id
		WHERE accounts.session_id <> $1 AND accounts.state = '' AND expires_at - skew > $2`+whose, args...)
	if err != nil {
		return err
	}
	whose, args = "", []any{session, now - lim.Window.Milliseconds(), string(lim.Kind)}
	if lim.Principal != "" {
		whose, args = " AND principal = $4", append(args, lim.Principal)
	}
	_, err = one(ctx, db, []any{&open}, `SELECT COUNT(*) FROM steps WHERE session_id <> $1 AND begun_at > $2 AND kind = $3 AND state = 'open'`+whose, args...)
	if err != nil || live+open < lim.Most {
		return err
	}
	wait := lim.Window
	if end.Valid {
		wait = time.Duration(end.Int64-at) * time.Millisecond
	}
	return lim.Over(live+open, max(wait, time.Second))
}

// Steps implements deploy.Ledger.
func (s *Store) Steps(ctx context.Context, sessionID string) ([]deploy.Step, error) {
	out := []deploy.Step{}
	err := s.query(ctx, func(r *sql.Rows) error {
		var v deploy.Step
		var kind, state string
		var begun, settled int64
		err := r.Scan(&v.ID, &v.SessionID, &v.Principal, &v.AccountID, &kind, &state, &v.What, &v.BundleID, &v.Digest, &v.Ref, &v.Note, &v.Fence, &begun, &settled)
		v.Kind, v.State = deploy.StepKind(kind), deploy.StepState(state)
		v.BegunAt, v.SettledAt = moment(begun), moment(settled)
		out = append(out, v)
		return err
	}, `SELECT id, session_id, principal, account_id, kind, state, what, bundle_id, digest, ref, note, fence, begun_at, settled_at
		FROM steps WHERE session_id = $1 ORDER BY added`, sessionID)
	return out, err
}
