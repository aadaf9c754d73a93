package sandbox

import "strings"

// splitSQL cuts a text into its statements, without the semicolons that end them. It
// knows quotes, comments and the bodies of triggers, which hold semicolons of their
// own; text that is only a comment is no statement.
func splitSQL(text string) []string {
	var out []string
	s := sqlScan{text: text}
	for s.at < len(text) {
		from := s.at
		if end, ok := s.statement(); ok {
			out = append(out, text[from:end])
		}
	}
	return out
}

type sqlScan struct {
	text string
	at   int
}

// statement goes past one statement; it tells where it ends and whether there is one.
func (s *sqlScan) statement() (end int, found bool) {
	var words []string // the first ones, in upper case, to know a trigger by
	depth := 0         // of CASE and BEGIN inside a trigger
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case s.skipComment():
		case c == '\'' || c == '"' || c == '`' || c == '[':
			found = true
			s.skipQuoted(c)
		case c == ';':
			end = s.at
			s.at++
			if !isTrigger(words) || depth <= 0 && strings.HasSuffix(lastWord(words), "END") {
				return end, found
			}
			words = words[:min(len(words), maxWords)]
		case isWordByte(c):
			found = true
			from := s.at
			for s.at < len(s.text) && isWordByte(s.text[s.at]) {
				s.at++
			}
			word := strings.ToUpper(s.text[from:s.at])
			switch {
			case !isTrigger(words): // its CREATE may come from anywhere
			case word == "CASE" || word == "BEGIN":
				depth++
			case word == "END":
				depth--
			}
			if len(words) > maxWords {
				words[maxWords] = word // only the last one counts from here on
			} else {
				words = append(words, word)
			}
		default:
			if c != ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' {
				found = true
			}
			s.at++
		}
	}
	return len(s.text), found
}

const maxWords = 4 // CREATE TEMPORARY TRIGGER, and one more

func isTrigger(words []string) bool {
	if len(words) < 2 || words[0] != "CREATE" {
		return false
	}
	return words[1] == "TRIGGER" || len(words) > 2 && (words[1] == "TEMP" || words[1] == "TEMPORARY") && words[2] == "TRIGGER"
}

func lastWord(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func (s *sqlScan) skipComment() bool {
	rest := s.text[s.at:]
	var end int
	switch {
	case strings.HasPrefix(rest, "--"):
		end = strings.IndexByte(rest, '\n')
	case strings.HasPrefix(rest, "/*"):
		if end = strings.Index(rest[2:], "*/"); end >= 0 {
			end += 3
		}
	default:
		return false
	}
	if end < 0 {
		s.at = len(s.text)
	} else {
		s.at += end + 1
	}
	return true
}

// skipQuoted goes past a quoted text; a doubled quote in it is two texts in a row,
// which comes to the same.
func (s *sqlScan) skipQuoted(open byte) {
	if open == '[' {
		open = ']'
	}
	end := strings.IndexByte(s.text[s.at+1:], open)
	if end < 0 {
		s.at = len(s.text)
		return
	}
	s.at += end + 2
}
