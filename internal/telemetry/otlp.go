package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// otlpExporter sends spans to a collector by OTLP over HTTP, in the binary form, which is
// the one that every collector takes. OpenTelemetry's own exporter does the same with gRPC and
// its gateway linked in: 96 packages, 3 MiB of the program, a 20th of a first build.
type otlpExporter struct {
	url     string
	headers map[string]string
	client  *http.Client
}

const (
	// exportTries is how often one export is sent where the collector asks for patience.
	exportTries = 3
	// firstWait is how long it is left alone after the first refusal, then twice as long.
	firstWait = 200 * time.Millisecond
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 64 << 10
)

func newOTLP(cfg Config) (*otlpExporter, error) {
	u, err := url.Parse(cfg.OTLPEndpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the address of the trace collector is not an http or https URL; give one such as http://127.0.0.1:4318")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces" // the specification's default for a base address
	}
	return &otlpExporter{url: u.String(), headers: cfg.OTLPHeaders, client: &http.Client{
		// The headers hold the operator's key: they go where the operator said, and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *otlpExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, exportTimeout)
	defer stop()
	body := encodeSpans(spans)
	wait := firstWait
	for try := 1; ; try++ {
		again, err := e.send(ctx, body)
		if err == nil || !again || try == exportTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
			wait *= 2
		}
	}
}

// send posts once; again tells that the same may be accepted later.
func (e *otlpExporter) send(ctx context.Context, body []byte) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return false, fmt.Errorf("the collector: %w", err)
	}
	for k, v := range e.headers {
		req.Header.Set(k, v)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := e.client.Do(req)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err // without the address, which may hold a key
		}
		return true, fmt.Errorf("the collector: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return true, fmt.Errorf("the collector's answer: %w", err)
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return false, rejected(answer)
	}
	switch resp.StatusCode { // those that the specification calls retryable
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		again = true
	}
	return again, fmt.Errorf("the collector answered %s", resp.Status)
}

// rejected reads of an ExportTraceServiceResponse how many spans were not taken. An
// answer that is no such message has no such news.
func rejected(answer []byte) error {
	partial, _ := protowire.ConsumeBytes(field(answer, 1, protowire.BytesType))
	if n, _ := protowire.ConsumeVarint(field(partial, 1, protowire.VarintType)); n > 0 {
		return fmt.Errorf("the collector rejected %d spans", n)
	}
	return nil
}

// field finds the last field of that number and type in a message; nil: it has none.
func field(message []byte, want protowire.Number, kind protowire.Type) (value []byte) {
	for len(message) > 0 {
		n, k, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return value
		}
		size := protowire.ConsumeFieldValue(n, k, message[tag:])
		if size < 0 {
			return value
		}
		if n == want && k == kind {
			value = message[tag : tag+size]
		}
		message = message[tag+size:]
	}
	return value
}

// Shutdown implements sdktrace.SpanExporter.
func (e *otlpExporter) Shutdown(context.Context) error {
	e.client.CloseIdleConnections()
	return nil
}
