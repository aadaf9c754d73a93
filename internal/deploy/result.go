package deploy

import (
	"fmt"
	"net/http"
	"time"
)

// countdown brings a result up to date with the account's hour, and warns near its end.
func (s *Service) countdown(res *DeployResult, a *Account) {
	now := s.timeFor(a)
	res.ExpiresAt = a.ExpiresAt
	res.MinutesLeft = minutesLeft(a, now)
	res.Phase = a.Phase(now)
	res.Warnings = append(res.Warnings, endWarnings(res.Phase, res.MinutesLeft)...)
	if res.Phase == PhaseExpired || res.Phase == PhaseClosed {
		res.Next = NextStep{
			Do:   "The account of this result is over. Call deploy_temporary again, without the idempotency key, to put it live anew.",
			Tool: "deploy_temporary", Args: map[string]any{"bundle_id": res.BundleID},
		}
	}
}

// endWarnings is what every result says from ten minutes before the end on.
func endWarnings(p Phase, minutes int) []string {
	if p != PhaseExpiring {
		return nil
	}
	return []string{fmt.Sprintf("The account ends in %d minutes and everything on it with it. If the user wants to keep it, call request_claim now.", minutes)}
}

func minutesLeft(a *Account, now time.Time) int {
	if a.State == AccountRetired || a.State == AccountExpired || a.State == AccountLost || a.State == AccountDeleted {
		return 0
	}
	return max(0, int(a.ExpiresAt.Sub(now)/time.Minute))
}

func (r *run) result() *DeployResult {
	s, d := r.s, &r.dep
	res := &DeployResult{
		Serving: d.Serving, Changed: r.prev == nil || r.prev.ID != d.ID, URL: d.URL, Worker: d.Worker,
		SessionID: d.SessionID, DeploymentID: d.ID, VersionID: d.VersionID, BundleID: d.BundleID,
		Account: AccountReused, Check: d.Check, Resources: r.resources, Discarded: r.discarded, Warnings: r.warn, Stages: r.stages,
	}
	if r.isNew {
		res.Account = AccountNew
	}
	res.Custody = r.acct.custody(s.yesRule(""))
	res.Next = r.next()
	s.countdown(res, r.acct)
	return res
}

// next is the one thing to do now.
func (r *run) next() NextStep {
	d := &r.dep
	again := map[string]any{"session_id": d.SessionID}
	switch {
	case r.discarded != nil:
		return r.nextDiscarded()
	case d.Serving == ServingNotYet && d.Check != nil && d.Check.Status != 0 && d.Check.Status != http.StatusNotFound:
		return NextStep{Do: "It is uploaded, but what answers may still be the version before (see check); look again in 15 seconds.", Tool: "status", Args: again}
	case d.Serving == ServingNotYet:
		return NextStep{Do: "It is uploaded but does not answer yet; look again in 15 seconds.", Tool: "status", Args: again}
	case d.Check != nil && d.Check.Error != "":
		return NextStep{Do: "It is live but fails: fix the code (see check.error and check.at) and deploy again into the same session.", Tool: "deploy_temporary", Args: again}
	case d.Check != nil && !d.Check.OK:
		return NextStep{Do: "It is live but does not answer as expected (see check): fix the code and deploy again into the same session.", Tool: "deploy_temporary", Args: again}
	}
	return NextStep{
		Do: "Give the user the URL and say that it is public and ends at expires_at. To change it, deploy again into the same session. Call request_claim only if the user wants to keep it.",
	}
}
