package workerd

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"
)

// A process is looked at closely while requests are in flight and for watchAfter beyond
// (Cloudflare lets waitUntil work go on for 30 s), and now and then when it is idle: a
// timer could have begun to spin. An idle process costs a ping in 20 looks.
const (
	watchAfter = 30 * time.Second
	idleLooks  = 20
)

// watchdog asks a trivial socket of the process: a loop in one Worker blocks all of it,
// and SIGTERM too (workerd fact sheet, section 4).
type watchdog struct {
	p       *Process
	client  *http.Client
	asked   atomic.Int64 // since when a ping is unanswered: nanoseconds after p.began, 0 for none
	unheard int          // looks since then
	answer  chan struct{}
}

func newWatchdog(p *Process) *watchdog {
	return &watchdog{p: p, client: &http.Client{Transport: unixTransport(filepath.Join(p.dir, pingSocket))}}
}

// run looks until the process is over or Stop ends it. Unanswered looks are counted, and
// not time: after a suspend the clock has moved and the process has not.
func (w *watchdog) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer func() {
		cancel()
		if w.answer != nil {
			<-w.answer
		}
		w.client.CloseIdleConnections()
	}()
	tick := time.NewTicker(w.p.cfg.PingEvery)
	defer tick.Stop()
	for look := 0; ; look++ {
		select {
		case <-w.p.stop:
			return
		case <-w.p.done:
			return
		case <-w.answer:
			w.answer = nil
			w.asked.Store(0)
		case <-tick.C:
			if w.answer == nil {
				if w.close() || look%idleLooks == 0 {
					w.ask(ctx)
				}
				continue
			}
			w.unheard++
			if time.Duration(w.unheard)*w.p.cfg.PingEvery >= w.p.cfg.SpinLimit {
				w.p.kill(fmt.Errorf("%w (it did not answer for %s)", ErrSpun, w.p.cfg.SpinLimit))
				return
			}
		}
	}
}

// close tells whether the process is to be looked at closely.
func (w *watchdog) close() bool {
	n, last, _ := w.p.flight.state()
	return n > 0 || time.Since(last) < watchAfter
}

func (w *watchdog) ask(ctx context.Context) {
	answer := make(chan struct{})
	w.answer, w.unheard = answer, 0
	w.asked.Store(int64(time.Since(w.p.began)))
	w.p.watch.Go(func() {
		defer close(answer)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://ping/", nil)
		if err != nil {
			return
		}
		resp, err := w.client.Do(req)
		if err != nil {
			return // gone, not spinning: reap knows why
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	})
}

// stalled tells since when the process does not answer.
func (w *watchdog) stalled() time.Duration {
	asked := w.asked.Load()
	if asked == 0 {
		return 0
	}
	return time.Since(w.p.began) - time.Duration(asked)
}
