package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tailscale/hujson"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// maxFileBytes bounds a policy file and a file of cases.
const maxFileBytes = 1 << 20

// maxNesting bounds how deep brackets may be nested: the parser descends by recursion.
const maxNesting = 1000

// document is one JSONC file being read. It collects every mistake that it meets, with
// its place, so that one look at the file mends them all.
type document struct {
	name string
	raw  []byte
	rows []row
}

// row is one mistake: a byte offset in the file, and a sentence.
type row struct {
	at         int
	text, hint string
}

func (d *document) mistake(at int, format string, args ...any) {
	d.rows = append(d.rows, row{at: at, text: fmt.Sprintf(format, args...)})
}

func (d *document) hinted(at int, hint, format string, args ...any) {
	d.rows = append(d.rows, row{at: at, text: fmt.Sprintf(format, args...), hint: hint})
}

// place gives line and column of a byte offset, both from 1, columns in characters.
func (d *document) place(at int) (line, column int) {
	before := d.raw[:min(max(at, 0), len(d.raw))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return 1 + bytes.Count(before, []byte("\n")), 1 + utf8.RuneCount(before[start:])
}

// err is nil, or everything that is wrong with the file.
func (d *document) err(what string) error {
	if len(d.rows) == 0 {
		return nil
	}
	slices.SortStableFunc(d.rows, func(a, b row) int { return cmp.Compare(a.at, b.at) })
	e := &deploy.Error{Code: deploy.CodeInvalidArgument, Next: "Correct the places that are named in " + d.name + ", then try again."}
	for _, r := range d.rows {
		line, column := d.place(r.at)
		text := r.text
		if r.hint != "" {
			text += " (" + r.hint + ")"
		}
		e.Diagnostics = append(e.Diagnostics, deploy.Diagnostic{
			Severity: "error", File: d.name, Line: line, Column: column, Text: text, Suggestion: r.hint,
		})
	}
	first := e.Diagnostics[0]
	e.Message = fmt.Sprintf("the %s can't be used: %s:%d:%d: %s", what, d.name, first.Line, first.Column, first.Text)
	if n := len(d.rows) - 1; n > 0 {
		e.Message += fmt.Sprintf(" (and %d more)", n)
	}
	return e
}

var hujsonPlace = regexp.MustCompile(`^hujson: line (\d+), column (\d+): `)

// parse reads the file's one value; false when there is none that could be looked at.
func (d *document) parse() (hujson.Value, bool) {
	if len(d.raw) > maxFileBytes {
		d.mistake(0, "the file has %d bytes, more than the %d that are read", len(d.raw), maxFileBytes)
		return hujson.Value{}, false
	}
	d.raw = bytes.TrimPrefix(d.raw, []byte("\xef\xbb\xbf"))
	if i := invalidUTF8(d.raw); i >= 0 {
		d.mistake(i, "the file is not UTF-8 here")
		return hujson.Value{}, false
	}
	depth := 0
	for i, c := range d.raw {
		switch c {
		case '{', '[':
			depth++
		case '}', ']':
			depth = max(0, depth-1)
		}
		if depth > maxNesting {
			d.mistake(i, "nested too deeply")
			return hujson.Value{}, false
		}
	}
	v, err := hujson.Parse(d.raw)
	if err == nil {
		return v, true
	}
	m := hujsonPlace.FindStringSubmatch(err.Error())
	if m == nil {
		d.mistake(0, "%s", err)
		return v, false
	}
	line, _ := strconv.Atoi(m[1])
	column, _ := strconv.Atoi(m[2])
	cause := err
	if inner := errors.Unwrap(err); inner != nil {
		cause = inner
	}
	d.mistake(d.offset(line, column), "this is not JSON with comments: %s", cause)
	return v, false
}

func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// offset is where a line and a column in bytes, both from 1, are.
func (d *document) offset(line, column int) int {
	at := 0
	for ; line > 1; line-- {
		n := bytes.IndexByte(d.raw[at:], '\n')
		if n < 0 {
			return len(d.raw)
		}
		at += n + 1
	}
	return min(at+column-1, len(d.raw))
}

// decodable is a type that reads itself.
type decodable interface {
	decode(d *document, v hujson.Value)
}

// decode reads v into into. Objects become structs, whose fields are named as rules name
// them (factName): unknown keys are refused with the closest known one, and so are keys
// given twice. The tag `need:"yes"` marks a key that must be there.
func (d *document) decode(v hujson.Value, into reflect.Value, what string) {
	if own, ok := reflect.TypeAssert[decodable](into.Addr()); ok {
		own.decode(d, v)
		return
	}
	switch into.Kind() {
	case reflect.Struct:
		if into.Type() == reflect.TypeFor[time.Time]() {
			d.decodeTime(v, into, what)
			return
		}
		d.decodeStruct(v, into, what)
	case reflect.Slice:
		list, ok := v.Value.(*hujson.Array)
		if !ok {
			d.mistake(v.StartOffset, "%s must be a list", what)
			return
		}
		into.Set(reflect.MakeSlice(into.Type(), 0, len(list.Elements))) // an empty list is not none
		for _, e := range list.Elements {
			one := reflect.New(into.Type().Elem()).Elem()
			d.decode(e, one, "each of "+what)
			into.Set(reflect.Append(into, one))
		}
	case reflect.Map:
		d.decodeMap(v, into, what)
	default:
		d.decodeLiteral(v, into, what)
	}
}

func (d *document) decodeLiteral(v hujson.Value, into reflect.Value, what string) {
	lit, _ := v.Value.(hujson.Literal)
	switch {
	case into.Kind() == reflect.String && lit.Kind() == '"':
		into.SetString(lit.String())
	case into.Kind() == reflect.String:
		d.mistake(v.StartOffset, "%s must be a string", what)
	case into.Kind() == reflect.Bool && (lit.Kind() == 't' || lit.Kind() == 'f'):
		into.SetBool(lit.Bool())
	case into.Kind() == reflect.Bool:
		d.mistake(v.StartOffset, "%s must be true or false", what)
	default: // reflect.Int64
		n, err := strconv.ParseInt(string(lit), 10, 64)
		if err != nil {
			d.mistake(v.StartOffset, "%s must be a whole number", what)
		}
		into.SetInt(n)
	}
}

func (d *document) decodeTime(v hujson.Value, into reflect.Value, what string) {
	lit, _ := v.Value.(hujson.Literal)
	t, err := time.Time{}, errors.New("no string")
	if lit.Kind() == '"' {
		t, err = time.Parse(time.RFC3339, lit.String())
	}
	if err != nil {
		d.mistake(v.StartOffset, "%s must be a time such as \"2026-11-24T15:04:05Z\"", what)
		return
	}
	into.Set(reflect.ValueOf(t.UTC()))
}

// decodeMap reads an object whose keys are free.
func (d *document) decodeMap(v hujson.Value, into reflect.Value, what string) {
	into.Set(reflect.MakeMap(into.Type()))
	for _, m := range d.members(v, what) {
		one := reflect.New(into.Type().Elem()).Elem()
		d.decode(m.value, one, fmt.Sprintf("%s.%s", what, m.key))
		into.SetMapIndex(reflect.ValueOf(m.key).Convert(into.Type().Key()), one)
	}
}

func (d *document) decodeStruct(v hujson.Value, into reflect.Value, what string) {
	fields := fieldsOf(into.Type())
	var known []string
	for _, f := range fields {
		known = append(known, f.name)
	}
	seen := map[string]bool{}
	for _, m := range d.members(v, what) {
		i := slices.Index(known, m.key)
		if i < 0 {
			d.hinted(m.at, guess(m.key, known), "%s has no key %q", what, clip(m.key))
			continue
		}
		seen[m.key] = true
		d.decode(m.value, into.Field(fields[i].index), m.key)
	}
	for _, f := range fields {
		if f.needed && !seen[f.name] {
			d.mistake(v.StartOffset, "%s needs the key %q", what, f.name)
		}
	}
}

// member is one key of an object with its value, and where the key stands.
type member struct {
	key   string
	at    int
	value hujson.Value
}

// members are the keys of an object, in order, each once.
func (d *document) members(v hujson.Value, what string) []member {
	o, ok := v.Value.(*hujson.Object)
	if !ok {
		d.mistake(v.StartOffset, "%s must be an object", what)
		return nil
	}
	seen := map[string]bool{}
	var out []member
	for _, m := range o.Members {
		lit, _ := m.Name.Value.(hujson.Literal)
		key := lit.String()
		if seen[key] {
			d.mistake(m.Name.StartOffset, "the key %q is given twice", clip(key))
			continue
		}
		seen[key] = true
		out = append(out, member{key, m.Name.StartOffset, m.Value})
	}
	return out
}

// field is one key that a struct takes.
type field struct {
	name   string
	index  int
	needed bool
}

func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() {
			out = append(out, field{factName(f), i, f.Tag.Get("need") != ""})
		}
	}
	return out
}

// guess is "did you mean", or what there is.
func guess(name string, known []string) string {
	if best := closest(name, known); best != "" {
		return "did you mean " + strconv.Quote(best) + "?"
	}
	if len(known) > 24 {
		return ""
	}
	return "known: " + strings.Join(known, ", ")
}

// clip bounds a stranger's word in a sentence.
func clip(s string) string {
	const most = 120
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}
