package deploy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"time"
)

// act is one act under way. Its decision is on record before it is done, its outcome
// after.
type act struct {
	s     *Service
	event Event
	began time.Time
	// approval is the human's yes that it rests on; nil: it needed none.
	approval *Approval
}

// decide asks the policy about an act and puts the decision on record. It refuses what
// is denied, what a human was asked about and has not allowed, and what can't be
// recorded: no record, no act. e names what the act is about; f what only its rules see.
func (s *Service) decide(ctx context.Context, kind Act, c Caller, e Event, f Facts) (*act, error) {
	frozen := s.stopped(ctx, kind)
	if frozen != nil && !IsCode(frozen, CodeFrozen) {
		return nil, frozen
	}
	usage, err := s.cfg.Store.Usage(ctx, c.Principal, s.cfg.Now().Add(-time.Hour))
	if err != nil {
		return nil, err
	}
	f.Principal, f.Labels, f.Client, f.Door = c.Principal, c.Labels, c.Client, c.Door
	f.ClaimedLabels, f.Target, f.Session = e.ClaimedLabels, s.cfg.Cloud.Target(), e.SessionID
	f.Usage, f.Now = usage, s.cfg.Now().UTC()
	d := s.judge(ctx, kind, f)
	if frozen != nil { // whatever the policy says
		d = Decision{Verdict: Deny, Reasons: []Reason{{Rule: "freeze", Verdict: Deny, Message: AsError(frozen).Message}}}
	}
	e.Findings = f.Findings
	return s.decided(ctx, kind, c, e, d, frozen)
}

// judge is the policy's word on an act. A deployment that may end in a teardown, because
// its caller wants it so, is asked about as both: who may not tear down gets no other way
// to it. What a rule requires needs no second word.
func (s *Service) judge(ctx context.Context, kind Act, f Facts) Decision {
	d := s.policy().Decide(ctx, kind, f)
	if kind != ActDeploy || !f.DiscardOnFailedCheck || d.Verdict == Deny || len(requiring(d.Reasons, RequireDiscard)) > 0 {
		return d
	}
	down := s.policy().Decide(ctx, ActTeardown, f)
	if down.Verdict == Allow {
		return d
	}
	for _, r := range down.Reasons {
		if r.Verdict != Allow {
			d.Reasons = append(d.Reasons, Reason{
				Rule: r.Rule, Verdict: Deny, Message: "discard_on_failed_check may end in a teardown, and that is not simply allowed here: " + r.Message,
				Next: "Call again without discard_on_failed_check, or tell the user.",
			})
		}
	}
	d.Verdict = Deny
	return d
}

// decided puts a decision on record and gives its act, or why it is not done: refused,
// where that is known already, else what follows from the decision.
func (s *Service) decided(ctx context.Context, kind Act, c Caller, e Event, d Decision, refused error) (*act, error) {
	a := s.newAct(kind, c, e)
	a.event.Verdict, a.event.Rules = d.Verdict, d.Reasons
	if refused == nil {
		refused = s.refusal(ctx, kind, a)
	}
	if err := s.record(ctx, a.event); err != nil {
		if refused == nil { // nothing was done: a yes that was given for it is still good
			err = cmp.Or(a.giveBack(context.WithoutCancel(ctx)), err)
		}
		return nil, err
	}
	if refused != nil {
		return nil, alsoUnrecorded(refused, a.end(ctx, refused, nil))
	}
	return a, nil
}

// newAct is an act with its event begun: who does what.
func (s *Service) newAct(kind Act, c Caller, e Event) *act {
	e.ActID, e.Act, e.Phase = NewID("a"), string(kind), PhaseDecision
	e.Principal, e.Labels, e.Client, e.Door, e.TraceID, e.Target = c.Principal, c.Labels, c.Client, c.Door, c.TraceID, s.cfg.Cloud.Target()
	return &act{s: s, event: e, began: s.cfg.Now()}
}

// refusal is why an act is not done, by its decision.
func (s *Service) refusal(ctx context.Context, kind Act, a *act) error {
	switch e := &a.event; {
	case e.Verdict == Allow:
		return nil
	case e.Verdict == Ask && kind == ActRequestClaim:
		return nil // asking a human is what the act does
	case e.Verdict == Ask:
		return s.approved(ctx, kind, a)
	}
	return errDenied(kind, &a.event)
}

// errDenied tells what the rules said, in their words.
func errDenied(kind Act, e *Event) *Error {
	r := strongest(e.Rules, Deny)
	message := cmp.Or(r.Message, "the policy of this server does not allow it")
	out := Errorf(CodePolicyDenied, cmp.Or(r.Next, "Tell the user; the operator's policy file has the rule."),
		"%s was denied by the rule %q: %s", kind, r.Rule, message)
	for _, f := range e.Findings {
		out.Diagnostics = append(out.Diagnostics, Diagnostic{
			File: f.File, Line: f.Line, Text: f.Kind + " " + f.Sample, Suggestion: "fingerprint " + f.Fingerprint,
		})
	}
	return out
}

func strongest(rules []Reason, v Verdict) Reason {
	for _, r := range rules {
		if r.Verdict == v {
			return r
		}
	}
	return Reason{Rule: "unnamed", Verdict: v}
}

// end puts the outcome on record: "ok", or the error's code. more adds what is known
// only now. What was done is done, also where that can't be recorded: the caller says so.
func (a *act) end(ctx context.Context, err error, more func(*Event)) error {
	e := a.event
	e.Phase, e.Verdict, e.Rules, e.Findings = PhaseOutcome, "", nil, nil
	e.Outcome = "ok"
	if err != nil {
		failed := AsError(err)
		e.Outcome, e.Detail = string(failed.Code), failed.Message
	}
	if more != nil {
		more(&e)
	}
	e.DurationMS = a.s.cfg.Now().Sub(a.began).Milliseconds()
	return a.s.record(ctx, e)
}

// notice puts on record what nobody's act changed.
func (s *Service) notice(ctx context.Context, kind string, e Event) error {
	e.ActID, e.Act, e.Phase, e.Target = NewID("n"), kind, PhaseNotice, s.cfg.Cloud.Target()
	return s.record(ctx, e)
}

// record appends to the audit log, without any secret.
func (s *Service) record(ctx context.Context, e Event) error {
	if s.cfg.Record == nil {
		return nil
	}
	e.At = s.cfg.Now().UTC()
	if e.SessionPrincipal == e.Principal && maps.Equal(e.SessionLabels, e.Labels) {
		e.SessionPrincipal, e.SessionLabels = "", nil // it is the caller's own
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return errUnrecorded(err)
	}
	var clean Event
	if err := json.Unmarshal(s.cfg.Redactor.RedactBytes(raw), &clean); err != nil {
		return errUnrecorded(err)
	}
	if err := s.cfg.Record.Append(context.WithoutCancel(ctx), clean); err != nil {
		return errUnrecorded(err)
	}
	return nil
}

func errUnrecorded(err error) *Error {
	return Errorf(CodeStore, "Tell the user: the audit log needs attention, and nothing is done that can't be recorded. `mcp-server doctor`, where this server runs, says more.",
		"the audit log can't be written").Caused(err)
}

// notOnRecord is what a result says when the outcome of its act could not be recorded.
func notOnRecord(unrecorded error) string {
	return "The outcome could not be put on record: " + AsError(unrecorded).Message
}

// alsoUnrecorded is err, which also says that it could not be put on record; unrecorded
// may be nil.
func alsoUnrecorded(err, unrecorded error) error {
	if err == nil || unrecorded == nil {
		return err
	}
	told := *AsError(err)
	told.Message += ". " + notOnRecord(unrecorded)
	told.Cause = errors.Join(err, unrecorded)
	return &told
}

// notify tells people elsewhere.
func (s *Service) notify(kind string, data map[string]any) {
	if s.cfg.Notifier != nil {
		s.cfg.Notifier.Notify(Notice{Type: kind, At: s.cfg.Now().UTC(), Data: data})
	}
}

// policy is the operator's, or the plain one: what holds secrets is denied, keeping is
// asked, everything else allowed.
func (s *Service) policy() Policy {
	if s.cfg.Policy != nil {
		return s.cfg.Policy
	}
	return plainPolicy{}
}

type plainPolicy struct{}

// Decide implements Policy.
func (plainPolicy) Decide(_ context.Context, act Act, f Facts) Decision {
	if len(f.Findings) > 0 {
		return Decision{Verdict: Deny, Reasons: []Reason{{
			Rule: "plain", Verdict: Deny, Message: "What would become public holds something that looks like a secret.",
			Next: "Take it out of the code; give it to the Worker as a secret binding.",
		}}}
	}
	if act == ActRequestClaim {
		return Decision{Verdict: Ask, Reasons: []Reason{{Rule: "plain", Verdict: Ask, Message: "Keeping an account is a human's decision."}}}
	}
	return Decision{Verdict: Allow}
}

// claimed are the labels that a model gives itself; what a trusted label says is none.
func claimed(runID, jobID string, trusted map[string]string) map[string]string {
	out := map[string]string{"run_id": runID, "job_id": jobID}
	maps.DeleteFunc(out, func(k, v string) bool { return v == "" || v == trusted[k] })
	if len(out) == 0 {
		return nil
	}
	return out
}

// aboutSession is what a record says of a session and its account.
func aboutSession(sess *Session, a *Account) Event {
	e := Event{
		SessionID: sess.ID, SessionPrincipal: sess.Principal, SessionLabels: sess.Labels,
		ClaimedLabels: claimed(sess.RunID, sess.JobID, sess.Labels),
	}
	if a != nil {
		e.AccountID, e.AccountName, e.ExpiresAt = a.ID, a.Name, a.ExpiresAt
	}
	return e
}
