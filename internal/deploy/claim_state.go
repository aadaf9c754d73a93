package deploy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// adoptedMargin is how long after an account's hour something must still serve to be
// taken for adopted: what nobody claimed is deleted, with a delay that is not documented.
const adoptedMargin = 5 * time.Minute

// DecideClaim records the decision of whoever opened the attended page, once: a second
// one is CodeSessionClosed, one that came too late CodeSessionExpired. Browser binds an
// approval to the browser that gave it.
func (s *Service) DecideClaim(ctx context.Context, token string, approve bool, browser string) (*ClaimView, error) {
	claim, err := s.claimByPage(ctx, token)
	if err != nil {
		return nil, err
	}
	return s.DecideClaimBy(ctx, claim.ID, approve, Human{Name: "somebody at this machine", Channel: ChannelPage, Browser: browser})
}

// DecideClaimBy records a human's decision about a claim, once. It counts for exactly
// what was asked: when something else is on the account by then, it is refused. With an
// approval the write use of the account's token ends.
func (s *Service) DecideClaimBy(ctx context.Context, claimID string, approve bool, who Human) (*ClaimView, error) {
	claim, sess, _, err := s.claimByID(ctx, claimID)
	if err != nil {
		return nil, err
	}
	if approve {
		if err := s.mayApprove(claim.Yes, sess.Owner(), who); err != nil {
			return nil, err
		}
	}
	var view *ClaimView
	err = s.inTurn(ctx, sessionTurn(sess.ID), s.cfg.TurnWait, func(ctx context.Context, _ *Lease) (err error) {
		view, err = s.decideClaim(ctx, claim.ID, approve, who)
		return err
	})
	return view, err
}

func (s *Service) decideClaim(ctx context.Context, id string, approve bool, who Human) (*ClaimView, error) {
	s.askClock(ctx)
	claim, sess, acct, err := s.claimByID(ctx, id)
	if err != nil {
		return nil, err
	}
	if claim.StateAt(s.timeFor(acct)) == ClaimLapsed {
		return nil, Errorf(CodeSessionExpired, "Ask the agent to deploy again; this account is gone.", "the decision came after the account's hour")
	}
	if claim.State != ClaimAwaiting {
		return nil, errDecided()
	}
	to := ClaimRefused
	if approve {
		if SealedClaim(acct.ClaimURL) != (who.Channel == ChannelSealed) {
			return nil, errSealed(sess.ID)
		}
		to = ClaimApproved
		if err := s.asAsked(ctx, claim, sess, acct); err != nil {
			return nil, err
		}
		s.watches.stopOf(acct.ID) // what goes on by itself uses the token no more
	}
	unrecorded, err := s.moveClaim(ctx, claim, sess, ClaimMove{To: to, By: who.Name, Channel: who.Channel, Browser: who.Browser})
	if err != nil {
		return nil, err
	}
	if approve {
		given := *acct
		given.State, given.Token = AccountClaimed, ""
		if err := s.cfg.Store.SaveAccount(context.WithoutCancel(ctx), given); err != nil {
			return nil, err
		}
	}
	if unrecorded != nil {
		return nil, unrecorded // the decision counts, and its first record is there
	}
	return s.ClaimViewByID(ctx, id)
}

// asAsked refuses a yes when what is on the account is not what was asked about: by our
// record, and by what the API says now, where it answers; when it was asked about, the
// API did.
func (s *Service) asAsked(ctx context.Context, claim *Claim, sess *Session, acct *Account) error {
	if acct.Usable(s.timeFor(acct), 0) {
		if seen := s.lookAround(ctx, sess, acct).wait(); seen != nil {
			if err := s.noteForeign(ctx, sess, acct, seen); err != nil {
				return err
			}
		}
	}
	deps, err := s.claimDeployments(ctx, sess, acct)
	if err != nil {
		return err
	}
	foreign, err := s.foreignOn(ctx, acct)
	if err != nil {
		return err
	}
	if accountDigest(deps, foreign) != claim.Digest {
		return Errorf(CodeSessionClosed, "Ask the agent to call request_claim again; then look at what is there now.",
			"what is on the account is not what was asked about any more")
	}
	return nil
}

// moveClaim makes one transition and tells it. What is about to move is put on record
// first, and what came of it after: a move that can't be recorded is not made. One that
// came first is CodeSessionClosed. unrecorded says that it was made, and that its outcome
// is not on record.
func (s *Service) moveClaim(ctx context.Context, claim *Claim, sess *Session, m ClaimMove) (unrecorded, err error) {
	m.ID, m.From, m.At = claim.ID, claim.State, s.cfg.Now().UTC()
	a := &act{s: s, began: s.cfg.Now(), event: Event{
		ActID: NewID("n"), Act: ActMoveClaim, Phase: PhaseDecision, Target: s.cfg.Cloud.Target(),
		SessionID: sess.ID, AccountID: claim.AccountID, ClaimID: claim.ID, Digest: claim.Digest,
		Principal: sess.Principal, Labels: sess.Labels, ClaimedLabels: claimed(sess.RunID, sess.JobID, sess.Labels), Detail: m.Evidence,
		Data: m.data(claim), ExpiresAt: claim.ExpiresAt,
	}}
	if err := s.record(ctx, a.event); err != nil {
		return nil, err
	}
	done, err := s.cfg.Store.MoveClaim(context.WithoutCancel(ctx), m)
	if err == nil && !done {
		err = errDecided()
	}
	unrecorded = a.end(ctx, err, nil)
	if err != nil {
		return nil, alsoUnrecorded(err, unrecorded)
	}
	claim.State = m.To
	data := s.claimData(claim, sess)
	data["by"], data["channel"] = m.By, m.Channel
	if m.From == ClaimAwaiting {
		s.notify(NoticeClaimDecided, data)
	}
	if unrecorded != nil {
		unrecorded = Errorf(CodeStore, "Tell the operator: the audit log needs attention.",
			"the claim is %s now, and that it came about could not be put on record", m.To).Caused(unrecorded)
	}
	return unrecorded, nil
}

// errSealed is the answer to a yes on a page, where only a human's key opens the link.
func errSealed(session string) *Error {
	return Errorf(CodeNoApproval, "Run `mcp-server claim "+session+"` in your own terminal, with your key.",
		"the claim link is sealed to a human's key, so only they can say yes, by opening it")
}

func errDecided() *Error {
	return Errorf(CodeSessionClosed, "Nothing more is needed.", "this was decided already")
}

// claimData is what a notice says of a claim: nothing that decides anything.
func (s *Service) claimData(claim *Claim, sess *Session) map[string]any {
	return map[string]any{
		"claim_id": claim.ID, "session_id": sess.ID, "state": string(claim.State), "principal": sess.Principal,
		"labels": sess.Labels, "digest": claim.Digest, "expires_at": claim.ExpiresAt.UTC(), "link": s.humanLink(claim),
		"custody": claim.Custody,
	}
}

// humanLink is where a human who can log in decides; "": the page is this machine's alone.
func (s *Service) humanLink(claim *Claim) string {
	if s.cfg.ClaimLink == nil {
		return ""
	}
	return s.cfg.ClaimLink(claim.ID)
}

// Opened records that the human was led on to Cloudflare's page, the first time.
func (s *Service) Opened(ctx context.Context, claimID, by string) error {
	claim, sess, _, err := s.claimByID(ctx, claimID)
	if err != nil || claim.State != ClaimApproved {
		return err
	}
	how := "the link was given to the human's browser"
	if claim.Channel == ChannelSealed {
		how = "the human's key opened the link"
	}
	unrecorded, err := s.moveClaim(ctx, claim, sess, ClaimMove{To: ClaimOpened, By: by, Evidence: how})
	if IsCode(err, CodeSessionClosed) {
		return nil // another tab was first
	}
	return cmp.Or(err, unrecorded)
}

// Adopted records a human's word that they finished at Cloudflare, or that they did not.
// It is taken after a yes alone, also after we took the claim for lapsed: the human knows
// better. The same word twice is no error.
func (s *Service) Adopted(ctx context.Context, claimID string, did bool, who Human) error {
	claim, sess, _, err := s.claimByID(ctx, claimID)
	if err != nil {
		return err
	}
	if !claim.Approved() {
		return Errorf(CodeClaimPending, "Decide on the claim first.", "keeping this account has not been approved")
	}
	m := wordOf(who, did, s.cfg.Now().UTC())
	if claim.State == m.To {
		return nil
	}
	unrecorded, err := s.moveClaim(ctx, claim, sess, m)
	return cmp.Or(err, unrecorded)
}

// AdoptedOnPage is Adopted for the browser that said yes on the attended page.
func (s *Service) AdoptedOnPage(ctx context.Context, token string, did bool, browser string) error {
	claim, err := s.claimByPage(ctx, token)
	if err != nil {
		return err
	}
	if claim.Approved() && (browser == "" || claim.Browser != browser) {
		return Errorf(CodeSessionClosed, "Use the browser in which it was approved.", "another browser approved this")
	}
	return s.Adopted(ctx, claim.ID, did, Human{Name: "somebody at this machine", Channel: ChannelPage, Browser: browser})
}

// withdraw takes an asking back. Nothing that was decided is undone.
func (s *Service) withdraw(ctx context.Context, c Caller, sess *Session) (*ClaimResult, error) {
	claim, err := s.cfg.Store.Claim(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	if claim == nil || claim.State != ClaimAwaiting {
		return nil, Errorf(CodeNothingToClaim, "Call status to see how the session stands.", "no asking of session %s waits for a human", sess.ID)
	}
	unrecorded, err := s.moveClaim(ctx, claim, sess, ClaimMove{To: ClaimWithdrawn, By: c.Principal})
	if err != nil {
		return nil, err
	}
	res := &ClaimResult{
		Claim: ClaimWithdrawn, SessionID: sess.ID, ExpiresAt: claim.ExpiresAt,
		Next: NextStep{Do: "The asking is taken back; deploying to the session is possible again.", Tool: "deploy_temporary", Args: map[string]any{"session_id": sess.ID}},
	}
	if unrecorded != nil {
		res.Warnings = append(res.Warnings, AsError(unrecorded).Message)
	}
	return res, nil
}

// settleClaims ends claims whose time is over: nobody answered, or what was approved can
// be looked at from outside by now. No token is used to look.
func (s *Service) settleClaims(ctx context.Context) error {
	now := s.cfg.Now()
	waiting, err := s.cfg.Store.ClaimsIn(ctx, now.Add(maxSkew), sweepBatch, ClaimAwaiting)
	if err != nil {
		return err
	}
	var errs []error // one that can't be settled does not keep the others waiting
	for i := range waiting {
		errs = append(errs, s.settleClaim(ctx, &waiting[i], unanswered(&waiting[i])))
	}
	given, err := s.cfg.Store.ClaimsIn(ctx, now.Add(maxSkew), sweepBatch, ClaimApproved, ClaimOpened)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for i := range given {
		errs = append(errs, s.settleGiven(ctx, &given[i]))
	}
	return errors.Join(errs...)
}

// settleGiven looks at what became of an approved claim, once its account's hour and a
// margin are over.
func (s *Service) settleGiven(ctx context.Context, claim *Claim) error {
	_, _, acct, err := s.claimParts(ctx, claim)
	if err != nil {
		return err
	}
	now := s.timeFor(acct)
	if !s.overForGood(acct) || now.Before(acct.ExpiresAt.Add(adoptedMargin)) {
		return nil
	}
	m, known := s.outcomeOf(ctx, claim, now.UTC())
	if !known {
		return nil
	}
	return s.settleClaim(ctx, claim, m)
}

// maxSkew is how far our clock may be behind the API's for a claim to be looked at in time.
const maxSkew = 24 * time.Hour

// settleClaim makes a move that time made, if the account is over beyond doubt: a clock
// that jumped must not decide.
func (s *Service) settleClaim(ctx context.Context, claim *Claim, m ClaimMove) error {
	_, sess, acct, err := s.claimParts(ctx, claim)
	if err != nil || !s.overForGood(acct) {
		return err
	}
	unrecorded, err := s.moveClaim(ctx, claim, sess, m)
	if IsCode(err, CodeSessionClosed) {
		return nil // somebody was first
	}
	return cmp.Or(err, unrecorded)
}

func (s *Service) claimByID(ctx context.Context, id string) (*Claim, *Session, *Account, error) {
	claim, err := s.cfg.Store.ClaimByID(ctx, id)
	if err != nil {
		return nil, nil, nil, err
	}
	return s.claimParts(ctx, claim)
}

// claimDeployments are what an account has that a claim is about, newest first.
func (s *Service) claimDeployments(ctx context.Context, sess *Session, acct *Account) ([]Deployment, error) {
	deps, err := s.cfg.Store.Deployments(ctx, sess.ID)
	return slices.DeleteFunc(deps, func(d Deployment) bool { return d.AccountID != acct.ID || d.gone() }), err
}

// Owner is whose agent a session is: the trusted label "owner", else its principal.
func (s *Session) Owner() string { return ownerOf(s.Labels, s.Principal) }

// ownerOf is whose an agent with such trusted labels is.
func ownerOf(labels map[string]string, principal string) string {
	return cmp.Or(labels["owner"], principal)
}
