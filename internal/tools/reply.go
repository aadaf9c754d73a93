package tools

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/rs/zerolog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// output is a tool's result. shrink drops the least important piece of it and says what
// it left out in a field of the result; it tells false when there is nothing to drop.
type output interface {
	shrink() bool
	// budget is how many tokens the result may take.
	budget() int
}

// What the log line calls the outcomes that are no error code.
const (
	outcomeOK    = "ok"
	outcomeAsked = "input_required"
)

// reply is the one way out: what a call came to, as an MCP result. A result is structured
// content and the same JSON as text; an error is text alone, because clients of 2025
// check the structured content of errors against the output schema, and throw.
func (d *door) reply(out output, err error) (result *mcp.CallToolResult, outcome string) {
	if err != nil {
		if ask, ok := errors.AsType[*inputRequired](err); ok {
			return ask.result, outcomeAsked
		}
		return d.failure(err)
	}
	raw, err := d.encode(out)
	if err != nil {
		return d.failure(err)
	}
	return &mcp.CallToolResult{
		Content:              []mcp.Content{mcp.NewTextContent(string(raw))},
		RawStructuredContent: raw,
	}, outcomeOK
}

func (d *door) failure(err error) (result *mcp.CallToolResult, outcome string) {
	out := newErrorOutput(err)
	raw, encodeErr := d.encode(out)
	if encodeErr != nil { // the redactor spoilt it: say less
		out = newErrorOutput(encodeErr)
		raw, _ = encodeJSON(out) // strings of our own always encode
	}
	return &mcp.CallToolResult{
		Content: []mcp.Content{mcp.NewTextContent(string(raw))},
		IsError: true,
	}, out.Error.Code
}

// encode makes a result's JSON: within its budget, and without secrets.
func (d *door) encode(out output) ([]byte, error) {
	raw, err := encodeJSON(out)
	for err == nil && estimateTokens(string(raw)) > out.budget() && out.shrink() {
		raw, err = encodeJSON(out)
	}
	if err != nil {
		return nil, err
	}
	clean := d.redact.RedactBytes(raw)
	if !bytes.Equal(clean, raw) && !json.Valid(clean) {
		return nil, errors.New("the redactor left no valid JSON")
	}
	return clean, nil
}

// encodeJSON encodes without escaping <, > and &: a model pays for each escape.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding a result: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// errorOutput is the shape of every failure.
type errorOutput struct {
	Error errorBody `json:"error"`
}

type errorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Next    string `json:"next"`
	// RetryAfterSeconds is null when it is not known.
	RetryAfterSeconds *int            `json:"retry_after_seconds"`
	Diagnostics       []diagnosticRow `json:"diagnostics,omitempty"`
	LeftOut           leftOut         `json:"left_out,omitempty"`
}

const maxMessage = 1200 // runes of an error's message

func newErrorOutput(err error) *errorOutput {
	e := deploy.AsError(err)
	out := &errorOutput{Error: errorBody{
		Code: string(e.Code), Message: clip(e.Message, maxMessage), Next: e.Next,
		Diagnostics: diagnosticRows(e.Diagnostics),
	}}
	if out.Error.Next == "" {
		out.Error.Next = "Tell the user what failed; do not repeat the call unchanged."
	}
	if e.RetryAfter > 0 {
		s := int((e.RetryAfter + time.Second - 1) / time.Second)
		out.Error.RetryAfterSeconds = &s
	}
	return out
}

func (o *errorOutput) budget() int { return maxResult }

func (o *errorOutput) shrink() bool {
	if dropRow(&o.Error.Diagnostics, &o.Error.LeftOut, "diagnostics", 1) {
		return true
	}
	return halveLongest(&o.Error.Message, &o.Error.Next)
}

// halve cuts a text that is still long.
func halve(s *string) bool {
	n := utf8.RuneCountInString(*s)
	if estimateTokens(*s) < 24 {
		return false
	}
	*s = clip(*s, n/2)
	return true
}

// halveLongest halves the text that takes most tokens.
func halveLongest(texts ...*string) bool {
	longest := slices.MaxFunc(texts, func(a, b *string) int { return estimateTokens(*a) - estimateTokens(*b) })
	return halve(longest)
}

// logCause adds what the operator should know of a failure and the model should not.
func (d *door) logCause(ev *zerolog.Event, err error) *zerolog.Event {
	if err == nil {
		return ev
	}
	e := deploy.AsError(err)
	ev = ev.Str("error", d.redact.Redact(e.Message))
	if e.Cause != nil {
		ev = ev.Str("cause", d.redact.Redact(e.Cause.Error()))
	}
	if p, ok := errors.AsType[*panicError](err); ok {
		ev = ev.Str("stack", d.redact.Redact(strings.TrimSpace(string(p.stack))))
	}
	return ev
}
