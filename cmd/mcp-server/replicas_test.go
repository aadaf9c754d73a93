//go:build unix

package main_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// errGone is a server that died in the middle of a call.
var errGone = errors.New("the server is gone")

// ask is callMeta for a server that may die.
func (a *agent) ask(ctx context.Context, args, meta map[string]any) (out answer, err error) {
	req := mcp.CallToolRequest{}
	req.Params.Name, req.Params.Arguments = "deploy_temporary", args
	req.Params.Meta = &mcp.Meta{AdditionalFields: meta}
	res, err := a.client.CallTool(ctx, req)
	if err != nil {
		return out, errors.Join(errGone, err)
	}
	for _, c := range res.Content {
		if t, ok := c.(mcp.TextContent); ok {
			out.Text += t.Text
		}
	}
	if out.IsError = res.IsError; out.IsError {
		return out, json.Unmarshal([]byte(out.Text), &out)
	}
	return out, json.Unmarshal([]byte(out.Text), &out.Live)
}

var sessionID = regexp.MustCompile(`s_[a-z0-9]{26}`)

// deployOn is one agent's way to a live deployment: it repeats its call under its key on
// the server that is left when its own dies, and asks for a fresh account when it is told
// that one was lost.
func deployOn(ctx context.Context, servers []*agent, i int) (live, error) {
	args := map[string]any{"files": says(fmt.Sprintf("agent %d", i)), "name": "w", "run_id": fmt.Sprintf("run-%d", i)}
	meta := map[string]any{"idempotencyKey": fmt.Sprintf("agent-%d", i)}
	for range 4 {
		got, err := servers[0].ask(ctx, args, meta)
		switch {
		case errors.Is(err, errGone) && len(servers) > 1:
			servers = servers[1:]
		case err != nil:
			return live{}, err
		case !got.IsError:
			return got.Live, nil
		case got.Error.Code == string(deploy.CodeAccountLost):
			args["fresh"], args["session_id"], meta = true, sessionID.FindString(got.Error.Message), nil
		default:
			return live{}, fmt.Errorf("agent %d: %s", i, got.Text)
		}
	}
	return live{}, fmt.Errorf("agent %d got nowhere", i)
}

// TestTwoServersOneIsKilled: two servers on one PostgreSQL, one is killed in the middle of
// its agents' calls. All deployments end live, and the sandbox has the accounts that the
// store knows, and no more than the lost ones beside them.
func TestTwoServersOneIsKilled(t *testing.T) {
	t.Parallel() // it waits more than it works
	agents, atOnce := 12, 8
	if peertest.Full() {
		agents, atOnce = 200, 12
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	url := peertest.Postgres(t)
	w := shared(t, url, key)
	first, second := w.with(t, t.TempDir(), ""), w.with(t, t.TempDir(), "")
	var wg sync.WaitGroup
	var ended atomic.Int64
	var kill sync.Once
	turns := make(chan struct{}, atOnce)
	got := make([]live, agents)
	for i := range agents {
		turns <- struct{}{}
		if n := int(ended.Load()); n >= agents/3 {
			kill.Do(func() {
				t.Logf("killed after %d of %d", n, agents)
				if err := first.process.Kill(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			defer func() { <-turns }()
			servers := []*agent{first, second}
			if i%2 == 0 {
				servers = servers[1:]
			}
			ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
			defer stop()
			var err error
			if got[i], err = deployOn(ctx, servers, i); err != nil {
				t.Error(err)
			}
			ended.Add(1)
		})
	}
	wg.Wait()
	for i, g := range got {
		if want := fmt.Sprintf("agent %d", i); g.Serving != "yes" || g.Check.BodyExcerpt != want {
			t.Errorf("%s: %+v", want, g)
		}
	}
	w.agrees(t, url, key)
}

// agrees compares the store with the sandbox.
func (w *crashWorld) agrees(t *testing.T, url string, key []byte) {
	t.Helper()
	ctx := t.Context()
	store, err := session.Open(ctx, session.Config{URL: deploy.Secret(url), Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close() //nolint:errcheck // it was only read
	sessions, err := store.SessionsWhere(ctx, deploy.SessionFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	on := map[string]bool{}
	for _, a := range w.accounts() {
		on[a.ID] = true
	}
	stored, lost := 0, 0
	for _, sess := range sessions {
		accounts, err := store.Accounts(ctx, sess.ID)
		if err != nil {
			t.Fatal(err)
		}
		current := 0
		for _, a := range accounts {
			stored++
			if a.State == deploy.AccountCurrent {
				current++
			}
			if !on[a.ID] {
				t.Errorf("the sandbox has no account %s", a.ID)
			}
		}
		if current > 1 {
			t.Errorf("%s has %d accounts in use", sess.ID, current)
		}
		steps, err := store.Steps(ctx, sess.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range steps {
			if !s.State.Settled() {
				t.Errorf("left open: %+v", s)
			}
			if s.Kind == deploy.StepCreateAccount && s.State == deploy.StepLost {
				lost++
			}
		}
	}
	if len(on) < stored || len(on) > stored+lost {
		t.Errorf("%d accounts on the sandbox, %d in the store, %d lost", len(on), stored, lost)
	}
	t.Logf("%d sessions, %d accounts on the sandbox, %d in the store, %d lost", len(sessions), len(on), stored, lost)
}
