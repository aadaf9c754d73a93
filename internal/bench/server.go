package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// serverAlone measures our server alone: how soon it answers, and what memory it has after
// its start, at work, and at most. Without the peers it takes seconds.
func serverAlone(ctx context.Context, rounds int, box *sandboxProcess, us *ourSide) error {
	list := row{name: "process start to tools/list", unit: "ms"}
	for range rounds + 1 { // the first makes the store
		ms, err := us.firstList(ctx)
		if err != nil {
			return err
		}
		list.ours = append(list.ours, ms)
	}
	if err := box.challenge(ctx, 1, 1); err != nil {
		return err
	}
	if err := us.start(ctx); err != nil {
		return err
	}
	defer us.end()
	pid := us.cmd.Process.Pid
	fmt.Printf("| our server alone | |\n|---|---:|\n| process start to `tools/list`, median | %.1f ms |\n", median(list.ours[1:]))
	fmt.Printf("| size of the program | %.1f MiB |\n", programMiB(us.program))
	memoryRow("memory once it is initialized", pid)
	for round := range rounds + 1 {
		if _, err := us.deploy(ctx, round, false); err != nil {
			return err
		}
		if _, err := us.bundle(ctx, round); err != nil {
			return err
		}
		if round == 0 {
			memoryRow("after the first deployment and bundle", pid)
		}
	}
	if err := box.challenge(ctx, 1000, 2000); err != nil {
		return err
	}
	for round := range rounds + 1 {
		if _, err := us.deploy(ctx, 1000+round, true); err != nil {
			return err
		}
	}
	memoryRow(fmt.Sprintf("after %d deployments, half of them to fresh accounts", 2*(rounds+1)), pid)
	peak, err := us.peak()
	if err != nil {
		return err
	}
	fmt.Printf("| peak | %.1f MiB |\n", peak)
	return nil
}

// memoryRow prints what a process holds now: pages of its own, and pages of the program's
// file that it touched, which the system shares and can drop.
func memoryRow(when string, pid int) {
	fmt.Printf("| %s: in all (its own; the program's pages) | %.1f MiB (%.1f; %.1f) |\n", when,
		statusMiB(pid, "VmRSS:"), statusMiB(pid, "RssAnon:"), statusMiB(pid, "RssFile:"))
}

func programMiB(path string) float64 {
	info, err := os.Stat(filepath.Clean(path))
	if err != nil {
		return 0
	}
	return float64(info.Size()) / (1 << 20)
}
