package deploy

import (
	"context"
	"sync"
	"time"
)

// clockFresh is how old the API's time may be where a status tells of what is live: its
// answers tell whole seconds, and our own clock carries them on.
const clockFresh = time.Second

// clockAsk keeps status calls that come at once from asking the API's time each.
type clockAsk struct {
	mu   sync.Mutex
	last time.Time // when the last question was put
}

// since tells whether the API was asked after t.
func (c *clockAsk) since(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last.After(t)
}

func (c *clockAsk) asked(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = t
}

// clockDue tells whether the API is to be asked for its time again. One on this machine is
// a sandbox, whose clock is put forward at will, and a question to it costs nothing.
func (s *Service) clockDue() bool {
	return s.cfg.Cloud.Loopback() || !s.clock.since(time.Now().Add(-clockFresh))
}

// askClock hears the API's time; who waited while another asked has heard it too. Not
// to be answered is no error: our own clock runs on.
func (s *Service) askClock(ctx context.Context) {
	came := time.Now()
	unlock, err := s.locks.lock(ctx, "clock")
	if err != nil {
		return
	}
	defer unlock()
	if s.clock.since(came) {
		return
	}
	ctx, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	at := time.Now()
	// Also when nobody answered: else all who came meanwhile would wait for that in turn.
	_, _ = s.cfg.Cloud.AskClock(ctx)
	s.clock.asked(at)
}
