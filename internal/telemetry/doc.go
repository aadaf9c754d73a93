// Package telemetry is the cellar: the one place that knows the OpenTelemetry SDK. It
// makes a span of every tool call, with children by stage, counts what the operator
// wants to see with Prometheus' own client, and serves the counts in its form.
//
// It never learns an argument, a secret or a name that somebody else chose: labels of
// metrics are tools, outcomes, stages and reasons, all of them short lists of ours.
package telemetry
