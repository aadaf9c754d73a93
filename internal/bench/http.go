package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
)

// The load of a team: protocol sessions that come and are never ended, and agents that poll.
const (
	lifecycles  = 30_000
	polled      = 1_000  // stored sessions that are asked for
	remembered  = 10_000 // protocol sessions of which the heap is measured: so many that noise is small
	pollers     = 16     // connections of the client; two cores serve no more at once sooner
	pollFor     = 4 * time.Second
	idleTTL     = 5 * time.Second // of a protocol session, where its end is waited for
	longTTL     = time.Hour       // of one, where it must not end meanwhile
	mostLeftMiB = 10.0
)

// errAnswer is a measurement that measured something else.
var errAnswer = errors.New("an answer that is none")

// httpLoad measures `mcp-server http` beside a bare server of mcp-go's under the same
// load: two processes, both up all the time and asked in turn. Who makes the load is a
// third, on the same cores; it sends the same bytes to both and gets as many back.
func httpLoad(ctx context.Context, rounds int) error {
	dir, err := os.MkdirTemp("", "hourglass-bench-http-")
	if err != nil {
		return fmt.Errorf("a folder: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	program, err := buildServer(ctx, dir)
	if err != nil {
		return err
	}
	ids, err := storeSessions(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Printf("cores: %d, shared by the server and who makes the load; %d connections; medians of %d rounds of %s\n",
		runtime.NumCPU(), pollers, rounds, pollFor)
	if err := pollBoth(ctx, dir, program, ids, rounds); err != nil {
		return err
	}
	return lives(ctx, dir, program)
}

// pollBoth has a thousand agents ask for their sessions again and again, first of the one
// and then of the other server, in every round.
func pollBoth(ctx context.Context, dir, program string, ids []string, rounds int) (err error) {
	ours, err := startOurs(ctx, dir, program, longTTL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.end()) }()
	answer, err := oneAnswer(ours, ids[0])
	if err != nil {
		return err
	}
	theirs, err := startBare(ctx, answer, longTTL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, theirs.end()) }()
	sides := []*polledSide{{name: "bare mcp-go", server: theirs}, {name: "hourglass", server: ours}}
	for _, s := range sides {
		if err := s.remember(ctx, ids); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	var ratios, costs []float64
	for round := range rounds + 1 { // the first is a warm-up
		for _, s := range sides {
			if err := s.poll(ids, round > 0); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		if round > 0 {
			ratios = append(ratios, last(sides[0].rates)/last(sides[1].rates))
			costs = append(costs, last(sides[1].cpu)/last(sides[0].cpu))
		}
	}
	for _, s := range sides {
		s.print()
	}
	fmt.Printf("ratio: the bare server makes %.2f times as many calls (wanted: at most 2); ours takes %.2f times its processor time a call\n", median(ratios), median(costs))
	return nil
}

func last(v []float64) float64 { return v[len(v)-1] }

// polledSide is one of the servers and what was measured of it.
type polledSide struct {
	name     string
	server   *served
	sessions []string
	kib      float64 // heap a protocol session

	rates, p50s, p99s, cpu []float64 // calls a second; ms; ms; microseconds of its processor time a call
}

func (s *polledSide) print() {
	fmt.Printf("%-12s %d sessions polled with status: %.0f calls/s, p50 %.1f ms, p99 %.1f ms, %.0f µs of processor time a call, %.1f KiB of heap a session (of %d)\n",
		s.name, polled, median(s.rates), median(s.p50s), median(s.p99s), median(s.cpu), s.kib, remembered)
}

// remember makes the protocol sessions, each of which asks once. The heap is measured
// with the connections open before and after.
func (s *polledSide) remember(ctx context.Context, ids []string) error {
	s.sessions = make([]string, remembered)
	pool, err := dial(s.server.addr, pollers)
	if err != nil {
		return err
	}
	defer pool.close()
	one := func(c *conn, i int) (err error) {
		if s.sessions[i], err = c.initialize(); err == nil {
			err = c.status(s.sessions[i], ids[i%len(ids)])
		}
		return err
	}
	if err := pool.times(polled, one); err != nil { // what is made once is made now
		return err
	}
	before, err := s.server.liveHeap(ctx)
	if err != nil {
		return err
	}
	if err := pool.times(remembered, one); err != nil {
		return err
	}
	after, err := s.server.liveHeap(ctx)
	s.kib = (after - before) / 1024 / remembered
	return err
}

func (s *polledSide) poll(ids []string, counts bool) error {
	pool, err := dial(s.server.addr, pollers)
	if err != nil {
		return err
	}
	defer pool.close()
	cpu, err := s.server.cpu()
	if err != nil {
		return err
	}
	took, lasted, err := pool.during(pollFor, func(c *conn, i int) error {
		k := i % polled
		return c.status(s.sessions[k], ids[k])
	})
	if err != nil {
		return err
	}
	used, err := s.server.cpu()
	if err != nil || !counts {
		return err
	}
	n := len(took)
	s.rates = append(s.rates, float64(n)/lasted.Seconds())
	s.p50s, s.p99s = append(s.p50s, took[n/2]), append(s.p99s, took[n*99/100])
	s.cpu = append(s.cpu, float64((used-cpu).Microseconds())/float64(n))
	return nil
}
