package cloudflare

import (
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// CircuitState says whether calls go out.
type CircuitState string

// The states of a circuit.
const (
	CircuitClosed   CircuitState = "closed"    // calls go out
	CircuitOpen     CircuitState = "open"      // the API is down: nothing goes out until a time
	CircuitHalfOpen CircuitState = "half_open" // one call goes out to see whether it is back
)

// Circuit is what a client knows of the API's health.
type Circuit struct {
	State CircuitState
	// Failures is how many tries in a row, over all calls, found the API down.
	Failures int
	// Until is when the next call may go out, by Config.Now; zero unless open.
	Until time.Time
}

// maxOpen bounds how long a circuit stays open after one failed look.
const maxOpen = 2 * time.Minute

// circuit keeps calls from an API that is down: they would cost their callers the whole
// of their patience, and the API the recovery. It opens after so many failures in a
// row; then one call at a time goes out to see, each failed look doubling the pause.
type circuit struct {
	now   func() time.Time
	after int           // failures in a row; negative: never opens
	pause time.Duration // the first

	mu       sync.Mutex
	failures int
	span     time.Duration // the pause that runs, or ran last
	until    time.Time
	looking  bool // the call of a half-open circuit is under way
}

// verdict is what a try tells of the API.
type verdict int

const (
	saysNothing verdict = iota // the caller gave up
	isUp
	isDown
)

// admit lets a call out, or tells how long nothing goes out. look: it is the one call
// of a half-open circuit. Every admitted call is followed by heard.
func (k *circuit) admit() (look bool, wait time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if wait := k.waiting(); wait > 0 {
		return false, wait
	}
	look = k.isOpen()
	k.looking = k.looking || look
	return look, 0
}

// ready is admit for who only asks.
func (k *circuit) ready() (wait time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.waiting()
}

func (k *circuit) isOpen() bool { return k.after > 0 && k.failures >= k.after }

// waiting is how long nothing may go out. A clock that was set back does not lengthen it.
func (k *circuit) waiting() time.Duration {
	if !k.isOpen() {
		return 0
	}
	left := k.until.Sub(k.now())
	switch {
	case left > 0 && left <= k.span:
		return left
	case k.looking:
		return time.Second
	}
	return 0
}

// heard takes what a call found out.
func (k *circuit) heard(look bool, v verdict) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if look {
		k.looking = false
	}
	switch v {
	case isUp:
		k.failures, k.span, k.until = 0, 0, time.Time{}
	case isDown:
		was := k.isOpen()
		k.failures++
		// What was under way when it opened does not lengthen the pause.
		if k.isOpen() && (look || !was) {
			k.span = min(max(2*k.span, k.pause), maxOpen)
			k.until = k.now().Add(k.span)
		}
	}
}

// Circuit tells whether calls go out, for metrics.
func (c *Client) Circuit() Circuit {
	k := &c.circuit
	k.mu.Lock()
	defer k.mu.Unlock()
	out := Circuit{State: CircuitClosed, Failures: k.failures}
	if k.isOpen() {
		out.State = CircuitHalfOpen
		if k.waiting() > 0 && !k.looking {
			out.State, out.Until = CircuitOpen, k.until
		}
	}
	return out
}

// circuitOpen is what a call becomes that does not go out. It had no effect.
func (c *Client) circuitOpen(doing string, wait time.Duration) *deploy.Error {
	seconds := int((wait + time.Second - 1) / time.Second)
	e := deploy.Errorf(deploy.CodeAPIUnreachable,
		"Wait "+itoa(seconds)+" seconds, then make the same call again: one call is let through then to see whether the API is back. What was live before is still live.",
		"%s was not tried: the API at %s failed many times in a row, and is left alone for %d seconds", doing, c.base.Host, seconds)
	e.RetryAfter = wait
	return e.Caused(errUnsent)
}
