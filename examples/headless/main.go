// Command headless is a runner without a model: it starts the server over stdio,
// deploys a folder through the MCP tools, checks what is live, and reports.
//
//	headless -server "mcp-server stdio --root ." -dir ./app -path /health -contains ok
//
// It prints one JSON object and exits with 0 when the Worker is live and answers as
// expected, 3 when it is not, 2 when the server refused, 1 otherwise.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
)

// settings are the flags.
type settings struct {
	server, dir, path, contains, run string
	status                           int
	timeout                          time.Duration
}

// report is what is printed.
type report struct {
	OK        bool            `json:"ok"`
	URL       string          `json:"url,omitempty"`
	SessionID string          `json:"session_id,omitempty"`
	ExpiresAt string          `json:"expires_at,omitempty"`
	Check     json.RawMessage `json:"check,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
}

func main() {
	var s settings
	flag.StringVar(&s.server, "server", "mcp-server stdio", "the command that starts the server")
	flag.StringVar(&s.dir, "dir", ".", "the project's folder")
	flag.StringVar(&s.path, "path", "/", "the path to check")
	flag.StringVar(&s.contains, "contains", "", "text that the answer must contain")
	flag.StringVar(&s.run, "run", "", "the run's id, recorded with the session")
	flag.IntVar(&s.status, "status", 0, "status that the path must answer; 0: any below 400")
	flag.DurationVar(&s.timeout, "timeout", 2*time.Minute, "how long it may take in all")
	flag.Parse()
	code, err := run(s, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "headless:", err)
	}
	os.Exit(code)
}

func run(s settings, out io.Writer) (int, error) {
	ctx, stop := context.WithTimeout(context.Background(), s.timeout)
	defer stop()
	c, err := connect(ctx, s.server)
	if err != nil {
		return 1, err
	}
	defer c.Close() //nolint:errcheck // the server ends with us
	dir, err := filepath.Abs(s.dir)
	if err != nil {
		return 1, fmt.Errorf("the folder: %w", err)
	}
	req := mcp.CallToolRequest{}
	req.Params.Name = "deploy_temporary"
	args := map[string]any{"project_dir": dir, "expect": expectation(s)}
	if s.run != "" {
		args["run_id"] = s.run
	}
	req.Params.Arguments = args
	res, err := c.CallTool(ctx, req)
	if err != nil {
		return 1, fmt.Errorf("deploy_temporary: %w", err)
	}
	rep, code, err := read(res)
	if err != nil {
		return 1, err
	}
	if err := json.NewEncoder(out).Encode(rep); err != nil {
		return 1, fmt.Errorf("the report: %w", err)
	}
	return code, nil
}

func expectation(s settings) map[string]any {
	e := map[string]any{"path": s.path}
	if s.status != 0 {
		e["status"] = s.status
	}
	if s.contains != "" {
		e["body_contains"] = s.contains
	}
	return e
}

func connect(ctx context.Context, command string) (*client.Client, error) {
	words := strings.Fields(command)
	if len(words) == 0 {
		return nil, fmt.Errorf("-server is empty")
	}
	t := transport.NewStdioWithOptions(words[0], os.Environ(), words[1:], transport.WithCommandStderrWriter(os.Stderr))
	if err := t.Start(ctx); err != nil {
		return nil, fmt.Errorf("starting the server: %w", err)
	}
	c := client.NewClient(t)
	init := mcp.InitializeRequest{}
	init.Params.ProtocolVersion = mcp.LATEST_PROTOCOL_VERSION
	init.Params.ClientInfo = mcp.Implementation{Name: "headless", Version: "1"}
	if _, err := c.Initialize(ctx, init); err != nil {
		return nil, fmt.Errorf("initialize: %w", err)
	}
	return c, nil
}

// read makes a report and an exit code of the tool's answer.
func read(res *mcp.CallToolResult) (*report, int, error) {
	var text strings.Builder
	for _, c := range res.Content {
		if t, ok := c.(mcp.TextContent); ok {
			text.WriteString(t.Text)
		}
	}
	var in struct {
		report
		Serving string `json:"serving"`
	}
	if err := json.Unmarshal([]byte(text.String()), &in); err != nil {
		return nil, 1, fmt.Errorf("the tool's answer is not JSON: %w", err)
	}
	if res.IsError {
		return &in.report, 2, nil
	}
	var check struct {
		OK bool `json:"ok"`
	}
	if err := json.Unmarshal(in.Check, &check); err != nil {
		return nil, 1, fmt.Errorf("the tool's check is not JSON: %w", err)
	}
	if in.OK = in.Serving == "yes" && check.OK; !in.OK {
		return &in.report, 3, nil
	}
	return &in.report, 0, nil
}
