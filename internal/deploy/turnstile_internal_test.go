package deploy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// TestTurnstileTakesTurns: a principal with a hundred in front waits behind itself; the
// other's one call goes in at the next turn.
func TestTurnstileTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTurnstile(1, 0)
		first, err := ts.enter(t.Context(), "greedy")
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		var mu sync.Mutex
		var wg sync.WaitGroup
		work := func(who string) {
			wg.Go(func() {
				leave, err := ts.enter(t.Context(), who)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, who)
				mu.Unlock()
				leave()
			})
			synctest.Wait()
		}
		for range 100 {
			work("greedy")
		}
		work("modest")
		if in, waiting := ts.queue(); in != 1 || waiting != 101 {
			t.Errorf("%d in, %d waiting", in, waiting)
		}
		first()
		wg.Wait()
		if len(order) != 101 || order[0] != "greedy" || order[1] != "modest" {
			t.Errorf("order %v", order[:3])
		}
		if len(ts.by) != 0 || ts.order.Len() != 0 || ts.inside != 0 || ts.waiting != 0 {
			t.Errorf("left behind: %+v", ts)
		}
	})
}

// TestTurnstileGivesUp: who gives up leaves nothing behind, also at the moment of the turn.
func TestTurnstileGivesUp(t *testing.T) {
	ts := newTurnstile(1, 1)
	leave, _ := ts.enter(t.Context(), "a")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := ts.enter(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	leave()
	if again, err := ts.enter(t.Context(), "b"); err != nil {
		t.Error(err)
	} else {
		again()
	}
	if len(ts.by) != 0 || ts.order.Len() != 0 {
		t.Errorf("left behind: %+v", ts)
	}
}

// TestTurnstileProperty: whatever comes and goes, never more are inside than may be, in
// all and of one principal, nobody is forgotten, and nothing is left behind.
func TestTurnstileProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		most, each := rapid.IntRange(0, 3).Draw(rt, "most"), rapid.IntRange(0, 2).Draw(rt, "each")
		n := rapid.IntRange(1, 40).Draw(rt, "calls")
		ts := newTurnstile(most, each)
		var inside atomic.Int64
		var by [3]atomic.Int64
		var wg sync.WaitGroup
		for i := range n {
			who, gone := rapid.IntRange(0, 2).Draw(rt, "who"), rapid.Bool().Draw(rt, "gone")
			wg.Go(func() {
				ctx, stop := context.WithCancel(context.Background())
				defer stop()
				if gone && i%2 == 0 {
					go stop()
				}
				leave, err := ts.enter(ctx, fmt.Sprint(who))
				if err != nil {
					return
				}
				if in := inside.Add(1); most > 0 && in > int64(most) {
					rt.Errorf("%d inside", in)
				}
				if in := by[who].Add(1); each > 0 && in > int64(each) {
					rt.Errorf("%d of one inside", in)
				}
				by[who].Add(-1)
				inside.Add(-1)
				leave()
			})
		}
		wg.Wait()
		if in, waiting := ts.queue(); in != 0 || waiting != 0 || len(ts.by) != 0 || ts.order.Len() != 0 {
			rt.Errorf("left behind: %d %d %+v", in, waiting, ts)
		}
	})
}
