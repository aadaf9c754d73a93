package tools

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// TestFindID: the id of a message too long to read is found where clients put it, and
// never made up.
func TestFindID(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for line, want := range map[string]string{
		`{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"` + long + `"}}`:      `1`,
		`{"method":"m","params":{"a":"` + long + `"},"jsonrpc":"2.0","id":"a\"b"}`: `"a\"b"`,
		`{"method":"m","params":{"a":"` + long + `"},"jsonrpc":"2.0","id": -7 } `:  `-7`,
		`{"method":"m","params":{"id":5,"a":"` + long + `"}}`:                      `null`,
		`{"method":"m","params":{"a":"` + long + `","id":5}}`:                      `null`,
		`{"method":"m","params":{"a":"` + long + `,\"id\":5}"}}`:                   `null`,
		`{"id":{"x":1},"method":"m","params":{"a":"` + long + `"}}`:                `null`,
		`{"id":null,"method":"m","params":{"a":"` + long + `"}}`:                   `null`,
		long: `null`, `[` + long: `null`, ``: `null`,
	} {
		if got := string(findID([]byte(line[:min(len(line), 400)]), []byte(line[max(0, len(line)-200):]))); got != want {
			t.Errorf("%.60s: %s, want %s", line, got, want)
		}
	}
}

// FuzzLines: the bounded reader gives the lines that splitting gives, says which were too
// long, and never holds much more than the bound.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nbb\r\n\nccc"), 4)
	f.Add([]byte(strings.Repeat("x", 300)+"\nok\n"), 10)
	f.Add([]byte(`{"id":3,"x":"`+strings.Repeat("y", 200)+`"}`+"\n"), 20)
	f.Fuzz(func(t *testing.T, in []byte, longest int) {
		if longest < 1 || longest > 1<<16 {
			t.Skip()
		}
		for _, r := range []io.Reader{bytes.NewReader(in), iotest.OneByteReader(bytes.NewReader(in)), iotest.DataErrReader(bytes.NewReader(in))} {
			check(t, newLineReader(r, longest), in, longest)
		}
	})
}

func check(t *testing.T, r *lineReader, in []byte, longest int) {
	t.Helper()
	rest := in
	for {
		line, err := r.next()
		if len(rest) == 0 {
			if !errors.Is(err, io.EOF) {
				t.Fatalf("at the end: %q, %v", line, err)
			}
			return
		}
		want, after, found := bytes.Cut(rest, []byte("\n"))
		size := len(want)
		if found {
			size++
		}
		rest = after
		if over, ok := errors.AsType[*tooLong](err); ok {
			if size <= longest || over.bytes != int64(size) || !json.Valid(over.id) {
				t.Fatalf("%d bytes refused with bound %d: %+v", size, longest, over)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(want) > longest+1 || !bytes.Equal(line, bytes.TrimRight(want, "\r")) {
			t.Fatalf("got %q, want %q", line, want)
		}
	}
}

// endless is a line of n bytes that is nowhere whole.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	clear(p[:n])
	e.left -= n
	return n, nil
}

// TestLongLineTakesNoMemory: 256 MiB in one line.
func TestLongLineTakesNoMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := newLineReader(&endless{256 << 20}, maxLine).next()
	runtime.ReadMemStats(&after)
	over, ok := errors.AsType[*tooLong](err)
	if !ok || over.bytes != 256<<20 {
		t.Fatalf("%v", err)
	}
	if got := (after.TotalAlloc - before.TotalAlloc) >> 20; got > 128 {
		t.Errorf("%d MiB were allocated for a line that is refused", got)
	}
}
