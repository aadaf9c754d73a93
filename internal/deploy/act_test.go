package deploy_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// guards are the policy, the scan, the record and the webhook, played.
type guards struct {
	mu      sync.Mutex
	events  []deploy.Event
	notices []deploy.Notice
	facts   map[deploy.Act]deploy.Facts
	// decide answers for the policy; nil allows. fail is asked before a record is written.
	decide   func(deploy.Act, deploy.Facts) deploy.Decision
	fail     func(deploy.Event) error
	findings []deploy.Finding
}

func (g *guards) Append(ctx context.Context, e deploy.Event) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if ctx.Err() != nil {
		return errors.New("a record was tried under a context that is over")
	}
	if g.fail != nil {
		if err := g.fail(e); err != nil {
			return err
		}
	}
	g.events = append(g.events, e)
	return nil
}

func (g *guards) Decide(_ context.Context, act deploy.Act, f deploy.Facts) deploy.Decision {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.facts == nil {
		g.facts = map[deploy.Act]deploy.Facts{}
	}
	g.facts[act] = f
	if g.decide == nil {
		return deploy.Decision{Verdict: deploy.Allow}
	}
	return g.decide(act, f)
}

func (g *guards) Notify(n deploy.Notice) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.notices = append(g.notices, n)
}

func (g *guards) Scan(context.Context, *deploy.Artifact) ([]deploy.Finding, error) {
	return g.findings, nil
}

// story is the record in one line a record: "deploy decision allow", "deploy outcome ok".
func (g *guards) story() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for _, e := range g.events {
		line := e.Act + " " + string(e.Phase) + " " + string(e.Verdict) + e.Outcome
		if e.Act == deploy.ActMoveClaim && e.Phase == deploy.PhaseDecision {
			line += e.Data["to"]
		}
		if e.Phase == deploy.PhaseNotice {
			line = strings.TrimSpace(e.Act + " notice " + e.Data["to"] + e.Data["state"])
		}
		out = append(out, line)
	}
	return out
}

func (g *guards) forget() { g.mu.Lock(); g.events, g.notices = nil, nil; g.mu.Unlock() }

func (g *guards) tells(t *testing.T, want ...string) {
	t.Helper()
	if got := g.story(); !slices.Equal(got, want) {
		t.Errorf("on record:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// guarded is a Service with all guards.
func (w *world) guarded(g *guards, change ...func(*deploy.Config)) *deploy.Service {
	return w.service(append([]func(*deploy.Config){func(cfg *deploy.Config) {
		cfg.Policy, cfg.Record, cfg.Notifier, cfg.Scanner = g, g, g, g
	}}, change...)...)
}

// saying answers one act with a verdict of a rule, and allows the others.
func saying(kind deploy.Act, v deploy.Verdict) func(deploy.Act, deploy.Facts) deploy.Decision {
	return func(act deploy.Act, _ deploy.Facts) deploy.Decision {
		if act != kind {
			return deploy.Decision{Verdict: deploy.Allow}
		}
		return deploy.Decision{Verdict: v, Reasons: []deploy.Reason{{Rule: "the rule", Verdict: v, Message: "Not like this.", Next: "Do it so."}}}
	}
}

// Every act has its decision and its outcome on record, the decision to deploy before
// the account, and no secret in any of it.
func TestEveryActIsOnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		c := me
		c.Door, c.TraceID = deploy.DoorHTTP, "0af7651916cd43dd8448eb211c80319c"
		req := worker("200 hello")
		req.RunID, req.JobID = "run-7", "job-3"
		res, err := s.Deploy(t.Context(), c, req)
		if err != nil {
			t.Fatal(err)
		}
		acct := w.store.allAccounts()[0]
		if _, err := s.RequestClaim(t.Context(), c, deploy.ClaimRequest{Message: "Keep it, the token is " + acct.Token.Reveal()}); err != nil {
			t.Fatal(err)
		}
		down, err := s.Teardown(t.Context(), c, deploy.TeardownRequest{Reason: "The link was " + acct.ClaimURL.Reveal()})
		if err != nil || !down.Closed {
			t.Fatalf("%+v, %v", down, err)
		}
		g.tells(t,
			"deploy decision allow", "create_account decision allow", "create_account outcome ok", "deploy outcome ok",
			"request_claim decision allow", "request_claim outcome ok",
			"teardown decision allow", "claim decision withdrawn", "claim outcome ok", "teardown outcome ok")
		d, o := g.events[0], g.events[3]
		if d.ActID == "" || d.ActID != o.ActID || d.ActID == g.events[1].ActID {
			t.Errorf("the acts' names: %s %s %s", d.ActID, o.ActID, g.events[1].ActID)
		}
		if d.Principal != "me" || d.Labels["team"] != "a" || d.ClaimedLabels["run_id"] != "run-7" || d.ClaimedLabels["job_id"] != "job-3" || d.Client != "tester 1" ||
			d.Door != deploy.DoorHTTP || d.TraceID != c.TraceID || d.SessionID != res.SessionID || d.Worker != "hello" || d.Digest == "" || d.BundleID != res.BundleID || d.Target != "test" {
			t.Errorf("the decision: %+v", d)
		}
		if o.VersionID != res.VersionID || o.DeploymentID != res.DeploymentID || o.URL != res.URL || o.AccountID != acct.ID || o.AccountName != acct.Name ||
			!o.ExpiresAt.Equal(acct.ExpiresAt) || o.Data["serving"] != "yes" || o.Data["status"] != "200" {
			t.Errorf("the outcome: %+v", o)
		}
		if f := g.facts[deploy.ActDeploy]; f.Labels["team"] != "a" || f.ClaimedLabels["run_id"] != "run-7" || f.Labels["run_id"] != "" || f.Worker.Name != "hello" || f.Now.IsZero() {
			t.Errorf("what rules see: %+v", f)
		}
		raw, err := json.Marshal(map[string]any{"events": g.events, "notices": g.notices})
		if err != nil {
			t.Fatal(err)
		}
		for name, secret := range map[string]string{"token": acct.Token.Reveal(), "claim link": acct.ClaimURL.Reveal(), "claim token": "claim-token-of-account-number-1"} {
			if strings.Contains(string(raw), secret) {
				t.Errorf("the %s is on record, or was told", name)
			}
		}
	})
}

// What the policy denies is on record and spends nothing.
func TestADenial(t *testing.T) {
	for _, kind := range []deploy.Act{deploy.ActDeploy, deploy.ActCreateAccount} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, g := newWorld(t), &guards{decide: saying(kind, deploy.Deny)}
				s := w.guarded(g)
				_, err := s.Deploy(t.Context(), me, worker("200 hello"))
				e := refused(t, err, deploy.CodePolicyDenied)
				if !strings.Contains(e.Message, "the rule") || !strings.Contains(e.Message, "Not like this.") || e.Next != "Do it so." {
					t.Errorf("%+v", e)
				}
				if w.provisions+w.uploads+w.boots != 0 {
					t.Errorf("%d accounts, %d uploads, %d boots", w.provisions, w.uploads, w.boots)
				}
				want := []string{"deploy decision deny", "deploy outcome policy_denied"}
				if kind == deploy.ActCreateAccount {
					want = []string{"deploy decision allow", "create_account decision deny", "create_account outcome policy_denied", "deploy outcome policy_denied"}
				}
				g.tells(t, want...)
				if i := slices.Index(g.story(), string(kind)+" decision deny"); i < 0 || len(g.events[i].Rules) != 1 || g.events[i].Rules[0].Rule != "the rule" {
					t.Errorf("the rule is not on record: %+v", g.events)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		must(t, s, worker("200 hello"))
		for _, kind := range []deploy.Act{deploy.ActRequestClaim, deploy.ActTeardown} {
			g.forget()
			g.decide = saying(kind, deploy.Deny)
			var err error
			if kind == deploy.ActTeardown {
				_, err = s.Teardown(t.Context(), me, deploy.TeardownRequest{})
			} else {
				_, err = s.RequestClaim(t.Context(), me, deploy.ClaimRequest{})
			}
			refused(t, err, deploy.CodePolicyDenied)
			g.tells(t, string(kind)+" decision deny", string(kind)+" outcome policy_denied")
		}
		if len(w.store.claims) != 0 || w.store.allAccounts()[0].Token.Empty() {
			t.Error("a denied act was done")
		}
	})
}

// No record, no act.
func TestNoRecordNoAct(t *testing.T) {
	full := func(deploy.Event) error { return errors.New("the disk is full") }
	for _, kind := range []deploy.Act{deploy.ActDeploy, deploy.ActCreateAccount} {
		synctest.Test(t, func(t *testing.T) {
			w, g := newWorld(t), &guards{}
			g.fail = func(e deploy.Event) error {
				if e.Act == string(kind) {
					return full(e)
				}
				return nil
			}
			_, err := w.guarded(g).Deploy(t.Context(), me, worker("200 hello"))
			refused(t, err, deploy.CodeStore)
			if w.provisions+w.uploads != 0 {
				t.Errorf("%s: %d accounts, %d uploads", kind, w.provisions, w.uploads)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		must(t, s, worker("200 hello"))
		g.fail = full
		_, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{})
		refused(t, err, deploy.CodeStore)
		_, err = s.Teardown(t.Context(), me, deploy.TeardownRequest{})
		refused(t, err, deploy.CodeStore)
		if len(w.store.claims) != 0 || w.store.allAccounts()[0].Token.Empty() {
			t.Error("an act was done that is not on record")
		}
		if err := s.SetFreeze(t.Context(), true, "op", ""); !deploy.IsCode(err, deploy.CodeStore) || w.store.freeze == nil {
			t.Errorf("a log that can't be written kept an operator from stopping: %v", err)
		}
	})
}

// What was done is done, also where the outcome can't be written: the result says so.
func TestAnOutcomeThatIsNotOnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		g.fail = func(e deploy.Event) error {
			if e.Phase == deploy.PhaseOutcome {
				return errors.New("the disk is full")
			}
			return nil
		}
		s := w.guarded(g)
		res := must(t, s, worker("200 hello"))
		told := func(warnings []string) bool {
			return slices.ContainsFunc(warnings, func(x string) bool { return strings.Contains(x, "could not be put on record") })
		}
		if res.Serving != deploy.ServingYes || !told(res.Warnings) {
			t.Errorf("%+v", res)
		}
		down, err := s.Teardown(t.Context(), me, deploy.TeardownRequest{})
		if err != nil || !down.Closed || !told(down.Warnings) {
			t.Errorf("%+v, %v", down, err)
		}
	})
}

// How a deployment ended that failed is on record, with its code.
func TestAFailureIsOnRecord(t *testing.T) {
	for name, c := range map[string]struct {
		arrange func(w *world, cancel func())
		outcome deploy.Code
	}{
		"the API says no": {func(w *world, _ func()) {
			w.onUpload = func(int) error { return deploy.Errorf(deploy.CodeAPIRefused, "Read it.", "no") }
		}, deploy.CodeAPIRefused},
		"cancelled": {func(w *world, cancel func()) {
			w.onProvision = func(int) error { cancel(); return nil }
		}, deploy.CodeCancelled},
		"out of time": {func(w *world, _ func()) { w.uploadTakes = time.Minute }, deploy.CodeTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, g := newWorld(t), &guards{}
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				c.arrange(w, cancel)
				_, err := w.guarded(g).Deploy(ctx, me, worker("200 hello"))
				refused(t, err, c.outcome)
				last := g.events[len(g.events)-1]
				if last.Act != "deploy" || last.Phase != deploy.PhaseOutcome || last.Outcome != string(c.outcome) || last.Detail == "" {
					t.Errorf("%+v of %v", last, g.story())
				}
			})
		})
	}
}

// Bundle and preflight refuse before anybody is asked; a secret in the code is denied by
// the plain policy too, and shown where it is, masked.
func TestFindingsAndTheOrderOfRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{decide: saying(deploy.ActDeploy, deploy.Deny)}
		s := w.guarded(g)
		_, err := s.Deploy(t.Context(), me, worker("syntax error"))
		refused(t, err, deploy.CodeBuildFailed)
		if len(g.events) != 0 {
			t.Errorf("on record: %v", g.story())
		}
		g.findings = []deploy.Finding{{Kind: "a kind", File: "index.js", Line: 3, Sample: "ab****yz", Fingerprint: "f00d"}}
		plain := w.guarded(g, func(cfg *deploy.Config) { cfg.Policy = nil })
		for _, s := range []*deploy.Service{s, plain} {
			g.forget()
			_, err = s.Deploy(t.Context(), me, worker("200 hello"))
			e := refused(t, err, deploy.CodePolicyDenied)
			if len(e.Diagnostics) != 1 || e.Diagnostics[0].File != "index.js" || e.Diagnostics[0].Line != 3 || !strings.Contains(e.Diagnostics[0].Text, "ab****yz") || !strings.Contains(e.Diagnostics[0].Suggestion, "f00d") {
				t.Errorf("%+v", e.Diagnostics)
			}
			if w.provisions != 0 || len(g.events[0].Findings) != 1 {
				t.Errorf("%d accounts; %+v", w.provisions, g.events[0])
			}
		}
	})
}

// That an outcome is not on record is said too when the act failed.
func TestAFailureThatIsNotOnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		g.fail = func(e deploy.Event) error {
			if e.Phase == deploy.PhaseOutcome {
				return errors.New("the disk is full")
			}
			return nil
		}
		s := w.guarded(g)
		told := func(err error, code deploy.Code, says string) {
			t.Helper()
			e := refused(t, err, code)
			if !strings.Contains(e.Message, says) || !strings.Contains(e.Message, "could not be put on record") || !strings.Contains(e.Cause.Error(), "says no") {
				t.Errorf("%v, cause %v", e, e.Cause)
			}
		}
		no := func(int) error { return deploy.Errorf(deploy.CodeAPIRefused, "Read it.", "the API says no") }
		w.set(func() { w.onUpload = no })
		_, err := s.Deploy(t.Context(), me, worker("200 hello"))
		told(err, deploy.CodeAPIRefused, "the API says no")
		w.set(func() { w.onUpload = nil })
		must(t, s, worker("200 hello"))
		w.set(func() { w.onLook = no })
		_, err = s.Teardown(t.Context(), me, deploy.TeardownRequest{})
		told(err, deploy.CodeAPIRefused, "the API says no")
		w.set(func() { w.onLook, w.onPage = nil, func() error { return no(0) } })
		_, err = s.RequestClaim(t.Context(), me, deploy.ClaimRequest{})
		if e := refused(t, err, deploy.CodeNoApproval); !strings.Contains(e.Message, "could not be put on record") {
			t.Errorf("%v", e)
		}
		w.set(func() { w.onPage = nil })
		res, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{})
		if err != nil || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "could not be put on record") || g.notices[len(g.notices)-1].Type != deploy.NoticeClaimWaiting {
			t.Errorf("a claim that waits, with nobody told: %+v, %v", res, err)
		}
		g.decide = saying(deploy.ActDeploy, deploy.Deny)
		other := me
		other.Scope = "server-2"
		_, err = s.Deploy(t.Context(), other, worker("200 hello"))
		if e := refused(t, err, deploy.CodePolicyDenied); !strings.Contains(e.Message, "Not like this.") || !strings.Contains(e.Message, "could not be put on record") {
			t.Errorf("%v", e)
		}
	})
}
