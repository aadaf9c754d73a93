package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// bundling measures the bundler alone, in this process, beside `wrangler deploy
// --dry-run` and the esbuild command, on folders.
func bundling(ctx context.Context, rounds int, peers peertest.Peers, them *wranglerSide, work string) error {
	fmt.Printf("\n| bundling, median | ours, first | ours, warm | wrangler --dry-run | esbuild command |\n|---|---:|---:|---:|---:|\n")
	for _, p := range []struct {
		name string
		make func(dir string) error
	}{{"plain Worker", plainProject}, {"hono and zod", honoProject}, {"500 modules", manyModules}} {
		dir := filepath.Join(work, "bundle-"+strings.ReplaceAll(p.name, " ", "-"))
		if err := p.make(dir); err != nil {
			return err
		}
		if err := bundlingRow(ctx, rounds, peers, them, p.name, dir); err != nil {
			return err
		}
	}
	return nil
}

func bundlingRow(ctx context.Context, rounds int, peers peertest.Peers, them *wranglerSide, name, dir string) error {
	b, err := bundle.New(bundle.Config{Roots: []string{filepath.Dir(dir)}})
	if err != nil {
		return err
	}
	var warm, wrangler, esbuild []float64
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	began := time.Now()
	if _, err := b.Bundle(ctx, deploy.Source{ProjectDir: dir}); err != nil {
		return err
	}
	first := ms(time.Since(began))
	for range rounds {
		began = time.Now()
		if _, err := b.Bundle(ctx, deploy.Source{ProjectDir: dir}); err != nil {
			return err
		}
		warm = append(warm, ms(time.Since(began)))
		took, _, err := them.run(ctx, dir, "deploy", "--dry-run", "--outdir", dir+"-out")
		if err != nil {
			return err
		}
		wrangler = append(wrangler, ms(took))
		// The command as npm installs it: a small script that starts the binary.
		cmd := exec.CommandContext(ctx, peers.Node, peers.Bin("esbuild", "bin", "esbuild"), "src/index.ts", "--bundle", "--format=esm", "--sourcemap", "--target=es2024", "--keep-names", "--outfile="+dir+"-esbuild.js")
		cmd.Dir = dir
		began = time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("esbuild: %w\n%s", err, out)
		}
		esbuild = append(esbuild, ms(time.Since(began)))
	}
	fmt.Printf("| %s | %.1f ms | %.1f ms | %.1f ms (%.0f×) | %.1f ms (%.1f×) |\n", name, first, median(warm),
		median(wrangler), median(wrangler)/median(warm), median(esbuild), median(esbuild)/median(warm))
	return nil
}

func plainProject(dir string) error {
	return writeProject(dir, map[string]string{"src/index.ts": source(1)})
}

// honoProject uses two packages of npm, installed once with scripts disabled.
func honoProject(dir string) error {
	err := writeProject(dir, map[string]string{
		"package.json": `{"name": "bench", "private": true, "dependencies": {"hono": "4.6.0", "zod": "3.23.8"}}`,
		"src/index.ts": "import { Hono } from \"hono\";\nimport { z } from \"zod\";\nconst q = z.object({ name: z.string() });\nconst app = new Hono();\napp.get(\"/\", (c) => c.text(q.parse({ name: \"x\" }).name));\nexport default app;\n",
	})
	if err != nil {
		return err
	}
	cmd := exec.Command("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm install: %w\n%s", err, out)
	}
	return nil
}

// manyModules makes a project in which each of 500 modules imports the next and a
// shared one.
func manyModules(dir string) error {
	files := map[string]string{"src/shared.ts": "export const shared = (n: number): number => n * 2;\n"}
	const n = 500
	for i := range n {
		next := ""
		if i+1 < n {
			next = fmt.Sprintf("export * from \"./m%d\";\n", i+1)
		}
		files[fmt.Sprintf("src/m%d.ts", i)] = fmt.Sprintf("import { shared } from \"./shared\";\n%sexport class C%d { value: number = shared(%d); name(): string { return `c${this.value}`; } }\n", next, i, i)
	}
	files["src/index.ts"] = "import * as all from \"./m0\";\nexport default { fetch: () => new Response(String(Object.keys(all).length)) };\n"
	return writeProject(dir, files)
}

func writeProject(dir string, files map[string]string) error {
	files["wrangler.jsonc"] = `{"name": "bench", "main": "src/index.ts", "compatibility_date": "2026-08-01"}`
	var errs []error
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(content), 0o600))
	}
	return errors.Join(errs...)
}
