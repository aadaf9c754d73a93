package deploy_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func TestStatusFindsEverySession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		st, err := s.Status(t.Context(), me, deploy.StatusRequest{})
		if err != nil || len(st.Sessions) != 0 || st.Next.Tool != "deploy_temporary" {
			t.Errorf("of nothing: %+v, %v", st, err)
		}
		first := must(t, s, worker("200 one"))
		time.Sleep(61 * time.Minute)
		second := must(t, s, worker("200 two"))
		st, err = s.Status(t.Context(), me, deploy.StatusRequest{})
		if err != nil || len(st.Sessions) != 2 {
			t.Fatalf("%+v, %v", st, err)
		}
		now, old := st.Sessions[0], st.Sessions[1]
		if now.SessionID != second.SessionID || !now.Current || now.Phase != deploy.PhaseLive || old.Current {
			t.Errorf("newest: %+v", now)
		}
		if old.SessionID != first.SessionID || old.Phase != deploy.PhaseExpired || old.MinutesLeft != 0 || old.Next.Args["bundle_id"] != first.BundleID {
			t.Errorf("expired: %+v", old)
		}
		d := now.Deployments[0]
		if d.Probe == nil || d.Probe.BodyExcerpt != "two" || d.Serving != deploy.ServingYes || d.URL != second.URL || d.Digest == "" {
			t.Errorf("deployment: %+v", d)
		}
		for _, a := range w.store.allAccounts() {
			if a.SessionID == first.SessionID && (!a.Token.Empty() || !a.ClaimURL.Empty() || a.State != deploy.AccountExpired) {
				t.Errorf("not wiped: %+v", a)
			}
		}
		if next := st.Next; next.Do == "" {
			t.Error("no next step")
		}
	})
}

func TestProbesAreOneAtATimeAndAtMostTenSecondsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		res := must(t, s, worker("200 one"))
		time.Sleep(11 * time.Second)
		w.set(func() { w.fetches, w.maxFetching, w.fetchTakes = 0, 0, time.Second })
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				st, err := s.Status(t.Context(), me, deploy.StatusRequest{SessionID: res.SessionID})
				if err != nil {
					t.Error(err)
					return
				}
				if age := time.Since(st.Sessions[0].Deployments[0].Probe.ProbedAt); age > 10*time.Second {
					t.Errorf("a probe of %v ago", age)
				}
			})
		}
		wg.Wait()
		if w.fetches != 1 || w.maxFetching != 1 {
			t.Errorf("%d probes, %d at once", w.fetches, w.maxFetching)
		}
		time.Sleep(11 * time.Second)
		if _, err := s.Status(t.Context(), me, deploy.StatusRequest{}); err != nil || w.fetches != 2 {
			t.Errorf("%d probes after 11 s (%v)", w.fetches, err)
		}
	})
}

// A status that looks while a deployment waits for its version writes nothing over
// what the deployment then sees.
func TestAStatusDuringADeployment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.routeDelay = 5 * time.Second
		s := w.service()
		done := make(chan *deploy.DeployResult)
		go func() { done <- must(t, s, worker("200 one")) }()
		time.Sleep(4900 * time.Millisecond)
		w.set(func() { w.fetchTakes = 300 * time.Millisecond })
		synctest.Wait()
		go func() {
			if _, err := s.Status(t.Context(), me, deploy.StatusRequest{}); err != nil {
				t.Error(err)
			}
		}()
		res := <-done
		time.Sleep(5 * time.Second)
		st, err := s.Status(t.Context(), me, deploy.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		d := st.Sessions[0].Deployments[0]
		if res.Check.Version != deploy.VersionConfirmed || d.Probe.Version != deploy.VersionConfirmed || d.Serving != deploy.ServingYes {
			t.Errorf("the deployment saw %+v; the status %+v", res.Check, d.Probe)
		}
	})
}

func TestStatusPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		res := must(t, s, worker("200 one"))
		look := func() deploy.SessionStatus {
			st, err := s.Status(t.Context(), me, deploy.StatusRequest{SessionID: res.SessionID})
			if err != nil || len(st.Sessions) != 1 {
				t.Fatalf("%+v, %v", st, err)
			}
			return st.Sessions[0]
		}
		if st := look(); st.Phase != deploy.PhaseLive || st.Next.Do == "" {
			t.Errorf("%+v", st)
		}
		time.Sleep(51 * time.Minute)
		if st := look(); st.Phase != deploy.PhaseExpiring || st.Next.Tool != "request_claim" || st.MinutesLeft > 9 {
			t.Errorf("after 51 minutes: %+v", st)
		}
		time.Sleep(10 * time.Minute)
		st := look()
		if st.Phase != deploy.PhaseExpired || st.Deployments[0].Serving == deploy.ServingYes {
			t.Errorf("after 61 minutes: %+v", st)
		}
		_, err := s.Status(t.Context(), me, deploy.StatusRequest{SessionID: "s_nope"})
		refused(t, err, deploy.CodeSessionNotFound)
	})
}

func TestAProbeThatHangsOrIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, worker("200 one"))
		time.Sleep(11 * time.Second)
		w.set(func() { w.fetchTakes = time.Hour })
		began := time.Now()
		st, err := s.Status(t.Context(), me, deploy.StatusRequest{})
		if err != nil || time.Since(began) > 4*time.Second || st.Sessions[0].Deployments[0].Probe.Error == "" {
			t.Errorf("after %v: %+v, %v", time.Since(began), st, err)
		}
		time.Sleep(11 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = s.Status(ctx, me, deploy.StatusRequest{})
		refused(t, err, deploy.CodeTimeout)
	})
}
