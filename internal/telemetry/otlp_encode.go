package telemetry

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// The field numbers here are those of opentelemetry/proto/{collector/trace,trace,common,
// resource}/v1. A test decodes what is made here with OpenTelemetry's own types.

// message appends a field that is a message of its own.
func message(b []byte, n protowire.Number, fill func([]byte) []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), fill(nil))
}

func text(b []byte, n protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

func raw(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func number(b []byte, n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func fixed(b []byte, n protowire.Number, v uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, n, protowire.Fixed64Type), v)
}

// encodeSpans makes an ExportTraceServiceRequest. All spans are of the one resource and
// the one scope that this package makes.
func encodeSpans(spans []sdktrace.ReadOnlySpan) []byte {
	return message(nil, 1, func(b []byte) []byte { // ResourceSpans
		b = message(b, 1, func(b []byte) []byte { return attributes(b, 1, spans[0].Resource().Attributes()) })
		return message(b, 2, func(b []byte) []byte { // ScopeSpans
			b = message(b, 1, func(b []byte) []byte {
				s := spans[0].InstrumentationScope()
				return text(text(b, 1, s.Name), 2, s.Version)
			})
			for _, s := range spans {
				b = message(b, 2, func(b []byte) []byte { return encodeSpan(b, s) })
			}
			return b
		})
	})
}

// encodeSpan appends the fields of a Span. Ours have neither events nor links.
func encodeSpan(b []byte, s sdktrace.ReadOnlySpan) []byte {
	of, parent := s.SpanContext(), s.Parent()
	trace, id := of.TraceID(), of.SpanID()
	b = text(raw(raw(b, 1, trace[:]), 2, id[:]), 3, of.TraceState().String())
	flags := uint32(of.TraceFlags()) | 1<<8 // it is known whether the parent is remote
	if parent.SpanID().IsValid() {
		up := parent.SpanID()
		b = raw(b, 4, up[:])
		if parent.IsRemote() {
			flags |= 1 << 9
		}
	}
	b = number(text(b, 5, s.Name()), 6, uint64(s.SpanKind())) //nolint:gosec // one of six; the numbers are the same
	b = fixed(b, 7, uint64(s.StartTime().UnixNano()))         //nolint:gosec // after 1970
	b = fixed(b, 8, uint64(s.EndTime().UnixNano()))           //nolint:gosec // after 1970
	b = attributes(b, 9, s.Attributes())
	b = message(b, 15, func(b []byte) []byte {
		switch st := s.Status(); st.Code {
		case codes.Ok:
			return number(b, 3, 1)
		case codes.Error:
			return number(text(b, 2, st.Description), 3, 2)
		}
		return b
	})
	return protowire.AppendFixed32(protowire.AppendTag(b, 16, protowire.Fixed32Type), flags)
}

// attributes appends each as a KeyValue with an AnyValue.
func attributes(b []byte, n protowire.Number, list []attribute.KeyValue) []byte {
	for _, a := range list {
		b = message(b, n, func(b []byte) []byte {
			return message(text(b, 1, string(a.Key)), 2, func(b []byte) []byte { return anyValue(b, a.Value) })
		})
	}
	return b
}

// anyValue appends the field of the value's type; a list goes as its text, as we have none.
func anyValue(b []byte, v attribute.Value) []byte {
	switch v.Type() {
	case attribute.BOOL:
		return number(b, 2, protowire.EncodeBool(v.AsBool()))
	case attribute.INT64:
		return number(b, 3, uint64(v.AsInt64())) //nolint:gosec // two's complement is the form
	case attribute.FLOAT64:
		return fixed(b, 4, math.Float64bits(v.AsFloat64()))
	case attribute.STRING:
		return raw(b, 1, []byte(v.AsString())) // an empty text is a value too
	}
	return text(b, 1, v.String())
}
