package deploy_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// waiting is the one approval that waits.
func waiting(t *testing.T, s *deploy.Service) deploy.Approval {
	t.Helper()
	all, err := s.WaitingApprovals(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%d wait, %v; want one", len(all), err)
	}
	return all[0]
}

// atTerminal is a human who runs the operator's command.
var atTerminal = deploy.Human{Name: "operator:ann", Channel: deploy.ChannelCommand}

func decided(t *testing.T, s *deploy.Service, yes bool) {
	t.Helper()
	a := waiting(t, s)
	if _, err := s.DecideApprovalBy(t.Context(), a.ID, yes, a.Digest, atTerminal); err != nil {
		t.Fatal(err)
	}
}

// A yes is good once, for exactly what was asked.
func TestAskApproveOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{decide: saying(deploy.ActDeploy, deploy.Ask)}
		s := w.guarded(g)
		try := func(code string) error {
			_, err := s.Deploy(t.Context(), me, worker(code))
			return err
		}
		for range 2 { // asked again, it is the same asking
			e := refused(t, try("200 one"), deploy.CodeApprovalNeeded)
			if id := waiting(t, s).ID; !strings.Contains(e.Next, id) || !strings.Contains(e.Message, "the rule") {
				t.Errorf("%+v does not name %s", e, id)
			}
		}
		if w.provisions != 0 || len(g.notices) != 1 || g.notices[0].Type != deploy.NoticeApprovalWaiting {
			t.Errorf("%d accounts, notices %+v", w.provisions, g.notices)
		}
		asked := waiting(t, s)
		id := asked.ID
		var ok atomic.Int32
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, err := s.DecideApprovalBy(t.Context(), id, true, asked.Digest, atTerminal); err == nil {
					ok.Add(1)
				}
			})
		}
		if wg.Wait(); ok.Load() != 1 {
			t.Errorf("%d of two decided", ok.Load())
		}
		other := deploy.Caller{Principal: "another", Scope: "x"}
		if _, err := s.Deploy(t.Context(), other, worker("200 one")); !deploy.IsCode(err, deploy.CodeApprovalNeeded) {
			t.Errorf("another principal with the same artifact: %v", err)
		}
		refused(t, try("200 another artifact"), deploy.CodeApprovalNeeded)
		g.forget()
		if err := try("200 one"); err != nil {
			t.Fatal(err)
		}
		if e := g.events[0]; e.Verdict != deploy.Ask || !strings.Contains(e.Detail, "operator:ann") || !strings.Contains(e.Detail, id) {
			t.Errorf("the decision: %+v", e)
		}
		refused(t, try("200 one"), deploy.CodeApprovalNeeded)
	})
}

// A no stands until the asking is over; one that is over can't be answered.
func TestARefusalAndALateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{decide: saying(deploy.ActDeploy, deploy.Ask)}
		s := w.guarded(g)
		try := func() error { _, err := s.Deploy(t.Context(), me, worker("200 one")); return err }
		refused(t, try(), deploy.CodeApprovalNeeded)
		decided(t, s, false)
		g.tells(t, "deploy decision ask", "deploy outcome approval_needed", "approval notice")
		refused(t, try(), deploy.CodePolicyDenied)
		time.Sleep(61 * time.Minute)
		refused(t, try(), deploy.CodeApprovalNeeded)
		late := waiting(t, s)
		time.Sleep(61 * time.Minute)
		_, err := s.DecideApprovalBy(t.Context(), late.ID, true, late.Digest, atTerminal)
		refused(t, err, deploy.CodeSessionExpired)
		_, err = s.DecideApprovalBy(t.Context(), "ap_nobody", true, late.Digest, atTerminal)
		refused(t, err, deploy.CodeSessionNotFound)
		if w.provisions != 0 {
			t.Errorf("%d accounts", w.provisions)
		}
	})
}

// Where deploying and the account for it are both asked, each is asked once: a yes to the
// one is not used up by the asking about the other.
func TestTwoActsAreAskedOnceEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		g.decide = func(act deploy.Act, f deploy.Facts) deploy.Decision { return saying(act, deploy.Ask)(act, f) }
		s := w.guarded(g)
		for _, act := range []deploy.Act{deploy.ActDeploy, deploy.ActCreateAccount} {
			_, err := s.Deploy(t.Context(), me, worker("200 one"))
			refused(t, err, deploy.CodeApprovalNeeded)
			if a := waiting(t, s); a.Act != act {
				t.Fatalf("asked about %s, want %s", a.Act, act)
			}
			decided(t, s, true)
		}
		must(t, s, worker("200 one"))
	})
}

// A yes to taking one session down is none to taking down another.
func TestAnApprovedTeardownIsOfOneSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{decide: saying(deploy.ActTeardown, deploy.Ask)}
		s := w.guarded(g)
		one := must(t, s, worker("200 one"))
		second := me
		second.Scope = "server-2"
		two, err := s.Deploy(t.Context(), second, worker("200 one"))
		if err != nil || two.SessionID == one.SessionID {
			t.Fatal(err)
		}
		_, err = s.Teardown(t.Context(), me, deploy.TeardownRequest{SessionID: one.SessionID})
		refused(t, err, deploy.CodeApprovalNeeded)
		decided(t, s, true)
		_, err = s.Teardown(t.Context(), me, deploy.TeardownRequest{SessionID: two.SessionID})
		refused(t, err, deploy.CodeApprovalNeeded)
		if down, err := s.Teardown(t.Context(), me, deploy.TeardownRequest{SessionID: one.SessionID}); err != nil || !down.Closed {
			t.Errorf("%+v, %v", down, err)
		}
	})
}

// A freeze stops what puts something up, on every Service of one store, and nothing else.
func TestAFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		a, b := w.guarded(g), w.guarded(g)
		must(t, a, worker("200 one"))
		if err := a.SetFreeze(t.Context(), true, "operator:ann", "an incident"); err != nil {
			t.Fatal(err)
		}
		g.forget()
		for _, s := range []*deploy.Service{a, b} {
			for _, fresh := range []bool{false, true} {
				req := worker("200 two")
				req.Fresh = fresh
				_, err := s.Deploy(t.Context(), me, req)
				if e := refused(t, err, deploy.CodeFrozen); !strings.Contains(e.Message, "an incident") {
					t.Errorf("%+v", e)
				}
			}
		}
		if w.uploads != 1 || w.provisions != 1 || len(g.events) != 8 || g.events[0].Verdict != deploy.Deny || g.events[0].Rules[0].Rule != "freeze" || g.events[1].Outcome != "frozen" {
			t.Errorf("%d uploads, %d accounts, on record: %v", w.uploads, w.provisions, g.story())
		}
		if f, err := b.Frozen(t.Context()); err != nil || f == nil || f.By != "operator:ann" {
			t.Errorf("%+v, %v", f, err)
		}
		if err := b.SetFreeze(t.Context(), false, "operator:bob", ""); err != nil {
			t.Fatal(err)
		}
		must(t, a, worker("200 two"))
		if err := a.SetFreeze(t.Context(), true, "operator:ann", ""); err != nil {
			t.Fatal(err)
		}
		if down, err := b.Teardown(t.Context(), me, deploy.TeardownRequest{}); err != nil || !down.Closed {
			t.Errorf("a teardown while frozen: %+v, %v", down, err)
		}
	})
}
