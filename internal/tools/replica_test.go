package tools_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/tools"
)

// TestAnswerAtAnotherReplica: a question of 2026-07-28 that one replica put is answered
// at another one with the same key, once; without the key, by another caller or for other
// arguments the answer counts for nothing.
func TestAnswerAtAnotherReplica(t *testing.T) {
	shared := func() ([]byte, error) { return []byte("the key that all replicas share!"), nil }
	type replica struct {
		srv *server.MCPServer
		svc *fakeService
	}
	open := func(principal string, key func() ([]byte, error)) replica {
		svc := newFake()
		svc.deploy = func(context.Context, deploy.DeployRequest) (*deploy.DeployResult, error) {
			if len(svc.acceptedBy()) > 0 {
				return sampleDeploy(), nil
			}
			return nil, deploy.Errorf(deploy.CodeTermsNeeded, "Ask.", "terms")
		}
		srv, err := tools.New(tools.Config{
			Service: svc, StateKey: key,
			Caller: func(context.Context) deploy.Caller { return deploy.Caller{Principal: principal, Scope: "http"} },
		})
		if err != nil {
			t.Fatal(err)
		}
		return replica{srv, svc}
	}
	ask := func(r replica, dir, state string) string {
		params := map[string]any{
			"name": "deploy_temporary", "arguments": map[string]any{"project_dir": dir},
			"_meta": map[string]any{
				"io.modelcontextprotocol/protocolVersion":    "2026-07-28",
				"io.modelcontextprotocol/clientCapabilities": map[string]any{"elicitation": map[string]any{"form": map[string]any{}}},
			},
		}
		if state != "" {
			params["requestState"] = state
			params["inputResponses"] = map[string]any{"terms": map[string]any{"action": "accept", "content": map[string]any{"accept": true}}}
		}
		raw, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": mcp.MethodToolsCall, "params": params})
		out, _ := json.Marshal(r.srv.HandleMessage(t.Context(), raw))
		return string(out)
	}
	stateOf := func(answer string) string {
		var a struct {
			Result struct {
				RequestState string `json:"requestState"`
			} `json:"result"`
		}
		if err := json.Unmarshal([]byte(answer), &a); err != nil || a.Result.RequestState == "" {
			t.Fatalf("no question: %v %s", err, answer)
		}
		return a.Result.RequestState
	}
	asked := func(answer string) bool { return strings.Contains(answer, `"input_required"`) }
	one, two := open("ana", shared), open("ana", shared)
	state := stateOf(ask(one, ".", ""))
	for name, r := range map[string]replica{"another caller": open("bob", shared), "another key": open("ana", nil)} {
		if got := ask(r, ".", state); !asked(got) || len(r.svc.acceptedBy()) > 0 {
			t.Errorf("%s: %s", name, got)
		}
	}
	three := open("ana", shared)
	if got := ask(three, "other", state); !asked(got) || len(three.svc.acceptedBy()) > 0 {
		t.Errorf("other arguments: %s", got)
	}
	if got := ask(open("ana", shared), ".", state+"x"); !asked(got) {
		t.Errorf("an altered state: %s", got)
	}
	if got := ask(two, ".", state); asked(got) || fmt.Sprint(two.svc.acceptedBy()) != "[elicitation]" {
		t.Errorf("the other replica: %s %v", got, two.svc.acceptedBy())
	}
	two.svc.mu.Lock()
	two.svc.terms = nil
	two.svc.mu.Unlock()
	if got := ask(two, ".", state); !asked(got) || len(two.svc.acceptedBy()) > 0 {
		t.Errorf("the same answer again: %s", got)
	}
}
