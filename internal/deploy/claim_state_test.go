package deploy_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func (w *world) claim() deploy.Claim {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	return w.store.claims[len(w.store.claims)-1]
}

var ann = deploy.Human{Name: "ann", Channel: deploy.ChannelConsole, Owner: "ann", Browser: "chrome"}

// What was asked can be taken back, while nobody has decided; then it can be deployed to
// again.
func TestAnAskingIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		token, _ := asked(t, w, s)
		if len(g.notices) != 1 || g.notices[0].Type != deploy.NoticeClaimWaiting {
			t.Errorf("%+v", g.notices)
		}
		g.forget()
		res, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{Withdraw: true})
		if err != nil || res.Claim != deploy.ClaimWithdrawn || res.PageURL != "" {
			t.Fatalf("%+v, %v", res, err)
		}
		g.tells(t, "claim decision withdrawn", "claim outcome ok")
		if len(g.notices) != 1 || g.notices[0].Type != deploy.NoticeClaimDecided {
			t.Errorf("%+v", g.notices)
		}
		_, err = s.DecideClaim(t.Context(), token, true, "chrome")
		refused(t, err, deploy.CodeSessionClosed)
		if again := must(t, s, worker("200 changed")); again.Account != deploy.AccountReused {
			t.Errorf("%+v", again)
		}
		_, err = s.RequestClaim(t.Context(), me, deploy.ClaimRequest{Withdraw: true})
		refused(t, err, deploy.CodeNothingToClaim)
		token, _ = claimOf(t, w, s)
		if _, err = s.DecideClaim(t.Context(), token, true, "chrome"); err != nil {
			t.Fatal(err)
		}
		_, err = s.RequestClaim(t.Context(), me, deploy.ClaimRequest{Withdraw: true})
		refused(t, err, deploy.CodeNothingToClaim)
		if w.claim().State != deploy.ClaimApproved {
			t.Errorf("an approval was undone: %s", w.claim().State)
		}
	})
}

// Who decided, by which channel, and what a human says came of it.
func TestAClaimToItsEnd(t *testing.T) {
	for _, did := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w, g := newWorld(t), &guards{}
			s := w.guarded(g)
			asked(t, w, s)
			id := w.claim().ID
			if err := s.Opened(t.Context(), id, "ann"); err != nil || w.claim().State != deploy.ClaimAwaiting {
				t.Errorf("opened before a yes: %s, %v", w.claim().State, err)
			}
			refused(t, s.Adopted(t.Context(), id, true, ann), deploy.CodeClaimPending)
			g.forget()
			view, err := s.DecideClaimBy(t.Context(), id, true, ann)
			if err != nil || view.State != deploy.ClaimApproved {
				t.Fatalf("%+v, %v", view, err)
			}
			for range 2 {
				if err := s.Opened(t.Context(), id, "ann"); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Adopted(t.Context(), id, did, ann); err != nil {
				t.Fatal(err)
			}
			end := "adopted"
			if !did {
				end = "lapsed"
			}
			// Who said "not" too early can still go on while the link lives.
			if link, err := s.ClaimLinkByID(t.Context(), id, ""); !did && !deploy.IsCode(err, deploy.CodeSessionClosed) {
				t.Errorf("the way on: %v, %v", link, err) // refused for the browser alone, which this yes had none of
			}
			g.tells(t, "claim decision approved", "claim outcome ok", "claim decision opened", "claim outcome ok", "claim decision "+end, "claim outcome ok")
			c := w.claim()
			if string(c.State) != end || c.DecidedBy != "ann" || c.Channel != deploy.ChannelConsole || !strings.Contains(c.Evidence, "a human says") {
				t.Errorf("%+v", c)
			}
			if e := g.events[0]; e.Data["by"] != "ann" || e.Data["channel"] != deploy.ChannelConsole || e.Digest != c.Digest || e.ClaimID != id || e.Principal != "me" {
				t.Errorf("%+v", e)
			}
		})
	}
}

// A yes counts by the channels that the operator names, and by another than whose agent
// asked.
func TestWhoMayApprove(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*deploy.Config)
		who  deploy.Human
		yes  bool
		code deploy.Code // "": it counts
	}{
		"the owner, by four eyes":      {func(cfg *deploy.Config) { cfg.FourEyes = true }, deploy.Human{Owner: "olaf"}, true, deploy.CodePolicyDenied},
		"nobody known, by four eyes":   {func(cfg *deploy.Config) { cfg.FourEyes = true }, deploy.Human{Name: "x"}, true, deploy.CodePolicyDenied},
		"another, by four eyes":        {func(cfg *deploy.Config) { cfg.FourEyes = true }, deploy.Human{Owner: "ann"}, true, ""},
		"the owner's no, by four eyes": {func(cfg *deploy.Config) { cfg.FourEyes = true }, deploy.Human{Owner: "olaf"}, false, ""},
		"another channel":              {func(cfg *deploy.Config) { cfg.Channels = []string{deploy.ChannelConsole} }, deploy.Human{Channel: deploy.ChannelPage}, true, deploy.CodeNoApproval},
		"the channel":                  {func(cfg *deploy.Config) { cfg.Channels = []string{deploy.ChannelConsole} }, deploy.Human{Channel: deploy.ChannelConsole}, true, ""},
		"no channel at all":            {func(cfg *deploy.Config) { cfg.Channels = []string{} }, deploy.Human{Channel: deploy.ChannelConsole}, true, deploy.CodeNoApproval},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				s := w.service(c.set)
				agent := me
				agent.Labels = map[string]string{"owner": "olaf"}
				if _, err := s.Deploy(t.Context(), agent, worker("200 x")); err != nil {
					t.Fatal(err)
				}
				claimOf(t, w, s)
				_, err := s.DecideClaimBy(t.Context(), w.claim().ID, c.yes, c.who)
				if c.code != "" {
					refused(t, err, c.code)
					if w.claim().State != deploy.ClaimAwaiting || w.store.allAccounts()[0].State != deploy.AccountCurrent {
						t.Errorf("%+v", w.claim())
					}
				} else if err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A yes counts for exactly what was asked about.
func TestAYesToSomethingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		token, _ := asked(t, w, s)
		w.store.mu.Lock() // as a process that crashed in the middle leaves it
		w.store.deps[0].Digest = strings.Repeat("f", 64)
		w.store.mu.Unlock()
		_, err := s.DecideClaim(t.Context(), token, true, "chrome")
		refused(t, err, deploy.CodeSessionClosed)
		if w.claim().State != deploy.ClaimAwaiting || w.store.allAccounts()[0].State != deploy.AccountCurrent {
			t.Errorf("it counted: %+v", w.claim())
		}
		if _, err := s.DecideClaim(t.Context(), token, false, "chrome"); err != nil {
			t.Errorf("a no: %v", err)
		}
	})
}

// Two humans who decide at once, on two replicas: one counts.
func TestTwoDecideAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		a, b := w.guarded(g), w.guarded(g)
		asked(t, w, a)
		g.forget()
		id := w.claim().ID
		var counted atomic.Int32
		var wg sync.WaitGroup
		for i := range 8 {
			s, yes := a, i%2 == 0
			if i > 3 {
				s = b
			}
			wg.Go(func() {
				_, err := s.DecideClaimBy(t.Context(), id, yes, ann)
				if err == nil {
					counted.Add(1)
				} else if !deploy.IsCode(err, deploy.CodeSessionClosed) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if counted.Load() != 1 || len(g.events) != 2 || len(g.notices) != 1 {
			t.Errorf("%d counted, %d on record, %d told", counted.Load(), len(g.events), len(g.notices))
		}
	})
}

// What became of a claim after the hour is told from outside, with no token: what serves
// well after it was adopted, probably; what can't be reached is looked at again.
func TestClaimsAreSettledBySweeping(t *testing.T) {
	for name, c := range map[string]struct {
		yes, serves, deaf bool
		after             time.Duration
		want              deploy.ClaimState
		evidence          string
	}{
		"nobody answered":        {after: 70 * time.Minute, want: deploy.ClaimLapsed, evidence: "nobody decided"},
		"before the end":         {after: 30 * time.Minute, want: deploy.ClaimAwaiting},
		"approved, right after":  {yes: true, serves: true, after: 62 * time.Minute, want: deploy.ClaimApproved},
		"approved, and serves":   {yes: true, serves: true, after: 70 * time.Minute, want: deploy.ClaimProbablyAdopted, evidence: "answered HTTP 200"},
		"approved, and gone":     {yes: true, after: 70 * time.Minute, want: deploy.ClaimLapsed, evidence: "nothing of it served"},
		"approved, no answer":    {yes: true, deaf: true, after: 70 * time.Minute, want: deploy.ClaimApproved},
		"no answer for a day on": {yes: true, deaf: true, after: 26 * time.Hour, want: deploy.ClaimLapsed, evidence: "could be reached from here"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, g := newWorld(t), &guards{}
				s := w.guarded(g)
				token, _ := asked(t, w, s)
				if c.yes {
					if _, err := s.DecideClaim(t.Context(), token, true, "chrome"); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(c.after)
				w.set(func() {
					if !c.serves {
						clear(w.accounts)
					}
					if c.deaf {
						w.onFetch = func(int) error { return deploy.Errorf(deploy.CodeAPIUnreachable, "Later.", "no answer") }
					}
					w.ended = map[string]bool{}
				})
				g.forget()
				for range 2 {
					if err := s.Sweep(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				got := w.claim()
				if got.State != c.want || !strings.Contains(got.Evidence, c.evidence) {
					t.Errorf("%s (%s), want %s", got.State, got.Evidence, c.want)
				}
				if told := slices.Contains(g.story(), "claim decision "+string(c.want)); told != (c.evidence != "") {
					t.Errorf("on record: %v", g.story())
				}
				if len(w.misused) != 0 {
					t.Errorf("a token was used to look: %v", w.misused)
				}
			})
		})
	}
}

// No record, no move: what a human, an agent or time does to a claim is on record before
// it is done. What was done is done, also where its outcome can't be recorded.
func TestNoRecordNoMove(t *testing.T) {
	full := func(phase deploy.EventPhase) func(deploy.Event) error {
		return func(e deploy.Event) error {
			if e.Act == deploy.ActMoveClaim && e.Phase == phase {
				return errors.New("the disk is full")
			}
			return nil
		}
	}
	moves := map[string]struct {
		after time.Duration
		do    func(t *testing.T, s *deploy.Service, id string) (told bool, err error)
		to    deploy.ClaimState
	}{
		"approve": {0, func(t *testing.T, s *deploy.Service, id string) (bool, error) {
			_, err := s.DecideClaimBy(t.Context(), id, true, ann)
			return false, err
		}, deploy.ClaimApproved},
		"refuse": {0, func(t *testing.T, s *deploy.Service, id string) (bool, error) {
			_, err := s.DecideClaimBy(t.Context(), id, false, ann)
			return false, err
		}, deploy.ClaimRefused},
		"withdraw": {0, func(t *testing.T, s *deploy.Service, _ string) (bool, error) {
			res, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{Withdraw: true})
			return err == nil && len(res.Warnings) == 1 && strings.Contains(res.Warnings[0], "put on record"), err
		}, deploy.ClaimWithdrawn},
		"taken down": {0, func(t *testing.T, s *deploy.Service, _ string) (bool, error) {
			res, err := s.Teardown(t.Context(), me, deploy.TeardownRequest{})
			return err == nil && len(res.Warnings) == 1 && strings.Contains(res.Warnings[0], "put on record"), err
		}, deploy.ClaimWithdrawn},
		"time": {70 * time.Minute, func(t *testing.T, s *deploy.Service, _ string) (bool, error) {
			return false, s.Sweep(t.Context())
		}, deploy.ClaimLapsed},
	}
	for name, c := range moves {
		for _, phase := range []deploy.EventPhase{deploy.PhaseDecision, deploy.PhaseOutcome} {
			t.Run(name+" "+string(phase), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, g := newWorld(t), &guards{}
					s := w.guarded(g)
					asked(t, w, s)
					id := w.claim().ID
					time.Sleep(c.after)
					g.mu.Lock()
					g.events, g.notices, g.fail = nil, nil, full(phase)
					g.mu.Unlock()
					told, err := c.do(t, s, id)
					if !told && !deploy.IsCode(err, deploy.CodeStore) {
						t.Errorf("nobody is told that it is not on record: %v", err)
					}
					want := deploy.ClaimAwaiting
					if phase == deploy.PhaseOutcome {
						want = c.to
					}
					if got := w.claim().State; got != want {
						t.Errorf("it is %s, want %s", got, want)
					}
					if moved := len(g.notices) == 1; moved != (phase == deploy.PhaseOutcome) {
						t.Errorf("told elsewhere: %+v", g.notices)
					}
					if handed := w.store.allAccounts()[0].State == deploy.AccountClaimed; handed != (want == deploy.ClaimApproved) {
						t.Errorf("handed over: %v", handed)
					}
				})
			})
		}
	}
}

// One that comes second leaves a record that says so.
func TestAMoveThatComesSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		asked(t, w, s)
		g.forget()
		id := w.claim().ID
		g.fail = func(e deploy.Event) error { // somebody else is first, right before
			if e.Act == deploy.ActMoveClaim && e.Phase == deploy.PhaseDecision {
				_, err := w.store.MoveClaim(t.Context(), deploy.ClaimMove{ID: id, From: deploy.ClaimAwaiting, To: deploy.ClaimRefused})
				return err
			}
			return nil
		}
		_, err := s.DecideClaimBy(t.Context(), id, true, ann)
		refused(t, err, deploy.CodeSessionClosed)
		g.tells(t, "claim decision approved", "claim outcome session_closed")
		if w.store.allAccounts()[0].State != deploy.AccountCurrent {
			t.Error("the account was handed over")
		}
	})
}
