package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
	"github.com/hourglass-mcp/hourglass/internal/policy"
)

// guardrails measures what stands before every act: the making of a policy, a decision,
// the secret scan; and lets the scan look at the npm packages of the tests, a set that
// nobody wrote for it.
func guardrails(ctx context.Context, rounds int, peers peertest.Peers) error {
	source := []byte(`{"rules": [
		{"name": "classes", "acts": ["create_account", "deploy"], "when": "!(labels[?'class'].orValue('') in ['preview', 'ci'])", "verdict": "deny", "message": "m", "next": "n"},
		{"name": "bindings", "act": "deploy", "when": "!worker.bindings.all(b, b.type in ['kv_namespace', 'd1', 'plain_text'])", "verdict": "deny", "message": "m", "next": "n"},
		{"name": "hosts", "act": "deploy", "when": "!worker.hosts.all(h, h.endsWith('.acme.dev'))", "verdict": "ask", "message": "m", "next": "n"},
		{"name": "budget", "act": "create_account", "when": "usage.accounts >= 3", "verdict": "deny", "message": "m", "next": "n"}]}`)
	facts := deploy.Facts{
		Door: "http", Labels: map[string]string{"class": "preview", "run_id": "r1"},
		Worker: deploy.WorkerFacts{
			Name: "w", Hosts: []string{"a.acme.dev", "b.acme.dev", "c.acme.dev"},
			Bindings: []deploy.BindingFact{{Name: "KV", Type: "kv_namespace"}, {Name: "DB", Type: "d1"}, {Name: "V", Type: "plain_text"}},
		},
	}
	var pol *policy.Policy
	making, err := medianOf(rounds, 20, func() (err error) {
		pol, err = policy.New(policy.Config{Name: "bench.jsonc", Source: source})
		return err
	})
	if err != nil {
		return err
	}
	deciding, err := medianOf(rounds, 2000, func() error {
		if d := pol.Decide(ctx, deploy.ActDeploy, facts); d.Verdict != deploy.Allow {
			return fmt.Errorf("decided otherwise: %+v", d)
		}
		return nil
	})
	if err != nil {
		return err
	}
	scanner := policy.NewScanner(policy.ScannerConfig{})
	code := &deploy.Artifact{Modules: []deploy.Module{{Name: "index.js", Type: deploy.TypeESModule, Content: oneMiB()}}}
	scanning, err := medianOf(rounds, 5, func() error {
		_, err := scanner.Scan(ctx, code)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Printf("\n| guardrails, median | |\n|---|---:|\n| a policy of four rules is made | %.2f ms |\n| a decision by it and the built-in rules | %.1f µs |\n| the secret scan, a MiB of code | %.1f ms (%.0f MiB/s) |\n",
		making/1e6, deciding/1e3, scanning/1e6, 1e9/scanning)
	return packages(ctx, scanner, peers.Dir)
}

// medianOf gives the median, over rounds, of what one call takes, in nanoseconds.
func medianOf(rounds, calls int, f func() error) (float64, error) {
	var took []float64
	for range rounds {
		began := time.Now()
		for range calls {
			if err := f(); err != nil {
				return 0, err
			}
		}
		took = append(took, float64(time.Since(began).Nanoseconds())/float64(calls))
	}
	return median(took), nil
}

// oneMiB is code as bundles have it, with names of secrets that get no values.
func oneMiB() []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < 1<<20; i++ {
		fmt.Fprintf(&b, "%sasync function call%d(token, key) {\n  const r = await fetch(`https://api.acme.dev/v1/${key}`, { headers: { authorization: `Bearer ${token}` } });\n  return { password: env.PASSWORD, r };\n}\n", source(i), i)
	}
	return b.Bytes()[:1<<20]
}

// packages scans every file below a folder and tells what was found.
func packages(ctx context.Context, scanner *policy.Scanner, dir string) error {
	files, size, found := 0, int64(0), map[string]int{}
	var took time.Duration
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		began := time.Now()
		list, err := scanner.Scan(ctx, &deploy.Artifact{Assets: &deploy.Assets{Files: []deploy.Asset{{Path: "/" + filepath.ToSlash(path), Content: content}}}})
		took += time.Since(began)
		files, size = files+1, size+int64(len(content))
		for _, f := range list {
			found[f.Kind]++
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("the packages of the tests: %w", err)
	}
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(found)) {
		kinds = append(kinds, fmt.Sprintf("%d %s", found[kind], kind))
	}
	fmt.Printf("| npm packages of the tests: %d files, %d MiB | %.1f ms a MiB; found: %s |\n", files, size>>20, took.Seconds()*1000/(float64(size)/(1<<20)), strings.Join(kinds, ", "))
	return nil
}
