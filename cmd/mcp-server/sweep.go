package main

import (
	"context"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// pruneEvery is how often it drops the content of records that were kept long enough.
const pruneEvery = time.Hour

// sweeps does so until the house is closed.
func (h *house) sweeps(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	var sweeper sync.WaitGroup
	sweeper.Go(func() { h.service.RunSweeper(ctx, sweepEvery, h.sweepFailed) })
	sweeper.Go(func() {
		tick := time.NewTicker(pruneEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, err := h.record.Prune(ctx); err != nil && ctx.Err() == nil {
				h.sweepFailed(err)
			}
		}
	})
	h.onClose(func() error {
		stop()
		sweeper.Wait()
		return nil
	})
}

func (h *house) sweepFailed(err error) {
	e := deploy.AsError(err)
	ev := h.log.Warn().Str("code", string(e.Code)).Str("error", e.Message)
	if e.Cause != nil {
		ev = ev.Str("cause", e.Cause.Error())
	}
	ev.Msg("looking after sessions failed; it is tried again")
}
