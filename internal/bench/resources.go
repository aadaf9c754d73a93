package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// resources measures what is beside the code: 1,000 small static files, sent to a fresh
// account and then with one of them changed; and 50 migrations of a D1 database, which
// wrangler applies by a second command and we within the deployment.
func resources(ctx context.Context, rounds int, box *sandboxProcess, them *wranglerSide, us *ourSide) error {
	if err := box.challenge(ctx, 1, 1); err != nil {
		return err
	}
	if err := us.start(ctx); err != nil {
		return err
	}
	defer us.end()
	first := row{name: "1,000 files, fresh account", unit: "ms"}
	second := row{name: "1,000 files, one changed", unit: "ms"}
	migrations := row{name: "50 D1 migrations, fresh account", unit: "ms"}
	site, app := filepath.Join(us.work, "files"), filepath.Join(us.work, "migrated")
	if err := manyFiles(site); err != nil {
		return err
	}
	if err := manyMigrations(app); err != nil {
		return err
	}
	for range rounds {
		if err := them.forget(); err != nil {
			return err
		}
		mark := func() error {
			return os.WriteFile(filepath.Join(site, "pub", "f0.txt"), fmt.Appendf(nil, "changed %d", time.Now().UnixNano()), 0o600)
		}
		if err := mark(); err != nil {
			return err
		}
		a, _, err := them.run(ctx, site, "deploy", "--temporary")
		if err != nil {
			return err
		}
		b, _, err := us.call(ctx, "deploy_temporary", map[string]any{"project_dir": site, "fresh": true})
		if err != nil {
			return err
		}
		first.add(a, b)
		if err := mark(); err != nil {
			return err
		}
		if a, _, err = them.run(ctx, site, "deploy", "--temporary"); err != nil {
			return err
		}
		if b, _, err = us.call(ctx, "deploy_temporary", map[string]any{"project_dir": site}); err != nil {
			return err
		}
		second.add(a, b)
		if err := them.forget(); err != nil {
			return err
		}
		if a, _, err = them.run(ctx, app, "deploy", "--temporary"); err != nil {
			return err
		}
		applied, _, err := them.run(ctx, app, "d1", "migrations", "apply", "DB", "--remote", "--temporary")
		if err != nil {
			return err
		}
		if b, _, err = us.call(ctx, "deploy_temporary", map[string]any{"project_dir": app, "fresh": true}); err != nil {
			return err
		}
		migrations.add(a+applied, b)
	}
	fmt.Printf("\n| resources, median | wrangler | hourglass | ratio |\n|---|---:|---:|---:|\n")
	for _, r := range []row{first, second, migrations} {
		fmt.Printf("| %s | %.0f ms | %.0f ms | %.1f× |\n", r.name, median(r.theirs), median(r.ours), median(r.theirs)/median(r.ours))
	}
	return nil
}

func manyFiles(dir string) error {
	files := map[string]string{"wrangler.jsonc": `{"name": "files", "compatibility_date": "2026-08-01", "assets": {"directory": "pub"}}`, "pub/index.html": "<h1>files</h1>"}
	for i := range 999 {
		files[fmt.Sprintf("pub/f%d.txt", i)] = fmt.Sprintf("the file of number %d", i)
	}
	return writeFiles(dir, files)
}

func manyMigrations(dir string) error {
	files := map[string]string{
		"wrangler.jsonc": `{"name": "migrated", "main": "w.js", "compatibility_date": "2026-08-01", "d1_databases": [{"binding": "DB", "database_name": "bench", "migrations_dir": "migrations"}]}`,
		"w.js":           `export default { async fetch(r, env) { return Response.json(await env.DB.prepare("SELECT count(*) AS n FROM d1_migrations").first()); } };`,
	}
	for i := range 50 {
		files[fmt.Sprintf("migrations/%04d_step.sql", i)] = fmt.Sprintf("CREATE TABLE t%d (id INTEGER PRIMARY KEY, v TEXT);\nINSERT INTO t%d (v) VALUES ('%d');\n", i, i, i)
	}
	return writeFiles(dir, files)
}
