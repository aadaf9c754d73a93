package deploy_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// The humans of these tests, one a channel. Olaf owns the agent.
func humans() map[string]deploy.Human {
	return map[string]deploy.Human{
		"page":           {Name: "somebody", Channel: deploy.ChannelPage},
		"command":        {Name: "operator:olaf", Channel: deploy.ChannelCommand},
		"console":        {Name: "ann", Owner: "ann", Channel: deploy.ChannelConsole},
		"passkey":        {Name: "ann", Owner: "ann", Channel: deploy.ChannelPasskey},
		"owner, console": {Name: "olaf", Owner: "olaf", Channel: deploy.ChannelConsole},
		"owner, passkey": {Name: "olaf", Owner: "olaf", Channel: deploy.ChannelPasskey},
		"unknown":        {Name: "x", Owner: "x", Channel: "a new one"},
	}
}

// rules are the modes of a server, and whose yes counts under each.
func rules() map[string]struct {
	set  func(*deploy.Config)
	good []string
} {
	strict := func(four bool, channels ...string) func(*deploy.Config) {
		return func(c *deploy.Config) {
			c.Channels, c.FourEyes = channels, four
			c.ApprovalLink = func(id string) string { return "https://console.example/console/approvals/" + id }
			c.ClaimLink = func(id string) string { return "https://console.example/console/claims/" + id }
		}
	}
	return map[string]struct {
		set  func(*deploy.Config)
		good []string
	}{
		"attended":           {func(*deploy.Config) {}, []string{"page", "command", "console", "passkey", "owner, console", "owner, passkey", "unknown"}},
		"console":            {strict(false, deploy.ChannelConsole, deploy.ChannelPasskey), []string{"console", "passkey", "owner, console", "owner, passkey"}},
		"passkey":            {strict(false, deploy.ChannelPasskey), []string{"passkey", "owner, passkey"}},
		"console, four eyes": {strict(true, deploy.ChannelConsole, deploy.ChannelPasskey), []string{"console", "passkey"}},
		"passkey, four eyes": {strict(true, deploy.ChannelPasskey), []string{"passkey"}},
	}
}

// olafs is an agent whose owner is olaf.
func olafs() deploy.Caller {
	c := me
	c.Labels = map[string]string{"owner": "olaf"}
	return c
}

// TestWhoMayApproveAnAct: every rule times every human, decided by the server that asked
// and by another process on its store that was started without the rule; a no always counts.
func TestWhoMayApproveAnAct(t *testing.T) {
	for rule, r := range rules() {
		for who, human := range humans() {
			for _, elsewhere := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					w, g := newWorld(t), &guards{decide: saying(deploy.ActDeploy, deploy.Ask)}
					s := w.guarded(g, r.set)
					decider := s
					if elsewhere {
						decider = w.guarded(g)
					}
					try := func() error { _, err := s.Deploy(t.Context(), olafs(), worker("200 one")); return err }
					refused(t, try(), deploy.CodeApprovalNeeded)
					a := waiting(t, decider)
					_, err := decider.DecideApprovalBy(t.Context(), a.ID, true, strings.Repeat("0", 64), human)
					refused(t, err, deploy.CodeSessionClosed) // for another digest than was shown
					_, err = decider.DecideApprovalBy(t.Context(), a.ID, true, a.Digest, human)
					if slices.Contains(r.good, who) {
						if err == nil {
							err = try()
						}
						if err != nil {
							t.Errorf("%s, by %s (elsewhere %v): %v", rule, who, elsewhere, err)
						}
						return
					}
					if e := deploy.AsError(err); err == nil || e.Code != deploy.CodeNoApproval && e.Code != deploy.CodePolicyDenied || e.Next == "" {
						t.Fatalf("%s, by %s (elsewhere %v): %v", rule, who, elsewhere, err)
					}
					if e := deploy.AsError(err); human.Owner == "" && !strings.Contains(e.Next, "https://console.example/console/approvals/"+a.ID) {
						t.Errorf("%s, by %s: it does not say where to decide: %s", rule, who, e.Next)
					}
					if again := waiting(t, decider); again.State != deploy.ApprovalWaiting || again.By != "" {
						t.Errorf("it left a trace: %+v", again)
					}
					refused(t, try(), deploy.CodeApprovalNeeded)
					if no, err := decider.DecideApprovalBy(t.Context(), a.ID, false, "", human); err != nil || no.State != deploy.ApprovalRefused || no.Channel != human.Channel {
						t.Errorf("a no by %s: %+v %v", who, no, err)
					}
					refused(t, try(), deploy.CodePolicyDenied)
				})
			}
		}
	}
}

// TestWhoMayApproveAClaim is the same for keeping an account.
func TestWhoMayApproveAClaim(t *testing.T) {
	for rule, r := range rules() {
		for who, human := range humans() {
			for _, elsewhere := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					s := w.service(r.set)
					decider := s
					if elsewhere {
						decider = w.service()
					}
					if _, err := s.Deploy(t.Context(), olafs(), worker("200 x")); err != nil {
						t.Fatal(err)
					}
					token, _ := claimOf(t, w, s)
					var err error
					if who == "page" {
						_, err = decider.DecideClaim(t.Context(), token, true, "chrome")
					} else {
						_, err = decider.DecideClaimBy(t.Context(), w.claim().ID, true, human)
					}
					if slices.Contains(r.good, who) {
						if err != nil || w.claim().State != deploy.ClaimApproved {
							t.Errorf("%s, by %s (elsewhere %v): %v", rule, who, elsewhere, err)
						}
						return
					}
					if e := deploy.AsError(err); err == nil || e.Code != deploy.CodeNoApproval && e.Code != deploy.CodePolicyDenied || e.Next == "" {
						t.Fatalf("%s, by %s (elsewhere %v): %v", rule, who, elsewhere, err)
					}
					if c := w.claim(); c.State != deploy.ClaimAwaiting || w.store.allAccounts()[0].State != deploy.AccountCurrent {
						t.Errorf("it left a trace: %+v", c)
					}
					if _, err := decider.DecideClaimBy(t.Context(), w.claim().ID, false, human); err != nil || w.claim().State != deploy.ClaimRefused {
						t.Errorf("a no by %s: %v", who, err)
					}
				})
			}
		}
	}
}

// TestFourEyesOfWhoAsks: who asks in a session that another's agent began has no yes to it
// either, and neither has who owns the session.
func TestFourEyesOfWhoAsks(t *testing.T) {
	for who, good := range map[string]bool{"olaf": false, "bob": false, "ann": true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			s := w.service(rules()["console, four eyes"].set)
			if _, err := s.Deploy(t.Context(), olafs(), worker("200 x")); err != nil {
				t.Fatal(err)
			}
			bobs := me
			bobs.Labels = map[string]string{"owner": "bob"}
			if _, err := s.RequestClaim(t.Context(), bobs, deploy.ClaimRequest{}); err != nil {
				t.Fatal(err)
			}
			_, err := s.DecideClaimBy(t.Context(), w.claim().ID, true, deploy.Human{Name: who, Owner: who, Channel: deploy.ChannelPasskey})
			if good != (err == nil) || !good && !deploy.IsCode(err, deploy.CodePolicyDenied) {
				t.Errorf("%s: %v", who, err)
			}
		})
	}
}

// TestAWeakYesDoesNotPass: what a process without the rule asked for and got a yes to is
// none for the server with it, also for the same caller, act and artifact.
func TestAWeakYesDoesNotPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{decide: saying(deploy.ActDeploy, deploy.Ask)}
		strict, weak := w.guarded(g, rules()["passkey"].set), w.guarded(g)
		_, err := weak.Deploy(t.Context(), me, worker("200 one"))
		refused(t, err, deploy.CodeApprovalNeeded)
		a := waiting(t, weak)
		if _, err := weak.DecideApprovalBy(t.Context(), a.ID, true, a.Digest, atTerminal); err != nil {
			t.Fatal(err)
		}
		_, err = strict.Deploy(t.Context(), me, worker("200 one"))
		refused(t, err, deploy.CodeApprovalNeeded)
		if w.provisions != 0 {
			t.Errorf("%d accounts", w.provisions)
		}
		a = waiting(t, strict)
		human := humans()["passkey"]
		if _, err := strict.DecideApprovalBy(t.Context(), a.ID, true, a.Digest, human); err != nil {
			t.Fatal(err)
		}
		must(t, strict, worker("200 one"))
	})
}

// TestTheHumansWay: whoever needs a yes is told where it is given, with no secret in it.
func TestTheHumansWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for rule, want := range map[string]string{"attended": "mcp-server approvals approve ", "passkey": "https://console.example/console/approvals/"} {
			w, g := newWorld(t), &guards{decide: saying(deploy.ActDeploy, deploy.Ask)}
			s := w.guarded(g, rules()[rule].set)
			_, err := s.Deploy(t.Context(), me, worker("200 one"))
			e := refused(t, err, deploy.CodeApprovalNeeded)
			if a := waiting(t, s); !strings.Contains(e.Next, want+a.ID) || rule == "passkey" && strings.Contains(e.Next, "terminal") {
				t.Errorf("%s: %s", rule, e.Next)
			}
			if rule == "passkey" && g.notices[0].Data["link"] != want+waiting(t, s).ID {
				t.Errorf("told: %+v", g.notices[0].Data)
			}
		}
	})
}

// TestASealedYes: who opens a sealed claim decides, under every rule, since no server can
// stop them; but for an owner that is known to be the agent's. Nobody else says yes to it,
// and nobody passes for a holder of a key where nothing is sealed.
func TestASealedYes(t *testing.T) {
	for rule, r := range rules() {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			s := w.service(r.set, func(c *deploy.Config) { c.Sealer = keySealer{} })
			elsewhere := w.service() // as the command runs: without the server's flags
			if _, err := s.Deploy(t.Context(), olafs(), worker("200 x")); err != nil {
				t.Fatal(err)
			}
			claimOf(t, w, s)
			c := w.claim()
			for name, human := range humans() {
				if _, err := elsewhere.DecideClaimBy(t.Context(), c.ID, true, human); err == nil {
					t.Errorf("%s: a yes by %s counted", rule, name)
				}
			}
			refused(t, elsewhere.AdoptSealed(t.Context(), c.SessionID, strings.Repeat("0", 64), deploy.Human{Name: "ann"}), deploy.CodeSessionClosed)
			err := elsewhere.AdoptSealed(t.Context(), c.SessionID, c.Digest, deploy.Human{Name: "olaf", Owner: "olaf"})
			if four := strings.Contains(rule, "four eyes"); four {
				refused(t, err, deploy.CodePolicyDenied)
				err = elsewhere.AdoptSealed(t.Context(), c.SessionID, c.Digest, deploy.Human{Name: "ann"})
			}
			if got := w.claim(); err != nil || got.State != deploy.ClaimOpened || got.Channel != deploy.ChannelSealed || !strings.Contains(got.Evidence, "key") {
				t.Errorf("%s: %+v, %v", rule, got, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service(rules()["passkey"].set)
		asked(t, w, s)
		c := w.claim()
		refused(t, s.AdoptSealed(t.Context(), c.SessionID, c.Digest, deploy.Human{Name: "x"}), deploy.CodeNoApproval)
		_, err := s.DecideClaimBy(t.Context(), c.ID, true, deploy.Human{Name: "x", Channel: deploy.ChannelSealed})
		refused(t, err, deploy.CodeNoApproval)
		if w.claim().State != deploy.ClaimAwaiting {
			t.Error("it counted")
		}
	})
}

// TestTermsOverHTTP: who calls from elsewhere is not sent to a command of this machine.
func TestTermsOverHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.loopback = false
		s := w.service()
		for door, want := range map[string]string{deploy.DoorHTTP: "operator", deploy.DoorStdio: "mcp-server setup"} {
			c := me
			c.Door = door
			_, err := s.Deploy(t.Context(), c, worker("200 x"))
			e := refused(t, err, deploy.CodeTermsNeeded)
			if !strings.Contains(e.Next, want) || strings.Contains(e.Next+e.Message, "this machine") || door == deploy.DoorHTTP && strings.Contains(e.Next, "terminal") {
				t.Errorf("%s: %s %s", door, e.Message, e.Next)
			}
		}
	})
}
