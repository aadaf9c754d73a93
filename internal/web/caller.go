package web

import (
	"context"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

type callerKey struct{}

// CallerFrom is who calls, as the Endpoint found out. It is the Caller that the tools are
// given; a context that came another way has nobody, who may do nothing.
func CallerFrom(ctx context.Context) deploy.Caller {
	if id, ok := ctx.Value(callerKey{}).(*identity); ok {
		return id.caller
	}
	return deploy.Caller{Principal: "nobody", Scopes: []deploy.Scope{}}
}

func withIdentity(ctx context.Context, id *identity) context.Context {
	id.caller.Door = deploy.DoorHTTP
	return context.WithValue(ctx, callerKey{}, id)
}

// identity is who a credential speaks for, and for how long.
type identity struct {
	caller deploy.Caller
	// expires is when the credential ends; zero: it does not.
	expires time.Time
	// still tells whether it is accepted yet; nil: until it expires.
	still func() bool
}

func (i *identity) good(now time.Time) bool {
	return (i.expires.IsZero() || now.Before(i.expires)) && (i.still == nil || i.still())
}

// scopeOf is which session counts as current for a caller that names none. There is no
// connection to hang it on: a client of 2026-07-28 has none, and may land on another
// replica with each request. So it is the principal's, divided by the run that the
// credential was made for, where it names one, and by the run_id of the call.
func scopeOf(labels map[string]string) string {
	if run := labels["run_id"]; run != "" {
		return "http run " + run
	}
	return "http"
}
