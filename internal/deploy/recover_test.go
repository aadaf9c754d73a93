package deploy_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// dies plays a process that is killed: from its nth store operation of that name on,
// nothing it writes arrives any more, not even that it gives its lease back.
func (w *world) dies(op string, nth int) {
	n, dead := 0, false
	w.store.set(func(name string) error {
		if name == op {
			n++
		}
		dead = dead || n == nth
		if dead {
			return deploy.Errorf(deploy.CodeStore, "Call again.", "the process is gone")
		}
		return nil
	})
}

// restarted is the next process, when the leases of the one before have run out.
func (w *world) restarted() *deploy.Service {
	w.store.set(nil)
	time.Sleep(deploy.LeaseTTL + time.Second)
	return w.service()
}

func (m *memStore) set(fail func(op string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = fail
}

func lose(nth int) func(int) error {
	return func(n int) error {
		if n == nth {
			return deploy.Errorf(deploy.CodeAPIUnreachable, "Repeat the call.", "no answer")
		}
		return nil
	}
}

func fresh(code string) deploy.DeployRequest {
	req := worker(code)
	req.Fresh = true
	return req
}

func look(t *testing.T, s *deploy.Service, id string) deploy.SessionStatus {
	t.Helper()
	st, err := s.Status(t.Context(), me, deploy.StatusRequest{SessionID: id})
	if err != nil || len(st.Sessions) == 0 {
		t.Fatalf("status: %+v, %v", st, err)
	}
	return st.Sessions[0]
}

// The answer to the making of an account is lost, or the process is, before the account
// is on record. It is never made a second time but by fresh: true.
func TestALostAccount(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(w *world)
		first deploy.Code
	}{
		"the answer is lost": {func(w *world) { w.afterProvision = lose(1) }, deploy.CodeAccountLost},
		"cancelled meanwhile": {func(w *world) {
			w.afterProvision = func(n int) error {
				if n == 1 {
					return deploy.AsError(context.Canceled)
				}
				return nil
			}
		}, deploy.CodeAccountLost},
		"killed before it is taken":        {func(w *world) { w.dies("BeginStep", 1) }, deploy.CodeStore},
		"killed before it is on record":    {func(w *world) { w.dies("Settle", 1) }, deploy.CodeAccountLost},
		"killed when it is on record":      {func(w *world) { w.dies("BeginStep", 2) }, deploy.CodeStore},
		"killed before the session is one": {func(w *world) { w.dies("SaveSession", 1) }, deploy.CodeStore},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c.spoil(w)
				_, err := w.service().Deploy(t.Context(), me, worker("200 one"))
				refused(t, err, c.first)
				made := len(w.accounts)
				s := w.restarted()
				if len(w.store.states(deploy.StepCreateAccount)) == 0 || len(w.store.accounts) > 0 {
					must(t, s, worker("200 one"))
					if len(w.accounts) != 1 {
						t.Errorf("%d accounts", len(w.accounts))
					}
					return
				}
				for range 2 {
					_, err = s.Deploy(t.Context(), me, worker("200 one"))
					if e := refused(t, err, deploy.CodeAccountLost); !strings.Contains(e.Next, "fresh: true") || !strings.Contains(e.Message, "ends by itself") {
						t.Errorf("%v; next: %s", e, e.Next)
					}
				}
				st := look(t, s, "")
				if next := st.Next; next.Args["fresh"] != true || next.Args["session_id"] != st.SessionID || len(st.Steps) != 1 || st.Steps[0].Note == "" || st.Steps[0].State != "lost" {
					t.Errorf("status: %+v", st)
				}
				named := worker("200 one")
				named.SessionID = st.SessionID
				_, err = s.Deploy(t.Context(), me, named)
				refused(t, err, deploy.CodeAccountLost)
				if len(w.accounts) != made || w.uploads != 0 {
					t.Errorf("%d accounts, %d uploads without fresh: true", len(w.accounts), w.uploads)
				}
				res := must(t, s, fresh("200 one"))
				if res.SessionID != st.SessionID || res.Account != deploy.AccountNew || len(w.accounts) != made+1 {
					t.Errorf("fresh: %+v", res)
				}
				if res := must(t, s, worker("200 two")); res.Account != deploy.AccountReused {
					t.Errorf("after fresh: %+v", res)
				}
				if st := look(t, s, ""); len(st.Steps) != 0 || st.Next.Args["fresh"] != nil {
					t.Errorf("status after fresh: %+v", st)
				}
			})
		})
	}
}

// A lost fresh one leaves the account in use as it is.
func TestALostFreshAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		first := must(t, s, worker("200 one"))
		w.afterProvision = lose(2)
		_, err := s.Deploy(t.Context(), me, fresh("200 two"))
		refused(t, err, deploy.CodeAccountLost)
		if res := must(t, s, worker("200 two")); res.URL != first.URL || res.Account != deploy.AccountReused || w.provisions != 2 {
			t.Errorf("%+v after %d accounts", res, w.provisions)
		}
		time.Sleep(time.Hour)
		_, err = s.Deploy(t.Context(), me, worker("200 three"))
		refused(t, err, deploy.CodeAccountLost)
	})
}

// A process is killed at each of its steps after the account was made. The next one
// finds out by asking the API, and what is there is not uploaded again.
func TestAKilledDeployment(t *testing.T) {
	for name, c := range map[string]struct {
		op  string
		nth int
		// uploads in all, once the same call was repeated; found: it was live before that.
		uploads int
		found   bool
	}{
		"before the upload":          {"BeginStep", 2, 1, false},
		"after the upload":           {"Settle", 2, 2, false}, // there is no route yet
		"before the route":           {"BeginStep", 3, 2, false},
		"after the route":            {"Settle", 3, 1, true},
		"before it is all on record": {"SaveDeployment", 1, 1, true},
		"during the check":           {"SaveDeployment", 2, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.dies(c.op, c.nth)
				if res, err := w.service().Deploy(t.Context(), me, worker("200 one")); err == nil {
					t.Fatalf("it lived: %+v", res)
				}
				s := w.restarted()
				if err := s.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				if st := look(t, s, ""); c.found != (len(st.Deployments) == 1 && st.Deployments[0].Serving == deploy.ServingYes) || len(st.Steps) != 0 {
					t.Errorf("status: %+v", st)
				}
				res := must(t, s, worker("200 one"))
				if res.Changed == c.found || res.Serving != deploy.ServingYes || res.Account != deploy.AccountReused || len(w.accounts) != 1 || w.uploads != c.uploads {
					t.Errorf("again: %+v after %d accounts and %d uploads", res, len(w.accounts), w.uploads)
				}
				for _, step := range w.store.steps {
					if !step.State.Settled() || step.State == deploy.StepLost {
						t.Errorf("left: %+v", step)
					}
				}
				if again := must(t, s, worker("200 one")); again.Changed || w.uploads != c.uploads {
					t.Errorf("third: %+v", again)
				}
			})
		})
	}
}

// A killed redeployment: what is told is what the API has.
func TestAKilledRedeployment(t *testing.T) {
	for name, c := range map[string]struct {
		spoil   func(w *world)
		serves  string
		version string
	}{
		"before the upload":                {func(w *world) { w.dies("BeginStep", 1) }, "one", "version-1"},
		"after the upload":                 {func(w *world) { w.dies("Settle", 1) }, "two", "version-2"},
		"the answer is lost, it was heard": {func(w *world) { w.afterUpload = lose(2) }, "two", "version-2"},
		"the answer is lost, it was not":   {func(w *world) { w.onUpload = lose(2) }, "one", "version-1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				must(t, w.service(), worker("200 one"))
				c.spoil(w)
				if res, err := w.service().Deploy(t.Context(), me, worker("200 two")); err == nil {
					t.Fatalf("it lived: %+v", res)
				}
				w.onUpload, w.afterUpload = nil, nil
				s := w.restarted()
				st := look(t, s, "")
				if len(st.Deployments) != 1 || st.Deployments[0].VersionID != c.version || st.Deployments[0].Probe.BodyExcerpt != c.serves || len(st.Steps) != 0 {
					t.Errorf("status: %+v", st)
				}
				uploads := w.uploads
				if res := must(t, s, worker("200 "+c.serves)); res.Changed || w.uploads != uploads {
					t.Errorf("what is there was uploaded again: %+v", res)
				}
			})
		})
	}
}

// The same artifact again, with another value of a secret: its tag tells nothing, the
// version does.
func TestALostUploadOfTheSameArtifact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, worker("200 one"))
		must(t, s, worker("200 two"))
		w.onUpload = lose(3)
		_, err := s.Deploy(t.Context(), me, worker("200 one"))
		refused(t, err, deploy.CodeAPIUnreachable)
		w.onUpload = nil
		if st := look(t, s, ""); st.Deployments[0].VersionID != "version-2" || st.Deployments[0].Probe.BodyExcerpt != "two" {
			t.Errorf("status: %+v", st.Deployments)
		}
	})
}

// What the API can't be asked about now is unresolved, and asked about later.
func TestAnUploadThatCantBeAskedAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, worker("200 one"))
		w.afterUpload, w.onLook = lose(2), func(int) error { return deploy.Errorf(deploy.CodeAPIUnreachable, "Later.", "no answer") }
		_, err := s.Deploy(t.Context(), me, worker("200 two"))
		refused(t, err, deploy.CodeAPIUnreachable)
		if st := look(t, s, ""); len(st.Steps) != 1 || st.Steps[0].State != deploy.StepUnresolved || st.Steps[0].Kind != deploy.StepUploadScript {
			t.Errorf("status: %+v", st)
		}
		w.afterUpload, w.onLook = nil, nil
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st := look(t, s, ""); len(st.Steps) != 0 || st.Deployments[0].VersionID != "version-2" || st.Deployments[0].Serving != deploy.ServingYes {
			t.Errorf("status: %+v", st)
		}
	})
}

// No token is used once its account is over, not even to look; what was open is lost.
func TestWhatAnAccountThatIsOverLeftOpen(t *testing.T) {
	for name, over := range map[string]func(w *world, s *deploy.Service){
		"expired": func(*world, *deploy.Service) { time.Sleep(time.Hour) },
		"claimed": func(w *world, s *deploy.Service) {
			res, err := s.RequestClaim(w.t.Context(), me, deploy.ClaimRequest{})
			if err != nil {
				w.t.Fatal(err)
			}
			if _, err := s.DecideClaim(w.t.Context(), strings.TrimPrefix(res.PageURL, w.pageURL), true, "b"); err != nil {
				w.t.Fatal(err)
			}
		},
		"retired": func(w *world, s *deploy.Service) { must(w.t, s, fresh("200 three")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.t = t
				s := w.service()
				must(t, s, worker("200 one"))
				w.afterUpload, w.onLook = lose(2), lose(1)
				_, err := s.Deploy(t.Context(), me, worker("200 two"))
				refused(t, err, deploy.CodeAPIUnreachable)
				w.onLook = func(int) error { return deploy.Errorf(deploy.CodeAPIUnreachable, "Later.", "no answer") }
				over(w, s)
				looks := w.looks
				w.onLook = nil
				if err := w.restarted().Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				if w.looks != looks || len(w.misused) > 0 {
					t.Errorf("%d looks; misused: %v", w.looks-looks, w.misused)
				}
				if got := w.store.states(deploy.StepUploadScript); got[1] != deploy.StepLost {
					t.Errorf("the step is %v", got)
				}
			})
		})
	}
}

// What a running process is about is its own.
func TestARunningProcessIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.uploadTakes = 2 * time.Minute
		done := make(chan struct{})
		go func() { must(t, w.service(), worker("200 one")); close(done) }()
		time.Sleep(time.Minute)
		other := w.service()
		st := look(t, other, "")
		if len(st.Steps) != 1 || st.Steps[0].State != deploy.StepUnresolved {
			t.Errorf("status: %+v", st)
		}
		if err := other.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.looks != 0 || w.store.states(deploy.StepUploadScript)[0] != deploy.StepOpen {
			t.Errorf("%d looks, steps %v", w.looks, w.store.states(deploy.StepUploadScript))
		}
		began := time.Now()
		named := worker("200 two")
		named.SessionID = st.SessionID
		_, err := other.Deploy(t.Context(), me, named)
		if e := refused(t, err, deploy.CodeBusy); e.RetryAfter <= 0 || time.Since(began) != 45*time.Second {
			t.Errorf("after %v: %v, again in %v", time.Since(began), e, e.RetryAfter)
		}
		w.set(func() { w.uploadTakes = time.Second })
		if res, err := other.Deploy(t.Context(), me, named); err != nil || res.Check.BodyExcerpt != "two" || w.provisions != 1 {
			t.Errorf("its turn: %+v, %v", res, err)
		}
		<-done
	})
}

// A process that loses its hold stops, says so, and writes nothing over what the next does.
func TestALostTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		must(t, w.service(), worker("200 one"))
		w.uploadTakes = 50 * time.Second
		w.store.set(func(op string) error {
			if op == "RenewLease" {
				return deploy.Errorf(deploy.CodeStore, "Call again.", "the disk is away")
			}
			return nil
		})
		_, err := w.service().Deploy(t.Context(), me, worker("200 two"))
		if e := refused(t, err, deploy.CodeBusy); !strings.Contains(e.Message, "lost its hold") {
			t.Errorf("%v", e)
		}
		w.set(func() { w.uploadTakes = 0 })
		s := w.restarted()
		if res := must(t, s, worker("200 three")); res.Check.BodyExcerpt != "three" || w.provisions != 1 {
			t.Errorf("next: %+v", res)
		}
	})
}

func TestResourcesThatAreFoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		withKV := func(c *deploy.Config) { c.Bundler = kvBundler{} }
		w.dies("Settle", 2)
		if _, err := w.service(withKV).Deploy(t.Context(), me, worker("200 one")); err == nil {
			t.Fatal("it lived")
		}
		w.restarted()
		if err := w.service().Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(w.store.steps, func(s deploy.Step) bool { return s.Kind == deploy.StepCreateResource })
		if s := w.store.steps[i]; s.State != deploy.StepDone || s.Ref != "ref-of-kv" {
			t.Errorf("%+v", s)
		}
	})
}

type kvBundler struct{}

func (kvBundler) Bundle(ctx context.Context, src deploy.Source) (*deploy.Artifact, error) {
	a, err := bundler{}.Bundle(ctx, src)
	if err != nil {
		return nil, err
	}
	a.Bindings = []deploy.Binding{{"name": "KV", "type": deploy.ResourceKV}}
	return a, a.Seal()
}

// The operator's limits hold before the step.
func TestAccountsAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service(func(c *deploy.Config) { c.MaxAccounts, c.MaxAccountsInAll = 2, 3 })
		must(t, s, worker("200 one"))
		must(t, s, fresh("200 two"))
		_, err := s.Deploy(t.Context(), me, fresh("200 three"))
		if e := refused(t, err, deploy.CodeRateLimited); e.RetryAfter <= 0 {
			t.Errorf("%v", e)
		}
		must(t, s, worker("200 three"))
		other := deploy.Caller{Principal: "other"}
		if _, err := s.Deploy(t.Context(), other, worker("200 one")); err != nil {
			t.Fatal(err)
		}
		_, err = s.Deploy(t.Context(), other, fresh("200 two"))
		refused(t, err, deploy.CodeRateLimited)
		if w.provisions != 3 {
			t.Errorf("%d accounts", w.provisions)
		}
		time.Sleep(time.Hour)
		must(t, s, worker("200 four"))
	})
}
