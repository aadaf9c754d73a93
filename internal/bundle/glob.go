package bundle

import "strings"

// Patterns of a project are matched against every file of it, so they are bounded.
const (
	maxPattern  = 256 // characters of one
	maxPatterns = 200 // of one kind
)

// globRegexp turns a glob into a regular expression the way the npm package
// glob-to-regexp does, which wrangler's module rules go through (wrangler-wire fact
// sheet, section 17): without globstar "*" and "**" match anything, slashes included;
// with it "*" stays inside a folder and "**" spans folders. "?" and "[" are literal
// unless question is set, where "?" is any one character.
func globRegexp(glob string, globstar, question bool) string {
	var b strings.Builder
	b.WriteByte('^')
	for i := 0; i < len(glob); i++ {
		c := glob[i]
		switch {
		case c == '*':
			start := i
			for i+1 < len(glob) && glob[i+1] == '*' {
				i++
			}
			switch {
			case !globstar:
				b.WriteString(".*")
			case i > start && strings.HasPrefix(glob[i+1:], "/**/") && (start == 0 || glob[start-1] == '/'):
				i++ // "**/**/" is "**/"
			case i > start && (start == 0 || glob[start-1] == '/') && (i+1 == len(glob) || glob[i+1] == '/'):
				b.WriteString("(?:[^/]*(?:/|$))*")
				i++ // the slash is part of the expression
			default:
				b.WriteString("[^/]*")
			}
		case c == '?' && question:
			b.WriteByte('.')
		case strings.IndexByte(`\.+*?()|[]{}^$`, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('$')
	return b.String()
}
