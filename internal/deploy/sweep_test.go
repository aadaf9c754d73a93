package deploy_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func wiped(w *world) bool {
	a := w.store.allAccounts()[0]
	return a.Token.Empty() && a.ClaimURL.Empty() && a.State == deploy.AccountExpired
}

// On the real API secrets are wiped when both clocks agree, with a margin; the use ends
// with either. An account that one clock that jumped ended for a while is used again.
func TestSecretsAreWipedWhenBothClocksAgree(t *testing.T) {
	for name, c := range map[string]struct {
		loopback, deaf bool
		ours, api      time.Duration // how far they jump
		after          time.Duration
		over, wiped    bool
	}{
		"before the end":              {after: 59 * time.Minute},
		"at the end":                  {after: time.Hour, over: true},
		"after the margin":            {after: 66 * time.Minute, over: true, wiped: true},
		"the sandbox, at the end":     {loopback: true, after: time.Hour, over: true, wiped: true},
		"ours jumps":                  {ours: 30 * time.Hour, after: time.Minute, over: true},
		"the API's jumps":             {api: 30 * time.Hour, after: time.Minute, over: true},
		"both do":                     {ours: 2 * time.Hour, api: 2 * time.Hour, after: time.Minute, over: true, wiped: true},
		"the API is not heard":        {deaf: true, after: 2 * time.Hour, over: true},
		"nor is it for a day":         {deaf: true, after: 26 * time.Hour, over: true, wiped: true},
		"the sandbox, and ours jumps": {loopback: true, ours: 2 * time.Hour, after: time.Minute, over: true, wiped: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.loopback = c.loopback
				accept := func(cfg *deploy.Config) { cfg.TermsAccepted = true }
				first := must(t, w.service(accept), worker("200 one"))
				w.set(func() {
					w.localOffset, w.apiOffset, w.heard = c.ours, c.api, false
					if c.deaf {
						w.onAsk = func(int) error { return deploy.Errorf(deploy.CodeAPIUnreachable, "Later.", "no answer") }
					}
				})
				time.Sleep(c.after)
				s := w.service(accept)
				if err := s.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				st := look(t, s, first.SessionID)
				if over := st.Phase == deploy.PhaseExpired; over != c.over || wiped(w) != c.wiped {
					t.Errorf("over %v, wiped %v; want %v, %v", over, wiped(w), c.over, c.wiped)
				}
				if c.over && (st.Next.Args["bundle_id"] != first.BundleID || len(st.Deployments) != 1 || st.Deployments[0].Worker != "hello" || st.Deployments[0].Serving != deploy.ServingNotYet) {
					t.Errorf("what was there, and how it comes back: %+v", st)
				}
				if c.wiped {
					return
				}
				w.set(func() { w.localOffset, w.apiOffset, w.heard, w.onAsk = 0, 0, false, nil })
				if res, err := s.Deploy(t.Context(), me, worker("200 two")); c.after < 59*time.Minute && (err != nil || res.SessionID != first.SessionID) {
					t.Errorf("when the clocks were right again: %+v, %v", res, err)
				}
			})
		})
	}
}

// What is over comes back by the one call that status names.
func TestWhatIsOverComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, worker("200 one"))
		time.Sleep(2 * time.Hour)
		next := look(t, s, "").Next
		res := must(t, s, deploy.DeployRequest{BundleID: next.Args["bundle_id"].(string)})
		if res.Check.BodyExcerpt != "one" || res.Account != deploy.AccountNew {
			t.Errorf("%+v", res)
		}
	})
}

// One process at a time sweeps, and one with nothing to do asks nothing.
func TestTheSweeperIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.loopback = false
		s := w.service(func(cfg *deploy.Config) { cfg.TermsAccepted = true })
		must(t, s, worker("200 one"))
		w.set(func() { w.asks, w.looks, w.fetches = 0, 0, 0 })
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.RunSweeper(ctx, time.Minute, func(err error) { t.Error(err) })
		}()
		time.Sleep(50*time.Minute + time.Second)
		w.set(func() {
			if w.asks+w.looks+w.fetches != 0 {
				t.Errorf("idle: %d questions for the time, %d looks, %d probes", w.asks, w.looks, w.fetches)
			}
		})
		time.Sleep(20 * time.Minute)
		if !wiped(w) {
			t.Error("70 minutes after it was made, the account's secrets are there")
		}
		l, err := w.store.AcquireLease(t.Context(), "sweeper", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		w.store.set(func(op string) error {
			if op == "Abandoned" {
				t.Error("two swept at once")
			}
			return nil
		})
		time.Sleep(5 * time.Minute)
		w.store.set(nil)
		if err := w.store.ReleaseLease(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		stop()
		<-done
	})
}

// What goes wrong in a pass is told, and the next pass tries again.
func TestTheSweeperTellsWhatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		w.store.set(func(op string) error {
			if op == "Abandoned" {
				return deploy.Errorf(deploy.CodeStore, "Look at the disk.", "no disk")
			}
			return nil
		})
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute+time.Second)
		defer stop()
		failed := 0
		s.RunSweeper(ctx, time.Minute, func(err error) { refused(t, err, deploy.CodeStore); failed++ })
		if failed != 3 {
			t.Errorf("%d failures told of 3", failed)
		}
	})
}

// From ten minutes before the end on, every result says so.
func TestEveryResultWarns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		warns := func(list []string) bool { return strings.Contains(strings.Join(list, "\n"), "ends in") }
		all := func() (got [4]bool) {
			got[0] = warns(must(t, s, worker("200 one")).Warnings)
			got[1] = warns(must(t, s, keyed("200 one", "k")).Warnings)
			got[2] = warns(look(t, s, "").Warnings)
			return got
		}
		if got := all(); got != [4]bool{} {
			t.Errorf("an hour before the end: %v", got)
		}
		time.Sleep(51 * time.Minute)
		got := all()
		res, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{})
		if err != nil {
			t.Fatal(err)
		}
		got[3] = warns(res.Warnings)
		if got != [4]bool{true, true, true, true} {
			t.Errorf("nine minutes before the end: %v", got)
		}
	})
}

// A step for which the account has not enough life left is not begun. Who named no
// session gets a new account, who did is told.
func TestNotEnoughLifeForAStep(t *testing.T) {
	for _, named := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			s := w.service()
			first := must(t, s, worker("200 one"))
			time.Sleep(time.Until(first.ExpiresAt) - 65*time.Second)
			req := worker("200 two")
			slow := 50 * time.Second // once
			req.Progress = func(st deploy.Stage) {
				if st == deploy.StageUpload {
					time.Sleep(slow)
					slow = 0
				}
			}
			if named {
				req.SessionID = first.SessionID
			}
			res, err := s.Deploy(t.Context(), me, req)
			if named {
				refused(t, err, deploy.CodeSessionExpired)
			} else if err != nil || res.Account != deploy.AccountNew || res.SessionID == first.SessionID {
				t.Errorf("%+v, %v", res, err)
			}
			if w.uploads != map[bool]int{true: 1, false: 2}[named] || w.provisions != w.uploads {
				t.Errorf("%d uploads, %d accounts", w.uploads, w.provisions)
			}
		})
	}
}
