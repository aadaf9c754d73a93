package tools

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxForeign bounds a text that a stranger wrote (what a Worker answered, an exception),
// in runes.
const maxForeign = 400

// foreign makes a stranger's text fit to be shown to a model: cut to size, and without
// the characters that a person who reads along would not see but a model would (escape
// sequences, direction marks, Unicode tags). What it says stays data: the tools'
// descriptions and the fields' names say whose words these are.
func foreign(s string) string { return clip(tame(s), maxForeign) }

// tame takes out what only a model would see.
func tame(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\u200d': // the last one joins emoji
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Co, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// clip cuts s to n runes and shows that it did.
func clip(s string, n int) string {
	if len(s) <= n || utf8.RuneCountInString(s) <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i] + "…"
		}
		n--
	}
	return s
}
