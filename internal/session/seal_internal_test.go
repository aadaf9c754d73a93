package session

import (
	"bytes"
	"testing"
)

// FuzzOpen: whatever bytes stand where a sealed value should, opening gives the value
// that was sealed for that place, or an error; never a panic.
func FuzzOpen(f *testing.F) {
	s, err := newSealer(bytes.Repeat([]byte{1}, keyBytes))
	if err != nil {
		f.Fatal(err)
	}
	where := place("accounts", "token", "t", "1")
	good := s.seal([]byte("secret"), where)
	f.Add(good, "1")
	f.Add(good[:10], "1")
	f.Add([]byte{}, "2")
	f.Fuzz(func(t *testing.T, sealed []byte, id string) {
		plain, err := s.open(sealed, place("accounts", "token", "t", id))
		if err == nil && len(sealed) > 0 && (id != "1" || !bytes.Equal(sealed, good)) {
			t.Errorf("opened %q at another place or of other bytes", plain)
		}
	})
}
