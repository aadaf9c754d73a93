package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// lives has protocol sessions come and never be ended, as clients do, and waits until
// our server has dropped them. Nothing but POSTs is sent.
func lives(ctx context.Context, dir, program string) (err error) {
	ours, err := startOurs(ctx, dir, program, idleTTL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.end()) }()
	one := func(c *conn, _ int) error {
		session, err := c.initialize()
		if err == nil {
			_, _, err = c.post(session, listCall)
		}
		return err
	}
	p, err := dial(ours.addr, pollers)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.times(polled, one); err != nil { // what is made once is made now
		return err
	}
	if err := sleep(ctx, 3*idleTTL); err != nil {
		return err
	}
	before, err := ours.liveHeap(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := p.times(lifecycles, one); err != nil {
		return err
	}
	took := time.Since(began)
	peak, err := ours.liveHeap(ctx)
	if err != nil {
		return err
	}
	left := peak
	for deadline := time.Now().Add(6 * idleTTL); mib(left-before) > mostLeftMiB && time.Now().Before(deadline); {
		if err := sleep(ctx, idleTTL); err != nil {
			return err
		}
		if left, err = ours.liveHeap(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("%d protocol session lifecycles (POST only) in %.1f s: live heap %.1f MiB before, %.1f after, %.1f when idle ones were dropped: %+.1f (wanted: within %.0f)\n",
		lifecycles, took.Seconds(), mib(before), mib(peak), mib(left), mib(left-before), mostLeftMiB)
	if mib(left-before) > mostLeftMiB {
		return fmt.Errorf("%w: %.1f MiB of heap are left behind", errAnswer, mib(left-before))
	}
	return nil
}

func mib(bytes float64) float64 { return bytes / (1 << 20) }

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
