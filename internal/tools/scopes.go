package tools

import (
	"context"
	"fmt"
	"slices"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// NeededScope tells which scope a credential must have to call a tool; "" for a tool that
// there is not. A door that knows the credential before the call reads it here, so that
// it can say in its own way what is missing.
func NeededScope(tool string) deploy.Scope {
	switch tool {
	case bundleTool(nil).name:
		return bundleTool(nil).scope
	case deployTool(nil).name:
		return deployTool(nil).scope
	case statusTool(nil).name:
		return statusTool(nil).scope
	case claimTool(nil).name:
		return claimTool(nil).scope
	case teardownTool(nil).name:
		return teardownTool(nil).scope
	}
	return ""
}

// mayCall leaves the tools that the caller's credential allows. It looks at nothing else:
// a list that changed with the connection or with earlier calls would be against the
// protocol.
func (d *door) mayCall(ctx context.Context, all []mcp.Tool) []mcp.Tool {
	caller := d.cfg.Caller(ctx)
	return slices.DeleteFunc(slices.Clone(all), func(t mcp.Tool) bool { return !caller.May(NeededScope(t.Name)) })
}

// allowed refuses a call that the credential does not allow.
func (c *call) allowed(scope deploy.Scope) error {
	if c.caller.May(scope) {
		return nil
	}
	return &deploy.Error{
		Code: deploy.CodeScopeMissing, Message: fmt.Sprintf("the credential of this client does not have the scope %q, which %s needs", scope, c.tool),
		Next: "Tell the user that the token of this client does not allow it; do not repeat the call.",
	}
}
