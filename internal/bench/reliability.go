package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
	"github.com/hourglass-mcp/hourglass/internal/sandbox"
	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// callsEach is how many deployments one agent makes in its session.
const callsEach = 10

// trial is one run of the reliability command: the real Service, store and client
// before a sandbox that is as unkind as its default plan.
type trial struct {
	n, parallel, round int
	seed               uint64

	box     *sandbox.Sandbox
	urls    sandbox.URLs
	store   *session.Store
	client  *cloudflare.Client
	edge    *cloudflare.Edge
	service *deploy.Service
	closers []func() error

	mu    sync.Mutex
	tally tally
	begun atomic.Int64
}

// reliability deploys n times under the default faults and prints what happened. It
// fails when anything was lost.
func reliability(ctx context.Context, args []string) error {
	t := &trial{tally: tally{failed: map[deploy.Code]int{}, steps: map[string]int{}}}
	flags := flag.NewFlagSet("reliability", flag.ContinueOnError)
	flags.IntVar(&t.n, "n", 1000, "deployments")
	flags.IntVar(&t.parallel, "parallel", 6, "agents at the same time")
	flags.IntVar(&t.round, "round", 24, "agents before the clock moves on by an hour, and their accounts end")
	flags.Uint64Var(&t.seed, "seed", 1, "the faults' seed")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("reliability: %w", err)
	}
	if t.n < 1 || t.parallel < 1 || t.round < 1 {
		return errors.New("reliability: -n, -parallel and -round are at least 1")
	}
	work, err := os.MkdirTemp("", "hourglass-reliability-")
	if err != nil {
		return fmt.Errorf("a folder: %w", err)
	}
	defer os.RemoveAll(work) //nolint:errcheck // a temporary folder
	defer t.close()
	if err := t.build(ctx, work); err != nil {
		return err
	}
	agents := (t.n + callsEach - 1) / callsEach
	for from := 0; from < agents; from += t.round {
		if err := t.agents(ctx, from, min(from+t.round, agents)); err != nil {
			return err
		}
	}
	if err := t.settleAccounts(ctx); err != nil {
		return err
	}
	return t.report()
}

func (t *trial) close() {
	for _, end := range slices.Backward(t.closers) {
		_ = end()
	}
}

// build makes the rooms, as cmd/mcp-server wires them.
func (t *trial) build(ctx context.Context, work string) error {
	cache, err := peertest.CacheDir()
	if err != nil {
		return err
	}
	t.box, err = sandbox.New(sandbox.Config{
		ChallengeK: 2, ChallengeG: 3, CheckSegments: -1, AccountsPerMinute: -1, Faults: fmt.Sprintf("default:%d", t.seed),
		Workerd: func(ctx context.Context) (workerd.Binary, error) {
			return workerd.Find(ctx, workerd.FindConfig{CacheDir: cache})
		},
	})
	if err != nil {
		return err
	}
	if err := t.box.Start(ctx); err != nil {
		return err
	}
	t.closers = append(t.closers, t.box.Close)
	t.urls = t.box.URLs()
	if t.store, err = session.Open(ctx, session.Config{Dir: filepath.Join(work, "state")}); err != nil {
		return err
	}
	t.closers = append(t.closers, t.store.Close)
	redactor := deploy.NewRedactor()
	if t.client, err = cloudflare.New(cloudflare.Config{BaseURL: t.urls.API, Instance: "reliability", Secret: redactor.Add}); err != nil {
		return err
	}
	t.closers = append(t.closers, t.client.Close)
	if t.edge, err = cloudflare.NewEdge(cloudflare.EdgeConfig{URL: t.urls.Edge}); err != nil {
		return err
	}
	t.closers = append(t.closers, t.edge.Close)
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("this program: %w", err)
	}
	bundler, err := bundle.New(bundle.Config{Checker: []string{self, bundle.CheckCommand}, CacheDir: filepath.Join(work, "npm")})
	if err != nil {
		return err
	}
	t.service, err = deploy.New(deploy.Config{Bundler: bundler, Cloud: t.client, Edge: t.edge, Store: t.store, Redactor: redactor, TermsAccepted: true})
	return err
}

// agents runs some agents, looks at everything they were told is live, and ends their
// accounts.
func (t *trial) agents(ctx context.Context, from, to int) error {
	work := make(chan int, to-from)
	all := make([]*agent, 0, to-from)
	byNumber := map[int]*agent{}
	for i := from; i < to; i++ {
		a := &agent{t: t, number: i, caller: deploy.Caller{Principal: fmt.Sprintf("agent-%d", i), Client: "reliability"}, workers: map[string]*watched{}}
		all, byNumber[i] = append(all, a), a
		work <- i
	}
	close(work)
	var group sync.WaitGroup
	for range t.parallel {
		group.Go(func() {
			for i := range work {
				byNumber[i].run(ctx)
			}
		})
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("stopped: %w", err)
	}
	living, err := t.living(ctx)
	if err != nil {
		return err
	}
	for _, a := range all {
		a.look(ctx, living)
	}
	t.progress("%d of %d deployments, %d live at the end of their round, %d lost", t.begun.Load(), t.n, t.tally.live, len(t.tally.lost))
	return t.manage(ctx, http.MethodPost, "/clock", `{"advance_seconds":3700}`, nil)
}

func (t *trial) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// accountView is what the sandbox's management port tells of an account.
type accountView struct {
	ID        string    `json:"id"`
	Subdomain string    `json:"subdomain"`
	ExpiresAt time.Time `json:"expires_at"`
}

// living gives the subdomains of the accounts whose hour is not over.
func (t *trial) living(ctx context.Context) (map[string]bool, error) {
	var all []accountView
	if err := t.manage(ctx, http.MethodGet, "/accounts", "", &all); err != nil {
		return nil, err
	}
	var clock struct{ Now time.Time }
	if err := t.manage(ctx, http.MethodPost, "/clock", `{"advance_seconds":0}`, &clock); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, a := range all {
		out[a.Subdomain] = clock.Now.Before(a.ExpiresAt)
	}
	return out, nil
}

func (t *trial) manage(ctx context.Context, method, path, body string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, t.urls.Manage+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return fmt.Errorf("the sandbox's management port: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the sandbox's management port: %w", err)
	}
	defer res.Body.Close() //nolint:errcheck // nothing is written
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("HTTP %d: %s", res.StatusCode, text)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		return fmt.Errorf("the sandbox's management port, %s %s: %w", method, path, err)
	}
	return nil
}
