package bundle_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func names(ms []deploy.Migration) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Name+"="+m.SQL)
	}
	return out
}

// TestMigrationFiles: the files that wrangler 4.164.0 takes, in its order: by the number
// that a name begins with, then by name.
func TestMigrationFiles(t *testing.T) {
	b := newBundler(t, bundle.Config{})
	files := []string{
		"migrations/10_c.sql", "3", "migrations/9_b.sql", "2", "migrations/0001_a.sql", "1", "migrations/zz.sql", "5", "migrations/10_d.sql", "4",
		"migrations/.11_hidden.sql", "no", "migrations/old/12_x.sql", "no", "migrations/notes.md", "no",
		"drizzle/0000_b/migration.sql", "b", "drizzle/0000_a/migration.sql", "a", "drizzle/0000_a/snapshot.json", "no", "drizzle/0010_z/migration.sql", "z", "drizzle/0009_y/migration.sql", "y",
		"drizzle/.git/migration.sql", "no", "drizzle/meta/deep/migration.sql", "deep",
	}
	for config, want := range map[string][]string{
		``:                                    {"0001_a.sql=1", "9_b.sql=2", "10_c.sql=3", "10_d.sql=4", "zz.sql=5"},
		`, "migrations_dir": "./migrations/"`: {"0001_a.sql=1", "9_b.sql=2", "10_c.sql=3", "10_d.sql=4", "zz.sql=5"},
		`, "migrations_dir": "drizzle", "migrations_pattern": "drizzle/*/migration.sql"`:   {"0000_a/migration.sql=a", "0000_b/migration.sql=b", "0009_y/migration.sql=y", "0010_z/migration.sql=z"},
		`, "migrations_dir": "drizzle", "migrations_pattern": "./drizzle/**/*.sql"`:        {"0000_a/migration.sql=a", "0000_b/migration.sql=b", "0009_y/migration.sql=y", "0010_z/migration.sql=z", "meta/deep/migration.sql=deep"},
		`, "migrations_dir": "migrations", "migrations_pattern": "migrations/[!z]?_?.sql"`: {"10_c.sql=3", "10_d.sql=4"},
		`, "migrations_dir": ".", "migrations_pattern": "migrations/9*.sql"`:               {"migrations/9_b.sql=2"},
		`, "migrations_dir": "drizzle", "migrations_pattern": "drizzle/**/**/0*/**"`:       {"0000_a/migration.sql=a", "0000_a/snapshot.json=no", "0000_b/migration.sql=b", "0009_y/migration.sql=y", "0010_z/migration.sql=z"},
	} {
		a, err := b.Bundle(t.Context(), withConfig(`"d1_databases": [{"binding": "DB"`+config+`}]`, files...))
		if err != nil {
			t.Errorf("%s: %v", config, err)
			continue
		}
		if diff := cmp.Diff(want, names(a.Resources.Databases[0].Migrations)); diff != "" {
			t.Errorf("%s:\n%s", config, diff)
		}
	}
	for config, words := range map[string][]string{
		`"migrations_pattern": "x/*.sql"`:                                      {"migrations_pattern", "migrations_dir"},
		`"migrations_dir": "drizzle", "migrations_pattern": "other/*.sql"`:     {"migrations_pattern", "drizzle/"},
		`"migrations_dir": "drizzle", "migrations_pattern": "drizzle/{a,b}/*"`: {"migrations_pattern", "{"},
		`"migrations_dir": "drizzle", "migrations_pattern": "drizzle/[a"`:      {"migrations_pattern"},
		`"migrations_dir": "drizzle", "migrations_pattern": 5`:                 {"migrations_pattern", "a string"},
	} {
		refused(t, b, withConfig(`"d1_databases": [{"binding": "DB", `+config+`}]`, files...), deploy.CodeConfigInvalid, words...)
	}
	// A folder in another layout than the configuration's: it is said, not passed over.
	a, err := b.Bundle(t.Context(), withConfig(`"d1_databases": [{"binding": "DB", "migrations_dir": "drizzle"}]`, files...))
	if err != nil || !strings.Contains(strings.Join(a.Warnings, " "), `"migrations_pattern": "drizzle/*/migration.sql"`) {
		t.Errorf("%+v %v", a, err)
	}
}
