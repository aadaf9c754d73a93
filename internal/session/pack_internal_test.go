package session

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// TestPack: an artifact of any size comes back as it was, also one that an older program
// kept, which compressed them all; and each is a DEFLATE stream that anything can read.
func TestPack(t *testing.T) {
	s := &Store{}
	empty, err := s.pack(&deploy.Artifact{Modules: []deploy.Module{{Name: "index.js"}}})
	if err != nil {
		t.Fatal(err)
	}
	fixed := len(empty) - 5
	for _, size := range []int{0, 1, 1000, maxStored - fixed - 100, maxStored - fixed, maxStored, 100_000, 1 << 20, 1 << 20} {
		content := []byte(strings.Repeat("0123456789abcdef", size/16+1)[:size])
		a := &deploy.Artifact{Name: "a", Modules: []deploy.Module{{Name: "index.js", Type: deploy.TypeESModule, Content: content}}}
		packed, err := s.pack(a)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if stored := len(packed) == len(text)+5; stored != (len(text) <= maxStored) || len(packed) > len(text)+5 {
			t.Errorf("%d bytes of JSON are kept in %d", len(text), len(packed))
		}
		if plain, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed))); err != nil || !bytes.Equal(plain, text) {
			t.Errorf("%d bytes: DEFLATE gives %d bytes, %v", size, len(plain), err)
		}
		var old bytes.Buffer
		w, err := flate.NewWriter(&old, flate.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(w).Encode(a); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for _, form := range [][]byte{packed, old.Bytes()} {
			if back, err := unpack(form); err != nil || back.Name != "a" || len(back.Modules) != 1 || !bytes.Equal(back.Modules[0].Content, content) {
				t.Errorf("%d bytes: it came back as another, %v", size, err)
			}
		}
		if _, err := unpack(packed[:len(packed)/2]); err == nil {
			t.Errorf("%d bytes: a cut one was taken", size)
		}
	}
}
