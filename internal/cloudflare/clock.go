package cloudflare

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// clock is the API's time as its answers told it.
//
// A Date header has whole seconds, cut off, and is a moment old when it arrives:
// the API's true time is that or up to a second (and the way) later, never earlier.
// So every Date is a lower bound, and the highest of them, carried on, is the
// best estimate: with each answer it can only come nearer to the truth from below,
// and does not jump back by up to a second as the bare last Date would. A Date more
// than driftSlack behind the estimate means that the API's clock was set, or that
// ours runs fast: then the newest word counts.
type clock struct {
	now func() time.Time

	mu   sync.Mutex
	api  time.Time // a lower bound of the API's time...
	mine time.Time // ...when our clock said this
}

const driftSlack = 2 * time.Second

// heard takes the Date header of an answer; one that is absent or malformed says nothing.
func (k *clock) heard(date string) {
	t, err := http.ParseTime(date)
	if err != nil {
		return
	}
	t = t.UTC()
	mine := k.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.api.IsZero() {
		if estimate := k.api.Add(mine.Sub(k.mine)); estimate.After(t) && estimate.Sub(t) < driftSlack {
			t = estimate
		}
	}
	k.api, k.mine = t, mine
}

func (k *clock) time() time.Time {
	now := k.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.api.IsZero() {
		return time.Time{}
	}
	return k.api.Add(now.Sub(k.mine))
}

// Clock is the API's time: never ahead of it, behind it by less than a second and
// the answer's way (see clock), plus however long this machine slept since the last
// answer. Zero when no answer has been seen yet.
func (c *Client) Clock() time.Time { return c.clock.time() }

// AskClock asks the API for its time, without any credential. Any HTTP answer with a
// Date will do, as the base URL itself is no endpoint.
func (c *Client) AskClock(ctx context.Context) (time.Time, error) {
	t := try{doing: "asking the API for its time", timeout: c.cfg.Timeout, repeat: true, mute: true}
	do := func(ctx context.Context) (*answer, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.String(), nil)
		if err != nil {
			return nil, internal(err)
		}
		req.Header.Set("User-Agent", c.cfg.UserAgent)
		res, err := c.http.Do(req)
		if err != nil {
			return nil, err //nolint:wrapcheck // it is worded by who knows the call
		}
		return readAnswer(res)
	}
	var date time.Time
	read := func(a *answer, doing string) (json.RawMessage, *failure) { //nolint:unparam // it is a judge
		var err error
		if date, err = http.ParseTime(a.header.Get("Date")); err != nil {
			return nil, &failure{err: badResponse(doing, "it has no usable Date header")}
		}
		return nil, nil
	}
	if _, err := c.repeating(ctx, t, func() (json.RawMessage, *failure) { return c.once(ctx, t, do, read) }); err != nil {
		return time.Time{}, err
	}
	if now := c.clock.time(); !now.IsZero() && now.Sub(date).Abs() < driftSlack {
		return now, nil
	}
	return date.UTC(), nil
}

var _ deploy.Cloud = (*Client)(nil)
