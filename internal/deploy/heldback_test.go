package deploy_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// What an agent tries while a human is asked, and after they said yes, is refused and on
// record, whether it names the session or not; what can't be put on record is refused as that.
func TestWhatAClaimHoldsBackIsOnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(t), &guards{}
		s := w.guarded(g)
		token, asking := asked(t, w, s)
		for _, id := range []string{"", asking.SessionID} {
			g.forget()
			req := worker("200 changed")
			req.SessionID, req.RunID = id, "run-7"
			if id == "" {
				req.RunID = ""
			}
			_, err := s.Deploy(t.Context(), me, req)
			refused(t, err, deploy.CodeClaimPending)
			g.tells(t, "deploy decision deny", "deploy outcome claim_pending")
			d, o := g.events[0], g.events[1]
			if d.ActID == "" || d.ActID != o.ActID || d.Rules[0].Rule != "claim" || d.SessionID != asking.SessionID || d.Principal != "me" || o.Detail == "" {
				t.Errorf("%+v %+v", d, o)
			}
			if id != "" && d.ClaimedLabels["run_id"] != "run-7" {
				t.Errorf("what it says of itself: %v", d.ClaimedLabels)
			}
		}
		if _, err := s.DecideClaim(t.Context(), token, true, "chrome"); err != nil {
			t.Fatal(err)
		}
		g.forget()
		req := worker("200 changed")
		req.SessionID = asking.SessionID
		_, err := s.Deploy(t.Context(), me, req)
		refused(t, err, deploy.CodeSessionClosed)
		g.tells(t, "deploy decision deny", "deploy outcome session_closed")
		g.fail = func(deploy.Event) error { return errors.New("the disk is full") }
		_, err = s.Deploy(t.Context(), me, req)
		refused(t, err, deploy.CodeStore)
		if w.uploads != 1 {
			t.Errorf("%d uploads", w.uploads)
		}
	})
}
