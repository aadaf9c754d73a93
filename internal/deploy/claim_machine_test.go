package deploy_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// The actions that may move a claim. Each tells whether it was taken.
func actions() map[string]func(t *testing.T, w *world, s *deploy.Service, token string) error {
	type move = func(t *testing.T, w *world, s *deploy.Service, token string) error
	decide := func(yes bool) move {
		return func(t *testing.T, w *world, s *deploy.Service, _ string) error {
			_, err := s.DecideClaimBy(t.Context(), w.claim().ID, yes, ann)
			return err
		}
	}
	word := func(did bool) move {
		return func(t *testing.T, w *world, s *deploy.Service, _ string) error {
			return s.Adopted(t.Context(), w.claim().ID, did, deploy.Human{Name: "bob", Channel: deploy.ChannelPasskey})
		}
	}
	sweep := func(serves bool) move {
		return func(t *testing.T, w *world, s *deploy.Service, _ string) error {
			w.set(func() {
				if !serves {
					clear(w.accounts)
				}
			})
			time.Sleep(time.Until(w.claim().ExpiresAt.Add(10 * time.Minute)))
			return s.Sweep(t.Context())
		}
	}
	return map[string]move{
		"approve": decide(true), "refuse": decide(false), "finished": word(true), "not finished": word(false),
		"sweep, it serves": sweep(true), "sweep, it is gone": sweep(false),
		"open": func(t *testing.T, w *world, s *deploy.Service, _ string) error {
			return s.Opened(t.Context(), w.claim().ID, "ann")
		},
		"withdraw": func(t *testing.T, _ *world, s *deploy.Service, _ string) error {
			_, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{Withdraw: true})
			return err
		},
	}
}

// machine is where every action leads from every state; what is not named moves nothing.
func theMachine() map[string]map[string]deploy.ClaimState {
	given := func(more map[string]deploy.ClaimState) map[string]deploy.ClaimState {
		out := map[string]deploy.ClaimState{
			"finished": deploy.ClaimAdopted, "not finished": deploy.ClaimLapsed,
			"sweep, it serves": deploy.ClaimProbablyAdopted, "sweep, it is gone": deploy.ClaimLapsed,
		}
		for k, v := range more {
			if out[k] = v; v == "" {
				delete(out, k)
			}
		}
		return out
	}
	return map[string]map[string]deploy.ClaimState{
		"": {
			"approve": deploy.ClaimApproved, "refuse": deploy.ClaimRefused, "withdraw": deploy.ClaimWithdrawn,
			"sweep, it serves": deploy.ClaimLapsed, "sweep, it is gone": deploy.ClaimLapsed,
		},
		"approve":                       given(map[string]deploy.ClaimState{"open": deploy.ClaimOpened}),
		"approve; open":                 given(nil),
		"approve; open; finished":       {"not finished": deploy.ClaimLapsed},
		"approve; open; not finished":   {"finished": deploy.ClaimAdopted},
		"approve; sweep, it serves":     {"finished": deploy.ClaimAdopted, "not finished": deploy.ClaimLapsed},
		"approve; sweep, it is gone":    {"finished": deploy.ClaimAdopted},
		"refuse":                        {},
		"withdraw":                      {},
		"sweep, it serves":              {},
		"approve; finished; finished":   {"not finished": deploy.ClaimLapsed},
		"approve; open; open; refuse":   given(nil),
		"refuse; approve; open":         {},
		"withdraw; approve; finished":   {},
		"sweep, it is gone; approve":    {},
		"sweep, it is gone; withdraw":   {},
		"approve; withdraw; approve":    given(map[string]deploy.ClaimState{"open": deploy.ClaimOpened}),
		"approve; open; withdraw":       given(nil),
		"approve; not finished; refuse": {"finished": deploy.ClaimAdopted},
	}
}

// moves are the transitions on record, each once, as "from to".
func moves(g *guards) (out []string, data []map[string]string) {
	seen := map[string]bool{}
	for _, e := range g.events {
		if e.Act != "claim" || seen[e.ActID] || e.Data["to"] == "" {
			continue
		}
		seen[e.ActID] = true
		out, data = append(out, e.Data["from"]+" "+e.Data["to"]), append(data, e.Data)
	}
	return out, data
}

// TestTheWholeMachine: from every state, every action leads where the machine says and
// nowhere else; each transition is one record, which says who, by which channel and on
// what evidence; what moves nothing leaves none.
func TestTheWholeMachine(t *testing.T) {
	reached := map[deploy.ClaimState]bool{}
	for path, leads := range theMachine() {
		for name, act := range actions() {
			synctest.Test(t, func(t *testing.T) {
				w, g := newWorld(t), &guards{}
				s := w.guarded(g)
				token, _ := asked(t, w, s)
				for step := range strings.SplitSeq(path, "; ") {
					if step != "" {
						_ = actions()[step](t, w, s, token) // some are refused, which is what they are there for
					}
				}
				before := w.claim()
				g.forget()
				err := act(t, w, s, token)
				after, want := w.claim(), leads[name]
				if want == "" {
					want = before.State
				}
				reached[after.State] = true
				if after.State != want {
					t.Errorf("%q, then %s: %s, want %s (%v)", path, name, after.State, want, err)
				}
				on, data := moves(g)
				if before.State == after.State {
					if len(on) != 0 {
						t.Errorf("%q, then %s: nothing moved, and on record is %v", path, name, on)
					}
					return
				}
				if err != nil || len(on) != 1 || on[0] != fmt.Sprintf("%s %s", before.State, after.State) {
					t.Fatalf("%q, then %s: on record %v, %v", path, name, on, err)
				}
				if heard := decidedTo(g); before.State == deploy.ClaimAwaiting && (len(heard) != 1 || heard[0] != string(after.State)) || before.State != deploy.ClaimAwaiting && len(heard) != 0 {
					t.Errorf("%q, then %s: people elsewhere were told %v", path, name, heard)
				}
				saidWhat(t, path+"; "+name, name, data[0], &after)
			})
		}
	}
	for _, state := range []deploy.ClaimState{
		deploy.ClaimAwaiting, deploy.ClaimApproved, deploy.ClaimOpened, deploy.ClaimProbablyAdopted, deploy.ClaimAdopted,
		deploy.ClaimLapsed, deploy.ClaimRefused, deploy.ClaimWithdrawn,
	} {
		if !reached[state] {
			t.Errorf("%s was never reached", state)
		}
	}
}

// decidedTo are the decisions that people elsewhere were told of.
func decidedTo(g *guards) (out []string) {
	for _, n := range g.notices {
		if n.Type == deploy.NoticeClaimDecided {
			state, _ := n.Data["state"].(string)
			out = append(out, state)
		}
	}
	return out
}

// saidWhat: what the record of a transition says.
func saidWhat(t *testing.T, path, action string, data map[string]string, c *deploy.Claim) {
	t.Helper()
	want := map[string]string{"custody": "attended"}
	switch action {
	case "approve", "refuse":
		want["by"], want["channel"] = "ann", deploy.ChannelConsole
	case "open":
		want["by"] = "ann"
	case "withdraw":
		want["by"] = "me"
	case "finished", "not finished":
		want["by"], want["channel"], want["probe"], want["confidence"] = "bob", deploy.ChannelPasskey, "a human's word", "high"
		if !strings.Contains(c.Evidence, "bob") || !strings.Contains(c.Evidence, "2000-01-0") {
			t.Errorf("%s: evidence %q", path, c.Evidence)
		}
		if c.DecidedBy != "ann" {
			t.Errorf("%s: decided by %q: whose word it is has taken the place of who decided", path, c.DecidedBy)
		}
	default:
		if data["confidence"] == "" || !strings.Contains(c.Evidence, "in time") && (!strings.Contains(c.Evidence, "2000-01-0") || data["probe"] == "") {
			t.Errorf("%s: %v, evidence %q", path, data, c.Evidence)
		}
	}
	for k, v := range want {
		if data[k] != v {
			t.Errorf("%s: %s is %q, want %q", path, k, data[k], v)
		}
	}
}

// TestASealedClaimNobodyToldOf: a claim file may have been opened elsewhere, so that nobody
// decided here says little.
func TestASealedClaimNobodyToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g, func(c *deploy.Config) { c.Sealer = keySealer{} })
		must(t, s, worker("200 keep me"))
		res, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{})
		if err != nil || res.Custody != "sealed to age1qqqqqqqq…qqqqqe" || res.PageURL != "" || res.Command == "" {
			t.Fatalf("%+v, %v", res, err)
		}
		g.forget()
		time.Sleep(70 * time.Minute)
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		on, data := moves(g)
		if len(on) != 1 || on[0] != "awaiting_human lapsed" || data[0]["confidence"] != "low" || data[0]["custody"] != res.Custody || !strings.Contains(w.claim().Evidence, "claim file") {
			t.Errorf("%v %v %q", on, data, w.claim().Evidence)
		}
	})
}

// keySealer seals like the real one, and to nobody.
type keySealer struct{}

const someKey = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqe"

func (keySealer) SealClaim(deploy.ClaimLink) (deploy.Secret, error) { return sealedText, nil }
func (keySealer) Recipients() []string                              { return []string{someKey} }

// TestALapsedClaimIsSaid to the agent that looks: nobody has to guess why it is over.
func TestALapsedClaimIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		token, res := asked(t, w, s)
		time.Sleep(61 * time.Minute) // nobody swept yet
		st, err := s.Status(t.Context(), me, deploy.StatusRequest{SessionID: res.SessionID})
		if err != nil || st.Sessions[0].Claim != "lapsed" || !strings.Contains(st.Next.Do, "lapsed: nobody decided in time") || st.Sessions[0].Custody != "attended" {
			t.Errorf("%+v %v", st, err)
		}
		_, err = s.DecideClaim(t.Context(), token, true, "chrome")
		refused(t, err, deploy.CodeSessionExpired)
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		token, res := asked(t, w, s)
		if _, err := s.DecideClaim(t.Context(), token, false, ""); err != nil {
			t.Fatal(err)
		}
		st, err := s.Status(t.Context(), me, deploy.StatusRequest{SessionID: res.SessionID})
		if err != nil || st.Sessions[0].Claim != "refused" || !strings.Contains(st.Next.Do, "said no") {
			t.Errorf("%+v %v", st, err)
		}
	})
}

// TestASealedLinkIsForgotten: when a claim link is sealed, the process knows neither it nor
// its token any more; a link that turns up all the same is stripped by its shape.
func TestASealedLinkIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := newWorld(t), deploy.NewRedactor()
		const token = "claim-token-of-account-number-1"
		const link = "https://dash.example/claim-preview?claimToken=" + token
		r.Add(link)
		r.Add(token)
		s := w.service(func(c *deploy.Config) { c.Sealer, c.Redactor = keySealer{}, r })
		must(t, s, worker("200 keep me"))
		if got := r.Redact("it is " + token); !strings.HasSuffix(got, token) {
			t.Errorf("the claim token is still known: %q", got)
		}
		if got := r.Redact("it is " + link); strings.Contains(got, token) {
			t.Errorf("a link in sight: %q", got)
		}
	})
}
