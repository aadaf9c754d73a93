package bundle

import (
	"fmt"
	"regexp"
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
	seen := map[int]bool{}
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
		if !seen[c.at] {
			seen[c.at] = true
			calls = append(calls, c)
		}
	}
	if len(calls) == 0 {
		return code, nil
	}
	return l.rename(name, code, calls)
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
