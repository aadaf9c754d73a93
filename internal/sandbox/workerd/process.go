package workerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Process is one running workerd. Its methods are safe for concurrent use.
type Process struct {
	cfg     Config
	dir     string
	unlock  func() // of the private folder
	pid     int
	child   *child
	servers servers
	said    *words
	routes  map[string]*route
	flight  flight
	dog     *watchdog
	began   time.Time
	stop    chan struct{} // closed when we end the process ourselves
	stopped sync.Once
	done    chan struct{} // closed when the process is gone
	err     error         // why; set before done is closed
	cause   atomic.Pointer[error]
	watch   sync.WaitGroup
}

// child is a started process and what can be done to it.
type child struct {
	exited          <-chan error // how it ended
	kill, terminate func()
}

// Start starts a process and returns when every Worker of it can answer: 25 to 40 ms
// with one Worker. A Worker that does not start is a *StartError; a machine on which
// nothing could be started is an *Error. ctx bounds the start alone: the process lives
// until Stop, or until this program ends in whatever way.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	cfg = cfg.withDefaults()
	if err := startable(cfg); err != nil {
		return nil, err
	}
	dir, unlock, err := privateDir(cfg.Dir, 0)
	if err != nil {
		return nil, err
	}
	p := &Process{
		cfg: cfg, dir: dir, unlock: unlock, said: &words{dir: dir, on: cfg.OnLog}, routes: map[string]*route{},
		began: time.Now(), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if err := p.start(ctx); err != nil {
		p.cleanUp()
		return nil, err
	}
	return p, nil
}

func startable(cfg Config) error {
	if cfg.Binary == "" {
		return &Error{Code: CodeBinary, Message: "no runtime was given", Next: "pass the path that Find returned"}
	}
	if len(cfg.Workers) == 0 {
		return &StartError{Text: "there is no Worker to start"}
	}
	return nil
}

// cleanUp removes what the process left.
func (p *Process) cleanUp() {
	p.servers.close()
	for _, r := range p.routes {
		r.transport.CloseIdleConnections()
	}
	_ = os.RemoveAll(p.dir)
	p.unlock()
}

func (p *Process) start(ctx context.Context) error {
	config, handlers, err := p.cfg.write(p.dir)
	if err != nil {
		return err
	}
	if p.cfg.OnTail != nil {
		handlers = append(handlers, served{path: filepath.Join(p.dir, sinkSocket), handler: &sink{workers: p.cfg.Workers, on: p.cfg.OnTail}})
	}
	for _, h := range handlers {
		if err := p.servers.listen(h.path, h.handler); err != nil {
			return dirError(p.dir, err)
		}
	}
	control, err := p.spawn(config)
	if err != nil {
		return err
	}
	defer control.Close() //nolint:errcheck // only read from
	var sweep sync.WaitGroup
	sweep.Go(func() { Sweep(filepath.Dir(p.dir)) }) // while the runtime starts
	err = p.ready(ctx, control)
	sweep.Wait()
	if err != nil {
		p.kill(ErrStopped)
		<-p.done
		return err
	}
	p.said.tell()
	for i, wk := range p.cfg.Workers {
		p.routes[wk.Name] = &route{p: p, transport: unixTransport(p.cfg.socketOf(p.dir, i))}
	}
	p.dog = newWatchdog(p)
	p.watch.Go(p.dog.run)
	return nil
}

// spawn starts the runtime and gives the pipe on which it tells that it listens.
func (p *Process) spawn(config string) (control *os.File, err error) {
	control, theirs, err := os.Pipe()
	if err != nil {
		return nil, &Error{Code: CodeBinary, Message: "no pipe could be made for the runtime", Next: "look at this machine's limits on open files", Cause: err}
	}
	args := []string{"serve", "--control-fd=3"}
	if p.cfg.Experimental {
		args = append(args, "--experimental")
	}
	cmd := exec.Command(p.cfg.Binary, append(args, config)...) //nolint:gosec // the binary is ours, verified
	cmd.Dir = p.dir
	cmd.Env = []string{"HOME=" + p.dir, "TMPDIR=" + p.dir, "PATH=/usr/bin:/bin", "LANG=C.UTF-8"}
	cmd.ExtraFiles = []*os.File{theirs}
	stdout, stderr := &stream{words: p.said, own: true}, &stream{words: p.said}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	p.child, err = spawn(cmd, p.cfg)
	_ = theirs.Close()
	if err != nil {
		_ = control.Close()
		if e, ok := errors.AsType[*Error](err); ok {
			return nil, e
		}
		return nil, &Error{
			Code: CodeBinary, Message: "the runtime at " + p.cfg.Binary + " can't be run (" + err.Error() + ")",
			Next: "remove that file so that it is fetched again, or name another", Cause: err,
		}
	}
	p.pid = cmd.Process.Pid
	go func() {
		err := <-p.child.exited
		stdout.flush()
		stderr.flush()
		p.reap(err)
	}()
	return control, nil
}

// reap says why the process is gone.
func (p *Process) reap(err error) {
	messages := p.said.messages()
	switch cause := p.cause.Load(); {
	case cause != nil:
		p.err = *cause
	case outOfMemory(messages):
		p.err = fmt.Errorf("%w (%d MiB of JavaScript heap)", ErrMemory, p.cfg.HeapMiB)
	default:
		p.err = fmt.Errorf("%w: %s", ErrCrashed, lastWords(err, messages, p.dir))
	}
	close(p.done)
}

// lastWords says in one line how a process ended.
func lastWords(err error, messages []message, dir string) string {
	text := "exit status 0"
	if err != nil {
		text = err.Error()
	}
	for _, m := range messages {
		if m.level == "fatal" {
			line, _, _ := strings.Cut(clean(m.text, dir), "\n")
			return text + ": " + line
		}
	}
	return text
}

// ready waits until every socket listens, the process ends, or the time is up.
func (p *Process) ready(ctx context.Context, control *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.cfg.StartTimeout, errStartTime)
	defer cancel()
	unblock := context.AfterFunc(ctx, func() { _ = control.SetReadDeadline(time.Unix(1, 0)) })
	defer unblock()
	dec := json.NewDecoder(control)
	for range len(p.cfg.Workers) + 1 { // and the ping
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
		p.kill(ErrStopped)
		<-p.done
	}
	if errors.Is(p.err, ErrMemory) {
		return &StartError{Worker: p.onlyWorker(), Text: fmt.Sprintf("it used more memory than it may while starting (%d MiB of JavaScript heap)", p.cfg.HeapMiB)}
	}
	return parseStart(p.said.messages(), p.cfg.Workers, p.dir)
}

func (p *Process) onlyWorker() string {
	if len(p.cfg.Workers) == 1 {
		return p.cfg.Workers[0].Name
	}
	return ""
}

// Transport is the road to a Worker of the process; nil when there is none of that
// name. It streams, and passes upgrades on (httputil.ReverseProxy works on it). The
// URL's host is not looked up: the Worker sees Request.Host. A request that the end of
// the process cuts off fails with what Err says.
func (p *Process) Transport(worker string) http.RoundTripper {
	if r := p.routes[worker]; r != nil {
		return r
	}
	return nil
}

// InFlight is the number of requests whose response's body is not closed yet.
func (p *Process) InFlight() int {
	n, _, _ := p.flight.state()
	return n
}

// Stalled tells for how long the process has not answered; it is about 0 when all is
// well. Beyond a second or so a caller does better to answer new requests itself
// (Cloudflare's 1102) than to queue them behind a loop.
func (p *Process) Stalled() time.Duration { return p.dog.stalled() }

// PID is the process id: of the runtime, or on macOS of the shell that watches it.
func (p *Process) PID() int { return p.pid }

// Done is closed when the process is gone; Err then tells why.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err tells why the process is gone: it wraps ErrSpun, ErrMemory, ErrCrashed or
// ErrStopped. It is nil while it runs.
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
	select {
	case <-p.done:
	default:
		p.child.kill()
	}
}

// Drain waits until no request is in flight, or ctx or the process ends. It refuses no
// new ones: point them elsewhere first.
func (p *Process) Drain(ctx context.Context) error {
	n, _, empty := p.flight.state()
	if n == 0 {
		return nil
	}
	select {
	case <-empty:
		return nil
	case <-p.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stop ends the process: it waits for requests in flight until ctx ends (give ctx a
// deadline: a stream may last for ever), lingers for what follows the last answer, asks
// the process to go, and ends it by force when it does not within StopTimeout. It
// returns when nothing of the process is left. A process that is gone already must be
// stopped too. Several may call it; all wait for the end.
func (p *Process) Stop(ctx context.Context) {
	p.stopped.Do(func() {
		if p.Drain(ctx) == nil {
			p.linger(ctx)
		}
		close(p.stop)
		cause := ErrStopped
		p.cause.CompareAndSwap(nil, &cause)
		p.child.terminate()
		select {
		case <-p.done:
		case <-time.After(p.cfg.StopTimeout):
			p.kill(ErrStopped)
			<-p.done
		}
		p.watch.Wait()
		p.cleanUp()
	})
}

// linger waits until Linger has passed since the last request.
func (p *Process) linger(ctx context.Context) {
	_, last, _ := p.flight.state()
	rest := p.cfg.Linger - time.Since(last)
	if last.IsZero() || rest <= 0 {
		return
	}
	select {
	case <-p.done:
	case <-ctx.Done():
	case <-time.After(rest):
	}
}
