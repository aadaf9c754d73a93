package deploy_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// asked deploys, asks for a claim and gives the page's token with the result.
func asked(t *testing.T, w *world, s *deploy.Service) (token string, res *deploy.ClaimResult) {
	t.Helper()
	must(t, s, worker("200 keep me"))
	res, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{Message: "Please keep it."})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(res.PageURL, w.pageURL), res
}

func TestAClaimIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		token, res := asked(t, w, s)
		if res.Claim != deploy.ClaimAwaiting || token == "" || res.MinutesLeft < 59 || res.Next.Do == "" {
			t.Errorf("%+v", res)
		}
		again, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{SessionID: res.SessionID, Message: "Hurry!"})
		if err != nil || again.PageURL != res.PageURL || len(w.store.claims) != 1 {
			t.Errorf("asked again: %+v, %v, %d claims", again, err, len(w.store.claims))
		}
		var wg sync.WaitGroup
		w2 := newWorld(t)
		s2 := w2.service()
		must(t, s2, worker("200 x"))
		for range 16 {
			wg.Go(func() {
				if _, err := s2.RequestClaim(t.Context(), me, deploy.ClaimRequest{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(w2.store.claims) != 1 {
			t.Errorf("%d claims of sixteen at once", len(w2.store.claims))
		}
	})
}

func TestDeploysAreFrozenWhileAClaimWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		token, res := asked(t, w, s)
		for _, fresh := range []bool{false, true} {
			for _, id := range []string{"", res.SessionID} {
				req := worker("200 changed")
				req.Fresh, req.SessionID = fresh, id
				_, err := s.Deploy(t.Context(), me, req)
				refused(t, err, deploy.CodeClaimPending)
			}
		}
		if w.uploads != 1 || w.provisions != 1 {
			t.Errorf("%d uploads, %d accounts", w.uploads, w.provisions)
		}
		if _, err := s.DecideClaim(t.Context(), token, false, ""); err != nil {
			t.Fatal(err)
		}
		if res := must(t, s, worker("200 changed")); res.Account != deploy.AccountReused {
			t.Errorf("after the refusal: %+v", res)
		}
		next, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{})
		if err != nil || next.Claim != deploy.ClaimAwaiting || next.PageURL == res.PageURL {
			t.Errorf("a new claim after the refusal: %+v, %v", next, err)
		}
	})
}

func TestAnApproval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		token, res := asked(t, w, s)
		if _, err := s.ClaimLink(t.Context(), token, "chrome"); !deploy.IsCode(err, deploy.CodeClaimPending) {
			t.Errorf("the link before a decision: %v", err)
		}
		view, err := s.DecideClaim(t.Context(), token, true, "chrome")
		if err != nil || view.State != deploy.ClaimApproved {
			t.Fatalf("%+v, %v", view, err)
		}
		acct := w.store.allAccounts()[0]
		if acct.State != deploy.AccountClaimed || !acct.Token.Empty() || acct.ClaimURL.Empty() {
			t.Errorf("state %q, token empty %v, claim link empty %v", acct.State, acct.Token.Empty(), acct.ClaimURL.Empty())
		}
		link, err := s.ClaimLink(t.Context(), token, "chrome")
		if err != nil || link.Reveal() != acct.ClaimURL.Reveal() {
			t.Errorf("link %v, %v", link, err)
		}
		for _, other := range []string{"", "firefox"} {
			_, err = s.ClaimLink(t.Context(), token, other)
			refused(t, err, deploy.CodeSessionClosed)
		}
		_, err = s.DecideClaim(t.Context(), token, false, "chrome")
		refused(t, err, deploy.CodeSessionClosed)
		named := worker("200 changed")
		named.SessionID = res.SessionID
		_, err = s.Deploy(t.Context(), me, named)
		refused(t, err, deploy.CodeSessionClosed)
		told, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{SessionID: res.SessionID})
		if err != nil || told.Claim != deploy.ClaimApproved || told.PageURL != "" {
			t.Errorf("asked again: %+v, %v", told, err)
		}
		st, err := s.Status(t.Context(), me, deploy.StatusRequest{SessionID: res.SessionID})
		if err != nil || st.Sessions[0].Claim != "approved" || st.Sessions[0].Phase != deploy.PhaseClosed {
			t.Errorf("status: %+v, %v", st, err)
		}
		named.Fresh = true
		if fresh := must(t, s, named); fresh.Account != deploy.AccountNew || w.store.allAccounts()[0].State != deploy.AccountClaimed {
			t.Errorf("fresh: %+v", fresh)
		}
		time.Sleep(time.Hour)
		_, err = s.ClaimLink(t.Context(), token, "chrome")
		refused(t, err, deploy.CodeSessionExpired)
	})
}

// The API's clock ends the link too, also when nothing else has asked for it.
func TestTheLinkEndsByTheAPIsClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		token, _ := asked(t, w, s)
		if _, err := s.DecideClaim(t.Context(), token, true, "chrome"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.set(func() { w.apiOffset = time.Hour })
		_, err := s.ClaimLink(t.Context(), token, "chrome")
		refused(t, err, deploy.CodeSessionExpired)
	})
}

func TestExactlyOneDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s, elsewhere := w.service(), w.service() // two processes on one store
		token, _ := asked(t, w, s)
		var wg sync.WaitGroup
		errs := make([]error, 16)
		for i := range errs {
			wg.Go(func() {
				in := []*deploy.Service{s, elsewhere}[i%2]
				_, errs[i] = in.DecideClaim(t.Context(), token, i%4 < 2, "browser")
			})
		}
		wg.Wait()
		done := 0
		for _, err := range errs {
			if err == nil {
				done++
				continue
			}
			refused(t, err, deploy.CodeSessionClosed)
		}
		if done != 1 {
			t.Errorf("%d decided", done)
		}
		claimed := w.store.allAccounts()[0].State == deploy.AccountClaimed
		if approved := w.store.claims[0].State == deploy.ClaimApproved; claimed != approved {
			t.Errorf("claim approved %v, account claimed %v", approved, claimed)
		}
	})
}

func TestALateDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		token, res := asked(t, w, s)
		time.Sleep(time.Hour)
		_, err := s.DecideClaim(t.Context(), token, true, "chrome")
		refused(t, err, deploy.CodeSessionExpired)
		view, err := s.ClaimView(t.Context(), token)
		if err != nil || view.State != deploy.ClaimLapsed || view.Left != 0 {
			t.Errorf("view: %+v, %v", view, err)
		}
		_, err = s.RequestClaim(t.Context(), me, deploy.ClaimRequest{SessionID: res.SessionID})
		refused(t, err, deploy.CodeSessionExpired)
		if res := must(t, s, worker("200 again")); res.Account != deploy.AccountNew {
			t.Errorf("after it lapsed: %+v", res)
		}
	})
}

// The approval is on record, and then the process dies: the account's own record still
// has its token. It is closed all the same, and the token goes at the next look.
func TestAnApprovalCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		token, res := asked(t, w, s)
		w.store.fail = func(op string) error {
			if op == "SaveAccount" {
				return deploy.Errorf(deploy.CodeStore, "Free some space.", "disk full")
			}
			return nil
		}
		_, err := s.DecideClaim(t.Context(), token, true, "chrome")
		refused(t, err, deploy.CodeStore)
		w.store.fail = nil
		// Whoever looks finds the yes first: the token is used no more, not even to look.
		looks := w.sights
		st, err := s.Status(t.Context(), me, deploy.StatusRequest{SessionID: res.SessionID})
		if err != nil || st.Sessions[0].Phase != deploy.PhaseClosed || w.sights != looks {
			t.Errorf("status: %+v, %v, %d looks", st, err, w.sights-looks)
		}
		if a := w.store.allAccounts()[0]; a.State != deploy.AccountClaimed || !a.Token.Empty() {
			t.Errorf("after a status: state %q, token empty %v", a.State, a.Token.Empty())
		}
		named := worker("200 evil")
		named.SessionID = res.SessionID
		_, err = s.Deploy(t.Context(), me, named)
		refused(t, err, deploy.CodeSessionClosed)
		if a := w.store.allAccounts()[0]; a.State != deploy.AccountClaimed || !a.Token.Empty() || w.uploads != 1 {
			t.Errorf("state %q, token empty %v, %d uploads", a.State, a.Token.Empty(), w.uploads)
		}
	})
}

// A claim that nobody can be asked about must not freeze the session.
func TestAPageThatCantBeOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, worker("200 one"))
		w.onPage = func() error { return errors.New("no port") }
		_, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{})
		refused(t, err, deploy.CodeNoApproval)
		must(t, s, worker("200 two"))

		s = w.service(func(c *deploy.Config) { c.Pages = nil })
		_, err = s.RequestClaim(t.Context(), me, deploy.ClaimRequest{})
		refused(t, err, deploy.CodeNoApproval)
		s = w.service(func(c *deploy.Config) { c.ReadOnly = true })
		_, err = s.RequestClaim(t.Context(), me, deploy.ClaimRequest{})
		refused(t, err, deploy.CodeReadOnly)
	})
}

func TestNothingToClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		_, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{})
		refused(t, err, deploy.CodeNothingToClaim)
		_, err = s.RequestClaim(t.Context(), me, deploy.ClaimRequest{SessionID: "s_nope"})
		refused(t, err, deploy.CodeSessionNotFound)
		w.onUpload = refuse(deploy.CodeAPIRefused)
		_, err = s.Deploy(t.Context(), me, worker("200 one"))
		refused(t, err, deploy.CodeAPIRefused)
		_, err = s.RequestClaim(t.Context(), me, deploy.ClaimRequest{})
		refused(t, err, deploy.CodeNothingToClaim)
		_, err = s.ClaimView(t.Context(), "no such token")
		refused(t, err, deploy.CodeSessionNotFound)
	})
}

func TestWhatTheHumanIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		other := worker("200 side")
		other.Source.Name = "side"
		must(t, s, other)
		must(t, s, worker("200 old"))
		token, _ := asked(t, w, s)
		digest := w.store.claims[0].Digest
		view, err := s.ClaimView(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if !view.Account.Token.Empty() || !view.Account.ClaimURL.Empty() || !view.Claim.PageToken.Empty() {
			t.Error("the view holds a secret")
		}
		var names []string
		for _, d := range view.Estate.Deployments {
			names = append(names, d.Worker)
		}
		slices.Sort(names)
		if !slices.Equal(names, []string{"hello", "side"}) || view.Claim.Message != "Please keep it." || view.Session.Labels["team"] != "a" {
			t.Errorf("view: %v, %+v", names, view)
		}
		if _, err := s.DecideClaim(t.Context(), token, false, ""); err != nil {
			t.Fatal(err)
		}
		must(t, s, worker("200 other"))
		if _, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{}); err != nil || w.store.claims[1].Digest == digest {
			t.Errorf("another content under the same digest (%v)", err)
		}
		long := strings.Repeat("word ", 1000)
		w2 := newWorld(t)
		s2 := w2.service()
		must(t, s2, worker("200 x"))
		secret := w2.store.allAccounts()[0].Token.Reveal()
		if _, err := s2.RequestClaim(t.Context(), me, deploy.ClaimRequest{Message: secret + long}); err != nil {
			t.Fatal(err)
		}
		if got := w2.store.claims[0].Message; strings.Contains(got, secret) || len(got) > 1010 {
			t.Errorf("message of %d bytes, with the token: %v", len(got), strings.Contains(got, secret))
		}
	})
}
