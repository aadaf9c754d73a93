package web_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

func (h *hall) accesses() []deploy.Access {
	h.board.mu.Lock()
	defer h.board.mu.Unlock()
	return append([]deploy.Access{}, h.board.access...)
}

// TestLoginsAreOnRecord: who logged in, how, and with what scopes; tries in vain, without
// what was tried, and only so many of them.
func TestLoginsAreOnRecord(t *testing.T) {
	h := newHall(t, web.ConsoleConfig{})
	h.enter(user("ann", approve))
	if got := h.accesses(); len(got) != 1 || got[0].Kind != deploy.NoticeLogin || got[0].How != deploy.AccessLink || got[0].User.ID != "link:ann" || got[0].User.Scopes[0] != approve {
		t.Fatalf("%+v", got)
	}
	const wrong = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	p := h.person()
	codes := map[int]int{}
	for range 70 {
		codes[p.do(http.MethodPost, "/console/login", map[string][]string{"code": {wrong}}).StatusCode]++
	}
	got := h.accesses()[1:]
	if len(got) != 10 || codes[http.StatusForbidden] != 60 || codes[http.StatusTooManyRequests] != 10 {
		t.Errorf("%d on record, answers %v", len(got), codes)
	}
	h.enter(user("bob", approve)) // who has a good link is not kept waiting by that
	h.later(2 * time.Minute)
	p.post("/console/login", http.StatusForbidden, "code", wrong)
	all := h.accesses()
	if last := all[len(all)-1]; last.Kind != deploy.NoticeAccessRefused || last.How != deploy.AccessLink || last.Why == "" || last.Missed != 60 || last.User.Name != "" {
		t.Errorf("%+v", last)
	}
	if text := fmt.Sprintf("%+v", all); strings.Contains(text, wrong) {
		t.Errorf("what was tried is on record: %s", text)
	}
}

// TestALoginThatCantBeRecorded is none.
func TestALoginThatCantBeRecorded(t *testing.T) {
	h := newHall(t, web.ConsoleConfig{})
	h.set(func(d *board) {
		d.unnoted = deploy.Errorf(deploy.CodeStore, "Look at the log.", "the audit log can't be written")
	})
	link := h.link(user("ann", approve))
	p := h.person()
	if resp := p.post("/console/login", http.StatusInternalServerError, "code", link[strings.LastIndexByte(link, '/')+1:]); len(resp.Cookies()) != 0 || len(h.book.sessions) != 0 {
		t.Errorf("somebody is logged in: %v", resp.Cookies())
	}
	p.get("/console", http.StatusUnauthorized)
}

// softKey is a passkey made of nothing but arithmetic (WebAuthn level 2, "none" attestation).
type softKey struct {
	id      []byte
	private *ecdsa.PrivateKey
	count   uint32
}

func newSoftKey(t *testing.T) *softKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &softKey{id: []byte(rand.Text()), private: key}
}

// question is what the console asks a passkey.
type question struct {
	Handle  string
	Options struct {
		PublicKey struct {
			Challenge string
			RP        struct{ ID string }
			RPID      string
		}
	}
}

func (p *person) question(path string, pairs ...string) question {
	p.h.t.Helper()
	p.post(path, http.StatusOK, pairs...)
	var q question
	if err := json.Unmarshal([]byte(p.last), &q); err != nil || q.Handle == "" {
		p.h.t.Fatalf("%v: %s", err, p.last)
	}
	return q
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (k *softKey) client(kind string, q question, origin string) []byte {
	b, _ := json.Marshal(map[string]any{"type": kind, "challenge": q.Options.PublicKey.Challenge, "origin": origin, "crossOrigin": false})
	return b
}

func (k *softKey) data(rp string, flags byte) []byte {
	sum := sha256.Sum256([]byte(rp))
	k.count++
	return binary.BigEndian.AppendUint32(append(sum[:], flags), k.count)
}

// made is the answer to the question for a new passkey.
func (k *softKey) made(q question, origin string) string {
	public, _ := k.private.PublicKey.Bytes() // 4, x, y
	data := append(k.data(q.Options.PublicKey.RP.ID, 0x45), make([]byte, 16)...)
	data = append(binary.BigEndian.AppendUint16(data, uint16(len(k.id))), k.id...)
	data = append(data, 0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20)
	data = append(append(append(data, public[1:33]...), 0x22, 0x58, 0x20), public[33:]...)
	object := append([]byte("\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58"), byte(len(data)))
	b, _ := json.Marshal(map[string]any{
		"id": b64(k.id), "rawId": b64(k.id), "type": "public-key",
		"response": map[string]string{"clientDataJSON": b64(k.client("webauthn.create", q, origin)), "attestationObject": b64(append(object, data...))},
	})
	return string(b)
}

// touch is the answer to the question for a touch.
func (k *softKey) touch(q question, origin string) string {
	client, data := k.client("webauthn.get", q, origin), k.data(q.Options.PublicKey.RPID, 0x05)
	hash := sha256.Sum256(client)
	signed := sha256.Sum256(append(append([]byte{}, data...), hash[:]...))
	sig, _ := ecdsa.SignASN1(rand.Reader, k.private, signed[:])
	b, _ := json.Marshal(map[string]any{
		"id": b64(k.id), "rawId": b64(k.id), "type": "public-key",
		"response": map[string]string{"clientDataJSON": b64(client), "authenticatorData": b64(data), "signature": b64(sig)},
	})
	return string(b)
}

// TestPasskeysAreOnRecord: one that is added, and answers that do not count; a yes by touch
// counts by the channel passkey.
func TestPasskeysAreOnRecord(t *testing.T) {
	h := newHall(t, web.ConsoleConfig{Passkeys: true})
	origin := strings.TrimSuffix(h.con.Address(), "/console")
	ann, key := h.enter(user("ann", approve)), newSoftKey(t)
	ann.get("/console/passkeys", http.StatusOK)
	page := ann.last
	q := ann.question("/console/passkeys/begin")
	ann.last = page
	ann.post("/console/passkeys", http.StatusForbidden, "handle", q.Handle, "passkey", key.made(q, "http://evil.example"))
	ann.last = page
	q = ann.question("/console/passkeys/begin")
	ann.last = page
	ann.post("/console/passkeys", http.StatusSeeOther, "handle", q.Handle, "passkey", key.made(q, origin))
	ann.get("/console/claims/c_1", http.StatusOK)
	page = ann.last
	for _, digest := range []string{"another", "digest-of-all"} {
		ann.last = page
		q = ann.question("/console/touch", "about", "claim/c_1", "digest", digest)
		want := http.StatusForbidden
		if digest == "digest-of-all" {
			want = http.StatusSeeOther
		}
		ann.last = page
		ann.post("/console/claims/c_1", want, "decision", "approve", "digest", "digest-of-all", "handle", q.Handle, "passkey", key.touch(q, origin))
	}
	if len(h.board.decided) != 1 || h.board.decided[0].Channel != deploy.ChannelPasskey {
		t.Errorf("decided: %+v", h.board.decided)
	}
	var story []string
	for _, a := range h.accesses() {
		if a.User.Name != "ann" {
			t.Errorf("whose it is: %+v", a)
		}
		story = append(story, a.Kind+" "+a.How)
	}
	if got := strings.Join(story, ", "); got != "login link, access_refused passkey, passkey passkey, access_refused passkey" {
		t.Errorf("on record: %s", got)
	}
	bob, another := h.enter(user("bob", approve)), newSoftKey(t)
	bob.get("/console/passkeys", http.StatusOK)
	page = bob.last
	q = bob.question("/console/passkeys/begin")
	h.set(func(d *board) {
		d.unnoted = deploy.Errorf(deploy.CodeStore, "Look at the log.", "the audit log can't be written")
	})
	bob.last = page
	bob.post("/console/passkeys", http.StatusInternalServerError, "handle", q.Handle, "passkey", another.made(q, origin))
	if kept, _ := h.book.Passkeys(t.Context(), "link:bob"); len(kept) != 0 {
		t.Error("a passkey that can't be recorded was kept")
	}
}
