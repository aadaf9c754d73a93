package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
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
	// Exporter replaces the OTLP exporter, in tests; its spans are exported at once.
	Exporter sdktrace.SpanExporter
	// Failed is told of a failed export, without its address; nil: nobody is.
	Failed func(err error)
}

// Telemetry implements deploy.Observer and serves metrics.
type Telemetry struct {
	cfg      Config
	traces   *sdktrace.TracerProvider
	meters   *sdkmetric.MeterProvider
	tracer   trace.Tracer
	registry *prometheus.Registry

	calls    metric.Int64Counter
	took     metric.Float64Histogram
	stages   metric.Float64Histogram
	accounts metric.Int64Counter

	mu     sync.Mutex
	series map[ending]series
}

var _ deploy.Observer = (*Telemetry)(nil)

const (
	scope = "github.com/hourglass-mcp/hourglass"
	// exportTimeout bounds one export, and with it how long Close waits.
	exportTimeout = 5 * time.Second
)

// New makes it. With an OTLP endpoint that can't be reached it works all the same.
func New(ctx context.Context, cfg Config) (*Telemetry, error) {
	t := &Telemetry{cfg: cfg, registry: prometheus.NewRegistry(), series: map[ending]series{}}
	who := resource.NewSchemaless(attribute.String("service.name", "hourglass"), attribute.String("service.version", cfg.Version))
	options := []sdktrace.TracerProviderOption{sdktrace.WithResource(who)}
	switch {
	case cfg.Exporter != nil:
		options = append(options, sdktrace.WithSyncer(cfg.Exporter))
	case cfg.OTLPEndpoint != "":
		out, err := otlp(ctx, cfg)
		if err != nil {
			return nil, err
		}
		options = append(options, sdktrace.WithBatcher(&told{SpanExporter: out, address: cfg.OTLPEndpoint, failed: cfg.Failed}, sdktrace.WithExportTimeout(exportTimeout)))
	}
	t.traces = sdktrace.NewTracerProvider(options...)
	t.tracer = t.traces.Tracer(scope)
	if err := t.measure(who); err != nil {
		return nil, errors.Join(err, t.Close(ctx))
	}
	return t, nil
}

func otlp(ctx context.Context, cfg Config) (sdktrace.SpanExporter, error) {
	u, err := url.Parse(cfg.OTLPEndpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the address of the trace collector is not an http or https URL; give one such as http://127.0.0.1:4318")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces" // the specification's default for a base address
	}
	out, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithHeaders(cfg.OTLPHeaders), otlptracehttp.WithTimeout(exportTimeout))
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return out, nil
}

// told is an exporter whose failures are told to us, and not printed by the SDK.
type told struct {
	sdktrace.SpanExporter
	address string // may hold a key of the operator's
	failed  func(error)
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *told) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err != nil && e.failed != nil {
		e.failed(errors.New(strings.ReplaceAll(err.Error(), e.address, "the collector")))
	}
	return nil
}

// buckets are seconds: a redeploy takes about 0.05, a fresh account 0.3 against the
// sandbox and some 20 on the live API (peers fact sheet, 2.2).
func buckets() metric.HistogramOption {
	return metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 40)
}

func (t *Telemetry) measure(who *resource.Resource) error {
	reader, err := exporter.New(exporter.WithRegisterer(t.registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	t.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(who))
	m := t.meters.Meter(scope)
	var errs [4]error
	t.calls, errs[0] = m.Int64Counter("hourglass_tool_calls", metric.WithDescription("Tool calls by tool and outcome."))
	t.took, errs[1] = m.Float64Histogram("mcp.server.operation.duration", metric.WithUnit("s"), metric.WithDescription("How long MCP requests took."), buckets())
	t.stages, errs[2] = m.Float64Histogram("hourglass_stage_duration", metric.WithUnit("s"), metric.WithDescription("How long each stage of a deployment took."), buckets())
	t.accounts, errs[3] = m.Int64Counter("hourglass_accounts_created", metric.WithDescription("Temporary accounts that calls went through the making of."))
	for _, r := range t.cfg.Readings {
		if err := t.registry.Register(newReading(r)); err != nil {
			return fmt.Errorf("telemetry: %s: %w", r.Name, err)
		}
	}
	// What the collector found in use says more of a leak than the heap as it stands.
	runtime := collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: liveHeap}))
	errs2 := errors.Join(t.registry.Register(runtime), t.registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})))
	return errors.Join(errors.Join(errs[:]...), errs2)
}

// Metrics serves the counts in Prometheus' form.
func (t *Telemetry) Metrics() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second, EnableOpenMetrics: true})
}

// Close sends the spans that wait, for up to 5 s.
func (t *Telemetry) Close(ctx context.Context) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), exportTimeout)
	defer stop()
	err := t.traces.Shutdown(ctx)
	if t.meters != nil {
		err = errors.Join(err, t.meters.Shutdown(ctx))
	}
	if err != nil {
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

// liveHeap is what the Go runtime calls the heap that its last collection found in use.
var liveHeap = regexp.MustCompile(`^/gc/heap/live:bytes$`)

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
