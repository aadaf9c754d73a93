package deploy

import (
	"cmp"
	"context"
)

// heldBack puts on record that a claim keeps a deployment back, and gives the refusal. No
// policy was asked about it; but what an agent tried between the asking and the yes, and
// after it, belongs to the story.
func (r *run) heldBack(ctx context.Context, refused error) error {
	if r.held == nil || !IsCode(refused, CodeClaimPending) && !IsCode(refused, CodeSessionClosed) {
		return refused
	}
	e := aboutSession(r.held, nil)
	e.ClaimedLabels = r.claimedLabels()
	if r.art != nil {
		e.Worker, e.Digest, e.BundleID = r.art.Name, r.art.Digest, r.art.BundleID()
	}
	s := r.s
	a := s.newAct(ActDeploy, r.c, e)
	a.event.Verdict, a.event.Rules = Deny, []Reason{{Rule: "claim", Verdict: Deny, Message: AsError(refused).Message}}
	return cmp.Or(s.record(ctx, a.event), a.end(ctx, refused, nil), refused)
}
