package policy

import (
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tailscale/hujson"
)

// expression is a condition in CEL as it stands in the file: one string, or a list of
// strings, each a line. It remembers where each of its characters came from, so that
// an error in the condition is told at its place in the file, past escapes and quotes.
type expression struct {
	text string
	at   int // where it begins in the file
	// from has the byte offset in the file for each character, and one for the end.
	from []int
}

func (e *expression) decode(d *document, v hujson.Value) {
	e.at = v.StartOffset
	switch t := v.Value.(type) {
	case hujson.Literal:
		if t.Kind() == '"' {
			e.add(d.raw, v)
			return
		}
	case *hujson.Array:
		if len(t.Elements) > 0 && e.lines(d, t) {
			return
		}
	}
	d.mistake(v.StartOffset, "when must be a string with a condition, or a list of strings, its lines")
}

func (e *expression) lines(d *document, list *hujson.Array) bool {
	for i, line := range list.Elements {
		lit, ok := line.Value.(hujson.Literal)
		if !ok || lit.Kind() != '"' {
			return false
		}
		if i > 0 {
			e.text += "\n"
			// The end of the line before is already noted: it is the place of the line break.
		}
		e.add(d.raw, line)
	}
	return true
}

// add appends one JSON string.
func (e *expression) add(raw []byte, v hujson.Value) {
	text := []byte(e.text)
	end := v.EndOffset - 1
	for i := v.StartOffset + 1; i < end; {
		e.from = append(e.from, i)
		r, n := unescape(raw[i:end])
		text = utf8.AppendRune(text, r)
		i += n
	}
	e.from = append(e.from, end)
	e.text = string(text)
}

// unescape reads one character of a JSON string, which the parser has found to be right.
func unescape(b []byte) (rune, int) {
	if b[0] != '\\' || len(b) < 2 {
		return utf8.DecodeRune(b)
	}
	switch b[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		if len(b) < 6 {
			return utf8.RuneError, len(b)
		}
		r := hex4(b[2:6])
		if utf16.IsSurrogate(r) && len(b) >= 12 && b[6] == '\\' && b[7] == 'u' {
			if pair := utf16.DecodeRune(r, hex4(b[8:12])); pair != utf8.RuneError {
				return pair, 12
			}
		}
		if utf16.IsSurrogate(r) {
			r = utf8.RuneError
		}
		return r, 6
	}
	return rune(b[1]), 2
}

func hex4(b []byte) rune {
	var r rune
	for _, c := range b {
		switch {
		case c >= 'a':
			c -= 'a' - 10
		case c >= 'A':
			c -= 'A' - 10
		default:
			c -= '0'
		}
		r = r<<4 | rune(c)
	}
	return r
}

// place is where a line (from 1) and a column (from 0, in characters) of the condition
// stand in the file.
func (e *expression) place(line, column int) int {
	if len(e.from) == 0 {
		return e.at
	}
	n := 0
	for _, r := range e.text {
		if line <= 1 {
			break
		}
		if r == '\n' {
			line--
		}
		n++
	}
	return e.from[min(n+max(column, 0), len(e.from)-1)]
}
