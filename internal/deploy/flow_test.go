package deploy_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func TestFirstDeployment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		var told []deploy.Stage
		req := worker("200 hello")
		req.RunID, req.JobID = "run-1", "job-1"
		req.Progress = func(st deploy.Stage) { told = append(told, st) }
		res := must(t, s, req)

		want := []deploy.Stage{
			deploy.StageBundle, deploy.StagePreflight, deploy.StageChallenge, deploy.StageProof,
			deploy.StageAccount, deploy.StageUpload, deploy.StageRoute, deploy.StageCheck,
		}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("stages told (-want +got):\n%s", diff)
		}
		if len(res.Stages) != len(want) {
			t.Errorf("%d stage times, want %d", len(res.Stages), len(want))
		}
		if res.Phase != deploy.PhaseLive || res.Serving != deploy.ServingYes || !res.Changed || res.Account != deploy.AccountNew {
			t.Errorf("got phase %s, serving %s, changed %v, account %s", res.Phase, res.Serving, res.Changed, res.Account)
		}
		if res.MinutesLeft != 59 && res.MinutesLeft != 60 {
			t.Errorf("%d minutes left of a new account", res.MinutesLeft)
		}
		c := res.Check
		if !c.OK || c.Status != 200 || c.BodyExcerpt != "hello" || c.Version != deploy.VersionConfirmed || c.Path != "/" {
			t.Errorf("check: %+v", c)
		}
		sess, err := w.store.Session(t.Context(), "me", res.SessionID)
		if err != nil {
			t.Fatal(err)
		}
		if sess.RunID != "run-1" || sess.JobID != "job-1" || sess.Client != "tester 1" || sess.Labels["team"] != "a" {
			t.Errorf("the session does not say who asked: %+v", sess)
		}
		deps, err := w.store.Deployments(t.Context(), res.SessionID)
		if err != nil || len(deps) != 1 || deps[0].Check == nil || deps[0].ID != res.DeploymentID {
			t.Errorf("kept deployments: %+v, %v", deps, err)
		}
	})
}

func TestRedeploymentReusesTheAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		first := must(t, s, worker("200 one"))
		second := must(t, s, worker("200 two"))
		if second.Account != deploy.AccountReused || second.SessionID != first.SessionID || second.URL != first.URL || !second.Changed {
			t.Errorf("second: %+v", second)
		}
		if second.DeploymentID == first.DeploymentID || second.VersionID == first.VersionID {
			t.Error("a new version kept an old name")
		}
		if second.Check.BodyExcerpt != "two" {
			t.Errorf("body %q", second.Check.BodyExcerpt)
		}
		if w.provisions != 1 || w.uploads != 2 || w.routes != 1 {
			t.Errorf("%d accounts, %d uploads, %d routes; want 1, 2, 1", w.provisions, w.uploads, w.routes)
		}
		if !second.ExpiresAt.Equal(first.ExpiresAt) {
			t.Error("a redeployment moved the end of the hour")
		}
	})
}

func TestTheSameContentIsNotUploadedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		first := must(t, s, worker("200 one"))
		again := must(t, s, worker("200 one"))
		if again.Changed || again.DeploymentID != first.DeploymentID || again.VersionID != first.VersionID {
			t.Errorf("again: %+v", again)
		}
		byID := must(t, s, deploy.DeployRequest{BundleID: first.BundleID})
		if byID.Changed || byID.BundleID != first.BundleID {
			t.Errorf("by bundle_id: %+v", byID)
		}
		if w.uploads != 1 {
			t.Errorf("%d uploads, want 1", w.uploads)
		}
		// Back to what was there before the last one is a change.
		must(t, s, worker("200 two"))
		if back := must(t, s, worker("200 one")); !back.Changed || w.uploads != 3 || back.Check.BodyExcerpt != "one" {
			t.Errorf("back: changed %v after %d uploads, body %q", back.Changed, w.uploads, back.Check.BodyExcerpt)
		}
		// Another Worker on the same account has its own history.
		other := worker("200 one")
		other.Source.Name = "other"
		if o := must(t, s, other); !o.Changed || o.Account != deploy.AccountReused || w.provisions != 1 {
			t.Errorf("other: %+v", o)
		}
	})
}

// An unchanged deployment that was confirmed must not claim what is not so.
func TestUnchangedEvidenceIsTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, worker("200 one"))
		if second := must(t, s, worker("200 two")); second.Check.Version != deploy.VersionConfirmed {
			t.Fatalf("not confirmed: %+v", second.Check)
		}
		w.set(func() { w.tailVersions = false })
		c := must(t, s, worker("200 two")).Check
		if c.Version != deploy.VersionConfirmed || strings.Contains(c.Evidence, "first version") {
			t.Errorf("it is the second version of this Worker; check: %+v", c)
		}
	})
}

func TestBundleKeepsTheArtifactForItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		b, err := s.Bundle(t.Context(), me, source("200 one"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Deploy(t.Context(), deploy.Caller{Principal: "someone else"}, deploy.DeployRequest{BundleID: b.BundleID})
		refused(t, err, deploy.CodeBundleNotFound)
		if res := must(t, s, deploy.DeployRequest{BundleID: b.BundleID}); res.BundleID != b.BundleID {
			t.Errorf("bundle %s, want %s", res.BundleID, b.BundleID)
		}
		_, err = s.Bundle(t.Context(), me, deploy.Source{})
		refused(t, err, deploy.CodeNoSource)
	})
}

func TestFreshRetiresTheAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		first := must(t, s, worker("200 one"))
		req := worker("200 one")
		req.Fresh = true
		second := must(t, s, req)
		if second.Account != deploy.AccountNew || second.SessionID != first.SessionID || second.URL == first.URL || !second.Changed {
			t.Errorf("fresh: %+v", second)
		}
		accounts, err := w.store.Accounts(t.Context(), first.SessionID)
		if err != nil || len(accounts) != 2 {
			t.Fatalf("accounts: %v, %v", accounts, err)
		}
		old := accounts[1]
		if old.State != deploy.AccountRetired || !old.Token.Empty() || !old.ClaimURL.Empty() {
			t.Errorf("the old account: state %q, token empty %v, claim empty %v", old.State, old.Token.Empty(), old.ClaimURL.Empty())
		}
		if third := must(t, s, worker("200 three")); third.Account != deploy.AccountReused || third.URL != second.URL {
			t.Errorf("after fresh: %+v", third)
		}
		st, err := s.Status(t.Context(), me, deploy.StatusRequest{})
		if err != nil || len(st.Sessions) != 1 || st.Sessions[0].Retired != 1 {
			t.Errorf("the retired account is not listed: %+v, %v", st, err)
		}
		req = worker("200 first fresh")
		req.Fresh, req.RunID = true, "another run"
		if res := must(t, s, req); res.Account != deploy.AccountNew || w.provisions != 3 {
			t.Errorf("fresh without anything before: %+v", res)
		}
	})
}

func TestFreshThatFailsKeepsTheOldAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		first := must(t, s, worker("200 one"))
		w.onProvision = func(int) error {
			return &deploy.Error{Code: deploy.CodeRateLimited, Message: "too many", Next: "Wait.", RetryAfter: time.Minute}
		}
		req := worker("200 two")
		req.Fresh = true
		_, err := s.Deploy(t.Context(), me, req)
		if e := refused(t, err, deploy.CodeRateLimited); e.RetryAfter != time.Minute {
			t.Errorf("retry after %v", e.RetryAfter)
		}
		if res := must(t, s, worker("200 two")); res.URL != first.URL || res.Account != deploy.AccountReused {
			t.Errorf("after the failure: %+v", res)
		}
	})
}

func TestTheCurrentSessionIsOfScopeAndRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		first := must(t, s, worker("200 one"))
		inRun := worker("200 one")
		inRun.RunID = "run-7"
		run := must(t, s, inRun)
		if run.SessionID == first.SessionID {
			t.Error("a run of its own went to the session of none")
		}
		if again := must(t, s, inRun); again.SessionID != run.SessionID || again.Changed {
			t.Errorf("the run did not find its session again: %+v", again)
		}
		elsewhere := me
		elsewhere.Scope = "server-2"
		res, err := s.Deploy(t.Context(), elsewhere, worker("200 one"))
		if err != nil || res.SessionID == first.SessionID || res.SessionID == run.SessionID {
			t.Errorf("another server's current session: %+v, %v", res, err)
		}
		// By its name a session is reached from every scope of its principal.
		byName := worker("200 two")
		byName.SessionID = first.SessionID
		res, err = s.Deploy(t.Context(), elsewhere, byName)
		if err != nil || res.SessionID != first.SessionID || res.Account != deploy.AccountReused {
			t.Errorf("by name: %+v, %v", res, err)
		}
	})
}

func TestConcurrentFirstCallsMakeOneAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.uploadTakes = 50 * time.Millisecond
		s := w.service()
		const n = 16
		results := make(chan *deploy.DeployResult, n)
		for i := range n {
			go func() {
				req := worker("200 hello")
				req.Source.Name = "worker-" + string(rune('a'+i%4)) // four Workers, four calls each
				res, err := s.Deploy(t.Context(), me, req)
				if err != nil {
					t.Errorf("deploy: %v", err)
				}
				results <- res
			}()
		}
		sessions, changed, fresh := map[string]bool{}, 0, 0
		for range n {
			res := <-results
			if res == nil {
				continue
			}
			sessions[res.SessionID] = true
			if res.Changed {
				changed++
			}
			if res.Account == deploy.AccountNew {
				fresh++
			}
		}
		if w.provisions != 1 || len(sessions) != 1 || w.uploads != 4 || changed != 4 || fresh != 1 {
			t.Errorf("%d accounts, %d sessions, %d uploads, %d changed, %d new; want 1, 1, 4, 4, 1",
				w.provisions, len(sessions), w.uploads, changed, fresh)
		}
	})
}

// An upload whose outcome is not known must not leave the old version on record as
// what is served: the old content would then be "unchanged" while the new one serves.
func TestAnUploadOfUnknownOutcome(t *testing.T) {
	for name, lose := range map[string]func(w *world){
		"the answer is lost": func(w *world) {
			w.afterUpload = func(n int) error {
				if n == 2 {
					return deploy.Errorf(deploy.CodeAPIUnreachable, "Repeat the call.", "no answer")
				}
				return nil
			}
		},
		"the record can't be written": func(w *world) {
			settled := 0
			w.store.fail = func(op string) error {
				if op == "Settle" {
					settled++
				}
				if settled > 0 && op != "ReleaseLease" {
					return deploy.Errorf(deploy.CodeStore, "Free some space.", "disk full")
				}
				return nil
			}
		},
		"the caller goes away": func(w *world) {
			w.afterUpload = func(n int) error {
				if n == 2 {
					return deploy.AsError(context.Canceled)
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.uploadTakes = 10 * time.Millisecond
				s := w.service()
				must(t, s, worker("200 one"))
				lose(w)
				if _, err := s.Deploy(t.Context(), me, worker("200 two")); err == nil {
					t.Fatal("no error")
				}
				w.store.fail, w.afterUpload = nil, nil
				res := must(t, s, worker("200 one"))
				if res.Check.BodyExcerpt != "one" || !res.Changed {
					t.Errorf("asked for one again: changed %v, it serves %q", res.Changed, res.Check.BodyExcerpt)
				}
			})
		})
	}
}

// What is live can always be put live again: an artifact that can't be kept is not uploaded.
func TestAnArtifactThatCantBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, worker("200 one"))
		w.store.fail = func(op string) error {
			if op == "SaveArtifact" {
				return deploy.Errorf(deploy.CodeStore, "Free some space.", "disk full")
			}
			return nil
		}
		_, err := s.Deploy(t.Context(), me, worker("200 two"))
		refused(t, err, deploy.CodeStore)
		w.store.fail = nil
		if res := must(t, s, worker("200 one")); res.Changed || w.uploads != 1 {
			t.Errorf("changed %v after %d uploads", res.Changed, w.uploads)
		}
	})
}

// A definite no leaves what was there on record.
func TestAnUploadThatIsRefusedChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, worker("200 one"))
		w.onUpload = func(int) error {
			return &deploy.Error{Code: deploy.CodeStartFailed, Message: "Uncaught Error: boom\n  at index.js:1:7", Next: "Fix it."}
		}
		_, err := s.Deploy(t.Context(), me, worker("200 two"))
		if e := refused(t, err, deploy.CodeStartFailed); !strings.Contains(e.Message, "index.js:1:7") {
			t.Errorf("message: %s", e.Message)
		}
		w.onUpload = nil
		if res := must(t, s, worker("200 one")); res.Changed || w.uploads != 2 {
			t.Errorf("changed %v after %d uploads; the old version never stopped serving", res.Changed, w.uploads)
		}
	})
}

func TestARouteThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		w.onRoute = func(n int) error {
			if n == 1 {
				return deploy.Errorf(deploy.CodeAPIUnreachable, "Repeat the call.", "no answer")
			}
			return nil
		}
		_, err := s.Deploy(t.Context(), me, worker("200 one"))
		refused(t, err, deploy.CodeAPIUnreachable)
		res := must(t, s, worker("200 one"))
		if res.Serving != deploy.ServingYes || res.Account != deploy.AccountReused || w.provisions != 1 || w.routes != 2 {
			t.Errorf("second try: %+v after %d accounts, %d routes", res, w.provisions, w.routes)
		}
	})
}

func TestCancellationStopsTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.routeDelay = time.Hour
		s := w.service()
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		time.AfterFunc(3*time.Second, cancel)
		res, err := s.Deploy(ctx, me, worker("200 one"))
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("it went on for %v", took)
		}
		if err == nil && res.Serving != deploy.ServingNotYet {
			t.Errorf("cancelled before it served: %+v", res)
		}
		// What was spent is not lost.
		w.routeDelay = 0
		again := must(t, s, worker("200 one"))
		if again.Account != deploy.AccountReused || w.provisions != 1 || w.uploads != 1 {
			t.Errorf("again: %+v; %d accounts, %d uploads", again, w.provisions, w.uploads)
		}
	})
}

func TestWaitingForTheLockEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.uploadTakes = time.Minute
		s := w.service()
		done := make(chan struct{})
		go func() { must(t, s, worker("200 one")); close(done) }()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Deploy(ctx, me, worker("200 two"))
		refused(t, err, deploy.CodeTimeout)
		<-done
	})
}

func TestAssetsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		page := func(text string) deploy.DeployRequest {
			return deploy.DeployRequest{Source: deploy.Source{Files: []deploy.File{{Path: "index.html", Content: []byte(text)}}}}
		}
		if res := must(t, s, page("<p>one")); res.Serving != deploy.ServingYes || res.Check.Version != deploy.VersionConfirmed {
			t.Errorf("first: %+v", res.Check)
		}
		if res := must(t, s, page("<p>two")); res.Check.Version != deploy.VersionConfirmed || res.Check.BodyExcerpt != "<p>two" || !strings.Contains(res.Check.Evidence, "the changed file") {
			t.Errorf("no tail tells of static files, the changed file does; check: %+v", res.Check)
		}
		if len(w.tails) != 0 {
			t.Errorf("%d tails were opened for static files", len(w.tails))
		}
	})
}

func TestNewNeedsItsParts(t *testing.T) {
	w := newWorld(t)
	good := deploy.Config{Bundler: bundler{}, Cloud: (*fakeCloud)(w), Edge: (*fakeEdge)(w), Store: w.store}
	if s, err := deploy.New(good); err != nil || s.Redactor() == nil || s.Terms() == "" {
		t.Fatalf("New: %v", err)
	}
	for name, spoil := range map[string]func(*deploy.Config){
		"bundler": func(c *deploy.Config) { c.Bundler = nil }, "cloud": func(c *deploy.Config) { c.Cloud = nil },
		"edge": func(c *deploy.Config) { c.Edge = nil }, "store": func(c *deploy.Config) { c.Store = nil },
	} {
		c := good
		spoil(&c)
		if _, err := deploy.New(c); err == nil {
			t.Errorf("New without %s: no error", name)
		}
	}
}

func TestAsError(t *testing.T) {
	plain := errors.New("disk /secret/path is full")
	for _, c := range []struct {
		err  error
		code deploy.Code
	}{
		{context.Canceled, deploy.CodeCancelled},
		{context.DeadlineExceeded, deploy.CodeTimeout},
		{plain, deploy.CodeInternal},
		{deploy.Errorf(deploy.CodeStore, "Next.", "no room"), deploy.CodeStore},
	} {
		e := deploy.AsError(c.err)
		if e.Code != c.code || e.Next == "" {
			t.Errorf("AsError(%v) = %s, next %q", c.err, e.Code, e.Next)
		}
		if c.code == deploy.CodeInternal && (strings.Contains(e.Error(), "secret") || !errors.Is(e, plain)) {
			t.Errorf("the cause is for the log alone, and must be there: %v", e)
		}
	}
	wrapped := deploy.Errorf(deploy.CodeStore, "Next.", "no room: %w", plain)
	if !errors.Is(wrapped, plain) || !deploy.IsCode(wrapped, deploy.CodeStore) || deploy.IsCode(plain, deploy.CodeStore) {
		t.Errorf("codes and causes: %v", wrapped)
	}
}

func TestSealDependsOnWhatIsDeployedAlone(t *testing.T) {
	base := func() *deploy.Artifact {
		return &deploy.Artifact{
			Name: "a", MainModule: "m.js", CompatibilityDate: "2026-10-01",
			Modules: []deploy.Module{{Name: "m.js", Type: deploy.TypeESModule, Content: []byte("x")}},
			Assets:  &deploy.Assets{Files: []deploy.Asset{{Path: "/i", Content: []byte("y")}}},
		}
	}
	digest := func(change func(*deploy.Artifact)) string {
		a := base()
		change(a)
		if err := a.Seal(); err != nil {
			t.Fatal(err)
		}
		return a.Digest
	}
	same := digest(func(*deploy.Artifact) {})
	if got := digest(func(a *deploy.Artifact) { a.Warnings, a.Bytes = []string{"w"}, 7 }); got != same {
		t.Error("a warning changed the digest")
	}
	seen := []string{same}
	for name, change := range map[string]func(*deploy.Artifact){
		"name":          func(a *deploy.Artifact) { a.Name = "b" },
		"main":          func(a *deploy.Artifact) { a.MainModule = "" },
		"date":          func(a *deploy.Artifact) { a.CompatibilityDate = "2026-10-02" },
		"flags":         func(a *deploy.Artifact) { a.CompatibilityFlags = []string{"f"} },
		"bindings":      func(a *deploy.Artifact) { a.Bindings = []deploy.Binding{{"name": "A", "type": "kv_namespace"}} },
		"metadata":      func(a *deploy.Artifact) { a.Metadata = map[string]any{"k": 1} },
		"module name":   func(a *deploy.Artifact) { a.Modules[0].Name = "n.js" },
		"module type":   func(a *deploy.Artifact) { a.Modules[0].Type = deploy.TypeText },
		"module bytes":  func(a *deploy.Artifact) { a.Modules[0].Content = []byte("z") },
		"asset path":    func(a *deploy.Artifact) { a.Assets.Files[0].Path = "/j" },
		"asset bytes":   func(a *deploy.Artifact) { a.Assets.Files[0].Content = nil },
		"asset config":  func(a *deploy.Artifact) { a.Assets.Config = map[string]any{"html_handling": "none"} },
		"assets":        func(a *deploy.Artifact) { a.Assets = nil },
		"border shifts": func(a *deploy.Artifact) { a.Modules[0].Name, a.Modules[0].Type = "m.jsa", a.Modules[0].Type[1:] },
	} {
		got := digest(change)
		if slices.Contains(seen, got) {
			t.Errorf("a change of %s did not change the digest, or came to another's", name)
		}
		seen = append(seen, got)
	}
}
