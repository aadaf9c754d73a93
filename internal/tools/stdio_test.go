package tools_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/rs/zerolog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/tools"
)

// wire is the bare other end of the stdio transport.
type wire struct {
	t    *testing.T
	in   *io.PipeWriter
	out  *bufio.Scanner
	done chan error
	stop context.CancelFunc
}

func newWire(t *testing.T, srv *server.MCPServer) *wire {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ctx, stop := context.WithCancel(context.Background())
	w := &wire{t: t, in: inW, out: bufio.NewScanner(outR), done: make(chan error, 1), stop: stop}
	w.out.Buffer(nil, 64<<20)
	go func() {
		w.done <- tools.ServeStdio(ctx, srv, inR, outW, zerolog.Nop())
		_ = outW.Close()
	}()
	t.Cleanup(func() {
		stop()
		_ = inW.Close()
		_, _ = io.Copy(io.Discard, outR)
	})
	return w
}

func (w *wire) send(lines ...string) {
	w.t.Helper()
	for _, l := range lines {
		if _, err := io.WriteString(w.in, l+"\n"); err != nil {
			w.t.Fatal(err)
		}
	}
}

type rpc struct {
	ID     any            `json:"id"`
	Method string         `json:"method"`
	Params map[string]any `json:"params"`
	Result map[string]any `json:"result"`
	Error  *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func (w *wire) read() rpc {
	w.t.Helper()
	if !w.out.Scan() {
		w.t.Fatalf("the output ended: %v", w.out.Err())
	}
	var m rpc
	if err := json.Unmarshal(w.out.Bytes(), &m); err != nil {
		w.t.Fatalf("not JSON on stdout: %v: %.200s", err, w.out.Text())
	}
	return m
}

func (w *wire) ended(within time.Duration) error {
	w.t.Helper()
	select {
	case err := <-w.done:
		return err
	case <-time.After(within):
		w.t.Fatalf("ServeStdio did not end within %v", within)
		return nil
	}
}

const initLine = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`

func callLine(id, tool, args, meta string) string {
	if meta != "" {
		meta = `,"_meta":` + meta
	}
	return fmt.Sprintf(`{"method":"tools/call","params":{"name":%q,"arguments":%s%s},"jsonrpc":"2.0","id":%s}`, tool, args, meta, id)
}

func cancelLine(id string) string {
	return `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `,"reason":"test"}}`
}

// slow is a Service whose deployments last until their context ends or release is closed.
type slow struct {
	*fakeService
	began   chan struct{}
	ended   chan error
	release chan struct{}
}

func newSlow() *slow {
	s := &slow{fakeService: newFake(), began: make(chan struct{}, 1000), ended: make(chan error, 1000), release: make(chan struct{})}
	s.deploy = func(ctx context.Context, _ deploy.DeployRequest) (*deploy.DeployResult, error) {
		s.began <- struct{}{}
		select {
		case <-ctx.Done():
			s.ended <- ctx.Err()
			return nil, ctx.Err()
		case <-s.release:
			s.ended <- nil
			return sampleDeploy(), nil
		}
	}
	return s
}

func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(5 * time.Second):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

// TestLongCallsBlockNothing: many deployments run at once and status is answered meanwhile.
func TestLongCallsBlockNothing(t *testing.T) {
	svc := newSlow()
	w := newWire(t, newServer(t, svc, nil))
	w.send(initLine)
	w.read()
	const n = 40
	for i := range n {
		w.send(callLine(fmt.Sprint(100+i), "deploy_temporary", `{"project_dir":"."}`, ""))
	}
	for range n {
		await(t, svc.began, "a deployment")
	}
	began := time.Now()
	w.send(callLine(`"st"`, "status", `{}`, ""), `{"jsonrpc":"2.0","id":"p","method":"ping"}`, `{"jsonrpc":"2.0","id":"l","method":"tools/list"}`)
	got := map[any]bool{}
	for range 3 {
		got[w.read().ID] = true
	}
	if diff := cmp.Diff(map[any]bool{"st": true, "p": true, "l": true}, got); diff != "" {
		t.Error(diff)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
	close(svc.release)
	for range n {
		if m := w.read(); m.Error != nil || m.Result["isError"] != nil {
			t.Errorf("%+v", m)
		}
	}
}

// TestTooMuchAtOnce: what is beyond the bound is refused at once, and cancelling works.
func TestTooMuchAtOnce(t *testing.T) {
	svc := newSlow()
	w := newWire(t, newServer(t, svc, nil))
	w.send(initLine)
	w.read()
	for i := range 128 {
		w.send(callLine(fmt.Sprint(i), "deploy_temporary", `{"project_dir":"."}`, ""))
	}
	w.send(callLine("999", "status", `{}`, ""))
	if m := w.read(); m.ID != 999.0 || m.Error == nil || m.Error.Code != -32000 {
		t.Errorf("%+v", m)
	}
	await(t, svc.began, "a deployment")
	w.send(cancelLine("5"))
	if err := await(t, svc.ended, "the end of a cancelled deployment"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// There is room again, as soon as the cancelled one is through.
	for range 100 {
		w.send(callLine("1000", "status", `{}`, ""))
		m := w.read()
		if m.ID != 1000.0 {
			t.Fatalf("a cancelled call was answered: %+v", m)
		}
		if m.Error == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("no room after a cancellation")
}

// TestCancel: the handler's context ends, the client gets no answer, and a cancellation
// that comes right behind its call is not lost.
func TestCancel(t *testing.T) {
	svc := newSlow()
	w := newWire(t, newServer(t, svc, nil))
	w.send(initLine)
	w.read()
	for i := range 50 {
		id := fmt.Sprintf(`"c%d"`, i)
		w.send(callLine(id, "deploy_temporary", `{"project_dir":"."}`, ""), cancelLine(id))
		if err := await(t, svc.ended, "the end of a cancelled deployment"); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	// An id is a number or a string: one does not cancel the other. Unknown ones do nothing.
	w.send(callLine("7", "deploy_temporary", `{"project_dir":"."}`, ""))
	w.send(cancelLine(`"7"`), cancelLine("8"), cancelLine("null"), `{"jsonrpc":"2.0","method":"notifications/cancelled"}`)
	w.send(callLine("9", "status", `{}`, ""))
	if m := w.read(); m.ID != 9.0 || m.Error != nil {
		t.Errorf("%+v", m)
	}
	select {
	case err := <-svc.ended:
		t.Errorf("the wrong call was cancelled: %v", err)
	default:
	}
	// The same id twice at once is refused, the first one goes on.
	w.send(callLine("7", "status", `{}`, ""))
	if m := w.read(); m.ID != 7.0 || m.Error == nil {
		t.Errorf("%+v", m)
	}
	close(svc.release)
	if m := w.read(); m.ID != 7.0 || m.Error != nil || m.Result["isError"] != nil {
		t.Errorf("%+v", m)
	}
}

// TestClientCancels is the same by mcp-go's client: its context ends the work.
func TestClientCancels(t *testing.T) {
	for _, opts := range [][]client.ClientOption{nil, {legacyOnly()}} {
		svc := newSlow()
		c := stdioClient(t, newServer(t, svc, nil), opts...)
		ctx, stop := context.WithCancel(t.Context())
		go func() {
			<-svc.began
			stop()
		}()
		_, err := c.CallTool(ctx, mcp.CallToolRequest{Params: mcp.CallToolParams{Name: "deploy_temporary", Arguments: map[string]any{"project_dir": "."}}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if err := await(t, svc.ended, "the end of the deployment"); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		success(t, callTool(t, c, "status", `{}`))
	}
}

// TestEndOfInput: in-flight calls are cancelled and awaited, and still answered.
func TestEndOfInput(t *testing.T) {
	svc := newSlow()
	w := newWire(t, newServer(t, svc, nil))
	w.send(initLine)
	w.read()
	w.send(callLine("1", "deploy_temporary", `{"project_dir":"."}`, ""))
	await(t, svc.began, "the deployment")
	_ = w.in.Close()
	if m := w.read(); m.ID != 1.0 || m.Result["isError"] != true || !strings.Contains(fmt.Sprint(m.Result), "cancelled") {
		t.Errorf("%+v", m)
	}
	if err := w.ended(2 * time.Second); err != nil {
		t.Error(err)
	}
	if err := await(t, svc.ended, "the end of the deployment"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestEndBySignal: the same when the context ends, as SIGTERM makes it, while a read waits.
func TestEndBySignal(t *testing.T) {
	svc := newSlow()
	w := newWire(t, newServer(t, svc, nil))
	w.send(initLine)
	w.read()
	w.send(callLine("1", "deploy_temporary", `{"project_dir":"."}`, ""))
	await(t, svc.began, "the deployment")
	w.stop()
	if m := w.read(); m.ID != 1.0 || m.Result["isError"] != true {
		t.Errorf("%+v", m)
	}
	if err := w.ended(2 * time.Second); err != nil {
		t.Error(err)
	}
}

// TestLastLineWithoutEnd: what is piped in without a line end is answered too.
func TestLastLineWithoutEnd(t *testing.T) {
	var out lockedBuffer
	in := strings.NewReader(initLine + "\r\n\n" + `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	if err := tools.ServeStdio(t.Context(), newServer(t, newFake(), nil), in, &out, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 2 || !strings.Contains(lines[1], "deploy_temporary") {
		t.Errorf("%s", out.String())
	}
}

func TestMessagesThatAreNone(t *testing.T) {
	w := newWire(t, newServer(t, newFake(), nil))
	for _, c := range []struct {
		line string
		id   any
		code int
	}{
		{`{"jsonrpc":"2.0","id":1,"method"`, nil, mcp.PARSE_ERROR},
		{"\x00\x01", nil, mcp.PARSE_ERROR},
		{`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, nil, mcp.INVALID_REQUEST},
		{`42`, nil, mcp.INVALID_REQUEST},
		{`{"jsonrpc":"2.0","id":1}`, 1.0, mcp.INVALID_REQUEST},
		{`{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}`, nil, mcp.INVALID_REQUEST},
		{`{"jsonrpc":"2.0","id":true,"method":"ping"}`, nil, mcp.INVALID_REQUEST},
		{`{"jsonrpc":"2.0","id":2,"method":7}`, nil, mcp.INVALID_REQUEST},
		{`{"jsonrpc":"1.0","id":3,"method":"ping"}`, 3.0, mcp.INVALID_REQUEST},
		{`{"jsonrpc":"2.0","id":4,"method":"nonsense"}`, 4.0, mcp.METHOD_NOT_FOUND},
		{`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"nonsense"}}`, 5.0, mcp.INVALID_PARAMS},
	} {
		w.send(c.line)
		if m := w.read(); m.ID != c.id || m.Error == nil || m.Error.Code != c.code {
			t.Errorf("%s: %+v", c.line, m)
		}
	}
	// These are answered by nothing.
	w.send("", "   ", `{"jsonrpc":"2.0","method":"notifications/nonsense"}`, `{"jsonrpc":"2.0","id":77,"result":{}}`,
		`{"jsonrpc":"2.0","id":78,"error":{"code":1,"message":"x"}}`, `{"jsonrpc":"2.0","id":"x","result":null}`)
	w.send(`{"jsonrpc":"2.0","id":"end","method":"ping"}`)
	if m := w.read(); m.ID != "end" {
		t.Errorf("%+v", m)
	}
}

// TestLineOverTheBound: 16 MiB and more are refused with the request's id, and the next
// line is served.
func TestLineOverTheBound(t *testing.T) {
	w := newWire(t, newServer(t, newFake(), nil))
	big := strings.Repeat("x", 17<<20)
	for _, c := range []struct {
		line string
		id   any
	}{
		{`{"method":"tools/call","params":{"name":"bundle","arguments":{"name":"` + big + `"}},"jsonrpc":"2.0","id":41}`, 41.0},
		{`{"jsonrpc":"2.0","id":"forty-two","method":"tools/call","params":{"name":"bundle","arguments":{"name":"` + big + `"}}}`, "forty-two"},
		{big, nil},
	} {
		w.send(c.line)
		m := w.read()
		if m.ID != c.id || m.Error == nil || m.Error.Code != mcp.INVALID_REQUEST || !strings.Contains(m.Error.Message, "16777216") {
			t.Errorf("%+v", m)
		}
		w.send(`{"jsonrpc":"2.0","id":"next","method":"ping"}`)
		if m := w.read(); m.ID != "next" || m.Error != nil {
			t.Errorf("%+v", m)
		}
	}
	// Just under it all is well.
	pad := strings.Repeat("y", 16<<20-300)
	w.send(callLine("43", "bundle", `{"files":[{"path":"a","content":"`+pad+`"}]}`, ""))
	if m := w.read(); m.ID != 43.0 || m.Error != nil || m.Result["isError"] != nil {
		t.Errorf("id %v error %v", m.ID, m.Error)
	}
}

// TestClientThatIsGone: when nothing can be written any more, serving ends with an error.
func TestClientThatIsGone(t *testing.T) {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	_ = outR.Close()
	done := make(chan error, 1)
	go func() {
		done <- tools.ServeStdio(context.Background(), newServer(t, newFake(), nil), inR, outW, zerolog.Nop())
	}()
	if _, err := io.WriteString(inW, initLine+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := await(t, done, "the end"); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
	_ = inW.Close()
}

// TestProgress: stages come in order, with rising numbers, before the result, and only
// for a client that sent a token.
func TestProgress(t *testing.T) {
	roads(t, func(t *testing.T, connect func(*server.MCPServer, ...client.ClientOption) *client.Client) {
		svc := newFake()
		svc.deploy = func(_ context.Context, req deploy.DeployRequest) (*deploy.DeployResult, error) {
			for _, s := range []deploy.Stage{deploy.StageBundle, deploy.StageUpload, deploy.StageChallenge, deploy.StageProof, deploy.StageUpload, "a new one", deploy.StageCheck} {
				req.Progress(s)
			}
			return sampleDeploy(), nil
		}
		c := connect(newServer(t, svc, nil))
		var mu sync.Mutex
		var notes []map[string]any
		c.OnNotification(func(n mcp.JSONRPCNotification) {
			if n.Method == "notifications/progress" {
				mu.Lock()
				defer mu.Unlock()
				notes = append(notes, n.Params.AdditionalFields)
			}
		})
		callTool(t, c, "deploy_temporary", `{"project_dir":"."}`)
		callWith(t, c, mcp.CallToolParams{
			Name: "deploy_temporary", RawArguments: json.RawMessage(`{"project_dir":"."}`), Meta: &mcp.Meta{ProgressToken: "tok-1"},
		})
		time.Sleep(50 * time.Millisecond) // in-process, mcp-go forwards on a goroutine of its own
		mu.Lock()
		defer mu.Unlock()
		if len(notes) != 7 {
			t.Fatalf("%d notes, want 7: %v", len(notes), notes)
		}
		last := 0.0
		for _, n := range notes {
			p, _ := n["progress"].(float64)
			if p <= last || n["progressToken"] != "tok-1" || n["message"] == "" || p > 12 {
				t.Errorf("%v after %v", n, last)
			}
			last = p
		}
	})
}

// TestProgressBeforeTheResult reads the wire: no note comes after its result.
func TestProgressBeforeTheResult(t *testing.T) {
	svc := newFake()
	svc.deploy = func(_ context.Context, req deploy.DeployRequest) (*deploy.DeployResult, error) {
		for _, s := range []deploy.Stage{deploy.StageBundle, deploy.StagePreflight, deploy.StageUpload, deploy.StageRoute, deploy.StageCheck} {
			req.Progress(s)
		}
		return sampleDeploy(), nil
	}
	w := newWire(t, newServer(t, svc, nil))
	w.send(initLine)
	w.read()
	for range 50 {
		w.send(callLine("1", "deploy_temporary", `{"project_dir":"."}`, `{"progressToken":12}`))
		for range 5 {
			if m := w.read(); m.Method != "notifications/progress" || m.Params["progressToken"] != 12.0 {
				t.Fatalf("%+v", m)
			}
		}
		if m := w.read(); m.ID != 1.0 {
			t.Fatalf("%+v", m)
		}
	}
}

// TestInstructions: what a client tells its model of the server.
func TestInstructions(t *testing.T) {
	for readOnly, want := range map[bool]string{false: "60 minutes", true: "read-only"} {
		srv, err := tools.New(tools.Config{Service: newFake(), ReadOnly: readOnly, Version: "9.9"})
		if err != nil {
			t.Fatal(err)
		}
		w := newWire(t, srv)
		w.send(initLine)
		got := w.read().Result
		text, _ := got["instructions"].(string)
		info, _ := got["serverInfo"].(map[string]any)
		if !strings.Contains(text, want) || !strings.Contains(text, "claim URL") || info["name"] != "hourglass" || info["version"] != "9.9" {
			t.Errorf("%v", got)
		}
		if n := tools.EstimateTokens(text); n > 200 {
			t.Errorf("%d tokens of instructions", n)
		}
	}
}
