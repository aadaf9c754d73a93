package web_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

const hookSecret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=" //nolint:gosec // made up

// bell is somebody's endpoint: it answers with the statuses it was given, then 204.
type bell struct {
	mu       sync.Mutex
	statuses []int
	got      []*http.Request
	bodies   [][]byte
	rang     chan struct{}
}

func (b *bell) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got, b.bodies = append(b.got, r), append(b.bodies, body)
	status := http.StatusNoContent
	if len(b.statuses) > 0 {
		status, b.statuses = b.statuses[0], b.statuses[1:]
	}
	if status/100 == 3 {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(status)
	b.rang <- struct{}{}
}

func newHook(t *testing.T, b *bell, logs io.Writer) *web.Hook {
	t.Helper()
	b.rang = make(chan struct{}, 100)
	srv := httptest.NewServer(b)
	t.Cleanup(srv.Close)
	h, err := web.NewHook(web.HookConfig{
		URL: srv.URL + "/hook", Secret: hookSecret, Waits: []time.Duration{time.Millisecond, time.Millisecond},
		Transport: &http.Transport{}, Logger: zerolog.New(logs),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func waitFor(t *testing.T, b *bell, n int) {
	t.Helper()
	for range n {
		select {
		case <-b.rang:
		case <-t.Context().Done():
			t.Fatal("nobody rang")
		}
	}
}

// TestHookIsSigned: the signature is over id, time and body, as anybody can compute it.
func TestHookIsSigned(t *testing.T) {
	b := &bell{}
	h := newHook(t, b, io.Discard)
	h.Notify(deploy.Notice{Type: deploy.NoticeClaimWaiting, Data: map[string]any{"session_id": "s_1", "link": claimURL}})
	waitFor(t, b, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	r, body := b.got[0], b.bodies[0]
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(hookSecret, "whsec_"))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(r.Header.Get("Webhook-Id") + "." + r.Header.Get("Webhook-Timestamp") + "." + string(body)))
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); r.Header.Get("Webhook-Signature") != want {
		t.Errorf("signature %q, want %q", r.Header.Get("Webhook-Signature"), want)
	}
	var in struct {
		Type      string         `json:"type"`
		Timestamp time.Time      `json:"timestamp"`
		Data      map[string]any `json:"data"`
	}
	if err := json.Unmarshal(body, &in); err != nil || in.Type != "claim.waiting" || in.Data["session_id"] != "s_1" || in.Timestamp.IsZero() {
		t.Errorf("%s: %v", body, err)
	}
	if bytes.Contains(body, []byte(claimToken)) {
		t.Errorf("the claim link left: %s", body)
	}
}

// TestHookTriesAgain: what may pass is tried again under the same id, the rest is not.
func TestHookTriesAgain(t *testing.T) {
	for name, c := range map[string]struct {
		statuses []int
		rings    int
		logged   string
	}{
		"server trouble":  {[]int{503, 429}, 3, ""},
		"never again":     {[]int{500, 500, 500}, 3, "not delivered"},
		"not wanted":      {[]int{404}, 1, "not delivered"},
		"sent elsewhere":  {[]int{307}, 1, "not delivered"},
		"taken at once":   {[]int{202}, 1, ""},
		"taken the third": {[]int{502, 408}, 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b, logs := &bell{statuses: c.statuses}, &bytes.Buffer{}
			h := newHook(t, b, logs)
			h.Notify(deploy.Notice{Type: deploy.NoticeExpiring})
			waitFor(t, b, c.rings)
			_ = h.Close() // waits for the worker, so the log is complete
			b.mu.Lock()
			defer b.mu.Unlock()
			if len(b.got) != c.rings {
				t.Errorf("%d attempts, want %d", len(b.got), c.rings)
			}
			for _, r := range b.got {
				if r.Header.Get("Webhook-Id") != b.got[0].Header.Get("Webhook-Id") || r.URL.Path != "/hook" {
					t.Errorf("attempt %s %s", r.Header.Get("Webhook-Id"), r.URL)
				}
			}
			if (c.logged == "") != (logs.Len() == 0) || !strings.Contains(logs.String(), c.logged) {
				t.Errorf("log: %s", logs)
			}
		})
	}
}

// TestHookAfterClose: a notice after the end is dropped, said so, and blocks nobody.
func TestHookAfterClose(t *testing.T) {
	b, logs := &bell{}, &bytes.Buffer{}
	h := newHook(t, b, logs)
	_ = h.Close()
	for range 1000 {
		h.Notify(deploy.Notice{Type: deploy.NoticeExpiring})
	}
	_ = h.Close()
	if !strings.Contains(logs.String(), "dropped") || len(b.got) != 0 {
		t.Errorf("%d messages, log %.200s", len(b.got), logs)
	}
}

// TestHookConfig: a wrong address or secret is refused at the start, without telling it.
func TestHookConfig(t *testing.T) {
	for name, c := range map[string]web.HookConfig{
		"plain http":   {URL: "http://example.com/x", Secret: hookSecret},
		"no URL":       {URL: "example.com", Secret: hookSecret},
		"a user in it": {URL: "https://u:p@example.com", Secret: hookSecret},
		"no secret":    {URL: "https://example.com"},
		"short secret": {URL: "https://example.com", Secret: "whsec_c2hvcnQ="},
		"no prefix":    {URL: "https://example.com", Secret: deploy.Secret(strings.TrimPrefix(hookSecret, "whsec_"))},
	} {
		_, err := web.NewHook(c)
		if err == nil || c.Secret != "" && strings.Contains(err.Error(), c.Secret.Reveal()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
