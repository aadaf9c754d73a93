package web

import (
	"net/http"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// What tries in vain at the console may leave on record in a minute, and from how many on
// they are told to wait. Who has a good link or passkey is never kept waiting.
const (
	vainRecorded = 10
	vainPatience = 60
	vainWindow   = time.Minute
)

// vain counts tries that did not count.
type vain struct {
	mu     sync.Mutex
	since  time.Time
	tries  int
	missed int // not recorded since the last that was
}

// again counts one. record tells whether it is recorded, with how many that were not.
func (v *vain) again(now time.Time) (record bool, missed int, wait bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if age := now.Sub(v.since); age < 0 || age >= vainWindow {
		v.since, v.tries = now, 0
	}
	v.tries++
	if v.tries > vainRecorded {
		v.missed++
		return false, 0, v.tries > vainPatience
	}
	missed, v.missed = v.missed, 0
	return true, missed, false
}

// inVain puts a try that did not count on record, without what was tried, and gives the
// status of its answer. user is the login's, where there is one.
func (c *Console) inVain(r *http.Request, how, why string) int {
	record, missed, wait := c.vain.again(c.cfg.Now())
	if record {
		a := deploy.Access{Kind: deploy.NoticeAccessRefused, How: how, Why: why, Missed: missed}
		if in := loginOf(r); in != nil {
			a.User = in.session.User
		}
		if err := c.service.NoteAccess(r.Context(), a); err != nil { // it is refused all the same
			c.cfg.Logger.Error().Str("error", c.cfg.Redactor.Redact(err.Error())).Msg("a try in vain could not be put on record")
		}
	}
	c.cfg.Logger.Warn().Str("how", how).Str("why", why).Bool("recorded", record).Msg("a try at the console did not count")
	if wait {
		return http.StatusTooManyRequests
	}
	return http.StatusForbidden
}
