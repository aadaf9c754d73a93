package deploy

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// RequestClaim asks a human to keep the session's account. It returns at once; asked
// again while the human has not answered, it gives the same claim. Cloudflare's claim
// link never passes through here.
func (s *Service) RequestClaim(ctx context.Context, c Caller, req ClaimRequest) (*ClaimResult, error) {
	if s.cfg.ReadOnly {
		return nil, errReadOnly()
	}
	if s.cfg.Pages == nil && s.cfg.Sealer == nil {
		return nil, Errorf(CodeNoApproval, "Tell the user that this server has no page for an approval; its operator can turn one on.",
			"there is no way to ask a human from here")
	}
	sess, err := s.claimSession(ctx, c, req.SessionID)
	if err != nil {
		return nil, err
	}
	var res *ClaimResult
	err = s.inTurn(ctx, sessionTurn(sess.ID), s.cfg.TurnWait, func(ctx context.Context, lease *Lease) (err error) {
		if req.Withdraw {
			res, err = s.withdraw(ctx, c, sess)
			return err
		}
		res, err = s.requestClaim(ctx, c, lease, *sess, req)
		return err
	})
	return res, err
}

func (s *Service) requestClaim(ctx context.Context, c Caller, lease *Lease, sess Session, req ClaimRequest) (*ClaimResult, error) {
	if err := s.lookAfter(ctx, lease, &sess); err != nil {
		return nil, err
	}
	acct, deps, err := s.claimable(ctx, sess)
	if err != nil {
		return nil, err
	}
	claim, err := s.askedAlready(ctx, c, sess, acct, deps)
	if err != nil {
		return nil, err
	}
	var unrecorded error
	if claim == nil {
		if claim, unrecorded, err = s.askToKeep(ctx, c, sess, acct, deps, req.Message); err != nil {
			return nil, err
		}
	}
	res, err := s.claimResult(ctx, claim, acct)
	if err == nil && unrecorded != nil {
		res.Warnings = append(res.Warnings, notOnRecord(unrecorded))
	}
	return res, alsoUnrecorded(err, unrecorded)
}

// askedAlready looks at what is on the account, and finds the claim that stands on exactly
// that; nil: there is none. One that stands on something else is withdrawn: no human may
// say yes to it any more.
func (s *Service) askedAlready(ctx context.Context, c Caller, sess Session, acct *Account, deps []Deployment) (*Claim, error) {
	var foreign []ForeignChange
	if acct.State == AccountCurrent {
		var err error
		if foreign, err = s.lookForClaim(ctx, &sess, acct); err != nil {
			return nil, err
		}
	}
	claim, err := s.standingClaim(ctx, sess, acct)
	if err != nil || claim == nil || claim.State != ClaimAwaiting || claim.Digest == accountDigest(deps, foreign) {
		return claim, err
	}
	unrecorded, err := s.moveClaim(ctx, claim, &sess, ClaimMove{
		To: ClaimWithdrawn, By: c.Principal, Evidence: "what is on the account has changed since it was asked about",
	})
	return nil, cmp.Or(err, unrecorded)
}

// askToKeep is the act of asking: decided, recorded, done. unrecorded says that it was
// done, and that its outcome is not on record.
func (s *Service) askToKeep(ctx context.Context, c Caller, sess Session, acct *Account, deps []Deployment, message string) (claim *Claim, unrecorded, err error) {
	foreign, err := s.foreignOn(ctx, acct)
	if err != nil {
		return nil, nil, err
	}
	e := aboutSession(&sess, acct)
	e.Digest = accountDigest(deps, foreign)
	a, err := s.decide(ctx, ActRequestClaim, c, e, s.claimFacts(ctx, sess, deps))
	if err != nil {
		return nil, nil, err
	}
	claim, err = s.openClaim(ctx, sess, acct, e.Digest, message, ownerOf(c.Labels, c.Principal))
	unrecorded = a.end(ctx, err, func(e *Event) {
		if claim != nil {
			e.ClaimID, e.Data = claim.ID, map[string]string{"custody": claim.Custody}
		}
	})
	if err != nil {
		return nil, nil, alsoUnrecorded(err, unrecorded)
	}
	data := s.claimData(claim, &sess)
	if len(foreign) > 0 {
		data["foreign_changes"] = len(foreign) // the page names them
	}
	s.notify(NoticeClaimWaiting, data)
	return claim, unrecorded, nil
}

// claimFacts are the newest deployment's: what a rule about keeping can look at.
func (s *Service) claimFacts(ctx context.Context, sess Session, deps []Deployment) Facts {
	if len(deps) == 0 {
		return Facts{}
	}
	a, err := s.cfg.Store.Artifact(ctx, sess.Principal, deps[0].BundleID)
	if err != nil {
		return Facts{Worker: WorkerFacts{Name: deps[0].Worker, Digest: deps[0].Digest}}
	}
	return Facts{Worker: a.Facts()}
}

func (s *Service) claimSession(ctx context.Context, c Caller, id string) (*Session, error) {
	if id != "" {
		return s.cfg.Store.Session(ctx, c.Principal, id)
	}
	sess, err := s.cfg.Store.CurrentSession(ctx, c.Principal, c.Scope, "")
	if err == nil && sess == nil {
		return nil, Errorf(CodeNothingToClaim, "Call deploy_temporary first, or status to find an earlier session.",
			"this caller has no current session, so there is nothing to keep")
	}
	return sess, err
}

// claimable gives the account that could be kept and what is deployed on it. A claim
// that was decided already is told from the account's state.
func (s *Service) claimable(ctx context.Context, sess Session) (*Account, []Deployment, error) {
	accounts, err := s.cfg.Store.Accounts(ctx, sess.ID)
	if err != nil {
		return nil, nil, err
	}
	if len(accounts) == 0 {
		return nil, nil, errNothingToClaim(sess.ID)
	}
	s.learn(accounts)
	acct := &accounts[0]
	if acct.State == AccountClaimed {
		return acct, nil, nil
	}
	if acct.Target == s.cfg.Cloud.Target() {
		s.askClock(ctx)
	}
	if !acct.Usable(s.timeFor(acct), 0) || acct.ClaimURL.Empty() {
		return nil, nil, s.errExpired(sess.ID, acct)
	}
	deps, err := s.claimDeployments(ctx, &sess, acct)
	if err != nil {
		return nil, nil, err
	}
	if len(deps) == 0 {
		return nil, nil, errNothingToClaim(sess.ID)
	}
	return acct, deps, nil
}

func errNothingToClaim(session string) *Error {
	return Errorf(CodeNothingToClaim, "Call deploy_temporary first; ask for a claim when the user wants to keep what works.",
		"nothing is deployed in session %s, so there is nothing to keep", session)
}

// standingClaim finds the claim that stands on an account; nil: there is none.
func (s *Service) standingClaim(ctx context.Context, sess Session, acct *Account) (*Claim, error) {
	claim, err := s.cfg.Store.Claim(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	if claim != nil && claim.AccountID == acct.ID {
		if st := claim.StateAt(s.timeFor(acct)); st == ClaimAwaiting || st.Given() || acct.State == AccountClaimed && claim.Approved() {
			return claim, nil
		}
	}
	if acct.State == AccountClaimed {
		return nil, s.errExpired(sess.ID, acct)
	}
	return nil, nil
}

// openClaim makes a claim on what digest names.
func (s *Service) openClaim(ctx context.Context, sess Session, acct *Account, digest, message, asker string) (*Claim, error) {
	now := s.timeFor(acct)
	const maxMessage = 1000
	expires := acct.ExpiresAt
	if !acct.ClaimExpiresAt.IsZero() && acct.ClaimExpiresAt.Before(expires) {
		expires = acct.ClaimExpiresAt
	}
	fresh := Claim{
		ID: NewID("c"), SessionID: sess.ID, AccountID: acct.ID, Principal: sess.Principal,
		PageToken: Secret(rand.Text() + rand.Text()), State: ClaimAwaiting,
		Message: cut(s.cfg.Redactor.Redact(message), maxMessage), Digest: digest,
		AskedAt: now.UTC(), ExpiresAt: expires,
	}
	fresh.Yes = s.yesRule(s.humanLink(&fresh))
	fresh.Yes.Asker = asker
	fresh.Custody = acct.custody(fresh.Yes)
	// Before it is on record: a claim that nobody can be asked about freezes the session.
	if !SealedClaim(acct.ClaimURL) {
		if _, err := s.pageURL(ctx, &fresh); err != nil {
			return nil, err
		}
	}
	if err := s.cfg.Store.SaveClaim(ctx, fresh); err != nil {
		return nil, err
	}
	return &fresh, nil
}

// pageURL is where the human decides.
func (s *Service) pageURL(ctx context.Context, claim *Claim) (string, error) {
	if s.cfg.Pages == nil {
		return "", Errorf(CodeNoApproval, "Tell the user that this server has no page for an approval; its operator can turn one on.",
			"there is no way to ask a human from here")
	}
	url, err := s.cfg.Pages.URL(ctx, claim)
	if err != nil {
		return "", Errorf(CodeNoApproval, "Tell the user that the page for an approval can't be opened; the server's log has the cause.",
			"there is no way to ask a human from here").Caused(err)
	}
	return url, nil
}

// newestByWorker keeps the newest deployment of each Worker; deps are newest first.
func newestByWorker(deps []Deployment) []Deployment {
	seen := map[string]bool{}
	var out []Deployment
	for _, d := range deps {
		if !seen[d.Worker] {
			seen[d.Worker] = true
			out = append(out, d)
		}
	}
	return out
}

// accountDigest fixes what is adopted: every Worker with the digest of what it serves, and
// what is known to be there that is not ours.
func accountDigest(deps []Deployment, foreign []ForeignChange) string {
	lines := []string{}
	for _, f := range foreign {
		lines = append(lines, "foreign "+f.Worker+" "+f.VersionID+"\n")
	}
	for _, d := range newestByWorker(deps) {
		lines = append(lines, d.Worker+" "+d.Digest+"\n")
	}
	slices.Sort(lines)
	h := sha256.New()
	for _, l := range lines {
		h.Write([]byte(l))
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (s *Service) claimResult(ctx context.Context, claim *Claim, acct *Account) (*ClaimResult, error) {
	now := s.timeFor(acct)
	res := &ClaimResult{
		Claim: claim.StateAt(now), SessionID: claim.SessionID, ExpiresAt: claim.ExpiresAt,
		MinutesLeft: max(0, int(claim.ExpiresAt.Sub(now)/time.Minute)),
		Warnings:    append(endWarnings(acct.Phase(now), minutesLeft(acct, now)), s.foreignWarnings(ctx, acct)...),
		Next:        NextStep{Do: "Relay tell_user to the user, then stop. Do not poll and do not deploy to this session meanwhile."},
		Custody:     claim.Custody, Login: claim.Yes.Where != "",
	}
	if SealedClaim(acct.ClaimURL) {
		res.Command = "mcp-server claim " + claim.SessionID
	}
	if res.Claim.Given() {
		res.Next = NextStep{Do: "The user has approved already. Stop; nothing more is needed from you."}
		return res, nil
	}
	if res.Command != "" {
		res.Next.Do = "Relay tell_user to the user, then stop: only they can open the claim, with their own key. Do not run the command yourself, do not poll, and do not deploy to this session meanwhile."
		return res, nil
	}
	url, err := s.pageURL(ctx, claim)
	if err != nil {
		return nil, err
	}
	res.PageURL = url
	return res, nil
}

// ClaimView is what the human is shown under a page token; CodeSessionNotFound.
func (s *Service) ClaimView(ctx context.Context, token string) (*ClaimView, error) {
	claim, err := s.claimByPage(ctx, token)
	if err != nil {
		return nil, err
	}
	return s.ClaimViewByID(ctx, claim.ID)
}

// ClaimViewByID is what a human is shown who may see everybody's; CodeSessionNotFound.
func (s *Service) ClaimViewByID(ctx context.Context, id string) (*ClaimView, error) {
	claim, sess, acct, err := s.claimByID(ctx, id)
	if err != nil {
		return nil, err
	}
	deps, err := s.claimDeployments(ctx, sess, acct)
	if err != nil {
		return nil, err
	}
	estate, err := s.estate(ctx, sess, acct, deps)
	if err != nil {
		return nil, err
	}
	now := s.timeFor(acct)
	shown := *acct
	shown.Token, shown.ClaimURL = "", ""
	asked := *claim
	asked.PageToken = ""
	return &ClaimView{
		Claim: asked, Session: *sess, Account: shown, Estate: estate, State: claim.StateAt(now), Left: max(0, claim.ExpiresAt.Sub(now)),
		Sealed: len(acct.SealedTo) > 0 || SealedClaim(acct.ClaimURL),
	}, nil
}

func (s *Service) claimByPage(ctx context.Context, token string) (*Claim, error) {
	claim, err := s.cfg.Store.ClaimByPage(ctx, token)
	if err == nil && claim == nil {
		err = errNoClaim()
	}
	return claim, err
}

func errNoClaim() *Error {
	return Errorf(CodeSessionNotFound, "Ask the agent to call request_claim again.", "there is no claim under this address")
}

// claimParts finds what a claim is about.
func (s *Service) claimParts(ctx context.Context, claim *Claim) (*Claim, *Session, *Account, error) {
	if claim == nil {
		return nil, nil, nil, errNoClaim()
	}
	sess, err := s.cfg.Store.Session(ctx, claim.Principal, claim.SessionID)
	if err != nil {
		return nil, nil, nil, err
	}
	accounts, err := s.cfg.Store.Accounts(ctx, sess.ID)
	if err != nil {
		return nil, nil, nil, err
	}
	s.learn(accounts)
	for i := range accounts {
		if accounts[i].ID == claim.AccountID {
			return claim, sess, &accounts[i], nil
		}
	}
	return nil, nil, nil, fmt.Errorf("claim %s names an account that is not its session's", claim.ID)
}

// ClaimLink is Cloudflare's claim link, which owns the account: given only after the
// approval, only to the browser that approved, and only until the link expires.
func (s *Service) ClaimLink(ctx context.Context, token, browser string) (Secret, error) {
	claim, err := s.claimByPage(ctx, token)
	if err != nil {
		return "", err
	}
	return s.ClaimLinkByID(ctx, claim.ID, browser)
}

// ClaimLinkByID is ClaimLink for a human who may see everybody's.
func (s *Service) ClaimLinkByID(ctx context.Context, id, browser string) (Secret, error) {
	claim, _, acct, err := s.claimByID(ctx, id)
	if err != nil {
		return "", err
	}
	s.askClock(ctx)
	now := s.timeFor(acct)
	switch {
	case SealedClaim(acct.ClaimURL):
		return "", errSealed(claim.SessionID)
	case !claim.Approved():
		return "", Errorf(CodeClaimPending, "Decide on the page first.", "keeping this account has not been approved")
	case browser == "" || claim.Browser != browser:
		return "", Errorf(CodeSessionClosed, "Use the browser in which it was approved.", "another browser approved this")
	case !now.Before(claim.ExpiresAt) || acct.ClaimURL.Empty():
		return "", Errorf(CodeSessionExpired, "Ask the agent to deploy again; this account is gone.", "the claim link is over")
	}
	return acct.ClaimURL, nil
}
