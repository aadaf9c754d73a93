package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// nowhere is an API that is not there: it must not be asked.
const nowhere = "http://127.0.0.1:1/client/v4"

func buildServer(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "mcp-server")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/mcp-server").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build (run this from the repository's root): %w\n%s", err, out)
	}
	return program, nil
}

// storeSessions writes what agents left behind: each session with an account that is
// over, the steps that led there, a deployment with what was last seen of it, and a claim
// that a human refused. A status reads them and asks nobody.
func storeSessions(ctx context.Context, dir string) (ids []string, err error) {
	store, err := session.Open(ctx, session.Config{Dir: filepath.Join(dir, "state")})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	cloud, err := cloudflare.New(cloudflare.Config{BaseURL: nowhere})
	if err != nil {
		return nil, err
	}
	target := cloud.Target()
	if err := cloud.Close(); err != nil {
		return nil, err
	}
	for i := range polled {
		id, err := storeSession(ctx, store, target, i)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func storeSession(ctx context.Context, store *session.Store, target string, i int) (string, error) {
	ended := time.Now().Add(-time.Hour)
	s := deploy.Session{
		ID: deploy.NewID("s"), Principal: "local", Scope: "http", RunID: fmt.Sprint("run-", i),
		Labels: map[string]string{"repository": "acme/site", "ref": "refs/heads/main"}, CreatedAt: ended.Add(-time.Hour), UpdatedAt: ended,
	}
	a := deploy.Account{
		ID: deploy.NewID("a"), SessionID: s.ID, Target: target, Name: "bench", Subdomain: "bench", State: deploy.AccountExpired,
		CreatedAt: ended.Add(-time.Hour), ExpiresAt: ended, ClaimExpiresAt: ended,
	}
	d := deploy.Deployment{
		ID: deploy.NewID("d"), SessionID: s.ID, AccountID: a.ID, Worker: "w", Host: "w.bench.workers.dev", URL: "https://w.bench.workers.dev",
		VersionID: deploy.NewID("v"), BundleID: deploy.NewID("b"), Digest: strings.Repeat("5d", 32), CreatedAt: a.CreatedAt, Serving: deploy.ServingYes,
		Check: &deploy.Check{Path: "/", Status: http.StatusOK, OK: true, LatencyMS: 12, BodyExcerpt: "hello", Version: deploy.VersionConfirmed, ProbedAt: ended},
	}
	if err := store.SaveSession(ctx, s); err != nil {
		return "", err
	}
	lease, err := store.AcquireLease(ctx, s.ID, time.Minute)
	if err != nil {
		return "", err
	}
	for kind, brought := range map[deploy.StepKind]deploy.Settlement{
		deploy.StepCreateAccount: {Account: &a}, deploy.StepUploadScript: {Deployment: &d}, deploy.StepEnableRoute: {},
	} {
		step := deploy.Step{ID: deploy.NewID("x"), SessionID: s.ID, Principal: s.Principal, AccountID: a.ID, Kind: kind, What: d.Worker, BundleID: d.BundleID, Digest: d.Digest}
		brought.StepID, brought.State = step.ID, deploy.StepDone
		if err := errors.Join(store.BeginStep(ctx, lease, step), store.Settle(ctx, lease, brought)); err != nil {
			return "", err
		}
	}
	return s.ID, errors.Join(store.ReleaseLease(ctx, lease), store.SaveClaim(ctx, deploy.Claim{
		ID: deploy.NewID("c"), SessionID: s.ID, AccountID: a.ID, Principal: s.Principal, PageToken: deploy.Secret(deploy.NewID("p")),
		State: deploy.ClaimRefused, AskedAt: ended, ExpiresAt: ended,
	}))
}

// served is an MCP server over HTTP in a process of its own.
type served struct {
	addr string
	cmd  *exec.Cmd
}

// startOurs starts the program as an operator does.
func startOurs(ctx context.Context, dir, program string, idle time.Duration) (*served, error) {
	cmd := exec.CommandContext(ctx, program, "http", "--addr", "127.0.0.1:0", "--api-base-url", nowhere, "--session-idle-ttl", idle.String(),
		"--state-dir", filepath.Join(dir, "state"), "--cache-dir", filepath.Join(dir, "cache"))
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("the log: %w", err)
	}
	defer log.Close() //nolint:errcheck // the process has it
	cmd.Stderr = log
	return start(cmd)
}

// startBare starts this program again, as bare.
func startBare(ctx context.Context, answer []byte, idle time.Duration) (*served, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, "bare", idle.String())
	cmd.Stdin, cmd.Stderr = bytes.NewReader(answer), os.Stderr
	return start(cmd)
}

// start starts a server and reads its first line, which tells where it listens.
func start(cmd *exec.Cmd) (*served, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("a server: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("a server: %w", err)
	}
	s := &served{cmd: cmd}
	var where struct{ MCP string }
	if err := json.NewDecoder(out).Decode(&where); err != nil {
		return nil, errors.Join(fmt.Errorf("a server did not start: %w", err), s.end())
	}
	u, err := url.Parse(where.MCP)
	if err != nil {
		return nil, errors.Join(err, s.end())
	}
	s.addr = u.Host
	return s, nil
}

func (s *served) end() error {
	_ = s.cmd.Process.Signal(os.Interrupt) // one that is gone needs none
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("a server's end: %w", err)
	}
	return nil
}

// cpu is the processor time that the server used so far, in steps of 10 ms.
func (s *served) cpu() (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("processor time: %w", err)
	}
	// Fields 14 and 15 of proc(5), counted from behind the name, in hundredths of a second.
	_, rest, _ := strings.Cut(string(raw), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("%w: /proc has %q", errAnswer, raw)
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

const (
	heapLive = "go_gc_heap_live_bytes"
	heapRuns = "go_gc_duration_seconds_count"
)

// liveHeap is what the server's garbage collector found in use, in bytes. Three
// collections are waited for, for what goes in pools takes two; asking makes garbage.
func (s *served) liveHeap(ctx context.Context) (float64, error) {
	c, err := dial(s.addr, 1)
	if err != nil {
		return 0, err
	}
	defer c.close()
	first := -1.0
	for {
		c[0].out.Reset()
		fmt.Fprintf(&c[0].out, "GET /metrics HTTP/1.1\r\nHost: %s\r\n\r\n", s.addr)
		_, body, err := c[0].exchange()
		if err != nil {
			return 0, err
		}
		live, runs := series(body, heapLive), series(body, heapRuns)
		if live < 0 || runs < 0 {
			return 0, fmt.Errorf("%w: /metrics has no %s or no %s", errAnswer, heapLive, heapRuns)
		}
		if first < 0 {
			first = runs
		}
		if runs >= first+3 {
			return live, nil
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
	}
}

// series reads one number out of a page in Prometheus' form; -1: it is not there.
func series(page []byte, name string) float64 {
	lines := bufio.NewScanner(bytes.NewReader(page))
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			if v, err := strconv.ParseFloat(text, 64); err == nil {
				return v
			}
		}
	}
	return -1
}

// oneAnswer is what our server says of a session.
func oneAnswer(s *served, id string) ([]byte, error) {
	p, err := dial(s.addr, 1)
	if err != nil {
		return nil, err
	}
	defer p.close()
	name, err := p[0].initialize()
	if err != nil {
		return nil, err
	}
	_, body, err := p[0].post(name, statusCall(id))
	var answer struct {
		Result struct {
			StructuredContent json.RawMessage `json:"structuredContent"`
		} `json:"result"`
	}
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err == nil && len(answer.Result.StructuredContent) == 0 {
		err = fmt.Errorf("%w: %.300s", errAnswer, body)
	}
	return answer.Result.StructuredContent, err
}

// serveBare is mcp-go's server with a tool that gives an answer of ours out of memory:
// args hold how long an idle session is kept, in has the answer.
func serveBare(ctx context.Context, args []string, in io.Reader) error {
	if len(args) != 1 {
		return errors.New("bare: give how long an idle session is kept")
	}
	idle, err := time.ParseDuration(args[0])
	if err != nil {
		return fmt.Errorf("bare: %w", err)
	}
	answer, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("bare: %w", err)
	}
	srv := server.NewMCPServer("bare", "1", server.WithToolCapabilities(false))
	srv.AddTool(mcp.NewTool("status", mcp.WithString("session_id")), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{mcp.NewTextContent(string(answer))}, RawStructuredContent: answer}, nil
	})
	stream := server.NewStreamableHTTPServer(srv, server.WithSessionIdleTTL(idle), server.WithStreamableHTTPLogger(slog.New(slog.DiscardHandler)))
	mux := http.NewServeMux()
	mux.Handle("/mcp", stream)
	mux.HandleFunc("/metrics", bareMetrics)
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("bare: %w", err)
	}
	fmt.Printf("{\"mcp\":\"http://%s/mcp\"}\n", l.Addr())
	front := &http.Server{Handler: mux, ReadHeaderTimeout: answerWait}
	stop := context.AfterFunc(ctx, func() { _ = front.Close() })
	defer stop()
	if err := front.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("bare: %w", err)
	}
	return stream.Shutdown(context.Background())
}

// bareMetrics tells the two figures of the heap that are asked for, with some garbage.
func bareMetrics(w http.ResponseWriter, _ *http.Request) {
	read := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(read)
	fmt.Fprintf(w, "%s %d\n%s %d\n", heapLive, read[0].Value.Uint64(), heapRuns, read[1].Value.Uint64())
	_, _ = w.Write(bytes.Repeat([]byte("# \n"), 64<<10))
}
