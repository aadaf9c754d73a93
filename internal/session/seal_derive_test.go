package session_test

import (
	"bytes"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/session"
)

// TestDerivedKey: all who share the store's key derive the same keys, one a purpose, and
// none is the store's own.
func TestDerivedKey(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	derive := func(key []byte, purpose string) string {
		s, err := session.Open(t.Context(), session.Config{Dir: t.TempDir(), Key: key})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		got, err := s.DerivedKey(purpose)
		if err != nil || len(got) != 32 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		return string(got)
	}
	one := derive(key, "a")
	if one != derive(key, "a") || one == derive(key, "b") || one == string(key) || one == derive(bytes.Repeat([]byte{8}, 32), "a") {
		t.Error("the keys are not what they should be")
	}
}
