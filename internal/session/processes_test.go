package session_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// work is what a second process of a test does: it is this program, started with the
// variables HOURGLASS_SESSION_*.
func work(what string) int {
	ctx := context.Background()
	cfg := session.Config{Dir: os.Getenv("HOURGLASS_SESSION_DIR"), URL: deploy.Secret(os.Getenv("HOURGLASS_SESSION_URL"))}
	cfg.Key, _ = base64.StdEncoding.DecodeString(os.Getenv("HOURGLASS_SESSION_KEY"))
	s, err := session.Open(ctx, cfg)
	if err == nil {
		name := os.Getenv("HOURGLASS_SESSION_NAME")
		switch what {
		case "share":
			err = share(ctx, s, name)
		case "write":
			err = write(ctx, s, name)
		case "fill":
			if name != "" {
				limitFiles(name)
			}
			err = fill(ctx, s)
		case "look":
			_, err = s.Sessions(ctx, "me", 1)
		}
		err = errors.Join(err, s.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// another is such a process on the store at p.
func (p place) another(what, name string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self) //nolint:gosec // this test's own program
	cmd.Env = append(os.Environ(), "HOURGLASS_SESSION_WORK="+what, "HOURGLASS_SESSION_DIR="+p.dir, "HOURGLASS_SESSION_URL="+p.url, "HOURGLASS_SESSION_NAME="+name)
	if p.url != "" {
		cmd.Env = append(cmd.Env, "HOURGLASS_SESSION_KEY="+base64.StdEncoding.EncodeToString(someKey()))
	}
	return cmd
}

const shares = 12 // of each process

// share takes turns with others at one session: each turn is a step that brings a
// deployment. Between turns it keeps sessions of its own.
func share(ctx context.Context, s *session.Store, name string) error {
	if err := s.SaveSession(ctx, someSession("s_shared", "me", 0)); err != nil {
		return err
	}
	for i := 0; i < shares; {
		id := fmt.Sprintf("s_%s_%d", name, i)
		if err := errors.Join(s.SaveSession(ctx, someSession(id, "me", int64(i))), s.SaveAccount(ctx, someAccount(id, id))); err != nil {
			return err
		}
		done, err := takeTurn(ctx, s, fmt.Sprintf("%s_%d", name, i))
		if err != nil {
			return err
		}
		if done {
			i++
			fmt.Println(i)
		}
	}
	return nil
}

// takeTurn tells false when another process had the turn, or took it over.
func takeTurn(ctx context.Context, s *session.Store, id string) (bool, error) {
	// A lease outlives its process by this time, which the others wait for here.
	l, err := s.AcquireLease(ctx, "s_shared", 2*time.Second)
	if deploy.IsCode(err, deploy.CodeBusy) {
		time.Sleep(5 * time.Millisecond)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	all, err := s.Steps(ctx, "s_shared")
	if err != nil {
		return false, err
	}
	for _, st := range all { // of a process that is gone
		if !st.State.Settled() {
			err := s.Settle(ctx, l, deploy.Settlement{StepID: st.ID, State: deploy.StepLost})
			if err != nil {
				return false, ignoreBusy(err)
			}
		}
	}
	step := fmt.Sprintf("st_%s_%d", id, l.Fence)
	if err := s.BeginStep(ctx, l, someStep(step, "s_shared", deploy.StepUploadScript)); err != nil {
		return false, ignoreBusy(err)
	}
	d := deploy.Deployment{ID: "d_" + step, SessionID: "s_shared", Worker: "w"}
	if err := s.Settle(ctx, l, deploy.Settlement{StepID: step, State: deploy.StepDone, Deployment: &d}); err != nil {
		return false, ignoreBusy(err)
	}
	return true, s.ReleaseLease(ctx, l)
}

func ignoreBusy(err error) error {
	if deploy.IsCode(err, deploy.CodeBusy) {
		return nil
	}
	return err
}

// TestEightProcesses start at once on an empty store, agree on one key, take turns at
// one session and lose nothing of each other's; one of them is killed in the middle.
func TestEightProcesses(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		var wg sync.WaitGroup
		for i := range 8 {
			name := fmt.Sprintf("p%d", i)
			cmd := p.another("share", name)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			wg.Go(func() {
				for lines := bufio.NewScanner(out); lines.Scan(); {
					if i == 7 && lines.Text() == "3" {
						_ = cmd.Process.Kill()
					}
				}
				if err := cmd.Wait(); err != nil && i != 7 {
					t.Errorf("%s: %v\n%s", name, err, stderr.String())
				}
			})
		}
		wg.Wait()
		s, ctx := p.open(t), t.Context()
		count := map[string]int{}
		all, err := s.Sessions(ctx, "me", 1000)
		must(t, err)
		for _, v := range all {
			count[v.ID[:4]]++
			accounts, err := s.Accounts(ctx, v.ID)
			if err != nil || len(accounts) > 1 {
				t.Errorf("%s: %d accounts, %v", v.ID, len(accounts), err)
			}
		}
		steps, err := s.Steps(ctx, "s_shared")
		must(t, err)
		deps, err := s.Deployments(ctx, "s_shared")
		must(t, err)
		done, last := map[string]int{}, int64(0)
		for _, st := range steps {
			if st.Fence <= last {
				t.Errorf("%s has the fence %d after %d", st.ID, st.Fence, last)
			}
			last = st.Fence
			if st.State == deploy.StepDone {
				done[st.ID[:5]]++
			}
		}
		total := 0
		for i := range 8 {
			name := fmt.Sprintf("p%d", i)
			total += done["st_"+name]
			if i < 7 && (count["s_"+name] != shares || done["st_"+name] != shares) {
				t.Errorf("%s: %d sessions, %d steps of %d", name, count["s_"+name], done["st_"+name], shares)
			}
		}
		if len(deps) != total {
			t.Errorf("%d deployments of %d steps", len(deps), total)
		}
	})
}

// write writes sessions with all that is theirs, without end, and says each as soon as
// the store says that it is kept.
func write(ctx context.Context, s *session.Store, name string) error {
	for i := 0; ; i++ {
		id := fmt.Sprintf("s_%s_%d", name, i)
		if err := s.SaveSession(ctx, someSession(id, "me", int64(i))); err != nil {
			return err
		}
		l, err := s.AcquireLease(ctx, id, time.Hour)
		if err != nil {
			return err
		}
		for n := range 2 { // the second account replaces the first
			step := fmt.Sprintf("%s_%d", id, n)
			if err := s.BeginStep(ctx, l, someStep(step, id, deploy.StepCreateAccount)); err != nil {
				return err
			}
			a := someAccount(step, id)
			d := deploy.Deployment{ID: step, SessionID: id, AccountID: a.ID, Worker: "w"}
			if err := s.Settle(ctx, l, deploy.Settlement{StepID: step, State: deploy.StepDone, Account: &a, Deployment: &d}); err != nil {
				return err
			}
		}
		fmt.Println(i)
	}
}

// fill writes until it can't, and says each thing that is kept.
func fill(ctx context.Context, s *session.Store) error {
	for i := 0; ; i++ {
		v := someSession(fmt.Sprint("s_fill_", i), "filler", int64(i))
		v.Client = strings.Repeat("x", 2000)
		if err := s.SaveSession(ctx, v); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// TestKilledWhileWriting: what was said to be kept is kept, and nothing is half there.
func TestKilledWhileWriting(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		for round := range 4 {
			name := fmt.Sprintf("r%d", round)
			cmd := p.another("write", name)
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			last := -1
			for lines := bufio.NewScanner(out); lines.Scan(); {
				last, err = strconv.Atoi(lines.Text())
				must(t, err)
				if last == 5+3*round {
					must(t, cmd.Process.Kill())
				}
			}
			if err := cmd.Wait(); err == nil || last < 5+3*round {
				t.Fatalf("it was not killed: %v after %d", err, last)
			}
			s, ctx := p.open(t), t.Context()
			all, err := s.Sessions(ctx, "me", 1000)
			must(t, err)
			whole := 0
			for _, v := range all {
				if strings.HasPrefix(v.ID, "s_"+name) && lookWhole(t, s, v.ID) {
					whole++
				}
			}
			if whole <= last {
				t.Errorf("round %d: %d are whole, %d were said to be kept", round, whole, last+1)
			}
			if p.dir != "" {
				var ok string
				must(t, database(t, s).QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&ok))
				if ok != "ok" {
					t.Error(ok)
				}
			}
			must(t, s.Close())
		}
	})
}

// lookWhole tells whether all of a session was written, and fails where a step is done
// without what it brought, or the other way round.
func lookWhole(t *testing.T, s *session.Store, id string) bool {
	t.Helper()
	ctx := t.Context()
	steps, err := s.Steps(ctx, id)
	must(t, err)
	accounts, err := s.Accounts(ctx, id)
	must(t, err)
	deps, err := s.Deployments(ctx, id)
	must(t, err)
	done, current := 0, 0
	for _, st := range steps {
		if st.State == deploy.StepDone {
			done++
		}
	}
	for _, a := range accounts {
		if a.State == deploy.AccountCurrent {
			current++
		}
		if a.Token.Empty() != (a.State == deploy.AccountRetired) {
			t.Errorf("%s: an account is %q", id, a.State)
		}
	}
	if done != len(accounts) || done != len(deps) || current != min(done, 1) {
		t.Errorf("%s: %d steps are done, with %d accounts (%d in use), %d deployments", id, done, len(accounts), current, len(deps))
	}
	return done == 2
}
