package session_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// runOut ends a lease as time does, without waiting for it.
func runOut(t testing.TB, s *session.Store, name string) {
	t.Helper()
	change(t, s, "UPDATE leases SET until_at = 1 WHERE name = $1", name)
}

func lease(t testing.TB, s *session.Store, name string) *deploy.Lease {
	t.Helper()
	l, err := s.AcquireLease(t.Context(), name, time.Hour)
	must(t, err)
	return l
}

func someStep(id, sess string, kind deploy.StepKind) deploy.Step {
	return deploy.Step{ID: id, SessionID: sess, Principal: "me", Kind: kind, What: "notes-cache", BundleID: "b_1", Digest: "dd"}
}

func wantBusy(t testing.TB, err error) {
	t.Helper()
	wantCode(t, err, deploy.CodeBusy)
	if e, ok := errors.AsType[*deploy.Error](err); ok && e.RetryAfter <= 0 {
		t.Error("busy, without a time")
	}
}

// sameSteps leaves out what the store's clock says, which must stand there all the same.
func sameSteps(t testing.TB, s *session.Store, sess string, want ...deploy.Step) {
	t.Helper()
	got, err := s.Steps(t.Context(), sess)
	must(t, err)
	for _, v := range got {
		if v.BegunAt.IsZero() || v.SettledAt.IsZero() == v.State.Settled() {
			t.Errorf("%s %s: begun %v, settled %v", v.ID, v.State, v.BegunAt, v.SettledAt)
		}
	}
	if d := cmp.Diff(append([]deploy.Step{}, want...), got, cmpopts.IgnoreFields(deploy.Step{}, "BegunAt", "SettledAt")); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// ledgerSuite is deploy.Ledger's contract.
func ledgerSuite(t *testing.T, fresh func(t *testing.T) *session.Store) {
	t.Run("leases", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		l := lease(t, s, "sweeper")
		if left := time.Until(l.Until); l.Name != "sweeper" || l.Owner == "" || l.Fence < 1 || left < 50*time.Minute || left > 70*time.Minute {
			t.Errorf("%+v, %s left", l, left)
		}
		_, err := s.AcquireLease(ctx, "sweeper", time.Hour)
		wantBusy(t, err)
		other := lease(t, s, "another name")
		had := l.Until
		must(t, s.RenewLease(ctx, l, 2*time.Hour))
		if !l.Until.After(had.Add(50 * time.Minute)) {
			t.Errorf("renewed from %v to %v", had, l.Until)
		}
		must(t, s.RenewLease(ctx, l, time.Minute)) // never shortens
		if !l.Until.After(had.Add(50 * time.Minute)) {
			t.Errorf("renewed from %v to %v", had, l.Until)
		}
		runOut(t, s, "sweeper")
		must(t, s.RenewLease(ctx, l, time.Hour)) // nobody took it
		_, err = s.AcquireLease(ctx, "sweeper", time.Hour)
		wantBusy(t, err)
		runOut(t, s, "sweeper")
		next := lease(t, s, "sweeper")
		if next.Fence <= l.Fence || next.Owner == l.Owner {
			t.Errorf("%+v after %+v", next, l)
		}
		wantBusy(t, s.RenewLease(ctx, l, time.Hour))
		must(t, s.ReleaseLease(ctx, l)) // not held any more: no error, and nothing is taken from the other
		_, err = s.AcquireLease(ctx, "sweeper", time.Hour)
		wantBusy(t, err)
		must(t, s.ReleaseLease(ctx, next))
		must(t, s.ReleaseLease(ctx, next))
		wantBusy(t, s.RenewLease(ctx, next, time.Hour))
		if third := lease(t, s, "sweeper"); third.Fence <= next.Fence {
			t.Errorf("%+v after %+v", third, next)
		}
		must(t, s.ReleaseLease(ctx, other))
		for _, ttl := range []time.Duration{0, -time.Second} {
			_, err := s.AcquireLease(ctx, "short", ttl)
			wantCode(t, err, deploy.CodeStore)
		}
	})
	t.Run("one holder", func(t *testing.T) {
		s, ctx := fresh(t), t.Context()
		var mu sync.Mutex
		var wg sync.WaitGroup
		held, fences := 0, map[int64]bool{}
		for range 8 {
			wg.Go(func() {
				for got := 0; got < 3; {
					l, err := s.AcquireLease(ctx, "s_a", time.Hour)
					if deploy.IsCode(err, deploy.CodeBusy) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if held++; held != 1 || fences[l.Fence] {
						t.Errorf("%d hold it, fence %d", held, l.Fence)
					}
					fences[l.Fence] = true
					mu.Unlock()
					got++
					mu.Lock()
					held--
					mu.Unlock()
					if err := s.ReleaseLease(ctx, l); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
	t.Run("steps", func(t *testing.T) { steps(t, fresh(t)) })
	t.Run("what a step brings", func(t *testing.T) { settlements(t, fresh(t)) })
	t.Run("limits", func(t *testing.T) { limits(t, fresh) })
	t.Run("abandoned", func(t *testing.T) { abandoned(t, fresh(t)) })
	t.Run("usage", func(t *testing.T) { usage(t, fresh(t)) })
}

func steps(t *testing.T, s *session.Store) {
	ctx := t.Context()
	must(t, s.SaveSession(ctx, someSession("s_a", "me", 1)))
	must(t, s.SaveSession(ctx, someSession("s_b", "me", 1)))
	l := lease(t, s, "s_a")
	one, two := someStep("st_2", "s_a", deploy.StepCreateResource), someStep("st_1", "s_a", deploy.StepUploadScript)
	must(t, s.BeginStep(ctx, l, one))
	must(t, s.BeginStep(ctx, l, two))
	one.State, two.State, one.Fence, two.Fence = deploy.StepOpen, deploy.StepOpen, l.Fence, l.Fence
	sameSteps(t, s, "s_a", one, two)
	sameSteps(t, s, "s_b")
	if err := s.BeginStep(ctx, l, one); err == nil {
		t.Error("a step was begun twice")
	}
	if err := s.BeginStep(ctx, l, someStep("st_3", "s_b", deploy.StepDelete)); err == nil {
		t.Error("a step was begun under another session's lease")
	}
	wantCode(t, s.BeginStep(ctx, lease(t, s, "s_forgotten"), someStep("st_3", "s_forgotten", deploy.StepDelete)), deploy.CodeSessionNotFound)
	if err := s.Settle(ctx, l, deploy.Settlement{StepID: "st_2", State: deploy.StepOpen}); err == nil {
		t.Error("settled as open")
	}
	if err := s.Settle(ctx, l, deploy.Settlement{StepID: "st_9", State: deploy.StepDone}); err == nil {
		t.Error("an unknown step was settled")
	}
	must(t, s.Settle(ctx, l, deploy.Settlement{StepID: "st_2", State: deploy.StepUnknown, Ref: "maybe"}))
	one.State, one.Ref = deploy.StepUnknown, "maybe"
	sameSteps(t, s, "s_a", one, two)
	done := deploy.Settlement{StepID: "st_2", State: deploy.StepDone, Ref: "kv1", Note: "a\x00note"}
	must(t, s.Settle(ctx, l, done))
	must(t, s.Settle(ctx, l, done)) // its answer was lost
	one.State, one.Ref, one.Note = deploy.StepDone, "kv1", "a\uFFFDnote"
	sameSteps(t, s, "s_a", one, two)
	wantBusy(t, s.Settle(ctx, l, deploy.Settlement{StepID: "st_2", State: deploy.StepLost}))

	// Its lease runs out: nothing is begun under it, but it may say what it knows, until
	// another takes it.
	runOut(t, s, "s_a")
	wantBusy(t, s.BeginStep(ctx, l, someStep("st_4", "s_a", deploy.StepDelete)))
	must(t, s.Settle(ctx, l, deploy.Settlement{StepID: "st_1", State: deploy.StepUnknown}))
	next := lease(t, s, "s_a")
	wantBusy(t, s.Settle(ctx, l, deploy.Settlement{StepID: "st_1", State: deploy.StepDone}))
	wantBusy(t, s.BeginStep(ctx, l, someStep("st_4", "s_a", deploy.StepDelete)))
	b := lease(t, s, "s_b")
	if err := s.Settle(ctx, b, deploy.Settlement{StepID: "st_1", State: deploy.StepDone}); err == nil {
		t.Error("settled under another session's lease")
	}
	two.State = deploy.StepUnknown
	sameSteps(t, s, "s_a", one, two)
	must(t, s.Settle(ctx, next, deploy.Settlement{StepID: "st_1", State: deploy.StepLost, Note: "gone"}))
	wantBusy(t, s.Settle(ctx, next, deploy.Settlement{StepID: "st_2", State: deploy.StepDone, Ref: "kv1"})) // the older one's
	two.State, two.Note = deploy.StepLost, "gone"
	sameSteps(t, s, "s_a", one, two)
	must(t, s.ReleaseLease(ctx, next))
	wantBusy(t, s.Settle(ctx, next, deploy.Settlement{StepID: "st_1", State: deploy.StepLost}))
}

func settlements(t *testing.T, s *session.Store) {
	ctx := t.Context()
	must(t, s.SaveSession(ctx, someSession("s_a", "me", 1)))
	must(t, s.SaveSession(ctx, someSession("s_b", "me", 1)))
	l := lease(t, s, "s_a")
	old := someAccount("old", "s_a")
	must(t, s.SaveAccount(ctx, old))
	must(t, s.BeginStep(ctx, l, someStep("st_1", "s_a", deploy.StepCreateAccount)))
	fresh := someAccount("new", "s_a")
	retired := old
	retired.State, retired.Token, retired.ClaimURL = deploy.AccountRetired, "", ""
	for name, st := range map[string]deploy.Settlement{
		"an account":    {StepID: "st_1", State: deploy.StepDone, Account: new(someAccount("x", "s_b"))},
		"a deployment":  {StepID: "st_1", State: deploy.StepDone, Account: &fresh, Deployment: &deploy.Deployment{ID: "d", SessionID: "s_b"}},
		"a strange one": {StepID: "st_1", State: deploy.StepDone, Account: &fresh, Deployment: &deploy.Deployment{ID: "d", SessionID: "s_a", Worker: "\x00"}},
	} {
		if err := s.Settle(ctx, l, st); err == nil {
			t.Errorf("%s of another session", name)
		}
		got, err := s.Accounts(ctx, "s_a")
		must(t, err)
		same(t, got, []deploy.Account{old}) // all or nothing
	}
	must(t, s.Settle(ctx, l, deploy.Settlement{StepID: "st_1", State: deploy.StepDone, Ref: "new", Account: &fresh}))
	got, err := s.Accounts(ctx, "s_a")
	must(t, err)
	same(t, got, []deploy.Account{fresh, retired})
	step := someStep("st_1", "s_a", deploy.StepCreateAccount)
	step.State, step.Ref, step.AccountID, step.Fence = deploy.StepDone, "new", "new", l.Fence
	sameSteps(t, s, "s_a", step)

	up := someStep("st_2", "s_a", deploy.StepUploadScript)
	up.AccountID = "new"
	must(t, s.BeginStep(ctx, l, up))
	d := deploy.Deployment{ID: "d_1", SessionID: "s_a", AccountID: "new", Worker: "w", VersionID: "v", BundleID: "b_1", Digest: "dd", CreatedAt: at(5), Serving: deploy.ServingNotYet}
	must(t, s.Settle(ctx, l, deploy.Settlement{StepID: "st_2", State: deploy.StepDone, Ref: "v", Deployment: &d}))
	deps, err := s.Deployments(ctx, "s_a")
	must(t, err)
	same(t, deps, []deploy.Deployment{d})
	up.State, up.Ref, up.Fence = deploy.StepDone, "v", l.Fence
	sameSteps(t, s, "s_a", step, up)
}

// limitLive counts accounts in use and those that are being made, but not the step's own session's.
func limitLive(t *testing.T, s *session.Store) {
	ctx := t.Context()
	for _, id := range []string{"s_a", "s_b", "s_c"} {
		must(t, s.SaveSession(ctx, someSession(id, "me", 1)))
	}
	must(t, s.SaveSession(ctx, someSession("s_you", "you", 1)))
	mine := deploy.StepLimit{Principal: "me", Kind: deploy.StepCreateAccount, Most: 2, Window: time.Minute, Live: true}
	all := deploy.StepLimit{Kind: deploy.StepCreateAccount, Most: 3, Window: time.Minute, Live: true}
	a := lease(t, s, "s_a")
	must(t, s.BeginStep(ctx, a, someStep("1", "s_a", deploy.StepCreateAccount), mine, all))
	must(t, s.Room(ctx, "s_b", mine, all))
	acct := someAccount("acct_a", "s_a")
	acct.ExpiresAt = time.Now().Add(50 * time.Minute)
	must(t, s.Settle(ctx, a, deploy.Settlement{StepID: "1", State: deploy.StepDone, Ref: "acct_a", Account: &acct})) // counted once
	b := lease(t, s, "s_b")
	must(t, s.BeginStep(ctx, b, someStep("2", "s_b", deploy.StepCreateAccount), mine, all))
	for name, err := range map[string]error{
		"a word beforehand": s.Room(ctx, "s_c", mine, all),
		"a new session":     s.Room(ctx, "", mine, all),
		"the step":          s.BeginStep(ctx, lease(t, s, "s_c"), someStep("3", "s_c", deploy.StepCreateAccount), mine, all),
	} {
		wantCode(t, err, deploy.CodeRateLimited)
		if e := deploy.AsError(err); !strings.Contains(e.Message, "2 of 2 live sessions are used up") || e.RetryAfter <= 0 || e.RetryAfter > time.Hour {
			t.Errorf("%s: %s, again in %s", name, e.Message, e.RetryAfter)
		}
	}
	must(t, s.Room(ctx, "s_a", mine, all)) // in the place of its own
	you := lease(t, s, "s_you")
	mine.Principal = "you"
	must(t, s.BeginStep(ctx, you, someStep("4", "s_you", deploy.StepCreateAccount), mine, all))
	err := s.Room(ctx, "", mine, all)
	wantCode(t, err, deploy.CodeRateLimited)
	if !strings.Contains(err.Error(), "3 of 3 live sessions of all callers together") {
		t.Error(err)
	}
	// A step that was left open long ago, and an account that is over, are no live sessions.
	change(t, s, "UPDATE steps SET begun_at = begun_at - 60001 WHERE id = '2'")
	change(t, s, "UPDATE accounts SET expires_at = 1")
	must(t, s.Room(ctx, "", mine, all))
}

func limits(t *testing.T, open func(t *testing.T) *session.Store) {
	s, ctx := open(t), t.Context()
	for _, id := range []string{"s_a", "s_b"} {
		must(t, s.SaveSession(ctx, someSession(id, "me", 1)))
	}
	a, b := lease(t, s, "s_a"), lease(t, s, "s_b")
	mine := deploy.StepLimit{Principal: "me", Kind: deploy.StepCreateAccount, Most: 2, Window: time.Hour}
	all := deploy.StepLimit{Kind: deploy.StepCreateAccount, Most: 3, Window: time.Hour}
	begin := func(l *deploy.Lease, id, who string, kind deploy.StepKind) error {
		v := someStep(id, l.Name, kind)
		v.Principal = who
		return s.BeginStep(ctx, l, v, mine, all)
	}
	refused := func(err error) {
		t.Helper()
		wantCode(t, err, deploy.CodeRateLimited)
		if e := deploy.AsError(err); e.RetryAfter <= 55*time.Minute || e.RetryAfter > time.Hour {
			t.Errorf("again in %s", e.RetryAfter)
		}
	}
	must(t, begin(a, "1", "me", deploy.StepCreateAccount))
	must(t, begin(a, "2", "me", deploy.StepCreateAccount))
	refused(begin(b, "3", "me", deploy.StepCreateAccount))
	must(t, begin(a, "4", "me", deploy.StepUploadScript)) // another kind
	limit := mine
	mine.Principal = "you"
	must(t, begin(b, "5", "you", deploy.StepCreateAccount))
	refused(begin(b, "6", "you", deploy.StepCreateAccount)) // everybody's
	mine = limit
	none := deploy.StepLimit{Kind: deploy.StepDelete, Most: 0, Window: time.Minute}
	wantCode(t, s.BeginStep(ctx, a, someStep("7", "s_a", deploy.StepDelete), none), deploy.CodeRateLimited)
	got, err := s.Steps(ctx, "s_a")
	must(t, err)
	if len(got) != 3 {
		t.Errorf("%d steps: a refused one was written down", len(got))
	}
	// What left the window counts no more.
	change(t, s, "UPDATE steps SET begun_at = begun_at - 3600000 WHERE id = '1'")
	must(t, begin(a, "8", "me", deploy.StepCreateAccount))
	refused(begin(a, "9", "me", deploy.StepCreateAccount))

	t.Run("live", func(t *testing.T) { limitLive(t, open(t)) })
	t.Run("at once", func(t *testing.T) {
		s := open(t)
		var wg sync.WaitGroup
		var mu sync.Mutex
		begun := 0
		for i := range 12 {
			id := fmt.Sprintf("s_%d", i)
			must(t, s.SaveSession(ctx, someSession(id, "me", 1)))
			l := lease(t, s, id)
			wg.Go(func() {
				err := s.BeginStep(ctx, l, someStep(id, id, deploy.StepCreateAccount), deploy.StepLimit{Kind: deploy.StepCreateAccount, Most: 5, Window: time.Hour})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					begun++
				} else if !deploy.IsCode(err, deploy.CodeRateLimited) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if begun != 5 {
			t.Errorf("%d of at most 5 were begun", begun)
		}
	})
}

func abandoned(t *testing.T, s *session.Store) {
	ctx := t.Context()
	ids := func(when int64, limit int) string {
		t.Helper()
		got, err := s.Abandoned(ctx, at(when), limit)
		must(t, err)
		var all []string
		for _, v := range got {
			all = append(all, v.ID)
		}
		return strings.Join(all, " ")
	}
	is := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, id := range []string{"s_a", "s_b", "s_c", "s_d"} {
		must(t, s.SaveSession(ctx, someSession(id, "me", 1)))
	}
	a, b := lease(t, s, "s_a"), lease(t, s, "s_b")
	must(t, s.BeginStep(ctx, a, someStep("1", "s_a", deploy.StepUploadScript)))
	must(t, s.BeginStep(ctx, b, someStep("2", "s_b", deploy.StepUploadScript)))
	c := someAccount("c", "s_c") // until 3600
	c.Skew = 0
	must(t, s.SaveAccount(ctx, c))
	is(ids(3600, 10), "")
	is(ids(3601, 10), "s_c")
	runOut(t, s, "s_b")
	is(ids(3600, 10), "s_b")
	must(t, s.ReleaseLease(ctx, a))
	is(ids(3601, 10), "s_c s_b s_a") // never held, held until 1 ms after the epoch, held until now
	is(ids(3601, 2), "s_c s_b")
	again := lease(t, s, "s_b")
	must(t, s.Settle(ctx, again, deploy.Settlement{StepID: "2", State: deploy.StepUnknown}))
	is(ids(0, 10), "s_a")
	runOut(t, s, "s_b")
	is(ids(0, 10), "s_b s_a")
	must(t, s.Settle(ctx, again, deploy.Settlement{StepID: "2", State: deploy.StepFailed}))
	is(ids(0, 10), "s_a")
	c.Skew = 2 * time.Hour // our clock was behind, and the account ends before it says 3600
	must(t, s.SaveAccount(ctx, c))
	is(ids(3600-2*3600, 10), "s_a")
	is(ids(3601-2*3600, 10), "s_c s_a") // never held comes first
	c.State = deploy.AccountClaimed
	must(t, s.SaveAccount(ctx, c))
	is(ids(9999, 10), "s_c s_a") // its claim link is to be wiped
	c.Token, c.ClaimURL = "", ""
	must(t, s.SaveAccount(ctx, c))
	is(ids(9999, 10), "s_a")
}

func usage(t *testing.T, s *session.Store) {
	ctx := t.Context()
	must(t, s.SaveSession(ctx, someSession("s_a", "me", 1)))
	must(t, s.SaveSession(ctx, someSession("s_b", "you", 1)))
	now := time.Now()
	for i, c := range []struct {
		sess  string
		made  time.Duration // before now, by our clock
		lives time.Duration
	}{{"s_a", 3 * time.Hour, -2 * time.Hour}, {"s_a", 30 * time.Minute, 30 * time.Minute}, {"s_b", 2 * time.Hour, -time.Hour}} {
		a := someAccount(fmt.Sprint(i), c.sess)
		a.Skew = 5 * time.Hour // the API's clock is far off
		a.CreatedAt, a.ExpiresAt = now.Add(a.Skew-c.made), now.Add(a.Skew+c.lives)
		must(t, s.SaveAccount(ctx, a))
		must(t, s.SaveDeployment(ctx, deploy.Deployment{ID: fmt.Sprint(i), SessionID: c.sess, CreatedAt: now.Add(-c.made)}))
	}
	for _, c := range []struct {
		who  string
		ago  time.Duration
		want deploy.Usage
	}{
		{"me", time.Hour, deploy.Usage{Accounts: 1, Deployments: 1, LiveSessions: 1, AllAccounts: 1, AllDeployments: 1, AllLiveSessions: 1}},
		{"me", 24 * time.Hour, deploy.Usage{Accounts: 2, Deployments: 2, LiveSessions: 1, AllAccounts: 3, AllDeployments: 3, AllLiveSessions: 1}},
		{"you", 24 * time.Hour, deploy.Usage{Accounts: 1, Deployments: 1, AllAccounts: 3, AllDeployments: 3, AllLiveSessions: 1}},
		{"nobody", time.Minute, deploy.Usage{AllLiveSessions: 1}},
	} {
		got, err := s.Usage(ctx, c.who, now.Add(-c.ago))
		must(t, err)
		same(t, got, c.want)
	}
}
