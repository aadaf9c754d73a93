package cloudflare_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// script is a transport that answers as a list says, one line a request, the last one
// for ever: a status, with a Retry-After behind a space; "dial", "reset", "cut", "html",
// "null"; "hold" waits for the channel.
type script struct {
	mu    sync.Mutex
	lines []string
	sent  int
	hold  chan struct{}
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_, _ = io.Copy(io.Discard, req.Body)
	}
	s.mu.Lock()
	line := s.lines[min(s.sent, len(s.lines)-1)]
	s.sent++
	s.mu.Unlock()
	res := &http.Response{StatusCode: 200, Header: http.Header{}, Request: req}
	body := `{"success":true,"errors":[],"result":{"id":"x1"}}`
	status, after, _ := strings.Cut(line, " ")
	switch status {
	case "dial":
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	case "reset":
		return nil, &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}
	case "cut":
		res.Body = io.NopCloser(io.MultiReader(strings.NewReader(body[:20]), cutOff{}))
		return res, nil
	case "html":
		body = "<html>"
	case "null":
		res.StatusCode, body = 500, `{"success":false,"errors":null,"result":null}`
	case "hold":
		<-s.hold
	case "429":
		res.StatusCode, body = 429, `{"success":false,"errors":[{"code":971,"message":"slow down"}]}`
	case "503":
		res.StatusCode, body = 503, "busy"
	case "404":
		res.StatusCode, body = 404, `{"success":false,"errors":[{"code":4711,"message":"no"}]}`
	}
	if after != "" {
		res.Header.Set("Retry-After", after)
	}
	res.Body = io.NopCloser(strings.NewReader(body))
	return res, nil
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

type cutOff struct{}

func (cutOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// played makes a client on a script; pauses are 200, 400, 800, 1600 ms.
func played(t *testing.T, change func(*cloudflare.Config), lines ...string) (*cloudflare.Client, *script) {
	t.Helper()
	s := &script{lines: lines, hold: make(chan struct{})}
	cfg := cloudflare.Config{Transport: s, Jitter: func() float64 { return 0.5 }}
	if change != nil {
		change(&cfg)
	}
	c, err := cloudflare.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

// TestRepeats: what is repeated, how often, after how long, and what is said in the end.
func TestRepeats(t *testing.T) {
	for _, tc := range []struct {
		lines   []string
		within  time.Duration // the call's deadline; 0: none
		sent    int
		took    time.Duration
		retries map[cloudflare.Reason]int64
		code    deploy.Code
		after   time.Duration
	}{
		{lines: []string{"200"}, sent: 1},
		{lines: []string{"503", "200"}, sent: 2, took: 200 * time.Millisecond, retries: map[cloudflare.Reason]int64{"server_error": 1}},
		{lines: []string{"null", "html", "cut", "reset", "200"}, sent: 5, took: 3 * time.Second, retries: map[cloudflare.Reason]int64{"server_error": 1, "not_json": 1, "truncated": 1, "cut_off": 1}},
		{lines: []string{"dial", "dial", "200"}, sent: 3, took: 600 * time.Millisecond, retries: map[cloudflare.Reason]int64{"no_connection": 2}},
		{lines: []string{"429", "200"}, sent: 2, took: 200 * time.Millisecond, retries: map[cloudflare.Reason]int64{"rate_limited": 1}},
		{lines: []string{"429 7", "200"}, sent: 2, took: 7 * time.Second, retries: map[cloudflare.Reason]int64{"rate_limited": 1}},
		{lines: []string{"503 3", "200"}, sent: 2, took: 3 * time.Second, retries: map[cloudflare.Reason]int64{"server_error": 1}},
		// Not waited for: longer than is worth it, or than the caller has.
		{lines: []string{"429 60"}, sent: 1, code: deploy.CodeRateLimited, after: time.Minute},
		{lines: []string{"429 7"}, within: 5 * time.Second, sent: 1, code: deploy.CodeRateLimited, after: 7 * time.Second},
		{lines: []string{"503"}, within: 500 * time.Millisecond, sent: 2, took: 200 * time.Millisecond, retries: map[cloudflare.Reason]int64{"server_error": 1}, code: deploy.CodeAPIBadResponse},
		{lines: []string{"503"}, sent: 5, took: 3 * time.Second, retries: map[cloudflare.Reason]int64{"server_error": 4}, code: deploy.CodeAPIBadResponse},
		{lines: []string{"404"}, sent: 1, code: deploy.CodeAPIRefused},
		// That the last try surely had no effect does not make up for one that may have had.
		{lines: []string{"reset", "429 60"}, sent: 2, took: 200 * time.Millisecond, retries: map[cloudflare.Reason]int64{"cut_off": 1}, code: deploy.CodeAPIUnreachable, after: time.Minute},
	} {
		t.Run(strings.Join(tc.lines, ","), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := played(t, nil, tc.lines...)
				ctx, stop := t.Context(), func() {}
				if tc.within > 0 {
					ctx, stop = context.WithTimeout(ctx, tc.within)
				}
				defer stop()
				began := time.Now()
				err := c.DeleteWorker(ctx, account(), worker)
				if took := time.Since(began); took != tc.took || s.count() != tc.sent {
					t.Errorf("%d requests in %s, want %d in %s", s.count(), took, tc.sent, tc.took)
				}
				want := cloudflare.Stats{Calls: int64(tc.sent), Retries: tc.retries}
				if diff := cmp.Diff(want, c.Stats()); diff != "" {
					t.Error(diff)
				}
				if tc.code == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if e := wantError(t, err, tc.code, ""); e.RetryAfter != tc.after {
					t.Errorf("again after %s, want %s", e.RetryAfter, tc.after)
				}
			})
		})
	}
}

// TestJitter spreads a pause by half around its middle.
func TestJitter(t *testing.T) {
	for jitter, want := range map[float64]time.Duration{0: 100 * time.Millisecond, 0.5: 200 * time.Millisecond, 0.999: 299800 * time.Microsecond} {
		synctest.Test(t, func(t *testing.T) {
			c, _ := played(t, func(cfg *cloudflare.Config) { cfg.Jitter = func() float64 { return jitter } }, "503", "200")
			began := time.Now()
			if err := c.DeleteWorker(t.Context(), account(), worker); err != nil || time.Since(began) != want {
				t.Errorf("%s, want %s (%v)", time.Since(began), want, err)
			}
		})
	}
}

// TestCircuit: an API that is down is left alone, and looked at by one call at a time.
func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := played(t, func(cfg *cloudflare.Config) { cfg.CircuitAfter, cfg.CircuitPause = 3, 5*time.Second }, "503", "dial", "reset", "503", "hold", "200")
		call := func() error { return c.DeleteWorker(t.Context(), account(), worker) }
		state := func(want cloudflare.CircuitState, failures, sent int) {
			t.Helper()
			if got := c.Circuit(); got.State != want || got.Failures != failures || s.count() != sent || got.Until.IsZero() != (want != cloudflare.CircuitOpen) {
				t.Fatalf("%+v after %d requests, want %s, %d failures, %d requests", got, s.count(), want, failures, sent)
			}
		}
		state(cloudflare.CircuitClosed, 0, 0)
		e := wantError(t, call(), deploy.CodeAPIUnreachable, "")
		state(cloudflare.CircuitOpen, 3, 3) // the call's own repeats ended with it
		if e.RetryAfter <= 0 || e.RetryAfter > 5*time.Second {
			t.Errorf("again after %s", e.RetryAfter)
		}
		if noEffect(e) {
			t.Error("it says that it had no effect, although a try before may have had")
		}
		// Open: nothing goes out, and nothing is written down.
		b := &book{f: &fake{}} // a server would keep the clock of this test from running
		err := c.DeleteWorker(deploy.WithJournal(t.Context(), b), account(), worker)
		e = wantError(t, err, deploy.CodeAPIUnreachable, "is left alone")
		if len(b.lines) != 0 || e.RetryAfter <= 0 || !strings.Contains(e.Next, "seconds, then make the same call again") {
			t.Errorf("%v, %s, %q", b.lines, e.RetryAfter, e.Next)
		}
		if !noEffect(err) {
			t.Error("it does not say that it had no effect")
		}
		state(cloudflare.CircuitOpen, 3, 3)
		// Half open: one look, which fails; then the pause is twice as long.
		time.Sleep(5 * time.Second)
		state(cloudflare.CircuitHalfOpen, 3, 3)
		wantError(t, call(), deploy.CodeAPIUnreachable, "")
		state(cloudflare.CircuitOpen, 4, 4)
		time.Sleep(9 * time.Second)
		state(cloudflare.CircuitOpen, 4, 4)
		time.Sleep(time.Second)
		// The next look takes a while: nobody else goes out meanwhile.
		done := make(chan error)
		go func() { done <- call() }()
		synctest.Wait()
		state(cloudflare.CircuitHalfOpen, 4, 5)
		if e := wantError(t, call(), deploy.CodeAPIUnreachable, ""); e.RetryAfter != time.Second {
			t.Errorf("again after %s", e.RetryAfter)
		}
		close(s.hold)
		if err := <-done; err != nil {
			t.Error(err)
		}
		state(cloudflare.CircuitClosed, 0, 5)
		if err := call(); err != nil {
			t.Error(err)
		}
	})
}

func noEffect(err error) bool {
	var none interface{ NoEffect() bool }
	return errors.As(err, &none) && none.NoEffect()
}

// TestNoConnection: what never left says so, unless an earlier try did leave.
func TestNoConnection(t *testing.T) {
	for first, want := range map[string]bool{"dial": true, "reset": false} {
		c, _ := played(t, func(cfg *cloudflare.Config) { cfg.RetryWait = time.Nanosecond }, first, "dial")
		err := c.DeleteWorker(t.Context(), account(), worker)
		wantError(t, err, deploy.CodeAPIUnreachable, "can't be reached")
		if noEffect(err) != want {
			t.Errorf("%s first: no effect: %v", first, noEffect(err))
		}
	}
}

// TestCircuitStaysClosed: what says nothing of the API's health does not open it.
func TestCircuitStaysClosed(t *testing.T) {
	for _, line := range []string{"429 60", "404", "200"} {
		c, s := played(t, func(cfg *cloudflare.Config) { cfg.CircuitAfter = 2 }, line)
		for range 5 {
			_ = c.DeleteWorker(t.Context(), account(), worker)
		}
		if got := c.Circuit(); got.State != cloudflare.CircuitClosed || got.Failures != 0 || s.count() != 5 {
			t.Errorf("%s: %+v after %d", line, got, s.count())
		}
	}
	c, s := played(t, func(cfg *cloudflare.Config) { cfg.CircuitAfter = 2 }, "reset")
	gone, stop := context.WithCancel(t.Context())
	stop()
	for range 5 {
		wantError(t, c.DeleteWorker(gone, account(), worker), deploy.CodeCancelled, "")
	}
	if got := c.Circuit(); got.Failures != 0 || s.count() != 5 {
		t.Errorf("of callers that gave up: %+v after %d", got, s.count())
	}
	never, _ := played(t, func(cfg *cloudflare.Config) { cfg.CircuitAfter = -1; cfg.RetryWait = time.Nanosecond }, "reset")
	for range 10 {
		wantError(t, never.DeleteWorker(t.Context(), account(), worker), deploy.CodeAPIUnreachable, "can't be reached")
	}
}

// TestCircuitClockSetBack: a clock of ours that jumps back does not keep it open.
func TestCircuitClockSetBack(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	set := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
	c, _ := played(t, func(cfg *cloudflare.Config) {
		cfg.CircuitAfter, cfg.RetryWait = 1, time.Nanosecond
		cfg.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	}, "reset", "200")
	wantError(t, c.DeleteWorker(t.Context(), account(), worker), deploy.CodeAPIUnreachable, "")
	wantError(t, c.DeleteWorker(t.Context(), account(), worker), deploy.CodeAPIUnreachable, "left alone")
	set(-3 * time.Hour)
	if err := c.DeleteWorker(t.Context(), account(), worker); err != nil {
		t.Error(err)
	}
}
