package tools_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/rs/zerolog"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/tools"
)

// schemas compiles a tool's two schemas as the live list shows them.
func schemas(t *testing.T, srv *server.MCPServer, name string) (input, output *jsonschema.Schema) {
	t.Helper()
	for _, raw := range rawList(t, srv) {
		var tool struct {
			Name                      string
			InputSchema, OutputSchema json.RawMessage
		}
		if err := json.Unmarshal(raw, &tool); err != nil {
			t.Fatal(err)
		}
		if tool.Name == name {
			return compile(t, tool.InputSchema), compile(t, tool.OutputSchema)
		}
	}
	t.Fatalf("no tool %s", name)
	return nil, nil
}

func compile(t *testing.T, raw []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:///schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("mem:///schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// results are results of every kind, by tool.
func results() map[string][]func(*fakeService) {
	bundle := func(f func(*deploy.Artifact)) func(*fakeService) {
		return func(s *fakeService) {
			s.bundle = func(context.Context, deploy.Source) (*deploy.BundleResult, error) {
				r := sampleBundle()
				f(r.Artifact)
				return r, nil
			}
		}
	}
	dep := func(f func(*deploy.DeployResult)) func(*fakeService) {
		return func(s *fakeService) {
			s.deploy = func(context.Context, deploy.DeployRequest) (*deploy.DeployResult, error) {
				r := sampleDeploy()
				f(r)
				return r, nil
			}
		}
	}
	return map[string][]func(*fakeService){
		"bundle": {
			bundle(func(*deploy.Artifact) {}),
			bundle(func(a *deploy.Artifact) {
				*a = deploy.Artifact{Name: "site", Digest: a.Digest, Assets: &deploy.Assets{}}
			}),
			bundle(func(a *deploy.Artifact) {
				for i := range 60 {
					a.Diagnostics = append(a.Diagnostics, deploy.Diagnostic{Severity: "error", File: fmt.Sprint("f", i), Line: i, Text: strings.Repeat("long ", 200)})
					a.Modules = append(a.Modules, deploy.Module{Name: fmt.Sprint("m", i), Type: deploy.TypeESModule})
					a.Largest = append(a.Largest, deploy.Sized{Name: strings.Repeat("n", 300), Bytes: 1})
					a.Warnings = append(a.Warnings, strings.Repeat("warn ", 100))
				}
			}),
		},
		"deploy_temporary": {
			dep(func(*deploy.DeployResult) {}),
			dep(func(r *deploy.DeployResult) { r.Check, r.Warnings, r.Stages = nil, nil, nil; r.Next.Args = nil }),
			dep(func(r *deploy.DeployResult) { // taken down, as much as can be said of that
				r.Serving, r.URL, r.Discarded = deploy.ServingDeleted, "", &deploy.Discarded{By: "the call"}
				for i := range 30 {
					r.Discarded.Deleted = append(r.Discarded.Deleted, fmt.Sprint("kv_namespace cache-", i))
					r.Discarded.NotUndone = append(r.Discarded.NotUndone, strings.Repeat("no answer ", 50))
				}
			}),
			dep(func(r *deploy.DeployResult) { r.Discarded = &deploy.Discarded{By: "the call"} }),
			dep(func(r *deploy.DeployResult) { // a Worker that writes as much as it can, in wide characters
				r.Check.BodyExcerpt = strings.Repeat("界", 5000)
				r.Check.Error = strings.Repeat("🙈", 5000)
				r.Check.At = strings.Repeat("é", 5000)
				r.Check.Path = "/" + strings.Repeat("p", 3000)
				for range 50 {
					r.Warnings = append(r.Warnings, strings.Repeat("warning ", 100))
				}
			}),
		},
		"status": {
			func(*fakeService) {},
			func(s *fakeService) {
				s.status = func(context.Context, deploy.StatusRequest) (*deploy.StatusResult, error) {
					return &deploy.StatusResult{Next: deploy.NextStep{Do: "Nothing is deployed yet."}}, nil
				}
			},
			func(s *fakeService) {
				s.status = func(context.Context, deploy.StatusRequest) (*deploy.StatusResult, error) {
					return sampleStatus(50, 12), nil
				}
			},
			func(s *fakeService) {
				s.status = func(context.Context, deploy.StatusRequest) (*deploy.StatusResult, error) {
					return sampleStatus(1, 40), nil
				}
			},
		},
		"request_claim": {
			func(*fakeService) {},
			func(s *fakeService) {
				s.claim = func(context.Context, deploy.ClaimRequest) (*deploy.ClaimResult, error) {
					r := sampleClaim()
					r.Claim, r.PageURL = deploy.ClaimApproved, ""
					return r, nil
				}
			},
		},
		"teardown": {
			func(*fakeService) {},
			func(s *fakeService) { // again: there is nothing left
				s.down = func(deploy.TeardownRequest) (*deploy.TeardownResult, error) {
					return &deploy.TeardownResult{SessionID: "s_ab3kq7mz2xw5yt4rn6pv8cj9dh", Deleted: []string{}, Closed: true, Next: deploy.NextStep{Do: "It is taken down."}}, nil
				}
			},
		},
	}
}

// TestResults holds every result to its schema, to its budget, and to the rule that the
// text is the same JSON as the structured content.
func TestResults(t *testing.T) {
	args := map[string][]string{
		"bundle":           {`{"project_dir":"."}`},
		"deploy_temporary": {`{"project_dir":"."}`, `{"project_dir":".","detail":true}`},
		"status":           {`{}`, `{"detail":true}`},
		"request_claim":    {`{}`},
		"teardown":         {`{}`},
	}
	for name, kinds := range results() {
		for i, kind := range kinds {
			for _, arg := range args[name] {
				t.Run(fmt.Sprintf("%s/%d/%s", name, i, arg), func(t *testing.T) {
					svc := newFake()
					kind(svc)
					srv := newServer(t, svc, nil)
					_, out := schemas(t, srv, name)
					res := callTool(t, localClient(t, srv), name, arg)
					got := success(t, res)
					if err := out.Validate(got); err != nil {
						t.Errorf("the result does not fit the output schema: %v", err)
					}
					var same map[string]any
					if err := json.Unmarshal([]byte(text(t, res)), &same); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(same, got); diff != "" {
						t.Errorf("text and structured content differ:\n%s", diff)
					}
					limit := 600
					if name == "status" && strings.Contains(arg, "detail") {
						limit = 2400
					}
					if strings.Contains(text(t, res), "null") {
						t.Errorf("a list that is null is none to clients that check: %s", text(t, res))
					}
					if n := tools.EstimateTokens(text(t, res)); n > limit {
						t.Errorf("about %d tokens, want at most %d:\n%s", n, limit, text(t, res))
					}
				})
			}
		}
	}
}

// TestDiscardArgument: the argument arrives, and what was taken down is told.
func TestDiscardArgument(t *testing.T) {
	svc := newFake()
	asked := []bool{}
	svc.deploy = func(_ context.Context, req deploy.DeployRequest) (*deploy.DeployResult, error) {
		asked = append(asked, req.DiscardOnFailedCheck)
		r := sampleDeploy()
		r.Serving, r.URL = deploy.ServingDeleted, ""
		r.Discarded = &deploy.Discarded{By: "the call", Deleted: []string{"worker hello"}, NotUndone: []string{"d1 hello-db: \u202eno answer"}, Earlier: "b_0"}
		return r, nil
	}
	c := localClient(t, newServer(t, svc, nil))
	got := success(t, callTool(t, c, "deploy_temporary", `{"project_dir":".","discard_on_failed_check":true}`))
	want := map[string]any{"by": "the call", "deleted": []any{"worker hello"}, "not_undone": []any{"d1 hello-db: no answer"}, "earlier_bundle_id": "b_0"}
	if diff := cmp.Diff(want, got["discarded"]); diff != "" || got["serving"] != "deleted" || got["url"] != "" {
		t.Errorf("%v\n%s", got, diff)
	}
	success(t, callTool(t, c, "deploy_temporary", `{"project_dir":"."}`))
	if !slices.Equal(asked, []bool{true, false}) {
		t.Errorf("%v", asked)
	}
	if e := failure(t, callTool(t, c, "deploy_temporary", `{"project_dir":".","discard_on_failed_check":"yes"}`)); e.Error.Code != "invalid_argument" {
		t.Errorf("%+v", e)
	}
}

func TestFullDeployResultGolden(t *testing.T) {
	c := localClient(t, newServer(t, newFake(), nil))
	body := text(t, callTool(t, c, "deploy_temporary", `{"project_dir":".","detail":true}`))
	golden(t, "result_deploy.json", append([]byte(body), '\n'))
	golden(t, "result_status.json", append([]byte(text(t, callTool(t, c, "status", `{}`))), '\n'))
	golden(t, "result_bundle.json", append([]byte(text(t, callTool(t, c, "bundle", `{"project_dir":"."}`))), '\n'))
	golden(t, "result_claim.json", append([]byte(text(t, callTool(t, c, "request_claim", `{}`))), '\n'))
}

func TestErrorWithManyDiagnostics(t *testing.T) {
	svc := newFake()
	svc.deploy = func(context.Context, deploy.DeployRequest) (*deploy.DeployResult, error) { return nil, buildFailed(50) }
	res := callTool(t, localClient(t, newServer(t, svc, nil)), "deploy_temporary", `{"project_dir":"."}`)
	e := failure(t, res)
	golden(t, "error_50_diagnostics.json", append([]byte(text(t, res)), '\n'))
	if e.Error.Code != "build_failed" || len(e.Error.Diagnostics) < 3 {
		t.Errorf("%+v", e)
	}
	if got := len(e.Error.Diagnostics) + e.Error.LeftOut["diagnostics"]; got != 50 {
		t.Errorf("%d rows and rows left out, want 50", got)
	}
	if n := tools.EstimateTokens(text(t, res)); n > 600 {
		t.Errorf("about %d tokens", n)
	}
}

func TestErrorShape(t *testing.T) {
	for name, c := range map[string]struct {
		err        error
		code       string
		retry      int
		next       string
		notInReply string
	}{
		"ours":      {&deploy.Error{Code: deploy.CodeRateLimited, Message: "not now", Next: "Wait.", RetryAfter: 1500 * time.Millisecond}, "rate_limited", 2, "Wait.", ""},
		"wrapped":   {fmt.Errorf("outer: %w", &deploy.Error{Code: deploy.CodeReadOnly, Message: "no", Next: "Stop."}), "read_only", 0, "Stop.", "outer"},
		"no next":   {&deploy.Error{Code: deploy.CodeStore, Message: "no disk", Cause: errors.New("sqlite: I/O at /home/x")}, "store_failed", 0, "", "sqlite"},
		"a mistake": {errors.New("nil map in *deploy.Service"), "internal", 0, "", "nil map"},
		"cancelled": {context.Canceled, "cancelled", 0, "", ""},
		"too slow":  {context.DeadlineExceeded, "timeout", 0, "", ""},
		"long":      {&deploy.Error{Code: deploy.CodeAPIRefused, Message: strings.Repeat("long ", 5000), Next: strings.Repeat("long ", 5000)}, "api_refused", 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			svc := newFake()
			svc.status = func(context.Context, deploy.StatusRequest) (*deploy.StatusResult, error) { return nil, c.err }
			var log lockedBuffer
			res := callTool(t, localClient(t, newServer(t, svc, &log)), "status", `{}`)
			e := failure(t, res)
			if e.Error.Code != c.code {
				t.Errorf("code %q, want %q", e.Error.Code, c.code)
			}
			if c.next != "" && e.Error.Next != c.next {
				t.Errorf("next %q", e.Error.Next)
			}
			retry := 0
			if e.Error.RetryAfterSeconds != nil {
				retry = *e.Error.RetryAfterSeconds
			}
			if retry != c.retry {
				t.Errorf("retry_after_seconds %d, want %d", retry, c.retry)
			}
			body := text(t, res)
			if c.notInReply != "" && strings.Contains(body, c.notInReply) {
				t.Errorf("the reply has %q: %s", c.notInReply, body)
			}
			if n := tools.EstimateTokens(body); n > 600 {
				t.Errorf("about %d tokens", n)
			}
			if !strings.Contains(log.String(), c.code) {
				t.Errorf("the log lacks the code: %s", log.String())
			}
		})
	}
}

// TestEveryRefusalSaysWhatNext asks it of the errors that the door itself makes.
func TestEveryRefusalSaysWhatNext(t *testing.T) {
	c := localClient(t, newServer(t, newFake(), nil))
	for _, bad := range badArguments() {
		e := failure(t, callTool(t, c, bad.tool, bad.args))
		if e.Error.Next == "" || strings.Contains(e.Error.Message+e.Error.Next, "*") {
			t.Errorf("%s: %+v", bad.args, e)
		}
	}
}

func TestPanicTellsNothing(t *testing.T) {
	roads(t, func(t *testing.T, connect func(*server.MCPServer, ...client.ClientOption) *client.Client) {
		svc := newFake()
		svc.bundle = func(context.Context, deploy.Source) (*deploy.BundleResult, error) { panic("the secret value 4711") }
		var log lockedBuffer
		c := connect(newServer(t, svc, &log))
		res := callTool(t, c, "bundle", `{"project_dir":"."}`)
		if e := failure(t, res); e.Error.Code != "internal" || strings.Contains(text(t, res), "4711") {
			t.Errorf("%s", text(t, res))
		}
		if !strings.Contains(log.String(), "4711") || !strings.Contains(log.String(), "stack") {
			t.Errorf("the operator's log must have the panic: %s", log.String())
		}
		success(t, callTool(t, c, "status", `{}`)) // the server goes on
	})
}

// TestSecretsDoNotLeave: every text of a result, an error and the log passes the redactor.
func TestSecretsDoNotLeave(t *testing.T) {
	const secret = "tok<en>-S3CR3T&0123456789" //nolint:gosec // made up
	link := "https://dash.cloudflare.com/claim-preview?claimToken=abcdefghijklmnop"
	leak := "see " + secret + " and " + link + " and Bearer abcdefgh12345678"
	svc := newFake()
	svc.redact.Add(secret)
	svc.deploy = func(context.Context, deploy.DeployRequest) (*deploy.DeployResult, error) {
		r := sampleDeploy()
		r.Check.BodyExcerpt, r.Check.Error, r.URL, r.Warnings = leak, leak, link, []string{leak}
		r.Next.Args = map[string]any{"x": leak, secret: "key"}
		return r, nil
	}
	svc.status = func(context.Context, deploy.StatusRequest) (*deploy.StatusResult, error) {
		return nil, &deploy.Error{Code: deploy.CodeAPIRefused, Message: leak, Next: leak, Cause: errors.New(leak)}
	}
	svc.bundle = func(context.Context, deploy.Source) (*deploy.BundleResult, error) { panic(leak) }
	var log lockedBuffer
	c := localClient(t, newServer(t, svc, &log))
	out := ""
	for _, res := range []*mcp.CallToolResult{
		callTool(t, c, "deploy_temporary", `{"project_dir":".","run_id":"`+secret+`"}`), callTool(t, c, "status", `{}`),
		callTool(t, c, "bundle", `{"project_dir":"."}`),
	} {
		raw, err := json.Marshal(res)
		if err != nil {
			t.Fatal(err)
		}
		out += string(raw)
	}
	for where, s := range map[string]string{"results": out, "log": log.String()} {
		for _, bad := range []string{secret, "S3CR3T", "abcdefghijklmnop", "claim-preview", "abcdefgh12345678"} {
			if strings.Contains(s, bad) {
				t.Errorf("%s: has %q:\n%s", where, bad, s)
			}
		}
		if !strings.Contains(s, "[redacted]") {
			t.Errorf("%s: nothing was redacted", where)
		}
	}
}

// TestForeignTextIsTame: what a Worker wrote is cut, and free of what only a model would see.
func TestForeignTextIsTame(t *testing.T) {
	svc := newFake()
	hidden := "\U000E0049\U000E0067\U000E006E" // Unicode tags: invisible letters
	svc.deploy = func(context.Context, deploy.DeployRequest) (*deploy.DeployResult, error) {
		r := sampleDeploy()
		r.Check.BodyExcerpt = "a\x1b[31mb\u202ec\u200bd" + hidden + "\xff👩‍👩‍👧\n" + strings.Repeat("x", 1000)
		return r, nil
	}
	got := success(t, callTool(t, localClient(t, newServer(t, svc, nil)), "deploy_temporary", `{"project_dir":"."}`))
	body := got["check"].(map[string]any)["body_excerpt"].(string)
	if !strings.HasPrefix(body, "a[31mbcd\uFFFD👩‍👩‍👧\nxxx") || len([]rune(body)) > 401 {
		t.Errorf("%q", body)
	}
}

func TestLogLine(t *testing.T) {
	var log lockedBuffer
	c := localClient(t, newServer(t, newFake(), &log))
	callTool(t, c, "deploy_temporary", `{"project_dir":".","run_id":"run-1","job_id":"job-2"}`)
	callTool(t, c, "status", `{"session_id":"s_x"}`)
	callTool(t, c, "status", `{"nope":1}`)
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines, want one a call:\n%s", len(lines), log.String())
	}
	var first map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil {
		t.Fatal(err)
	}
	delete(first, "ms")
	want := map[string]any{
		"level": "info", "message": "tool call", "tool": "deploy_temporary", "outcome": "ok", "client": "test-client 0.1",
		"principal": "local", "session": sampleDeploy().SessionID, "run_id": "run-1", "job_id": "job-2",
	}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(lines[1], `"session":"s_x"`) || !strings.Contains(lines[2], `"outcome":"unknown_argument"`) {
		t.Errorf("%s", log.String())
	}
}

// watcher is an Observer that writes down what it was told.
type watcher struct{ told []string }

func (w *watcher) Begin(ctx context.Context, tool string, from deploy.TraceContext) (context.Context, deploy.Observed) {
	w.told = append(w.told, "begin "+tool+" "+from.Parent+" "+from.State)
	return ctx, w
}
func (w *watcher) TraceID() string        { return "4bf92f3577b34da6a3ce929d0e0e4736" }
func (w *watcher) Stage(s deploy.Stage)   { w.told = append(w.told, "stage "+string(s)) }
func (w *watcher) End(o string, bad bool) { w.told = append(w.told, fmt.Sprint("end ", o, " ", bad)) }

// TestObserver: whoever watches is told the agent's trace and what came of the call; the
// trace and the trusted labels stand in the log line.
func TestObserver(t *testing.T) {
	var log lockedBuffer
	w := &watcher{}
	srv, err := tools.New(tools.Config{
		Service: newFake(), Observer: w, Logger: zerolog.New(&log),
		Caller: func(context.Context) deploy.Caller {
			return deploy.Caller{Principal: "ci", Labels: map[string]string{"team": "web"}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := localClient(t, srv)
	for _, args := range []string{`{}`, `{"nope":1}`} {
		_, err := c.CallTool(t.Context(), mcp.CallToolRequest{Params: mcp.CallToolParams{
			Name: "status", RawArguments: json.RawMessage(args),
			Meta: &mcp.Meta{AdditionalFields: map[string]any{"traceparent": "00-x", "tracestate": "a=b"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"begin status 00-x a=b", "end ok false", "begin status 00-x a=b", "end unknown_argument true"}
	if diff := cmp.Diff(want, w.told); diff != "" {
		t.Error(diff)
	}
	for _, s := range []string{`"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"`, `"labels":{"team":"web"}`, `"principal":"ci"`} {
		if strings.Count(log.String(), s) != 2 {
			t.Errorf("no %s in\n%s", s, log.String())
		}
	}
}

// TestEstimateIsAboveRealTokenizers compares the estimate that cuts results with what
// three published tokenizers counted for the golden files (o200k, cl100k, and
// Anthropic's of Claude 2; the largest of the three stands in the table, as
// testdata/count_tokens.mjs printed it).
func TestEstimateIsAboveRealTokenizers(t *testing.T) {
	for file, counted := range map[string]int{
		"result_deploy.json": 550, "result_status.json": 321, "result_bundle.json": 253, "result_claim.json": 146,
		"error_50_diagnostics.json": 526, "tools_list.jsonl": 2073,
	} {
		got := tools.EstimateTokens(string(readGolden(t, file)))
		t.Logf("%s: estimated %d, counted %d", file, got, counted)
		if got < counted || got > 2*counted {
			t.Errorf("%s: estimated %d, a tokenizer counted %d", file, got, counted)
		}
	}
}
