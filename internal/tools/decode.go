package tools

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// decodeArgs reads the arguments of a call into a struct, strictly: an argument that
// the tool does not take, a wrong type, a missing or a doubled one is an *deploy.Error
// that names it by its path, e.g. files[2].content. null counts as not given, since
// clients send it for optional arguments.
func decodeArgs(tool string, raw []byte, into any) error {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		raw = []byte("{}")
	}
	if !utf8.Valid(raw) || loneSurrogate(raw) {
		return deploy.Errorf(deploy.CodeInvalidArgument,
			"Send text as UTF-8; send the content of a binary file with encoding: base64.",
			"the arguments hold text that is not valid Unicode")
	}
	d := &decoder{tool: tool, json: json.NewDecoder(bytes.NewReader(raw))}
	d.json.UseNumber()
	if raw[0] != '{' {
		return d.wrong("arguments", "an object", kindOfByte(raw[0]))
	}
	if _, err := d.value("", reflect.ValueOf(into).Elem()); err != nil {
		return err
	}
	if d.json.More() {
		return d.broken()
	}
	return d.unknownError()
}

// decoder walks one JSON value. Unknown arguments are collected, so that one refusal
// names them all.
type decoder struct {
	tool    string
	json    *json.Decoder
	unknown []unknownArg
}

type unknownArg struct {
	path string
	fit  string   // the closest known one, with its path; may be ""
	all  []string // what is known there
}

// value reads one value into v; given is false for null.
func (d *decoder) value(path string, v reflect.Value) (given bool, err error) {
	tok, err := d.json.Token()
	if err != nil {
		return false, d.broken()
	}
	if tok == nil {
		return false, nil
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		if tok == json.Delim('{') {
			return true, d.object(path, v)
		}
	case reflect.Slice:
		if tok == json.Delim('[') {
			return true, d.list(path, v)
		}
	case reflect.String:
		if s, ok := tok.(string); ok {
			v.SetString(s)
			return true, nil
		}
	case reflect.Bool:
		if b, ok := tok.(bool); ok {
			v.SetBool(b)
			return true, nil
		}
	case reflect.Int:
		if n, ok := tok.(json.Number); ok {
			return true, d.integer(path, n, v)
		}
	}
	return false, d.wrong(path, goodKind(v.Kind()), kindOfToken(tok))
}

func (d *decoder) object(path string, v reflect.Value) error {
	fields := fieldsOf(v.Type())
	seen, given := map[string]bool{}, map[string]bool{}
	for d.json.More() {
		tok, err := d.json.Token()
		if err != nil {
			return d.broken()
		}
		key, ok := tok.(string)
		if !ok {
			return d.broken()
		}
		if seen[key] {
			return d.invalid("Give "+clip(join(path, key), 80)+" once.", "%s is given twice", clip(join(path, key), 80))
		}
		seen[key] = true
		if given[key], err = d.field(path, key, fields, v); err != nil {
			return err
		}
	}
	if _, err := d.json.Token(); err != nil { // the closing brace
		return d.broken()
	}
	for _, f := range fields {
		if f.required && !given[f.name] {
			at := join(path, f.name)
			return d.invalid(fmt.Sprintf("Call %s again with %s.", d.tool, at), "%s is missing", at)
		}
	}
	return nil
}

func (d *decoder) field(path, key string, fields []field, v reflect.Value) (given bool, err error) {
	for _, f := range fields {
		if f.name != key {
			continue
		}
		at := join(path, key)
		target := v.FieldByIndex(f.index)
		if given, err = d.value(at, target); err != nil {
			return false, err
		}
		return given, d.allowed(at, f, target)
	}
	if len(d.unknown) < 8 {
		u := unknownArg{path: clip(join(path, key), 80)}
		for _, f := range fields {
			u.all = append(u.all, f.name)
		}
		if fit := closest(key, u.all); fit != "" {
			u.fit = join(path, fit)
		}
		d.unknown = append(d.unknown, u)
	}
	return false, d.skip()
}

func (d *decoder) allowed(at string, f field, v reflect.Value) error {
	if len(f.enum) == 0 || v.Kind() != reflect.String || v.String() == "" {
		return nil
	}
	for _, e := range f.enum {
		if e == v.String() {
			return nil
		}
	}
	return d.invalid(fmt.Sprintf("Give %s as one of: %s.", at, strings.Join(f.enum, ", ")),
		"%s can't be %q", at, clip(v.String(), 40))
}

func (d *decoder) list(path string, v reflect.Value) error {
	for i := 0; d.json.More(); i++ {
		v.Grow(1)
		v.SetLen(i + 1)
		at := fmt.Sprintf("%s[%d]", path, i)
		given, err := d.value(at, v.Index(i))
		if err == nil && !given {
			err = d.wrong(at, goodKind(v.Type().Elem().Kind()), "null")
		}
		if err != nil {
			return err
		}
	}
	if _, err := d.json.Token(); err != nil { // the closing bracket
		return d.broken()
	}
	return nil
}

func (d *decoder) integer(path string, n json.Number, v reflect.Value) error {
	i, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil { // 200.0 and 2e2 are whole numbers too
		f, ferr := n.Float64()
		if ferr != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			return d.invalid("Give "+path+" as a whole number.", "%s must be a whole number", path)
		}
		i = int64(f)
	}
	v.SetInt(i)
	return nil
}

// skip passes over one value of any kind.
func (d *decoder) skip() error {
	for depth := 0; ; {
		tok, err := d.json.Token()
		if err != nil {
			return d.broken()
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

func (d *decoder) unknownError() error {
	if len(d.unknown) == 0 {
		return nil
	}
	var message, fix []string
	for _, u := range d.unknown {
		text := strconv.Quote(u.path)
		if u.fit != "" {
			text += " (did you mean " + strconv.Quote(u.fit) + "?)"
			fix = append(fix, u.fit+" instead of "+u.path)
		} else {
			fix = append(fix, "without "+u.path)
		}
		message = append(message, text)
	}
	return &deploy.Error{
		Code:    deploy.CodeUnknownArgument,
		Message: d.tool + " does not take " + strings.Join(message, ", "),
		Next: fmt.Sprintf("Call %s again with %s. Known here: %s.",
			d.tool, strings.Join(fix, ", "), strings.Join(d.unknown[0].all, ", ")),
	}
}

func (d *decoder) wrong(path, want, got string) error {
	next := fmt.Sprintf("Call %s again with %s as %s.", d.tool, path, want)
	if got == "a string" {
		next += " Send the value itself, not a string that holds it."
	}
	return d.invalid(next, "%s must be %s, not %s", path, want, got)
}

func (d *decoder) invalid(next, format string, args ...any) error {
	return deploy.Errorf(deploy.CodeInvalidArgument, next, format, args...)
}

func (d *decoder) broken() error {
	return d.invalid(fmt.Sprintf("Call %s again with one JSON object as its arguments.", d.tool),
		"the arguments are not valid JSON")
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func goodKind(k reflect.Kind) string {
	switch k {
	case reflect.Struct:
		return "an object"
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	default:
		return "a string"
	}
}

func kindOfToken(tok json.Token) string {
	switch t := tok.(type) {
	case string:
		return "a string"
	case bool:
		return "true or false"
	case json.Number:
		return "a number"
	case json.Delim:
		return kindOfByte(t.String()[0])
	}
	return "null"
}

func kindOfByte(b byte) string {
	switch b {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	}
	return "a number"
}

// loneSurrogate tells whether raw has a \u escape of half a surrogate pair, which
// encoding/json would silently turn into U+FFFD: a file would not be what was sent.
func loneSurrogate(raw []byte) bool {
	for i := 0; i+1 < len(raw); i++ {
		next := bytes.IndexByte(raw[i:], '\\')
		if next < 0 || i+next+1 >= len(raw) {
			return false
		}
		if i += next + 1; raw[i] != 'u' {
			continue
		}
		r, ok := hex4(raw, i+1)
		if !ok {
			return false // not JSON; the decoder says so
		}
		i += 4
		switch {
		case r >= 0xDC00 && r < 0xE000:
			return true
		case r >= 0xD800 && r < 0xDC00:
			low, ok := uint64(0), false
			if i+2 < len(raw) && raw[i+1] == '\\' && raw[i+2] == 'u' {
				low, ok = hex4(raw, i+3)
			}
			if !ok || low < 0xDC00 || low >= 0xE000 {
				return true
			}
			i += 6
		}
	}
	return false
}

func hex4(raw []byte, at int) (uint64, bool) {
	if at+4 > len(raw) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(raw[at:at+4]), 16, 32)
	return n, err == nil
}
