package session

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
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
	ofForeign
)

// The six tables in columns that all of them share: kind, texts, numbers, bytes. Which
// sessions is a condition on their id, an operator and a query. Accounts come first:
// PostgreSQL takes the types of columns from there.
const (
	pictureAccounts = `
SELECT %[2]d AS kind, session_id AS t0, target AS t1, id AS t2, name AS t3, subdomain AS t4, state AS t5, sealed_to AS t6, NULL AS t7, NULL AS t8, NULL AS t9, NULL AS t10,
	NULL AS t11, NULL AS t12,
	added AS n0, created_at AS n1, expires_at AS n2, claim_expires_at AS n3, skew AS n4, token AS b0, claim_url AS b1
	FROM accounts WHERE session_id %[1]s`
	pictureSessions = `
SELECT %[2]d, id, principal, scope, run_id, job_id, labels, client, NULL, NULL, NULL, NULL, NULL, NULL,
	added, created_at, updated_at, CASE WHEN id = (SELECT n.id FROM sessions AS n WHERE n.principal = sessions.principal AND n.scope = sessions.scope
		ORDER BY n.created_at DESC, n.added DESC, n.id DESC LIMIT 1) THEN 1 ELSE 0 END, NULL, NULL, NULL
	FROM sessions WHERE id %[1]s`
	pictureDeployments = `
SELECT %[2]d, session_id, id, account_id, worker, host, url, version_id, bundle_id, digest, check_json, serving, NULL, NULL,
	added, created_at, NULL, NULL, NULL, NULL, NULL
	FROM deployments WHERE session_id %[1]s AND serving NOT IN ('failed', 'deleted')
	AND NOT EXISTS (SELECT 1 FROM deployments AS n WHERE n.session_id = deployments.session_id AND n.added > deployments.added
		AND n.account_id = deployments.account_id AND n.worker = deployments.worker AND n.serving NOT IN ('failed', 'deleted'))`
	pictureSteps = `
SELECT %[2]d, session_id, id, principal, account_id, kind, state, what, bundle_id, digest, ref, note, NULL, NULL,
	added, begun_at, settled_at, fence, NULL, NULL, NULL
	FROM steps WHERE session_id %[1]s
	AND EXISTS (SELECT 1 FROM steps AS n WHERE n.session_id = steps.session_id AND n.state IN ('open', 'unknown', 'lost'))`
	pictureClaims = `
SELECT %[2]d, session_id, id, account_id, principal, state, message, digest, browser, decided_by, channel, evidence, yes, custody,
	added, asked_at, expires_at, decided_at, NULL, NULL, NULL
	FROM claims WHERE session_id %[1]s`
	pictureForeign = `
SELECT %[2]d, session_id, worker, version_id, target, account_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
	seen_at, NULL, NULL, NULL, NULL, NULL, NULL
	FROM foreign_changes WHERE session_id %[1]s`
)

// Which sessions: one, or the newest of a principal. Every part looks again whose they
// are; to look once and read then takes longer, also where a read is no way to a server.
const (
	oneSession  = "= (SELECT id FROM sessions WHERE id = $1 AND principal = $2)"
	newSessions = "IN (SELECT id FROM sessions WHERE principal = $1 " + newestFirst + "LIMIT $2)"
)

// pictures is the text of one query for all that is on record of some sessions.
func pictures(which string) string {
	var of []string
	for kind, text := range []string{pictureAccounts, pictureSessions, pictureDeployments, pictureSteps, pictureClaims, pictureForeign} {
		of = append(of, fmt.Sprintf(text, which, kind))
	}
	return strings.Join(of, "\nUNION ALL")
}

// pictureTexts are made once.
type pictureTexts struct{ ofOne, ofAll string }

// pictureRow is one row, of any of the tables.
type pictureRow struct {
	kind, added int64
	session     string
	t           [12]any // text
	n           [4]any  // int64
	b           [2][]byte
}

func (r *pictureRow) scan(rows *sql.Rows) error {
	t, n := &r.t, &r.n
	return rows.Scan(&r.kind, &r.session, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7], &t[8], &t[9], &t[10], &t[11],
		&r.added, &n[0], &n[1], &n[2], &n[3], &r.b[0], &r.b[1])
}

func (r *pictureRow) text(i int) string {
	s, _ := r.t[i].(string)
	return s
}

func (r *pictureRow) number(i int) int64 {
	n, _ := r.n[i].(int64)
	return n
}

func (r *pictureRow) time(i int) time.Time { return moment(r.number(i)) }

// Pictures implements deploy.Store.
func (s *Store) Pictures(ctx context.Context, principal, id string, limit int) ([]deploy.Picture, error) {
	if id == "" {
		return s.picturesBy(ctx, s.texts.ofAll, principal, limit)
	}
	if !plain(id) {
		return nil, errNoSession(id)
	}
	if _, err := s.use(ctx); err != nil {
		return nil, err
	}
	one := func() ([]deploy.Picture, error) { return s.picturesBy(ctx, s.texts.ofOne, id, principal) }
	var out []deploy.Picture
	var err error
	if s.reads == nil {
		out, err = one()
	} else if err = ctx.Err(); err == nil {
		out, err = s.reads.kept.picture(context.WithoutCancel(ctx), s.reads.db, principal+"\x00"+id, one)
	}
	if err == nil && len(out) == 0 {
		err = errNoSession(id)
	}
	return out, err
}

func (s *Store) picturesBy(ctx context.Context, query string, args ...any) ([]deploy.Picture, error) {
	rows := make([]pictureRow, 0, 8)
	err := s.read(ctx, func(r *sql.Rows) error {
		rows = append(rows, pictureRow{})
		return rows[len(rows)-1].scan(r)
	}, query, args...)
	if err != nil {
		return nil, err
	}
	out, err := s.paint(rows)
	return out, s.failed(err)
}

// paint puts rows together, in the orders that a Picture promises.
func (s *Store) paint(rows []pictureRow) ([]deploy.Picture, error) {
	// By when they were added, then by their first time and their names, as the lists of one
	// table are ordered.
	slices.SortFunc(rows, func(a, b pictureRow) int {
		return cmp.Or(cmp.Compare(a.added, b.added), cmp.Compare(a.number(0), b.number(0)), cmp.Compare(a.text(0), b.text(0)), cmp.Compare(a.text(1), b.text(1)))
	})
	var out []deploy.Picture
	for i := range rows {
		if r := &rows[i]; r.kind == ofSession {
			v := deploy.Session{
				ID: r.session, Principal: r.text(0), Scope: r.text(1), RunID: r.text(2), JobID: r.text(3), Client: r.text(5),
				CreatedAt: r.time(0), UpdatedAt: r.time(1),
			}
			if err := json.Unmarshal([]byte(r.text(4)), &v.Labels); err != nil {
				return nil, fmt.Errorf("reading: %w", err)
			}
			out = append(out, deploy.Picture{Session: v, Newest: r.number(2) == 1})
		}
	}
	slices.Reverse(out)
	slices.SortStableFunc(out, func(a, b deploy.Picture) int { return b.Session.CreatedAt.Compare(a.Session.CreatedAt) }) // newestFirst
	at := make(map[string]*deploy.Picture, len(out))
	for i := range out {
		at[out[i].Session.ID] = &out[i]
	}
	for i := range rows {
		if err := s.add(at[rows[i].session], &rows[i]); err != nil {
			return nil, fmt.Errorf("reading: %w", err)
		}
	}
	for i := range out {
		slices.Reverse(out[i].Accounts)
		slices.Reverse(out[i].Deployments)
	}
	return out, nil
}

// add adds a row to what is older.
func (s *Store) add(p *deploy.Picture, r *pictureRow) error {
	switch r.kind {
	case ofAccount:
		a := deploy.Account{
			SessionID: r.session, Target: r.text(0), ID: r.text(1), Name: r.text(2), Subdomain: r.text(3), State: deploy.AccountState(r.text(4)),
			CreatedAt: r.time(0), ExpiresAt: r.time(1), ClaimExpiresAt: r.time(2), Skew: time.Duration(r.number(3)) * time.Millisecond,
		}
		if err := json.Unmarshal([]byte(r.text(5)), &a.SealedTo); err != nil {
			return err
		}
		if err := s.unseal(&a, r.b[0], r.b[1]); err != nil {
			return err
		}
		p.Accounts = append(p.Accounts, a)
	case ofDeployment:
		d := deploy.Deployment{
			ID: r.text(0), SessionID: r.session, AccountID: r.text(1), Worker: r.text(2), Host: r.text(3), URL: r.text(4),
			VersionID: r.text(5), BundleID: r.text(6), Digest: r.text(7), Serving: r.text(9), CreatedAt: r.time(0),
		}
		if err := json.Unmarshal([]byte(r.text(8)), &d.Check); err != nil {
			return err
		}
		p.Deployments = append(p.Deployments, d)
	case ofStep:
		p.Steps = append(p.Steps, deploy.Step{
			ID: r.text(0), SessionID: r.session, Principal: r.text(1), AccountID: r.text(2), Kind: deploy.StepKind(r.text(3)),
			State: deploy.StepState(r.text(4)), What: r.text(5), BundleID: r.text(6), Digest: r.text(7), Ref: r.text(8), Note: r.text(9),
			BegunAt: r.time(0), SettledAt: r.time(1), Fence: r.number(2),
		})
	case ofForeign:
		p.Foreign = append(p.Foreign, deploy.ForeignChange{
			SessionID: r.session, Worker: r.text(0), VersionID: r.text(1), Target: r.text(2), AccountID: r.text(3), SeenAt: moment(r.added),
		})
	case ofClaim: // the newest stays
		p.Claim = &deploy.Claim{
			ID: r.text(0), SessionID: r.session, AccountID: r.text(1), Principal: r.text(2), State: deploy.ClaimState(r.text(3)), Message: r.text(4),
			Digest: r.text(5), Browser: r.text(6), DecidedBy: r.text(7), Channel: r.text(8), Evidence: r.text(9),
			AskedAt: r.time(0), ExpiresAt: r.time(1), DecidedAt: r.time(2),
			Custody: r.text(11),
		}
		return json.Unmarshal([]byte(r.text(10)), &p.Claim.Yes)
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
