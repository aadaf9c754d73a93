package deploy_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func keyed(code, key string) deploy.DeployRequest {
	req := worker(code)
	req.IdempotencyKey = key
	return req
}

func TestARepeatedCallGivesTheFirstResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		first := must(t, s, keyed("200 one", "k"))
		time.Sleep(20 * time.Minute)
		again := must(t, s, keyed("200 one", "k"))
		if w.provisions != 1 || w.uploads != 1 {
			t.Errorf("%d accounts, %d uploads", w.provisions, w.uploads)
		}
		if again.MinutesLeft != first.MinutesLeft-20 {
			t.Errorf("%d minutes left, were %d twenty minutes ago", again.MinutesLeft, first.MinutesLeft)
		}
		same := *again
		same.MinutesLeft = first.MinutesLeft
		a, _ := json.Marshal(first)
		b, _ := json.Marshal(same)
		if diff := cmp.Diff(string(a), string(b)); diff != "" {
			t.Errorf("another result (-first +again):\n%s", diff)
		}
		time.Sleep(time.Hour)
		over := must(t, s, keyed("200 one", "k"))
		if over.Phase != deploy.PhaseExpired || over.MinutesLeft != 0 || over.Next.Tool != "deploy_temporary" || w.provisions != 1 {
			t.Errorf("after the hour: %+v", over)
		}
	})
}

// The store may keep times coarser than we have them.
func TestTheCountdownDoesNotHangOnATimesLastDigits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		first := must(t, s, keyed("200 one", "k"))
		for i := range w.store.accounts {
			w.store.accounts[i].ExpiresAt = w.store.accounts[i].ExpiresAt.Add(-time.Millisecond)
		}
		time.Sleep(20 * time.Minute)
		if again := must(t, s, keyed("200 one", "k")); again.MinutesLeft > first.MinutesLeft-20 {
			t.Errorf("%d minutes left, were %d twenty minutes ago", again.MinutesLeft, first.MinutesLeft)
		}
	})
}

func TestARepeatedCallAfterFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, keyed("200 one", "k"))
		fresh := worker("200 two")
		fresh.Fresh = true
		must(t, s, fresh)
		if again := must(t, s, keyed("200 one", "k")); again.Phase != deploy.PhaseClosed || again.MinutesLeft != 0 {
			t.Errorf("its account was retired: %+v", again)
		}
	})
}

func TestAKeyWithOtherArguments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, keyed("200 one", "k"))
		for name, change := range map[string]func(*deploy.DeployRequest){
			"code":    func(r *deploy.DeployRequest) { r.Source = source("200 two") },
			"name":    func(r *deploy.DeployRequest) { r.Source.Name = "other" },
			"fresh":   func(r *deploy.DeployRequest) { r.Fresh = true },
			"run":     func(r *deploy.DeployRequest) { r.RunID = "r" },
			"session": func(r *deploy.DeployRequest) { r.SessionID = "s" },
			"expect":  func(r *deploy.DeployRequest) { r.Expect = &deploy.Expect{Status: 201} },
		} {
			req := keyed("200 one", "k")
			change(&req)
			_, err := s.Deploy(t.Context(), me, req)
			if !deploy.IsCode(err, deploy.CodeIdempotency) {
				t.Errorf("another %s under the same key: %v", name, err)
			}
		}
		// Who reads the progress is no argument, and another principal's key is another key.
		req := keyed("200 one", "k")
		req.Progress = func(deploy.Stage) {}
		must(t, s, req)
		if _, err := s.Deploy(t.Context(), deploy.Caller{Principal: "other"}, keyed("200 two", "k")); err != nil {
			t.Errorf("another principal: %v", err)
		}
		if w.provisions != 2 || w.uploads != 2 {
			t.Errorf("%d accounts, %d uploads", w.provisions, w.uploads)
		}
	})
}

func TestSixteenAtOnceWithOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.uploadTakes = 300 * time.Millisecond
		s := w.service()
		var wg sync.WaitGroup
		var mu sync.Mutex
		ids := map[string]int{}
		for range 16 {
			wg.Go(func() {
				res, err := s.Deploy(t.Context(), me, keyed("200 one", "k"))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				ids[res.DeploymentID]++
			})
		}
		wg.Wait()
		if w.provisions != 1 || w.uploads != 1 || len(ids) != 1 || w.store.kept != 1 {
			t.Errorf("%d accounts, %d uploads, %d different results, %d kept", w.provisions, w.uploads, len(ids), w.store.kept)
		}
	})
}

func TestAFailureGivesTheKeyFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		w.uploadTakes = time.Second
		w.onUpload = func(n int) error { // asked under the world's lock: it must not sleep
			if n == 1 {
				return deploy.Errorf(deploy.CodeAPIUnreachable, "Repeat the call.", "no answer")
			}
			return nil
		}
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			wg.Go(func() { _, errs[i] = s.Deploy(t.Context(), me, keyed("200 one", "k")) })
		}
		wg.Wait()
		failed := 0
		for _, err := range errs {
			if err != nil {
				failed++
				refused(t, err, deploy.CodeAPIUnreachable)
			}
		}
		if failed != 1 || w.uploads != 2 || w.provisions != 1 {
			t.Errorf("%d failed, %d uploads, %d accounts; want 1, 2, 1", failed, w.uploads, w.provisions)
		}
	})
}

func TestACancelledCallGivesTheKeyFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.uploadTakes = time.Second
		s := w.service()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, cancel)
		_, err := s.Deploy(ctx, me, keyed("200 one", "k"))
		refused(t, err, deploy.CodeCancelled)
		if w.store.freed != 1 {
			t.Error("the key is still held")
		}
		if res := must(t, s, keyed("200 one", "k")); res.Account != deploy.AccountReused {
			t.Errorf("again: %+v", res)
		}
	})
}

// The door recovers from panics; the key must not stay reserved by one.
func TestAPanicGivesTheKeyFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		req := keyed("200 one", "k")
		req.Progress = func(st deploy.Stage) {
			if st == deploy.StagePreflight {
				panic("played")
			}
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			_, _ = s.Deploy(t.Context(), me, req)
		}()
		must(t, s, keyed("200 one", "k"))
	})
}

func TestWaitingForAnothersCallEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.uploadTakes = time.Minute
		s := w.service()
		done := make(chan struct{})
		go func() { must(t, s, keyed("200 one", "k")); close(done) }()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Deploy(ctx, me, keyed("200 one", "k"))
		refused(t, err, deploy.CodeTimeout)
		<-done
	})
}

// A call under a key is repeated after its process was killed, by a client that knows
// no session and a server with another scope. It never makes a second account.
func TestARepeatedCallAfterACrash(t *testing.T) {
	elsewhere := me
	elsewhere.Scope = "server-2"
	for name, c := range map[string]struct {
		op      string
		nth     int
		fresh   bool
		account deploy.Code // "": it ends live
	}{
		"before anything":                        {"SaveSession", 1, false, ""},
		"before the account's step":              {"BeginStep", 1, false, ""},
		"before the account is on record":        {"Settle", 1, false, deploy.CodeAccountLost},
		"before the upload":                      {"BeginStep", 2, false, ""},
		"after the upload":                       {"Settle", 2, false, ""},
		"before its result is kept":              {"FinishCall", 1, false, ""},
		"fresh, before the account's step":       {"BeginStep", 1, true, ""},
		"fresh, before the account is on record": {"Settle", 1, true, deploy.CodeAccountLost},
		"fresh, before the upload":               {"BeginStep", 2, true, ""},
		"fresh, before its result is kept":       {"FinishCall", 1, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				before := 0
				req := keyed("200 one", "k")
				if req.Fresh = c.fresh; c.fresh {
					must(t, w.service(), worker("200 zero"))
					before = 1
				}
				w.dies(c.op, c.nth)
				if res, err := w.service().Deploy(t.Context(), me, req); err == nil {
					t.Fatalf("it lived: %+v", res)
				}
				s := w.restarted()
				for range 2 {
					res, err := s.Deploy(t.Context(), elsewhere, req)
					if c.account != "" {
						refused(t, err, c.account)
					} else if err != nil || res.Check.BodyExcerpt != "one" {
						t.Fatalf("again: %+v, %v", res, err)
					}
				}
				if len(w.accounts) != before+1 {
					t.Errorf("%d accounts were made, %d before", len(w.accounts)-before, before)
				}
			})
		})
	}
}

// A call that runs for long holds its key all the while.
func TestALongCallHoldsItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.uploadTakes = 3 * time.Minute
		s := w.service()
		done := make(chan *deploy.DeployResult)
		go func() { done <- must(t, s, keyed("200 one", "k")) }()
		time.Sleep(2 * time.Minute)
		again, err := w.service().Deploy(t.Context(), me, keyed("200 one", "k"))
		if first := <-done; err != nil || first.DeploymentID != again.DeploymentID || w.uploads != 1 {
			t.Errorf("%+v, %v after %d uploads", again, err, w.uploads)
		}
	})
}
