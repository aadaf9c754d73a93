package cloudflare

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

const (
	// maxTries bounds how often one call is made. With an API that fails in one of ten
	// tries, one call in a hundred thousand fails for good.
	maxTries = 5
	// maxPause is the longest Retry-After that is waited for here. A longer one is the
	// caller's business.
	maxPause = 10 * time.Second
)

// Reason names why a call is repeated.
type Reason string

// The reasons.
const (
	ReasonNoConnection Reason = "no_connection" // nothing was sent
	ReasonCutOff       Reason = "cut_off"       // the connection ended without an answer
	ReasonTruncated    Reason = "truncated"     // the answer ends in its middle
	ReasonNotJSON      Reason = "not_json"      // the answer is not the API's
	ReasonServerError  Reason = "server_error"  // HTTP 5xx
	ReasonRateLimited  Reason = "rate_limited"  // HTTP 429
	ReasonNotNow       Reason = "not_now"       // a refusal that may be over in a moment
)

// failure is what went wrong with one try of a call.
type failure struct {
	err    *deploy.Error
	again  bool   // a repeatable call may be tried again
	reason Reason // where again is set
	code   int    // the API's own, 0 if none
	// lost: the request may have had its effect. down: it speaks against the API's health.
	lost, down bool
}

// unsent is the cause of a failure that surely had no effect, as nothing left this
// machine. Whoever keeps the ledger may ask for it by its method.
type unsent string

const errUnsent = unsent("nothing was sent")

// Error implements error.
func (u unsent) Error() string { return string(u) }

// NoEffect tells that the step was not taken.
func (unsent) NoEffect() bool { return true }

// moment is a failure of the moment that may have had its effect.
func moment(why Reason, err *deploy.Error) *failure {
	return &failure{err: err, again: true, reason: why, lost: true, down: true}
}

// repeating makes a call until it succeeds, is refused, or there is no time left.
func (c *Client) repeating(ctx context.Context, t try, once func() (json.RawMessage, *failure)) (json.RawMessage, error) {
	var lost *failure // the first that may have had its effect
	pause := c.pauses()
	for tries := 1; ; tries++ {
		result, f := once()
		if f == nil {
			return result, nil
		}
		if lost == nil && f.lost {
			lost = f
		}
		d := max(pause(), f.err.RetryAfter)
		if !f.again || !t.repeat || tries == maxTries || f.code != 0 && f.code == t.final || !fits(ctx, d) {
			return nil, f.after(lost)
		}
		c.stats.repeat(f.reason)
		if err := wait(ctx, d); err != nil {
			return nil, deploy.AsError(err)
		}
		if lost != nil && t.look != nil {
			found, err := t.look(ctx)
			if err != nil {
				return nil, lost.err // whether it was made is still open
			}
			if found != nil {
				return found, nil
			}
		}
	}
}

// after is the error of a call's last try. That it surely had no effect says nothing
// of an earlier one that may have had: then that one counts.
func (f *failure) after(lost *failure) error {
	switch {
	case lost == nil:
	case f.reason == ReasonRateLimited:
		e := *lost.err
		e.RetryAfter = f.err.RetryAfter
		return &e
	case errors.Is(f.err, errUnsent): // its words say best what to do now
		e := *f.err
		return e.Caused(lost.err)
	}
	return f.err
}

// fits tells whether a pause is worth waiting for, and leaves time to do something.
func fits(ctx context.Context, d time.Duration) bool {
	if d > maxPause {
		return false
	}
	deadline, bounded := ctx.Deadline()
	return !bounded || time.Until(deadline) > d
}

// pauses gives the pauses between tries: growing, and each spread by half around its
// middle, so that many clients do not come back at once.
func (c *Client) pauses() func() time.Duration {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.RandomizationFactor, b.Multiplier, b.MaxInterval = c.cfg.RetryWait, 0, 2, maxPause
	return func() time.Duration {
		return time.Duration(float64(b.NextBackOff()) * (0.5 + c.cfg.Jitter()))
	}
}

// Stats counts what a client did, for metrics.
type Stats struct {
	Calls   int64 // requests to the API, repeats among them
	Retries map[Reason]int64
}

type stats struct {
	mu sync.Mutex
	s  Stats
}

func (s *stats) call() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Calls++
}

func (s *stats) repeat(why Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.s.Retries == nil {
		s.s.Retries = map[Reason]int64{}
	}
	s.s.Retries[why]++
}

// Stats tells what the client did so far.
func (c *Client) Stats() Stats {
	c.stats.mu.Lock()
	defer c.stats.mu.Unlock()
	out := c.stats.s
	out.Retries = maps.Clone(out.Retries)
	return out
}
