package deploy_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func teardown(t *testing.T, s *deploy.Service, req deploy.TeardownRequest) *deploy.TeardownResult {
	t.Helper()
	res, err := s.Teardown(t.Context(), me, req)
	if err != nil {
		t.Fatalf("teardown: %v", err)
	}
	if res.Next.Do == "" || res.SessionID == "" {
		t.Errorf("%+v", res)
	}
	return res
}

func named(name, code string) deploy.DeployRequest {
	req := worker(code)
	req.Source.Name = name
	return req
}

// left is what the API still has, and whether we can still act on it.
func (w *world) left() (workers int, token bool) {
	for _, a := range w.store.allAccounts() {
		token = token || !a.Token.Empty() || !a.ClaimURL.Empty()
	}
	w.set(func() {
		for _, a := range w.accounts {
			workers += len(a.workers)
		}
	})
	return workers, token
}

// A teardown deletes, wipes, withdraws and closes; again, it does no harm.
func TestTeardown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		w.set(func() { w.prepares = 1 }) // there is a KV namespace
		first := must(t, s, named("one", "200 one"))
		must(t, s, named("two", "200 two"))
		token, _ := claimOf(t, w, s)
		res := teardown(t, s, deploy.TeardownRequest{Reason: "enough"})
		if !slices.Equal(res.Deleted, []string{"worker one", "worker two", "kv_namespace kv"}) || len(res.NotUndone) != 0 || !res.Closed {
			t.Errorf("%+v", res)
		}
		if workers, secrets := w.left(); workers != 0 || secrets || w.store.allAccounts()[0].State != deploy.AccountDeleted {
			t.Errorf("%d Workers are left, secrets %v, state %q", workers, secrets, w.store.allAccounts()[0].State)
		}
		if view, err := s.ClaimView(t.Context(), token); err != nil || view.State != deploy.ClaimWithdrawn {
			t.Errorf("the claim: %+v, %v", view, err)
		}
		_, err := s.DecideClaim(t.Context(), token, true, "chrome")
		refused(t, err, deploy.CodeSessionClosed)
		if st := look(t, s, first.SessionID); st.Phase != deploy.PhaseClosed || st.Next.Tool != "deploy_temporary" {
			t.Errorf("status: %+v", st)
		}
		into := worker("200 again")
		into.SessionID = first.SessionID
		_, err = s.Deploy(t.Context(), me, into)
		refused(t, err, deploy.CodeSessionExpired)
		looks := w.looks
		if again := teardown(t, s, deploy.TeardownRequest{SessionID: first.SessionID}); !again.Closed || len(again.Deleted)+len(again.NotUndone) != 0 || w.looks != looks {
			t.Errorf("again: %+v, the API was asked %d times", again, w.looks-looks)
		}
		if next := must(t, s, worker("200 again")); next.Account != deploy.AccountNew || next.SessionID == first.SessionID {
			t.Errorf("what came next: %+v", next)
		}
		if i := slices.IndexFunc(g.events, func(e deploy.Event) bool { return e.Act == "teardown" && e.Phase == deploy.PhaseOutcome }); !strings.Contains(g.events[i].Data["deleted"], "worker one") {
			t.Errorf("%+v", g.events[i])
		}
		if i := slices.IndexFunc(g.events, func(e deploy.Event) bool { return e.Act == "teardown" }); g.events[i].Detail != "enough" {
			t.Errorf("the reason: %+v", g.events[i])
		}
	})
}

// claimOf asks to keep the current session.
func claimOf(t *testing.T, w *world, s *deploy.Service) (string, *deploy.ClaimResult) {
	t.Helper()
	res, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(res.PageURL, w.pageURL), res
}

// While something stays up that a later call may delete, the token stays.
func TestATeardownThatFailsInPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		must(t, s, named("one", "200 one"))
		must(t, s, named("two", "200 two"))
		w.set(func() {
			w.onDelete = func(what string) error {
				if what == "worker one" {
					return deploy.Errorf(deploy.CodeAPIUnreachable, "Later.", "no answer")
				}
				return nil
			}
		})
		res := teardown(t, s, deploy.TeardownRequest{})
		if res.Closed || !slices.Equal(res.Deleted, []string{"worker two"}) || len(res.NotUndone) != 1 || !strings.Contains(res.NotUndone[0], "worker one") || res.Next.Tool != "teardown" {
			t.Errorf("%+v", res)
		}
		if workers, secrets := w.left(); workers != 1 || !secrets {
			t.Errorf("%d Workers are left, secrets %v", workers, secrets)
		}
		w.set(func() { w.onDelete = nil })
		if res = teardown(t, s, deploy.TeardownRequest{}); !res.Closed || !slices.Equal(res.Deleted, []string{"worker one"}) {
			t.Errorf("again: %+v", res)
		}
		if workers, secrets := w.left(); workers != 0 || secrets {
			t.Errorf("%d Workers are left, secrets %v", workers, secrets)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		must(t, s, worker("200 one"))
		w.set(func() {
			w.onLook = func(int) error { return deploy.Errorf(deploy.CodeAPIUnreachable, "Later.", "no answer") }
		})
		_, err := s.Teardown(t.Context(), me, deploy.TeardownRequest{})
		refused(t, err, deploy.CodeAPIUnreachable)
		if _, secrets := w.left(); !secrets {
			t.Error("the token is gone, and the Worker is up")
		}
		if last := g.events[len(g.events)-1]; last.Act != "teardown" || last.Outcome != "api_unreachable" {
			t.Errorf("%+v", last)
		}
	})
}

// With a deployment, only its Worker goes, on its own account.
func TestTeardownOfOneWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		one := must(t, s, named("one", "200 one"))
		two := must(t, s, named("two", "200 two"))
		res := teardown(t, s, deploy.TeardownRequest{DeploymentID: one.DeploymentID})
		if res.Closed || !slices.Equal(res.Deleted, []string{"worker one"}) {
			t.Errorf("%+v", res)
		}
		if st := look(t, s, one.SessionID); len(st.Deployments) != 1 || st.Deployments[0].Worker != "two" || st.Phase != deploy.PhaseLive {
			t.Errorf("status: %+v", st)
		}
		if again := must(t, s, named("one", "200 one")); again.Account != deploy.AccountReused || !again.Changed {
			t.Errorf("the same again: %+v", again)
		}
		_, err := s.Teardown(t.Context(), me, deploy.TeardownRequest{DeploymentID: "d_nobody"})
		refused(t, err, deploy.CodeSessionNotFound)
		fresh := named("two", "200 fresh")
		fresh.Fresh = true
		if must(t, s, fresh).Account != deploy.AccountNew {
			t.Fatal("no new account")
		}
		old := teardown(t, s, deploy.TeardownRequest{DeploymentID: two.DeploymentID})
		if len(old.Deleted) != 0 || len(old.NotUndone) != 1 || !strings.Contains(old.NotUndone[0], "replaced") {
			t.Errorf("of an account that was replaced: %+v", old)
		}
		if st := look(t, s, one.SessionID); len(st.Deployments) != 1 || st.Deployments[0].Probe.BodyExcerpt != "fresh" {
			t.Errorf("the Worker of that name on the account in use: %+v", st.Deployments)
		}
		all := teardown(t, s, deploy.TeardownRequest{})
		if !all.Closed || !slices.Equal(all.Deleted, []string{"worker two"}) || len(all.NotUndone) != 1 || !strings.Contains(all.NotUndone[0], "Quiet Test 1") {
			t.Errorf("what stays on the account before is not said: %+v", all)
		}
	})
}

// What can't be undone is said.
func TestTeardownOfWhatIsOutOfReach(t *testing.T) {
	for name, c := range map[string]struct {
		arrange func(t *testing.T, w *world, s *deploy.Service)
		says    string
		state   deploy.AccountState
		closed  bool
		secrets bool
	}{
		"claimed": {func(t *testing.T, w *world, s *deploy.Service) {
			token, _ := claimOf(t, w, s)
			if _, err := s.DecideClaim(t.Context(), token, true, "chrome"); err != nil {
				t.Fatal(err)
			}
		}, "handed over to a human", deploy.AccountClaimed, true, true}, // its link is the human's
		"expired": {func(*testing.T, *world, *deploy.Service) { time.Sleep(2 * time.Hour) }, "hour is over", deploy.AccountExpired, true, false},
		"lost": {func(_ *testing.T, w *world, _ *deploy.Service) {
			w.set(func() { clear(w.accounts) })
		}, "does not accept", deploy.AccountLost, true, false},
		"elsewhere": {func(_ *testing.T, w *world, _ *deploy.Service) {
			w.set(func() { w.target = "another" })
		}, "another API", deploy.AccountCurrent, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, g := newWorld(t), &guards{}
				s := w.guarded(g)
				first := must(t, s, worker("200 one"))
				c.arrange(t, w, s)
				res := teardown(t, s, deploy.TeardownRequest{SessionID: first.SessionID})
				if res.Closed != c.closed || len(res.Deleted) != 0 || len(res.NotUndone) != 1 || !strings.Contains(res.NotUndone[0], c.says) {
					t.Errorf("%+v", res)
				}
				if a := w.store.allAccounts()[0]; a.State != c.state || (!a.Token.Empty() || !a.ClaimURL.Empty()) != c.secrets {
					t.Errorf("state %q, token empty %v, link empty %v", a.State, a.Token.Empty(), a.ClaimURL.Empty())
				}
				if name == "lost" && !slices.Contains(g.story(), "account_lost notice") {
					t.Errorf("on record: %v", g.story())
				}
			})
		})
	}
}

func TestTeardownOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		_, err := s.Teardown(t.Context(), me, deploy.TeardownRequest{})
		refused(t, err, deploy.CodeSessionNotFound)
		res := must(t, s, worker("200 one"))
		other := deploy.Caller{Principal: "another"}
		_, err = s.Teardown(t.Context(), other, deploy.TeardownRequest{SessionID: res.SessionID})
		theirs := refused(t, err, deploy.CodeSessionNotFound)
		_, err = s.Teardown(t.Context(), other, deploy.TeardownRequest{SessionID: "s_nobody"})
		if refused(t, err, deploy.CodeSessionNotFound); strings.ReplaceAll(theirs.Message, res.SessionID, "s_nobody") != deploy.AsError(err).Message {
			t.Errorf("another's session is told from none: %q, %q", theirs.Message, deploy.AsError(err).Message)
		}
		_, err = w.service(func(cfg *deploy.Config) { cfg.ReadOnly = true }).Teardown(t.Context(), me, deploy.TeardownRequest{})
		refused(t, err, deploy.CodeReadOnly)
		if workers, _ := w.left(); workers != 1 {
			t.Error("it was taken down")
		}
	})
}

// An operator takes down by label, Worker, digest or principal, whoever's it is; one that
// can't be taken down does not keep the others up.
func TestRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		operator := deploy.Caller{Principal: "operator:ann", Door: deploy.DoorCommand}
		at := map[string]*deploy.DeployResult{}
		for _, who := range []string{"a", "b", "c"} {
			c := deploy.Caller{Principal: who, Scope: who, Labels: map[string]string{"run_id": "run-" + who}}
			res, err := s.Deploy(t.Context(), c, named("w-"+who, "200 "+who))
			if err != nil {
				t.Fatal(err)
			}
			at[who] = res
		}
		got, err := s.Revoke(t.Context(), operator, deploy.SessionFilter{Label: "run_id=run-a"}, "an incident")
		if err != nil || len(got) != 1 || got[0].SessionID != at["a"].SessionID || got[0].Principal != "a" || !got[0].Result.Closed {
			t.Errorf("%+v, %v", got, err)
		}
		if i := slices.IndexFunc(g.events, func(e deploy.Event) bool { return e.Act == "teardown" }); g.events[i].Principal != "operator:ann" || g.events[i].Door != deploy.DoorCommand {
			t.Errorf("%+v", g.events[i])
		}
		if got, err = s.Revoke(t.Context(), operator, deploy.SessionFilter{Label: "run_id=run-z"}, ""); err != nil || len(got) != 0 {
			t.Errorf("%+v, %v", got, err)
		}
		w.set(func() {
			w.onDelete = func(what string) error {
				if what == "worker w-c" {
					return deploy.Errorf(deploy.CodeStore, "Tell the user.", "the disk is full")
				}
				return nil
			}
		})
		got, err = s.Revoke(t.Context(), operator, deploy.SessionFilter{Live: true}, "")
		if err != nil || len(got) != 2 || got[0].SessionID != at["c"].SessionID || got[0].Error == "" || got[1].Result == nil || !got[1].Result.Closed {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestNobodyHidesFromRevoke: sessions that came to nothing, made later and as many as one
// look takes, hide nothing that is live.
func TestNobodyHidesFromRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		for n := range 5 {
			if _, err := s.Deploy(t.Context(), me, run(n)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		for n := range 6 {
			id := fmt.Sprintf("s_later%d", n)
			if err := w.store.SaveSession(t.Context(), deploy.Session{ID: id, Principal: me.Principal, Scope: id, CreatedAt: time.Now(), UpdatedAt: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.Revoke(t.Context(), deploy.Caller{Principal: "operator:ann", Door: deploy.DoorCommand}, deploy.SessionFilter{Principal: me.Principal, Limit: 2}, "")
		if err != nil || len(got) < 5 {
			t.Errorf("%d sessions, %v", len(got), err)
		}
		for _, a := range w.store.allAccounts() {
			if a.State != deploy.AccountDeleted {
				t.Errorf("%s is %q", a.ID, a.State)
			}
		}
	})
}

// A Worker that somebody else put onto the account is on record, said, and goes too.
func TestTeardownNoticesWhatIsNotOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		must(t, s, worker("200 one"))
		w.set(func() {
			for _, a := range w.accounts {
				a.workers["implant"] = &fakeWorker{versions: []fakeVersion{{id: "v"}}}
			}
		})
		g.forget()
		res := teardown(t, s, deploy.TeardownRequest{})
		if !slices.Equal(res.Deleted, []string{"worker hello", "worker implant"}) || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "implant") {
			t.Errorf("%+v", res)
		}
		g.tells(t, "teardown decision allow", "foreign_change notice", "teardown outcome ok")
		if g.events[1].Worker != "implant" || g.events[1].SessionID != res.SessionID {
			t.Errorf("%+v", g.events[1])
		}
	})
}

// Whose a Worker is stands on the account too, in characters that the API takes.
func TestAWorkerCarriesItsTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := me
		c.Labels = map[string]string{"a": "x, y & z"}
		for _, k := range []string{"b", "c", "d", "e", "f", "g"} {
			c.Labels[k] = k
		}
		res, err := w.service().Deploy(t.Context(), c, worker("200 one"))
		if err != nil {
			t.Fatal(err)
		}
		got := w.lastUpload.Tags
		if len(got) != 8 || !slices.Equal(got[:2], []string{"hourglass", "session=" + res.SessionID}) || got[2] != "digest="+w.lastUpload.Tag || got[3] != "a=x__y___z" || got[4] != "b=b" {
			t.Errorf("%q", got)
		}
	})
}

// An operator's stop is not up to the policy, is on record with both parties apart, and
// wants a record like every act.
func TestTheEmergencyStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		must(t, s, worker("200 one"))
		g.forget()
		g.decide = saying(deploy.ActTeardown, deploy.Deny)
		_, err := s.Teardown(t.Context(), me, deploy.TeardownRequest{})
		refused(t, err, deploy.CodePolicyDenied)
		g.forget()
		op := deploy.Caller{Principal: "operator:ann", Door: deploy.DoorCommand, Client: "mcp-server", Labels: map[string]string{"desk": "4"}}
		g.fail = func(deploy.Event) error { return errors.New("the disk is full") }
		if got, err := s.Revoke(t.Context(), op, deploy.SessionFilter{Label: "team=a"}, "an incident"); err != nil || len(got) != 1 || !strings.HasPrefix(got[0].Error, "store_failed") || !w.anyServes("hello") {
			t.Errorf("without a record: %+v, %v", got, err)
		}
		g.fail = nil
		for _, v := range []deploy.Verdict{deploy.Deny, deploy.Ask} {
			g.decide = saying(deploy.ActTeardown, v)
			got, err := s.Revoke(t.Context(), op, deploy.SessionFilter{Label: "team=a"}, "an incident")
			if err != nil || len(got) != 1 || got[0].Error != "" || !got[0].Result.Closed || w.anyServes("hello") {
				t.Errorf("the policy says %s: %+v, %v", v, got, err)
			}
		}
		g.tells(t, "teardown decision allow", "teardown outcome ok", "teardown decision allow", "teardown outcome ok")
		for _, e := range g.events {
			if e.Principal != "operator:ann" || e.Labels["desk"] != "4" || e.Labels["team"] != "" || e.SessionPrincipal != "me" || e.SessionLabels["team"] != "a" {
				t.Errorf("who did it to whom: %+v", e)
			}
		}
		if r := g.events[0].Rules; len(r) != 1 || r[0].Rule != "emergency-stop" {
			t.Errorf("%+v", r)
		}
		if err := s.SetFreeze(t.Context(), true, op.Principal, "an incident"); err != nil {
			t.Errorf("a freeze: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // one's own session has one party
		w, g := newWorld(t), &guards{}
		must(t, w.guarded(g), worker("200 one"))
		for _, e := range g.events {
			if e.SessionPrincipal != "" || e.SessionLabels != nil {
				t.Errorf("%+v", e)
			}
		}
	})
}
