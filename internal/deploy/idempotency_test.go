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
