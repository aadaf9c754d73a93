package deploy_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// A clock here that is wrong by hours neither shortens nor lengthens the hour.
func TestOurClockIsWrong(t *testing.T) {
	for _, off := range []time.Duration{-26 * time.Hour, -3 * time.Hour, -59 * time.Minute, 0, 59 * time.Minute, 3 * time.Hour, 26 * time.Hour} {
		t.Run(off.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.localOffset = off
				s := w.service()
				first := must(t, s, worker("200 one"))
				if first.MinutesLeft < 59 || first.MinutesLeft > 60 || first.Phase != deploy.PhaseLive {
					t.Errorf("%d minutes left of a new account, phase %s", first.MinutesLeft, first.Phase)
				}
				time.Sleep(50 * time.Minute)
				if res := must(t, s, worker("200 two")); res.SessionID != first.SessionID || res.MinutesLeft < 9 || res.MinutesLeft > 10 {
					t.Errorf("after 50 minutes: %+v", res)
				}
				time.Sleep(10 * time.Minute)
				if res := must(t, s, worker("200 three")); res.SessionID == first.SessionID || w.provisions != 2 {
					t.Errorf("after 60 minutes: %+v", res)
				}
			})
		})
	}
}

// A process that starts with the account on record, and has heard nothing of the API.
func TestOurClockIsWrongAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.localOffset = 5 * time.Hour
		first := must(t, w.service(), worker("200 one"))
		w.set(func() { w.heard = false })
		time.Sleep(10 * time.Minute)
		if res := must(t, w.service(), worker("200 two")); res.Account != deploy.AccountReused || res.SessionID != first.SessionID {
			t.Errorf("restarted: %+v", res)
		}
	})
}

// Either clock that jumps ahead ends the use; one that jumps back does not lengthen it.
func TestAClockJumps(t *testing.T) {
	for name, c := range map[string]struct {
		api, ours time.Duration
		over      bool
	}{
		"the API's ahead":            {api: 2 * time.Hour, over: true},
		"ours ahead":                 {ours: 2 * time.Hour, over: true},
		"the API's back":             {api: -2 * time.Hour},
		"ours back":                  {ours: -2 * time.Hour},
		"ours back, the API's ahead": {ours: -2 * time.Hour, api: time.Hour, over: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				s := w.service()
				first := must(t, s, worker("200 one"))
				w.set(func() { w.apiOffset, w.localOffset = c.api, c.ours })
				st, err := s.Status(t.Context(), me, deploy.StatusRequest{SessionID: first.SessionID})
				if err != nil {
					t.Fatal(err)
				}
				if over := st.Sessions[0].Phase == deploy.PhaseExpired; over != c.over {
					t.Errorf("phase %s", st.Sessions[0].Phase)
				}
				if st.Sessions[0].MinutesLeft > 60 {
					t.Errorf("%d minutes left", st.Sessions[0].MinutesLeft)
				}
				w.set(func() { w.apiOffset, w.localOffset = min(c.api, 0), min(c.ours, 0) })
				time.Sleep(61 * time.Minute)
				st, err = s.Status(t.Context(), me, deploy.StatusRequest{SessionID: first.SessionID})
				if err != nil || st.Sessions[0].Phase != deploy.PhaseExpired {
					t.Errorf("after an hour: %s, %v", st.Sessions[0].Phase, err)
				}
			})
		})
	}
}

// Both clocks that jump back never give more than the account had at first.
func TestBothClocksJumpBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, worker("200 one"))
		w.set(func() { w.apiOffset, w.localOffset = -2*time.Hour, -3*time.Hour })
		if res := must(t, s, worker("200 two")); res.MinutesLeft > 60 || res.Account != deploy.AccountReused {
			t.Errorf("%d minutes left", res.MinutesLeft)
		}
	})
}

// The clock of another API says nothing of an account that does not live there.
func TestTheClockOfAnotherAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first := must(t, w.service(), worker("200 one"))
		w.set(func() {
			w.target = "a sandbox whose clock was put forward"
			w.apiOffset = 5 * time.Hour
			w.heard = true
		})
		st, err := w.service().Status(t.Context(), me, deploy.StatusRequest{SessionID: first.SessionID})
		if err != nil || st.Sessions[0].Phase != deploy.PhaseLive || st.Sessions[0].MinutesLeft < 59 {
			t.Errorf("%+v, %v", st, err)
		}
		if w.store.allAccounts()[0].Token.Empty() {
			t.Error("its token was wiped")
		}
	})
}

// An API that does not answer holds a crowd of status calls up once, not in turn.
func TestAClockThatIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, worker("200 one"))
		time.Sleep(time.Second)
		w.set(func() {
			w.onAsk = func(int) error { return deploy.Errorf(deploy.CodeAPIUnreachable, "Repeat.", "no answer") }
			w.asks, w.askTakes = 0, time.Hour
		})
		began := time.Now()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := s.Status(t.Context(), me, deploy.StatusRequest{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); w.asks > 2 || took > 5*time.Second {
			t.Errorf("%d questions in %v", w.asks, took)
		}
	})
}
