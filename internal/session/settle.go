package session

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Settle implements deploy.Ledger. A lease that ran out still settles as long as
// nobody else took it: what its process knows is better than what anybody can ask for.
// The same settlement again is no error, so that one whose answer was lost can be
// repeated.
func (s *Store) Settle(ctx context.Context, l *deploy.Lease, st deploy.Settlement) error {
	if st.State == deploy.StepOpen || st.State == "" {
		return s.failed(errors.New("a settlement says what became of a step"))
	}
	wiped := false
	err := s.change(ctx, turn(l.Name), func(tx *sql.Tx, now int64) error {
		had, err := leaseOf(ctx, tx, l.Name)
		if err != nil {
			return err
		}
		if !had.heldBy(l) {
			return errLeaseLost(l.Name)
		}
		account, ref, err := settleable(ctx, tx, l, st)
		if err != nil {
			return err
		}
		if st.Account != nil {
			account = st.Account.ID
			if wiped, err = s.putAccount(ctx, tx, *st.Account); err != nil {
				return err
			}
		}
		if st.Deployment != nil {
			if err := putDeployment(ctx, tx, *st.Deployment); err != nil {
				return err
			}
		}
		at, by := now, l.Fence
		if !st.State.Settled() {
			at, by = 0, 0
		}
		if st.Ref != "" {
			ref = clean(st.Ref)
		}
		_, err = run(ctx, tx, "UPDATE steps SET state = $1, ref = $2, note = $3, account_id = $4, settled_by = $5, settled_at = $6 WHERE id = $7",
			string(st.State), ref, clean(st.Note), account, by, at, st.StepID)
		return err
	})
	if err == nil && wiped {
		err = s.scrub(ctx)
	}
	return err
}

// settleable finds the step of a settlement and refuses what does not belong to it.
func settleable(ctx context.Context, tx *sql.Tx, l *deploy.Lease, st deploy.Settlement) (account, ref string, err error) {
	var session, state string
	var by int64
	found, err := one(ctx, tx, []any{&session, &state, &by, &account, &ref},
		"SELECT session_id, state, settled_by, account_id, ref FROM steps WHERE id = $1", st.StepID)
	switch {
	case err != nil:
		return "", "", err
	case !found || session != l.Name:
		return "", "", fmt.Errorf("there is no step %s of %s", shown(st.StepID), shown(l.Name))
	case deploy.StepState(state).Settled() && (by != l.Fence || state != string(st.State)):
		return "", "", errLeaseLost(l.Name)
	case st.Account != nil && st.Account.SessionID != session, st.Deployment != nil && st.Deployment.SessionID != session:
		return "", "", errors.New("a step brings its own session's account and deployment only")
	}
	return account, ref, nil
}

// Abandoned implements deploy.Ledger. Who was looked at longest ago comes first, so
// that nobody waits behind sessions that can't be settled now.
func (s *Store) Abandoned(ctx context.Context, t time.Time, limit int) ([]deploy.Session, error) {
	db, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	now, err := s.home.clock(ctx, db)
	if err != nil {
		return nil, s.failed(err)
	}
	return s.sessions(ctx, `LEFT JOIN leases ON leases.name = sessions.id
		WHERE sessions.id IN (
			SELECT session_id FROM steps WHERE state IN ('open', 'unknown')
			UNION SELECT session_id FROM accounts WHERE (state = '' OR token IS NOT NULL OR claim_url IS NOT NULL) AND (expires_at < $1 OR expires_at - skew < $2))
		AND (leases.name IS NULL OR leases.owner = '' OR leases.until_at <= $3)
		ORDER BY COALESCE(leases.until_at, 0), sessions.id LIMIT $4`, millis(t), millis(t), now, limit)
}

// Usage implements deploy.Ledger. Accounts were made by the API's clock; their skew
// brings that to ours.
func (s *Store) Usage(ctx context.Context, principal string, since time.Time) (deploy.Usage, error) {
	var u deploy.Usage
	for _, c := range []struct {
		query    string
		from     int64
		all, own *int
	}{
		{"accounts AS x ON x.session_id = sessions.id WHERE x.created_at - x.skew >= $2", millis(since), &u.AllAccounts, &u.Accounts},
		{"deployments AS x ON x.session_id = sessions.id WHERE x.created_at >= $2", millis(since), &u.AllDeployments, &u.Deployments},
		{"accounts AS x ON x.session_id = sessions.id WHERE x.state = '' AND x.expires_at - x.skew > $2", millis(s.cfg.Now()), &u.AllLiveSessions, &u.LiveSessions},
	} {
		err := s.query(ctx, func(r *sql.Rows) error { return r.Scan(c.all, c.own) },
			"SELECT COUNT(*), COUNT(CASE WHEN sessions.principal = $1 THEN 1 END) FROM sessions JOIN "+c.query, principal, c.from)
		if err != nil {
			return deploy.Usage{}, err
		}
	}
	return u, nil
}
