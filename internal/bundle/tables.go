package bundle

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// rename gives each call a name of the same length, so that columns stay, and appends
// what stands behind the names.
func (l *loader) rename(name, code string, calls []dynamicCall) (string, error) {
	slices.SortFunc(calls, func(a, b dynamicCall) int { return a.at - b.at })
	var out, tail strings.Builder
	last, next := 0, 0
	fresh := func(n int) string {
		for ; ; next++ {
			id := "$" + strconv.FormatInt(int64(next), 36)
			id += strings.Repeat("_", max(0, n-len(id)))
			if !strings.Contains(code, id) {
				next++
				return id
			}
		}
	}
	known := map[dynamicPattern]string{} // many calls of one pattern share a table
	for _, c := range calls {
		if err := l.files.stopped(); err != nil {
			return "", err
		}
		out.WriteString(code[last:c.at])
		last = c.end
		p := patternOf(code[c.end:], c.require)
		id := known[p]
		if id == "" {
			table := ""
			if p.prefix != "" {
				var err error
				if table, err = l.globTable(name, p); err != nil {
					return "", err
				}
			}
			if bare := (dynamicPattern{require: c.require}); table == "" && known[bare] != "" {
				id = known[bare]
			} else {
				id = fresh(c.end - c.at)
				tail.WriteString(behind(id, table, c.require))
			}
			known[p] = id
			if table == "" {
				known[dynamicPattern{require: c.require}] = id
			}
		}
		out.WriteString(id)
	}
	out.WriteString(code[last:])
	return out.String() + tail.String(), nil
}

// behind is the function that stands behind a name: with a table, or with a call that
// esbuild can't see through.
func behind(id, table string, require bool) string {
	if table == "" {
		return fmt.Sprintf("\nfunction %s(path) { return %s(path); }", id, word(require))
	}
	return fmt.Sprintf("\nfunction %s(path) { var fn = ({%s})[path]; if (fn) return fn(); throw new Error(\"Module not found in bundle: \" + path); }", id, table)
}

func word(require bool) string {
	if require {
		return "require"
	}
	return "import"
}

// dynamicPattern is what a call may lead to; without a prefix anything, at run time.
type dynamicPattern struct {
	prefix, suffix string
	require        bool
}

// simplePattern is the argument of a call that a table is made for: one template with
// relative beginning, or a string plus an expression plus perhaps a string.
var (
	templateArg = regexp.MustCompile("^\\(\\s*`(\\.\\.?/[^`\\\\$]*)\\$\\{([^`{}]*)\\}([^`\\\\$]*)`\\s*\\)")
	concatArg   = regexp.MustCompile(`^\(\s*(?:"(\.\.?/[^"\\\n]*)"|'(\.\.?/[^'\\\n]*)')\s*\+\s*([\w$.]+)\s*(?:\+\s*(?:"([^"\\\n]*)"|'([^'\\\n]*)'))?\s*\)`)
)

func patternOf(after string, require bool) dynamicPattern {
	after, _ = skipBlank(after)
	if m := templateArg.FindStringSubmatch(after); m != nil {
		return dynamicPattern{m[1], m[3], require}
	} else if m := concatArg.FindStringSubmatch(after); m != nil {
		return dynamicPattern{m[1] + m[2], m[4] + m[5], require}
	}
	return dynamicPattern{require: require}
}

// maxTableRows bounds the tables of one bundle together: each file that a pattern
// matches is a row for each pattern.
const maxTableRows = 100_000

// globTable lists the files that a pattern matches, as esbuild would, as the inside of
// an object literal; "" if no file matches.
func (l *loader) globTable(name string, p dynamicPattern) (string, error) {
	prefix, suffix := p.prefix, p.suffix
	cut := strings.LastIndexByte(prefix, '/') + 1
	base, ok := joinInside(path.Dir(name), prefix[:cut])
	if !ok {
		return "", nil
	}
	deep := cut == len(prefix) // "./a/" + x spans folders, "./a" + x does not
	var hits []string
	l.globWalk(base, prefix[:cut], prefix, suffix, deep, &hits)
	slices.Sort(hits)
	if l.tableRows.Add(int64(len(hits))) > maxTableRows {
		return "", l.files.stop(deploy.Errorf(deploy.CodeTooManyFiles, "Use fewer patterns in import() and require(), or fewer files that they match.",
			"%s: the computed import() and require() of the project match more than %d files", l.files.show(name), maxTableRows))
	}
	var b strings.Builder
	for _, h := range hits {
		q := quoteJS(h)
		fmt.Fprintf(&b, "\n%s: () => %s(%s),", q, word(p.require), q)
	}
	return b.String(), nil
}

// quoteJS writes a string as JavaScript does; Go's own way has other escapes.
func quoteJS(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}

func (l *loader) globWalk(dir, shown, prefix, suffix string, deep bool, hits *[]string) {
	d := l.files.dir(dir)
	if d == nil || l.files.stopped() != nil || len(*hits) > l.files.limits.MaxFiles {
		return
	}
	for base, kind := range d.entries {
		at := shown + base
		switch {
		case kind == kindDir && deep:
			l.globWalk(path.Join(dir, base), at+"/", prefix, suffix, deep, hits)
		case strings.HasPrefix(at, prefix) && strings.HasSuffix(at, suffix) && len(at) >= len(prefix)+len(suffix) && l.files.hasFile(d, base):
			*hits = append(*hits, at)
		}
	}
}
