package bundle

import (
	"fmt"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// percent is the collector's percentage as it is now.
func percent() int {
	now := debug.SetGCPercent(100)
	debug.SetGCPercent(now)
	return now
}

// TestLeisure: the collector's percentage is raised from the hundredth file of a bundle on,
// also of several at once, and is what it was when the last of them is done, be it made,
// refused or given up.
func TestLeisure(t *testing.T) {
	before := debug.SetGCPercent(77)
	defer debug.SetGCPercent(before)
	b, err := New(Config{LargeGCPercent: 300})
	if err != nil {
		t.Fatal(err)
	}
	one, two := newFiles(t.Context(), nil, "/", b.cfg), newFiles(t.Context(), nil, "/", b.cfg)
	one.leisure, two.leisure = &b.leisure, &b.leisure
	read := func(f *files, n int) {
		for i := range n {
			if err := f.account(fmt.Sprint("/", i), 1); err != nil {
				t.Error(err)
			}
		}
	}
	for _, step := range []struct {
		what string
		do   func()
		want int
	}{
		{"99 files", func() { read(one, 99) }, 77},
		{"the same again", func() { read(one, 99) }, 77},
		{"100 files", func() { read(one, 100) }, 300},
		{"another one", func() { read(two, 200) }, 300},
		{"the first is done", one.done, 300},
		{"the other is done", two.done, 77},
		{"a read that comes late", func() { read(two, 300) }, 77},
	} {
		if step.do(); percent() != step.want {
			t.Errorf("%s: %d, want %d", step.what, percent(), step.want)
		}
	}
	// Whole bundles, one that works and one that does not.
	var imports strings.Builder
	files := map[string][]byte{}
	for i := range 120 {
		files[fmt.Sprintf("m%d.js", i)] = fmt.Appendf(nil, "console.log(%d, globalThis.x)", i)
		fmt.Fprintf(&imports, "import './m%d.js';\n", i)
	}
	for _, end := range []string{"export default {}", "import './missing.js'"} {
		b.leisure.before = 0
		src := deploy.Source{Files: []deploy.File{{Path: "index.js", Content: []byte(imports.String() + end)}}}
		for name, content := range files {
			src.Files = append(src.Files, deploy.File{Path: name, Content: content})
		}
		if _, err := b.Bundle(t.Context(), src); (err == nil) != (end == "export default {}") {
			t.Errorf("%s: %v", end, err)
		}
		if b.leisure.before != 77 || percent() != 77 { // it had leisure, and gave it back
			t.Errorf("after a bundle with %q: %d", end, percent())
		}
	}
}
