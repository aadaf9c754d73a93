package session_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// allOf is an error with everything behind it, as the operator's log has it.
func allOf(err error) string {
	text := ""
	for ; err != nil; err = errors.Unwrap(err) {
		text += fmt.Sprintf("%v\n%+v\n", err, err)
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range many.Unwrap() {
				text += allOf(e)
			}
		}
	}
	return text
}

// TestTheServerGoesAway: calls fail in clear words meanwhile, which tell nothing of
// where it is, and the next one works when it is back, with all that was kept.
func TestTheServerGoesAway(t *testing.T) {
	server := peertest.NewPostgres(t)
	p := place{url: server.Database(t)}
	s, ctx := p.open(t), t.Context()
	must(t, s.SaveSession(ctx, someSession("s_a", "me", 1)))
	l := lease(t, s, "s_a")
	must(t, s.BeginStep(ctx, l, someStep("1", "s_a", deploy.StepUploadScript)))
	late := p.open(t) // first used while the server is away
	gone := func() {
		t.Helper()
		_, err := s.Session(ctx, "me", "s_a")
		_, lateErr := late.Session(ctx, "me", "s_a")
		_, leaseErr := s.AcquireLease(ctx, "another", 1e9)
		for _, err := range []error{err, lateErr, leaseErr, s.Settle(ctx, l, deploy.Settlement{StepID: "1", State: deploy.StepDone}), s.Ping(ctx)} {
			wantCode(t, err, deploy.CodeStore)
			if err != nil && (strings.Contains(err.Error(), server.Dir) || !strings.Contains(err.Error(), "server")) {
				t.Error(err)
			}
		}
	}
	server.Stop(t)
	gone()
	gone()
	server.Start(t)
	must(t, s.Settle(ctx, l, deploy.Settlement{StepID: "1", State: deploy.StepDone}))
	must(t, late.Ping(ctx))
	step := someStep("1", "s_a", deploy.StepUploadScript)
	step.State, step.Fence = deploy.StepDone, l.Fence
	sameSteps(t, late, "s_a", step)

	// A connection that breaks under a call fails that call at most.
	change(t, late, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()")
	if _, err := s.Session(ctx, "me", "s_a"); err != nil {
		wantCode(t, err, deploy.CodeStore)
	}
	must(t, s.Ping(ctx))
}

// TestTheAddressIsASecret: no error says it, however it is wrong, and its password is
// told to who strips secrets before it is used.
func TestTheAddressIsASecret(t *testing.T) {
	for name, url := range map[string]string{
		"nobody listens":   "postgres://someone:PASS-WORD-1@127.0.0.1:1/db",
		"no such host":     "postgres://someone:PASS-WORD-1@nowhere.invalid/db?connect_timeout=2",
		"no such database": strings.Replace(peertest.Postgres(t), "postgres:///", "postgres://hourglass:PASS-WORD-1@/no_", 1),
		"no URL":           "postgres://someone:PASS-WORD-1@host:port:more/%zz",
		"a wrong option":   "postgres://someone:PASS-WORD-1@host/db?sslmode=PASS-WORD-1",
	} {
		t.Run(name, func(t *testing.T) {
			told := false
			s := place{url: url}.open(t, func(c *session.Config) { c.Secret = func(v string) { told = told || v == "PASS-WORD-1" } })
			err := s.Ping(t.Context())
			wantCode(t, err, deploy.CodeStore)
			if strings.Contains(allOf(err), "PASS-WORD") || strings.Contains(err.Error(), "someone") {
				t.Error("it is said:", err)
			}
			if parsed := !strings.Contains(err.Error(), "not a PostgreSQL URL"); parsed != told {
				t.Errorf("the password was told: %v; %v", told, err)
			}
			t.Log(err)
		})
	}
	if _, err := session.Open(t.Context(), session.Config{}); err == nil {
		t.Error("a store nowhere was opened")
	}
}

// TestManyCallsAtOnce: more calls than connections get through, on the same few rows
// and in every order, and those whose call is over let go of what they waited for.
func TestManyCallsAtOnce(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		s, other, ctx := p.open(t), p.open(t), t.Context()
		for i := range 4 {
			must(t, s.SaveSession(ctx, someSession(fmt.Sprint("s_", i), "me", 1)))
		}
		a := artifact(t, "same", 10)
		var wg sync.WaitGroup
		for i := range 48 {
			st := []*session.Store{s, other}[i%2]
			wg.Go(func() {
				id := fmt.Sprint("s_", i%4)
				acct := someAccount(fmt.Sprint(i), id)
				err := errors.Join(st.SaveArtifact(ctx, "me", a), st.SaveAccount(ctx, acct), st.SaveSession(ctx, someSession(id, "me", 1)),
					st.SaveDeployment(ctx, deploy.Deployment{ID: fmt.Sprint(i), SessionID: id}))
				if err != nil {
					t.Error(err)
				}
				over, stop := context.WithCancel(ctx)
				stop()
				if _, err := st.AcquireLease(over, id, 1e9); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		// One key, many calls: one of them is the first.
		first := make(chan deploy.CallState, 16)
		for i := range cap(first) {
			st := []*session.Store{s, other}[i%2]
			wg.Go(func() {
				state, _, err := st.BeginCall(ctx, "me", "key", "args", at(0))
				if err != nil {
					t.Error(err)
				}
				first <- state
			})
		}
		wg.Wait()
		close(first)
		began := 0
		for state := range first {
			if state == deploy.CallNew {
				began++
			}
		}
		if began != 1 {
			t.Errorf("%d calls began under one key", began)
		}
		for i := range 4 {
			accounts, err := s.Accounts(ctx, fmt.Sprint("s_", i))
			must(t, err)
			deps, err := s.Deployments(ctx, fmt.Sprint("s_", i))
			must(t, err)
			if len(accounts) != 12 || len(deps) != 12 || accounts[0].State != deploy.AccountCurrent || accounts[1].State != deploy.AccountRetired {
				t.Errorf("%d accounts, %d deployments", len(accounts), len(deps))
			}
		}
	})
}

// TestACallThatEndsWhileItWaits: it gives the context's error, lets go of its
// connection, and leaves nothing half done.
func TestACallThatEndsWhileItWaits(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		s := p.open(t)
		must(t, s.SaveSession(t.Context(), someSession("s_a", "me", 1)))
		db := database(t, s)
		tx, err := db.BeginTx(t.Context(), nil)
		must(t, err)
		_, err = tx.Exec("UPDATE sessions SET client = 'held' WHERE id = 's_a'")
		must(t, err)
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		var ended atomic.Int32
		for _, call := range []func() error{
			func() error { return s.SaveSession(ctx, someSession("s_a", "me", 1)) },
			func() error { return s.ForgetSession(ctx, "s_a") },
		} {
			wg.Go(func() {
				defer ended.Add(1)
				if err := call(); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		for db.Stats().InUse < 3 && ended.Load() == 0 { // until both wait, each on a connection of its own
			runtime.Gosched()
		}
		stop()
		wg.Wait()
		must(t, tx.Commit())
		got, err := s.Session(t.Context(), "me", "s_a")
		must(t, err)
		if got.Client != "held" {
			t.Error(got.Client)
		}
	})
}
