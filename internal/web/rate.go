package web

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// rates bound the requests a second of each principal and of all. What is bounded by
// what is held open (load) is not bounded here: this is for many short requests.
type rates struct {
	each, all float64
	now       func() time.Time

	mu    sync.Mutex
	by    map[string]*rate.Limiter
	whole *rate.Limiter
}

// manyRates is how many principals are known before those that are at rest are forgotten.
const manyRates = 1024

func newRates(each, all float64, now func() time.Time) *rates {
	r := &rates{each: each, all: all, now: now, by: map[string]*rate.Limiter{}}
	if all > 0 {
		r.whole = limiter(all)
	}
	return r
}

// limiter takes a burst of two seconds' requests: clients begin with several at once.
func limiter(perSecond float64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(2*perSecond)))
}

// admit counts a request; wait is how long to wait where it is one too many, share
// whether it is the caller's own share that is used up.
func (r *rates) admit(principal string) (wait time.Duration, share bool) {
	if r.each <= 0 && r.whole == nil {
		return 0, false
	}
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var own *rate.Reservation
	if r.each > 0 {
		own = r.of(principal, now).ReserveN(now, 1)
		if d := own.DelayFrom(now); d > 0 {
			own.CancelAt(now)
			return d, true
		}
	}
	if r.whole == nil {
		return 0, false
	}
	all := r.whole.ReserveN(now, 1)
	d := all.DelayFrom(now)
	if d > 0 {
		all.CancelAt(now)
		if own != nil {
			own.CancelAt(now)
		}
	}
	return d, false
}

func (r *rates) of(principal string, now time.Time) *rate.Limiter {
	l := r.by[principal]
	if l != nil {
		return l
	}
	if len(r.by) >= manyRates {
		for who, other := range r.by {
			if other.TokensAt(now) >= float64(other.Burst()) {
				delete(r.by, who)
			}
		}
	}
	l = limiter(r.each)
	r.by[principal] = l
	return l
}
