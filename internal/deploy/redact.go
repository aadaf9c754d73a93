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
type Redactor struct {
	mu       sync.RWMutex
	known    map[string]bool
	replacer *strings.Replacer
}

// minSecret is the shortest text that is treated as a secret: a shorter one would
// blot out ordinary words.
const minSecret = 8

// maxKnown bounds how many secrets are remembered; the hour is over for older ones.
const maxKnown = 4096

// shapes are secrets that are known by their form: claim links and bearer headers.
var shapes = regexp.MustCompile(`(?i)(claimToken(?:=|%3D|\\u003d|"\s*:\s*")|\bBearer\s+)[A-Za-z0-9._~+/%-]{8,}=*|` +
	`https?://[^\s"'<>\\]*claim-preview\?[^\s"'<>\\]*`)

// NewRedactor makes a Redactor that knows the shapes only.
func NewRedactor() *Redactor { return &Redactor{known: map[string]bool{}} }

// Add registers a secret in the forms in which it may travel: as it is, escaped for
// URLs and JSON, as base64 and as hex.
func (r *Redactor) Add(secret string) {
	if len(secret) < minSecret {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[secret] {
		return
	}
	if len(r.known) >= maxKnown {
		clear(r.known)
	}
	r.known[secret] = true
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
	if strings.Contains(s, "laim") || strings.Contains(s, "earer") || strings.Contains(s, "EARER") || strings.Contains(s, "LAIM") {
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

// Writer gives a writer that strips secrets from every line before it reaches w. It
// holds back an unfinished line until its end comes, so that a secret cut in two by
// the writer's caller is seen whole; a line over 1 MiB is passed on in pieces.
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
		forms[s] = true
		forms[url.QueryEscape(s)] = true
		forms[url.PathEscape(s)] = true
		if j, err := json.Marshal(s); err == nil {
			forms[strings.Trim(string(j), `"`)] = true
		}
		forms[strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(s)), "=")] = true
		forms[base64.RawURLEncoding.EncodeToString([]byte(s))] = true
		forms[hex.EncodeToString([]byte(s))] = true
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

const maxHeldLine = 1 << 20

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
		end = len(w.held)
	}
	if end == 0 {
		return len(p), nil
	}
	_, err := w.w.Write(w.r.RedactBytes(w.held[:end]))
	w.held = append(w.held[:0], w.held[end:]...)
	return len(p), err
}
