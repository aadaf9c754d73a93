package web

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// FuzzMessage: whatever a client sends, it is read or refused with an id that is one; and
// what is read as a tool call has the name that encoding/json gives others too.
func FuzzMessage(f *testing.F) {
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`, `[]`, `{"id":{}}`, `7`, `{"method":"a","method":"tools/call"}`,
		`{"id":null,"params":[]}`, `{"params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`, "",
	} {
		f.Add([]byte(s))
	}
	r := &http.Request{Header: http.Header{}}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, no := readMessage(r, body)
		if m == nil || (no != nil && (no.status < 400 || no.text == "")) {
			t.Fatalf("%+v %+v", m, no)
		}
		if len(m.ID) > 0 && !json.Valid(m.ID) {
			t.Errorf("the id %s", m.ID)
		}
		var other struct {
			Params struct {
				Name string `json:"name"`
			} `json:"params"`
		}
		if no == nil && json.Unmarshal(body, &other) == nil && other.Params.Name != m.Params.Name {
			t.Errorf("%q is read as %q", other.Params.Name, m.Params.Name)
		}
	})
}

// FuzzToken: no bytes make the reader of a token's head fail, and what it reads is never
// trusted: a token of an unknown issuer is refused.
func FuzzToken(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.")
	f.Fuzz(func(t *testing.T, token string) {
		head, err := peekClaims(token)
		if (head == nil) == (err == nil) {
			t.Errorf("%+v %v", head, err)
		}
	})
}

// FuzzSessionID: an id that was made for one principal is good for it alone, and no other
// text is good for anybody.
func FuzzSessionID(f *testing.F) {
	ids := newSessionIDs(time.Now)
	f.Add("ana", "bob", ids.make("ana"))
	f.Add("a", "ab", "mcp-session-")
	f.Fuzz(func(t *testing.T, one, other, text string) {
		id := ids.make(one)
		if ids.check(one, id) != nil {
			t.Errorf("%q is not good for its own", id)
		}
		if one != other && ids.check(other, id) == nil {
			t.Errorf("%q of %q is good for %q", id, one, other)
		}
		if !strings.HasPrefix(text, sessionPrefix) && ids.check(one, text) == nil {
			t.Errorf("%q is good", text)
		}
	})
}
