package deploy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func (m *memStore) KeepLogs(ctx context.Context, sessionID string, lines []deploy.LogLine, b deploy.LogBounds) (deploy.LogTally, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "KeepLogs"); err != nil {
		return deploy.LogTally{}, err
	}
	if m.logs == nil {
		m.logs, m.tallies = map[string][]deploy.LogLine{}, map[string]deploy.LogTally{}
	}
	fit, after := m.tallies[sessionID].Fit(lines, b)
	m.logs[sessionID], m.tallies[sessionID] = append(m.logs[sessionID], fit...), after
	return after, nil
}

func (m *memStore) Logs(ctx context.Context, sessionID string) ([]deploy.LogLine, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.logs[sessionID]), m.begin(ctx, "Logs")
}

func (m *memStore) LogTally(ctx context.Context, sessionID string) (deploy.LogTally, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tallies[sessionID], m.begin(ctx, "LogTally")
}

func (m *memStore) SaveForeign(ctx context.Context, f deploy.ForeignChange) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "SaveForeign"); err != nil {
		return err
	}
	if !slices.ContainsFunc(m.foreign, func(g deploy.ForeignChange) bool {
		return g.Target == f.Target && g.AccountID == f.AccountID && g.Worker == f.Worker && g.VersionID == f.VersionID
	}) {
		m.foreign = append(m.foreign, f)
	}
	return nil
}

func (m *memStore) Foreign(ctx context.Context, sessionID string) ([]deploy.ForeignChange, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "Foreign"); err != nil {
		return nil, err
	}
	var out []deploy.ForeignChange
	for _, f := range m.foreign {
		if f.SessionID == sessionID {
			out = append(out, f)
		}
	}
	return out, nil
}

// listening is a service that keeps what Workers say.
func (w *world) listening(t *testing.T, g *guards, change ...func(*deploy.Config)) *deploy.Service {
	t.Helper()
	s := w.service(append([]func(*deploy.Config){func(c *deploy.Config) {
		c.Logs.Keep = true
		if g != nil {
			c.Record = g
		}
	}}, change...)...)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// visit asks a Worker and waits until what it said is kept.
func (w *world) visit(t *testing.T, res *deploy.DeployResult) {
	t.Helper()
	if _, err := (*fakeEdge)(w).Fetch(t.Context(), strings.TrimPrefix(res.URL, "http://127.0.0.1:1/"), "/", nil); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	synctest.Wait()
}

// said gives the texts of what is kept of a session, by kind.
func (w *world) said(t *testing.T, session string) map[string][]string {
	t.Helper()
	lines, err := w.store.Logs(t.Context(), session)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, l := range lines {
		out[l.Kind] = append(out[l.Kind], l.Text)
	}
	return out
}

// open counts the streams that are open.
func (w *world) open() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, tail := range w.tails {
		if !tail.closed.Load() {
			n++
		}
	}
	return n
}

// TestWorkerLogs: what a Worker said from its first answer on is there when its account is
// over; the record tells how much, and not what; nothing goes on after.
func TestWorkerLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		w.ended = map[string]bool{}
		s := w.listening(t, g)
		res := must(t, s, worker("throw no such thing"))
		w.visit(t, res)
		if n := w.open(); n != 1 {
			t.Errorf("%d streams are open", n)
		}
		time.Sleep(time.Until(res.ExpiresAt) - 2*time.Second)
		if n := w.open(); n != 1 {
			t.Errorf("%d streams are open before the account's end", n)
		}
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		if n := w.open(); n != 0 {
			t.Errorf("%d streams are open after the account's end", n)
		}
		said := w.said(t, res.SessionID)
		if len(said[deploy.LogException]) < 2 || !strings.HasPrefix(said[deploy.LogException][0], "Error: no such thing\nError: x\n    at ") {
			t.Errorf("%q", said)
		}
		if _, err := s.Status(t.Context(), me, deploy.StatusRequest{}); err != nil {
			t.Fatal(err)
		}
		told := 0
		for _, e := range g.events {
			if b, _ := json.Marshal(e); e.Act == deploy.NoticeLogs || e.Act == deploy.NoticeExpired {
				told++
				if e.Data["worker_log_lines"] != fmt.Sprint(len(said[deploy.LogException])) || strings.Contains(string(b), "no such thing") {
					t.Errorf("%s", b)
				}
			}
		}
		if told != 2 {
			t.Errorf("%d records of it", told)
		}
		if w.open() != 0 || len(w.misused) != 0 {
			t.Errorf("%v", w.misused)
		}
	})
}

// TestWorkerLogsAreOff: without the setting nothing is listened to, and nothing kept.
func TestWorkerLogsAreOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		res := must(t, s, worker("throw no such thing"))
		w.visit(t, res)
		if len(w.said(t, res.SessionID)) != 0 || w.open() != 0 {
			t.Errorf("%v, %d streams", w.said(t, res.SessionID), w.open())
		}
	})
}

// TestWorkerLogsAreBounded: what has no room is counted, over all Workers of a session
// and over restarts of the server.
func TestWorkerLogsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		few := func(c *deploy.Config) { c.Logs.Bounds = deploy.LogBounds{Lines: 3, Bytes: 1000} }
		s := w.listening(t, nil, few)
		res := must(t, s, worker("throw once"))
		for range 3 {
			w.visit(t, res)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = w.listening(t, nil, few)
		if _, err := s.Status(t.Context(), me, deploy.StatusRequest{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.visit(t, res)
		time.Sleep(20 * time.Second) // what is only counted is so less often
		synctest.Wait()
		tally, err := w.store.LogTally(t.Context(), res.SessionID)
		if err != nil || tally.Lines != 3 || tally.Dropped < 2 || len(w.said(t, res.SessionID)[deploy.LogException]) != 3 {
			t.Errorf("%+v %v", tally, err)
		}
	})
}

func TestLogTallyFits(t *testing.T) {
	line := func(kind, text string) deploy.LogLine { return deploy.LogLine{Kind: kind, Text: text} }
	lines := []deploy.LogLine{line(deploy.LogConsole, "12345"), line(deploy.LogConsole, "123456"), line(deploy.LogConsole, "1"), line(deploy.LogGap, "why")}
	for name, c := range map[string]struct {
		bounds deploy.LogBounds
		before deploy.LogTally
		after  deploy.LogTally
		fit    int
	}{
		"room":        {deploy.LogBounds{Lines: 9, Bytes: 99}, deploy.LogTally{}, deploy.LogTally{Lines: 3, Bytes: 12}, 4},
		"by bytes":    {deploy.LogBounds{Lines: 9, Bytes: 10}, deploy.LogTally{}, deploy.LogTally{Lines: 1, Bytes: 5, Dropped: 2}, 2},
		"by lines":    {deploy.LogBounds{Lines: 5, Bytes: 99}, deploy.LogTally{Lines: 3, Bytes: 9, Dropped: 1}, deploy.LogTally{Lines: 5, Bytes: 20, Dropped: 2}, 3},
		"full before": {deploy.LogBounds{Lines: 3, Bytes: 99}, deploy.LogTally{Lines: 3}, deploy.LogTally{Lines: 3, Dropped: 3}, 1},
	} {
		fit, after := c.before.Fit(lines, c.bounds)
		if after != c.after || len(fit) != c.fit || fit[len(fit)-1].Text != "why" {
			t.Errorf("%s: %+v, %d fit", name, after, len(fit))
		}
	}
}

// TestListeningEndsBeforeTheAccountIsHandedOver: from a human's yes on no token is used,
// also where the stream breaks in that moment, and where another server has it open.
func TestListeningEndsBeforeTheAccountIsHandedOver(t *testing.T) {
	for _, where := range []string{"here", "elsewhere"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.ended = map[string]bool{}
				s := w.listening(t, nil)
				res := must(t, s, worker("throw x"))
				w.visit(t, res)
				decider := s
				if where == "elsewhere" {
					decider = w.service()
				}
				token, _ := claimOf(t, w, s)
				if _, err := decider.DecideClaim(t.Context(), token, true, "chrome"); err != nil {
					t.Fatal(err)
				}
				w.set(func() { w.ended[w.store.allAccounts()[0].ID] = true })
				if where == "here" && w.open() != 0 {
					t.Error("a stream is open after the yes")
				}
				w.cutOff()
				time.Sleep(time.Minute)
				synctest.Wait()
				if w.open() != 0 || len(w.misused) != 0 {
					t.Errorf("%d streams, %v", w.open(), w.misused)
				}
			})
		})
	}
}

// cutOff ends every open stream from the other side.
func (w *world) cutOff() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, tail := range w.tails {
		if !tail.closed.Load() {
			close(tail.events)
			tail.closed.Store(true)
		}
	}
}

// TestABrokenStreamIsOpenedAgain: a while, then no more; the log says that something is
// missing.
func TestABrokenStreamIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.listening(t, nil)
		res := must(t, s, worker("throw x"))
		w.visit(t, res)
		w.cutOff()
		time.Sleep(5 * time.Second)
		before := len(w.said(t, res.SessionID)[deploy.LogException])
		w.visit(t, res)
		said := w.said(t, res.SessionID)
		if w.open() != 1 || len(said[deploy.LogException]) != before+1 || len(said[deploy.LogGap]) != 1 || !strings.Contains(said[deploy.LogGap][0], "missing") {
			t.Errorf("%d streams, %q", w.open(), said)
		}
		tries := 0
		w.set(func() {
			w.onTail = func(int) error { tries++; return deploy.Errorf(deploy.CodeAPIUnreachable, "Wait.", "no answer") }
		})
		w.cutOff()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		said = w.said(t, res.SessionID)
		if last := said[deploy.LogGap][len(said[deploy.LogGap])-1]; !strings.Contains(last, "nobody listens any more") || tries != 7 {
			t.Errorf("%d tries, then %q", tries, last)
		}
	})
}

// TestOneServerListens: of two on one store one does; when it is gone, the other.
func TestOneServerListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s, other := w.listening(t, nil), w.listening(t, nil)
		res := must(t, s, worker("throw x"))
		w.visit(t, res)
		status := func() {
			t.Helper()
			if _, err := other.Status(t.Context(), me, deploy.StatusRequest{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		status()
		if w.open() != 1 {
			t.Errorf("%d streams", w.open())
		}
		before := len(w.said(t, res.SessionID)[deploy.LogException])
		w.visit(t, res)
		if got := len(w.said(t, res.SessionID)[deploy.LogException]); got != before+1 {
			t.Errorf("%d lines of one invocation", got-before)
		}
		_ = s.Close()
		if w.open() != 0 {
			t.Errorf("%d streams after the end", w.open())
		}
		status()
		time.Sleep(deploy.LeaseTTL + 2*time.Second) // it tries once more by itself when the lease is over
		w.visit(t, res)
		if got := len(w.said(t, res.SessionID)[deploy.LogException]); w.open() != 1 || got != before+2 {
			t.Errorf("%d streams, %d lines", w.open(), got)
		}
	})
}

// TestStreamsAreBounded: for more than so many Workers there is no room, and each one's
// log says so once.
func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.listening(t, nil, func(c *deploy.Config) { c.Logs.Streams = 1 })
		res := must(t, s, worker("throw x"))
		second := worker("throw y")
		second.Source.Name, second.SessionID = "second", res.SessionID
		must(t, s, second)
		for range 3 {
			if _, err := s.Status(t.Context(), me, deploy.StatusRequest{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if gaps := w.said(t, res.SessionID)[deploy.LogGap]; w.open() != 1 || len(gaps) != 1 || !strings.Contains(gaps[0], "1 Workers already") {
			t.Errorf("%d streams, %q", w.open(), gaps)
		}
	})
}

// TestSecretsStayOutOfLogs: values of secret bindings are not kept; and a process that
// does not know them does not listen.
func TestSecretsStayOutOfLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		with := func(c *deploy.Config) {
			c.Bundler = secretive{}
			c.Secrets = func(string) (string, bool) { return "very-secret-value", true }
		}
		s := w.listening(t, nil, with)
		res := must(t, s, worker("throw very-secret-value and given-by-the-agent and "+strings.Repeat("x", 1960)+"very-secret-value"))
		w.visit(t, res)
		_ = s.Close()
		later := w.listening(t, nil)
		if _, err := later.Status(t.Context(), me, deploy.StatusRequest{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.visit(t, res)
		all, _ := json.Marshal(w.store.logs)
		if strings.Contains(string(all), "very-s") || strings.Contains(string(all), "given-by") || !strings.Contains(string(all), "[redacted]") {
			t.Errorf("%s", all)
		}
		if gaps := w.said(t, res.SessionID)[deploy.LogGap]; w.open() != 0 || len(gaps) != 1 || !strings.Contains(gaps[0], "does not know the values") {
			t.Errorf("%d streams, %q", w.open(), gaps)
		}
	})
}

// TestListeningSurvivesAStoreThatFails: what can't be kept now is kept later.
func TestListeningSurvivesAStoreThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.listening(t, nil)
		res := must(t, s, worker("throw x"))
		w.visit(t, res)
		before := len(w.said(t, res.SessionID)[deploy.LogException])
		w.store.set(func(op string) error {
			if op == "KeepLogs" {
				return errors.New("the disk is full")
			}
			return nil
		})
		w.visit(t, res)
		w.store.set(nil)
		w.visit(t, res)
		if got := len(w.said(t, res.SessionID)[deploy.LogException]); got != before+2 {
			t.Errorf("%d lines, before %d", got, before)
		}
	})
}

// TestARefusedStreamIsNotAskedForAgain until the next touch: the Worker may be gone.
func TestARefusedStreamIsNotAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.listening(t, nil)
		res := must(t, s, worker("throw x"))
		w.visit(t, res)
		tries := 0
		w.set(func() {
			w.onTail = func(int) error { tries++; return deploy.Errorf(deploy.CodeAPIRefused, "No.", "no such Worker") }
		})
		w.cutOff()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if gaps := w.said(t, res.SessionID)[deploy.LogGap]; tries != 1 || len(gaps) != 2 {
			t.Errorf("%d tries, %q", tries, gaps)
		}
	})
}

// TestListeningGoesOnAfterAKill: the lease of a process that is gone runs out, and whoever
// deploys next listens without another touch.
func TestListeningGoesOnAfterAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		res := must(t, w.service(), worker("throw x"))
		account := w.store.allAccounts()[0].ID
		if _, err := w.store.AcquireLease(t.Context(), "logs "+account+" hello", deploy.LeaseTTL); err != nil {
			t.Fatal(err)
		}
		s := w.listening(t, nil)
		must(t, s, worker("throw y"))
		if w.open() != 0 {
			t.Error("two listen")
		}
		time.Sleep(deploy.LeaseTTL + 2*time.Second)
		w.visit(t, res)
		if w.open() != 1 || len(w.said(t, res.SessionID)[deploy.LogException]) != 1 {
			t.Errorf("%d streams, %q", w.open(), w.said(t, res.SessionID))
		}
	})
}

// TestListeningEndsByEitherClock: the API's own clock ends it as well, at once.
func TestListeningEndsByEitherClock(t *testing.T) {
	for _, clock := range []string{"ours", "the API's"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.ended = map[string]bool{}
			s := w.listening(t, nil)
			w.visit(t, must(t, s, worker("throw x")))
			w.set(func() {
				if clock == "ours" {
					w.localOffset = 2 * time.Hour
				} else {
					w.apiOffset = 2 * time.Hour
				}
			})
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			if w.open() != 0 || len(w.misused) != 0 {
				t.Errorf("by %s clock: %d streams, %v", clock, w.open(), w.misused)
			}
		})
	}
}
