package tools_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/tools"
)

var update = flag.Bool("update", false, "rewrite the golden files") //nolint:gochecknoglobals // a flag of the test binary

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeService answers what a test tells it to, and remembers what it was asked.
type fakeService struct {
	bundle func(context.Context, deploy.Source) (*deploy.BundleResult, error)
	deploy func(context.Context, deploy.DeployRequest) (*deploy.DeployResult, error)
	status func(context.Context, deploy.StatusRequest) (*deploy.StatusResult, error)
	claim  func(context.Context, deploy.ClaimRequest) (*deploy.ClaimResult, error)
	// down, where set, answers for Teardown.
	down    func(deploy.TeardownRequest) (*deploy.TeardownResult, error)
	redact  *deploy.Redactor
	mu      sync.Mutex
	callers []deploy.Caller
	terms   []string // who accepted them
}

func newFake() *fakeService {
	return &fakeService{
		bundle: func(context.Context, deploy.Source) (*deploy.BundleResult, error) { return sampleBundle(), nil },
		deploy: func(context.Context, deploy.DeployRequest) (*deploy.DeployResult, error) { return sampleDeploy(), nil },
		status: func(context.Context, deploy.StatusRequest) (*deploy.StatusResult, error) {
			return sampleStatus(1, 1), nil
		},
		claim:  func(context.Context, deploy.ClaimRequest) (*deploy.ClaimResult, error) { return sampleClaim(), nil },
		redact: deploy.NewRedactor(),
	}
}

func (f *fakeService) saw(c deploy.Caller) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.callers = append(f.callers, c)
}

func (f *fakeService) Bundle(ctx context.Context, c deploy.Caller, src deploy.Source) (*deploy.BundleResult, error) {
	f.saw(c)
	return f.bundle(ctx, src)
}

func (f *fakeService) Deploy(ctx context.Context, c deploy.Caller, req deploy.DeployRequest) (*deploy.DeployResult, error) {
	f.saw(c)
	return f.deploy(ctx, req)
}

func (f *fakeService) Status(ctx context.Context, c deploy.Caller, req deploy.StatusRequest) (*deploy.StatusResult, error) {
	f.saw(c)
	return f.status(ctx, req)
}

func (f *fakeService) RequestClaim(ctx context.Context, c deploy.Caller, req deploy.ClaimRequest) (*deploy.ClaimResult, error) {
	f.saw(c)
	return f.claim(ctx, req)
}

// Teardown takes down what it is told of, and says what it can't.
func (f *fakeService) Teardown(_ context.Context, c deploy.Caller, req deploy.TeardownRequest) (*deploy.TeardownResult, error) {
	f.saw(c)
	if f.down != nil {
		return f.down(req)
	}
	if req.DeploymentID == "d_none" {
		return nil, deploy.Errorf(deploy.CodeSessionNotFound, "Call status.", "there is no deployment d_none")
	}
	return &deploy.TeardownResult{
		SessionID: "s_ab3kq7mz2xw5yt4rn6pv8cj9dh", Deleted: []string{"worker hello", "kv_namespace hello-cache"},
		NotUndone: []string{"d1 hello-db: the API can't be reached"}, Closed: req.DeploymentID == "",
		Next: deploy.NextStep{Do: "Call teardown again in a minute.", Tool: "teardown"},
	}, nil
}

func (f *fakeService) Terms() string { return "Making an account means accepting the terms." }

func (f *fakeService) AcceptTerms(_ context.Context, _ deploy.Caller, by string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.terms = append(f.terms, by)
	return nil
}

func (f *fakeService) Redactor() *deploy.Redactor { return f.redact }

func (f *fakeService) acceptedBy() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.terms...)
}

// lockedBuffer is a log that a test may read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newServer(t *testing.T, svc tools.Service, log io.Writer) *server.MCPServer {
	t.Helper()
	if log == nil {
		log = io.Discard
	}
	srv, err := tools.New(tools.Config{Service: svc, Logger: zerolog.New(log), Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	return srv
}

// stdioClient is mcp-go's client at the other end of our stdio transport.
func stdioClient(t *testing.T, srv *server.MCPServer, opts ...client.ClientOption) *client.Client {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- tools.ServeStdio(context.Background(), srv, inR, outW, zerolog.Nop())
		_ = outW.Close()
	}()
	c := client.NewClient(transport.NewIO(outR, inW, io.NopCloser(strings.NewReader(""))), opts...)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("closing the client: %v", err)
		}
		_, _ = io.Copy(io.Discard, outR) // until the server is through
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("ServeStdio: %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("ServeStdio did not end with its input")
		}
	})
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	initialize(t, c)
	return c
}

// localClient is mcp-go's client in the same process.
func localClient(t *testing.T, srv *server.MCPServer, opts ...client.ClientOption) *client.Client {
	t.Helper()
	c, err := client.NewInProcessClientWithOptions(srv, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	initialize(t, c)
	return c
}

func initialize(t *testing.T, c *client.Client) {
	t.Helper()
	var req mcp.InitializeRequest
	req.Params.ClientInfo = mcp.Implementation{Name: "test-client", Version: "0.1"}
	if _, err := c.Initialize(t.Context(), req); err != nil {
		t.Fatal(err)
	}
}

// legacyOnly makes a client that speaks no protocol after 2025-11-25.
func legacyOnly() client.ClientOption {
	return client.WithLegacyProtocolOnly() //nolint:staticcheck // deprecated with that era, which we serve
}

// roads runs a test over both transports and both eras.
func roads(t *testing.T, run func(t *testing.T, connect func(*server.MCPServer, ...client.ClientOption) *client.Client)) {
	t.Helper()
	eras := map[string][]client.ClientOption{
		"2025-11-25": {legacyOnly()},
		"2026-07-28": nil,
	}
	type connector func(*testing.T, *server.MCPServer, ...client.ClientOption) *client.Client
	for road, connect := range map[string]connector{"in-process": localClient, "stdio": stdioClient} {
		for era, opts := range eras {
			t.Run(road+"/"+era, func(t *testing.T) {
				run(t, func(srv *server.MCPServer, more ...client.ClientOption) *client.Client {
					c := connect(t, srv, append(append([]client.ClientOption{}, opts...), more...)...)
					if got := c.ProtocolVersion(); got != era {
						t.Fatalf("the client speaks %q, want %q", got, era)
					}
					return c
				})
			})
		}
	}
}

func callTool(t *testing.T, c *client.Client, name, args string) *mcp.CallToolResult {
	t.Helper()
	return callWith(t, c, mcp.CallToolParams{Name: name, RawArguments: json.RawMessage(args)})
}

func callWith(t *testing.T, c *client.Client, params mcp.CallToolParams) *mcp.CallToolResult {
	t.Helper()
	res, err := c.CallTool(t.Context(), mcp.CallToolRequest{Params: params})
	if err != nil {
		t.Fatalf("calling %s: %v", params.Name, err)
	}
	return res
}

// text is the one text of a result.
func text(t *testing.T, res *mcp.CallToolResult) string {
	t.Helper()
	if len(res.Content) != 1 {
		t.Fatalf("%d contents, want 1", len(res.Content))
	}
	c, ok := res.Content[0].(mcp.TextContent)
	if !ok {
		t.Fatalf("the content is a %T", res.Content[0])
	}
	return c.Text
}

type errorShape struct {
	Error struct {
		Code              string           `json:"code"`
		Message           string           `json:"message"`
		Untrusted         string           `json:"untrusted"`
		Next              string           `json:"next"`
		RetryAfterSeconds *int             `json:"retry_after_seconds"`
		Diagnostics       []map[string]any `json:"diagnostics"`
		LeftOut           map[string]int   `json:"left_out"`
	} `json:"error"`
}

// failure reads a result that must be an error, in the shape of one.
func failure(t *testing.T, res *mcp.CallToolResult) errorShape {
	t.Helper()
	body := text(t, res)
	if !res.IsError || res.StructuredContent != nil {
		t.Fatalf("want an error as text alone, got isError=%v structured=%v: %s", res.IsError, res.StructuredContent, body)
	}
	var e errorShape
	dec := json.NewDecoder(strings.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if e.Error.Code == "" || e.Error.Message == "" || e.Error.Next == "" {
		t.Errorf("an error needs code, message and next: %s", body)
	}
	return e
}

// success reads a result that must not be an error.
func success(t *testing.T, res *mcp.CallToolResult) map[string]any {
	t.Helper()
	body := text(t, res)
	if res.IsError {
		t.Fatalf("want no error, got %s", body)
	}
	out, ok := res.StructuredContent.(map[string]any)
	if !ok {
		t.Fatalf("the structured content is a %T", res.StructuredContent)
	}
	return out
}
