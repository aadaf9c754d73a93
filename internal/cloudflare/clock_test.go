package cloudflare_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// stopClock is a clock that the test moves.
type stopClock struct{ offset atomic.Int64 }

func epoch() time.Time { return time.Date(2026, 11, 24, 4, 0, 0, 0, time.UTC) }

func (k *stopClock) now() time.Time          { return epoch().Add(time.Duration(k.offset.Load())) }
func (k *stopClock) advance(d time.Duration) { k.offset.Add(int64(d)) }

// dater answers at once with a Date.
type dater struct{ date func() string }

func (d dater) RoundTrip(req *http.Request) (*http.Response, error) {
	h := http.Header{}
	if date := d.date(); date != "" {
		h.Set("Date", date)
	}
	return &http.Response{StatusCode: 404, Header: h, Body: http.NoBody, Request: req}, nil
}

func TestClock(t *testing.T) {
	k := &stopClock{}
	api := epoch().Add(-3 * time.Hour) // our clock is wrong by three hours
	c, err := cloudflare.New(cloudflare.Config{Now: k.now, Transport: dater{func() string { return api.Format(http.TimeFormat) }}})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Clock().IsZero() {
		t.Error("a clock before any answer")
	}
	got, err := c.AskClock(t.Context())
	if err != nil || !got.Equal(api) || !c.Clock().Equal(api) {
		t.Errorf("asked %v (%v), kept %v, want %v", got, err, c.Clock(), api)
	}
	k.advance(90 * time.Second)
	if want := api.Add(90 * time.Second); !c.Clock().Equal(want) {
		t.Errorf("carried on to %v, want %v", c.Clock(), want)
	}
	// The API's clock jumps: the sandbox's management port, or a machine that slept.
	api = api.Add(2 * time.Hour)
	if got, _ = c.AskClock(t.Context()); !got.Equal(api) || !c.Clock().Equal(api) {
		t.Errorf("after a jump ahead: %v, kept %v, want %v", got, c.Clock(), api)
	}
	api = api.Add(-time.Hour)
	if got, _ = c.AskClock(t.Context()); !got.Equal(api) || !c.Clock().Equal(api) {
		t.Errorf("after a jump back: %v, kept %v, want %v", got, c.Clock(), api)
	}
}

// Dates are cut to the second. What the client makes of them is never ahead of the
// API, never runs back, and with answers often enough comes near it.
func TestClockRounding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := &stopClock{}
		skew := time.Duration(rapid.Int64Range(-1e13, 1e13).Draw(t, "skew"))
		truth := func() time.Time { return k.now().Add(skew) }
		c, err := cloudflare.New(cloudflare.Config{Now: k.now, Transport: dater{func() string { return truth().UTC().Format(http.TimeFormat) }}})
		if err != nil {
			t.Fatal(err)
		}
		var last time.Time
		for range rapid.IntRange(1, 30).Draw(t, "answers") {
			if _, err := c.AskClock(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				got := c.Clock()
				if got.After(truth()) || truth().Sub(got) >= time.Second {
					t.Fatalf("the clock says %v at %v", got, truth())
				}
				if got.Before(last) {
					t.Fatalf("the clock ran back from %v to %v", last, got)
				}
				last = got
				k.advance(time.Duration(rapid.Int64Range(0, 3e9).Draw(t, "pause")))
			}
		}
	})
}

func TestClockFromRefusalsToo(t *testing.T) {
	f := newFake(t)
	date := time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC)
	f.on(routeUpload, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", date.Format(http.TimeFormat))
		w.WriteHeader(http.StatusForbidden)
	})
	c := f.newClient(t)
	_, err := c.Upload(t.Context(), account(), deploy.Upload{Artifact: hello()})
	wantError(t, err, deploy.CodeAPIBadResponse, "403")
	if d := c.Clock().Sub(date); d < 0 || d > time.Minute {
		t.Errorf("the clock says %v", c.Clock())
	}
}

func TestAskClockRefusals(t *testing.T) {
	for _, date := range []string{"", "yesterday", "2026-11-24T04:00:00Z"} {
		c, err := cloudflare.New(cloudflare.Config{Transport: dater{func() string { return date }}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.AskClock(t.Context())
		wantError(t, err, deploy.CodeAPIBadResponse, "Date")
	}
	f := newFake(t)
	c := f.newClient(t)
	f.Close()
	_, err := c.AskClock(t.Context())
	wantError(t, err, deploy.CodeAPIUnreachable, "reached")
}
