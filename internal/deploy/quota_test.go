package deploy_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// limited makes a Service with limits.
func (w *world) limited(l deploy.CallLimits) *deploy.Service {
	return w.service(func(c *deploy.Config) { c.Limits = l })
}

// as is a caller of another principal.
func as(principal string) deploy.Caller {
	c := me
	c.Principal = principal
	return c
}

// run is a deployment to a session of its own.
func run(n int) deploy.DeployRequest {
	req := worker(fmt.Sprintf("200 run %d", n))
	req.RunID = fmt.Sprintf("run-%d", n)
	return req
}

// TestDeploymentsAnHour: over the limit nothing is spent, the refusal says what was used
// and when there is room, and then there is. Another principal has its own share, and all
// together have theirs, also across Services on one store.
func TestDeploymentsAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		limits := deploy.CallLimits{Deployments: 2, DeploymentsInAll: 3}
		s, other := w.limited(limits), w.limited(limits)
		must(t, s, worker("200 one"))
		time.Sleep(10 * time.Minute)
		must(t, other, worker("200 two"))
		made := len(w.accounts)
		for _, svc := range []*deploy.Service{s, other} {
			_, err := svc.Deploy(t.Context(), me, worker("200 three"))
			e := refused(t, err, deploy.CodeRateLimited)
			if !strings.Contains(e.Message, "2 of 2 deployments this hour") || e.RetryAfter < 49*time.Minute || e.RetryAfter > 50*time.Minute {
				t.Errorf("%s, again in %s", e.Message, e.RetryAfter)
			}
		}
		if _, err := s.Deploy(t.Context(), as("you"), worker("200 yours")); err != nil {
			t.Errorf("another pays for it: %v", err)
		}
		_, err := other.Deploy(t.Context(), as("they"), worker("200 theirs"))
		if e := refused(t, err, deploy.CodeRateLimited); !strings.Contains(e.Message, "3 of 3 deployments this hour of all callers together") {
			t.Error(e.Message)
		}
		if len(w.accounts) != made+1 {
			t.Errorf("%d accounts, want %d", len(w.accounts), made+1)
		}
		time.Sleep(51 * time.Minute)
		must(t, s, worker("200 three"))
	})
}

// TestLiveSessions: a caller holds so many accounts at once and no more, also when all are
// asked for at the same moment; a fresh account in the place of another is none more.
func TestLiveSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.limited(deploy.CallLimits{LiveSessions: 3})
		var mu sync.Mutex
		var wg sync.WaitGroup
		live, over := 0, 0
		for n := range 12 {
			wg.Go(func() {
				_, err := s.Deploy(t.Context(), me, run(n))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					live++
				case deploy.IsCode(err, deploy.CodeRateLimited) && strings.Contains(err.Error(), "3 of 3 live sessions"):
					over++
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if live != 3 || over != 9 || len(w.accounts) != 3 {
			t.Errorf("%d live, %d refused, %d accounts", live, over, len(w.accounts))
		}
		list, err := s.Status(t.Context(), me, deploy.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, sess := range list.Sessions {
			if sess.Account == "" {
				continue
			}
			again := worker("200 again")
			again.SessionID = sess.SessionID
			must(t, s, again) // into what is live
			again.Fresh = true
			must(t, s, again) // in its place
			break
		}
		if _, err := s.Deploy(t.Context(), as("you"), run(1)); err != nil {
			t.Errorf("another pays for it: %v", err)
		}
	})
}

// slowBundler counts how many bundles are made at once, and waits until it is let go.
type slowBundler struct {
	bundler
	letGo chan struct{}
	mu    sync.Mutex
	order []string
	now   int
	most  int
}

func (b *slowBundler) Bundle(ctx context.Context, src deploy.Source) (*deploy.Artifact, error) {
	b.mu.Lock()
	b.order = append(b.order, src.Name)
	b.now++
	b.most = max(b.most, b.now)
	b.mu.Unlock()
	<-b.letGo
	b.mu.Lock()
	b.now--
	b.mu.Unlock()
	return b.bundler.Bundle(ctx, src)
}

// TestGreedyAgent: who asks for a hundred bundles waits behind itself: one that comes after
// is next, and at no time are more made than may be.
func TestGreedyAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := &slowBundler{letGo: make(chan struct{})}
		s := w.service(func(c *deploy.Config) {
			c.Bundler, c.Limits = b, deploy.CallLimits{Bundles: 2, BundlesInAll: 3}
		})
		var wg sync.WaitGroup
		ask := func(who string) {
			wg.Go(func() {
				src := source("200 " + who)
				src.Name = who
				if _, err := s.Bundle(t.Context(), as(who), src); err != nil {
					t.Errorf("%s: %v", who, err)
				}
			})
		}
		for range 100 {
			ask("greedy")
		}
		synctest.Wait()
		ask("modest")
		ask("modest2")
		synctest.Wait()
		if working, waiting := s.BundleQueue(); working != 3 || waiting != 99 {
			t.Errorf("%d work, %d wait", working, waiting)
		}
		for range 2 {
			b.letGo <- struct{}{}
			synctest.Wait()
		}
		b.mu.Lock()
		if first := strings.Join(b.order[:4], " "); !strings.Contains(first, "modest") || !strings.Contains(strings.Join(b.order[:6], " "), "modest2") {
			t.Errorf("the order is %q", b.order)
		}
		b.mu.Unlock()
		close(b.letGo)
		wg.Wait()
		if b.most != 3 || len(b.order) != 102 {
			t.Errorf("%d at once, %d made", b.most, len(b.order))
		}
	})
}

// TestBytesAnHour: bytes are counted as they come, a refused call uses none, one that can
// never fit is told so, and an hour later all are there again.
func TestBytesAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.limited(deploy.CallLimits{SourceBytes: 100, SourceBytesInAll: 150})
		send := func(who string, n int) error {
			_, err := s.Bundle(t.Context(), as(who), source("200 "+strings.Repeat("x", n-4)))
			return err
		}
		if err := send("me", 60); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Minute)
		e := refused(t, send("me", 50), deploy.CodeRateLimited)
		if !strings.Contains(e.Message, "60 of 100 bytes") || e.RetryAfter <= 39*time.Minute || e.RetryAfter > 41*time.Minute {
			t.Errorf("%s, again in %s", e.Message, e.RetryAfter)
		}
		if e := refused(t, send("me", 101), deploy.CodeRateLimited); e.RetryAfter != 0 || !strings.Contains(e.Next, "Send less") {
			t.Errorf("%s %s", e.RetryAfter, e.Next)
		}
		if err := send("me", 40); err != nil {
			t.Errorf("what fits: %v", err)
		}
		if e := refused(t, send("you", 60), deploy.CodeRateLimited); !strings.Contains(e.Message, "all callers") {
			t.Error(e.Message)
		}
		time.Sleep(41 * time.Minute)
		if err := send("me", 60); err != nil {
			t.Errorf("an hour later: %v", err)
		}
	})
}
