package session_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// TestMain runs as a second process of a test when it is told to.
func TestMain(m *testing.M) {
	peertest.FixedSeed()
	if what := os.Getenv("HOURGLASS_SESSION_WORK"); what != "" {
		os.Exit(work(what))
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

func at(s int64) time.Time { return time.UnixMilli(1_800_000_000_000 + s*1000).UTC() }

func open(t testing.TB, dir string, change ...func(*session.Config)) *session.Store {
	t.Helper()
	cfg := session.Config{Dir: dir}
	for _, c := range change {
		c(&cfg)
	}
	s, err := session.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func someSession(id, principal string, created int64) deploy.Session {
	return deploy.Session{
		ID: id, Principal: principal, Scope: "scope", RunID: "run", JobID: "job", Labels: map[string]string{"a": "b"},
		Client: "client 1", CreatedAt: at(created), UpdatedAt: time.Now().UTC().Truncate(time.Millisecond),
	}
}

func someAccount(id, sess string) deploy.Account {
	return deploy.Account{
		ID: id, SessionID: sess, Name: "Ethereal Composer", Subdomain: "ethereal-composer", Target: "http://api", SealedTo: []string{"age1"}, Token: "token-" + deploy.Secret(id),
		ClaimURL: "https://dash/claim-preview?claimToken=" + deploy.Secret(id), CreatedAt: at(0), ExpiresAt: at(3600), ClaimExpiresAt: at(3600), Skew: 1500 * time.Millisecond,
	}
}

// suite is what every home of sessions must do.
func suite(t *testing.T, fresh func(t *testing.T) *session.Store) {
	ledgerSuite(t, fresh)
	t.Run("sessions", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		a, b := someSession("s_a", "me", 1), someSession("s_b", "me", 2)
		b.RunID, b.Scope = "other", "scope2"
		for _, v := range []deploy.Session{a, b, someSession("s_c", "you", 3)} {
			must(t, s.SaveSession(ctx, v))
		}
		got, err := s.Session(ctx, "me", "s_a")
		must(t, err)
		same(t, *got, a)
		for _, id := range []string{"s_c", "s_never", ""} { // another's is as unknown as none
			_, err := s.Session(ctx, "me", id)
			wantCode(t, err, deploy.CodeSessionNotFound)
		}
		all, err := s.Sessions(ctx, "me", 10)
		must(t, err)
		same(t, all, []deploy.Session{b, a})
		one, err := s.Sessions(ctx, "me", 1)
		must(t, err)
		same(t, one, []deploy.Session{b})
		for _, c := range []struct{ scope, run, want string }{
			{"scope", "", "s_a"}, {"scope", "run", "s_a"}, {"scope", "other", ""}, {"scope2", "", "s_b"}, {"nowhere", "", ""},
		} {
			cur, err := s.CurrentSession(ctx, "me", c.scope, c.run)
			must(t, err)
			if id := idOf(cur); id != c.want {
				t.Errorf("current of %q %q: %q, want %q", c.scope, c.run, id, c.want)
			}
		}
		a.UpdatedAt, a.Labels = a.UpdatedAt.Add(time.Second), nil
		must(t, s.SaveSession(ctx, a))
		got, err = s.Session(ctx, "me", "s_a")
		must(t, err)
		same(t, *got, a)
	})
	t.Run("accounts", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		must(t, s.SaveSession(ctx, someSession("s_a", "me", 1)))
		must(t, s.SaveSession(ctx, someSession("s_b", "me", 1)))
		first, second := someAccount("1", "s_a"), someAccount("2", "s_a")
		second.ExpiresAt = at(7200)
		has := func(want ...deploy.Account) {
			t.Helper()
			got, err := s.Accounts(ctx, "s_a")
			must(t, err)
			same(t, got, append([]deploy.Account{}, want...))
		}
		has()
		must(t, s.SaveAccount(ctx, first))
		has(first)
		claimed := first
		claimed.State, claimed.Token = deploy.AccountClaimed, ""
		must(t, s.SaveAccount(ctx, claimed))
		has(claimed)
		must(t, s.SaveAccount(ctx, first)) // an older picture of it
		has(claimed)
		must(t, s.SaveAccount(ctx, second))
		has(second, claimed)
		foreign := first
		foreign.SessionID, foreign.Name = "s_b", "taken"
		wantCode(t, s.SaveAccount(ctx, foreign), deploy.CodeStore)
		has(second, claimed)
		n, err := s.WipeExpired(ctx, at(3601))
		must(t, err)
		claimed.ClaimURL = ""
		if has(second, claimed); n != 1 {
			t.Errorf("wiped %d", n)
		}
		n, err = s.WipeExpired(ctx, at(7201))
		must(t, err)
		expired := second
		expired.Token, expired.ClaimURL, expired.State = "", "", deploy.AccountExpired
		if has(expired, claimed); n != 1 {
			t.Errorf("wiped %d", n)
		}
		if n, _ = s.WipeExpired(ctx, at(9999)); n != 0 {
			t.Errorf("wiped %d again", n)
		}
		must(t, s.SaveAccount(ctx, second))
		has(expired, claimed)
		none, err := s.Accounts(ctx, "s_none")
		if must(t, err); len(none) != 0 {
			t.Errorf("%v", none)
		}
	})
	t.Run("one account in use", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		must(t, s.SaveSession(ctx, someSession("s_a", "me", 1)))
		must(t, s.SaveAccount(ctx, someAccount("0", "s_a")))
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if err := s.SaveAccount(ctx, someAccount(fmt.Sprint(i+1), "s_a")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		all, err := s.Accounts(ctx, "s_a")
		must(t, err)
		for i, a := range all {
			if inUse := a.State == deploy.AccountCurrent; inUse != (i == 0) || inUse == a.Token.Empty() || inUse == a.ClaimURL.Empty() {
				t.Errorf("%d of %d: %q %v", i, len(all), a.State, a.Token.Empty())
			}
		}
		if len(all) != 9 {
			t.Errorf("%d accounts", len(all))
		}
	})
	t.Run("deployments", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		must(t, s.SaveSession(ctx, someSession("s_a", "me", 1)))
		d := deploy.Deployment{ID: "d_1", SessionID: "s_a", AccountID: "1", Worker: "w", Host: "w.x.workers.dev", URL: "http://u", VersionID: "v", BundleID: "b_1", Digest: "dd", CreatedAt: at(5), Serving: deploy.ServingNotYet}
		must(t, s.SaveDeployment(ctx, d))
		e := d
		e.ID, e.CreatedAt = "d_2", at(5)
		must(t, s.SaveDeployment(ctx, e))
		d.Serving, d.Check = deploy.ServingYes, &deploy.Check{Path: "/", Status: 200, OK: true, LatencyMS: 1.5, BodyExcerpt: "x", Version: "confirmed", ProbedAt: at(9)}
		must(t, s.SaveDeployment(ctx, d))
		got, err := s.Deployments(ctx, "s_a")
		must(t, err)
		same(t, got, []deploy.Deployment{e, d})
	})
	t.Run("artifacts", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		a := artifact(t, "one", 10)
		must(t, s.SaveArtifact(ctx, "me", a))
		must(t, s.SaveArtifact(ctx, "me", a))
		got, err := s.Artifact(ctx, "me", a.BundleID())
		must(t, err)
		same(t, got, a)
		_, err = s.Artifact(ctx, "you", a.BundleID())
		wantCode(t, err, deploy.CodeBundleNotFound)
		_, err = s.Artifact(ctx, "me", "b_none")
		wantCode(t, err, deploy.CodeBundleNotFound)
	})
	strict := deploy.YesRule{Channels: []string{deploy.ChannelPasskey}, FourEyes: true, Where: "https://console.example/console/x"}
	t.Run("claims", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		must(t, s.SaveSession(ctx, someSession("s_a", "me", 1)))
		none, err := s.Claim(ctx, "s_a")
		if must(t, err); none != nil {
			t.Errorf("%v", none)
		}
		c := deploy.Claim{ID: "c_1", SessionID: "s_a", AccountID: "1", Principal: "me", PageToken: "PAGETOKEN", State: deploy.ClaimAwaiting, Message: "m", Digest: "d", AskedAt: at(1), ExpiresAt: at(2), Yes: strict, Custody: "attended"}
		must(t, s.SaveClaim(ctx, c))
		for _, find := range []func() (*deploy.Claim, error){
			func() (*deploy.Claim, error) { return s.Claim(ctx, "s_a") },
			func() (*deploy.Claim, error) { return s.ClaimByPage(ctx, "PAGETOKEN") },
		} {
			got, err := find()
			must(t, err)
			same(t, *got, c)
		}
		if other, err := s.ClaimByPage(ctx, "pagetoken"); err != nil || other != nil {
			t.Errorf("%v %v", other, err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for i := range 8 {
			wg.Go(func() {
				to := []deploy.ClaimState{deploy.ClaimApproved, deploy.ClaimRefused}[i%2]
				ok, err := s.MoveClaim(ctx, deploy.ClaimMove{ID: "c_1", From: deploy.ClaimAwaiting, To: to, Browser: fmt.Sprint("browser", i), By: "ann", Channel: deploy.ChannelPage, At: at(3)})
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if ok {
					won++
				}
			})
		}
		wg.Wait()
		got, err := s.Claim(ctx, "s_a")
		must(t, err)
		if won != 1 || got.State == deploy.ClaimAwaiting || got.Browser == "" || !got.DecidedAt.Equal(at(3)) {
			t.Errorf("%d won: %+v", won, got)
		}
		// A later move keeps what it does not say, and who decided.
		moved, err := s.MoveClaim(ctx, deploy.ClaimMove{ID: "c_1", From: got.State, To: deploy.ClaimAdopted, Evidence: "seen", By: "bob", Channel: deploy.ChannelCommand, At: at(9)})
		must(t, err)
		byID, err := s.ClaimByID(ctx, "c_1")
		must(t, err)
		want := *got
		want.State, want.Evidence = deploy.ClaimAdopted, "seen"
		if same(t, *byID, want); !moved || want.DecidedBy != "ann" || want.Channel != deploy.ChannelPage {
			t.Errorf("moved %v: %+v", moved, byID)
		}
		for _, id := range []string{"c_none", "", "'; --"} {
			if none, err := s.ClaimByID(ctx, id); err != nil || none != nil {
				t.Errorf("%q: %v %v", id, none, err)
			}
		}
		late := c
		late.ID, late.PageToken, late.ExpiresAt = "c_2", "OTHERTOKEN", at(50)
		must(t, s.SaveClaim(ctx, late))
		for _, q := range []struct {
			before int64
			states []deploy.ClaimState
			want   string
		}{
			{51, []deploy.ClaimState{deploy.ClaimAwaiting}, "c_2"},
			{50, []deploy.ClaimState{deploy.ClaimAwaiting}, ""},
			{51, []deploy.ClaimState{deploy.ClaimAdopted, deploy.ClaimAwaiting}, "c_1 c_2"},
			{51, nil, ""},
		} {
			found, err := s.ClaimsIn(ctx, at(q.before), 10, q.states...)
			must(t, err)
			var ids []string
			for _, f := range found {
				ids = append(ids, f.ID)
			}
			if got := strings.Join(ids, " "); got != q.want {
				t.Errorf("before %d in %v: %q, want %q", q.before, q.states, got, q.want)
			}
		}
	})
	t.Run("approvals", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		a := deploy.Approval{
			ID: "ap_1", Principal: "me", Act: deploy.ActDeploy, SessionID: "s_a", Worker: "w", Digest: "d", Labels: map[string]string{"team": "web"},
			Reasons: []deploy.Reason{{Rule: "r", Verdict: deploy.Ask, Message: "m"}}, State: deploy.ApprovalWaiting, AskedAt: at(1), ExpiresAt: at(100),
			Yes: strict,
		}
		must(t, s.SaveApproval(ctx, a))
		newer := a
		newer.ID, newer.AskedAt, newer.Yes = "ap_2", at(1), deploy.YesRule{Channels: []string{}} // no channel, which is not any
		must(t, s.SaveApproval(ctx, newer))
		got, err := s.ApprovalFor(ctx, "me", deploy.ActDeploy, "d")
		must(t, err)
		same(t, *got, newer)
		for _, q := range []struct {
			who, digest string
			act         deploy.Act
		}{{"you", "d", deploy.ActDeploy}, {"me", "e", deploy.ActDeploy}, {"me", "d", deploy.ActTeardown}} {
			if none, err := s.ApprovalFor(ctx, q.who, q.act, q.digest); err != nil || none != nil {
				t.Errorf("%v: %v %v", q, none, err)
			}
		}
		for i, want := range []bool{true, false} {
			ok, err := s.MoveApproval(ctx, deploy.ApprovalMove{
				ID: "ap_2", From: deploy.ApprovalWaiting, To: deploy.ApprovalGiven, By: "ann", Channel: deploy.ChannelPasskey, Owner: "anna", At: at(5),
			})
			if err != nil || ok != want {
				t.Errorf("decision %d: %v %v", i, ok, err)
			}
		}
		waiting, err := s.Approvals(ctx, deploy.ApprovalWaiting, 10)
		must(t, err)
		same(t, waiting, []deploy.Approval{a})
		newer.State, newer.By, newer.Channel, newer.ByOwner, newer.DecidedAt = deploy.ApprovalGiven, "ann", deploy.ChannelPasskey, "anna", at(5)
		all, err := s.Approvals(ctx, "", 10)
		must(t, err)
		same(t, all, []deploy.Approval{newer, a})
	})
	t.Run("calls", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		begin := func(key, args string, when int64, want deploy.CallState) []byte {
			t.Helper()
			got, result, err := s.BeginCall(ctx, "me", key, args, at(when))
			if err != nil || got != want {
				t.Errorf("begin %s: %v %v, want %v", key, got, err, want)
			}
			return result
		}
		begin("k", "a", 0, deploy.CallNew)
		begin("k", "a", 1, deploy.CallRunning)
		_, _, err := s.BeginCall(ctx, "me", "k", "b", at(1))
		wantCode(t, err, deploy.CodeIdempotency)
		must(t, s.FinishCall(ctx, "me", "k", []byte("result")))
		if got := begin("k", "a", 2, deploy.CallDone); string(got) != "result" {
			t.Errorf("%q", got)
		}
		if st, _, err := s.BeginCall(ctx, "you", "k", "b", at(2)); err != nil || st != deploy.CallNew {
			t.Errorf("another's key: %v %v", st, err)
		}
		begin("free", "a", 0, deploy.CallNew)
		must(t, s.FinishCall(ctx, "me", "free", nil))
		begin("free", "b", 1, deploy.CallNew)
		begin("dead", "a", 0, deploy.CallNew)
		begin("dead", "a", 29, deploy.CallRunning)
		must(t, s.MarkCall(ctx, "me", "dead", []byte("mark"), at(29)))
		must(t, s.MarkCall(ctx, "me", "dead", nil, at(30)))
		begin("dead", "a", 59, deploy.CallRunning)
		if got := begin("dead", "a", 61, deploy.CallNew); string(got) != "mark" { // its process is gone
			t.Errorf("mark %q", got)
		}
		must(t, s.FinishCall(ctx, "me", "dead", nil))
		wantCode(t, s.MarkCall(ctx, "me", "dead", nil, at(62)), deploy.CodeBusy)
		if got := begin("dead", "a", 62, deploy.CallNew); string(got) != "mark" {
			t.Errorf("mark %q of a call that failed", got)
		}
		if got := begin("dead", "b", 93, deploy.CallNew); got != nil {
			t.Errorf("mark %q of a call with other arguments", got)
		}
		must(t, s.FinishCall(ctx, "me", "dead", []byte("result")))
		wantCode(t, s.MarkCall(ctx, "me", "dead", nil, at(94)), deploy.CodeBusy)
		wantCode(t, s.MarkCall(ctx, "you", "dead", nil, at(94)), deploy.CodeBusy)
		begin("k", "b", 24*3600+3, deploy.CallNew)
	})
	t.Run("terms", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		must(t, s.AcceptTerms(ctx, deploy.Acceptance{Principal: "me", By: "setup", Text: "T1", At: at(1)}))
		for _, c := range []struct {
			who, text string
			want      bool
		}{{"me", "T1", true}, {"me", "T2", false}, {"you", "T1", false}} {
			if got, err := s.Accepted(ctx, c.who, c.text); err != nil || got != c.want {
				t.Errorf("%v: %v %v", c, got, err)
			}
		}
	})
	t.Run("a call that is over", func(t *testing.T) {
		s := fresh(t)
		ctx, stop := context.WithCancel(t.Context())
		must(t, s.SaveSession(ctx, someSession("s_a", "me", 1)))
		stop()
		if err := s.SaveSession(ctx, someSession("s_b", "me", 1)); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

func TestStore(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		suite(t, func(t *testing.T) *session.Store { t.Helper(); return place{dir: t.TempDir()}.open(t) })
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		suite(t, func(t *testing.T) *session.Store { t.Helper(); return place{url: peertest.Postgres(t)}.open(t) })
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same[T any](t testing.TB, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func wantCode(t testing.TB, err error, code deploy.Code) {
	t.Helper()
	e, ok := errors.AsType[*deploy.Error](err)
	if !ok || e.Code != code || e.Next == "" {
		t.Errorf("got %v, want %s", err, code)
	}
}

func idOf(s *deploy.Session) string {
	if s == nil {
		return ""
	}
	return s.ID
}

func artifact(t testing.TB, name string, size int) *deploy.Artifact {
	t.Helper()
	a := &deploy.Artifact{
		Name: name, MainModule: "index.js", CompatibilityDate: "2026-08-01", Modules: []deploy.Module{{Name: "index.js", Type: deploy.TypeESModule, Content: bytes.Repeat([]byte(name+"0123456789abcdef"), size)}},
		Bindings: []deploy.Binding{{"name": "V", "type": "plain_text", "text": "PLAIN-VARIABLE-" + name}},
	}
	must(t, a.Seal())
	return a
}

// TestSecretsAreSealed looks for secrets in every byte of the folder, while they are
// kept and after they were wiped.
func TestSecretsAreSealed(t *testing.T) {
	dir := t.TempDir()
	s, ctx := open(t, dir), t.Context()
	must(t, s.SaveSession(ctx, someSession("s_a", "me", 1)))
	acct := someAccount("deadbeef", "s_a")
	must(t, s.SaveAccount(ctx, acct))
	must(t, s.SaveClaim(ctx, deploy.Claim{ID: "c", SessionID: "s_a", AccountID: "deadbeef", Principal: "me", PageToken: "PAGE-TOKEN-OF-THE-CLAIM", State: deploy.ClaimAwaiting}))
	must(t, s.SaveArtifact(ctx, "me", artifact(t, "secretive", 3)))
	for _, secret := range []string{"token-deadbeef", "claimToken=deadbeef", "PAGE-TOKEN-OF-THE-CLAIM", "PLAIN-VARIABLE-secretive"} {
		if strings.Contains(folder(t, dir), secret) {
			t.Errorf("%s lies open on the disk", secret)
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "sessions.db"))
	must(t, err)
	defer db.Close()
	var sealed []byte
	must(t, db.QueryRow("SELECT token FROM accounts").Scan(&sealed))
	acct.Token, acct.ClaimURL = "", ""
	must(t, s.SaveAccount(ctx, acct))
	if bytes.Contains([]byte(folder(t, dir)), sealed) {
		t.Error("a wiped token still lies on the disk, sealed")
	}
	for name, mode := range map[string]os.FileMode{"key": 0o600, "sessions.db": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
}

// TestSealedValuesCantBeMoved: what is moved to another row, or another column of the
// same row, does not open, and says nothing of what it is.
func TestSealedValuesCantBeMoved(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		s, ctx := p.open(t), t.Context()
		must(t, s.SaveSession(ctx, someSession("s_a", "me", 1)))
		must(t, s.SaveSession(ctx, someSession("s_b", "me", 1)))
		must(t, s.SaveAccount(ctx, someAccount("1", "s_a")))
		must(t, s.SaveAccount(ctx, someAccount("2", "s_b")))
		one, two := artifact(t, "one", 1), artifact(t, "two", 1)
		must(t, s.SaveArtifact(ctx, "me", one))
		must(t, s.SaveArtifact(ctx, "me", two))
		must(t, s.SaveArtifact(ctx, "you", one))
		for _, id := range []string{"c_1", "c_2"} {
			must(t, s.SaveClaim(ctx, deploy.Claim{ID: id, SessionID: map[string]string{"c_1": "s_a", "c_2": "s_b"}[id], PageToken: "page-" + deploy.Secret(id), Principal: "me"}))
		}
		refused := func(err error) {
			t.Helper()
			wantCode(t, err, deploy.CodeStore)
		}
		change(t, s, "UPDATE accounts SET token = (SELECT token FROM accounts WHERE id = '1') WHERE id = '2'")
		_, err := s.Accounts(ctx, "s_b")
		refused(err)
		_, err = s.Accounts(ctx, "s_a")
		must(t, err)
		change(t, s, "UPDATE accounts SET token = claim_url WHERE id = '1'")
		_, err = s.Accounts(ctx, "s_a")
		refused(err)
		change(t, s, "UPDATE artifacts SET sealed = (SELECT sealed FROM artifacts WHERE principal = 'me' AND bundle_id = $1) WHERE principal = 'me' AND bundle_id = $2", one.BundleID(), two.BundleID())
		_, err = s.Artifact(ctx, "me", two.BundleID())
		refused(err)
		change(t, s, "UPDATE artifacts SET sealed = (SELECT sealed FROM artifacts WHERE principal = 'me' AND bundle_id = $1) WHERE principal = 'you'", one.BundleID())
		_, err = s.Artifact(ctx, "you", one.BundleID())
		refused(err)
		change(t, s, "UPDATE claims SET page_token = (SELECT page_token FROM claims WHERE id = 'c_1') WHERE id = 'c_2'")
		_, err = s.ClaimByPage(ctx, "page-c_2")
		refused(err)
	})
}

func folder(t testing.TB, dir string) string {
	t.Helper()
	var all strings.Builder
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if e.Name() == "key" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		all.Write(b)
	}
	return all.String()
}

func BenchmarkOpenAndFirstRead(b *testing.B) {
	dir := b.TempDir()
	must(b, open(b, dir).SaveSession(b.Context(), someSession("s", "me", 1)))
	for b.Loop() {
		s, err := session.Open(b.Context(), session.Config{Dir: dir})
		must(b, err)
		_, err = s.Session(b.Context(), "me", "s")
		must(b, errors.Join(err, s.Close()))
	}
}

func BenchmarkSaveDeployment(b *testing.B) {
	s := open(b, b.TempDir())
	must(b, s.SaveSession(b.Context(), someSession("s", "me", 1)))
	for b.Loop() {
		must(b, s.SaveDeployment(b.Context(), deploy.Deployment{ID: "d", SessionID: "s"}))
	}
}

// BenchmarkStep is what the ledger costs a remote step: written down, settled.
func BenchmarkStep(b *testing.B) {
	for name, p := range map[string]func() place{
		"SQLite":     func() place { return place{dir: b.TempDir()} },
		"PostgreSQL": func() place { return place{url: peertest.Postgres(b)} },
	} {
		b.Run(name, func(b *testing.B) {
			s := p().open(b)
			must(b, s.SaveSession(b.Context(), someSession("s_a", "me", 1)))
			l, n := lease(b, s, "s_a"), 0
			for b.Loop() {
				id := fmt.Sprint(n)
				n++
				must(b, s.BeginStep(b.Context(), l, someStep(id, "s_a", deploy.StepUploadScript)))
				must(b, s.Settle(b.Context(), l, deploy.Settlement{StepID: id, State: deploy.StepDone}))
			}
		})
	}
}
