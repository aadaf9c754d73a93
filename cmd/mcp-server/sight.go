package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/telemetry"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// otlpHeadersVar holds what goes with every export of spans, as key=value with commas
// between them. It is no flag: other users of the machine see a process's arguments.
const otlpHeadersVar = "HOURGLASS_OTLP_HEADERS"

// telemetryConfig reads where spans go. What of it is a secret is known to the redactor.
func (h *house) telemetryConfig(o *options, p process) (telemetry.Config, error) {
	cfg := telemetry.Config{OTLPEndpoint: o.OTLPEndpoint, Version: version}
	log := h.log
	cfg.Failed = func(err error) {
		log.Warn().Str("cause", h.redactor.Redact(err.Error())).Msg("spans could not be sent to the collector")
	}
	text, _ := p.env(otlpHeadersVar)
	if text == "" || o.OTLPEndpoint == "" {
		return cfg, nil
	}
	h.redactor.Add(text)
	cfg.OTLPHeaders = map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		k, v, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok || k == "" || v == "" || strings.ContainsAny(k+v, "\r\n") {
			return cfg, refuse(errors.New(otlpHeadersVar + " is not a list of name=value with commas between them; what it holds is not repeated here"))
		}
		h.redactor.Add(v)
		cfg.OTLPHeaders[k] = v
	}
	return cfg, nil
}

// watch makes what watches the calls, with what is read when somebody looks. It is closed
// with the house.
func (h *house) watch(ctx context.Context, o *options, p process, readings []telemetry.Reading) (*telemetry.Telemetry, error) {
	cfg, err := h.telemetryConfig(o, p)
	if err != nil {
		return nil, err
	}
	cfg.Readings, cfg.TracesOnly = readings, readings == nil
	t, err := telemetry.New(ctx, cfg)
	if err != nil {
		return nil, refuse(err)
	}
	h.onClose(func() error { return h.lastSpans(t) })
	return t, nil
}

// lastSpans sends the spans that wait. A collector that is away is no failure of ours.
func (h *house) lastSpans(t *telemetry.Telemetry) error {
	if err := t.Close(context.Background()); err != nil {
		h.log.Warn().Str("cause", h.redactor.Redact(err.Error())).Msg("the last spans could not be sent")
	}
	return nil
}

// quietly watches the calls of a server on stdio, which nobody reads metrics of: nothing
// is made before the first call, unless spans go somewhere, and a wrong address for them
// is refused at the start.
func (h *house) quietly(ctx context.Context, o *options, p process) (deploy.Observer, error) {
	if o.OTLPEndpoint != "" {
		return h.watch(ctx, o, p, nil)
	}
	return &later{make: func() deploy.Observer {
		t, err := telemetry.New(ctx, telemetry.Config{Version: version, TracesOnly: true})
		if err != nil {
			h.log.Warn().Err(err).Msg("calls are not traced")
			return deploy.NoObserver{}
		}
		return t // without an exporter nothing of it has to be closed
	}}, nil
}

// later is an Observer that is made at the first call.
type later struct {
	make func() deploy.Observer
	once sync.Once
	real deploy.Observer
}

// Begin implements deploy.Observer.
func (l *later) Begin(ctx context.Context, tool string, trace deploy.TraceContext) (context.Context, deploy.Observed) {
	l.once.Do(func() { l.real = l.make() })
	return l.real.Begin(ctx, tool, trace)
}

// readings are what /metrics shows beside the counts of calls.
func (h *house) readings() []telemetry.Reading {
	one := func(v float64) []telemetry.Sample { return []telemetry.Sample{{Value: v}} }
	usage := func(read func(deploy.Usage) int) func(context.Context) ([]telemetry.Sample, error) {
		return func(ctx context.Context) ([]telemetry.Sample, error) {
			u, err := h.service.Usage(ctx)
			return one(float64(read(u))), err
		}
	}
	return []telemetry.Reading{
		{Name: "live_sessions", Help: "Sessions with an account in use, in the store that servers share.", Read: usage(func(u deploy.Usage) int { return u.AllLiveSessions })},
		{Name: "accounts_last_hour", Help: "Temporary accounts made in the last hour, in the store that servers share.", Read: usage(func(u deploy.Usage) int { return u.AllAccounts })},
		{Name: "deployments_last_hour", Help: "Deployments of the last hour, in the store that servers share.", Read: usage(func(u deploy.Usage) int { return u.AllDeployments })},
		{Name: "api_calls_total", Help: "Requests to the API, repeats among them.", Rises: true, Read: func(context.Context) ([]telemetry.Sample, error) {
			return one(float64(h.client.Stats().Calls)), nil
		}},
		{Name: "api_retries_total", Help: "Repeated requests to the API by reason.", Label: "reason", Rises: true, Read: func(context.Context) ([]telemetry.Sample, error) {
			var out []telemetry.Sample
			for why, n := range maps.All(h.client.Stats().Retries) {
				out = append(out, telemetry.Sample{Kind: string(why), Value: float64(n)})
			}
			return out, nil
		}},
		{Name: "api_circuit", Help: "1 at the state of the circuit that keeps calls from an API that is down.", Label: "state", Read: func(context.Context) ([]telemetry.Sample, error) {
			var out []telemetry.Sample
			now := h.client.Circuit().State
			for _, s := range []cloudflare.CircuitState{cloudflare.CircuitClosed, cloudflare.CircuitOpen, cloudflare.CircuitHalfOpen} {
				v := 0.0
				if s == now {
					v = 1
				}
				out = append(out, telemetry.Sample{Kind: string(s), Value: v})
			}
			return out, nil
		}},
		{Name: "bundles", Help: "Bundles being made, and calls that wait for a turn.", Label: "state", Read: func(context.Context) ([]telemetry.Sample, error) {
			working, waiting := h.service.BundleQueue()
			return []telemetry.Sample{{Kind: "working", Value: float64(working)}, {Kind: "waiting", Value: float64(waiting)}}, nil
		}},
		{Name: "sandbox_processes", Help: "Processes of the sandbox inside this server.", Read: func(context.Context) ([]telemetry.Sample, error) {
			if h.box == nil {
				return nil, nil
			}
			return one(float64(h.box.Processes())), nil
		}},
	}
}

// errCircuitOpen is the API's state as the calls found it.
var errCircuitOpen = errors.New("the API is down: nothing goes out until it is looked at again")

// checks are what /readyz answers for.
func (h *house) checks() []web.Check {
	return []web.Check{
		{Name: "store", Every: time.Second, Probe: h.ping},
		{Name: "api", Every: 10 * time.Second, Probe: func(ctx context.Context) error {
			if h.client.Circuit().State == cloudflare.CircuitOpen {
				return errCircuitOpen
			}
			if _, err := h.client.AskClock(ctx); err != nil {
				return fmt.Errorf("asking the API for its time: %w", err)
			}
			return nil
		}},
	}
}
