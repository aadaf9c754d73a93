package cloudflare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cloudflare/cloudflare-go/v7/option"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// try says how a call is made.
type try struct {
	doing   string // for people: "uploading the Worker"
	timeout time.Duration
	// repeat: making the call twice comes to the same, so a failure of the moment is
	// tried again.
	repeat bool
	// look, where it is set, makes a call repeatable that is not: it finds what a request
	// whose answer was lost may have made, as the result that the answer would have
	// had; nil: there is none.
	look func(ctx context.Context) (json.RawMessage, error)
	// final is a code of the API that is not repeated, whatever the catalogue says.
	final int
	// mute: an answer says nothing of the API's health, as it may be any.
	mute bool
}

// sdkCall is one call of a service of the SDK, with these options on top of its own.
type sdkCall func(ctx context.Context, opts ...option.RequestOption) error

// send makes one request and reads its answer, whatever that is.
type send func(ctx context.Context) (*answer, error)

// judge gives an answer's result, or what is wrong with the answer.
type judge func(a *answer, doing string) (json.RawMessage, *failure)

// call makes one API call through the SDK and gives the envelope's result.
func (c *Client) call(ctx context.Context, t try, do sdkCall) (json.RawMessage, error) {
	return c.trying(ctx, t, func(ctx context.Context) (*answer, error) { return bySDK(ctx, do) })
}

// trying makes one API call, again where that is allowed and of use, and gives the
// envelope's result.
func (c *Client) trying(ctx context.Context, t try, do send) (json.RawMessage, error) {
	return c.repeating(ctx, t, func() (json.RawMessage, *failure) { return c.once(ctx, t, do, c.judge) })
}

// once makes one request, if the circuit lets it out, and judges the answer.
func (c *Client) once(ctx context.Context, t try, do send, judged judge) (json.RawMessage, *failure) {
	look, wait := c.circuit.admit()
	if wait > 0 {
		return nil, &failure{err: c.circuitOpen(t.doing, wait)}
	}
	v := saysNothing
	defer func() { c.circuit.heard(look, v) }()
	c.stats.call()
	limited, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	var result json.RawMessage
	var f *failure
	if got, err := do(limited); err != nil {
		f = c.noAnswer(ctx, limited, t.doing, err)
	} else {
		result, f = judged(got, t.doing)
	}
	switch {
	case f != nil && f.down:
		v = isDown
	case ctx.Err() == nil && !t.mute:
		v = isUp
	}
	return result, f
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
		return &failure{err: unanswered(doing).Caused(limited.Err()), down: true, lost: true}
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
		return &failure{err: deploy.AsError(ctx.Err()), lost: true}
	}
	if errors.Is(err, errTooLong) {
		return &failure{err: badResponse(doing, "it is longer than 8 MiB"), lost: true}
	}
	cause := bare(err)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return moment(ReasonTruncated, badResponse(doing, "it ends in the middle").Caused(cause))
	}
	e := deploy.Errorf(deploy.CodeAPIUnreachable,
		"Check with the user that the machine of this server has a network and that the API's address is right, then make the same call again.",
		"%s failed: the API at %s can't be reached (%s)", doing, c.base.Host, cut(clean(cause.Error()), 200))
	if op, ok := errors.AsType[*net.OpError](cause); ok && (op.Op == "dial" || op.Op == "proxyconnect") {
		f := moment(ReasonNoConnection, e.Caused(fmt.Errorf("%w: %w", errUnsent, cause)))
		f.lost = false
		return f
	}
	if ne, ok := errors.AsType[net.Error](cause); ok && ne.Timeout() {
		return &failure{err: unanswered(doing).Caused(cause), down: true, lost: true}
	}
	return moment(ReasonCutOff, e.Caused(cause))
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
