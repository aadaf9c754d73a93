package deploy

import (
	"cmp"
	"context"
	"strings"
)

// TeardownRequest asks that what a session put up be taken down.
type TeardownRequest struct {
	SessionID string // empty: the caller's current session
	// DeploymentID narrows it to that deployment's Worker; the session goes on.
	DeploymentID string
	// Reason goes on record.
	Reason string
}

// TeardownResult is what a teardown came to.
type TeardownResult struct {
	SessionID string `json:"session_id"`
	// Deleted names what is gone: "worker hello", "kv_namespace hello-cache".
	Deleted []string `json:"deleted"`
	// NotUndone says what could not be taken down, or taken back, and why.
	NotUndone []string `json:"not_undone,omitempty"`
	// Closed: the token and the claim link are wiped, and the session takes no more.
	Closed   bool     `json:"closed"`
	Warnings []string `json:"warnings,omitempty"`
	Next     NextStep `json:"next"`
}

// Teardown deletes the Workers and resources of a session's account, then drops its
// token and claim link, then closes the session. It is idempotent: what is gone is no
// error. While something could not be deleted that a later call may delete, the token
// stays and the result says so.
func (s *Service) Teardown(ctx context.Context, c Caller, req TeardownRequest) (*TeardownResult, error) {
	if s.cfg.ReadOnly {
		return nil, errReadOnly()
	}
	sess, err := s.teardownSession(ctx, c, req.SessionID)
	if err != nil {
		return nil, err
	}
	return s.teardown(ctx, c, *sess, req, nil)
}

func (s *Service) teardownSession(ctx context.Context, c Caller, id string) (*Session, error) {
	if id != "" {
		return s.cfg.Store.Session(ctx, c.Principal, id)
	}
	sess, err := s.cfg.Store.CurrentSession(ctx, c.Principal, c.Scope, "")
	if err == nil && sess == nil {
		return nil, Errorf(CodeSessionNotFound, "Call status to find a session, and name it in session_id.", "this caller has no current session")
	}
	return sess, err
}

// RevokeResult is what the taking down of several sessions came to.
type RevokeResult struct {
	SessionID string          `json:"session_id"`
	Principal string          `json:"principal"`
	Result    *TeardownResult `json:"result,omitempty"`
	Error     string          `json:"error,omitempty"`
}

// emergencyStop is the decision about an operator's teardown. It is not the policy's: a
// rule, also one that can't be evaluated, must not keep up what an operator stops. It is
// recorded as any other.
func emergencyStop() *Decision {
	return &Decision{Verdict: Allow, Reasons: []Reason{{Rule: "emergency-stop", Verdict: Allow, Message: "an operator's stop is not asked of the policy"}}}
}

// Revoke takes down every session that the filter lets through, whoever's it is, for an
// operator, whatever the policy says of teardowns; of a filter by deployment, that
// deployment's Worker alone. One that fails does not keep the others up.
func (s *Service) Revoke(ctx context.Context, operator Caller, f SessionFilter, reason string) ([]RevokeResult, error) {
	f.Limit = cmp.Or(f.Limit, maxOperated)
	live := f
	live.Live = true
	out := []RevokeResult{}
	seen := map[string]bool{}
	for pass := live; ; {
		sessions, err := s.cfg.Store.SessionsWhere(ctx, pass)
		if err != nil {
			return out, err
		}
		before := len(out)
		for _, sess := range sessions {
			if seen[sess.ID] {
				continue
			}
			seen[sess.ID] = true
			out = append(out, s.revoke(ctx, operator, sess, f.Deployment, reason))
			if ctx.Err() != nil {
				return out, ctx.Err()
			}
		}
		switch {
		case len(sessions) == f.Limit && len(out) > before: // what is down is live no more: there may be others
		case pass == f:
			return out, nil
		default:
			pass = f // what is not live: the result says what stays of it
		}
	}
}

func (s *Service) revoke(ctx context.Context, operator Caller, sess Session, deployment, reason string) RevokeResult {
	r := RevokeResult{SessionID: sess.ID, Principal: sess.Principal}
	var err error
	if r.Result, err = s.teardown(ctx, operator, sess, TeardownRequest{SessionID: sess.ID, DeploymentID: deployment, Reason: reason}, emergencyStop()); err != nil {
		e := AsError(err)
		r.Error = string(e.Code) + ": " + e.Message
	}
	return r
}

// teardown takes a session down, by a decision that stands already, or the policy's (nil).
func (s *Service) teardown(ctx context.Context, c Caller, sess Session, req TeardownRequest, by *Decision) (*TeardownResult, error) {
	var res *TeardownResult
	err := s.inTurn(ctx, sessionTurn(sess.ID), s.cfg.TurnWait, func(ctx context.Context, lease *Lease) error {
		d := &demolition{s: s, c: c, sess: &sess, req: req, lease: lease}
		err := d.look(ctx)
		if err == nil {
			err = d.onRecord(ctx, by)
			res = d.res
		}
		return err
	})
	return res, err
}

// onRecord decides about a demolition, by a decision that stands already or the policy's,
// carries it out, and puts both on record.
func (d *demolition) onRecord(ctx context.Context, by *Decision) (err error) {
	e := aboutSession(d.sess, d.acct)
	e.Detail, e.DeploymentID, e.Worker = d.req.Reason, d.req.DeploymentID, d.only
	var a *act
	if by != nil {
		a, err = d.s.decided(ctx, ActTeardown, d.c, e, *by, nil)
	} else {
		a, err = d.s.decide(ctx, ActTeardown, d.c, e, Facts{Worker: WorkerFacts{Name: d.only}})
	}
	if err != nil {
		return err
	}
	err = d.carryOut(ctx)
	unrecorded := a.end(ctx, err, func(e *Event) {
		if d.res != nil {
			e.Data = map[string]string{"deleted": strings.Join(d.res.Deleted, ", "), "not_undone": strings.Join(d.res.NotUndone, "; ")}
		}
	})
	if unrecorded != nil && d.res != nil {
		d.res.Warnings = append(d.res.Warnings, notOnRecord(unrecorded))
	}
	return alsoUnrecorded(err, unrecorded)
}
