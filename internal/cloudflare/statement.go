package cloudflare

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// codeSQL is D1's refusal of a statement.
const codeSQL = 7500

// statement is one statement of a file of SQL.
type statement struct {
	text string // with its semicolon, without comments around it
	line int    // on which text begins, from 1
	end  int    // offset after it, in bytes
}

var sqlToken = regexp.MustCompile("(?s)--[^\n]*|/\\*.*?(?:\\*/|$)|'[^']*'?|\"[^\"]*\"?|`[^`]*`?|\\[[^\\]]*\\]?|[\\pL_][\\pL\\pN_$]*|\\s+|.")

// statements cuts SQL at the semicolons that end a statement, which those of a
// trigger's body don't.
func statements(sql string) (out []statement) {
	begin, until, trigger, depth, count, last := -1, 0, false, 0, 0, ""
	done := func(end int) {
		if begin >= 0 {
			out = append(out, statement{sql[begin:until], 1 + strings.Count(sql[:begin], "\n"), end})
		}
		begin, trigger, depth, count, last = -1, false, 0, 0, ""
	}
	for _, at := range sqlToken.FindAllStringIndex(sql, -1) {
		token := sql[at[0]:at[1]]
		switch {
		case strings.HasPrefix(token, "--"), strings.HasPrefix(token, "/*"), strings.TrimSpace(token) == "":
			continue
		}
		until = at[1]
		switch {
		case token == ";" && (!trigger || depth <= 0 && last == "END"):
			done(at[1])
			continue
		case begin < 0:
			begin = at[0]
		}
		last = strings.ToUpper(token)
		switch count++; {
		case last == "TRIGGER" && count <= 3: // CREATE TRIGGER, CREATE TEMP TRIGGER
			trigger = true
		case last == "BEGIN" || last == "CASE":
			depth++
		case last == "END":
			depth--
		}
	}
	done(len(sql))
	return out
}

// probeEnd is a statement that always fails, and by whose failure it is known that
// all before it succeeded.
const (
	probeTable = "hourglass_no_such_table"
	probeEnd   = "\nSELECT * FROM " + probeTable + ";"
)

// culprit finds the statement of a migration that the database refuses with err; nil
// when it can't be told. The API does not say which it is, so beginnings of the file are
// tried, each with an end that fails: what runs in one call is one transaction (D1's
// documentation of batches), so that none of them stays.
func (p *preparing) culprit(ctx context.Context, id, sql string, err error) *statement {
	all := statements(sql)
	if codeOf(err) != codeSQL || len(all) == 0 {
		return nil
	}
	// fails tells whether one of the first n statements does, and in the same words.
	fails := func(n int) (failed, known bool) {
		_, tried := p.query(ctx, id, sql[:all[n-1].end]+probeEnd, nil)
		if tried == nil || codeOf(tried) != codeSQL {
			return false, false
		}
		text := deploy.AsError(tried).Message
		return !strings.Contains(text, probeTable), strings.Contains(text, probeTable) || text == deploy.AsError(err).Message
	}
	good, bad := 0, len(all)
	if failed, known := fails(bad); !failed || !known {
		return nil // it is the record that fails, or it changed meanwhile
	}
	for bad-good > 1 {
		middle := (good + bad) / 2
		failed, known := fails(middle)
		switch {
		case !known:
			return nil
		case failed:
			bad = middle
		default:
			good = middle
		}
	}
	return &all[bad-1]
}

// unfinished tells whether the last statement of a file does not end, so that the record
// of the file, which comes after it, was taken for a part of it.
func unfinished(sql string) bool {
	all := statements(sql)
	return len(all) > 0 && !strings.HasSuffix(all[len(all)-1].text, ";")
}

// place says where in a migration's file the refused statement is, and which it is.
func (s *statement) place(message string) (line int, words string) {
	line = s.line
	if word := refusedWord(message); word != "" {
		if in := lineOf(s.text, word); in > 0 {
			line += in - 1
		}
	}
	first, _, more := strings.Cut(s.text, "\n")
	if more || len(first) > maxStatementWords {
		first = cut(strings.TrimSpace(first), maxStatementWords) + " …"
	}
	return line, fmt.Sprintf("at the statement %q", clean(first))
}

const maxStatementWords = 120 // bytes of a statement in a message
