package telemetry_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	traceID  = "4bf92f3577b34da6a3ce929d0e0e4736"
	parentID = "00f067aa0ba902b7"
	parent   = "00-" + traceID + "-" + parentID + "-01"
)

func newTelemetry(t *testing.T, cfg telemetry.Config) *telemetry.Telemetry {
	t.Helper()
	tel, err := telemetry.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Close(context.Background()) })
	return tel
}

func scrape(t *testing.T, tel *telemetry.Telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("HTTP %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// TestSpans: a call's span hangs on the agent's own, its stages hang on it, and a
// failure is one in the words of the conventions.
func TestSpans(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	tel := newTelemetry(t, telemetry.Config{Exporter: spans})
	_, call := tel.Begin(t.Context(), "deploy_temporary", deploy.TraceContext{Parent: parent})
	if call.TraceID() != traceID {
		t.Errorf("trace %s", call.TraceID())
	}
	call.Stage(deploy.StageBundle)
	call.Stage(deploy.StageAccount)
	call.End(string(deploy.CodeRateLimited), true)
	got := spans.GetSpans()
	if len(got) != 3 {
		t.Fatalf("%d spans", len(got))
	}
	root := got[2]
	if root.Name != "tools/call deploy_temporary" || root.SpanKind != trace.SpanKindServer || root.Parent.SpanID().String() != parentID || root.Status.Code != codes.Error {
		t.Errorf("%+v", root)
	}
	attrs := map[string]string{}
	for _, a := range root.Attributes {
		attrs[string(a.Key)] = a.Value.String()
	}
	for k, want := range map[string]string{
		"mcp.method.name": "tools/call", "gen_ai.tool.name": "deploy_temporary", "gen_ai.operation.name": "execute_tool",
		"error.type": "tool_error", "hourglass.outcome": "rate_limited",
	} {
		if attrs[k] != want {
			t.Errorf("%s is %q, want %q", k, attrs[k], want)
		}
	}
	for i, name := range []string{"bundle", "create_account"} {
		if got[i].Name != name || got[i].Parent.SpanID() != root.SpanContext.SpanID() || got[i].SpanContext.TraceID() != root.SpanContext.TraceID() {
			t.Errorf("stage %d: %+v", i, got[i])
		}
	}
}

// TestTraceFromHeaders: without a word in _meta the request's headers carry the trace,
// and what is malformed is no trace and no error.
func TestTraceFromHeaders(t *testing.T) {
	tel := newTelemetry(t, telemetry.Config{})
	for header, want := range map[string]string{parent: traceID, "00-zz-yy-01": "", "": "", strings.Repeat("a", 10000): ""} {
		var got string
		h := telemetry.FromHeaders(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, call := tel.Begin(r.Context(), "status", deploy.TraceContext{})
			got = call.TraceID()
			call.End("ok", false)
		}))
		r := httptest.NewRequest(http.MethodPost, "/mcp", nil)
		r.Header.Set("traceparent", header)
		h.ServeHTTP(httptest.NewRecorder(), r)
		if want != "" && got != want || len(got) != 32 {
			t.Errorf("%.60q: trace %q", header, got)
		}
	}
}

// TestMetrics: calls by tool and outcome, stages, readings; and nobody's words become labels.
func TestMetrics(t *testing.T) {
	fail := false
	tel := newTelemetry(t, telemetry.Config{Readings: []telemetry.Reading{
		{Name: "live_sessions", Help: "Sessions.", Read: func(context.Context) ([]telemetry.Sample, error) {
			if fail {
				return nil, errors.New("the store is away")
			}
			return []telemetry.Sample{{Value: 7}}, nil
		}},
		{Name: "api_retries_total", Help: "Retries.", Label: "reason", Rises: true, Read: func(context.Context) ([]telemetry.Sample, error) {
			return []telemetry.Sample{{Kind: "rate_limited", Value: 2}, {Kind: "Somebody's words", Value: 1}, {Kind: "More words!", Value: 3}}, nil
		}},
	}})
	for _, c := range []struct {
		tool, outcome string
		failed        bool
	}{{"deploy_temporary", "ok", false}, {"deploy_temporary", "ok", false}, {"status", "session_not_found", true}, {"<script>", "what a model wrote", true}} {
		_, call := tel.Begin(t.Context(), c.tool, deploy.TraceContext{})
		call.Stage(deploy.StageAccount)
		call.End(c.outcome, c.failed)
	}
	text := scrape(t, tel)
	for _, want := range []string{
		`hourglass_tool_calls_total{outcome="ok",tool="deploy_temporary"} 2`,
		`hourglass_tool_calls_total{outcome="session_not_found",tool="status"} 1`,
		`hourglass_tool_calls_total{outcome="other",tool="other"} 1`,
		`hourglass_live_sessions 7`,
		`hourglass_api_retries_total{reason="rate_limited"} 2`,
		`hourglass_api_retries_total{reason="other"} 4`,
		`hourglass_accounts_created_total 4`,
		`hourglass_stage_duration_seconds_count{stage="create_account"} 4`,
		`gen_ai_tool_name="status"`,
		"\ngo_gc_heap_live_bytes ",
		"\ngo_gc_duration_seconds_count ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, "words") || strings.Contains(text, "<script") || strings.Contains(text, "model wrote") {
		t.Error("a stranger's words became a label")
	}
	fail = true
	if text := scrape(t, tel); strings.Contains(text, "live_sessions 7") || !strings.Contains(text, "api_retries") {
		t.Error("a reading that failed is shown, or took the others along")
	}
}

// TestExemplar: a bucket of the durations names a trace, to those who ask in OpenMetrics.
func TestExemplar(t *testing.T) {
	tel := newTelemetry(t, telemetry.Config{})
	_, call := tel.Begin(t.Context(), "status", deploy.TraceContext{Parent: parent})
	call.End("ok", false)
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	w := httptest.NewRecorder()
	tel.Metrics().ServeHTTP(w, r)
	if !strings.Contains(w.Body.String(), `# {trace_id="`+traceID+`"}`) {
		t.Error(w.Body)
	}
}

// TestTracesOnly: calls have their trace, and nothing is counted or served.
func TestTracesOnly(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	tel := newTelemetry(t, telemetry.Config{TracesOnly: true, Exporter: spans})
	_, call := tel.Begin(t.Context(), "status", deploy.TraceContext{Parent: parent})
	call.Stage(deploy.StageAccount)
	call.End("ok", false)
	if call.TraceID() != traceID || len(spans.GetSpans()) != 2 {
		t.Errorf("trace %s, %d spans", call.TraceID(), len(spans.GetSpans()))
	}
	w := httptest.NewRecorder()
	tel.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("HTTP %d: %s", w.Code, w.Body)
	}
}

// TestOTLP: spans reach a collector with the operator's key; one that is away is told,
// without its address, and stops nothing.
func TestOTLP(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.URL.Path+" "+r.Header.Get("X-Key"))
		if len(body) == 0 {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer collector.Close()
	tel, err := telemetry.New(t.Context(), telemetry.Config{OTLPEndpoint: collector.URL, OTLPHeaders: map[string]string{"X-Key": "k"}})
	if err != nil {
		t.Fatal(err)
	}
	_, call := tel.Begin(t.Context(), "status", deploy.TraceContext{})
	call.End("ok", false)
	if err := tel.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if mu.Lock(); !slices.Equal(seen, []string{"/v1/traces k"}) {
		t.Errorf("%q", seen)
	}
	mu.Unlock()

	var told []string
	gone := httptest.NewServer(http.NotFoundHandler())
	tel, err = telemetry.New(t.Context(), telemetry.Config{OTLPEndpoint: gone.URL, Failed: func(err error) { told = append(told, err.Error()) }})
	if err != nil {
		t.Fatal(err)
	}
	_, call = tel.Begin(t.Context(), "status", deploy.TraceContext{})
	call.End("ok", false)
	_ = tel.Close(t.Context())
	gone.Close()
	if len(told) != 1 || strings.Contains(told[0], "127.0.0.1") {
		t.Errorf("told %q", told)
	}
}

// TestBadEndpoint: a wrong address is refused at the start.
func TestBadEndpoint(t *testing.T) {
	for _, s := range []string{"collector:4318", "ftp://x", "http://", "::"} {
		if _, err := telemetry.New(t.Context(), telemetry.Config{OTLPEndpoint: s}); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}
