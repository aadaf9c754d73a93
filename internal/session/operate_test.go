package session_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// TestOldThingsAreForgotten by the two ages, and artifacts by their size.
func TestOldThingsAreForgotten(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		now := at(0)
		s := p.open(t, func(c *session.Config) {
			c.Now = func() time.Time { return now }
			c.MaxArtifactBytes = 1500
		})
		ctx := t.Context()
		old := someSession("s_old", "me", 0)
		old.UpdatedAt = at(0)
		must(t, s.SaveSession(ctx, old))
		must(t, s.SaveAccount(ctx, someAccount("1", "s_old")))
		a := artifact(t, "kept", 1)
		must(t, s.SaveArtifact(ctx, "me", a))
		now = now.Add(8 * 24 * time.Hour)
		fresh := someSession("s_new", "me", 1)
		fresh.UpdatedAt = now
		must(t, s.SaveSession(ctx, fresh)) // a store that is written to forgets by itself
		_, err := s.Artifact(ctx, "me", a.BundleID())
		wantCode(t, err, deploy.CodeBundleNotFound)
		if _, err := s.Session(ctx, "me", "s_old"); err != nil {
			t.Error("a record went before its time:", err)
		}
		now = now.Add(90 * 24 * time.Hour)
		fresh.UpdatedAt = now
		must(t, s.SaveSession(ctx, fresh))
		_, err = s.Session(ctx, "me", "s_old")
		wantCode(t, err, deploy.CodeSessionNotFound)
		if accts, err := s.Accounts(ctx, "s_old"); err != nil || len(accts) != 0 {
			t.Errorf("%v %v", accts, err)
		}
		var ids []string
		for i := range 12 { // about 330 sealed bytes each
			now = now.Add(time.Second)
			b := artifact(t, fmt.Sprintf("many%d", i), 1)
			ids = append(ids, b.BundleID())
			must(t, s.SaveArtifact(ctx, "me", b))
		}
		_, err = s.Artifact(ctx, "me", ids[0])
		wantCode(t, err, deploy.CodeBundleNotFound)
		_, err = s.Artifact(ctx, "me", ids[11])
		must(t, err)
	})
}

// TestPruneSpares what somebody works on and what may still be used, however old its
// record is.
func TestPruneSpares(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		s, ctx := p.open(t, func(c *session.Config) { c.RecordTTL = time.Hour }), t.Context()
		now := time.Now()
		for _, id := range []string{"s_old", "s_held", "s_live", "s_over"} {
			v := someSession(id, "me", 1)
			v.UpdatedAt = now.Add(-2 * time.Hour)
			must(t, s.SaveSession(ctx, v))
		}
		held := lease(t, s, "s_held")
		live, over := someAccount("1", "s_live"), someAccount("2", "s_over")
		live.ExpiresAt, over.ExpiresAt = now.Add(live.Skew+time.Minute), now.Add(over.Skew-time.Minute)
		must(t, s.SaveAccount(ctx, live))
		must(t, s.SaveAccount(ctx, over))
		left := func(want string) {
			t.Helper()
			must(t, s.Prune(ctx, now))
			got, err := s.SessionsWhere(ctx, deploy.SessionFilter{})
			must(t, err)
			if ids(got) != want {
				t.Errorf("%q are left, not %q", ids(got), want)
			}
		}
		left("s_live s_held")
		must(t, s.ReleaseLease(ctx, held))
		left("s_live")
		now = now.Add(2 * time.Minute)
		left("")
	})
}

func ids(all []deploy.Session) string {
	var out []string
	for _, v := range all {
		out = append(out, v.ID)
	}
	return strings.Join(out, " ")
}

// TestOperatorsLook: lists over all principals, one record, the freeze.
func TestOperatorsLook(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		s, ctx := p.open(t), t.Context()
		for i, who := range []string{"me", "you", "me"} {
			v := someSession(fmt.Sprint("s_", i), who, int64(i))
			v.Labels = map[string]string{"team": fmt.Sprint("t", i), "k": "a=b"}
			must(t, s.SaveSession(ctx, v))
		}
		must(t, s.SaveDeployment(ctx, deploy.Deployment{ID: "1", SessionID: "s_0", Worker: "w", Digest: "d0"}))
		must(t, s.SaveDeployment(ctx, deploy.Deployment{ID: "2", SessionID: "s_1", Worker: "w", Digest: "d1"}))
		must(t, s.SaveDeployment(ctx, deploy.Deployment{ID: "3", SessionID: "s_1", Worker: "x", Digest: "d0"}))
		live, over := someAccount("1", "s_1"), someAccount("2", "s_2")
		live.ExpiresAt = time.Now().Add(live.Skew + time.Hour)
		over.ExpiresAt = time.Now().Add(over.Skew - time.Second)
		must(t, s.SaveAccount(ctx, live))
		must(t, s.SaveAccount(ctx, over))
		for _, c := range []struct {
			filter deploy.SessionFilter
			want   string
		}{
			{deploy.SessionFilter{}, "s_2 s_1 s_0"},
			{deploy.SessionFilter{Limit: 2}, "s_2 s_1"},
			{deploy.SessionFilter{Principal: "me"}, "s_2 s_0"},
			{deploy.SessionFilter{Principal: "me", Limit: 1}, "s_2"},
			{deploy.SessionFilter{Label: "team=t1"}, "s_1"},
			{deploy.SessionFilter{Label: "team=t1", Limit: 1}, "s_1"},
			{deploy.SessionFilter{Label: "k=a=b"}, "s_2 s_1 s_0"},
			{deploy.SessionFilter{Label: "k=a"}, ""},
			{deploy.SessionFilter{Label: "none="}, ""},
			{deploy.SessionFilter{Worker: "w"}, "s_1 s_0"},
			{deploy.SessionFilter{Digest: "d0"}, "s_1 s_0"},
			{deploy.SessionFilter{Worker: "w", Digest: "d0"}, "s_0"},
			{deploy.SessionFilter{Deployment: "3"}, "s_1"},
			{deploy.SessionFilter{Deployment: "3", Principal: "me"}, ""},
			{deploy.SessionFilter{Deployment: "9"}, ""},
			{deploy.SessionFilter{Live: true}, "s_1"},
			{deploy.SessionFilter{Live: true, Principal: "me"}, ""},
		} {
			got, err := s.SessionsWhere(ctx, c.filter)
			must(t, err)
			if ids(got) != c.want {
				t.Errorf("%+v: %q, want %q", c.filter, ids(got), c.want)
			}
		}
		one, err := s.SessionByID(ctx, "s_1")
		must(t, err)
		if one.Principal != "you" || one.Labels["team"] != "t1" {
			t.Errorf("%+v", one)
		}
		_, err = s.SessionByID(ctx, "s_9")
		wantCode(t, err, deploy.CodeSessionNotFound)

		frozen := func(want *deploy.Freeze) {
			t.Helper()
			got, err := s.Freeze(ctx)
			must(t, err)
			same(t, got, want)
		}
		frozen(nil)
		f := deploy.Freeze{By: "operator", Reason: "an \"incident\"", At: at(1)}
		must(t, s.SetFreeze(ctx, &f))
		frozen(&f)
		f.Reason = "another"
		must(t, s.SetFreeze(ctx, &f))
		frozen(&f)
		must(t, s.Ping(ctx))
		must(t, s.SetFreeze(ctx, nil))
		frozen(nil)
		must(t, s.Ping(ctx))
	})
}

// TestForget removes one session with everything of it, and nothing else.
func TestForget(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		s, ctx := p.open(t), t.Context()
		shared, own := artifact(t, "shared", 1), artifact(t, "own", 1)
		for _, who := range []string{"me", "you"} {
			must(t, s.SaveArtifact(ctx, who, shared))
			must(t, s.SaveArtifact(ctx, who, own))
		}
		for _, id := range []string{"s_quiet", "s_b"} {
			must(t, s.SaveSession(ctx, someSession(id, "me", 1)))
			must(t, s.SaveAccount(ctx, someAccount(id, id)))
			must(t, s.SaveClaim(ctx, deploy.Claim{ID: id, SessionID: id, Principal: "me", PageToken: "page-of-" + deploy.Secret(id)}))
			must(t, s.SaveDeployment(ctx, deploy.Deployment{ID: id, SessionID: id, BundleID: shared.BundleID()}))
		}
		must(t, s.SaveDeployment(ctx, deploy.Deployment{ID: "own", SessionID: "s_quiet", BundleID: own.BundleID()}))
		l := lease(t, s, "s_quiet")
		must(t, s.BeginStep(ctx, l, someStep("1", "s_quiet", deploy.StepDelete)))
		wantBusy(t, s.ForgetSession(ctx, "s_quiet"))
		if accounts, err := s.Accounts(ctx, "s_quiet"); err != nil || len(accounts) != 1 {
			t.Errorf("%v %v", accounts, err)
		}
		must(t, s.ReleaseLease(ctx, l))
		must(t, s.ForgetSession(ctx, "s_quiet"))
		wantCode(t, s.ForgetSession(ctx, "s_quiet"), deploy.CodeSessionNotFound)
		wantCode(t, s.ForgetSession(ctx, "s_\x00"), deploy.CodeSessionNotFound)
		for _, table := range []string{"accounts", "claims", "deployments", "steps"} {
			n := 0
			must(t, database(t, s).QueryRowContext(ctx, "SELECT COUNT(*) FROM "+table+" WHERE session_id = 's_quiet'").Scan(&n))
			if n != 0 {
				t.Errorf("%d rows are left in %s", n, table)
			}
		}
		n := 0
		must(t, database(t, s).QueryRowContext(ctx, "SELECT COUNT(*) FROM leases").Scan(&n))
		if n != 0 {
			t.Error("its lease is left")
		}
		_, err := s.Artifact(ctx, "me", own.BundleID())
		wantCode(t, err, deploy.CodeBundleNotFound)
		_, err = s.Artifact(ctx, "me", shared.BundleID())
		must(t, err)
		_, err = s.Artifact(ctx, "you", own.BundleID())
		must(t, err)
		accounts, err := s.Accounts(ctx, "s_b")
		must(t, err)
		same(t, accounts, []deploy.Account{someAccount("s_b", "s_b")})
		if p.dir != "" && strings.Contains(folder(t, p.dir), "s_quiet") {
			t.Error("its name still stands in the folder")
		}
	})
}

// TestStrangeTexts: what a model or a client says is kept, made fit where it must be;
// a name that no home could hold finds nothing, and is never taken for another one.
func TestStrangeTexts(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		s, ctx := p.open(t), t.Context()
		v := someSession("s_a", "me", 1)
		v.RunID, v.JobID, v.Client = "run\x00", "job\xff", "ключ 🔑 '); DROP TABLE sessions;--"
		v.Labels = map[string]string{"\x00": "z\x00"}
		must(t, s.SaveSession(ctx, v))
		got, err := s.CurrentSession(ctx, "me", v.Scope, v.RunID)
		must(t, err)
		if got == nil || got.RunID != "run\uFFFD" || got.JobID != "job\uFFFD" || got.Client != v.Client || got.Labels["\x00"] != "z\x00" {
			t.Errorf("%+v", got)
		}
		for _, bad := range []string{"s_a\x00", "s\xff", strings.Repeat("x", 1<<16)} {
			_, err := s.Session(ctx, "me", bad)
			wantCode(t, err, deploy.CodeSessionNotFound)
			_, err = s.Artifact(ctx, "me", bad)
			wantCode(t, err, deploy.CodeBundleNotFound)
		}
		other := someSession("s_b", "me\x00", 1)
		wantCode(t, s.SaveSession(ctx, other), deploy.CodeInvalidArgument)
		_, err = s.Sessions(ctx, "me\x00", 1)
		wantCode(t, err, deploy.CodeInvalidArgument)
		_, _, err = s.BeginCall(ctx, "me", "key\x00", "a", at(0))
		wantCode(t, err, deploy.CodeInvalidArgument)
	})
}
