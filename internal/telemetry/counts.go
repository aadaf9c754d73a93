package telemetry

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// counts are what calls are counted in; nil: nothing is counted. The names are those that
// OpenTelemetry's conventions for MCP have in Prometheus' form.
type counts struct {
	calls    *prometheus.CounterVec
	took     *prometheus.HistogramVec
	stages   *prometheus.HistogramVec
	accounts prometheus.Counter
}

// buckets are seconds: a redeploy takes about 0.05, a fresh account 0.3 against the
// sandbox and some 20 on the live API (peers fact sheet, 2.2).
func buckets() []float64 {
	return []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 40}
}

// newCounts registers them, what is read when somebody looks, and what the Go runtime and
// the process tell of themselves.
func newCounts(into *prometheus.Registry, readings []Reading) (*counts, error) {
	c := &counts{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hourglass_tool_calls_total", Help: "Tool calls by tool and outcome.",
		}, []string{"tool", "outcome"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mcp_server_operation_duration_seconds", Help: "How long MCP requests took.", Buckets: buckets(),
		}, []string{"mcp_method_name", "gen_ai_tool_name", "error_type"}),
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hourglass_stage_duration_seconds", Help: "How long each stage of a deployment took.", Buckets: buckets(),
		}, []string{"stage"}),
		accounts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hourglass_accounts_created_total", Help: "Temporary accounts that calls went through the making of.",
		}),
	}
	all := []prometheus.Collector{
		c.calls, c.took, c.stages, c.accounts,
		// What the collector found in use says more of a leak than the heap as it stands.
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: liveHeap})), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	for _, r := range readings {
		all = append(all, newReading(r))
	}
	var errs []error
	for _, one := range all {
		errs = append(errs, into.Register(one))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return c, nil
}

// call counts a call that ended. The words are bounded already; trace is the example that
// a bucket shows, for who wants to see one of its calls.
func (c *counts) call(tool, outcome string, failed bool, took time.Duration, trace string) {
	if c == nil {
		return
	}
	c.calls.WithLabelValues(tool, outcome).Inc()
	kind := "" // to Prometheus the same as no label
	if failed {
		kind = toolError
	}
	in := c.took.WithLabelValues(methodCall, tool, kind)
	if one, ok := in.(prometheus.ExemplarObserver); ok && trace != "" {
		one.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": trace})
		return
	}
	in.Observe(took.Seconds())
}

func (c *counts) stage(name string, took time.Duration) {
	if c != nil {
		c.stages.WithLabelValues(name).Observe(took.Seconds())
	}
}

func (c *counts) account() {
	if c != nil {
		c.accounts.Inc()
	}
}

// liveHeap is what the Go runtime calls the heap that its last collection found in use.
var liveHeap = regexp.MustCompile(`^/gc/heap/live:bytes$`)
