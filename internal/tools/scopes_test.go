package tools_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/tools"
)

// TestScopesOfTools: each tool that there is has its scope, is listed for whoever has it, and for
// nobody else.
func TestScopesOfTools(t *testing.T) {
	for scope, want := range map[deploy.Scope][]string{
		deploy.ScopeDeploy:  {"bundle", "deploy_temporary", "request_claim", "status", "teardown"},
		deploy.ScopeRead:    {"bundle", "status"},
		deploy.ScopeApprove: nil,
	} {
		srv, err := tools.New(tools.Config{Service: newFake(), ManyCallers: true, Caller: func(context.Context) deploy.Caller {
			return deploy.Caller{Principal: "p", Scopes: []deploy.Scope{scope}}
		}})
		if err != nil {
			t.Fatal(err)
		}
		for name := range srv.ListTools() {
			if tools.NeededScope(name) == "" {
				t.Errorf("%s needs no scope", name)
			}
		}
		res, err := localClient(t, srv).ListTools(t.Context(), mcp.ListToolsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, tool := range res.Tools {
			names = append(names, tool.Name)
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("with %s: %s", scope, diff)
		}
	}
}
