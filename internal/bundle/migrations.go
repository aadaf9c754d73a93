package bundle

import (
	"cmp"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// migrations reads the migration files of a database, in the order in which wrangler
// applies them. They are the .sql files of migrations_dir, or those that
// migrations_pattern finds below it; each is recorded under its path from there.
// Without migrations_dir the folder is "migrations", if it is there.
func (j *job) migrations(where string, o *object) []deploy.Migration {
	dir, pattern := o.text("migrations_dir"), o.text("migrations_pattern")
	configured := dir != ""
	if !configured {
		dir = "migrations"
	}
	folder := j.set.path(where+".migrations_dir", dir)
	if folder == "" {
		return nil
	}
	segments := j.migrationPattern(where, path.Clean(dir), pattern, configured)
	d := j.f.dir(folder)
	if d == nil {
		if configured {
			j.set.wrong(where+".migrations_dir", fmt.Sprintf("a folder that exists (%s does not)", cutText(dir, 100)))
		}
		return nil
	}
	found := j.matching(folder, segments)
	if len(found) == 0 && pattern == "" && len(j.matching(folder, []string{"*", "migration.sql"})) > 0 {
		j.warn("%s has no .sql files of its own, but folders with a migration.sql, which are not applied. If they are the migrations, set \"migrations_dir\": %q, \"migrations_pattern\": %q in %s.",
			j.f.show(folder), path.Clean(dir), path.Clean(dir)+"/*/migration.sql", where)
	}
	slices.SortFunc(found, compareMigrations)
	found = slices.Compact(found) // several ** lead to one file in several ways
	var out []deploy.Migration
	for _, name := range found {
		file := path.Join(folder, name)
		raw, err := j.f.read(file)
		if err != nil {
			if j.set.err == nil {
				j.set.err = configError(j.f.show(file), "can't be read")
			}
			return nil
		}
		out = append(out, deploy.Migration{Name: name, File: j.f.show(file), SQL: string(raw)})
	}
	return out
}

// otherGlob is what minimatch, which wrangler uses, takes for more than *, ?, [ ] and **.
var otherGlob = regexp.MustCompile(`[{}\\]|[!?*+@]\(|^[!#]`)

// migrationPattern gives the segments of migrations_pattern below migrations_dir.
func (j *job) migrationPattern(where, dir, pattern string, configured bool) []string {
	if pattern == "" {
		return []string{"*.sql"}
	}
	key := where + ".migrations_pattern"
	below, ok := strings.CutPrefix(path.Clean(pattern), dir+"/")
	if dir == "." {
		below, ok = path.Clean(pattern), true
	}
	switch {
	case !configured:
		j.set.wrong(key, "used together with migrations_dir, the folder that it begins with")
	case !ok:
		j.set.wrong(key, fmt.Sprintf("a pattern that begins with %s/, the migrations_dir", cutText(dir, 100)))
	case otherGlob.MatchString(below):
		j.set.wrong(key, "a pattern of *, ?, [ ] and **; braces, backslashes and groups such as { } or !( ) are not understood")
	}
	var segments []string
	for s := range strings.SplitSeq(below, "/") {
		s = strings.ReplaceAll(s, "[!", "[^")
		if _, err := path.Match(s, ""); err != nil {
			j.set.wrong(key, "a pattern in which every [ is closed")
		}
		if s != "**" || len(segments) == 0 || segments[len(segments)-1] != "**" {
			segments = append(segments, s)
		}
	}
	if segments[len(segments)-1] == "**" {
		segments = append(segments, "*")
	}
	return segments
}

// matching finds the files below a folder that a pattern names, by their paths from
// there. As in wrangler's, what begins with a dot is found by that dot alone.
func (j *job) matching(folder string, segments []string) (out []string) {
	if len(segments) == 0 {
		return nil
	}
	d := j.f.dir(folder)
	if d == nil {
		return nil
	}
	first, rest := segments[0], segments[1:]
	deep := first == "**"
	if deep {
		out = j.matching(folder, rest)
	}
	for name, kind := range d.entries {
		hidden := strings.HasPrefix(name, ".") && !strings.HasPrefix(first, ".")
		if ok, _ := path.Match(first, name); !ok || hidden { // the pattern was tried before
			continue
		}
		full, below := path.Join(folder, name), rest
		if deep {
			below = segments
		}
		switch {
		case !deep && len(rest) == 0 && j.f.isFile(full):
			out = append(out, name)
		case kind == kindDir: // wrangler does not go into linked folders either
			for _, found := range j.matching(full, below) {
				out = append(out, path.Join(name, found))
			}
		}
	}
	return out
}

// compareMigrations orders as wrangler does: part by part, by the number that a part
// begins with, what has one first, and then by name.
func compareMigrations(a, b string) int {
	x, y := strings.Split(a, "/"), strings.Split(b, "/")
	for i := range min(len(x), len(y)) {
		if c := cmp.Or(cmp.Compare(leadingNumber(x[i]), leadingNumber(y[i])), cmp.Compare(x[i], y[i])); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}

var numberForm = regexp.MustCompile(`^[ \t]*([+-]?[0-9]+)`)

// leadingNumber is what JavaScript's parseInt reads; infinity where it reads none.
func leadingNumber(name string) float64 {
	m := numberForm.FindStringSubmatch(name)
	if m == nil {
		return math.Inf(1)
	}
	n, _ := strconv.ParseFloat(m[1], 64) // beyond the range: infinity, as there
	return n
}
