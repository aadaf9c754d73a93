package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
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
		c.t.accounts.Add(c.ctx, 1)
	}
}

func (c *call) endStage() {
	if c.stageSpan == nil {
		return
	}
	c.stageSpan.End()
	c.stageSpan = nil
	c.t.stages.Record(c.ctx, time.Since(c.stageBegan).Seconds(), metric.WithAttributes(attribute.String("stage", bounded(string(c.stage)))))
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
	series := c.t.seriesOf(ending{tool: c.tool, outcome: outcome, failed: failed})
	c.t.took.Record(c.ctx, time.Since(c.began).Seconds(), series.took)
	c.t.calls.Add(c.ctx, 1, series.calls)
}

// ending is what the series of a call are told apart by; all of its words are bounded.
type ending struct {
	tool, outcome string
	failed        bool
}

// series are the options that name the series of calls that end alike: to make them takes
// longer than to count.
type series struct {
	took  metric.RecordOption
	calls metric.AddOption
}

// manySeries bounds those that are remembered.
const manySeries = 256

func (t *Telemetry) seriesOf(e ending) series {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := t.series[e]; ok {
		return s
	}
	attrs := []attribute.KeyValue{attribute.String(attrMethod, methodCall), attribute.String(attrTool, e.tool)}
	if e.failed {
		attrs = append(attrs, attribute.String(attrErrorType, toolError))
	}
	s := series{
		took:  metric.WithAttributeSet(attribute.NewSet(attrs...)),
		calls: metric.WithAttributeSet(attribute.NewSet(attribute.String("tool", e.tool), attribute.String("outcome", e.outcome))),
	}
	if len(t.series) < manySeries {
		t.series[e] = s
	}
	return s
}
