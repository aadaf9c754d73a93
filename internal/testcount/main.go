// Command testcount reads the output of `go test -json`, shows what failed and what
// was skipped and why, and closes with "N passed, N failed, N skipped", tests and
// subtests counted. It exits 1 when something failed, or nothing ran; with -no-skips
// also when something was skipped.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is a line of test2json.
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

// tally counts what was seen.
type tally struct {
	passed, failed, skipped int
	broken                  bool // a package failed without a test that did
	output                  map[string][]string
	w                       io.Writer
}

func main() {
	noSkips := flag.Bool("no-skips", false, "a skipped test is a failure")
	flag.Parse()
	t := &tally{output: map[string][]string{}, w: os.Stdout}
	if err := t.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testcount:", err)
		os.Exit(1)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
	if !t.good(*noSkips) {
		os.Exit(1)
	}
}

func (t *tally) good(noSkips bool) bool {
	return t.failed == 0 && !t.broken && t.passed > 0 && (!noSkips || t.skipped == 0)
}

func (t *tally) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	const longest = 16 << 20
	lines.Buffer(nil, longest)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(t.w, lines.Text()) // not test2json's: the go command itself
			continue
		}
		t.take(e)
	}
	return lines.Err()
}

func (t *tally) take(e event) {
	key := e.Package + "\x00" + e.Test
	switch e.Action {
	case "output", "build-output":
		t.output[key] = append(t.output[key], e.Output)
		if e.Action == "build-output" {
			fmt.Fprint(t.w, e.Output)
		}
	case "pass":
		t.passed += one(e.Test)
		t.packageDone(e, "ok  ")
	case "skip":
		t.skipped += one(e.Test)
		if e.Test != "" {
			fmt.Fprintf(t.w, "SKIP %s %s\n%s", e.Package, e.Test, strings.Join(t.output[key], ""))
		}
	case "fail", "build-fail":
		t.failed += one(e.Test)
		fmt.Fprintf(t.w, "FAIL %s %s\n%s", e.Package+e.ImportPath, e.Test, strings.Join(t.output[key], ""))
		t.broken = t.broken || e.Test == ""
	default:
		return
	}
	if e.Action != "output" && e.Action != "build-output" {
		delete(t.output, key)
	}
}

func (t *tally) packageDone(e event, word string) {
	if e.Test == "" {
		fmt.Fprintf(t.w, "%s %s %.1fs\n", word, e.Package, e.Elapsed)
	}
}

func one(test string) int {
	if test == "" {
		return 0
	}
	return 1
}
