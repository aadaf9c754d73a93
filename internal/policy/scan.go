package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// maxFindings bounds what one scan reports: one is enough to refuse, and some more to
// mend several at once.
const maxFindings = 100

// ScannerConfig says what a Scanner leaves out.
type ScannerConfig struct {
	// Allow are fingerprints of findings that the operator lets through (of a Policy:
	// AllowedFindings).
	Allow map[string]string
}

// Scanner finds secrets in artifacts. It is safe for concurrent use.
//
// It looks at everything that becomes public or is readable by whoever owns the account
// later: modules, static files, plain variables, and the sources inside source maps. In
// text it looks for all kinds; in what is binary (compressed pictures, WebAssembly) only
// for kinds with a distinctive beginning. Its time grows with the length of the text
// alone, whatever is in it. What it can't see: secrets that are encoded, compressed, put
// together from pieces, or as simple as a word.
type Scanner struct {
	kinds  []kind
	sets   sets
	words  *finder
	starts []start
	allow  map[string]string
}

var _ deploy.Scanner = (*Scanner)(nil)

// start is one word that the prefilter looks for: a kind's beginning, or what begins
// another way of looking.
type start struct {
	text string
	kind int // index into kinds, or one of the ways below
}

// The ways of looking that are no kind with a fixed beginning.
const (
	wayName = -1 - iota // a secret-like name, which a value may be assigned to
	wayURL              // "://" with a password before the host
	wayPEM              // a private key in armour
	wayBearer
)

// NewScanner makes a Scanner.
func NewScanner(cfg ScannerConfig) *Scanner {
	s := &Scanner{sets: newSets(), allow: maps.Clone(cfg.Allow)}
	s.kinds = slices.Concat(codeKinds(s.sets), cloudKinds(s.sets), serviceKinds(s.sets))
	for i, k := range s.kinds {
		for _, w := range k.starts {
			s.starts = append(s.starts, start{w, i})
		}
	}
	for _, w := range secretNames() {
		s.starts = append(s.starts, start{w, wayName})
	}
	s.starts = append(s.starts, start{"://", wayURL}, start{"-----BEGIN ", wayPEM}, start{"bearer ", wayBearer})
	words := make([]string, len(s.starts))
	for i, w := range s.starts {
		words[i] = strings.ToLower(w.text)
	}
	s.words = newFinder(words)
	return s
}

// Scan implements deploy.Scanner. Findings come in the order of the artifact's parts: a
// secret that stands in a source and in the module that was made of it is told once, at
// its place in the source.
func (s *Scanner) Scan(ctx context.Context, a *deploy.Artifact) ([]deploy.Finding, error) {
	r := &report{scanner: s, seen: map[string]bool{}, sources: map[string]bool{}}
	for _, part := range partsOf(a) {
		if err := ctx.Err(); err != nil {
			return nil, deploy.AsError(err)
		}
		r.part(part)
		if len(r.found) >= maxFindings {
			break
		}
	}
	return r.found, nil
}

// part is one text of an artifact.
type part struct {
	file    string
	content []byte
	// source tells that it is a source inside a source map.
	source bool
	// lines tells that a line "NAME=value" or "name: value" assigns, without quotes.
	lines bool
}

// partsOf lists what of an artifact is looked at: sources first.
func partsOf(a *deploy.Artifact) []part {
	var out, modules []part
	for _, m := range a.Modules {
		if m.Type == deploy.TypeSourceMap {
			if sources, ok := sourcesOf(m.Content); ok {
				out = append(out, sources...)
				continue
			}
		}
		code := m.Type == deploy.TypeESModule || m.Type == deploy.TypeCommonJS
		modules = append(modules, part{file: m.Name, content: m.Content, lines: !code})
	}
	out = append(out, modules...)
	if a.Assets != nil {
		for _, f := range a.Assets.Files {
			out = append(out, part{file: strings.TrimPrefix(f.Path, "/"), content: f.Content, lines: !isScript(f.Path)})
		}
		// _headers and _redirects are answered to everybody, but are no files of the site.
		for _, name := range slices.Sorted(maps.Keys(a.Assets.Config)) {
			if text, ok := a.Assets.Config[name].(string); ok {
				out = append(out, part{file: name, content: []byte(text), lines: true})
			}
		}
	}
	for _, b := range a.Bindings {
		switch b.Type() {
		case "plain_text":
			text, _ := b["text"].(string)
			out = append(out, variable(b.Name(), text)...)
		case "json":
			out = append(out, variables(b.Name(), b["json"], 0)...)
		case "service":
			out = append(out, variables(b.Name()+".props", b["props"], 0)...)
		}
	}
	return out
}

// isScript tells a script of the web by its name: there, what stands without quotes is
// no value.
func isScript(name string) bool {
	for _, ext := range []string{".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".css", ".wasm"} {
		if strings.HasSuffix(strings.ToLower(name), ext) {
			return true
		}
	}
	return false
}

// variable gives one plain variable as an assignment, so that its name counts.
func variable(name, text string) []part {
	if text == "" {
		return nil
	}
	return []part{{file: "vars." + name, content: []byte(leaf(name) + "=" + text), lines: true}}
}

func leaf(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// variables gives every text in a JSON variable, named by its way.
func variables(name string, v any, depth int) []part {
	const maxDepth = 50
	var out []part
	switch t := v.(type) {
	case string:
		return variable(name, t)
	case []any:
		for _, e := range t {
			if depth < maxDepth {
				out = append(out, variables(name, e, depth+1)...)
			}
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(t)) {
			if depth < maxDepth {
				out = append(out, variables(name+"."+k, t[k], depth+1)...)
			}
		}
	}
	return out
}

// sourcesOf gives the sources that a source map carries; false when it can't be read as
// one, and is then looked at as it is.
func sourcesOf(raw []byte) ([]part, bool) {
	var in struct {
		Sources        []string  `json:"sources"`
		SourcesContent []*string `json:"sourcesContent"`
	}
	if json.Unmarshal(raw, &in) != nil {
		return nil, false
	}
	var out []part
	for i, content := range in.SourcesContent {
		if content == nil {
			continue
		}
		name := fmt.Sprintf("source %d", i)
		if i < len(in.Sources) {
			name = in.Sources[i]
		}
		out = append(out, part{file: name, content: []byte(*content), source: true, lines: !isScript(name)})
	}
	return out, true
}

// binary tells what is no text: a NUL byte, or much that is not UTF-8, at its beginning.
func binary(content []byte) bool {
	const sample = 8 << 10
	head := content[:min(len(content), sample)]
	if bytes.IndexByte(head, 0) >= 0 {
		return true
	}
	bad := 0
	for i := 0; i < len(head); {
		r, n := utf8.DecodeRune(head[i:])
		if r == utf8.RuneError && n == 1 {
			bad++
		}
		i += n
	}
	return bad*10 > len(head)
}

// report collects the findings of one scan.
type report struct {
	scanner *Scanner
	found   []deploy.Finding
	// seen are fingerprints with the files they were told of; sources those of sources.
	seen, sources map[string]bool
}

// part looks at one part.
func (r *report) part(p part) {
	lines := lineCounter{text: p.content}
	for _, m := range r.scanner.text(p) {
		if len(r.found) >= maxFindings {
			return
		}
		print := m.fingerprint(p.file)
		if _, allowed := r.scanner.allow[print]; allowed || r.seen[print+p.file] || !p.source && r.sources[print] {
			continue
		}
		r.seen[print+p.file] = true
		if p.source {
			r.sources[print] = true
		}
		r.found = append(r.found, deploy.Finding{
			Kind: m.kind, File: p.file, Line: lines.at(m.from), Sample: m.sample(), Fingerprint: print,
		})
	}
}

// lineCounter tells the lines of rising offsets, counting each line once.
type lineCounter struct {
	text []byte
	at0  int
	n    int
}

func (l *lineCounter) at(offset int) int {
	l.n += bytes.Count(l.text[l.at0:offset], []byte("\n"))
	l.at0 = offset
	return l.n + 1
}
