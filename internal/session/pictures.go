package session

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// What a row of pictures is of.
const (
	ofAccount = iota
	ofSession
	ofDeployment
	ofStep
	ofClaim
)

// pictures is the text of one query for all that is on record of some sessions: rows of
// five tables in columns that all of them share. Which sessions is a condition on
// their id, given as an operator and a query: "= (SELECT …)" for one of them, so that
// neither home builds a table of one row. Accounts come first: PostgreSQL takes the types
// of columns from there.
func pictures(which string) string {
	return fmt.Sprintf(`
SELECT %[2]d AS kind, target AS t0, id AS t1, session_id AS t2, name AS t3, subdomain AS t4, state AS t5, '' AS t6, '' AS t7, '' AS t8, '' AS t9, '' AS t10,
	created_at AS n0, expires_at AS n1, claim_expires_at AS n2, skew AS n3, added AS n4, token AS b0, claim_url AS b1
	FROM accounts WHERE session_id %[1]s
UNION ALL
SELECT %[3]d, id, principal, scope, run_id, job_id, labels, client, '', '', '', '',
	created_at, updated_at, CASE WHEN id = (SELECT n.id FROM sessions AS n WHERE n.principal = sessions.principal AND n.scope = sessions.scope
		ORDER BY n.created_at DESC, n.added DESC, n.id DESC LIMIT 1) THEN 1 ELSE 0 END, 0, added, NULL, NULL
	FROM sessions WHERE id %[1]s
UNION ALL
SELECT %[4]d, id, session_id, account_id, worker, host, url, version_id, bundle_id, digest, check_json, serving,
	created_at, 0, 0, 0, added, NULL, NULL
	FROM deployments WHERE session_id %[1]s AND serving NOT IN ('failed', 'deleted')
	AND NOT EXISTS (SELECT 1 FROM deployments AS n WHERE n.session_id = deployments.session_id AND n.added > deployments.added
		AND n.account_id = deployments.account_id AND n.worker = deployments.worker AND n.serving NOT IN ('failed', 'deleted'))
UNION ALL
SELECT %[5]d, id, session_id, principal, account_id, kind, state, what, bundle_id, digest, ref, note,
	fence, begun_at, settled_at, 0, added, NULL, NULL
	FROM steps WHERE session_id IN (SELECT session_id FROM steps WHERE session_id %[1]s AND state IN ('open', 'unknown', 'lost'))
UNION ALL
SELECT %[6]d, id, session_id, account_id, principal, state, message, digest, browser, decided_by, channel, evidence,
	asked_at, expires_at, decided_at, 0, added, NULL, NULL
	FROM claims WHERE session_id %[1]s`, which, ofAccount, ofSession, ofDeployment, ofStep, ofClaim)
}

func pictureOfOne() string {
	return pictures("= (SELECT id FROM sessions WHERE id = $1 AND principal = $2)")
}

func picturesOfAll() string {
	return pictures("IN (SELECT id FROM sessions WHERE principal = $1 " + newestFirst + "LIMIT $2)")
}

// pictureRow is one row, of any of the tables.
type pictureRow struct {
	kind int
	t    [11]string
	n    [5]int64
	b    [2][]byte
}

func (r *pictureRow) scan(rows *sql.Rows) error {
	t, n := &r.t, &r.n
	return rows.Scan(&r.kind, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7], &t[8], &t[9], &t[10],
		&n[0], &n[1], &n[2], &n[3], &n[4], &r.b[0], &r.b[1])
}

// session is the ID of the one that the row belongs to.
func (r *pictureRow) session() string {
	switch r.kind {
	case ofAccount:
		return r.t[2]
	case ofSession:
		return r.t[0]
	}
	return r.t[1]
}

// Pictures implements deploy.Store.
func (s *Store) Pictures(ctx context.Context, principal, id string, limit int) ([]deploy.Picture, error) {
	var rows []pictureRow
	scan := func(r *sql.Rows) error {
		rows = append(rows, pictureRow{})
		return rows[len(rows)-1].scan(r)
	}
	var err error
	if id == "" {
		err = s.read(ctx, scan, picturesOfAll(), principal, limit)
	} else if !plain(id) {
		err = errNoSession(id)
	} else {
		err = s.read(ctx, scan, pictureOfOne(), id, principal)
	}
	if err != nil {
		return nil, err
	}
	out, err := s.paint(rows)
	if err == nil && id != "" && len(out) == 0 {
		err = errNoSession(id)
	}
	return out, s.failed(err)
}

// paint puts rows together, in the orders that a Picture promises.
func (s *Store) paint(rows []pictureRow) ([]deploy.Picture, error) {
	// By when they were added, then by their first time and their name, as the lists of one
	// table are ordered.
	slices.SortFunc(rows, func(a, b pictureRow) int {
		return cmp.Or(cmp.Compare(a.n[4], b.n[4]), cmp.Compare(a.n[0], b.n[0]), cmp.Compare(a.t[0], b.t[0]))
	})
	var out []deploy.Picture
	for i := range rows {
		if r := &rows[i]; r.kind == ofSession {
			v := deploy.Session{ID: r.t[0], Principal: r.t[1], Scope: r.t[2], RunID: r.t[3], JobID: r.t[4], Client: r.t[6], CreatedAt: moment(r.n[0]), UpdatedAt: moment(r.n[1])}
			if err := json.Unmarshal([]byte(r.t[5]), &v.Labels); err != nil {
				return nil, fmt.Errorf("reading: %w", err)
			}
			out = append(out, deploy.Picture{Session: v, Newest: r.n[2] == 1})
		}
	}
	// Stable, and by added before: as newestFirst has it.
	slices.Reverse(out)
	slices.SortStableFunc(out, func(a, b deploy.Picture) int { return b.Session.CreatedAt.Compare(a.Session.CreatedAt) })
	at := make(map[string]*deploy.Picture, len(out))
	for i := range out {
		at[out[i].Session.ID] = &out[i]
	}
	for i := range rows {
		r := &rows[i]
		p := at[r.session()]
		if p == nil || r.kind == ofSession {
			continue
		}
		if err := s.add(p, r); err != nil {
			return nil, fmt.Errorf("reading: %w", err)
		}
	}
	for i := range out {
		slices.Reverse(out[i].Accounts)
		slices.Reverse(out[i].Deployments)
	}
	return out, nil
}

// add adds a row, the oldest first.
func (s *Store) add(p *deploy.Picture, r *pictureRow) error {
	t, n := &r.t, &r.n
	switch r.kind {
	case ofAccount:
		a := deploy.Account{
			Target: t[0], ID: t[1], SessionID: t[2], Name: t[3], Subdomain: t[4], State: deploy.AccountState(t[5]),
			CreatedAt: moment(n[0]), ExpiresAt: moment(n[1]), ClaimExpiresAt: moment(n[2]), Skew: time.Duration(n[3]) * time.Millisecond,
		}
		if err := s.unseal(&a, r.b[0], r.b[1]); err != nil {
			return err
		}
		p.Accounts = append(p.Accounts, a)
	case ofDeployment:
		d := deploy.Deployment{
			ID: t[0], SessionID: t[1], AccountID: t[2], Worker: t[3], Host: t[4], URL: t[5], VersionID: t[6], BundleID: t[7], Digest: t[8],
			Serving: t[10], CreatedAt: moment(n[0]),
		}
		if err := json.Unmarshal([]byte(t[9]), &d.Check); err != nil {
			return err
		}
		p.Deployments = append(p.Deployments, d)
	case ofStep:
		p.Steps = append(p.Steps, deploy.Step{
			ID: t[0], SessionID: t[1], Principal: t[2], AccountID: t[3], Kind: deploy.StepKind(t[4]), State: deploy.StepState(t[5]), What: t[6],
			BundleID: t[7], Digest: t[8], Ref: t[9], Note: t[10], Fence: n[0], BegunAt: moment(n[1]), SettledAt: moment(n[2]),
		})
	case ofClaim: // the newest stays
		p.Claim = &deploy.Claim{
			ID: t[0], SessionID: t[1], AccountID: t[2], Principal: t[3], State: deploy.ClaimState(t[4]), Message: t[5], Digest: t[6], Browser: t[7],
			DecidedBy: t[8], Channel: t[9], Evidence: t[10], AskedAt: moment(n[0]), ExpiresAt: moment(n[1]), DecidedAt: moment(n[2]),
		}
	}
	return nil
}

// unseal opens what is sealed of an account.
func (s *Store) unseal(a *deploy.Account, token, claim []byte) error {
	for _, v := range []struct {
		column string
		sealed []byte
		to     *deploy.Secret
	}{{"token", token, &a.Token}, {"claim_url", claim, &a.ClaimURL}} {
		if len(v.sealed) == 0 {
			continue
		}
		plain, err := s.seal.open(v.sealed, place("accounts", v.column, a.Target, a.ID))
		if err != nil {
			return err
		}
		*v.to = deploy.Secret(plain)
	}
	return nil
}
