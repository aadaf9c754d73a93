package session

import (
	"database/sql"
	"reflect"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// TestDownAndUpOnData: the newest migration taken back and made again keeps what was
// there before it, and two accounts in use, which the older schema let stand, become one.
func TestDownAndUpOnData(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { downAndUp(t, Config{Dir: t.TempDir()}) })
	t.Run("PostgreSQL", func(t *testing.T) {
		downAndUp(t, Config{URL: deploy.Secret(peertest.Postgres(t)), Key: make([]byte, keyBytes)})
	})
}

func downAndUp(t *testing.T, cfg Config) {
	t.Helper()
	ctx := t.Context()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(ctx, cfg)
	ok(err)
	when := time.UnixMilli(1_800_000_000_000).UTC()
	for _, id := range []string{"s_z", "s_a"} { // made within one millisecond, in this order
		ok(s.SaveSession(ctx, deploy.Session{ID: id, Principal: "me", CreatedAt: when, UpdatedAt: time.Now()}))
	}
	acct := deploy.Account{ID: "1", Target: "t", SessionID: "s_a", Token: "token-1", ClaimURL: "link-1", CreatedAt: when, ExpiresAt: when.Add(time.Hour)}
	ok(s.SaveAccount(ctx, acct))
	ok(s.SaveDeployment(ctx, deploy.Deployment{ID: "d", SessionID: "s_a", AccountID: "1", CreatedAt: when}))
	ok(s.SaveClaim(ctx, deploy.Claim{ID: "c", SessionID: "s_a", AccountID: "1", Principal: "me", PageToken: "page"}))
	l, err := s.AcquireLease(ctx, "s_a", time.Minute)
	ok(err)
	ok(s.BeginStep(ctx, l, deploy.Step{ID: "st", SessionID: "s_a", Kind: deploy.StepDelete}))
	bounds := deploy.LogBounds{Lines: 9, Bytes: 99}
	_, err = s.KeepLogs(ctx, "s_a", []deploy.LogLine{{Text: "said"}}, bounds)
	ok(err)
	ok(s.SaveForeign(ctx, deploy.ForeignChange{SessionID: "s_a", Worker: "strange"}))
	db, _, err := s.DB(ctx)
	ok(err)
	p, err := s.home.migrations(db)
	ok(err)
	for range 2 {
		_, err = p.DownTo(ctx, 1)
		ok(err)
		_, err = db.ExecContext(ctx, `INSERT INTO accounts (target, id, session_id, name, subdomain, token, claim_url, created_at, expires_at,
				claim_expires_at, skew, state, added)
			SELECT target, '0', session_id, name, subdomain, token, claim_url, created_at, expires_at, claim_expires_at, skew, '', 0 FROM accounts WHERE id = '1'
			ON CONFLICT (target, id) DO UPDATE SET state = '', token = excluded.token`)
		ok(err)
		_, err = p.Up(ctx)
		ok(err)
	}
	accounts, err := s.Accounts(ctx, "s_a")
	ok(err)
	if len(accounts) != 2 || !reflect.DeepEqual(accounts[0], acct) || accounts[1].State != deploy.AccountRetired || !accounts[1].Token.Empty() {
		t.Errorf("%+v", accounts)
	}
	all, err := s.Sessions(ctx, "me", 10)
	ok(err)
	if len(all) != 2 || all[0].ID != "s_z" { // by their names: what rowid told is gone with it
		t.Errorf("%+v", all)
	}
	deps, err := s.Deployments(ctx, "s_a")
	ok(err)
	claim, err := s.ClaimByPage(ctx, "page")
	ok(err)
	steps, err := s.Steps(ctx, "s_a")
	ok(err)
	if len(deps) != 1 || claim == nil || len(steps) != 0 {
		t.Errorf("%d deployments, claim %v, %d steps", len(deps), claim, len(steps))
	}
	l, err = s.AcquireLease(ctx, "s_a", time.Minute)
	ok(err)
	ok(s.BeginStep(ctx, l, deploy.Step{ID: "st", SessionID: "s_a", Kind: deploy.StepDelete}))
	tally, err := s.KeepLogs(ctx, "s_a", []deploy.LogLine{{Text: "said anew"}}, bounds)
	ok(err)
	lines, err := s.Logs(ctx, "s_a")
	ok(err)
	foreign, err := s.Foreign(ctx, "s_a")
	ok(err)
	if tally.Lines != 1 || len(lines) != 1 || len(foreign) != 0 {
		t.Errorf("%+v, %+v, %+v", tally, lines, foreign)
	}
	_, err = p.DownTo(ctx, 0)
	ok(err)
	var left sql.NullString
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM sessions").Scan(&left); err == nil {
		t.Error("the lowest schema still has tables")
	}
	ok(s.Close())
}
