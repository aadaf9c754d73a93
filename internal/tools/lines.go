package tools

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
)

// maxLine is the longest line that is read as a message: 16 MiB. mcp-go has no bound; a
// line of 200 MB cost it 16 s and over 1 GB (dependencies sheet).
const maxLine = 16 << 20

// What is kept of a line that is too long, to find its request id: some clients write
// the id first, others last.
const (
	keptHead = 4 << 10
	keptTail = 512
)

// lineReader reads lines of bounded length. A longer one is passed over without being
// held.
type lineReader struct {
	r   *bufio.Reader
	max int
}

func newLineReader(r io.Reader, longest int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10), max: longest}
}

// tooLong is a line over the bound: its id as raw JSON, null when it was not found.
type tooLong struct {
	id    json.RawMessage
	bytes int64
}

func (*tooLong) Error() string { return "the line is too long" }

// next gives the next line without its end. Its error is *tooLong for a line over the
// bound, after which reading goes on, and else what the reader said; a last line
// without an end is a line.
func (l *lineReader) next() ([]byte, error) {
	var line []byte
	for {
		part, err := l.r.ReadSlice('\n')
		if len(line)+len(part) > l.max+1 { // 1 for the line's end
			return nil, l.pass(line, part, err)
		}
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && (!errors.Is(err, io.EOF) || len(line) == 0):
			return nil, err
		}
		return bytes.TrimRight(line, "\r\n"), nil
	}
}

// pass reads to the end of a line that is too long.
func (l *lineReader) pass(line, part []byte, err error) error {
	total := int64(len(line) + len(part))
	line = append(line, part...)
	head := bytes.Clone(line[:min(len(line), keptHead)])
	tail := bytes.Clone(line[max(0, len(line)-keptTail):])
	for errors.Is(err, bufio.ErrBufferFull) {
		part, err = l.r.ReadSlice('\n')
		total += int64(len(part))
		tail = append(tail, part[max(0, len(part)-keptTail):]...)
		tail = append(tail[:0], tail[max(0, len(tail)-keptTail):]...)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return &tooLong{id: findID(head, tail), bytes: total}
}

// lastID is a request id as the last member of a message, where the TypeScript and the
// Python SDK put it. In valid JSON the unescaped quotes can't be inside of a string, and
// the brace that ends the line closes the message itself.
var lastID = regexp.MustCompile(`[,{]\s*"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?[0-9]{1,19})\s*}\s*$`)

// findID looks for a message's id in the beginning and the end of its line.
func findID(head, tail []byte) json.RawMessage {
	if m := lastID.FindSubmatch(tail); m != nil && json.Valid(m[1]) {
		return json.RawMessage(m[1])
	}
	dec := json.NewDecoder(bytes.NewReader(head))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return json.RawMessage("null")
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			break
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil { // it runs beyond what was kept
			break
		}
		if key == "id" && goodID(value) {
			return value
		}
	}
	return json.RawMessage("null")
}

// goodID tells whether raw is what an id may be: a string or a number.
func goodID(raw json.RawMessage) bool {
	return len(raw) > 0 && (raw[0] == '"' || raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9')
}
