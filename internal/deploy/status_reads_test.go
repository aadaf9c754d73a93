package deploy_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// counted gives what one status asks of the store, by name and in order, and how often it
// asks the API's clock and fetches a Worker's URL.
func (w *world) counted(s *deploy.Service, req deploy.StatusRequest) (ops []string, asks, fetches int) {
	w.t.Helper()
	w.set(func() { w.asks, w.fetches = 0, 0 })
	w.store.set(func(op string) error { ops = append(ops, op); return nil })
	if _, err := s.Status(context.Background(), me, req); err != nil {
		w.t.Error(err)
	}
	w.store.set(nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	return ops, w.asks, w.fetches
}

// TestAStatusReadsTheStoreOnce: polling costs one read and nothing else, whether what is
// asked for is over, looked at just now, or a crowd; what is done beyond it is done when
// it is due, and reads no more than it must.
func TestAStatusReadsTheStoreOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.loopback = false // a sandbox's clock, which is put forward at will, is asked each time
		s := w.service(func(c *deploy.Config) { c.TermsAccepted = true })
		once := func(what string, req deploy.StatusRequest) {
			t.Helper()
			if ops, asks, fetches := w.counted(s, req); !slices.Equal(ops, []string{"Pictures"}) || asks != 0 || fetches != 0 {
				t.Errorf("%s: the store was asked %q, the clock %d times, Workers %d times", what, ops, asks, fetches)
			}
		}
		once("nothing", deploy.StatusRequest{})
		first := must(t, s, worker("200 one"))
		req := deploy.StatusRequest{SessionID: first.SessionID}

		// The clock was not asked yet: it is, and the session read again after it. What is on
		// the account was not looked at yet, which takes a turn at the session.
		ops, asks, fetches := w.counted(s, req)
		if len(ops) > 10 || !slices.Equal(ops[:2], []string{"Pictures", "Pictures"}) || asks != 1 || fetches != 0 {
			t.Errorf("the clock is due: %q, %d questions, %d probes", ops, asks, fetches)
		}
		for range 3 {
			once("polled", req)
			once("polled without its name", deploy.StatusRequest{})
		}
		time.Sleep(11 * time.Second)
		ops, asks, fetches = w.counted(s, req)
		if n := len(ops); n > 13 || asks != 1 || fetches != 1 || !slices.Contains(ops, "SaveDeployment") {
			t.Errorf("a probe is due: %q, %d questions, %d probes", ops, asks, fetches)
		}
		once("polled after the probe", req)

		time.Sleep(2 * time.Hour)
		w.counted(s, req) // ends it
		for range 3 {
			once("over", req)
		}
		for i := range 20 {
			must(t, s, deploy.DeployRequest{RunID: fmt.Sprint("run-", i), Source: source("200 more"), Fresh: true})
		}
		w.counted(s, deploy.StatusRequest{}) // the clock
		once("a crowd", deploy.StatusRequest{})

		w.set(func() { w.loopback = true })
		if ops, asks, _ := w.counted(s, deploy.StatusRequest{}); asks != 1 || !slices.Equal(ops, []string{"Pictures", "Pictures"}) {
			t.Errorf("in a sandbox: %q, %d questions", ops, asks)
		}
	})
}

// TestAPolledWorkerThatDoesNotServe is asked once a second, not at every status, and what
// it comes to is seen within that.
func TestAPolledWorkerThatDoesNotServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.routeDelay = 40 * time.Second // longer than a deployment waits
		s := w.service()
		res := must(t, s, worker("200 one"))
		if res.Serving == deploy.ServingYes {
			t.Fatalf("it serves already: %+v", res)
		}
		time.Sleep(2 * time.Second)
		w.set(func() { w.fetches = 0 })
		look := func() deploy.DeploymentStatus {
			st, err := s.Status(t.Context(), me, deploy.StatusRequest{SessionID: res.SessionID})
			if err != nil {
				t.Fatal(err)
			}
			d := st.Sessions[0].Deployments[0]
			if age := time.Since(d.Probe.ProbedAt); age >= time.Second {
				t.Errorf("a look of %v ago at what does not serve", age)
			}
			return d
		}
		for range 50 { // ten a second
			look()
			time.Sleep(100 * time.Millisecond)
		}
		w.set(func() {
			if w.fetches > 6 {
				t.Errorf("%d probes in five seconds", w.fetches)
			}
		})
		time.Sleep(40 * time.Second)
		if d := look(); d.Serving != deploy.ServingYes || !d.Probe.OK {
			t.Errorf("when it serves: %+v", d)
		}
	})
}

// TestALookFromTheFuture: a clock of ours that was set back keeps no old look alive.
func TestALookFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		res := must(t, s, worker("200 one"))
		w.set(func() { w.localOffset, w.fetches = -3*time.Hour, 0 })
		if _, err := s.Status(t.Context(), me, deploy.StatusRequest{SessionID: res.SessionID}); err != nil {
			t.Fatal(err)
		}
		if w.fetches != 1 {
			t.Errorf("%d probes", w.fetches)
		}
	})
}

// TestAStatusSeesWhatAnotherDid: between two polls another process asks a human, begins a
// newer session, hands the account over; no poll tells of what was.
func TestAStatusSeesWhatAnotherDid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s, other := w.service(), w.service()
		res := must(t, s, worker("200 one"))
		look := func() deploy.SessionStatus {
			st, err := s.Status(t.Context(), me, deploy.StatusRequest{SessionID: res.SessionID})
			if err != nil {
				t.Fatal(err)
			}
			return st.Sessions[0]
		}
		look()
		if st := look(); st.Phase != deploy.PhaseLive || st.Claim != "" || !st.Current || len(st.Deployments) != 1 {
			t.Fatalf("%+v", st)
		}
		claim, err := other.RequestClaim(t.Context(), me, deploy.ClaimRequest{SessionID: res.SessionID})
		if err != nil {
			t.Fatal(err)
		}
		if st := look(); st.Claim != string(deploy.ClaimAwaiting) || claim.Claim != deploy.ClaimAwaiting {
			t.Errorf("after a claim: %+v", st)
		}
		must(t, other, deploy.DeployRequest{RunID: "another", Source: source("200 two")})
		if st := look(); st.Current {
			t.Errorf("after a newer session: %+v", st)
		}
		acct := w.store.allAccounts()[0]
		acct.State, acct.Token, acct.ClaimURL = deploy.AccountClaimed, "", ""
		if err := w.store.SaveAccount(t.Context(), acct); err != nil {
			t.Fatal(err)
		}
		if st := look(); st.Phase != deploy.PhaseClosed {
			t.Errorf("after it was handed over: %+v", st)
		}
	})
}
