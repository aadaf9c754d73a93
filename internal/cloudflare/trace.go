package cloudflare

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// What is kept of one event.
const (
	maxLogs       = 50
	maxExceptions = 8
	maxLine       = 1000 // bytes of a log line, a name, a message
	maxStack      = 8000 // bytes
)

// traceFrame is an event as it travels (section 14). Fields that explain are raw, so
// that one of an unexpected shape does not cost the whole event.
type traceFrame struct {
	Outcome       string          `json:"outcome"`
	At            json.RawMessage `json:"eventTimestamp"` // Unix milliseconds
	Truncated     json.RawMessage `json:"truncated"`
	ScriptVersion json.RawMessage `json:"scriptVersion"`
	Exceptions    []rawException  `json:"exceptions"`
	Logs          []rawLog        `json:"logs"`
	Event         json.RawMessage `json:"event"`
}

type rawException struct {
	Name    json.RawMessage `json:"name"`
	Message json.RawMessage `json:"message"`
	Stack   json.RawMessage `json:"stack"`
}

type rawLog struct {
	Level   json.RawMessage `json:"level"`
	Message json.RawMessage `json:"message"`
}

// parseTraceEvent reads one frame of a tail; false for one that is no event. Texts are
// freed of secrets and control characters, then cut to size: of a secret that is cut in
// two first, nobody knows either half.
func parseTraceEvent(frame []byte, redact func(string) string) (deploy.TraceEvent, bool) {
	// Twice: control characters may be part of a secret, or stand in the middle of one.
	safe := func(s string) string { return redact(clean(redact(s))) }
	line := func(s string) string { return cut(safe(s), maxLine) }
	var in traceFrame
	if trimmed := bytes.TrimSpace(frame); len(trimmed) == 0 || trimmed[0] != '{' || json.Unmarshal(trimmed, &in) != nil {
		return deploy.TraceEvent{}, false
	}
	ev := deploy.TraceEvent{Outcome: line(in.Outcome), At: unixMillis(in.At)}
	_ = json.Unmarshal(in.Truncated, &ev.Truncated) // of another shape: not known
	ev.Truncated = ev.Truncated || len(in.Logs) > maxLogs || len(in.Exceptions) > maxExceptions
	var version struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(in.ScriptVersion, &version) == nil {
		ev.VersionID = versionID(version.ID)
	}
	var trigger struct {
		Request struct {
			Headers map[string]json.RawMessage `json:"headers"`
		} `json:"request"`
		Response struct {
			Status int `json:"status"`
		} `json:"response"`
	}
	if json.Unmarshal(in.Event, &trigger) == nil {
		for name, value := range trigger.Request.Headers {
			if strings.EqualFold(name, deploy.ProbeHeader) {
				ev.ProbeID = cut(clean(text(value)), 200)
			}
		}
		ev.Status = trigger.Response.Status
	}
	for _, x := range in.Exceptions[:min(len(in.Exceptions), maxExceptions)] {
		ev.Exceptions = append(ev.Exceptions, deploy.Exception{
			Name: line(text(x.Name)), Message: line(text(x.Message)), Stack: cut(safe(text(x.Stack)), maxStack),
		})
	}
	for _, l := range in.Logs[:min(len(in.Logs), maxLogs)] {
		ev.Logs = append(ev.Logs, line(logLine(l)))
	}
	return ev, true
}

// unixMillis is a time as events have it; zero for anything else, and for what no clock says.
func unixMillis(raw json.RawMessage) time.Time {
	const first, last = 1e12, 1e14 // 2001 and 5138
	var ms float64
	if json.Unmarshal(raw, &ms) != nil || ms < first || ms > last {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}

// logLine joins what was given to console.log with spaces, as a console does; a level
// other than "log" goes before it.
func logLine(l rawLog) string {
	var parts []json.RawMessage
	said := ""
	if json.Unmarshal(l.Message, &parts) == nil {
		words := make([]string, len(parts))
		for i, p := range parts {
			if words[i] = text(p); string(p) == "null" {
				words[i] = "null"
			}
		}
		said = strings.Join(words, " ")
	} else {
		said = text(l.Message)
	}
	if level := text(l.Level); level != "" && level != "log" {
		return level + ": " + said
	}
	return said
}

// text is a JSON string's text, anything else as JSON; nothing for null.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}
