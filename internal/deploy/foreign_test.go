package deploy_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// stranger uploads a version past us, as whoever holds the account's token can.
func (w *world) stranger(worker, version string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.accounts {
		if a.workers[worker] == nil {
			a.workers[worker] = &fakeWorker{}
		}
		x := a.workers[worker]
		x.versions = append(x.versions, fakeVersion{id: version, code: "200 strange", from: time.Now()})
	}
}

// foreign gives the records of what was not ours, in a line each.
func (g *guards) foreign() (out []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.events {
		if e.Act == deploy.NoticeForeign {
			out = append(out, strings.TrimSpace(e.Worker+" "+e.VersionID))
		}
	}
	return out
}

func warned(warnings []string, of string) bool {
	return slices.ContainsFunc(warnings, func(x string) bool { return strings.Contains(x, of) && strings.Contains(x, "not deployed from here") })
}

// TestWhatIsNotOursIsNoticed: at the next deployment, status and asking; on record once,
// in every result.
func TestWhatIsNotOursIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		res := must(t, s, worker("200 one"))
		if len(res.Warnings) != 0 || w.sights != 0 {
			t.Errorf("of a new account: %q, %d looks", res.Warnings, w.sights)
		}
		res = must(t, s, worker("200 two"))
		if len(res.Warnings)+len(g.foreign()) != 0 || w.sights != 1 {
			t.Errorf("of our own: %q %q, %d looks", res.Warnings, g.foreign(), w.sights)
		}
		w.stranger("strange", "version-s1")
		w.stranger("hello", "version-s2") // and we deploy over it
		res = must(t, s, worker("200 three"))
		if !warned(res.Warnings, `"strange"`) || !warned(res.Warnings, "version-s2") {
			t.Errorf("%q", res.Warnings)
		}
		// The same source: nothing is uploaded, and it is noticed all the same.
		w.stranger("hello", "version-s3")
		if res = must(t, s, worker("200 three")); !warned(res.Warnings, "version-s3") || res.Changed {
			t.Errorf("%q", res.Warnings)
		}
		w.stranger("second", "version-s4")
		for range 3 {
			st, err := s.Status(t.Context(), me, deploy.StatusRequest{})
			if err != nil || !warned(st.Sessions[0].Warnings, `"second"`) {
				t.Errorf("%+v %v", st, err)
			}
		}
		want := []string{"hello version-s2", "strange", "hello version-s3", "second"}
		if got := g.foreign(); !slices.Equal(got, want) {
			t.Errorf("on record %q, want %q", got, want)
		}
		if w.sights != 4 {
			t.Errorf("%d looks; three statuses at once need one", w.sights)
		}
		time.Sleep(11 * time.Second)
		if _, err := s.Status(t.Context(), me, deploy.StatusRequest{}); err != nil || w.sights != 5 {
			t.Errorf("%d looks, %v", w.sights, err)
		}
		for _, e := range g.events {
			if e.Act == deploy.NoticeForeign && (e.Principal != "me" || e.SessionID != res.SessionID || e.AccountID == "" || e.Detail == "") {
				t.Errorf("%+v", e)
			}
		}
		// A teardown finds it again, and records it no more.
		down, err := s.Teardown(t.Context(), me, deploy.TeardownRequest{})
		if err != nil || len(down.Warnings) != 4 || len(g.foreign()) != 4 {
			t.Errorf("%+v %v, %q", down, err, g.foreign())
		}
	})
}

// TestWhatIsNotOursIsShownToWhoDecides: before the asking, and between it and the yes,
// which then does not count.
func TestWhatIsNotOursIsShownToWhoDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		must(t, s, worker("200 one"))
		clean, _ := claimOf(t, w, s)
		plain := w.claim().Digest
		w.stranger("strange", "version-s1")
		_, err := s.DecideClaim(t.Context(), clean, true, "chrome")
		refused(t, err, deploy.CodeSessionClosed)
		if w.claim().State != deploy.ClaimAwaiting || len(g.foreign()) != 1 {
			t.Errorf("%+v, %q", w.claim(), g.foreign())
		}
		if view, err := s.ClaimView(t.Context(), clean); err != nil || len(view.Estate.Foreign) != 1 || view.Estate.Foreign[0].Worker != "strange" {
			t.Errorf("%+v %v", view, err)
		}
		again, res := claimOf(t, w, s)
		if again == clean || w.claim().Digest == plain || !warned(res.Warnings, `"strange"`) {
			t.Errorf("asked again: %+v", res)
		}
		if same, _ := claimOf(t, w, s); same != again {
			t.Error("and again, with nothing new")
		}
		old, err := s.ClaimView(t.Context(), clean)
		if err != nil || old.State != deploy.ClaimWithdrawn || old.Claim.Evidence == "" {
			t.Errorf("the first: %+v %v", old, err)
		}
		view, err := s.DecideClaim(t.Context(), again, true, "chrome")
		if err != nil || view.State != deploy.ClaimApproved || len(view.Estate.Foreign) != 1 || len(g.foreign()) != 1 {
			t.Errorf("%+v %v, %q", view, err, g.foreign())
		}
	})
}

// TestAClaimWantsALook: what can't be looked at can't be asked about; who decides is not
// kept waiting by an API that does not answer.
func TestAClaimWantsALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, worker("200 one"))
		mute := func(int) error { return deploy.Errorf(deploy.CodeAPIUnreachable, "Later.", "no answer") }
		w.set(func() { w.onSight = mute })
		_, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{})
		refused(t, err, deploy.CodeAPIUnreachable)
		if len(w.store.claims) != 0 {
			t.Error("a human was asked")
		}
		if _, err := s.Status(t.Context(), me, deploy.StatusRequest{}); err != nil {
			t.Errorf("a status wants no look: %v", err)
		}
		must(t, s, worker("200 two"))
		w.set(func() { w.onSight = nil })
		token, _ := claimOf(t, w, s)
		w.set(func() { w.onSight = mute })
		if view, err := s.DecideClaim(t.Context(), token, true, "chrome"); err != nil || view.State != deploy.ClaimApproved {
			t.Errorf("%+v %v", view, err)
		}
	})
}

// TestOurOwnIsNotForeign: what is just being uploaded, and what was uploaded without an
// answer, is ours.
func TestOurOwnIsNotForeign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s, other := w.guarded(g), w.guarded(g)
		must(t, s, worker("200 one"))
		w.set(func() {
			w.onUpload = func(int) error {
				w.mu.Unlock() // a status of another server, in the middle of the upload
				defer w.mu.Lock()
				_, err := other.Status(t.Context(), me, deploy.StatusRequest{})
				return err
			}
		})
		must(t, s, worker("200 two"))
		w.set(func() {
			w.onUpload = nil
			w.afterUpload = func(int) error { return deploy.Errorf(deploy.CodeAPIUnreachable, "Later.", "no answer") }
		})
		if _, err := s.Deploy(t.Context(), me, worker("200 three")); err == nil {
			t.Fatal("an upload without an answer was taken for one with")
		}
		w.set(func() {
			w.afterUpload = nil
			w.onLook = func(int) error { return deploy.Errorf(deploy.CodeAPIUnreachable, "Later.", "no answer") }
		})
		time.Sleep(time.Minute)
		if _, err := other.Status(t.Context(), me, deploy.StatusRequest{}); err != nil {
			t.Fatal(err)
		}
		w.set(func() { w.onLook = nil })
		time.Sleep(time.Minute)
		if _, err := other.Status(t.Context(), me, deploy.StatusRequest{}); err != nil {
			t.Fatal(err)
		}
		must(t, s, worker("200 four"))
		if got := g.foreign(); len(got) != 0 {
			t.Errorf("ours are taken for foreign: %q", got)
		}
	})
}

// TestForeignIsRecordedOrSeenAgain: what can't be recorded is not taken for recorded.
func TestForeignIsRecordedOrSeenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		must(t, s, worker("200 one"))
		w.stranger("strange", "version-s1")
		g.fail = func(e deploy.Event) error {
			if e.Act == deploy.NoticeForeign {
				return deploy.Errorf(deploy.CodeStore, "Later.", "the disk is full")
			}
			return nil
		}
		if _, err := s.Status(t.Context(), me, deploy.StatusRequest{}); err != nil {
			t.Fatal(err)
		}
		g.mu.Lock()
		g.fail = nil
		g.mu.Unlock()
		time.Sleep(11 * time.Second)
		if _, err := s.Status(t.Context(), me, deploy.StatusRequest{}); err != nil || len(g.foreign()) != 1 {
			t.Errorf("%q %v", g.foreign(), err)
		}
	})
}

// sealer seals by taking the link away.
type sealer struct{}

func (sealer) SealClaim(deploy.ClaimLink) (deploy.Secret, error) { return sealedText, nil }
func (sealer) Recipients() []string                              { return []string{"age1x"} }

// TestASealedClaimIsLookedAtToo: whoever opens it with their key has seen what is not ours,
// or is shown it first.
func TestASealedClaimIsLookedAtToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g, func(c *deploy.Config) { c.Sealer = sealer{} })
		res := must(t, s, worker("200 one"))
		f, err := s.SealedClaim(t.Context(), me, "")
		if err != nil || len(f.Foreign) != 0 {
			t.Fatalf("%+v %v", f, err)
		}
		if _, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{}); err != nil {
			t.Fatal(err)
		}
		w.stranger("strange", "version-s1")
		refused(t, s.AdoptSealed(t.Context(), res.SessionID, f.Digest, ann), deploy.CodeSessionClosed)
		if f, err = s.SealedClaim(t.Context(), me, ""); err != nil || len(f.Foreign) != 1 || f.Foreign[0].Worker != "strange" {
			t.Fatalf("%+v %v", f, err)
		}
		if err := s.AdoptSealed(t.Context(), res.SessionID, f.Digest, ann); err != nil {
			t.Error(err)
		}
		if w.claim().State != deploy.ClaimOpened || !slices.Equal(g.foreign(), []string{"strange"}) {
			t.Errorf("%+v, %q", w.claim(), g.foreign())
		}
	})
}
