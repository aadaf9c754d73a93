package tools

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"strings"
	"time"
	"unicode"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// tool is one tool: what a model reads of it, and what it does. In and Out are structs
// from which the schemas derive.
type tool[In any, Out output] struct {
	name, title, description string
	scope                    deploy.Scope // what a credential must allow
	hints                    hints
	run                      func(ctx context.Context, c *call, in In) (Out, error)
}

// hints are the annotations of a tool; they drive a client's prompts and enforce nothing.
type hints struct {
	readOnly, destructive, idempotent, openWorld bool
}

// call is one call under way, beside its arguments.
type call struct {
	d       *door
	tool    string
	request mcp.CallToolRequest
	caller  deploy.Caller
	stages  *stages
	watched deploy.Observed
	answers *answers
	// What the log line says of the call: the run and job that count, and what the model
	// said of them where it does not count.
	session, runID, jobID      string
	claimedRunID, claimedJobID string
}

// The labels of a credential that say which run and job it was made for.
const (
	labelRun = "run_id"
	labelJob = "job_id"
)

// about notes which session, run and job the call is about, and gives the run and job
// that count: the credential's, where it names them, else what the model says.
func (c *call) about(session, runID, jobID string) (run, job string) {
	c.session, c.runID, c.jobID = session, runID, jobID
	if trusted := c.caller.Labels[labelRun]; trusted != "" {
		c.runID, c.claimedRunID = trusted, runID
	}
	if trusted := c.caller.Labels[labelJob]; trusted != "" {
		c.jobID, c.claimedJobID = trusted, jobID
	}
	return c.runID, c.jobID
}

// claims is what the model says of itself; nil: nothing.
func claims(runID, jobID string) map[string]string {
	out := map[string]string{labelRun: runID, labelJob: jobID}
	maps.DeleteFunc(out, func(_, v string) bool { return v == "" })
	if len(out) == 0 {
		return nil
	}
	return out
}

// define wraps a tool for mcp-go. The wrapper decodes strictly, recovers, shapes results
// and errors, and logs; a failure is a result, never a protocol error.
func define[In any, Out output](d *door, t tool[In, Out]) server.ServerTool {
	return server.ServerTool{
		Tool: mcp.Tool{
			Name: t.name, Title: t.title, Description: t.description,
			RawInputSchema:  inputSchema(reflect.TypeFor[In]()),
			RawOutputSchema: outputSchema(reflect.TypeFor[Out]().Elem()),
			Annotations: mcp.ToolAnnotation{
				ReadOnlyHint: &t.hints.readOnly, DestructiveHint: &t.hints.destructive,
				IdempotentHint: &t.hints.idempotent, OpenWorldHint: &t.hints.openWorld,
			},
		},
		Handler: func(ctx context.Context, request mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			began := time.Now()
			ctx, watched := d.cfg.Observer.Begin(ctx, t.name, traceOf(request.Params.Meta))
			c := d.begin(ctx, t.name, request)
			c.watched, c.caller.TraceID = watched, watched.TraceID()
			out, err := perform(ctx, c, t)
			c.stages.close()
			result, outcome := d.reply(out, err)
			watched.End(outcome, result.IsError)
			took := time.Since(began)
			d.log(c, outcome, err, took)
			c.report(ctx, outcome, took)
			return result, nil
		},
	}
}

// perform runs the tool on its decoded arguments. A panic becomes an error that says
// nothing of the panic's value to the model.
func perform[In any, Out output](ctx context.Context, c *call, t tool[In, Out]) (out output, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, &panicError{value: p, stack: debug.Stack()}
		}
	}()
	if err := c.allowed(t.scope); err != nil {
		return nil, err
	}
	var in In
	raw, err := rawArguments(c.request)
	if err != nil {
		return nil, err
	}
	if err := decodeArgs(t.name, raw, &in); err != nil {
		return nil, err
	}
	res, err := t.run(ctx, c, in)
	if err != nil {
		return nil, err
	}
	return res, nil
}

// rawArguments gives the arguments as they were sent; in-process callers may have built
// them as Go values.
func rawArguments(r mcp.CallToolRequest) ([]byte, error) {
	if len(r.Params.RawArguments) > 0 {
		return r.Params.RawArguments, nil
	}
	raw, err := json.Marshal(r.Params.Arguments)
	if err != nil {
		return nil, fmt.Errorf("encoding the arguments: %w", err)
	}
	return raw, nil
}

func (d *door) begin(ctx context.Context, name string, request mcp.CallToolRequest) *call {
	c := &call{d: d, tool: name, request: request, caller: d.cfg.Caller(ctx)}
	if c.caller.Client == "" {
		c.caller.Client = clientName(ctx)
	}
	c.stages = newStages(ctx, request.Params.Meta)
	c.answers = d.asked.take(c)
	return c
}

// clientName is what the client calls itself: a stranger's word, cut to size.
func clientName(ctx context.Context) string {
	var info mcp.Implementation
	if p := server.RequestProtocolInfoFromContext(ctx); p != nil && p.Modern {
		if p.ClientInfo != nil {
			info = *p.ClientInfo
		}
	} else if s, ok := server.ClientSessionFromContext(ctx).(server.SessionWithClientInfo); ok {
		info = s.GetClientInfo()
	}
	return label(strings.TrimSpace(info.Name + " " + info.Version))
}

// label makes a name of a stranger fit for logs and pages: one short printable line.
func label(s string) string {
	return clip(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s), 100)
}

// reached tells whoever watches, and the client, of a stage.
func (c *call) reached(s deploy.Stage) {
	c.watched.Stage(s)
	c.stages.reached(s)
}

// traceOf is the trace context that a call's _meta carries (SEP-414).
func traceOf(meta *mcp.Meta) deploy.TraceContext {
	text := func(name string) string {
		s, _ := meta.GetMetaField(name).(string)
		return s
	}
	return deploy.TraceContext{Parent: text("traceparent"), State: text("tracestate")}
}

func (d *door) redactLabels(labels map[string]string) map[string]string {
	out := make(map[string]string, len(labels))
	for k, v := range labels {
		out[label(k)] = d.redact.Redact(label(v))
	}
	return out
}

// panicError is a panic in a handler; only the log sees its value.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

func (d *door) log(c *call, outcome string, err error, took time.Duration) {
	ev := d.cfg.Logger.Info()
	switch {
	case outcome == string(deploy.CodeInternal) || outcome == string(deploy.CodeStore):
		ev = d.cfg.Logger.Error()
	case err != nil && outcome != outcomeAsked:
		ev = d.cfg.Logger.Warn()
	}
	ev = ev.Str("tool", c.tool).Str("outcome", outcome).Int64("ms", took.Milliseconds())
	for _, f := range []struct{ name, value string }{
		{"principal", c.caller.Principal},
		{"session", c.session},
		{"run_id", c.runID},
		{"job_id", c.jobID},
		{"client", c.caller.Client},
		{"claimed_run_id", c.claimedRunID},
		{"claimed_job_id", c.claimedJobID},
		{"trace_id", c.caller.TraceID},
	} {
		if f.value != "" {
			ev = ev.Str(f.name, d.redact.Redact(label(f.value)))
		}
	}
	if len(c.caller.Labels) > 0 {
		ev = ev.Interface("labels", d.redactLabels(c.caller.Labels))
	}
	if outcome != outcomeAsked {
		ev = d.logCause(ev, err)
	}
	ev.Msg("tool call")
}
