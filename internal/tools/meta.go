package tools

import (
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// The names under which a call's _meta carries its idempotency key. The first has the
// prefix that the specification asks of names of one's own; the second is for clients
// that write it plainly.
const (
	metaKeyOwn   = "hourglass/idempotencyKey"
	metaKeyPlain = "idempotencyKey"
	maxKey       = 200 // bytes
)

// idempotencyKey reads the key of a call, "" when it has none. It comes from the program
// that drives the model, not from the model: a model that repeats itself would make up
// another one.
func idempotencyKey(meta *mcp.Meta) (string, error) {
	key := ""
	for _, name := range []string{metaKeyOwn, metaKeyPlain} {
		v := meta.GetMetaField(name)
		if v == nil {
			continue
		}
		s, ok := v.(string)
		switch {
		case !ok || s == "" || len(s) > maxKey:
			return "", deploy.Errorf(deploy.CodeInvalidArgument, "Send a key of 1 to 200 characters, another one for each deployment.",
				"_meta[%q] must be a text of 1 to %d bytes", name, maxKey)
		case key != "" && key != s:
			return "", deploy.Errorf(deploy.CodeInvalidArgument, "Send one of the two.",
				"_meta[%q] and _meta[%q] differ", metaKeyOwn, metaKeyPlain)
		}
		key = s
	}
	return key, nil
}
