package main

import (
	"errors"
	"strings"
	"testing"
)

// TestInk: the demo's lines are plain text where they go to a file, and end every colour
// that they begin where they go to a terminal; --json gets none of them.
func TestInk(t *testing.T) {
	tell := func(inked, quiet bool) string {
		var out strings.Builder
		v := &stageDirector{w: &out, inked: inked, quiet: quiet}
		v.title("Title")
		v.say("%d words", 2)
		v.chapter("One")
		v.did(demoStep{Name: "step", MS: 1.25, Detail: "100% done"})
		v.failed(errors.New("5% short"))
		v.done()
		return out.String()
	}
	const want = "Title\n\n2 words\n\nOne\n✓ step                1.2 ms  100% done\n\n✗ 5% short\n\nEvery step did what it says.\n"
	if got := tell(false, false); got != want {
		t.Errorf("%q", got)
	}
	coloured := tell(true, false)
	if begun, ended := strings.Count(coloured, "\x1b["), strings.Count(coloured, "\x1b[0m"); begun != 14 || ended != 7 {
		t.Errorf("%d colours begun, %d ended: %q", begun-ended, ended, coloured)
	}
	if got := tell(true, true); got != "" {
		t.Errorf("%q", got)
	}
	env := func(name string) (string, bool) { v, ok := map[string]string{"TERM": "xterm"}[name]; return v, ok }
	if inked(&strings.Builder{}, process{env: env}) {
		t.Error("a file has colours")
	}
}
