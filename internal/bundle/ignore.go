package bundle

import (
	"regexp"
	"strings"
)

// ignoreList is a list of gitignore patterns (gitignore(5), "PATTERN FORMAT"), for
// .assetsignore.
type ignoreList []ignoreRule

// maxIgnored bounds the lines of one list.
const maxIgnored = 1000

// ignoreTooLong tells whether a list is beyond the bounds of lines and their length: it
// is refused then, since reading it in part would publish what the rest names.
func ignoreTooLong(text string) bool {
	n := 0
	for line := range strings.Lines(text) {
		if n++; n > maxIgnored || len(line) > maxPattern {
			return true
		}
	}
	return false
}

type ignoreRule struct {
	re      *regexp.Regexp // over the path relative to the list's folder
	negated bool
	dirOnly bool
}

func parseIgnore(text string) ignoreList {
	var list ignoreList
	for line := range strings.SplitSeq(strings.TrimPrefix(text, "\ufeff"), "\n") {
		line = strings.TrimSuffix(line, "\r")
		for strings.HasSuffix(line, " ") && !strings.HasSuffix(line, `\ `) {
			line = line[:len(line)-1]
		}
		if line == "" || line[0] == '#' {
			continue
		}
		var r ignoreRule
		if line[0] == '!' {
			r.negated, line = true, line[1:]
		}
		if before, ok := strings.CutSuffix(line, "/"); ok {
			r.dirOnly, line = true, before
		}
		if line == "" {
			continue
		}
		anchored := strings.Contains(line, "/")
		line = strings.TrimPrefix(line, "/")
		expr := ignoreRegexp(line)
		if !anchored {
			expr = "(?:.*/)?" + expr
		}
		re, err := regexp.Compile("^(?s:" + expr + ")$")
		if err != nil {
			continue // git takes a pattern that it can't read for one that never matches
		}
		r.re = re
		list = append(list, r)
	}
	return list
}

// ignoreRegexp translates one pattern without its leading and trailing slash.
func ignoreRegexp(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case strings.HasPrefix(p[i:], "**/") && (i == 0 || p[i-1] == '/'):
			b.WriteString("(?:.*/)?")
			i += 2
		case p[i:] == "**" && i > 0 && p[i-1] == '/':
			b.WriteString(".+")
			i++
		case c == '*':
			for i+1 < len(p) && p[i+1] == '*' {
				i++
			}
			b.WriteString("[^/]*")
		case c == '?':
			b.WriteString("[^/]")
		case c == '[':
			class, n := ignoreClass(p[i:])
			if n == 0 {
				return "[^\\x00-\\x{10FFFF}]" // not closed: matches nothing
			}
			b.WriteString(class)
			i += n - 1
		case c == '\\':
			if i+1 == len(p) {
				return "[^\\x00-\\x{10FFFF}]"
			}
			i++
			b.WriteString(regexp.QuoteMeta(p[i : i+1]))
		case c < 0x80:
			b.WriteString(regexp.QuoteMeta(p[i : i+1]))
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// ignoreClass translates a "[…]" at the start of p; n is its length, 0 if not closed.
func ignoreClass(p string) (string, int) {
	i := 1
	negated := i < len(p) && (p[i] == '!' || p[i] == '^')
	if negated {
		i++
	}
	var b strings.Builder
	for first := true; i < len(p); first = false {
		c := p[i]
		switch {
		case c == ']' && !first:
			if negated {
				return "[^/" + b.String() + "]", i + 1
			}
			return "[" + b.String() + "]", i + 1
		case c == '[' && strings.HasPrefix(p[i:], "[:"):
			if end := strings.Index(p[i:], ":]"); end > 0 {
				b.WriteString(p[i : i+end+2])
				i += end + 2
				continue
			}
			b.WriteString(`\[`)
		case c == '\\' && i+1 < len(p):
			i++
			b.WriteString(quoteInClass(p[i]))
		case c == '-' && !first && i+1 < len(p) && p[i+1] != ']':
			b.WriteByte('-')
		default:
			b.WriteString(quoteInClass(c))
		}
		i++
	}
	return "", 0
}

func quoteInClass(c byte) string {
	if strings.IndexByte(`\[]^-`, c) >= 0 {
		return `\` + string(rune(c))
	}
	return string([]byte{c})
}

// match tells whether a file is ignored: it or one of its folders, the last matching
// pattern deciding. What lies in an ignored folder can't be taken in again.
func (l ignoreList) match(name string) bool {
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		ignored := false
		for _, r := range l {
			if r.dirOnly && i == len(name) {
				continue
			}
			if r.re.MatchString(name[:i]) {
				ignored = !r.negated
			}
		}
		if ignored {
			return true
		}
	}
	return false
}
