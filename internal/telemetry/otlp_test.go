package telemetry_test

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/telemetry"
)

// collector answers exports, one answer after the other and the last one again and again,
// and keeps what came.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	answers []func(http.ResponseWriter)
	bodies  [][]byte
	headers []http.Header
}

func newCollector(t *testing.T, answers ...func(http.ResponseWriter)) *collector {
	t.Helper()
	c := &collector{answers: answers}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		answer := c.answers[min(len(c.bodies), len(c.answers)-1)]
		c.bodies, c.headers = append(c.bodies, body), append(c.headers, r.Header)
		answer(w)
	}))
	t.Cleanup(c.Close)
	return c
}

func status(code int) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { w.WriteHeader(code) }
}

// export sends the spans of one call and gives what was told of failures.
func export(t *testing.T, endpoint string) (told []string) {
	t.Helper()
	tel, err := telemetry.New(t.Context(), telemetry.Config{
		OTLPEndpoint: endpoint, OTLPHeaders: map[string]string{"X-Key": "k"}, Version: "1.2.3",
		Failed: func(err error) { told = append(told, err.Error()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	_, call := tel.Begin(t.Context(), "deploy_temporary", deploy.TraceContext{Parent: parent, State: "vendor=a"})
	call.Stage(deploy.StageBundle)
	call.End(string(deploy.CodeRateLimited), true)
	if err := tel.Close(context.Background()); err != nil {
		t.Error(err)
	}
	return told
}

// TestOTLPForm: OpenTelemetry's own types read what we wrote, field by field.
func TestOTLPForm(t *testing.T) {
	c := newCollector(t, status(http.StatusOK))
	if told := export(t, c.URL); len(told) != 0 || len(c.bodies) != 1 {
		t.Fatalf("told %q after %d exports", told, len(c.bodies))
	}
	if h := c.headers[0]; h.Get("Content-Type") != "application/x-protobuf" || h.Get("X-Key") != "k" {
		t.Errorf("headers %v", h)
	}
	var got tracepb.TracesData // an ExportTraceServiceRequest has the same form
	if err := (proto.UnmarshalOptions{}).Unmarshal(c.bodies[0], &got); err != nil {
		t.Fatal(err)
	}
	if unknown := got.ProtoReflect().GetUnknown(); len(got.ResourceSpans) != 1 || len(unknown) > 0 {
		t.Fatalf("%d resources, unknown %x", len(got.ResourceSpans), unknown)
	}
	of := got.ResourceSpans[0]
	resource := map[string]string{}
	for _, a := range of.Resource.Attributes {
		resource[a.Key] = a.Value.GetStringValue()
	}
	if resource["service.name"] != "hourglass" || resource["service.version"] != "1.2.3" {
		t.Errorf("resource %v", resource)
	}
	if len(of.ScopeSpans) != 1 || of.ScopeSpans[0].Scope.Name != "github.com/hourglass-mcp/hourglass" || len(of.ScopeSpans[0].Spans) != 2 {
		t.Fatalf("scopes %v", of.ScopeSpans)
	}
	spans := of.ScopeSpans[0].Spans
	slices.SortFunc(spans, func(a, b *tracepb.Span) int { return cmp.Compare(b.Kind, a.Kind) })
	call, stage := spans[0], spans[1]
	for _, s := range spans {
		if hex(s.TraceId) != traceID || len(s.SpanId) != 8 || s.TraceState != "vendor=a" || len(s.ProtoReflect().GetUnknown()) > 0 ||
			s.StartTimeUnixNano == 0 || s.EndTimeUnixNano < s.StartTimeUnixNano || s.Status.Code != tracepb.Status_STATUS_CODE_ERROR || s.Status.Message != "rate_limited" {
			t.Errorf("%v", s)
		}
	}
	const known, remote = uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK), uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
	if call.Name != "tools/call deploy_temporary" || call.Kind != tracepb.Span_SPAN_KIND_SERVER || hex(call.ParentSpanId) != parentID || call.Flags != 1|known|remote {
		t.Errorf("call %v", call)
	}
	if stage.Name != "bundle" || stage.Kind != tracepb.Span_SPAN_KIND_INTERNAL || hex(stage.ParentSpanId) != hex(call.SpanId) || stage.Flags != 1|known {
		t.Errorf("stage %v", stage)
	}
	attrs := map[string]string{}
	for _, a := range call.Attributes {
		attrs[a.Key] = a.Value.GetStringValue()
	}
	if attrs["gen_ai.tool.name"] != "deploy_temporary" || attrs["error.type"] != "tool_error" || attrs["hourglass.outcome"] != "rate_limited" {
		t.Errorf("attributes %v", attrs)
	}
}

func hex(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

// TestOTLPPatience: what the specification calls retryable is sent again, the same; what
// it does not is told at once; and spans that were rejected are told although the answer
// is 200.
func TestOTLPPatience(t *testing.T) {
	partial := func(w http.ResponseWriter) {
		inner := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 2)
		_, _ = w.Write(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), inner))
	}
	garbage := func(w http.ResponseWriter) { _, _ = w.Write([]byte("\xff\xff\xff not protobuf")) }
	for _, c := range []struct {
		name    string
		answers []func(http.ResponseWriter)
		sent    int
		told    string
	}{
		{"accepted later", []func(http.ResponseWriter){status(http.StatusServiceUnavailable), status(http.StatusOK)}, 2, ""},
		{"never", []func(http.ResponseWriter){status(http.StatusTooManyRequests)}, 3, "429"},
		{"malformed", []func(http.ResponseWriter){status(http.StatusBadRequest)}, 1, "400"},
		{"in part", []func(http.ResponseWriter){partial}, 1, "rejected 2 spans"},
		{"an answer of something else", []func(http.ResponseWriter){garbage}, 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			col := newCollector(t, c.answers...)
			told := export(t, col.URL)
			if len(col.bodies) != c.sent {
				t.Errorf("sent %d times, want %d", len(col.bodies), c.sent)
			}
			for _, b := range col.bodies[1:] {
				if string(b) != string(col.bodies[0]) {
					t.Error("it was not the same again")
				}
			}
			if text := strings.Join(told, "|"); c.told == "" && text != "" || !strings.Contains(text, c.told) {
				t.Errorf("told %q, want %q", text, c.told)
			}
		})
	}
}

// TestOTLPKeyStays: a collector can't send the operator's key elsewhere, and an address
// that holds a key is not told.
func TestOTLPKeyStays(t *testing.T) {
	elsewhere := newCollector(t, status(http.StatusOK))
	c := newCollector(t, func(w http.ResponseWriter) {
		w.Header().Set("Location", elsewhere.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	if told := export(t, c.URL); len(told) != 1 || !strings.Contains(told[0], "307") {
		t.Errorf("told %q", told)
	}
	if len(elsewhere.bodies) != 0 {
		t.Error("a redirect was followed")
	}
	c.Close()
	if told := export(t, c.URL+"/v1/traces?key=verysecret"); len(told) != 1 || strings.Contains(told[0], "verysecret") {
		t.Errorf("told %q", told)
	}
}
