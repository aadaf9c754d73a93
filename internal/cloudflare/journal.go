package cloudflare

import (
	"context"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// step takes one remote step that has an effect, and tells the context's journal before
// and after it. What the journal refuses is not taken. take gives what the API calls
// the result, too. When the step succeeded and can't be settled, its result comes with
// the settling's error: an account that was made must not get lost to whoever asked for it.
func step[T any](ctx context.Context, c *Client, kind deploy.StepKind, what string, take func() (v T, ref string, err error)) (T, error) {
	var none T
	if wait := c.circuit.ready(); wait > 0 {
		return none, c.circuitOpen("the step "+string(kind), wait) // not even written down
	}
	settle, err := deploy.BeginStep(ctx, kind, what)
	if err != nil {
		return none, err //nolint:wrapcheck // the journal's words are for the caller
	}
	v, ref, err := take()
	if unsettled := settle(ref, err); unsettled != nil {
		return v, unsettled
	}
	return v, err
}

// act is step for what gives nothing but an error.
func act(ctx context.Context, c *Client, kind deploy.StepKind, what string, take func() error) error {
	_, err := step(ctx, c, kind, what, func() (struct{}, string, error) { return struct{}{}, "", take() })
	return err
}
