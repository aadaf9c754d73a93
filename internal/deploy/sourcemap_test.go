package deploy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// testMap is a source map under construction: an encoder of its own, written from the
// format's description, so that a mistake of the decoder is not repeated here.
type testMap struct {
	sources []string
	rows    []row
}

type row struct{ genLine, genCol, source, line, col int } // genLine from 1, the others from 0

func newMap(sources ...string) *testMap { return &testMap{sources: sources} }

func (m *testMap) add(genLine, genCol, source, line, col int) {
	m.rows = append(m.rows, row{genLine, genCol, source, line, col})
}

func (m *testMap) json() []byte {
	var b strings.Builder
	at, prev := 1, row{}
	first := true
	for _, r := range m.rows {
		for ; at < r.genLine; at++ {
			b.WriteByte(';')
			prev.genCol, first = 0, true
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		for _, delta := range []int{r.genCol - prev.genCol, r.source - prev.source, r.line - prev.line, r.col - prev.col} {
			b.WriteString(vlq(delta))
		}
		prev = r
	}
	out, err := json.Marshal(map[string]any{"version": 3, "sources": m.sources, "mappings": b.String(), "names": []string{}})
	if err != nil {
		panic(err)
	}
	return out
}

func vlq(n int) string {
	u := uint(n) << 1
	if n < 0 {
		u = uint(-n)<<1 | 1
	}
	var out []byte
	for {
		digit := u % 32
		u /= 32
		if u > 0 {
			digit += 32
		}
		out = append(out, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[digit])
		if u == 0 {
			return string(out)
		}
	}
}

func TestVLQAgainstTheFormatsExamples(t *testing.T) {
	for n, want := range map[int]string{0: "A", 1: "C", -1: "D", 15: "e", 16: "gB", -16: "hB", 123: "2H", 123456789: "qxmvrH"} {
		if got := vlq(n); got != want {
			t.Errorf("vlq(%d) = %s, want %s", n, got, want)
		}
	}
}

func mapped(m []byte) *deploy.Artifact {
	return &deploy.Artifact{MainModule: "index.js", Modules: []deploy.Module{
		{Name: "index.js", Type: deploy.TypeESModule},
		{Name: "index.js.map", Type: deploy.TypeSourceMap, Content: m},
		{Name: "./plain.mjs", Type: deploy.TypeESModule},
	}}
}

func TestSourcePlaces(t *testing.T) {
	m := newMap("src/app.ts", "node_modules/lib/x.js")
	m.add(1, 0, 0, 0, 0)
	m.add(1, 20, 1, 4, 1)
	m.add(3, 2, 0, 10, 2)
	for stack, want := range map[string]string{
		"Error: x\n    at Object.fetch (index.js:3:9)":                         "src/app.ts:11:3",
		"Error: x\n    at index.js:3:9":                                        "src/app.ts:11:3",
		"Error: x\n    at async index.js:3:9":                                  "src/app.ts:11:3",
		"Error: x\n    at async fetch (file:///bundle/index.js:3:3)":           "src/app.ts:11:3",
		"Uncaught SyntaxError: nope\n  at file:///bundle/index.js:1:5":         "src/app.ts:1:1",
		"Uncaught Error: boom\n  at file:///index.js:1:1\n":                    "src/app.ts:1:1",
		"Error: x\n    at f (index.js:1:22)\n    at g (index.js:3:9)":          "src/app.ts:11:3", // not in the package
		"Error: x\n    at f (index.js:1:22)":                                   "node_modules/lib/x.js:5:2",
		"Error: x\n    at f (index.js:3:1)":                                    "", // before the line's first segment
		"Error: x\n    at f (index.js:2:1)":                                    "",
		"Error: x\n    at f (index.js:99999999999999999999:1)":                 "",
		"Error: x\n    at f (other.js:3:9)":                                    "",
		"Error: x\n    at f (node:internal/index.js:3:9)":                      "",
		"Error: x\n    at f (other.js:1:1)\n    at plain (plain.mjs:7:8)":      "plain.mjs:7:8",
		"Error: no place here":                                                 "",
		"Error: cannot read index.js:3:9 in the text\n    at f (index.js:1:1)": "src/app.ts:11:3",
		"": "",
	} {
		if got := deploy.SourcePlace(mapped(m.json()), stack); got != want {
			t.Errorf("%q is at %q, want %q", stack, got, want)
		}
	}
}

// What is encoded is found again, at every segment and between two of them.
func TestSourceMapRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMap("a.ts", "b/c.ts", "d e.ts")
		line, col := 1, 0
		for range rapid.IntRange(1, 60).Draw(t, "segments") {
			if skip := rapid.IntRange(0, 3).Draw(t, "lines"); skip > 0 {
				line, col = line+skip, 0
			}
			col += rapid.IntRange(1, 5000).Draw(t, "columns")
			m.add(line, col, rapid.IntRange(0, 2).Draw(t, "source"), rapid.IntRange(0, 1<<20).Draw(t, "line"), rapid.IntRange(0, 1<<20).Draw(t, "col"))
		}
		art := mapped(m.json())
		for i, r := range m.rows {
			want := fmt.Sprintf("%s:%d:%d", m.sources[r.source], r.line+1, r.col+1)
			end := r.genCol + 10_000 // the last of a line reaches to its end
			if i+1 < len(m.rows) && m.rows[i+1].genLine == r.genLine {
				end = m.rows[i+1].genCol - 1
			}
			for _, c := range []int{r.genCol, (r.genCol + end) / 2, end} {
				if got := deploy.SourcePlace(art, fmt.Sprintf("Error\n    at f (index.js:%d:%d)", r.genLine, c+1)); got != want {
					t.Fatalf("index.js:%d:%d is at %s, want %s", r.genLine, c+1, got, want)
				}
			}
		}
	})
}

func FuzzSourcePlace(f *testing.F) {
	m := newMap("src/app.ts")
	m.add(3, 2, 0, 10, 2)
	f.Add(m.json(), "Error\n    at f (index.js:3:9)")
	f.Add([]byte(`{"version":3,"sources":["a"],"mappings":"gggggggggggggC,;;D"}`), "index.js:1:1")
	f.Add([]byte(`{"version":3,"sources":[],"mappings":"AAAA,//////AAAA"}`), "at index.js:1:1 at index.js:-1:0")
	f.Fuzz(func(t *testing.T, raw []byte, stack string) {
		got := deploy.SourcePlace(mapped(raw), stack)
		if got != "" && strings.Count(got, ":") < 2 {
			t.Errorf("%q is no place", got)
		}
	})
}
