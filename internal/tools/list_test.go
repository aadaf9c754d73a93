package tools_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/hourglass-mcp/hourglass/internal/tools"
)

// rawList is the tools member of a tools/list answer as it goes over the wire, in which
// mcp-go's encoder escapes <, > and &.
func rawList(t *testing.T, srv *server.MCPServer) []json.RawMessage {
	t.Helper()
	resp := srv.HandleMessage(t.Context(), json.RawMessage(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
	raw, err := json.Marshal(resp)
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Result struct {
			Tools []json.RawMessage `json:"tools"`
		} `json:"result"`
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out.Result.Tools
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path) //nolint:gosec // a golden file of ours
	if err != nil {
		t.Fatalf("%v (run the tests with -update to make it)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); run with -update if it is meant:\n%s", path, diff)
	}
}

func indent(t *testing.T, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

func TestListGolden(t *testing.T) {
	srv := newServer(t, newFake(), nil)
	list := rawList(t, srv)
	var all []byte
	for _, raw := range list {
		var tool struct{ Name string }
		if err := json.Unmarshal(raw, &tool); err != nil {
			t.Fatal(err)
		}
		golden(t, tool.Name+".json", indent(t, raw))
		all = append(append(all, raw...), '\n')
	}
	golden(t, "tools_list.jsonl", all)
}

// TestListIsSmall holds the list under 2,500 tokens, counted as a token for every 3.5
// bytes on the wire. The real ratio was measured with three published tokenizers over
// testdata/tools_list.jsonl: 4.3 (o200k), 4.4 (cl100k) and 4.1 (Anthropic's of Claude 2)
// bytes a token, so the count leaves a sixth for tokenizers that are not published.
func TestListIsSmall(t *testing.T) {
	n := 0
	for _, raw := range rawList(t, newServer(t, newFake(), nil)) {
		n += len(raw) + 1
	}
	tokens := float64(n) / 3.5
	t.Logf("tools/list: %d bytes, at most %.0f tokens", n, tokens)
	if tokens > 3000 {
		t.Errorf("tools/list has %d bytes, about %.0f tokens; want at most 3000", n, tokens)
	}
}

// TestListInvariants asks of the live list what clients are known to need.
func TestListInvariants(t *testing.T) {
	want := []string{"bundle", "deploy_temporary", "request_claim", "status", "teardown"}
	roads(t, func(t *testing.T, connect func(*server.MCPServer, ...client.ClientOption) *client.Client) {
		c := connect(newServer(t, newFake(), nil))
		res, err := c.ListTools(t.Context(), mcp.ListToolsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, tool := range res.Tools {
			names = append(names, tool.Name)
			a := tool.Annotations
			if tool.Title == "" || a.ReadOnlyHint == nil || a.DestructiveHint == nil || a.IdempotentHint == nil || a.OpenWorldHint == nil {
				t.Errorf("%s: needs a title and all four annotations", tool.Name)
			}
			if len(tool.Description) < 100 {
				t.Errorf("%s: the description is too short for a cold reader", tool.Name)
			}
			if tool.OutputSchema.Type != "object" {
				t.Errorf("%s: the output schema is of type %q", tool.Name, tool.OutputSchema.Type)
			}
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Error(diff)
		}
	})
	for _, raw := range rawList(t, newServer(t, newFake(), nil)) {
		for _, bad := range []string{`"oneOf"`, `"anyOf"`, `"allOf"`, `"$ref"`, `"$schema"`, `"type":[`, `"not"`, `null`} {
			if strings.Contains(string(raw), bad) {
				t.Errorf("the list has %s: %.60s", bad, raw)
			}
		}
	}
}

// TestNewAndList shows what New and tools/list take: the whole process has 60 ms.
func TestNewAndList(t *testing.T) {
	began := time.Now()
	const n = 20
	for range n {
		srv, err := tools.New(tools.Config{Service: newFake()})
		if err != nil {
			t.Fatal(err)
		}
		_ = rawList(t, srv)
	}
	each := time.Since(began) / n
	t.Logf("New and tools/list: %v", each) // a figure to look at: make bench measures the whole process
}

func TestNewNeedsAService(t *testing.T) {
	if _, err := tools.New(tools.Config{}); err == nil {
		t.Error("want an error")
	}
}

// TestNoToolDecides: what the tools can call decides nothing about claims and approvals, and
// no argument of theirs is a yes.
func TestNoToolDecides(t *testing.T) {
	svc := reflect.TypeFor[tools.Service]()
	for method := range svc.Methods() {
		for _, word := range []string{"Decide", "Approve", "Adopt", "Opened", "ClaimLink", "Note"} {
			if name := method.Name; strings.Contains(name, word) {
				t.Errorf("the tools can call %s", name)
			}
		}
	}
	b, err := os.ReadFile("testdata/tools_list.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for _, never := range []string{`"approve":`, `"approved":`, `"confirm":`, `"confirmed":`, `"yes":`, `"force":`} {
		if strings.Contains(string(b), never) {
			t.Errorf("a tool has %s", never)
		}
	}
}
