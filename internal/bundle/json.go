package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/tailscale/hujson"
)

// node is a JSON value whose objects keep the order of their keys, which package.json
// "exports" and tsconfig "paths" depend on. It is nil, bool, json.Number, string,
// []node or *object.
type node any

type object struct {
	keys   []string
	values map[string]node
}

func (o *object) get(key string) node {
	if o == nil {
		return nil
	}
	return o.values[key]
}

func (o *object) text(key string) string {
	s, _ := o.get(key).(string)
	return s
}

const maxJSONDepth = 200

var errJSONDepth = errors.New("nested too deeply")

// parseJSON reads strict JSON; a byte order mark is passed over.
func parseJSON(raw []byte) (node, error) {
	dec := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))))
	dec.UseNumber()
	v, err := parseValue(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the value")
	}
	return v, nil
}

// parseJSONC reads JSON with comments and trailing commas.
func parseJSONC(raw []byte) (node, error) {
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	if tooDeep(raw) {
		return nil, errJSONDepth
	}
	std, err := hujson.Standardize(bytes.Clone(raw))
	if err != nil {
		return nil, err
	}
	return parseJSON(std)
}

// tooDeep looks for nesting that hujson, which calls itself for each level, could not
// come back from: Go ends the whole process when the stack is used up.
func tooDeep(raw []byte) bool {
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '{' || c == '[':
			if depth++; depth > maxJSONDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		case c == '"':
			for i++; i < len(raw) && raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
		case c == '/' && bytes.HasPrefix(raw[i:], []byte("//")):
			for i < len(raw) && raw[i] != '\n' {
				i++
			}
		case c == '/' && bytes.HasPrefix(raw[i:], []byte("/*")):
			end := bytes.Index(raw[i+2:], []byte("*/"))
			if end < 0 {
				return false // an error, at this place
			}
			i += end + 3
		}
	}
	return false
}

func parseValue(dec *json.Decoder, depth int) (node, error) {
	if depth > maxJSONDepth {
		return nil, errJSONDepth
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok {
	case json.Delim('{'):
		o := &object{values: map[string]node{}}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			name, _ := key.(string)
			v, err := parseValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			if _, again := o.values[name]; !again {
				o.keys = append(o.keys, name)
			}
			o.values[name] = v
		}
		_, err = dec.Token()
		return o, err
	case json.Delim('['):
		list := []node{}
		for dec.More() {
			v, err := parseValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = dec.Token()
		return list, err
	}
	return tok, nil
}

// plain turns a node into what encoding/json would have given: maps and slices.
func plain(n node) any {
	switch v := n.(type) {
	case *object:
		out := make(map[string]any, len(v.keys))
		for _, k := range v.keys {
			out[k] = plain(v.values[k])
		}
		return out
	case []node:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = plain(e)
		}
		return out
	}
	return n
}

func stringList(n node) []string {
	list, _ := n.([]node)
	var out []string
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}
