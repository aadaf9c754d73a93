package workerd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ProtoHeader and CfHeader carry the scheme that a Worker sees in request.url and the
// JSON of request.cf. The edge sets them; what a visitor sends under these names must
// not get through.
const (
	ProtoHeader = "X-Hourglass-Proto"
	CfHeader    = "X-Hourglass-Cf"
)

// StartError says that a Worker does not start.
type StartError struct {
	Worker string // "" when the runtime does not say which
	Text   string // the runtime's words, without our paths
}

func (e *StartError) Error() string {
	if e.Worker == "" {
		return "the Worker does not start: " + e.Text
	}
	return fmt.Sprintf("the Worker %s does not start: %s", e.Worker, e.Text)
}

// Why a process ended on its own.
var (
	ErrSpun    = errors.New("a Worker kept its process busy for too long")
	ErrMemory  = errors.New("a Worker used more memory than it may")
	ErrCrashed = errors.New("the runtime ended unexpectedly")
	ErrStopped = errors.New("the process was stopped")
)

// Process is one running workerd.
type Process struct {
	cfg     Config
	dir     string
	cmd     *exec.Cmd
	sink    *sink
	stderr  *tailBuffer
	routes  map[string]*route
	ping    *http.Client
	busy    atomic.Int64 // requests in flight
	wake    chan struct{}
	stop    chan struct{} // closed when we end the process ourselves
	stopped sync.Once
	done    chan struct{} // closed when the process is gone
	err     error         // why; set before done is closed
	cause   atomic.Pointer[error]
	watch   sync.WaitGroup
}

// Start starts a process and returns when every Worker of it can answer. A Worker
// that does not start is a *StartError.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(cfg.Dir, dirPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return nil, fmt.Errorf("workerd: a private folder: %w", err)
	}
	p := &Process{
		cfg: cfg, dir: dir, stderr: &tailBuffer{}, routes: map[string]*route{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if err := p.start(ctx); err != nil {
		p.cleanUp()
		return nil, err
	}
	return p, nil
}

// cleanUp removes what the process left.
func (p *Process) cleanUp() {
	if p.sink != nil {
		p.sink.close()
	}
	for _, r := range p.routes {
		r.transport.CloseIdleConnections()
	}
	if p.ping != nil {
		p.ping.CloseIdleConnections()
	}
	_ = os.RemoveAll(p.dir)
}

func (p *Process) start(ctx context.Context) error {
	path, err := p.cfg.write(p.dir)
	if err != nil {
		return err
	}
	if p.cfg.OnTail != nil {
		if p.sink, err = openSink(p.dir, p.cfg.Workers, p.cfg.OnTail); err != nil {
			return fmt.Errorf("workerd: listening for the tail: %w", err)
		}
	}
	control, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("workerd: a pipe: %w", err)
	}
	defer control.Close() //nolint:errcheck // only read from
	args := []string{"serve", "--control-fd=3", path}
	p.cmd = exec.Command(p.cfg.Binary, args...) //nolint:gosec // the binary is ours, verified
	p.cmd.Dir = p.dir
	p.cmd.Env = []string{"HOME=" + p.dir, "TMPDIR=" + p.dir, "PATH=/usr/bin:/bin", "LANG=C.UTF-8"}
	p.cmd.ExtraFiles = []*os.File{theirs}
	p.cmd.Stdout = io.Discard
	p.cmd.Stderr = p.stderr
	exited, err := spawn(p.cmd, p.cfg)
	_ = theirs.Close()
	if err != nil {
		return fmt.Errorf("workerd: starting it: %w", err)
	}
	go p.reap(exited)
	if err := p.ready(ctx, control); err != nil {
		p.kill(ErrStopped)
		<-p.done
		return err
	}
	p.connect()
	p.watch.Go(p.watchdog)
	return nil
}

// reap waits for the process and says why it is gone.
func (p *Process) reap(exited <-chan error) {
	err := <-exited
	switch cause := p.cause.Load(); {
	case cause != nil:
		p.err = *cause
	case strings.Contains(p.stderr.String(), "heap out of memory") || strings.Contains(p.stderr.String(), "Fatal JavaScript"):
		p.err = ErrMemory
	default:
		p.err = fmt.Errorf("%w: %v: %s", ErrCrashed, err, firstLine(p.stderr.String())) //nolint:errorlint // one cause is enough
	}
	close(p.done)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	const most = 300
	return s[:min(len(s), most)]
}

// ready waits until every socket listens, the process ends, or the time is up.
func (p *Process) ready(ctx context.Context, control *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.cfg.StartTimeout, errStartTime)
	defer cancel()
	unblock := context.AfterFunc(ctx, func() { _ = control.SetReadDeadline(time.Unix(1, 0)) })
	defer unblock()
	dec := json.NewDecoder(control)
	for range len(p.cfg.Workers) + 1 {
		var line struct {
			Event string `json:"event"`
		}
		if err := dec.Decode(&line); err != nil {
			return p.startFailure(ctx)
		}
	}
	return nil
}

var errStartTime = errors.New("start time-out")

// startFailure tells why the process did not become ready.
func (p *Process) startFailure(ctx context.Context) error {
	if ctx.Err() != nil {
		if errors.Is(context.Cause(ctx), errStartTime) {
			return &StartError{Worker: p.onlyWorker(), Text: fmt.Sprintf(
				"it did not finish starting within %s: does it loop at the top level?", p.cfg.StartTimeout)}
		}
		return ctx.Err()
	}
	select { // the pipe ends a moment before the process does
	case <-p.done:
	case <-time.After(time.Second):
	}
	if errors.Is(p.err, ErrMemory) {
		return &StartError{Worker: p.onlyWorker(), Text: "it used more memory than it may while starting"}
	}
	return parseStart(p.stderr.String(), p.cfg.Workers)
}

func (p *Process) onlyWorker() string {
	if len(p.cfg.Workers) == 1 {
		return p.cfg.Workers[0].Name
	}
	return ""
}

var (
	serviceLine = regexp.MustCompile(`(?m)^(?:workerd/[^\n]*?: )?(?:error: )?service w(\d+): `)
	bundlePath  = regexp.MustCompile(`file:///bundle/`)
)

// parseStart reads what the runtime said when it did not start.
func parseStart(stderr string, workers []Worker) error {
	text := strings.TrimSpace(stderr)
	e := &StartError{}
	if m := serviceLine.FindStringSubmatchIndex(text); m != nil {
		if i, err := strconv.Atoi(text[m[2]:m[3]]); err == nil && i < len(workers) {
			e.Worker = workers[i].Name
		}
		text = text[m[1]:]
		if next := serviceLine.FindStringIndex(text); next != nil {
			text = text[:next[0]]
		}
	}
	if e.Worker == "" && len(workers) == 1 {
		e.Worker = workers[0].Name
	}
	text = strings.TrimSpace(bundlePath.ReplaceAllString(text, ""))
	const most = 4000
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	if text == "" {
		text = "the runtime gave no reason"
	}
	e.Text = text
	return e
}

// connect makes the roads to the Workers.
func (p *Process) connect() {
	for i, wk := range p.cfg.Workers {
		p.routes[wk.Name] = &route{p: p, transport: unixTransport(filepath.Join(p.dir, strconv.Itoa(i)))}
	}
	p.ping = &http.Client{Transport: unixTransport(filepath.Join(p.dir, "ping"))}
}

func unixTransport(path string) *http.Transport {
	var d net.Dialer
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			for wait := time.Millisecond; ; wait *= 2 {
				// The socket is announced a moment before it answers.
				c, err := d.DialContext(ctx, "unix", path)
				if err == nil || wait > 64*time.Millisecond || ctx.Err() != nil {
					return c, err
				}
				time.Sleep(wait)
			}
		},
		MaxIdleConnsPerHost: 32, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
	}
}

// Transport is the road to a Worker of the process; nil when there is none of that name.
func (p *Process) Transport(worker string) http.RoundTripper {
	if r := p.routes[worker]; r != nil {
		return r
	}
	return nil
}

// Done is closed when the process is gone; Err then tells why.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err tells why the process is gone: ErrSpun, ErrMemory, ErrCrashed or ErrStopped.
// It is nil while it runs.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// kill ends the process at once, for that cause.
func (p *Process) kill(cause error) {
	p.cause.CompareAndSwap(nil, &cause)
	if p.cmd.Process != nil {
		killGroup(p.cmd.Process)
	}
}

// Stop ends the process: it waits for requests in flight until ctx ends, asks it to
// go, and ends it by force when it does not within a second.
func (p *Process) Stop(ctx context.Context) {
	p.stopped.Do(func() {
		p.drain(ctx)
		close(p.stop)
		cause := ErrStopped
		p.cause.CompareAndSwap(nil, &cause)
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(time.Second):
			p.kill(ErrStopped)
			<-p.done
		}
		p.watch.Wait()
		p.cleanUp()
	})
}

func (p *Process) drain(ctx context.Context) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for p.busy.Load() > 0 {
		select {
		case <-p.done:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// watchdog asks a trivial socket of the process while requests are in flight: a loop
// in one Worker blocks all of it, and SIGTERM too (workerd fact sheet, section 4).
func (p *Process) watchdog() {
	const every = 250 * time.Millisecond
	for {
		select {
		case <-p.stop:
			return
		case <-p.done:
			return
		case <-p.wake:
		}
		for p.busy.Load() > 0 {
			if !p.answers() {
				select {
				case <-p.stop:
				default:
					p.kill(ErrSpun)
				}
				return
			}
			select {
			case <-p.stop:
				return
			case <-p.done:
				return
			case <-time.After(every):
			}
		}
	}
}

// answers tells whether the process answers a ping within the spin limit.
func (p *Process) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.SpinLimit)
	defer cancel()
	release := context.AfterFunc(ctx, func() {})
	defer release()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://ping/", nil)
	if err != nil {
		return true
	}
	resp, err := p.ping.Do(req)
	if err != nil {
		return !errors.Is(err, context.DeadlineExceeded) // gone, not spinning: reap knows why
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Body.Close() == nil
}

// route is the road to one Worker. It counts requests in flight.
type route struct {
	p         *Process
	transport *http.Transport
}

// RoundTrip sends a request to the Worker. When the process ends meanwhile, the error
// is the process's.
func (r *route) RoundTrip(req *http.Request) (*http.Response, error) {
	r.p.busy.Add(1)
	select {
	case r.p.wake <- struct{}{}:
	default:
	}
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		r.p.busy.Add(-1)
		return nil, r.p.reason(req.Context(), err)
	}
	resp.Body = r.counted(resp.Body)
	return resp, nil
}

// reason tells why a request failed: where the process is going down, its own cause.
func (p *Process) reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(100 * time.Millisecond): // the connection breaks a moment before the process is reaped
		return err
	}
}

// counted gives a body that takes the request out of the count when it is closed. A
// body that can be written to (an upgraded connection) stays one.
func (r *route) counted(body io.ReadCloser) io.ReadCloser {
	c := &countedBody{ReadCloser: body, p: r.p}
	if w, ok := body.(io.Writer); ok {
		return struct {
			*countedBody
			io.Writer
		}{c, w}
	}
	return c
}

type countedBody struct {
	io.ReadCloser
	p    *Process
	once sync.Once
}

// Close ends the request.
func (c *countedBody) Close() error {
	c.once.Do(func() { c.p.busy.Add(-1) })
	return c.ReadCloser.Close()
}

// tailBuffer keeps the first and the last of what was written to it.
type tailBuffer struct {
	mu   sync.Mutex
	head bytes.Buffer
	last []byte
}

const bufferHalf = 32 << 10

// Write implements io.Writer.
func (b *tailBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(p), bufferHalf-b.head.Len())
	b.head.Write(p[:n])
	b.last = append(b.last, p[n:]...)
	if len(b.last) > 2*bufferHalf {
		b.last = append(b.last[:0], b.last[len(b.last)-bufferHalf:]...)
	}
	return len(p), nil
}

// String is what was kept.
func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.head.String() + string(b.last)
}
