package deploy

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is text that must not leave the process: an API token, a claim URL. It
// prints, logs and marshals as a placeholder; only Reveal gives the text.
//
// Three ways round it are left, which Go does not let a type close: fmt prints an
// unexported field of a struct without asking its methods, and any value behind %p
// (which go vet refuses); encoding/json writes a map's key of a string type as it is.
// So nothing that is printed holds a Secret in an unexported field or as a key.
type Secret string

const redacted = "[redacted]"

// Reveal gives the text itself.
func (s Secret) Reveal() string { return string(s) }

// Empty tells whether there is no secret, or none any more.
func (s Secret) Empty() bool { return s == "" }

// String is the placeholder.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString is the placeholder, for %#v.
func (s Secret) GoString() string { return s.String() }

// Format is the placeholder for every verb: left to itself, fmt shows the text behind
// a verb that does not fit, such as %d.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is the placeholder, for log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is the placeholder, for encoding/json and its kin.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
