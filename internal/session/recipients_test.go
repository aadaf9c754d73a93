package session_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

func claimLink() deploy.ClaimLink {
	return deploy.ClaimLink{
		URL:       "https://dash.cloudflare.com/claim-preview?claimToken=the-word-that-owns-the-account",
		SessionID: "s_1", AccountID: "a_1", AccountName: "brisk-otter", Target: "https://api.cloudflare.com/client/v4",
		ExpiresAt: time.Date(2026, 11, 24, 13, 0, 0, 0, time.UTC),
	}
}

// never answers where no passphrase may be asked for.
func never() (string, error) { return "", errors.New("a passphrase was asked for") }

func says(s string) func() (string, error) { return func() (string, error) { return s, nil } }

// TestSealToHumans: each recipient opens it with their own key, nobody else does, and
// nothing of it can be read.
func TestSealToHumans(t *testing.T) {
	const phrase = "correct horse battery"
	file, solo, err := session.NewIdentityFast(phrase)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	to, err := session.ParseRecipients([]string{solo, " " + plain.Recipient().String() + "\n"})
	if err != nil || len(to.Recipients()) != 2 {
		t.Fatalf("%v %v", to, err)
	}
	sealed, err := to.SealClaim(claimLink())
	if err != nil || !deploy.SealedClaim(sealed) || strings.Contains(sealed.Reveal(), "claimToken") {
		t.Fatalf("%v", err)
	}
	again, err := to.SealClaim(claimLink())
	if err != nil || again == sealed {
		t.Errorf("the same twice: %v", err)
	}
	own, err := session.OpenIdentity(file, says(phrase))
	if err != nil {
		t.Fatal(err)
	}
	other, err := session.OpenIdentity([]byte("# comment\n"+plain.String()+"\n"), never)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []*session.Identity{own, other} {
		got, err := id.OpenClaim(sealed)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(claimLink(), *got); diff != "" {
			t.Error(diff)
		}
		if s := fmt.Sprintf("%v %+v %#v", id, id, id); strings.Contains(s, "AGE") {
			t.Error(s)
		}
	}
	stranger, _ := age.GenerateX25519Identity()
	third, _ := session.OpenIdentity([]byte(stranger.String()), never)
	if _, err := third.OpenClaim(sealed); !deploy.IsCode(err, deploy.CodeInvalidArgument) || !strings.Contains(err.Error(), "not sealed to this key") {
		t.Errorf("a stranger: %v", err)
	}
	text := sealed.Reveal()
	for name, bad := range map[string]string{
		"a link": "https://dash.cloudflare.com/claim-preview?claimToken=x", "nothing": "", "half": text[:len(text)/2],
		"changed": strings.Replace(text, text[300:304], "AAAA", 1), "something else": string(seal(t, "hello", own, solo)),
	} {
		if _, err := own.OpenClaim(deploy.Secret(bad)); !deploy.IsCode(err, deploy.CodeInvalidArgument) || deploy.AsError(err).Next == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// seal is what anybody can do who has the public key.
func seal(t *testing.T, text string, _ *session.Identity, to string) []byte {
	t.Helper()
	r, err := age.ParseX25519Recipient(to)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, r)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, text)
	if err := errors.Join(w.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestIdentityRefusals(t *testing.T) {
	const phrase = "correct horse battery"
	file, public, err := session.NewIdentityFast(phrase)
	if err != nil || bytes.Contains(file, []byte("SECRET")) {
		t.Fatalf("%s %v", file, err)
	}
	if _, _, err := session.NewIdentityFast("short"); err == nil || strings.Contains(err.Error(), "short:") {
		t.Errorf("%v", err)
	}
	for name, c := range map[string]struct {
		file   []byte
		phrase func() (string, error)
	}{
		"the wrong passphrase": {file, says("incorrect horse battery")},
		"no passphrase":        {file, says("")},
		"a broken file":        {file[:len(file)-60], says(phrase)},
		"sealed to a key":      {seal(t, "x", nil, public), says(phrase)},
		"no key":               {[]byte("AGE-SECRET-KEY-1NOTAKEY"), never},
		"empty":                {nil, never},
		"a refusal":            {file, never},
	} {
		id, err := session.OpenIdentity(c.file, c.phrase)
		if err == nil || id != nil || strings.Contains(err.Error(), "NOTAKEY") || strings.Contains(err.Error(), "horse") {
			t.Errorf("%s: %v", name, err)
		}
	}
	private, _ := age.GenerateX25519Identity()
	for _, bad := range [][]string{nil, {""}, {"age1"}, {public + "x"}, {private.String()}, {"ssh-ed25519 AAAA"}, {strings.ToLower(private.String())}} {
		if _, err := session.ParseRecipients(bad); err == nil || strings.Contains(err.Error(), private.String()) || strings.Contains(err.Error(), strings.ToLower(private.String())) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if _, err := (&session.Recipients{}).SealClaim(deploy.ClaimLink{}); err == nil {
		t.Error("nothing was sealed to nobody")
	}
}

// FuzzOpenClaim: whatever stands where a sealed link should, opening gives the link, or
// an error; never a panic, never another link.
func FuzzOpenClaim(f *testing.F) {
	key, err := age.ParseX25519Identity("AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX")
	if err != nil {
		f.Fatal(err)
	}
	to, err := session.ParseRecipients([]string{key.Recipient().String()})
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := to.SealClaim(claimLink())
	if err != nil {
		f.Fatal(err)
	}
	id, err := session.OpenIdentity([]byte(key.String()), never)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed.Reveal())
	f.Add(sealed.Reveal()[:200])
	f.Add("-----BEGIN AGE ENCRYPTED FILE-----\n-----END AGE ENCRYPTED FILE-----")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := id.OpenClaim(deploy.Secret(text))
		if err == nil && *got != claimLink() {
			t.Errorf("%q opened to %+v", text, got)
		}
	})
}
