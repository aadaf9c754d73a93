package bundle

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/evanw/esbuild/pkg/api"
)

// esbuild turns import() and require() of a pattern ("./lang/" + x + ".js") into a
// table of the files that match, and lists folders of the disk for that, wherever
// "../" leads. So no such call may reach it: tame finds every call whose argument is
// not a plain string and gives it another name, behind which stands the same call
// with an argument that esbuild can't see through, or a table of our own making.

var (
	escapedName = regexp.MustCompile(`\\u(?:00(?:65|69|71|72|75)|\{0*(?:65|69|71|72|75)\})`)
	plainCall   = regexp.MustCompile(`^(?:'[^'\\\n]*'|"[^"\\\n]*"|` + "`[^`\\\\$]*`" + `)`)
)

// mayBeDynamic finds files that need a closer look. It may find too many, never too
// few: everything that could be a call of import or of require, in whatever spelling,
// except with one plain string.
func mayBeDynamic(code string) bool {
	if strings.Contains(code, `\u`) && escapedName.MatchString(code) {
		return true
	}
	return wordMayCall(code, "import") || wordMayCall(code, "require")
}

// wordMayCall looks at every place where one of the two words stands.
func wordMayCall(code, word string) bool {
	isWord := func(i int) bool {
		return i >= 0 && i < len(code) && (code[i] == '_' || code[i]|0x20 >= 'a' && code[i]|0x20 <= 'z' || code[i] >= '0' && code[i] <= '9')
	}
	for at := 0; ; {
		i := strings.Index(code[at:], word)
		if i < 0 {
			return false
		}
		begin := at + i
		at = begin + len(word)
		if !isWord(begin-1) && !isWord(at) && mayCall(word, code[at:]) {
			return true
		}
	}
}

// mayCall tells whether what follows one of the two words makes it a call of something
// else than one plain string.
func mayCall(word, rest string) bool {
	rest, ok := skipBlank(rest)
	switch {
	case !ok:
		return true
	case rest == "":
		return false
	case word == "require":
		if strings.IndexByte(".=,;:}]&|'\"+*/%^~", rest[0]) >= 0 {
			return false
		}
	case rest[0] == '.':
		after, ok := skipBlank(rest[1:])
		return !ok || !strings.HasPrefix(after, "meta")
	default:
		// "<" and "-" may begin an HTML-like comment, which JavaScript has.
		if strings.IndexByte("(<-\\", rest[0]) < 0 {
			return false
		}
	}
	return rest[0] != '(' || !plainArgument(rest[1:])
}

// plainArgument tells whether a call's text behind "(" is one plain string and ")", or
// "," and import attributes.
func plainArgument(rest string) bool {
	rest, ok := skipBlank(rest)
	lit := plainCall.FindString(rest)
	if !ok || lit == "" {
		return false
	}
	rest, ok = skipBlank(rest[len(lit):])
	return ok && rest != "" && (rest[0] == ')' || rest[0] == ',')
}

// skipBlank passes over white space and comments; not ok when they go on for so long
// that looking further isn't worth it.
func skipBlank(s string) (string, bool) {
	const enough = 1 << 12
	limit := len(s) - enough
	for s != "" {
		switch {
		case len(s) < limit:
			return s, false
		case strings.HasPrefix(s, "//"):
			i := strings.IndexAny(s[:min(len(s), 2*enough)], "\n\r\u2028\u2029")
			if i < 0 {
				return "", len(s) <= 2*enough
			}
			s = s[i:]
		case strings.HasPrefix(s, "/*"):
			i := strings.Index(s[2:min(len(s), 2*enough)], "*/")
			if i < 0 {
				return s, false
			}
			s = s[i+4:]
		default:
			c, n := utf8.DecodeRuneInString(s)
			if !unicode.IsSpace(c) && c != '\ufeff' {
				return s, true
			}
			s = s[n:]
		}
	}
	return s, true
}

// nameArgument is an argument that is a variable or a member of one.
var nameArgument = regexp.MustCompile(`^\(\s*[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)*\s*\)`)

const dynamicText = "because the argument is not a string literal"

// tame rewrites the calls of a file that would make esbuild look at the disk.
func (l *loader) tame(name, code string, kind api.Loader) (string, error) {
	if !mayBeDynamic(code) {
		return code, nil
	}
	opts := l.scan
	opts.Loader = kind
	opts.Format = api.FormatESModule
	opts.LogLevel = api.LogLevelSilent
	opts.LogOverride = map[string]api.LogLevel{
		"unsupported-dynamic-import": api.LogLevelWarning,
		"unsupported-require-call":   api.LogLevelWarning,
	}
	res := api.Transform(code, opts)
	if len(res.Errors) > 0 {
		return code, nil // a syntax error: the bundle will say so, and parse no further
	}
	var calls []dynamicCall
	starts := lineStarts(code)
	for _, w := range res.Warnings {
		if w.Location == nil || !strings.Contains(w.Text, dynamicText) {
			continue
		}
		at := starts[w.Location.Line-1] + w.Location.Column
		c := dynamicCall{at: at, end: at + w.Location.Length, require: strings.Contains(w.Text, `"require"`)}
		if at < 0 || c.end > len(code) || c.end <= at {
			return "", fmt.Errorf("an import() with a computed path could not be understood")
		}
		if !c.require && code[at:c.end] != "import" {
			return "", fmt.Errorf("an import() with a computed path could not be understood")
		}
		if after, ok := skipBlank(code[c.end:]); ok && nameArgument.MatchString(after) {
			continue // a variable: esbuild makes no pattern of it, and it is no constant
		}
		if !slices.ContainsFunc(calls, func(o dynamicCall) bool { return o.at == c.at }) {
			calls = append(calls, c)
		}
	}
	if len(calls) == 0 {
		return code, nil
	}
	return l.rename(name, code, calls), nil
}

// dynamicCall is the word import or require of one call.
type dynamicCall struct {
	at, end int
	require bool
}

func lineStarts(code string) []int {
	starts := []int{0}
	for i := 0; i < len(code); i++ {
		switch {
		case code[i] == '\n':
			starts = append(starts, i+1)
		case code[i] == '\r' && (i+1 == len(code) || code[i+1] != '\n'):
			starts = append(starts, i+1)
		case strings.HasPrefix(code[i:], "\u2028") || strings.HasPrefix(code[i:], "\u2029"):
			starts = append(starts, i+3)
		}
	}
	return starts
}

// rename gives each call a name of the same length, so that columns stay, and appends
// what stands behind the names.
func (l *loader) rename(name, code string, calls []dynamicCall) string {
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
	opaque := map[bool]string{}
	for _, c := range calls {
		out.WriteString(code[last:c.at])
		last = c.end
		word := "import"
		if c.require {
			word = "require"
		}
		var id string
		if table := l.globTable(name, code[c.end:], word); table != "" {
			id = fresh(c.end - c.at)
			fmt.Fprintf(&tail, "\nfunction %s(path) { var fn = ({%s})[path]; if (fn) return fn(); throw new Error(\"Module not found in bundle: \" + path); }", id, table)
		} else if id = opaque[c.require]; id == "" {
			id = fresh(c.end - c.at)
			opaque[c.require] = id
			fmt.Fprintf(&tail, "\nfunction %s(path) { return %s(path); }", id, word)
		}
		out.WriteString(id)
	}
	out.WriteString(code[last:])
	return out.String() + tail.String()
}

// simplePattern is the argument of a call that a table is made for: one template with
// relative beginning, or a string plus an expression plus perhaps a string.
var (
	templateArg = regexp.MustCompile("^\\(\\s*`(\\.\\.?/[^`\\\\$]*)\\$\\{([^`{}]*)\\}([^`\\\\$]*)`\\s*\\)")
	concatArg   = regexp.MustCompile(`^\(\s*(?:"(\.\.?/[^"\\\n]*)"|'(\.\.?/[^'\\\n]*)')\s*\+\s*([\w$.]+)\s*(?:\+\s*(?:"([^"\\\n]*)"|'([^'\\\n]*)'))?\s*\)`)
)

// globTable lists the files that a call's pattern matches, as esbuild would, as the
// inside of an object literal; "" if the call has no pattern or no file matches.
func (l *loader) globTable(name, after, word string) string {
	after, _ = skipBlank(after)
	var prefix, suffix string
	if m := templateArg.FindStringSubmatch(after); m != nil {
		prefix, suffix = m[1], m[3]
	} else if m := concatArg.FindStringSubmatch(after); m != nil {
		prefix, suffix = m[1]+m[2], m[4]+m[5]
	} else {
		return ""
	}
	cut := strings.LastIndexByte(prefix, '/') + 1
	base, ok := joinInside(path.Dir(name), prefix[:cut])
	if !ok {
		return ""
	}
	deep := cut == len(prefix) // "./a/" + x spans folders, "./a" + x does not
	var hits []string
	l.globWalk(base, prefix[:cut], prefix, suffix, deep, &hits)
	slices.Sort(hits)
	var b strings.Builder
	for _, h := range hits {
		q := quoteJS(h)
		fmt.Fprintf(&b, "\n%s: () => %s(%s),", q, word, q)
	}
	return b.String()
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
