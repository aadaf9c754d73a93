package workerd

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// message is one thing that the runtime said. Its level is "" for what it
// did not say as JSON: a crash, or an error in our own configuration.
type message struct {
	level, text string
}

// Bounds of what is kept of that.
const (
	maxLine     = 64 << 10 // of one line, the rest is dropped
	maxMessages = 64       // of the first, and of the last
	maxText     = 4000     // of a text that leaves this package
)

// words keeps what the runtime said: the first and the last messages. It tells each to
// on, once tell was called.
type words struct {
	dir string
	on  func(string)

	mu    sync.Mutex
	open  bool
	first []message
	last  []message
}

// stream reads one of the runtime's outputs line by line.
type stream struct {
	words *words
	// own keeps only lines that the runtime wrote by itself: stdout carries the Workers'
	// console too, whose timestamps are numbers where the runtime's are strings.
	own     bool
	partial []byte
}

const ownLine = `{"timestamp":"`

// Write implements io.Writer.
func (s *stream) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, rest, whole := bytes.Cut(p, []byte{'\n'})
		s.partial = append(s.partial, line[:min(len(line), maxLine-len(s.partial))]...)
		if !whole {
			return n, nil
		}
		s.flush()
		p = rest
	}
}

// flush ends a line.
func (s *stream) flush() {
	if !s.own || bytes.HasPrefix(s.partial, []byte(ownLine)) {
		s.words.add(parseLine(s.partial))
	}
	s.partial = s.partial[:0]
}

func (l *words) add(m message) {
	if strings.TrimSpace(m.text) == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.on != nil && l.open {
		l.on(clean(m.text, l.dir))
	}
	if len(l.first) < maxMessages {
		l.first = append(l.first, m)
		return
	}
	if len(l.last) == maxMessages {
		l.last = append(l.last[:0], l.last[1:]...)
	}
	l.last = append(l.last, m)
}

// tell begins telling: what was said until now belongs to the start.
func (l *words) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = true
}

// messages are what was kept.
func (l *words) messages() []message {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(append([]message(nil), l.first...), l.last...)
}

// parseLine reads a line of structured logging, or takes it as it is.
func parseLine(line []byte) message {
	var m struct {
		Level   string `json:"level"`
		Message string `json:"message"`
	}
	if bytes.HasPrefix(line, []byte("{")) && json.Unmarshal(line, &m) == nil && m.Message != "" {
		return message{level: m.Level, text: m.Message}
	}
	return message{text: strings.ToValidUTF8(string(line), "\uFFFD")}
}

// outOfMemory tells whether the runtime died for want of memory. Only its own last words
// count: a Worker may well throw an error that speaks of memory.
func outOfMemory(messages []message) bool {
	for _, m := range messages {
		if m.level != "" && m.level != "fatal" {
			continue
		}
		t := strings.ToLower(m.text)
		if strings.Contains(t, "out of memory") || strings.Contains(t, "reached heap limit") || strings.Contains(t, "bad_alloc") || strings.HasPrefix(t, "<--- last few gcs --->") {
			return true
		}
	}
	return false
}

var (
	serviceLine = regexp.MustCompile(`^service ` + workerPrefix + `([A-Za-z0-9_.-]+): `)
	linkLine    = regexp.MustCompile(`^Worker "` + workerPrefix + `([A-Za-z0-9_.-]+)"'s `)
	ourNames    = regexp.MustCompile(`"` + workerPrefix + `([A-Za-z0-9_.-]+)"`)
)

// parseStart reads what the runtime said when it did not start. What it says of the
// first Worker that it names is the error; the rest is dropped.
func parseStart(messages []message, workers []Worker, dir string) *StartError {
	e := &StartError{}
	var texts, others []string
	for _, m := range messages {
		name, text := attribute(m)
		switch {
		case name != "" && (e.Worker == "" || e.Worker == name):
			e.Worker = name
			texts = append(texts, text)
		case name == "":
			others = append(others, m.text)
		}
	}
	if len(texts) == 0 {
		texts = others
	}
	if e.Worker == "" && len(workers) == 1 {
		e.Worker = workers[0].Name
	}
	if e.Text = clean(strings.Join(texts, "\n"), dir); e.Text == "" {
		e.Text = "the runtime gave no reason"
	}
	return e
}

// attribute takes the Worker's name off a message, if one is named.
func attribute(m message) (worker, text string) {
	if loc := serviceLine.FindStringSubmatchIndex(m.text); loc != nil {
		return m.text[loc[2]:loc[3]], m.text[loc[1]:]
	}
	if loc := linkLine.FindStringSubmatchIndex(m.text); loc != nil {
		return m.text[loc[2]:loc[3]], m.text
	}
	return "", m.text
}

// clean takes our own paths and names out of a text, and cuts it to size.
func clean(text, dir string) string {
	text = strings.ReplaceAll(text, "file:///bundle/", "")
	text = ourNames.ReplaceAllString(text, `"$1"`)
	if dir != "" {
		text = strings.ReplaceAll(text, dir+string(filepath.Separator), "")
		text = strings.ReplaceAll(text, dir, "")
	}
	text = strings.TrimSpace(text)
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText-len("…")], "") + "…"
	}
	return text
}
