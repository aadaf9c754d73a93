package deploy

import (
	"cmp"
	"context"
	"slices"
	"time"
)

const (
	maxListed  = 50               // sessions in one status
	probeFresh = 10 * time.Second // how old a probe may be to be shown again
	probeLimit = 3 * time.Second  // how long one probe of a status may take
)

// clockAsk keeps status calls that come at once from asking the API's time each.
type clockAsk struct {
	last time.Time // when the last question was put; guarded by the lock "clock"
}

// askClock hears the API's time; who waited while another asked has heard it too. Not
// to be answered is no error: our own clock runs on.
func (s *Service) askClock(ctx context.Context) {
	came := time.Now()
	unlock, err := s.locks.lock(ctx, "clock")
	if err != nil {
		return
	}
	defer unlock()
	if s.clock.last.After(came) {
		return
	}
	ctx, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	asked := time.Now()
	// Also when nobody answered: else all who came meanwhile would wait for that in turn.
	_, _ = s.cfg.Cloud.AskClock(ctx)
	s.clock.last = asked
}

// Status tells how the caller's sessions stand, newest first; one of them where req
// names it. What is live of the current (or named) session is probed; a probe is at
// most 10 s old.
func (s *Service) Status(ctx context.Context, c Caller, req StatusRequest) (*StatusResult, error) {
	var sessions []Session
	if req.SessionID != "" {
		one, err := s.cfg.Store.Session(ctx, c.Principal, req.SessionID)
		if err != nil {
			return nil, err
		}
		sessions = []Session{*one}
	} else {
		var err error
		if sessions, err = s.cfg.Store.Sessions(ctx, c.Principal, maxListed); err != nil {
			return nil, err
		}
	}
	current, err := s.cfg.Store.CurrentSession(ctx, c.Principal, c.Scope, "")
	if err != nil {
		return nil, err
	}
	res := &StatusResult{Sessions: make([]SessionStatus, 0, len(sessions))}
	for _, sess := range sessions {
		isCurrent := current != nil && current.ID == sess.ID
		st, err := s.sessionStatus(ctx, sess, req.SessionID != "" || isCurrent)
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

func (s *Service) sessionStatus(ctx context.Context, sess Session, look bool) (*SessionStatus, error) {
	st := &SessionStatus{
		SessionID: sess.ID, RunID: sess.RunID, JobID: sess.JobID, Labels: sess.Labels,
		Phase: PhaseExpired, Deployments: []DeploymentStatus{},
	}
	accounts, err := s.tended(ctx, sess, look)
	if err != nil {
		return nil, err
	}
	steps, err := s.cfg.Store.Steps(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	if len(accounts) == 0 {
		st.Steps = loose(steps, "")
		st.Next = noAccountNext(sess.ID, steps)
		return st, nil
	}
	acct := &accounts[0]
	st.Retired = len(accounts) - 1
	st.Steps = loose(steps, acct.ID)
	ours := acct.Target == s.cfg.Cloud.Target()
	now := s.timeFor(acct)
	st.Account, st.ExpiresAt = acct.Name, acct.ExpiresAt
	st.Phase, st.MinutesLeft = acct.Phase(now), minutesLeft(acct, now)
	live := ours && (st.Phase == PhaseLive || st.Phase == PhaseExpiring)
	touched := s.touch(ctx, &sess, acct, look && live)
	st.Deployments, err = s.deploymentStatus(ctx, sess, acct, look && live, live)
	foreign := touched()
	if err != nil {
		return nil, err
	}
	claim, err := s.cfg.Store.Claim(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	if claim != nil && claim.AccountID == acct.ID {
		st.Claim = string(claim.StateAt(now))
	}
	st.Warnings = append(endWarnings(st.Phase, st.MinutesLeft), foreign...)
	st.Next = statusNext(st)
	if last := lastAccount(steps); last != nil && last.State == StepLost && !live {
		st.Next = noAccountNext(sess.ID, steps)
	}
	return st, nil
}

// tended gives a session's accounts, newest first, after looking after it.
func (s *Service) tended(ctx context.Context, sess Session, look bool) ([]Account, error) {
	accounts, err := s.cfg.Store.Accounts(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	if look && len(accounts) > 0 && accounts[0].Target == s.cfg.Cloud.Target() && accounts[0].State == AccountCurrent {
		s.askClock(ctx)
	}
	if err := s.tend(ctx, &sess); err != nil {
		return nil, err
	}
	if accounts, err = s.cfg.Store.Accounts(ctx, sess.ID); err == nil {
		s.learn(accounts)
	}
	return accounts, err
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
		if step.Kind == StepDiscard {
			step.Note = cmp.Or(step.Note, noteDiscard)
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
		if len(st.Deployments) > 0 {
			next.Args["bundle_id"] = st.Deployments[0].BundleID
		}
		return next
	case st.Phase == PhaseExpiring:
		return NextStep{Do: "Under ten minutes are left. If the user wants to keep this, call request_claim now.", Tool: "request_claim", Args: args}
	case len(st.Deployments) == 0:
		return NextStep{Do: "The account is there, but nothing is deployed to it.", Tool: "deploy_temporary", Args: args}
	}
	return NextStep{Do: "It is live. Deploy changes into the same session; call request_claim only if the user wants to keep it.", Tool: "deploy_temporary", Args: args}
}

// deploymentStatus lists the newest deployment of each Worker on the account.
func (s *Service) deploymentStatus(ctx context.Context, sess Session, acct *Account, look, live bool) ([]DeploymentStatus, error) {
	deps, err := s.cfg.Store.Deployments(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	out := []DeploymentStatus{}
	seen := map[string]bool{}
	for _, d := range deps {
		if d.AccountID != acct.ID || seen[d.Worker] || d.gone() {
			continue
		}
		seen[d.Worker] = true
		if look {
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

// probeOnce looks at what a deployment serves, unless that was done within 10 s. One
// look at a time: who comes second reads what the first saw.
func (s *Service) probeOnce(ctx context.Context, d Deployment) (Deployment, error) {
	unlock, err := s.locks.lock(ctx, "probe\x00"+d.ID)
	if err != nil {
		return d, err
	}
	defer unlock()
	if d, err = s.deployment(ctx, d); err != nil {
		return d, err
	}
	if d.Host == "" || d.Check != nil && s.cfg.Now().Sub(d.Check.ProbedAt) < probeFresh && d.Serving == ServingYes {
		return d, nil
	}
	if d.URL, err = s.cfg.Edge.URL(ctx, d.Host); err != nil {
		return d, err
	}
	limited, stop := context.WithTimeout(ctx, probeLimit)
	defer stop()
	check := Check{Path: "/", Version: VersionUnconfirmed, ProbedAt: s.cfg.Now().UTC()}
	if d.Check != nil {
		check.Path, check.Version, check.Evidence = d.Check.Path, d.Check.Version, d.Check.Evidence
	}
	resp, err := s.cfg.Edge.Fetch(limited, d.Host, check.Path, nil)
	switch {
	case ctx.Err() != nil:
		return d, ctx.Err()
	case err != nil:
		check.Error = "no answer: " + s.cfg.Redactor.Redact(AsError(err).Message)
	default:
		check.Status, check.OK = resp.Status, resp.Status < 400
		check.LatencyMS = float64(resp.Latency.Microseconds()) / 1000
		check.BodyExcerpt = s.excerpt(resp)
	}
	return s.saveProbe(context.WithoutCancel(ctx), d, check)
}

// saveProbe keeps what a status saw, on top of what a deployment's own check may have
// written down meanwhile.
func (s *Service) saveProbe(ctx context.Context, d Deployment, check Check) (Deployment, error) {
	unlock, err := s.locks.lock(ctx, "row\x00"+d.ID)
	if err != nil {
		return d, err
	}
	defer unlock()
	again, err := s.deployment(ctx, d)
	if err != nil {
		return d, err
	}
	if again.Check != nil && again.Check.ProbedAt.After(check.ProbedAt) {
		return again, nil
	}
	if again.confirmed() {
		check.Version, check.Evidence = again.Check.Version, again.Check.Evidence
	}
	if check.Status != 0 && check.OK {
		again.Serving = ServingYes
	}
	again.URL, again.Check = d.URL, &check
	return again, s.cfg.Store.SaveDeployment(ctx, again)
}

// deployment reads d again.
func (s *Service) deployment(ctx context.Context, d Deployment) (Deployment, error) {
	deps, err := s.cfg.Store.Deployments(ctx, d.SessionID)
	if err != nil {
		return d, err
	}
	for _, again := range deps {
		if again.ID == d.ID {
			return again, nil
		}
	}
	return d, nil
}
