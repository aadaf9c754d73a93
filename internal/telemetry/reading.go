package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reading is a Reading as Prometheus collects it.
type reading struct {
	Reading
	desc *prometheus.Desc
}

// readTimeout bounds one reading: a store that hangs must not hang the operator's view.
const readTimeout = 3 * time.Second

func newReading(r Reading) *reading {
	var labels []string
	if r.Label != "" {
		labels = []string{r.Label}
	}
	return &reading{Reading: r, desc: prometheus.NewDesc("hourglass_"+r.Name, r.Help, labels, nil)}
}

// Describe implements prometheus.Collector.
func (r *reading) Describe(ch chan<- *prometheus.Desc) { ch <- r.desc }

// Collect implements prometheus.Collector.
func (r *reading) Collect(ch chan<- prometheus.Metric) {
	ctx, stop := context.WithTimeout(context.Background(), readTimeout)
	defer stop()
	samples, err := r.Read(ctx)
	if err != nil {
		return // a gap in the series says it; /readyz says why
	}
	kind := prometheus.GaugeValue
	if r.Rises {
		kind = prometheus.CounterValue
	}
	// Summed by label: what is not one of ours is "other", and a label may come once only.
	sums := map[string]float64{}
	for _, s := range samples {
		if r.Label != "" {
			sums[bounded(s.Kind)] += s.Value
		} else {
			sums[""] += s.Value
		}
	}
	for label, v := range sums {
		var labels []string
		if r.Label != "" {
			labels = []string{label}
		}
		ch <- prometheus.MustNewConstMetric(r.desc, kind, v, labels...)
	}
}
