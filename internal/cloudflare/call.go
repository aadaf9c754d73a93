package cloudflare

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/cloudflare/cloudflare-go/v7/option"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// try says how a call is made.
type try struct {
	doing   string // for people: "uploading the Worker"
	timeout time.Duration
	// repeat: making the call twice comes to the same, so a failure of the moment is
	// tried again, up to twice.
	repeat bool
}

const (
	maxTries = 3
	// maxPause is the longest Retry-After that is waited for here. A longer one is the
	// caller's business.
	maxPause = 5 * time.Second
)

// sdkCall is one call of a service of the SDK, with these options on top of its own.
type sdkCall func(ctx context.Context, opts ...option.RequestOption) error

// send makes one request and reads its answer, whatever that is.
type send func(ctx context.Context) (*answer, error)

// call makes one API call through the SDK and gives the envelope's result.
func (c *Client) call(ctx context.Context, t try, do sdkCall) (json.RawMessage, error) {
	return c.trying(ctx, t, func(ctx context.Context) (*answer, error) { return bySDK(ctx, do) })
}

// trying makes one API call, again where that is allowed and of use, and gives the
// envelope's result.
func (c *Client) trying(ctx context.Context, t try, do send) (json.RawMessage, error) {
	result, f := c.callOnce(ctx, t, do)
	if f == nil {
		return result, nil
	}
	if !t.repeat || !f.again {
		return nil, f.err
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = c.cfg.RetryWait
	tries := 1
	for f != nil && f.again && tries < maxTries && f.err.RetryAfter <= maxPause {
		if err := wait(ctx, max(pause.NextBackOff(), f.err.RetryAfter)); err != nil {
			return nil, deploy.AsError(err)
		}
		result, f = c.callOnce(ctx, t, do)
		tries++
	}
	if f != nil {
		return nil, f.err
	}
	return result, nil
}

func (c *Client) callOnce(ctx context.Context, t try, do send) (json.RawMessage, *failure) {
	limited, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	got, err := do(limited)
	if err != nil {
		return nil, c.noAnswer(ctx, limited, t.doing, err)
	}
	return c.judge(got, t.doing)
}

// bySDK lets the SDK build and send the request. The answer is read here and judged by
// us, because the SDK takes an answer of status 200 that says success:false for a
// success, and one that is not JSON for a mistake of the program.
func bySDK(ctx context.Context, do sdkCall) (*answer, error) {
	var got *answer
	var failed error
	catch := func(req *http.Request, next option.MiddlewareNext) (*http.Response, error) {
		res, err := next(req)
		if err == nil {
			got, err = readAnswer(res)
		}
		if err != nil {
			failed = err
			return nil, err
		}
		// What the SDK sees is an empty success, as it is not to judge.
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	}
	var ignored []byte
	err := do(ctx, option.WithMiddleware(catch), option.WithResponseBodyInto(&ignored))
	switch {
	case got != nil:
		return got, nil
	case failed != nil:
		return nil, failed
	case err != nil:
		return nil, err //nolint:wrapcheck // it is worded by who knows the call
	}
	return nil, internal(errors.New("a call without an answer"))
}

// noAnswer says why there is no whole answer. limited is ctx with the call's own time limit.
func (c *Client) noAnswer(ctx, limited context.Context, doing string, err error) *failure {
	if ctx.Err() == nil && limited.Err() != nil {
		return &failure{err: unanswered(doing).Caused(limited.Err())}
	}
	return c.unreachable(ctx, doing, err)
}

func unanswered(doing string) *deploy.Error {
	return deploy.Errorf(deploy.CodeAPIUnreachable, nextLater, "%s failed: the API did not answer in time", doing)
}

// unreachable says why no answer came. The error's text goes without the URL, which
// in a tail's case is a secret.
func (c *Client) unreachable(ctx context.Context, doing string, err error) *failure {
	if e, ok := errors.AsType[*deploy.Error](err); ok {
		return &failure{err: e} // the guard's
	}
	if ctx.Err() != nil {
		return &failure{err: deploy.AsError(ctx.Err())}
	}
	if errors.Is(err, errTooLong) {
		return &failure{err: badResponse(doing, "it is longer than 8 MiB")}
	}
	cause := bare(err)
	if ne, ok := errors.AsType[net.Error](cause); ok && ne.Timeout() {
		return &failure{err: unanswered(doing).Caused(cause)}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return &failure{err: badResponse(doing, "it ends in the middle").Caused(cause), again: true}
	}
	return &failure{again: true, err: deploy.Errorf(deploy.CodeAPIUnreachable,
		"Check with the user that this machine has a network and that the API's address is right, then make the same call again.",
		"%s failed: the API at %s can't be reached (%s)", doing, c.base.Host, cut(clean(cause.Error()), 200)).Caused(cause)}
}

// bare takes the request's URL off an error of net/http.
func bare(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return bare(u.Err)
	}
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// with is the options of the client and of one account.
func (c *Client) with(acct *deploy.Account) []option.RequestOption {
	return append(slices.Clip(c.options), option.WithAPIToken(acct.Token.Reveal()))
}
