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
	for i, p := range []struct {
		name string
		make func(dir string) error
	}{{"plain Worker", plainProject}, {"hono and zod", honoProject}, {"500 modules", manyModules}, {"500 modules, one chain of `export *`", exportStarChain}} {
		dir := filepath.Join(work, fmt.Sprintf("bundle-%d", i))
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
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b, err := bundle.New(bundle.Config{Roots: []string{filepath.Dir(dir)}, Checker: []string{self, bundle.CheckCommand}, LargeGCPercent: 200})
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

// manyModules makes a project as people write them: 500 modules in 25 folders, each
// with an interface, a class and functions, importing three of its neighbours and a
// shared one, all of them reached from the entry.
func manyModules(dir string) error {
	const n, folders = 500, 25
	files := map[string]string{"src/shared.ts": "export const shared = (n: number): number => n * 2;\n"}
	var imports, sum strings.Builder
	for i := range n {
		var s strings.Builder
		s.WriteString("import { shared } from \"../shared\";\n")
		for _, k := range []int{i + 1, i + 7, i + 40} {
			if k < n {
				fmt.Fprintf(&s, "import { f%d } from \"../d%d/m%d\";\n", k, k%folders, k)
			}
		}
		fmt.Fprintf(&s, "\nexport interface Item%d {\n  id: number;\n  label?: string;\n}\n\n", i)
		fmt.Fprintf(&s, "export class Store%d {\n  private items = new Map<number, Item%d>();\n\n  add(item: Item%d): this {\n    this.items.set(item.id, { ...item, label: item.label ?? `item ${item.id}` });\n    return this;\n  }\n\n  total(): number {\n    let sum = 0;\n    for (const { id } of this.items.values()) sum += shared(id);\n    return sum;\n  }\n}\n\n", i, i, i)
		fmt.Fprintf(&s, "export async function load%d(url: string): Promise<Item%d[]> {\n  const answer = await fetch(url);\n  if (!answer.ok) throw new Error(`load%d: ${answer.status}`);\n  return (await answer.json()) as Item%d[];\n}\n\n", i, i, i, i)
		fmt.Fprintf(&s, "export function f%d(n: number): number {\n  return n > %d ? n : new Store%d().add({ id: n }).total() + %d;\n}\n", i, i, i, i)
		files[fmt.Sprintf("src/d%d/m%d.ts", i%folders, i)] = s.String()
		fmt.Fprintf(&imports, "import { f%d } from \"./d%d/m%d\";\n", i, i%folders, i)
		fmt.Fprintf(&sum, "f%d(1) + ", i)
	}
	files["src/index.ts"] = imports.String() + "export default { fetch: () => new Response(String(" + sum.String() + "0)) };\n"
	return writeProject(dir, files)
}

// exportStarChain is the worst there is for esbuild, the command and the library alike:
// each of 500 modules passes on all that the next one exports, and its linker looks at
// 125,000 names, three quarters of the time in this shape.
func exportStarChain(dir string) error {
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
	return writeFiles(dir, files)
}

func writeFiles(dir string, files map[string]string) error {
	var errs []error
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(content), 0o600))
	}
	return errors.Join(errs...)
}
