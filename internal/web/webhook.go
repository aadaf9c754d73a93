package web

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// HookConfig says where notices go.
type HookConfig struct {
	// URL is the operator's endpoint: https, or plain http on this machine.
	URL string
	// Secret signs every message: "whsec_" and 24 to 64 bytes in base64, as the Standard
	// Webhooks specification writes it.
	Secret deploy.Secret
	// Waits are the pauses before the second and each further attempt. Default: 1 s, 5 s,
	// 30 s, 2 min; with up to a quarter of jitter.
	Waits []time.Duration
	// Timeout bounds one attempt. Default 10 s.
	Timeout time.Duration
	// Transport carries the requests; nil: http.DefaultTransport.
	Transport http.RoundTripper
	Redactor  *deploy.Redactor
	Logger    zerolog.Logger
	Now       func() time.Time
}

// Hook delivers notices to one webhook, signed by the Standard Webhooks specification
// (headers webhook-id, webhook-timestamp, webhook-signature). It implements
// deploy.Notifier. Messages wait in memory, at most maxWaiting of them: the audit log
// is the record, a webhook only a bell.
type Hook struct {
	cfg    HookConfig
	key    []byte
	client *http.Client
	queue  chan ring
	stop   context.CancelFunc
	quit   chan struct{}
	close  sync.Once
	done   sync.WaitGroup
}

var _ deploy.Notifier = (*Hook)(nil)

const (
	maxWaiting = 256
	// drainTime is how long Close still delivers what waits.
	drainTime = 3 * time.Second
)

// ring is one message on its way.
type ring struct {
	id   string
	kind string
	body []byte
}

// NewHook makes a Hook and starts its one worker.
func NewHook(cfg HookConfig) (*Hook, error) {
	if err := checkHookURL(cfg.URL); err != nil {
		return nil, err
	}
	key, err := hookKey(cfg.Secret)
	if err != nil {
		return nil, err
	}
	if cfg.Waits == nil {
		cfg.Waits = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Transport == nil {
		cfg.Transport = http.DefaultTransport
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Redactor == nil {
		cfg.Redactor = deploy.NewRedactor()
	}
	cfg.Redactor.Add(cfg.Secret.Reveal())
	ctx, stop := context.WithCancel(context.Background())
	h := &Hook{
		cfg: cfg, key: key, queue: make(chan ring, maxWaiting), stop: stop, quit: make(chan struct{}),
		client: &http.Client{
			Transport: cfg.Transport, Timeout: cfg.Timeout,
			// A redirect would carry a signed message to where the operator did not say.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	h.done.Go(func() { h.work(ctx) })
	return h, nil
}

func checkHookURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil {
		return errors.New("the webhook's address is not a URL; give one such as https://example.com/hook")
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return errors.New("the webhook's address must be https, or http on this machine")
	}
	return nil
}

func hookKey(secret deploy.Secret) ([]byte, error) {
	text, prefixed := strings.CutPrefix(secret.Reveal(), "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	if !prefixed || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("the webhook's secret must be whsec_ and 24 to 64 bytes in base64; make one with: echo whsec_$(head -c 32 /dev/urandom | base64)")
	}
	return key, nil
}

// Notify queues a notice. When too many wait, it is dropped and logged.
func (h *Hook) Notify(n deploy.Notice) {
	at := n.At
	if at.IsZero() {
		at = h.cfg.Now()
	}
	body, err := json.Marshal(map[string]any{"type": n.Type, "timestamp": at.UTC().Format(time.RFC3339Nano), "data": n.Data})
	if err != nil {
		h.cfg.Logger.Error().Err(err).Str("type", n.Type).Msg("a webhook message could not be written")
		return
	}
	// The Redactor knows what must not leave, whatever a caller put in.
	m := ring{id: "msg_" + strings.ToLower(rand.Text()), kind: n.Type, body: []byte(h.cfg.Redactor.Redact(string(body)))}
	select {
	case <-h.quit: // looked at first: a select takes any case that is ready
		h.dropped(m, "the server is stopping")
		return
	default:
	}
	select {
	case h.queue <- m:
	default:
		h.dropped(m, "too many wait")
	}
}

func (h *Hook) dropped(m ring, why string) {
	h.cfg.Logger.Warn().Str("webhook_id", m.id).Str("type", m.kind).Msg("a webhook message was dropped: " + why)
}

func (h *Hook) work(ctx context.Context) {
	for {
		select {
		case m := <-h.queue:
			h.deliver(ctx, m)
		case <-h.quit:
			for len(h.queue) > 0 {
				m := <-h.queue
				if ctx.Err() != nil {
					h.dropped(m, "the server is stopping")
					continue
				}
				h.deliver(ctx, m)
			}
			return
		}
	}
}

// deliver tries until it is taken, the attempts are used up, or ctx ends.
func (h *Hook) deliver(ctx context.Context, m ring) {
	for try := 0; ; try++ {
		again, pause, err := h.send(ctx, m)
		if err == nil {
			return
		}
		if !again || try >= len(h.cfg.Waits) || ctx.Err() != nil {
			h.cfg.Logger.Error().Err(errors.New(h.cfg.Redactor.Redact(err.Error()))).Str("webhook_id", m.id).Str("type", m.kind).
				Int("attempts", try+1).Msg("a webhook message was not delivered")
			return
		}
		wait := max(h.cfg.Waits[try], min(pause, time.Hour))
		t := time.NewTimer(wait + mathrand.N(wait/4+1)) //nolint:gosec // jitter
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// send makes one attempt. It tells whether another makes sense, and after how long the
// other side wants it.
func (h *Hook) send(ctx context.Context, m ring) (again bool, pause time.Duration, err error) {
	stamp := strconv.FormatInt(h.cfg.Now().Unix(), 10)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.cfg.URL, bytes.NewReader(m.body))
	if err != nil {
		return false, 0, fmt.Errorf("webhook: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "hourglass")
	req.Header.Set("Webhook-Id", m.id)
	req.Header.Set("Webhook-Timestamp", stamp)
	req.Header.Set("Webhook-Signature", "v1,"+h.sign(m.id, stamp, m.body))
	res, err := h.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the address, which may hold a secret of the operator's
		}
		return true, 0, fmt.Errorf("webhook: %w", err)
	}
	defer res.Body.Close() //nolint:errcheck // nothing of it is used
	_, _ = io.CopyN(io.Discard, res.Body, 4<<10)
	switch {
	case res.StatusCode/100 == 2:
		return false, 0, nil
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500 || res.StatusCode == http.StatusRequestTimeout:
		secs, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return true, time.Duration(max(0, secs)) * time.Second, fmt.Errorf("webhook: HTTP %d", res.StatusCode)
	}
	return false, 0, fmt.Errorf("webhook: HTTP %d, which is not tried again", res.StatusCode)
}

func (h *Hook) sign(id, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, h.key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Close delivers what waits, for up to 3 s, and ends the worker.
func (h *Hook) Close() error {
	h.close.Do(func() {
		close(h.quit)
		timer := time.AfterFunc(drainTime, h.stop)
		h.done.Wait()
		timer.Stop()
		h.stop()
		h.client.CloseIdleConnections()
	})
	return nil
}
