package deploy

import (
	"context"
	"slices"
	"time"
)

// maxListed is how many sessions one status tells of.
const maxListed = 50

// Status tells how the caller's sessions stand, newest first; one of them where req
// names it. What is live of the current (or named) session is probed; a probe is at
// most 10 s old, and says when it was made. A session of which nothing is live, or of
// which everything was looked at just now, takes one read of the store.
func (s *Service) Status(ctx context.Context, c Caller, req StatusRequest) (*StatusResult, error) {
	pictures, err := s.cfg.Store.Pictures(ctx, c.Principal, req.SessionID, maxListed)
	if err != nil {
		return nil, err
	}
	res := &StatusResult{Sessions: make([]SessionStatus, 0, len(pictures))}
	for i := range pictures {
		p := &pictures[i]
		isCurrent := p.Newest && p.Session.Scope == c.Scope
		if p, err = s.upToDate(ctx, p, req.SessionID != "" || isCurrent); err != nil {
			return nil, err
		}
		st, err := s.sessionStatus(ctx, p, req.SessionID != "" || isCurrent)
		if err != nil {
			return nil, err
		}
		st.Current = isCurrent
		res.Sessions = append(res.Sessions, *st)
	}
	res.Next = NextStep{Do: "Nothing is deployed yet. Call deploy_temporary.", Tool: "deploy_temporary"}
	if len(res.Sessions) > 0 {
		res.Next = res.Sessions[0].Next
	}
	return res, nil
}

// upToDate gives the picture of a session after what is due to it: the API's time, and to
// be looked after. It is read again only where something of that was done.
func (s *Service) upToDate(ctx context.Context, p *Picture, look bool) (*Picture, error) {
	s.learn(p.Accounts)
	again := false
	acct := p.account()
	if look && acct != nil && acct.Target == s.cfg.Cloud.Target() && acct.State == AccountCurrent && s.clockDue() {
		s.askClock(ctx)
		again = true
	}
	if s.needsTending(p) {
		if err := s.tend(ctx, &p.Session); err != nil {
			return nil, err
		}
		again = true
	}
	if !again {
		return p, nil
	}
	after, err := s.picture(ctx, &p.Session)
	if err != nil {
		return nil, err
	}
	s.learn(after.Accounts)
	return after, nil
}

// picture reads one session.
func (s *Service) picture(ctx context.Context, sess *Session) (*Picture, error) {
	found, err := s.cfg.Store.Pictures(ctx, sess.Principal, sess.ID, 1)
	if err != nil {
		return nil, err
	}
	return &found[0], nil
}

func (s *Service) sessionStatus(ctx context.Context, p *Picture, look bool) (*SessionStatus, error) {
	sess := p.Session
	st := &SessionStatus{
		SessionID: sess.ID, RunID: sess.RunID, JobID: sess.JobID, Labels: sess.Labels,
		Phase: PhaseExpired, Deployments: []DeploymentStatus{},
	}
	acct := p.account()
	if acct == nil {
		st.Steps = loose(p.Steps, "")
		st.Next = noAccountNext(sess.ID, p.Steps)
		return st, nil
	}
	st.Retired = len(p.Accounts) - 1
	st.Steps = loose(p.Steps, acct.ID)
	ours := acct.Target == s.cfg.Cloud.Target()
	now := s.timeFor(acct)
	st.Account, st.ExpiresAt = acct.Name, acct.ExpiresAt
	st.Phase, st.MinutesLeft = acct.Phase(now), minutesLeft(acct, now)
	live := ours && (st.Phase == PhaseLive || st.Phase == PhaseExpiring)
	touched := s.touch(ctx, p, look && live)
	var err error
	st.Deployments, err = s.deploymentStatus(ctx, p, look && live, live)
	foreign := touched()
	if err != nil {
		return nil, err
	}
	if p.Claim != nil && p.Claim.AccountID == acct.ID {
		st.Claim, st.Custody = string(p.Claim.StateAt(now)), p.Claim.Custody
	}
	st.Warnings = append(endWarnings(st.Phase, st.MinutesLeft), foreign...)
	st.Next = statusNext(st)
	if last := lastAccount(p.Steps); last != nil && last.State == StepLost && !live {
		st.Next = noAccountNext(sess.ID, p.Steps)
	}
	return st, nil
}

// noAccountNext is what to do with a session whose account is not there: not made yet, or
// made without an answer.
func noAccountNext(session string, steps []Step) NextStep {
	args := map[string]any{"session_id": session}
	if last := lastAccount(steps); last != nil && last.State == StepLost {
		args["fresh"], args["bundle_id"] = true, last.BundleID
		return NextStep{Do: "The answer to the making of this session's account was lost. " + noteAccountLost + " To make another one, deploy with fresh: true.", Tool: "deploy_temporary", Args: args}
	}
	return NextStep{Do: "This session has no account yet: nothing of it is live.", Tool: "deploy_temporary", Args: args}
}

// maxSteps is how many steps a status names.
const maxSteps = 5

// loose lists the newest steps that ended nowhere, as far as they matter: on the account
// in use, and not done again since.
func loose(steps []Step, account string) []StepStatus {
	var out []StepStatus
	done := map[string]bool{}
	for _, step := range slices.Backward(steps) {
		key := string(step.Kind) + " " + step.What
		if step.State == StepDone || step.State == StepFailed {
			done[key] = done[key] || step.State == StepDone
			continue
		}
		if done[key] || step.AccountID != account && step.AccountID != "" || len(out) == maxSteps {
			continue
		}
		state := StepUnresolved
		if step.State == StepLost {
			state = string(StepLost)
		}
		out = append(out, StepStatus{Kind: step.Kind, What: step.What, State: state, Note: step.Note})
	}
	return out
}

func statusNext(st *SessionStatus) NextStep {
	args := map[string]any{"session_id": st.SessionID}
	switch {
	case st.Claim == string(ClaimAwaiting):
		return NextStep{Do: "A human has been asked to keep this account. Stop and wait for the user; do not poll."}
	case ClaimState(st.Claim).Given():
		return NextStep{Do: "The user approved keeping the account; it is theirs once they finish at Cloudflare. Deploy elsewhere with fresh: true.", Tool: "deploy_temporary", Args: map[string]any{"session_id": st.SessionID, "fresh": true}}
	case st.Phase == PhaseClosed || st.Phase == PhaseExpired:
		next := NextStep{Do: "This account is over. To put it live again, on a new account and URL, deploy again.", Tool: "deploy_temporary", Args: map[string]any{}}
		if st.Claim == string(ClaimLapsed) {
			next.Do = "The request to keep this account lapsed: nobody decided in time, or it was not finished at Cloudflare. Tell the user. To put it live again, on a new account and URL, deploy again."
		}
		if len(st.Deployments) > 0 {
			next.Args["bundle_id"] = st.Deployments[0].BundleID
		}
		return next
	case st.Claim == string(ClaimRefused):
		return NextStep{Do: "The user said no to keeping this account: it ends at its time. Deploy changes into the same session; ask again only if the user wants it.", Tool: "deploy_temporary", Args: args}
	case st.Phase == PhaseExpiring:
		return NextStep{Do: "Under ten minutes are left. If the user wants to keep this, call request_claim now.", Tool: "request_claim", Args: args}
	case len(st.Deployments) == 0:
		return NextStep{Do: "The account is there, but nothing is deployed to it.", Tool: "deploy_temporary", Args: args}
	}
	return NextStep{Do: "It is live. Deploy changes into the same session; call request_claim only if the user wants to keep it.", Tool: "deploy_temporary", Args: args}
}

// deploymentStatus lists the newest deployment of each Worker on the account.
func (s *Service) deploymentStatus(ctx context.Context, p *Picture, look, live bool) ([]DeploymentStatus, error) {
	acct := p.account()
	out := []DeploymentStatus{}
	for _, d := range p.Deployments {
		if d.AccountID != acct.ID {
			continue
		}
		if look && s.probeDue(&d) {
			var err error
			if d, err = s.probeOnce(ctx, d); err != nil {
				return nil, err
			}
		}
		if !live {
			d.Serving = ServingNotYet
			if acct.State == AccountClaimed {
				d.Serving = ""
			}
		}
		out = append(out, DeploymentStatus{
			DeploymentID: d.ID, Worker: d.Worker, URL: d.URL, VersionID: d.VersionID, BundleID: d.BundleID,
			Digest: d.Digest, AgeSeconds: int(s.timeFor(acct).Sub(d.CreatedAt) / time.Second), Serving: d.Serving, Probe: d.Check,
		})
	}
	return out, nil
}
