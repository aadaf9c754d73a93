package tools_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/tools"
)

func readGolden(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name)) //nolint:gosec // a golden file of ours
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

type badArgument struct {
	tool, args, code string
	says             []string // parts of message and next
}

func badArguments() []badArgument {
	const inv, unk, two = "invalid_argument", "unknown_argument", "two_sources"
	return []badArgument{
		{"bundle", `{"projectDir":"."}`, unk, []string{`"projectDir"`, `"project_dir"`}},
		{"bundle", `{"dir":"."}`, unk, []string{`"dir"`, `"project_dir"`}},
		{"bundle", `{"file":[]}`, unk, []string{`"files"`}},
		{"bundle", `{"compatibility_dates":"2026-01-01"}`, unk, []string{`"compatibility_date"`}},
		{"bundle", `{"zzz":1,"minfy":true}`, unk, []string{`"zzz"`, `"minify"`, "Known here: project_dir, files"}},
		{"bundle", `{"Project_Dir":"."}`, unk, []string{`"project_dir"`}},
		{"bundle", `{"bundle_id":"b_1"}`, unk, []string{`"bundle_id"`}},
		{"bundle", `{"files":[{"path":"a.ts","contents":"x"}]}`, inv, []string{"files[0].content is missing"}},
		{"bundle", `{"files":[{"path":"a.ts","content":"x","mode":"x"}]}`, unk, []string{`"files[0].mode"`}},
		{"bundle", `{"files":[{"path":"a.ts","content":null}]}`, inv, []string{"files[0].content is missing"}},
		{"bundle", `{"files":[{"path":"a","content":"x"},{"path":7,"content":"x"}]}`, inv, []string{"files[1].path must be a string, not a number"}},
		{"bundle", `{"files":[null]}`, inv, []string{"files[0] must be an object, not null"}},
		{"bundle", `{"files":{"a.ts":"x"}}`, inv, []string{"files must be a list, not an object"}},
		{"bundle", `{"files":"[{\"path\":\"a\"}]"}`, inv, []string{"files must be a list, not a string", "not a string that holds it"}},
		{"bundle", `{"files":[{"path":"a","content":"x","encoding":"hex"}]}`, inv, []string{`files[0].encoding can't be "hex"`, "utf8, base64"}},
		{"bundle", `{"files":[{"path":"a","content":"!!","encoding":"base64"}]}`, inv, []string{"files[0].content", "base64"}},
		{"bundle", `{"minify":"true"}`, inv, []string{"minify must be true or false, not a string"}},
		{"bundle", `{"compatibility_flags":"nodejs_compat"}`, inv, []string{"compatibility_flags must be a list"}},
		{"bundle", `{"compatibility_flags":["a",1]}`, inv, []string{"compatibility_flags[1] must be a string, not a number"}},
		{"bundle", `{"name":"a","name":"b","project_dir":"."}`, inv, []string{"name is given twice"}},
		{"bundle", `{"files":[{"path":"a","content":"1","path":"b"}]}`, inv, []string{"files[0].path is given twice"}},
		{"bundle", `{"project_dir":".","files":[{"path":"a","content":"x"}]}`, two, []string{"project_dir and files"}},
		{"bundle", `[]`, inv, []string{"arguments must be an object, not a list"}},
		{"bundle", `"x"`, inv, []string{"arguments must be an object, not a string"}},
		{"bundle", `{"name":"a\ud800b","project_dir":"."}`, inv, []string{"Unicode", "base64"}},
		{"bundle", "{\"name\":\"a\xffb\",\"project_dir\":\".\"}", inv, []string{"Unicode"}},
		{"deploy_temporary", `{"bundle_id":"b_1","files":[{"path":"a","content":"x"}]}`, two, []string{"bundle_id and files"}},
		{"deploy_temporary", `{"bundle_id":"b_1","name":"x","minify":true}`, inv, []string{"name, minify can't be given with bundle_id"}},
		{"deploy_temporary", `{"project_dir":".","expect":{"staus":200}}`, unk, []string{`"expect.staus"`, `"expect.status"`}},
		{"deploy_temporary", `{"project_dir":".","expect":{"status":"200"}}`, inv, []string{"expect.status must be a whole number, not a string"}},
		{"deploy_temporary", `{"project_dir":".","expect":{"status":200.5}}`, inv, []string{"expect.status must be a whole number"}},
		{"deploy_temporary", `{"project_dir":".","expect":{"status":1e300}}`, inv, []string{"expect.status must be a whole number"}},
		{"deploy_temporary", `{"project_dir":".","expect":"/"}`, inv, []string{"expect must be an object, not a string"}},
		{"deploy_temporary", `{"project_dir":".","approve":true}`, unk, []string{`"approve"`}},
		{"status", `{"session":"s_1"}`, unk, []string{`"session_id"`}},
		{"request_claim", `{"confirm":true}`, unk, []string{`"confirm"`}},
		{"request_claim", `{"session_id":["s"]}`, inv, []string{"session_id must be a string, not a list"}},
	}
}

func TestBadArguments(t *testing.T) {
	svc := newFake()
	c := localClient(t, newServer(t, svc, nil))
	for _, bad := range badArguments() {
		res := rawCall(t, newServer(t, svc, nil), bad.tool, bad.args)
		e := failure(t, res)
		if e.Error.Code != bad.code {
			t.Errorf("%s %s: code %q, want %q: %s", bad.tool, bad.args, e.Error.Code, bad.code, e.Error.Message)
		}
		for _, want := range bad.says {
			if !strings.Contains(e.Error.Message+"\n"+e.Error.Next, want) {
				t.Errorf("%s %s: does not say %q: %s / %s", bad.tool, bad.args, want, e.Error.Message, e.Error.Next)
			}
		}
	}
	if len(svc.callers) != 0 {
		t.Errorf("the Service was called %d times for refused arguments", len(svc.callers))
	}
	_ = c
}

// rawCall sends arguments as they are, which a client's encoder might mend.
func rawCall(t *testing.T, srv *server.MCPServer, tool, args string) *mcp.CallToolResult {
	t.Helper()
	msg := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + args + `}}`
	raw, err := json.Marshal(srv.HandleMessage(t.Context(), json.RawMessage(msg)))
	if err != nil {
		t.Fatal(err)
	}
	var resp struct {
		Result json.RawMessage `json:"result"`
		Error  json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(raw, &resp); err != nil {
		t.Fatal(err)
	}
	if len(resp.Result) == 0 {
		t.Fatalf("%s: a protocol error: %s", args, resp.Error)
	}
	var res mcp.CallToolResult
	if err := json.Unmarshal(resp.Result, &res); err != nil {
		t.Fatal(err)
	}
	return &res
}

func TestGoodArguments(t *testing.T) {
	svc := newFake()
	var sources []deploy.Source
	svc.bundle = func(_ context.Context, src deploy.Source) (*deploy.BundleResult, error) {
		sources = append(sources, src)
		return sampleBundle(), nil
	}
	var deploys []deploy.DeployRequest
	svc.deploy = func(_ context.Context, req deploy.DeployRequest) (*deploy.DeployResult, error) {
		req.Progress = nil
		deploys = append(deploys, req)
		return sampleDeploy(), nil
	}
	srv := newServer(t, svc, nil)
	for _, args := range []string{
		`{"files":[{"path":"src/a.ts","content":"é😀 \ud83d\ude00"},{"path":"b.wasm","content":"AGFzbQ==","encoding":"base64"}],"entry":"src/a.ts","name":"x",` +
			`"environment":"e","compatibility_date":"2026-01-01","compatibility_flags":["f","g"],"minify":true}`,
		`{"project_dir":"site","files":null,"minify":null,"compatibility_flags":[]}`,
	} {
		success(t, rawCall(t, srv, "bundle", args))
	}
	want := []deploy.Source{
		{
			Files: []deploy.File{{Path: "src/a.ts", Content: []byte("é😀 😀")}, {Path: "b.wasm", Content: []byte("\x00asm")}}, Entry: "src/a.ts", Name: "x",
			Environment: "e", CompatibilityDate: "2026-01-01", CompatibilityFlags: []string{"f", "g"}, Minify: true,
		},
		{ProjectDir: "site"},
	}
	if diff := cmp.Diff(want, sources); diff != "" {
		t.Error(diff)
	}
	success(t, rawCall(t, srv, "deploy_temporary", `{"bundle_id":"b_1","session_id":"s","fresh":true,"run_id":"r","job_id":"j","expect":{"path":"/h","status":2e2,"body_contains":"ok"}}`))
	success(t, rawCall(t, srv, "deploy_temporary", `{"project_dir":".","expect":{}}`))
	wantDeploys := []deploy.DeployRequest{
		{BundleID: "b_1", SessionID: "s", Fresh: true, RunID: "r", JobID: "j", Claimed: map[string]string{"run_id": "r", "job_id": "j"}, Expect: &deploy.Expect{Path: "/h", Status: 200, BodyContains: "ok"}},
		{Source: deploy.Source{ProjectDir: "."}, Expect: &deploy.Expect{}},
	}
	if diff := cmp.Diff(wantDeploys, deploys); diff != "" {
		t.Error(diff)
	}
	// No arguments at all are no source; that is the Service's to refuse.
	success(t, rawCall(t, srv, "status", `null`))
}

func TestIdempotencyKey(t *testing.T) {
	svc := newFake()
	var keys []string
	svc.deploy = func(_ context.Context, req deploy.DeployRequest) (*deploy.DeployResult, error) {
		keys = append(keys, req.IdempotencyKey)
		return sampleDeploy(), nil
	}
	c := localClient(t, newServer(t, svc, nil))
	call := func(meta map[string]any) *mcp.CallToolResult {
		return callWith(t, c, mcp.CallToolParams{
			Name: "deploy_temporary", RawArguments: json.RawMessage(`{"project_dir":"."}`), Meta: &mcp.Meta{AdditionalFields: meta},
		})
	}
	success(t, call(map[string]any{"hourglass/idempotencyKey": "k1"}))
	success(t, call(map[string]any{"idempotencyKey": "k2"}))
	success(t, call(map[string]any{"idempotencyKey": "k3", "hourglass/idempotencyKey": "k3"}))
	success(t, call(map[string]any{"other": 1}))
	if diff := cmp.Diff([]string{"k1", "k2", "k3", ""}, keys); diff != "" {
		t.Error(diff)
	}
	for _, meta := range []map[string]any{
		{"idempotencyKey": 5},
		{"idempotencyKey": ""},
		{"idempotencyKey": strings.Repeat("k", 201)},
		{"idempotencyKey": "a", "hourglass/idempotencyKey": "b"},
	} {
		if e := failure(t, call(meta)); e.Error.Code != "invalid_argument" || !strings.Contains(e.Error.Message, "dempotencyKey") {
			t.Errorf("%v: %+v", meta, e)
		}
	}
}

func TestCaller(t *testing.T) {
	svc := newFake()
	srv, err := tools.New(tools.Config{Service: svc, Caller: func(context.Context) deploy.Caller {
		return deploy.Caller{Principal: "p", Scope: "sc", Labels: map[string]string{"a": "b"}}
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := localClient(t, srv)
	callTool(t, c, "status", `{}`)
	want := []deploy.Caller{{Principal: "p", Scope: "sc", Labels: map[string]string{"a": "b"}, Client: "test-client 0.1"}}
	if diff := cmp.Diff(want, svc.callers); diff != "" {
		t.Error(diff)
	}
}

// FuzzArguments: whatever is sent, a call is answered by a result in one of the two
// shapes, and what was accepted fits the advertised schema.
func FuzzArguments(f *testing.F) {
	for _, bad := range badArguments() {
		f.Add(bad.tool, bad.args)
	}
	f.Add("bundle", `{"files":[{"path":"src/a.ts","content":"x"}],"minify":true}`)
	f.Add("deploy_temporary", `{"bundle_id":"b","expect":{"status":200.0}}`)
	f.Add("status", `{"detail":false,"a":{"b":[1,{"c":null}]}}`)
	f.Fuzz(func(t *testing.T, tool, args string) {
		switch tool {
		case "bundle", "deploy_temporary", "status", "request_claim":
		default:
			t.Skip()
		}
		if !json.Valid([]byte(args)) {
			t.Skip() // never comes past the transport
		}
		srv := newServer(t, newFake(), nil)
		began := time.Now()
		res := rawCall(t, srv, tool, args)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
		if res.IsError {
			failure(t, res)
			return
		}
		success(t, res)
		in, _ := schemas(t, srv, tool)
		var doc any
		if err := json.Unmarshal([]byte(args), &doc); err != nil || doc == nil {
			return
		}
		if err := in.Validate(withoutNulls(doc)); err != nil {
			t.Errorf("%s accepts what its schema does not: %s: %v", tool, args, err)
		}
	})
}

// withoutNulls drops members that are null, which count as not given.
func withoutNulls(v any) any {
	if l, ok := v.([]any); ok {
		for i := range l {
			l[i] = withoutNulls(l[i])
		}
	}
	if m, ok := v.(map[string]any); ok {
		for k, x := range m {
			if x == nil {
				delete(m, k)
				continue
			}
			m[k] = withoutNulls(x)
		}
	}
	return v
}
