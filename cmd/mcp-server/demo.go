package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/hourglass-mcp/hourglass/internal/sandbox"
)

// demoCmd shows the main job from end to end: a real MCP client on a real child
// process, the real runtime, the real proof of work and upload protocol; only
// Cloudflare's data centre is our sandbox.
type demoCmd struct {
	JSON bool          `name:"json" help:"Print one JSON object and end at once."`
	Hold time.Duration `help:"How long to hold the URL open on a terminal." default:"10m"`
}

// demoStep is one step of the demo.
type demoStep struct {
	Name   string  `json:"name"`
	MS     float64 `json:"ms"`
	Detail string  `json:"detail"`
}

// demoReport is what --json prints.
type demoReport struct {
	OK          bool       `json:"ok"`
	Steps       []demoStep `json:"steps"`
	URL         string     `json:"url"`
	SecondsLeft int        `json:"seconds_left"`
	Claim       string     `json:"claim"`
	ExpiredOK   bool       `json:"expired_ok"`
	Error       string     `json:"error,omitempty"`
}

// Run plays the demo. It ends with 0 only if every step did what it says.
func (d *demoCmd) Run(ctx context.Context, o *options, p process) error {
	show := &stageDirector{w: p.stdout, quiet: d.JSON, inked: inked(p.stdout, p)}
	rep := &demoReport{Steps: []demoStep{}}
	err := d.play(ctx, o, p, show, rep)
	rep.OK = err == nil
	if err != nil {
		rep.Error = err.Error()
	}
	if d.JSON {
		if e := printJSON(p, rep); e != nil {
			return e
		}
		if err != nil {
			return &exitError{code: exitElse, quiet: true, cause: err}
		}
		return nil
	}
	if err != nil {
		show.failed(err)
		return &exitError{code: exitElse, quiet: true, cause: err}
	}
	return nil
}

// play sets the stage, plays both stories and clears away.
func (d *demoCmd) play(ctx context.Context, o *options, p process, show *stageDirector, rep *demoReport) (err error) {
	work, err := os.MkdirTemp("", "hourglass-demo-")
	if err != nil {
		return fmt.Errorf("a folder for the demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	show.title("Hourglass: deploy tools for agents, on Cloudflare's temporary accounts")
	show.say("Everything here is real but Cloudflare's data centre, which is played by the sandbox in this process.")
	s := &story{show: show, rep: rep, work: work, opts: o}
	if err := s.step("runtime", func() (string, error) { return s.findRuntime(ctx, o, p) }); err != nil {
		return err
	}
	var box *sandbox.Sandbox
	if err := s.step("sandbox", func() (string, error) {
		box, err = startSandbox(ctx, o, p, sandbox.Config{})
		if err != nil {
			return "", err
		}
		s.urls = box.URLs()
		return "our own small Cloudflare answers at " + s.urls.API, nil
	}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	if err := s.step("connect", func() (string, error) { return s.connect(ctx, p) }); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.client.Close()) }()
	if err := s.tell(ctx); err != nil {
		return err
	}
	show.done()
	if !d.JSON {
		hold(ctx, p, show, s.rep.URL, d.Hold)
	}
	return nil
}

// stageDirector speaks to the person who watches.
type stageDirector struct {
	w     io.Writer
	quiet bool
	inked bool
}

// ink is how a terminal shows a text: parameters of ECMA-48's SGR, with the colours of
// the 256 that terminals agree on.
type ink string

const (
	bold   ink = "1"
	faint  ink = "2"
	orange ink = "1;38;5;208"
	green  ink = "38;5;42"
	red    ink = "1;38;5;196"
	blue   ink = "38;5;39"
)

// inked tells whether w is a terminal that shows colours, and nobody objects
// (no-color.org).
func inked(w io.Writer, p process) bool {
	f, ok := w.(*os.File)
	no, _ := p.env("NO_COLOR")
	kind, _ := p.env("TERM")
	return ok && no == "" && kind != "" && kind != "dumb" && term.IsTerminal(int(f.Fd()))
}

func (v *stageDirector) in(i ink, text string) string {
	if !v.inked {
		return text
	}
	return "\x1b[" + string(i) + "m" + text + "\x1b[0m"
}

func (v *stageDirector) line(text string) {
	if !v.quiet {
		_, _ = fmt.Fprintln(v.w, text)
	}
}

func (v *stageDirector) title(text string) { v.line(v.in(orange, text) + "\n") }

func (v *stageDirector) say(format string, args ...any) {
	v.line(v.in(faint, fmt.Sprintf(format, args...)))
}

func (v *stageDirector) chapter(format string, args ...any) {
	v.line("\n" + v.in(bold, fmt.Sprintf(format, args...)))
}

func (v *stageDirector) did(s demoStep) {
	v.line(fmt.Sprintf("%s %-14s %s  %s", v.in(green, "✓"), s.Name, v.in(faint, fmt.Sprintf("%8.1f ms", s.MS)), s.Detail))
}

func (v *stageDirector) failed(err error) { v.line("\n" + v.in(red, "✗ "+err.Error())) }

func (v *stageDirector) done() { v.line("\n" + v.in(bold+";"+green, "Every step did what it says.")) }

// hold keeps the URL open on a terminal until Enter, the time or a signal ends it.
func hold(ctx context.Context, p process, show *stageDirector, url string, d time.Duration) {
	in, okIn := p.stdin.(*os.File)
	out, okOut := p.stdout.(*os.File)
	if !okIn || !okOut || !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) || d <= 0 {
		return
	}
	show.chapter("The claimed Worker still answers. Open it in a browser:")
	show.line(show.in(blue, url))
	enter := make(chan struct{})
	go func() { // ends with the process: a read from a terminal can't be called off
		_, _ = in.Read(make([]byte, 1))
		close(enter)
	}()
	end := time.Now().Add(d)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for left := d; left > 0; left = time.Until(end) {
		fmt.Fprintf(out, "\rheld open for %02d:%02d more; Enter ends it ", int(left.Minutes()), int(left.Seconds())%60)
		select {
		case <-enter:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pretty gives a short one-line form of a JSON value.
func pretty(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
