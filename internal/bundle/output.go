package bundle

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// stripNames puts project paths back where esbuild wrote our namespaces: in comments
// and in the names of CommonJS wrappers.
func stripNames(project string, code []byte) []byte {
	if !bytes.Contains(code, []byte("hourglass-")) {
		return code
	}
	return ourNames.ReplaceAllFunc(code, func(m []byte) []byte { return []byte(plainName(project, string(m))) })
}

// rewriteMap makes the source map that is uploaded: sources relative to the project,
// "file" the module's name, no sourceRoot (wrangler-wire fact sheet, section 6).
func rewriteMap(project, name string, raw []byte) ([]byte, error) {
	var in struct {
		Sources        []string        `json:"sources"`
		SourcesContent json.RawMessage `json:"sourcesContent,omitempty"`
		Mappings       json.RawMessage `json:"mappings"`
		Names          json.RawMessage `json:"names"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, fmt.Errorf("esbuild's source map: %w", err)
	}
	for i, s := range in.Sources {
		in.Sources[i] = plainName(project, s)
	}
	sources, err := json.Marshal(in.Sources)
	if err != nil {
		return nil, fmt.Errorf("source map: %w", err)
	}
	file, err := json.Marshal(name)
	if err != nil {
		return nil, fmt.Errorf("source map: %w", err)
	}
	var out bytes.Buffer
	out.Grow(len(raw))
	fmt.Fprintf(&out, `{"version":3,"sourceRoot":"","file":%s,"sources":%s,`, file, sources)
	if in.SourcesContent != nil {
		fmt.Fprintf(&out, `"sourcesContent":%s,`, in.SourcesContent)
	}
	fmt.Fprintf(&out, `"names":%s,"mappings":%s}`, in.Names, in.Mappings)
	return out.Bytes(), nil
}

func sortedParts(parts map[string]deploy.Module) []deploy.Module {
	var out []deploy.Module
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		out = append(out, parts[name])
	}
	return out
}

// packageOf names what an input belongs to: an npm package, else the file itself.
func packageOf(name string) string {
	i := strings.LastIndex(name, "node_modules/")
	if i < 0 {
		return name
	}
	if pkg, _, ok := packageName(name[i+len("node_modules/"):]); ok {
		return pkg
	}
	return name
}

const maxLargest = 5

// weigh counts sizes as wrangler does: modules without source maps, and the gzipped
// size of all of them one after the other (wrangler-wire fact sheet, section 16).
func (j *job) weigh(weights map[string]int64) {
	var n counter
	var zip *gzip.Writer
	select {
	case zip = <-j.b.gzips:
		zip.Reset(&n)
	default:
		zip = gzip.NewWriter(&n)
	}
	defer func() {
		select {
		case j.b.gzips <- zip:
		default:
		}
	}()
	j.art.Bytes = 0
	for _, m := range j.art.Modules {
		if m.Type == deploy.TypeSourceMap {
			continue
		}
		j.art.Bytes += int64(len(m.Content))
		_, _ = zip.Write(m.Content) // into a counter, which takes everything
	}
	_ = zip.Close()
	j.art.GzipBytes = int64(n)
	var list []deploy.Sized
	for name, w := range weights {
		if w > 0 {
			list = append(list, deploy.Sized{Name: name, Bytes: w})
		}
	}
	slices.SortFunc(list, func(x, y deploy.Sized) int {
		return cmp.Or(cmp.Compare(y.Bytes, x.Bytes), strings.Compare(x.Name, y.Name))
	})
	j.art.Largest = list[:min(len(list), maxLargest)]
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
