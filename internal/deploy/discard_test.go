package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func discarding(code string) deploy.DeployRequest {
	req := worker(code)
	req.DiscardOnFailedCheck = true
	return req
}

// serves is what a host answers now; 0: nothing does.
func (w *world) serves(host string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := (*fakeEdge)(w).serving(host)
	if v == nil {
		return 0
	}
	resp, _ := v.play("/")
	return resp.Status
}

// host is where the Workers named so answer, on any account.
func (w *world) anyServes(name string) bool {
	for _, a := range w.store.allAccounts() {
		if w.serves(name+"."+a.Subdomain+".workers.dev") != 0 {
			return true
		}
	}
	return false
}

// promises are the states in which the ledger has them.
func (w *world) promises() (out []string) {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	for _, s := range w.store.steps {
		if s.Kind == deploy.StepDiscard {
			out = append(out, strings.TrimSpace(string(s.State)+" "+s.Ref))
		}
	}
	return out
}

// A deployment whose check fails is taken down, with what it made, when the call wants it
// so; the account stays for the next try. The result and the record say what went.
func TestDiscard(t *testing.T) {
	for name, c := range map[string]struct {
		code   string
		expect *deploy.Expect
		error  string
	}{
		"it throws":               {"throw no luck", nil, "no luck"},
		"another status":          {"200 hello", &deploy.Expect{Status: 201}, ""},
		"another text":            {"200 hello", &deploy.Expect{BodyContains: "bye"}, ""},
		"another path":            {"path /a", &deploy.Expect{Path: "/b"}, ""},
		"the runtime's own error": {"exit 503", nil, "exceededCpu"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, g := newWorld(t), &guards{}
				s := w.guarded(g)
				req := discarding(c.code)
				req.Expect = c.expect
				res, err := s.Deploy(t.Context(), me, req)
				if err != nil {
					t.Fatal(err)
				}
				d := res.Discarded
				if d == nil || d.By != "the call" || !slices.Equal(d.Deleted, []string{"worker hello"}) || len(d.NotUndone) != 0 || d.Earlier != "" {
					t.Fatalf("%+v", d)
				}
				if res.Serving != deploy.ServingDeleted || res.URL != "" || res.Phase != deploy.PhaseLive || res.Next.Args["session_id"] != res.SessionID || !strings.Contains(res.Next.Do, "taken down") {
					t.Errorf("%+v", res)
				}
				if res.Check == nil || res.Check.OK || !strings.Contains(res.Check.Error, c.error) {
					t.Errorf("the check is lost: %+v", res.Check)
				}
				if w.anyServes("hello") {
					t.Error("it serves")
				}
				g.tells(t, "deploy decision allow", "create_account decision allow", "create_account outcome ok",
					"teardown decision allow", "teardown outcome ok", "deploy outcome ok")
				down, last := g.events[3], g.events[5]
				if down.Rules[0].Rule != deploy.RequireDiscard || down.Worker != "hello" || down.DeploymentID != res.DeploymentID || !strings.Contains(down.Detail, "check") {
					t.Errorf("%+v", down)
				}
				if last.Data["discarded"] != "worker hello" || last.Data["discarded_by"] != "the call" || !strings.Contains(last.Detail, "taken down") {
					t.Errorf("%+v", last)
				}
				if got := w.promises(); !slices.Equal(got, []string{"done taken down"}) {
					t.Errorf("%q", got)
				}
				if st := look(t, s, res.SessionID); len(st.Deployments) != 0 || len(st.Steps) != 0 || st.Phase != deploy.PhaseLive {
					t.Errorf("%+v", st)
				}
				good, err := s.Deploy(t.Context(), me, discarding("200 hello"))
				if err != nil || good.Discarded != nil || good.Account != deploy.AccountReused || good.Serving != deploy.ServingYes || !good.Changed || good.URL == "" {
					t.Errorf("%+v, %v", good, err)
				}
				if got := w.promises(); !slices.Equal(got, []string{"done taken down", "done the check passed"}) {
					t.Errorf("%q", got)
				}
			})
		})
	}
}

// What the deployment made goes with it; what was there before stays. So does what
// another Worker of the session serves.
func TestADiscardTakesWhatItMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service(func(cfg *deploy.Config) { cfg.Bundler = withKV{} })
		other := must(t, s, named("other", "200 other"))
		res, err := s.Deploy(t.Context(), me, discarding("throw x"))
		if err != nil {
			t.Fatal(err)
		}
		if d := res.Discarded; !slices.Equal(d.Deleted, []string{"worker hello", "kv_namespace kv"}) {
			t.Errorf("%+v", d)
		}
		if st := look(t, s, other.SessionID); len(st.Deployments) != 1 || st.Deployments[0].Worker != "other" || w.serves(hostOf(t, w, "other")) != http.StatusOK {
			t.Errorf("%+v", st.Deployments)
		}
	})
}

// withKV makes artifacts that need a namespace.
type withKV struct{ bundler }

func (b withKV) Bundle(ctx context.Context, src deploy.Source) (*deploy.Artifact, error) {
	a, err := b.bundler.Bundle(ctx, src)
	if err == nil && a.Name == "hello" {
		a.Bindings = []deploy.Binding{{"type": "kv_namespace", "name": "KV"}}
		err = a.Seal()
	}
	return a, err
}

func hostOf(t *testing.T, w *world, name string) string {
	t.Helper()
	all := w.store.allAccounts()
	if len(all) == 0 {
		t.Fatal("no account")
	}
	return name + "." + all[0].Subdomain + ".workers.dev"
}

// A new version that fails takes the Worker down, the version before with it, and says
// which bundle that was.
func TestADiscardOverAGoodVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		first := must(t, s, worker("200 good"))
		res := must(t, s, discarding("throw bad"))
		if d := res.Discarded; d == nil || d.Earlier != first.BundleID || !strings.Contains(res.Next.Do, first.BundleID) || w.anyServes("hello") {
			t.Fatalf("%+v; next: %s", d, res.Next.Do)
		}
		back := must(t, s, deploy.DeployRequest{BundleID: first.BundleID})
		if back.Serving != deploy.ServingYes || back.Check.BodyExcerpt != "good" || back.Account != deploy.AccountReused {
			t.Errorf("%+v", back)
		}
		// What is live already is taken down on a check that failed, and on nothing less.
		same := deploy.DeployRequest{BundleID: first.BundleID, DiscardOnFailedCheck: true, Expect: &deploy.Expect{BodyContains: "good"}}
		if again := must(t, s, same); again.Changed || again.Discarded != nil || w.serves(hostOf(t, w, "hello")) != http.StatusOK {
			t.Errorf("%+v", again)
		}
		same.Expect = &deploy.Expect{BodyContains: "better"}
		if again := must(t, s, same); again.Changed || again.Discarded == nil || again.Discarded.Earlier != "" || w.anyServes("hello") {
			t.Errorf("%+v %+v", again, again.Discarded)
		}
	})
}

// A policy can require it, whatever the call says; a rule about teardowns is no way round
// that, and a caller who may not tear down gets none this way.
func TestAPolicyRequiresDiscards(t *testing.T) {
	ci := func(act deploy.Act, f deploy.Facts) deploy.Decision {
		switch {
		case act == deploy.ActDeploy && f.Labels["team"] == "a":
			return deploy.Decision{Verdict: deploy.Allow, Reasons: []deploy.Reason{{Rule: "ci-keeps-nothing-broken", Verdict: deploy.Require, Require: []string{deploy.RequireDiscard}}}}
		case act == deploy.ActTeardown:
			return deploy.Decision{Verdict: deploy.Deny, Reasons: []deploy.Reason{{Rule: "no-teardown", Verdict: deploy.Deny, Message: "Not by agents.", Next: "Ask."}}}
		}
		return deploy.Decision{Verdict: deploy.Allow}
	}
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{decide: ci}
		s := w.guarded(g)
		res := must(t, s, worker("throw x"))
		if d := res.Discarded; d == nil || d.By != "the policy: ci-keeps-nothing-broken" || w.anyServes("hello") {
			t.Fatalf("%+v", d)
		}
		if !slices.Equal(g.events[0].Rules[0].Require, []string{deploy.RequireDiscard}) {
			t.Errorf("the decision does not say what it requires: %+v", g.events[0].Rules)
		}
		if down := g.events[3]; down.Act != "teardown" || down.Verdict != deploy.Allow || down.Rules[0].Rule != "ci-keeps-nothing-broken" {
			t.Errorf("%+v", down)
		}
		other := me
		other.Labels, other.Scope = nil, "server-2"
		before := w.uploads
		_, err := s.Deploy(t.Context(), other, discarding("200 x"))
		if e := refused(t, err, deploy.CodePolicyDenied); !strings.Contains(e.Message, "no-teardown") || !strings.Contains(e.Next, "without discard_on_failed_check") || w.uploads != before {
			t.Errorf("%v, next: %s", e, e.Next)
		}
		if plain, err := s.Deploy(t.Context(), other, worker("throw x")); err != nil || plain.Discarded != nil || plain.URL == "" {
			t.Errorf("%+v, %v", plain, err)
		}
		if f := g.facts[deploy.ActDeploy]; f.DiscardOnFailedCheck {
			t.Error("a rule sees a wish that was not there")
		}
	})
}

// What can't be taken down is said, and done later.
func TestADiscardThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		w.set(func() {
			w.onDelete = func(string) error { return deploy.Errorf(deploy.CodeAPIUnreachable, "Later.", "no answer") }
		})
		res := must(t, s, discarding("throw x"))
		if d := res.Discarded; len(d.Deleted) != 0 || len(d.NotUndone) != 1 || !strings.Contains(d.NotUndone[0], "worker hello: no answer") {
			t.Fatalf("%+v", d)
		}
		if res.URL == "" || res.Serving == deploy.ServingDeleted || !strings.Contains(res.Next.Do, "could not be taken down") || res.Next.Tool != "status" {
			t.Errorf("%+v", res)
		}
		st := look(t, s, res.SessionID)
		if i := slices.IndexFunc(st.Steps, func(x deploy.StepStatus) bool { return x.Kind == deploy.StepDiscard }); i < 0 || st.Steps[i].State != deploy.StepUnresolved || st.Steps[i].Note == "" {
			t.Errorf("status does not say so: %+v", st.Steps)
		}
		w.set(func() { w.onDelete = nil })
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st := look(t, s, res.SessionID); w.anyServes("hello") || len(st.Steps) != 0 || len(st.Deployments) != 0 {
			t.Errorf("nobody finished it: %+v", st)
		}
		if got := w.promises(); !slices.Equal(got, []string{"done taken down"}) {
			t.Errorf("%q", got)
		}
	})
	// No record, no act: it stays up until it can be recorded.
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		g.fail = func(e deploy.Event) error {
			if e.Act == string(deploy.ActTeardown) {
				return errors.New("the disk is full")
			}
			return nil
		}
		s := w.guarded(g)
		res := must(t, s, discarding("throw x"))
		if d := res.Discarded; len(d.Deleted) != 0 || len(d.NotUndone) != 1 || !strings.Contains(d.NotUndone[0], "audit log") || !w.anyServes("hello") {
			t.Fatalf("%+v", d)
		}
		g.mu.Lock()
		g.fail = nil
		g.mu.Unlock()
		look(t, s, res.SessionID)
		if w.anyServes("hello") {
			t.Error("it serves")
		}
		if n := len(g.events); g.events[n-2].Act != "teardown" || g.events[n-2].Principal != "me" || g.events[n-1].Outcome != "ok" {
			t.Errorf("%v", g.story())
		}
	})
	// A later deployment of the Worker is not taken for the one that was to go.
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		w.set(func() {
			w.onDelete = func(string) error { return deploy.Errorf(deploy.CodeAPIUnreachable, "Later.", "no answer") }
		})
		must(t, s, discarding("throw x"))
		must(t, s, worker("200 mended"))
		w.set(func() { w.onDelete = nil })
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.promises(); w.serves(hostOf(t, w, "hello")) != http.StatusOK || !slices.Equal(got, []string{"done deployed over since"}) {
			t.Errorf("the good one is gone: %q", got)
		}
	})
}

// Uploaded and never checked, because a later step failed or the caller is gone: it goes
// all the same. What never came to be up promises nothing.
func TestADiscardWithoutACheck(t *testing.T) {
	for name, c := range map[string]struct {
		spoil   func(w *world, cancel func())
		code    deploy.Code // "": a result
		says    string
		promise string
	}{
		"no route": {func(w *world, _ func()) {
			w.onRoute = func(int) error { return deploy.Errorf(deploy.CodeAPIRefused, "Read it.", "no route") }
		}, deploy.CodeAPIRefused, "was taken down", "done taken down"},
		"no upload": {func(w *world, _ func()) {
			w.onUpload = func(int) error { return deploy.Errorf(deploy.CodeAPIRefused, "Read it.", "no") }
		}, deploy.CodeAPIRefused, "no", "done nothing was uploaded"},
		"an upload without an answer": {func(w *world, _ func()) { w.afterUpload = lose(1) }, deploy.CodeAPIUnreachable, "as soon as the API tells", "open"},
		"cancelled in the check":      {func(w *world, cancel func()) { w.onFetch = func(int) error { cancel(); return context.Canceled } }, "", "", "done taken down"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, g := newWorld(t), &guards{}
				s := w.guarded(g)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				c.spoil(w, cancel)
				res, err := s.Deploy(ctx, me, discarding("200 fine"))
				if c.code != "" {
					if e := refused(t, err, c.code); !strings.Contains(e.Message, c.says) {
						t.Errorf("%v", e)
					}
				} else if err != nil || res.Discarded == nil {
					t.Errorf("%+v, %v", res, err)
				}
				if got := w.promises(); !slices.Equal(got, []string{c.promise}) {
					t.Errorf("%q", got)
				}
				w.set(func() { w.onRoute, w.onUpload, w.onFetch, w.afterUpload = nil, nil, nil, nil })
				if err := s.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				if workers, _ := w.left(); workers != 0 || slices.Contains(w.promises(), "open") {
					t.Errorf("%d Workers are left, %q", workers, w.promises())
				}
			})
		})
	}
}

// A repeated call gives the same result, and neither deploys nor takes down again.
func TestADiscardUnderAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		req := discarding("throw x")
		req.IdempotencyKey = "k"
		first := must(t, s, req)
		must(t, s, worker("200 mended"))
		n, uploads := len(g.events), w.uploads
		again := must(t, s, req)
		if again.Discarded == nil || !slices.Equal(again.Discarded.Deleted, first.Discarded.Deleted) || again.DeploymentID != first.DeploymentID || again.Serving != deploy.ServingDeleted {
			t.Errorf("%+v", again)
		}
		if len(g.events) != n || w.uploads != uploads || w.serves(hostOf(t, w, "hello")) != http.StatusOK {
			t.Errorf("the call was done again: %v", g.story()[n:])
		}
		req.DiscardOnFailedCheck = false
		_, err := s.Deploy(t.Context(), me, req)
		refused(t, err, deploy.CodeIdempotency)
	})
}

// Wherever the process dies, what did not pass its check is not left up: whoever looks
// next takes it down. What passed stays.
func TestADiscardOutlivesItsProcess(t *testing.T) {
	const most = 12
	for _, op := range []string{"BeginStep", "Settle", "SaveDeployment", "Steps", "Deployments", "SaveAccount"} {
		for nth := 1; nth <= most; nth++ {
			t.Run(fmt.Sprint(op, nth), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, g := newWorld(t), &guards{}
					must(t, w.guarded(g), named("other", "200 other"))
					w.dies(op, nth)
					_, _ = w.guarded(g).Deploy(t.Context(), me, discarding("throw x"))
					s := w.restarted()
					if err := s.Sweep(t.Context()); err != nil {
						t.Fatal(err)
					}
					if slices.ContainsFunc(w.promises(), func(p string) bool { return !strings.HasPrefix(p, "done") }) || w.anyServes("hello") {
						t.Errorf("it is up: %v, %q", w.anyServes("hello"), w.promises())
					}
					if !w.anyServes("other") {
						t.Error("another Worker was taken down")
					}
					if again := must(t, s, discarding("200 mended")); again.Discarded != nil || again.Serving != deploy.ServingYes {
						t.Errorf("%+v", again)
					}
				})
			})
		}
	}
}

// The open promise of a process that is still at work is nobody else's.
func TestAPromiseOfSomebodyAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.service(), w.service()
		w.set(func() { w.routeDelay = 10 * time.Second })
		done := make(chan *deploy.DeployResult)
		go func() {
			res, err := a.Deploy(t.Context(), me, discarding("200 slow"))
			if err != nil {
				t.Error(err)
			}
			done <- res
		}()
		time.Sleep(5 * time.Second)
		if err := b.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		look(t, b, "")
		if res := <-done; res == nil || res.Discarded != nil || w.serves(hostOf(t, w, "hello")) != http.StatusOK {
			t.Errorf("%+v", res)
		}
	})
}

// A read-only server takes nothing down, also not what another left to it.
func TestAReadOnlyServerKeepsNoPromise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.dies("BeginStep", 5) // account, promise, upload, route; the deletion is never begun
		_, _ = w.service().Deploy(t.Context(), me, discarding("throw x"))
		w.restarted()
		if open := slices.Contains(w.promises(), "open"); !open {
			t.Fatalf("%q", w.promises())
		}
		reader := w.service(func(cfg *deploy.Config) { cfg.ReadOnly = true })
		if st := look(t, reader, ""); !w.anyServes("hello") || len(st.Steps) == 0 {
			t.Errorf("%+v", st)
		}
		look(t, w.service(), "")
		if w.anyServes("hello") {
			t.Error("it serves")
		}
	})
}

// A check that was cancelled is none: what passed before stays, as it was seen then.
func TestACancelledCheckDiscardsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, worker("200 good"))
		w.set(func() { w.fetchTakes = time.Minute })
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
		defer stop()
		_, _ = s.Deploy(ctx, me, discarding("200 good"))
		w.set(func() { w.fetchTakes = 0 })
		if w.serves(hostOf(t, w, "hello")) != http.StatusOK {
			t.Error("it was taken down")
		}
		st, err := s.Status(t.Context(), me, deploy.StatusRequest{})
		if err != nil || len(st.Sessions[0].Deployments) != 1 || st.Sessions[0].Deployments[0].Serving != deploy.ServingYes {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

// What passed overtakes a promise that an earlier call could not keep.
func TestPassingOvertakesAnOldPromise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		fails := func(fail bool) {
			w.set(func() {
				w.onDelete = nil
				if fail {
					w.onDelete = func(string) error { return deploy.Errorf(deploy.CodeAPIUnreachable, "Repeat.", "no answer") }
				}
			})
		}
		fails(true)
		req := discarding("200 good")
		req.Expect = &deploy.Expect{BodyContains: "better"}
		if res := must(t, s, req); res.Discarded == nil || len(res.Discarded.NotUndone) == 0 {
			t.Fatalf("%+v", res)
		}
		req.Expect = nil
		if res := must(t, s, req); res.Discarded != nil || res.Serving != deploy.ServingYes {
			t.Fatalf("%+v", res)
		}
		fails(false)
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.serves(hostOf(t, w, "hello")) != http.StatusOK {
			t.Errorf("it was taken down: %q", w.promises())
		}
	})
}

// A Worker that went while its resource stayed is gone all the same, and what is deployed
// next under its name answers.
func TestADiscardThatLeavesAResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service(func(c *deploy.Config) { c.Bundler = withKV{} })
		w.set(func() {
			w.onDelete = func(what string) error {
				if strings.HasPrefix(what, "worker ") {
					return nil
				}
				return deploy.Errorf(deploy.CodeAPIUnreachable, "Repeat.", "no answer")
			}
		})
		if res := must(t, s, discarding("throw bad")); res.Discarded == nil || len(res.Discarded.NotUndone) == 0 || w.anyServes("hello") {
			t.Fatalf("%+v", res.Discarded)
		}
		st, err := s.Status(t.Context(), me, deploy.StatusRequest{})
		if err != nil || len(st.Sessions[0].Deployments) != 0 {
			t.Errorf("status tells of what is gone: %+v, %v", st, err)
		}
		if again := must(t, s, worker("200 mended")); again.Serving != deploy.ServingYes || !w.anyServes("hello") {
			t.Errorf("%+v", again)
		}
	})
}
