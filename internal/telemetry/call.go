package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// The attributes of a call (OpenTelemetry's semantic conventions for MCP).
const (
	attrMethod    = "mcp.method.name"
	attrTool      = "gen_ai.tool.name"
	attrOperation = "gen_ai.operation.name"
	attrErrorType = "error.type"
	attrOutcome   = "hourglass.outcome"
	methodCall    = "tools/call"
	toolError     = "tool_error"
)

// call is one tool call as a span, with the stage under way as its child.
type call struct {
	t     *Telemetry
	ctx   context.Context //nolint:containedctx // the span's, for its children
	span  trace.Span
	tool  string
	began time.Time

	stage      deploy.Stage
	stageSpan  trace.Span
	stageBegan time.Time
}

// Begin implements deploy.Observer.
func (t *Telemetry) Begin(ctx context.Context, tool string, from deploy.TraceContext) (context.Context, deploy.Observed) {
	if from.Parent != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": from.Parent, "tracestate": from.State})
	}
	tool = bounded(tool)
	ctx, span := t.tracer.Start(ctx, methodCall+" "+tool, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String(attrMethod, methodCall), attribute.String(attrTool, tool), attribute.String(attrOperation, "execute_tool")))
	return ctx, &call{t: t, ctx: ctx, span: span, tool: tool, began: time.Now()}
}

// TraceID implements deploy.Observed.
func (c *call) TraceID() string {
	if id := c.span.SpanContext().TraceID(); id.IsValid() {
		return id.String()
	}
	return ""
}

// Stage implements deploy.Observed.
func (c *call) Stage(s deploy.Stage) {
	c.endStage()
	c.stage, c.stageBegan = s, time.Now()
	_, c.stageSpan = c.t.tracer.Start(c.ctx, bounded(string(s)))
	if s == deploy.StageAccount {
		c.t.counts.account()
	}
}

func (c *call) endStage() {
	if c.stageSpan == nil {
		return
	}
	c.stageSpan.End()
	c.stageSpan = nil
	c.t.counts.stage(bounded(string(c.stage)), time.Since(c.stageBegan))
}

// End implements deploy.Observed.
func (c *call) End(outcome string, failed bool) {
	outcome = bounded(outcome)
	if c.stageSpan != nil && failed {
		c.stageSpan.SetStatus(codes.Error, outcome)
	}
	c.endStage()
	if failed {
		c.span.SetAttributes(attribute.String(attrOutcome, outcome), attribute.String(attrErrorType, toolError))
		c.span.SetStatus(codes.Error, outcome)
	} else {
		c.span.SetAttributes(attribute.String(attrOutcome, outcome))
	}
	c.span.End()
	c.t.counts.call(c.tool, outcome, failed, time.Since(c.began), c.TraceID())
}
