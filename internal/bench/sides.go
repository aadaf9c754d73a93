package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// install builds our program and copies it, as one that was unpacked from an archive lies
// on the disk. What the linker has just written is in the page cache in pieces of 2 MiB,
// each of which counts whole as soon as a byte of it is read: 7 MiB more of memory, which
// say nothing of the program and are gone when the machine starts anew.
func install(ctx context.Context, work string) (program string, err error) {
	linked := filepath.Join(work, "linked")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", linked, "./cmd/mcp-server").CombinedOutput(); err != nil { //nolint:gosec // our own program
		return "", fmt.Errorf("go build (run this from the repository's root): %w\n%s", err, out)
	}
	in, err := os.Open(linked) //nolint:gosec // we made it
	if err != nil {
		return "", fmt.Errorf("installing our program: %w", err)
	}
	defer in.Close() //nolint:errcheck // it was only read
	program = filepath.Join(work, "mcp-server")
	out, err := os.OpenFile(program, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700) //nolint:gosec // in our folder
	if err != nil {
		return "", fmt.Errorf("installing our program: %w", err)
	}
	_, err = io.Copy(struct{ io.Writer }{out}, in) // by reading and writing: no pages are shared with the first
	return program, errors.Join(err, out.Close(), os.Remove(linked))
}

// source is a plain Worker; the mark makes each round's another program.
func source(mark int) string {
	return fmt.Sprintf(`interface Env {}
export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const url = new URL(request.url);
    return new Response("round %d " + url.pathname);
  },
};
`, mark)
}

// sandboxProcess is the sandbox that both sides deploy to.
type sandboxProcess struct {
	API, Edge, Manage string
	cmd               *exec.Cmd
}

func startSandbox(ctx context.Context, program, home string) (*sandboxProcess, error) {
	cmd := exec.CommandContext(ctx, program, "sandbox")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("the sandbox: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("the sandbox: %w", err)
	}
	b := &sandboxProcess{cmd: cmd}
	if err := json.NewDecoder(out).Decode(b); err != nil {
		b.end()
		return nil, fmt.Errorf("the sandbox in %s: %w", home, err)
	}
	return b, nil
}

func (b *sandboxProcess) end() {
	_ = b.cmd.Process.Signal(os.Interrupt)
	_ = b.cmd.Wait()
}

func (b *sandboxProcess) challenge(ctx context.Context, k, g int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, b.Manage+"/challenge", strings.NewReader(fmt.Sprintf(`{"k":%d,"g":%d}`, k, g)))
	if err != nil {
		return fmt.Errorf("setting the challenge: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("setting the challenge: %w", err)
	}
	return resp.Body.Close()
}

// wranglerSide is the real wrangler, a new process each time.
type wranglerSide struct {
	peers     peertest.Peers
	api, work string
}

func (s *wranglerSide) home() string { return filepath.Join(s.work, "wrangler-home") }

// forget throws the account away.
func (s *wranglerSide) forget() error { return os.RemoveAll(s.home()) }

func (s *wranglerSide) project(mark int) (string, error) {
	dir := filepath.Join(s.work, "wrangler-project")
	if err := os.MkdirAll(filepath.Join(dir, "src"), 0o750); err != nil {
		return "", fmt.Errorf("the project: %w", err)
	}
	err := os.WriteFile(filepath.Join(dir, "wrangler.jsonc"), []byte(`{"name": "bench", "main": "src/index.ts", "compatibility_date": "2026-08-01"}`), 0o600)
	return dir, errors.Join(err, os.WriteFile(filepath.Join(dir, "src", "index.ts"), []byte(source(mark)), 0o600))
}

// deploy runs `wrangler deploy --temporary` and gives its time and the peak of its
// process tree's memory, in MiB.
func (s *wranglerSide) deploy(ctx context.Context, mark int) (time.Duration, float64, error) {
	dir, err := s.project(mark)
	if err != nil {
		return 0, 0, err
	}
	return s.run(ctx, dir, "deploy", "--temporary")
}

func (s *wranglerSide) dryRun(ctx context.Context) (time.Duration, error) {
	took, _, err := s.run(ctx, filepath.Join(s.work, "wrangler-project"), "deploy", "--dry-run", "--outdir", filepath.Join(s.work, "out"))
	return took, err
}

func (s *wranglerSide) run(ctx context.Context, dir string, args ...string) (time.Duration, float64, error) {
	if err := os.MkdirAll(s.home(), 0o750); err != nil {
		return 0, 0, fmt.Errorf("wrangler's home: %w", err)
	}
	cmd := s.peers.WranglerCommand(ctx, s.api, s.home(), dir, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, fmt.Errorf("wrangler: %w", err)
	}
	stop, peak := make(chan struct{}), make(chan float64, 1)
	go func() { peak <- watchTree(cmd.Process.Pid, stop) }()
	err := cmd.Wait()
	took := time.Since(began)
	close(stop)
	mib := <-peak
	if err != nil {
		return 0, 0, fmt.Errorf("wrangler %s: %w\n%s", strings.Join(args, " "), err, out.String())
	}
	return took, mib, nil
}

// watchTree samples the memory of a process and its descendants every 5 ms.
func watchTree(pid int, stop <-chan struct{}) float64 {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	most := 0.0
	for {
		select {
		case <-stop:
			return most
		case <-tick.C:
			most = max(most, treeMiB(pid))
		}
	}
}

func treeMiB(pid int) float64 {
	total := statusMiB(pid, "VmRSS:")
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		b, _ := os.ReadFile(t) //nolint:gosec // of /proc
		for f := range strings.FieldsSeq(string(b)) {
			if child, err := strconv.Atoi(f); err == nil {
				total += treeMiB(child)
			}
		}
	}
	return total
}

// statusMiB reads a line of /proc/pid/status, in MiB.
func statusMiB(pid int, key string) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == key {
			kib, _ := strconv.ParseFloat(f[1], 64)
			return kib / 1024
		}
	}
	return 0
}

// ourSide is our server, one process that runs all the time, as a client keeps it.
type ourSide struct {
	program string
	box     *sandboxProcess
	work    string
	client  *client.Client
	cmd     *exec.Cmd
}

func (s *ourSide) command(ctx context.Context, state string) *exec.Cmd {
	return exec.CommandContext(ctx, s.program, "stdio", "--api-base-url", s.box.API, "--edge-url", s.box.Edge, "--state-dir", filepath.Join(s.work, state), "--root", s.work) //nolint:gosec // our own program
}

func (s *ourSide) start(ctx context.Context) error {
	t := transport.NewStdioWithOptions(s.program, nil, nil, transport.WithCommandFunc(
		func(context.Context, string, []string, []string) (*exec.Cmd, error) {
			s.cmd = s.command(ctx, "state")
			return s.cmd, nil
		}))
	if err := t.Start(ctx); err != nil {
		return fmt.Errorf("our server: %w", err)
	}
	s.client = client.NewClient(t)
	init := mcp.InitializeRequest{}
	init.Params.ProtocolVersion = "2025-11-25"
	init.Params.ClientInfo = mcp.Implementation{Name: "bench", Version: "1"}
	if _, err := s.client.Initialize(ctx, init); err != nil {
		return fmt.Errorf("our server: %w", err)
	}
	return nil
}

func (s *ourSide) end() { _ = s.client.Close() }

func (s *ourSide) call(ctx context.Context, tool string, args map[string]any) (time.Duration, string, error) {
	req := mcp.CallToolRequest{}
	req.Params.Name, req.Params.Arguments = tool, args
	began := time.Now()
	res, err := s.client.CallTool(ctx, req)
	took := time.Since(began)
	if err != nil {
		return 0, "", fmt.Errorf("%s: %w", tool, err)
	}
	text, ok := mcp.AsTextContent(res.Content[0])
	if !ok || res.IsError {
		return 0, "", fmt.Errorf("%s failed: %v", tool, res.Content)
	}
	return took, text.Text, nil
}

// deploy is deploy_temporary from call to answer, which includes the wait until the new
// version serves, and the reading of what it serves.
func (s *ourSide) deploy(ctx context.Context, mark int, fresh bool) (time.Duration, error) {
	took, text, err := s.call(ctx, "deploy_temporary", map[string]any{
		"files": []map[string]any{{"path": "src/index.ts", "content": source(mark)}}, "name": "bench", "compatibility_date": "2026-08-01", "fresh": fresh,
	})
	if err != nil {
		return 0, err
	}
	if !strings.Contains(text, fmt.Sprintf("round %d", mark)) || !strings.Contains(text, `"confirmed"`) {
		return 0, fmt.Errorf("what is live was not confirmed: %s", text)
	}
	return took, nil
}

func (s *ourSide) bundle(ctx context.Context, mark int) (time.Duration, error) {
	took, _, err := s.call(ctx, "bundle", map[string]any{
		"files": []map[string]any{{"path": "src/index.ts", "content": source(100_000 + mark)}}, "name": "bench", "compatibility_date": "2026-08-01",
	})
	return took, err
}

// peak is the most memory that our server ever had, in MiB.
func (s *ourSide) peak() (float64, error) {
	mib := statusMiB(s.cmd.Process.Pid, "VmHWM:")
	if mib == 0 {
		return 0, errors.New("the peak memory can't be read on this system")
	}
	return mib, nil
}

// firstList is the time from the start of a process to its answer to tools/list.
func (s *ourSide) firstList(ctx context.Context) (float64, error) {
	cmd := s.command(ctx, "state")
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, fmt.Errorf("our server: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, fmt.Errorf("our server: %w", err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("our server: %w", err)
	}
	_, err = io.WriteString(in, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"b","version":"1"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
{"jsonrpc":"2.0","id":2,"method":"tools/list"}
`)
	if err != nil {
		return 0, fmt.Errorf("our server: %w", err)
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return 0, fmt.Errorf("our server: %w", err)
		}
		if strings.Contains(line, `"tools":[`) {
			break
		}
	}
	took := time.Since(began)
	_ = in.Close()
	return float64(took.Microseconds()) / 1000, cmd.Wait()
}
