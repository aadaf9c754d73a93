package deploy

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// LogLine is one thing that a Worker said while it was alive, or that became of one of
// its invocations. Text is a stranger's word but in a LogGap: cut, without secrets, and
// never followed.
type LogLine struct {
	At        time.Time `json:"at"`
	AccountID string    `json:"account_id"`
	Worker    string    `json:"worker"`
	// VersionID is the version that said it; empty: the API did not name it.
	VersionID string `json:"version_id,omitempty"`
	// Kind is one of the Log kinds.
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// The kinds of log lines.
const (
	LogConsole   = "console"   // console.log and its kin; a level other than log stands before it
	LogException = "exception" // an uncaught exception, with its stack
	LogOutcome   = "outcome"   // how the runtime ended an invocation that it did not let end well
	LogGap       = "gap"       // our own word: from here on something may be missing, and why
)

// weigh is what a line counts against the bounds, in bytes.
func (l *LogLine) weigh() int64 { return int64(len(l.Text) + len(l.Worker) + len(l.VersionID)) }

// LogBounds are how much is kept of one session, in all of its life.
type LogBounds struct {
	Lines int
	Bytes int64
}

// LogTally is how much was kept of a session, and how many lines were not: those that
// came when it was full. What retention has forgotten since still counts.
type LogTally struct {
	Lines   int   `json:"lines"`
	Bytes   int64 `json:"bytes"`
	Dropped int   `json:"not_kept"`
}

// Fit tells how many of the lines there is room for, from the first on, and the tally
// with them: what comes after the first that has no room is dropped. Our own word on a
// gap always has room, and counts as none.
func (t LogTally) Fit(lines []LogLine, b LogBounds) (fit []LogLine, after LogTally) {
	full := false
	for i := range lines {
		l := &lines[i]
		if l.Kind == LogGap {
			fit = append(fit, *l)
			continue
		}
		if full = full || t.Lines >= b.Lines || t.Bytes+l.weigh() > b.Bytes; full {
			t.Dropped++
			continue
		}
		t.Lines++
		t.Bytes += l.weigh()
		fit = append(fit, *l)
	}
	return fit, t
}

// LogShelf is the part of the Store that keeps what Workers said. What is kept is sealed
// at rest, goes with its session, and is forgotten when it was kept long enough.
type LogShelf interface {
	// KeepLogs adds lines to a session's as far as the bounds leave room, counted in the
	// same transaction, and gives the tally with them. CodeSessionNotFound when the
	// session was forgotten meanwhile.
	KeepLogs(ctx context.Context, sessionID string, lines []LogLine, b LogBounds) (LogTally, error)
	// Logs gives what is still kept of a session, in the order in which it was kept.
	Logs(ctx context.Context, sessionID string) ([]LogLine, error)
	// LogTally tells how much was kept of a session; zero: nothing.
	LogTally(ctx context.Context, sessionID string) (LogTally, error)
}

// LogConfig says whether what Workers say is kept, and how much of it.
type LogConfig struct {
	// Keep turns it on. Without it no stream is opened for it and nothing is kept.
	Keep bool
	// Bounds are each session's. Default 2000 lines and 1 MiB.
	Bounds LogBounds
	// Streams is how many Workers this process listens to at once. Default 32.
	Streams int
}

func (c *LogConfig) setDefaults() {
	if c.Bounds.Lines == 0 {
		c.Bounds.Lines = 2000
	}
	if c.Bounds.Bytes == 0 {
		c.Bounds.Bytes = 1 << 20
	}
	if c.Streams == 0 {
		c.Streams = 32
	}
}

// maxLogText bounds one kept line, in bytes.
const maxLogText = 2000

// logLines are what is kept of one event. The texts are without secrets already where the
// Cloud was told how; they are stripped here once more, before the cut.
func (s *Service) logLines(acct *Account, worker string, ev *TraceEvent) (out []LogLine) {
	at := ev.At
	if at.IsZero() {
		at = s.timeFor(acct)
	}
	add := func(kind, text string) {
		text = cut(s.cfg.Redactor.Redact(strings.TrimSpace(text)), maxLogText)
		out = append(out, LogLine{At: at.UTC(), AccountID: acct.ID, Worker: worker, VersionID: ev.VersionID, Kind: kind, Text: text})
	}
	for _, text := range ev.Logs {
		add(LogConsole, text)
	}
	for _, x := range ev.Exceptions {
		text := x.Name + ": " + x.Message
		if x.Stack != "" {
			text += "\n" + x.Stack
		}
		add(LogException, text)
	}
	if len(ev.Exceptions) == 0 && ev.Outcome != "" && ev.Outcome != "ok" {
		add(LogOutcome, "the runtime ended an invocation: "+ev.Outcome)
	}
	if ev.Truncated {
		add(LogOutcome, "an invocation said more than is taken of one")
	}
	return out
}

// WorkerLogs is what is known of what a session's Workers said.
type WorkerLogs struct {
	Tally LogTally
	Lines []LogLine
}

// WorkerLogs gives what is kept of anybody's session, for operators.
func (s *Service) WorkerLogs(ctx context.Context, sessionID string) (*WorkerLogs, error) {
	tally, err := s.cfg.Store.LogTally(ctx, sessionID)
	if err != nil {
		return nil, err
	}
	lines, err := s.cfg.Store.Logs(ctx, sessionID)
	return &WorkerLogs{Tally: tally, Lines: lines}, err
}

// logFacts say on record that there are logs, and how many; nil: there are none. What
// they say is never on record.
func (s *Service) logFacts(ctx context.Context, sessionID string) map[string]string {
	t, err := s.cfg.Store.LogTally(ctx, sessionID)
	if err != nil || t.Lines+t.Dropped == 0 {
		return nil
	}
	return map[string]string{"worker_log_lines": fmt.Sprint(t.Lines), "worker_log_lines_not_kept": fmt.Sprint(t.Dropped)}
}
