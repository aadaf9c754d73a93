// Command bench measures our running server beside the real wrangler, in one run on
// one sandbox, and prints a table of medians and ratios. Absolute times are this
// machine's; the ratios are what documents may quote.
//
//	go run ./internal/bench [-rounds 7] [-only bundling]
//
// As "reliability" it deploys again and again to an API that fails in every way that
// the sandbox knows, and checks that nothing was lost (docs/reliability.md):
//
//	go run ./internal/bench reliability [-n 1000] [-seed 1]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == bundle.CheckCommand {
		if err := bundle.ServeChecks(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "reliability" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		err := reliability(ctx, os.Args[2:])
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "bare" { // the other side of http
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		err := serveBare(ctx, os.Args[2:], os.Stdin)
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	rounds := flag.Int("rounds", 7, "counted rounds of each measurement")
	only := flag.String("only", "", `"bundling", "resources", "deploying", "server", "record", "guardrails" or "http": one table`)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *rounds, *only)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// row is one line of the table: theirs and ours, and what the ratio should be.
type row struct {
	name         string
	theirs, ours []float64
	unit         string
	want         float64 // theirs/ours, at least; 0: no claim
}

func run(ctx context.Context, rounds int, only string) error {
	if only == "http" { // minutes of full load: only when it is asked for
		return httpLoad(ctx, rounds)
	}
	if only == "" || only == "record" {
		if err := record(ctx, rounds); err != nil || only != "" {
			return err
		}
	}
	var peers peertest.Peers
	if only != "server" {
		var err error
		if peers, err = peertest.Find(ctx); err != nil {
			return err
		}
	}
	if only == "" || only == "guardrails" {
		if err := guardrails(ctx, rounds, peers); err != nil || only != "" {
			return err
		}
	}
	work, err := os.MkdirTemp("", "hourglass-bench-")
	if err != nil {
		return fmt.Errorf("a folder: %w", err)
	}
	defer os.RemoveAll(work) //nolint:errcheck // a temporary folder
	program, err := install(ctx, work)
	if err != nil {
		return err
	}
	box, err := startSandbox(ctx, program, work)
	if err != nil {
		return err
	}
	defer box.end()
	them := &wranglerSide{peers: peers, api: box.API, work: work}
	us := &ourSide{program: program, box: box, work: work}
	if only == "server" {
		return serverAlone(ctx, rounds, box, us)
	}
	if only == "" || only == "deploying" {
		rows, err := measure(ctx, rounds, box, them, us)
		if err != nil {
			return err
		}
		print(rows)
	}
	if only == "" || only == "resources" {
		if err := resources(ctx, rounds, box, them, us); err != nil {
			return err
		}
	}
	if only == "" || only == "bundling" {
		return bundling(ctx, rounds, peers, them, work)
	}
	return nil
}

// measure takes turns, so that a noisy minute of the machine meets both.
func measure(ctx context.Context, rounds int, box *sandboxProcess, them *wranglerSide, us *ourSide) ([]row, error) {
	redeploy := row{name: "redeploy of a plain Worker", unit: "ms", want: 15}
	fresh := row{name: "fresh account, k=1000 g=2000", unit: "ms", want: 15}
	bundle := row{name: "bundle (warm) / deploy --dry-run", unit: "ms", want: 100}
	memory := row{name: "peak memory (process tree / server)", unit: "MiB", want: 5}
	if err := box.challenge(ctx, 1, 1); err != nil {
		return nil, err
	}
	if err := us.start(ctx); err != nil {
		return nil, err
	}
	defer us.end()
	for round := range rounds + 1 { // the first is a warm-up
		a, mib, err := them.deploy(ctx, round)
		if err != nil {
			return nil, err
		}
		b, err := us.deploy(ctx, round, false)
		if err != nil {
			return nil, err
		}
		c, err := them.dryRun(ctx)
		if err != nil {
			return nil, err
		}
		d, err := us.bundle(ctx, round)
		if err != nil {
			return nil, err
		}
		if round > 0 {
			redeploy.add(a, b)
			bundle.add(c, d)
			memory.theirs = append(memory.theirs, mib)
		}
	}
	if err := box.challenge(ctx, 1000, 2000); err != nil {
		return nil, err
	}
	for round := range rounds + 1 {
		if err := them.forget(); err != nil {
			return nil, err
		}
		a, _, err := them.deploy(ctx, 1000+round)
		if err != nil {
			return nil, err
		}
		b, err := us.deploy(ctx, 1000+round, true)
		if err != nil {
			return nil, err
		}
		if round > 0 {
			fresh.add(a, b)
		}
	}
	peak, err := us.peak()
	if err != nil {
		return nil, err
	}
	memory.ours = []float64{peak}
	list := row{name: "process start to tools/list", unit: "ms"}
	for range rounds {
		ms, err := us.firstList(ctx)
		if err != nil {
			return nil, err
		}
		list.ours = append(list.ours, ms)
	}
	return []row{redeploy, fresh, bundle, memory, list}, nil
}

func (r *row) add(theirs, ours time.Duration) {
	r.theirs = append(r.theirs, float64(theirs.Microseconds())/1000)
	r.ours = append(r.ours, float64(ours.Microseconds())/1000)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func print(rows []row) {
	fmt.Printf("| %-36s | %14s | %14s | %8s | %s\n", "median", "wrangler", "hourglass", "ratio", "wanted |")
	fmt.Println("|---|---:|---:|---:|---|")
	for _, r := range rows {
		theirs, ratio, want := "", "", "within 60 ms"
		ours := median(r.ours)
		if len(r.theirs) > 0 {
			t := median(r.theirs)
			theirs = fmt.Sprintf("%.1f %s", t, r.unit)
			ratio = fmt.Sprintf("%.1f×", t/ours)
			want = fmt.Sprintf("%.0f×, %s", r.want, map[bool]string{true: "met", false: "NOT MET"}[t/ours >= r.want])
		} else if ours > 60 {
			want += ", NOT MET"
		}
		fmt.Printf("| %-36s | %14s | %14s | %8s | %s |\n", r.name, theirs, fmt.Sprintf("%.1f %s", ours, r.unit), ratio, want)
	}
}
