package deploy

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// frame finds "module:line:column" in a stack line or a start error. The runtime
// writes module names with or without its own prefix (workerd fact sheet, section 1).
var frame = regexp.MustCompile(`(?:file:///(?:bundle/)?)?([A-Za-z0-9_$@.+~ /-]+?\.[A-Za-z]{1,6}):(\d+):(\d+)`)

// sourcePlace finds the first place in text (a stack, a start error) that lies in the
// artifact's own source, as "file:line:column", all counting from 1; "" if none does.
// A place inside a package is only taken when there is no better one.
func sourcePlace(a *Artifact, text string) string {
	const maxFrames = 64
	inPackage := ""
	maps := map[string]*sourceMap{}
	for _, m := range frame.FindAllStringSubmatch(text, maxFrames) {
		module := moduleIn(a, m[1])
		line, err1 := strconv.Atoi(m[2])
		col, err2 := strconv.Atoi(m[3])
		if err1 != nil || err2 != nil {
			continue
		}
		sm, seen := maps[module]
		if !seen {
			sm = parseSourceMap(a.SourceMap(module))
			maps[module] = sm
		}
		place := sm.original(line, col)
		if place == "" && sm == nil && isModule(a, module) {
			place = fmt.Sprintf("%s:%d:%d", module, line, col) // uploaded as it was written
		}
		switch {
		case place == "":
		case !strings.Contains(place, "node_modules/"):
			return place
		case inPackage == "":
			inPackage = place
		}
	}
	return inPackage
}

// moduleIn finds the module's name in what stands before ":line:column": in "at
// index.js" and "at async index.js" it is the last word, but a name may hold spaces.
func moduleIn(a *Artifact, text string) string {
	name := strings.TrimPrefix(strings.TrimSpace(text), "./")
	if isModule(a, name) {
		return name
	}
	return strings.TrimPrefix(name[strings.LastIndexByte(name, ' ')+1:], "./")
}

func isModule(a *Artifact, name string) bool {
	for _, m := range a.Modules {
		if strings.TrimPrefix(m.Name, "./") == name && m.Type != TypeSourceMap {
			return true
		}
	}
	return false
}

// sourceMap is a decoded source map, revision 3: segments by generated line.
type sourceMap struct {
	sources []string
	lines   [][]segment
}

// segment says that from generated column on (0-based) the code stems from that place
// of a source (line and col 0-based).
type segment struct{ generated, source, line, col int }

// parseSourceMap decodes a map; nil for none or a broken one. An indexed map
// ("sections") is not made by our bundler and is not read.
func parseSourceMap(raw []byte) *sourceMap {
	var in struct {
		Version    int      `json:"version"`
		SourceRoot string   `json:"sourceRoot"`
		Sources    []string `json:"sources"`
		Mappings   string   `json:"mappings"`
	}
	if len(raw) == 0 || json.Unmarshal(raw, &in) != nil || in.Version != 3 {
		return nil
	}
	sm := &sourceMap{sources: in.Sources}
	var source, line, col int
	for text := range strings.SplitSeq(in.Mappings, ";") {
		var segments []segment
		generated := 0
		for field := range strings.SplitSeq(text, ",") {
			v, ok := decodeVLQ(field)
			if !ok {
				return nil
			}
			if len(v) == 0 {
				continue
			}
			generated += v[0]
			if len(v) < 4 {
				continue
			}
			source, line, col = source+v[1], line+v[2], col+v[3]
			segments = append(segments, segment{generated, source, line, col})
		}
		sm.lines = append(sm.lines, segments)
	}
	return sm
}

// original maps a generated place (1-based) to "file:line:column" (1-based), or "".
func (sm *sourceMap) original(line, col int) string {
	if sm == nil || line < 1 || line > len(sm.lines) {
		return ""
	}
	var best *segment
	for i := range sm.lines[line-1] {
		s := &sm.lines[line-1][i]
		if s.generated > col-1 {
			break
		}
		best = s
	}
	if best == nil || best.source < 0 || best.source >= len(sm.sources) || best.line < 0 || best.col < 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", sm.sources[best.source], best.line+1, best.col+1)
}

const vlqAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// decodeVLQ decodes one mapping field: base64 digits of 5 bits, low first, the sixth
// bit saying that more follow, the lowest bit of a number being its sign.
func decodeVLQ(field string) ([]int, bool) {
	var out []int
	value, shift := 0, 0
	for i := range len(field) {
		d := strings.IndexByte(vlqAlphabet, field[i])
		if d < 0 || shift > 30 {
			return nil, false
		}
		value |= (d & 31) << shift
		if d&32 != 0 {
			shift += 5
			continue
		}
		n := value >> 1
		if value&1 != 0 {
			n = -n
		}
		out = append(out, n)
		value, shift = 0, 0
	}
	return out, shift == 0
}
