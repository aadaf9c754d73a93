package deploy_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// disguises are the forms in which a secret may travel in a longer text.
func disguises() map[string]func(before, secret, after string) string {
	inJSON := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	return map[string]func(before, secret, after string) string{
		"raw":          func(b, s, a string) string { return b + s + a },
		"query":        func(b, s, a string) string { return url.QueryEscape(b + s + a) },
		"path":         func(b, s, a string) string { return url.PathEscape(b + s + a) },
		"json":         func(b, s, a string) string { return inJSON(b + s + a) },
		"json in json": func(b, s, a string) string { return inJSON(inJSON(b + s + a)) },
		"json, no html": func(b, s, a string) string {
			var out strings.Builder
			e := json.NewEncoder(&out)
			e.SetEscapeHTML(false)
			_ = e.Encode(b + s + a)
			return out.String()
		},
		"hex":        func(b, s, a string) string { return hex.EncodeToString([]byte(b + s + a)) },
		"HEX":        func(b, s, a string) string { return strings.ToUpper(hex.EncodeToString([]byte(b + s + a))) },
		"base64":     func(b, s, a string) string { return base64.StdEncoding.EncodeToString([]byte(b + s + a)) },
		"base64 url": func(b, s, a string) string { return base64.RawURLEncoding.EncodeToString([]byte(b + s + a)) },
	}
}

// reveal undoes a disguise as far as a reader of the output could: it tells whether the
// secret can still be found in it.
func reveals(form, out, secret string) bool {
	if strings.Contains(out, secret) {
		return true
	}
	switch form {
	case "hex", "HEX":
		return strings.Contains(strings.ToLower(out), hex.EncodeToString([]byte(secret)))
	case "query":
		plain, err := url.QueryUnescape(out)
		return err == nil && strings.Contains(plain, secret)
	case "path":
		plain, err := url.PathUnescape(out)
		return err == nil && strings.Contains(plain, secret)
	case "json", "json in json", "json, no html":
		for range 2 {
			var plain string
			if json.Unmarshal([]byte(out), &plain) != nil {
				return false
			}
			if out = plain; strings.Contains(out, secret) {
				return true
			}
		}
	case "base64":
		// Whoever has all but the redacted middle must not be able to put it together.
		for piece := range strings.SplitSeq(out, "[redacted]") {
			for skip := range min(4, len(piece)) {
				plain, _ := base64.RawStdEncoding.DecodeString(strings.TrimRight(piece[skip:], "=")[:len(strings.TrimRight(piece[skip:], "="))/4*4])
				if bytes.Contains(plain, []byte(secret)) {
					return true
				}
			}
		}
	case "base64 url":
		for piece := range strings.SplitSeq(out, "[redacted]") {
			for skip := range min(4, len(piece)) {
				plain, _ := base64.RawURLEncoding.DecodeString(piece[skip:][:len(piece[skip:])/4*4])
				if bytes.Contains(plain, []byte(secret)) {
					return true
				}
			}
		}
	}
	return false
}

func TestNoFormOfASecretGetsThrough(t *testing.T) {
	secrets := rapid.StringMatching(`[A-Za-z0-9_+/=&?"\\<>%. -]{16,60}`)
	around := rapid.StringMatching(`[a-z0-9 {}":,\\/&<>é]{0,40}`)
	rapid.Check(t, func(t *rapid.T) {
		r := deploy.NewRedactor()
		known := rapid.SliceOfN(secrets, 1, 5).Draw(t, "secrets")
		for _, s := range known {
			r.Add(s)
		}
		before, after := around.Draw(t, "before"), around.Draw(t, "after")
		for form, dress := range disguises() {
			for _, s := range known {
				in := dress(before, s, after)
				if out := r.Redact(in); reveals(form, out, s) {
					t.Fatalf("%s: %q of %q got through as %q", form, s, in, out)
				}
			}
		}
	})
}

// The check itself finds what is not redacted.
func TestRevealsFinds(t *testing.T) {
	const secret = `tok"en+/0123456789&`
	for form, dress := range disguises() {
		for _, before := range []string{"", "a", "ab", "abc"} {
			if in := dress(before, secret, "tail"); !reveals(form, in, secret) {
				t.Errorf("%s: the secret is not seen in %q", form, in)
			}
		}
	}
}

func TestShapesAreKnownWithoutRegistration(t *testing.T) {
	r := deploy.NewRedactor()
	const token = "Zx9_kq-2v8Wm4LrT0bYc7NdPh5SgJ1uAeFiOo3XyQwE"
	for _, in := range []string{
		"https://dash.cloudflare.com/claim-preview?claimToken=" + token,
		"see claimToken=" + token, "claimToken%3D" + token, `{"claimToken":"` + token + `"}`,
		`{"text":"{\"claimToken\":\"` + token + `\"}"}`, `{"u":"claimToken\u003d` + token + `"}`,
		"Authorization: Bearer " + token, "authorization: bearer " + token, "CLAIMTOKEN=" + token,
	} {
		if out := r.Redact(in); strings.Contains(out, token) || !strings.Contains(out, "[redacted]") {
			t.Errorf("%q became %q", in, out)
		}
	}
	for _, in := range []string{"", "an ordinary sentence about a claim", "bearer of news", "https://example.com/?q=1"} {
		if out := r.Redact(in); out != in {
			t.Errorf("%q became %q", in, out)
		}
	}
	r.Add("short")
	if out := r.Redact("a short word"); out != "a short word" {
		t.Errorf("a word under eight letters was taken for a secret: %q", out)
	}
}

func TestManySecrets(t *testing.T) {
	r := deploy.NewRedactor()
	name := func(i int) string { return fmt.Sprintf("secret-number-%06d-of-many", i) }
	for i := range 6000 {
		r.Add(name(i))
	}
	for _, i := range []int{5999, 5000, 3000} { // the newest are known for certain
		if out := r.Redact("x " + name(i) + " y"); strings.Contains(out, name(i)) {
			t.Errorf("secret %d of 6000 was forgotten", i)
		}
	}
}

func TestWriterHoldsLinesThatAreCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := deploy.NewRedactor()
		const secret = "s3cret-0123456789-abcdef"
		r.Add(secret)
		text := strings.Repeat("line "+secret+" end\n", rapid.IntRange(1, 5).Draw(t, "lines"))
		var out bytes.Buffer
		w := r.Writer(&out)
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			if m, err := io.WriteString(w, rest[:n]); m != n || err != nil {
				t.Fatalf("wrote %d of %d: %v", m, n, err)
			}
			rest = rest[n:]
			if strings.Contains(out.String(), secret[:8]) {
				t.Fatalf("out: %q", out.String())
			}
		}
		if want := strings.ReplaceAll(text, secret, "[redacted]"); out.String() != want {
			t.Fatalf("out: %q, want %q", out.String(), want)
		}
	})
}

// A line without an end is passed on in pieces; a secret on the border is not cut in two.
func TestWriterOfAnEndlessLine(t *testing.T) {
	r := deploy.NewRedactor()
	const secret = "s3cret-0123456789-abcdef"
	r.Add(secret)
	for at := 1<<20 - 30; at < 1<<20+10; at++ {
		var out bytes.Buffer
		w := r.Writer(&out)
		for _, piece := range []string{strings.Repeat("x", at), secret[:12], secret[12:], strings.Repeat("y", 1<<16), "\n"} {
			_, _ = io.WriteString(w, piece)
		}
		if s := out.String(); strings.Contains(s, secret[:6]) || strings.Contains(s, secret[12:]) || !strings.HasSuffix(s, "y\n") {
			t.Fatalf("at %d: half a secret in the output", at)
		}
	}
}

func TestWriterFromManyGoroutines(t *testing.T) {
	r := deploy.NewRedactor()
	var out bytes.Buffer
	w := r.Writer(&out)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			secret := fmt.Sprintf("secret-of-goroutine-%d", i)
			r.Add(secret)
			for range 50 {
				_, _ = fmt.Fprintf(w, "line with %s\n", secret)
			}
		})
	}
	wg.Wait()
	if s := out.String(); strings.Contains(s, "secret-of") || strings.Count(s, "\n") != 400 {
		t.Errorf("%d lines", strings.Count(s, "\n"))
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("secret-0123456789", "text with secret-0123456789 in it")
	f.Add(`quote"at-the-end"`, `{"a":"quote\"at-the-end\""}`)
	f.Fuzz(func(t *testing.T, secret, text string) {
		if len(secret) < 8 || strings.Contains("[redacted]", secret) || strings.Contains(secret, "[redacted]") {
			return
		}
		r := deploy.NewRedactor()
		r.Add(secret)
		once := r.Redact(text + secret)
		// What is left may join the placeholder to the secret again only if that holds a bit of it.
		if strings.Contains(once, secret) && !strings.ContainsAny(secret, "[]") && !strings.Contains(secret, "redacted") {
			t.Errorf("%q is in %q", secret, once)
		}
	})
}

func TestASecretNeverPrints(t *testing.T) {
	const text = "tok-0123456789-abcdefghijklmnop"
	s := deploy.Secret(text)
	type holder struct {
		S deploy.Secret `json:"s"`
		P *deploy.Secret
		M map[string]deploy.Secret
		L []deploy.Secret
	}
	h := holder{s, &s, map[string]deploy.Secret{"k": s}, []deploy.Secret{s}}
	var out []string
	for verb := range strings.SplitSeq("%v %+v %#v %s %q %x %X %d %t %08.3f %c %U", " ") {
		for _, v := range []any{s, &s, h, &h, []deploy.Secret{s}, deploy.Account{Token: s, ClaimURL: s}, deploy.Claim{PageToken: s}} {
			out = append(out, fmt.Sprintf(verb, v))
		}
	}
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	out = append(out, string(b), fmt.Sprint(s), fmt.Sprintln(h), fmt.Errorf("with %w %v", io.EOF, s).Error())
	var logs bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&logs, nil), slog.NewJSONHandler(&logs, nil)} {
		slog.New(handler).Info("m", "secret", s, "holder", h, "account", deploy.Account{Token: s})
	}
	out = append(out, logs.String())
	for _, o := range out {
		if strings.Contains(o, text) || strings.Contains(o, hex.EncodeToString([]byte(text))) ||
			strings.Contains(o, strings.ToUpper(hex.EncodeToString([]byte(text)))) {
			t.Errorf("printed: %s", o)
		}
	}
	if s.Reveal() != text || s.Empty() || !deploy.Secret("").Empty() || deploy.Secret("").String() != "" {
		t.Error("Reveal or Empty")
	}
}
