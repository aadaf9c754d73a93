package deploy

import "context"

// Observer watches calls from outside, for traces and metrics. It never fails a call,
// never blocks one, and learns no argument, only what is named here. It is safe for
// concurrent use.
type Observer interface {
	// Begin is told a call as it begins. trace is the caller's own trace context (W3C), a
	// stranger's word. The context it gives carries the call's span.
	Begin(ctx context.Context, tool string, trace TraceContext) (context.Context, Observed)
}

// TraceContext is a caller's trace, as W3C writes it; empty members are unknown.
type TraceContext struct{ Parent, State string }

// Observed is one call under way. Its methods are called in order, by one goroutine.
type Observed interface {
	// TraceID is the trace that the call belongs to, 32 hex digits; "" for none.
	TraceID() string
	// Stage is told each stage as it begins.
	Stage(s Stage)
	// End is told what came of it: "ok", "input_required" or an error code.
	End(outcome string, failed bool)
}

// NoObserver watches nothing.
type NoObserver struct{}

// Begin implements Observer.
func (NoObserver) Begin(ctx context.Context, _ string, _ TraceContext) (context.Context, Observed) {
	return ctx, unobserved{}
}

type unobserved struct{}

func (unobserved) TraceID() string  { return "" }
func (unobserved) Stage(Stage)      {}
func (unobserved) End(string, bool) {}
