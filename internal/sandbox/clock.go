package sandbox

import (
	"sync/atomic"
	"time"
)

// clock is the sandbox's own time: ours, and what was advanced.
type clock struct {
	now    func() time.Time
	offset atomic.Int64
}

// Now is the sandbox's time.
func (c *clock) Now() time.Time { return c.now().Add(time.Duration(c.offset.Load())) }

// Advance moves it.
func (c *clock) Advance(d time.Duration) { c.offset.Add(int64(d)) }
