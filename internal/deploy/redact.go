package deploy

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Redactor strips secrets from text. It knows every secret that the process has
// learnt (Add), in the forms in which they travel, and the shapes that a secret
// of ours has even when nobody registered it. It stands wherever something leaves:
// results, errors, logs, progress, pages. All methods are safe for concurrent use.
//
// Forms: as it is; escaped for a URL's query or path; escaped for JSON, with and
// without HTML escapes, and once more as JSON inside JSON; hex of either case; base64,
// standard and URL alphabet, at any offset inside a longer encoded text.
// Not covered: compressed, encrypted or hashed text, a secret whose characters are
// spread out, reversed or sent one by one, base64 with line breaks inside. A Worker
// can't misuse that: it never learns the secrets of its account.
type Redactor struct {
	mu       sync.RWMutex
	known    map[string]bool
	order    []string // known, the oldest first
	replacer *strings.Replacer
}

// minSecret is the shortest text that is treated as a secret: a shorter one would
// blot out ordinary words.
const minSecret = 8

// maxKnown bounds how many secrets are remembered: three an account, and the hour of
// the oldest is over by then.
const maxKnown = 4096

// shapes are secrets that are known by their form: claim links and bearer headers.
var shapes = regexp.MustCompile(`(?i)(claimToken(?:=|%3D|\\+u003d|\\*"\s*:\s*\\*")|\bBearer\s+)[A-Za-z0-9._~+/%-]{8,}=*|` +
	`https?://[^\s"'<>\\]*claim-preview\?[^\s"'<>\\]*`)

// shapely tells whether a text holds what every one of the shapes holds, in either case:
// it is asked of every result, and the expression takes a hundred times as long. The words
// end before the first letter that has a third form (k), which the expression takes too.
func shapely(s string) bool {
	for i := range len(s) {
		switch s[i] | 0x20 {
		case 'b':
			if foldPrefix(s[i:], "bearer") {
				return true
			}
		case 'c':
			if foldPrefix(s[i:], "claimto") || foldPrefix(s[i:], "claim-preview?") {
				return true
			}
		}
	}
	return false
}

// foldPrefix tells whether s begins with prefix, which is of small letters, in any case.
func foldPrefix(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// NewRedactor makes a Redactor that knows the shapes only.
func NewRedactor() *Redactor { return &Redactor{known: map[string]bool{}} }

// Add registers a secret; a text under 8 bytes is not taken for one. When there are
// too many, the oldest are forgotten.
func (r *Redactor) Add(secret string) {
	if len(secret) < minSecret {
		return
	}
	r.mu.RLock() // most are known already, and nobody who redacts need wait for that
	known := r.known[secret]
	r.mu.RUnlock()
	if known {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[secret] {
		return
	}
	if len(r.order) >= maxKnown {
		for _, old := range r.order[:maxKnown/4] {
			delete(r.known, old)
		}
		r.order = slices.Delete(r.order, 0, maxKnown/4)
	}
	r.known[secret] = true
	r.order = append(r.order, secret)
	r.replacer = nil
}

// Redact gives s without secrets.
func (r *Redactor) Redact(s string) string {
	if s == "" {
		return s
	}
	if rep := r.current(); rep != nil {
		s = rep.Replace(s)
	}
	if shapely(s) {
		s = shapes.ReplaceAllStringFunc(s, func(m string) string {
			if strings.HasPrefix(m, "http") {
				return redacted
			}
			head := shapes.FindStringSubmatch(m)[1]
			return head + redacted
		})
	}
	return s
}

// RedactBytes is Redact for bytes.
func (r *Redactor) RedactBytes(b []byte) []byte { return []byte(r.Redact(string(b))) }

// SecretsIn are what is secret of a text that is: itself and, of a claim link, its token.
func SecretsIn(secret string) []string {
	out := []string{secret}
	if u, err := url.Parse(secret); err == nil {
		if t := u.Query().Get("claimToken"); t != "" {
			out = append(out, t)
		}
	}
	return out
}

// Forget gives secrets up that nothing of this process holds any more; by their shape they
// are still stripped.
func (r *Redactor) Forget(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range secrets {
		delete(r.known, s)
	}
	r.order = slices.DeleteFunc(r.order, func(s string) bool { return slices.Contains(secrets, s) })
	r.replacer = nil
}

// Writer gives a writer that strips secrets from every line before it reaches w. It
// holds back an unfinished line until its end comes, so that a secret cut in two by
// the writer's caller is seen whole; a line over 1 MiB is passed on but for its last
// 32 KiB. What has no line end is never written: it is a writer for logs.
func (r *Redactor) Writer(w io.Writer) io.Writer { return &redactingWriter{r: r, w: w} }

func (r *Redactor) current() *strings.Replacer {
	r.mu.RLock()
	rep := r.replacer
	n := len(r.known)
	r.mu.RUnlock()
	if rep != nil || n == 0 {
		return rep
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.replacer == nil {
		r.replacer = newReplacer(r.known)
	}
	return r.replacer
}

func newReplacer(known map[string]bool) *strings.Replacer {
	forms := map[string]bool{}
	for s := range known {
		for _, f := range formsOf(s) {
			forms[f] = true
		}
	}
	all := make([]string, 0, len(forms))
	for f := range forms {
		all = append(all, f)
	}
	// The longest first: strings.Replacer takes the first that matches at a place.
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(all))
	for _, f := range all {
		pairs = append(pairs, f, redacted)
	}
	return strings.NewReplacer(pairs...)
}

// formsOf gives the forms in which a secret travels.
func formsOf(s string) []string {
	out := []string{s, url.QueryEscape(s), url.PathEscape(s), hex.EncodeToString([]byte(s)), strings.ToUpper(hex.EncodeToString([]byte(s)))}
	for _, html := range []bool{true, false} {
		once := jsonText(s, html)
		out = append(out, once, jsonText(once, html))
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		// Three bytes become four digits, so a secret inside a longer text has one of three
		// forms; the digits at its ends that depend on its neighbours are left out.
		for offset := range 3 {
			digits := enc.EncodeToString(append(make([]byte, offset), s...))
			from, to := (offset*8+5)/6, (offset+len(s))*8/6
			out = append(out, digits[from:to])
		}
	}
	return out
}

// jsonText is s as it stands inside a JSON string.
func jsonText(s string, html bool) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(html)
	if enc.Encode(s) != nil {
		return s
	}
	quoted := strings.TrimSuffix(b.String(), "\n")
	return quoted[1 : len(quoted)-1]
}

const (
	maxHeldLine = 1 << 20
	// holdBack is kept of an overlong line: no form of a secret is longer.
	holdBack = 32 << 10
)

type redactingWriter struct {
	r    *Redactor
	mu   sync.Mutex
	w    io.Writer
	held []byte
}

func (w *redactingWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = append(w.held, p...)
	end := bytes.LastIndexByte(w.held, '\n') + 1
	if end == 0 && len(w.held) > maxHeldLine {
		// What is whole goes out redacted; what may be the beginning of a secret stays.
		w.held = w.r.RedactBytes(w.held)
		end = max(0, len(w.held)-holdBack)
	}
	if end == 0 {
		return len(p), nil
	}
	_, err := w.w.Write(w.r.RedactBytes(w.held[:end]))
	w.held = append(w.held[:0], w.held[end:]...)
	return len(p), err
}
