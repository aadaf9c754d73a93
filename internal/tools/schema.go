package tools

import (
	"bytes"
	"encoding/json"
	"reflect"
)

// schemaOf derives a JSON schema from a struct: flat types only, properties in the
// order of the fields, no unions, no $ref, no $schema. mcp-go's own derivation was not
// taken: it writes slices and pointers as unions with null and closes every nested
// object, both of which some clients drop a tool for, and it costs three times as many
// tokens.
//
// An input schema says what is required and has additionalProperties: false at the top
// level, so that hosts refuse a made-up argument before it is sent; our own strictness is
// the decoder's. An output schema says neither, and a field tagged schema:"loose" is an
// object there and no more: each tool's tokens are spent on what a model has to know.
func inputSchema(t reflect.Type) json.RawMessage {
	var b bytes.Buffer
	writeObject(&b, t, "", true)
	b.Truncate(b.Len() - 1)
	b.WriteString(`,"additionalProperties":false}`)
	return b.Bytes()
}

func outputSchema(t reflect.Type) json.RawMessage {
	var b bytes.Buffer
	writeObject(&b, t, "", false)
	return b.Bytes()
}

func writeObject(b *bytes.Buffer, t reflect.Type, desc string, input bool) {
	b.WriteString(`{"type":"object"`)
	writeString(b, `,"description":`, desc)
	b.WriteString(`,"properties":{`)
	var required []string
	for i, f := range fieldsOf(t) {
		if i > 0 {
			b.WriteByte(',')
		}
		writeString(b, "", f.name)
		b.WriteByte(':')
		writeType(b, f, input)
		if f.required {
			required = append(required, f.name)
		}
	}
	b.WriteByte('}')
	if input && len(required) > 0 {
		b.WriteString(`,"required":`)
		writeJSON(b, required)
	}
	b.WriteByte('}')
}

func writeType(b *bytes.Buffer, f field, input bool) {
	if f.typ.Kind() == reflect.Struct && !isTime(f.typ) && !f.loose {
		writeObject(b, f.typ, f.desc, input)
		return
	}
	b.WriteString(`{"type":"` + jsonType(f.typ) + `"`)
	writeString(b, `,"description":`, f.desc)
	if len(f.enum) > 0 {
		b.WriteString(`,"enum":`)
		writeJSON(b, f.enum)
	}
	if f.typ.Kind() == reflect.Slice {
		b.WriteString(`,"items":`)
		writeType(b, field{typ: f.typ.Elem(), loose: f.loose}, input)
	}
	b.WriteByte('}')
}

// jsonType names the JSON type of a Go type; a struct or a map is an object. A time has
// no format: some validators refuse formats that they do not know.
func jsonType(t reflect.Type) string {
	if isTime(t) {
		return "string"
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "array"
	default:
		return "object"
	}
}

// writeString writes key and then s as JSON; with a key it writes nothing for an empty s.
func writeString(b *bytes.Buffer, key, s string) {
	if s == "" && key != "" {
		return
	}
	b.WriteString(key)
	writeJSON(b, s)
}

// writeJSON writes v without escaping <, > and &, and without the encoder's line end.
// Strings and lists of strings always encode.
func writeJSON(b *bytes.Buffer, v any) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a string or a list of strings always encodes
	b.Truncate(b.Len() - 1)
}
