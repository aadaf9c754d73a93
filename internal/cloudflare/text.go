package cloudflare

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// cut shortens s to at most n bytes, at a rune's end, and mends what is not UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
		for i := 0; i < utf8.UTFMax && len(s) > 0; i++ {
			if r, size := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || size != 1 {
				break
			}
			s = s[:len(s)-1]
		}
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// clean drops control characters from a stranger's text but line ends and tabs:
// escape sequences have no business in a terminal or a log.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, s)
}
