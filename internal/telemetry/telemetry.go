package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Sample is one reading of a gauge or counter. Kind is the value of its one label,
// from a short list; "" where it has none.
type Sample struct {
	Kind  string
	Value float64
}

// Reading is something that is read when somebody looks, instead of being counted by us.
type Reading struct {
	// Name is in Prometheus' form without the prefix "hourglass_", e.g. "live_sessions".
	Name string
	Help string
	// Label is the name of its one label; "" for none.
	Label string
	// Rises: it is a counter.
	Rises bool
	// Read gives the samples. Its error leaves the reading out of that look.
	Read func(ctx context.Context) ([]Sample, error)
}

// Config says what is told to whom.
type Config struct {
	// OTLPEndpoint is where spans go by OTLP over HTTP, e.g. "http://127.0.0.1:4318";
	// empty: spans are made for their identifiers alone, and go nowhere.
	OTLPEndpoint string
	// OTLPHeaders go with every export (a key of the collector's); they are secrets.
	OTLPHeaders map[string]string
	// Version is the server's own.
	Version string
	// Readings are what /metrics shows beside the counts of calls.
	Readings []Reading
	// TracesOnly: nothing is counted, and Metrics has nothing to serve.
	TracesOnly bool
	// Exporter replaces the OTLP exporter, in tests; its spans are exported at once.
	Exporter sdktrace.SpanExporter
	// Failed is told of a failed export, without its address; nil: nobody is.
	Failed func(err error)
}

// Telemetry implements deploy.Observer and serves metrics.
type Telemetry struct {
	traces   *sdktrace.TracerProvider
	tracer   trace.Tracer
	registry *prometheus.Registry // nil: nothing is counted
	counts   *counts
}

var _ deploy.Observer = (*Telemetry)(nil)

const (
	scope = "github.com/hourglass-mcp/hourglass"
	// exportTimeout bounds one export, and with it how long Close waits.
	exportTimeout = 5 * time.Second
)

// New makes it. With an OTLP endpoint that can't be reached it works all the same.
func New(ctx context.Context, cfg Config) (*Telemetry, error) {
	t := &Telemetry{}
	who := resource.NewSchemaless(attribute.String("service.name", "hourglass"), attribute.String("service.version", cfg.Version))
	options := []sdktrace.TracerProviderOption{sdktrace.WithResource(who)}
	switch {
	case cfg.Exporter != nil:
		options = append(options, sdktrace.WithSyncer(cfg.Exporter))
	case cfg.OTLPEndpoint != "":
		out, err := newOTLP(cfg)
		if err != nil {
			return nil, err
		}
		options = append(options, sdktrace.WithBatcher(&told{SpanExporter: out, failed: cfg.Failed}, sdktrace.WithExportTimeout(exportTimeout)))
	}
	t.traces = sdktrace.NewTracerProvider(options...)
	t.tracer = t.traces.Tracer(scope)
	if cfg.TracesOnly {
		return t, nil
	}
	t.registry = prometheus.NewRegistry()
	var err error
	if t.counts, err = newCounts(t.registry, cfg.Readings); err != nil {
		return nil, errors.Join(err, t.Close(ctx))
	}
	return t, nil
}

// told is an exporter whose failures are told to us, and not printed by the SDK.
type told struct {
	sdktrace.SpanExporter
	failed func(error)
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *told) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err != nil && e.failed != nil {
		e.failed(err)
	}
	return nil
}

// Metrics serves the counts in Prometheus' form.
func (t *Telemetry) Metrics() http.Handler {
	if t.registry == nil {
		return http.NotFoundHandler()
	}
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second, EnableOpenMetrics: true})
}

// Close sends the spans that wait, for up to 5 s.
func (t *Telemetry) Close(ctx context.Context) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), exportTimeout)
	defer stop()
	if err := t.traces.Shutdown(ctx); err != nil {
		return fmt.Errorf("telemetry: closing: %w", err)
	}
	return nil
}

// FromHeaders takes the trace context of an HTTP request's headers along; what a call's
// _meta says wins over it.
func FromHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// bounded holds a label's value to what we chose ourselves: a short word of small
// letters, digits, dots and underscores.
func bounded(s string) string {
	const most = 40
	if s == "" || len(s) > most {
		return "other"
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '.' {
			return "other"
		}
	}
	return s
}
