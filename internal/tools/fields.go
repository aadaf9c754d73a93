package tools

import (
	"reflect"
	"strings"
	"time"
)

// field is one JSON field of an input or output struct. Input schemas, output schemas
// and the argument decoder all read the same description, so that they can't disagree.
type field struct {
	name     string
	index    []int
	typ      reflect.Type // without the pointer
	required bool
	desc     string   // tag desc: what the model reads
	enum     []string // tag enum: the allowed values
	loose    bool     // tag schema:"loose": the schema says no more than that it is an object
}

// fieldsOf lists the fields of a struct in their order; those of embedded structs stand
// where these are embedded. A field is required unless its json tag says omitempty or
// omitzero.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for f := range t.Fields() {
		if f.Anonymous {
			for _, inner := range fieldsOf(f.Type) {
				inner.index = append([]int{f.Index[0]}, inner.index...)
				out = append(out, inner)
			}
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		one := field{
			name: name, index: f.Index, typ: f.Type, desc: f.Tag.Get("desc"),
			loose: f.Tag.Get("schema") == "loose", required: !strings.Contains(options, "omit"),
		}
		if one.typ.Kind() == reflect.Pointer {
			one.typ = one.typ.Elem()
		}
		if e := f.Tag.Get("enum"); e != "" {
			one.enum = strings.Split(e, ",")
		}
		out = append(out, one)
	}
	return out
}

func isTime(t reflect.Type) bool { return t == reflect.TypeFor[time.Time]() }
