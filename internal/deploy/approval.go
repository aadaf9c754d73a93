package deploy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// ApprovalState is how far a human has come with an act that a policy asks about.
type ApprovalState string

// The states of an approval.
const (
	ApprovalWaiting ApprovalState = "waiting"
	ApprovalGiven   ApprovalState = "approved"
	ApprovalRefused ApprovalState = "refused"
	ApprovalUsed    ApprovalState = "used" // its one act was done
)

// Approval is a human's answer about one act of one principal on one artifact. It is
// good once, for exactly what was asked.
type Approval struct {
	ID        string
	Principal string
	Act       Act
	SessionID string
	Worker    string
	// Digest is the artifact's; another artifact needs another approval. Of an act that has
	// none it stands for what the act is done to.
	Digest    string
	Labels    map[string]string
	Reasons   []Reason
	State     ApprovalState
	AskedAt   time.Time
	ExpiresAt time.Time
	DecidedAt time.Time
	// By is the human who decided, as the channel knows them; By and the asking principal
	// are recorded apart. Channel is how they were heard, ByOwner whose they are ("": not
	// known).
	By, Channel, ByOwner string
	// Yes is what a yes has to be, fixed when it was asked for.
	Yes YesRule
}

// ApprovalMove is one transition of an approval.
type ApprovalMove struct {
	ID       string
	From, To ApprovalState
	// By, Channel and Owner are the human's, as in Approval.
	By, Channel, Owner string
	At                 time.Time
}

// owner is whose agent asked.
func (a *Approval) owner() string {
	return (&Session{Principal: a.Principal, Labels: a.Labels}).Owner()
}

// move is a transition that leaves who decided as it was.
func (a *Approval) move(from, to ApprovalState) ApprovalMove {
	return ApprovalMove{ID: a.ID, From: from, To: to, By: a.By, Channel: a.Channel, Owner: a.ByOwner, At: a.DecidedAt}
}

// approvalLife is how long an asking waits, and an approval lasts.
const approvalLife = time.Hour

// Approvals is the part of the Store that keeps what humans decide about acts.
type Approvals interface {
	// SaveApproval inserts a new one.
	SaveApproval(ctx context.Context, a Approval) error
	// ApprovalFor finds the newest of a principal for an act on a digest; nil: none.
	ApprovalFor(ctx context.Context, principal string, act Act, digest string) (*Approval, error)
	// Approvals lists those in a state, newest first; "" lists all.
	Approvals(ctx context.Context, state ApprovalState, limit int) ([]Approval, error)
	// MoveApproval moves one from a state to another, once: false when it was not in it.
	MoveApproval(ctx context.Context, m ApprovalMove) (bool, error)
}

// approved lets an act pass that a human allowed, once; else it asks, or says that a
// human was asked.
func (s *Service) approved(ctx context.Context, kind Act, a *act) error {
	e := &a.event
	subject := approvalSubject(e)
	have, err := s.cfg.Store.ApprovalFor(ctx, e.Principal, kind, subject)
	if err != nil {
		return err
	}
	now := s.cfg.Now()
	if have != nil && now.Before(have.ExpiresAt) {
		switch have.State {
		case ApprovalGiven:
			// What another process asked for under a weaker rule is no yes here.
			if s.mayApprove(have.Yes, have.owner(), Human{Name: have.By, Channel: have.Channel, Owner: have.ByOwner}) != nil {
				break
			}
			used, err := s.cfg.Store.MoveApproval(ctx, have.move(ApprovalGiven, ApprovalUsed))
			if err != nil {
				return err
			}
			if used {
				a.approval, e.Detail = have, "approved by "+have.By+" ("+have.ID+")"
				return nil
			}
		case ApprovalRefused:
			return errApprovalRefused(kind, have)
		case ApprovalWaiting:
			return s.errApprovalNeeded(kind, e, have)
		case ApprovalUsed:
		}
	}
	id := NewID("ap")
	asked := Approval{
		ID: id, Principal: e.Principal, Act: kind, SessionID: e.SessionID, Worker: e.Worker, Digest: subject,
		Labels: e.Labels, Reasons: e.Rules, State: ApprovalWaiting, AskedAt: now.UTC(), ExpiresAt: now.Add(approvalLife).UTC(),
		Yes: s.yesRule(s.approvalLink(id)),
	}
	if err := s.cfg.Store.SaveApproval(ctx, asked); err != nil {
		return err
	}
	s.notify(NoticeApprovalWaiting, map[string]any{
		"approval_id": asked.ID, "act": kind, "principal": e.Principal, "worker": e.Worker, "digest": e.Digest, "labels": e.Labels, "expires_at": asked.ExpiresAt,
		"link": asked.Yes.Where,
	})
	return s.errApprovalNeeded(kind, e, &asked)
}

// approvalLink is where a human who can log in decides about an act; "": nowhere.
func (s *Service) approvalLink(id string) string {
	if s.cfg.ApprovalLink == nil {
		return ""
	}
	return s.cfg.ApprovalLink(id)
}

// approvalSubject is what an approval is about: the artifact; where an act has none, what
// it is done to, so that a yes about one session is none about another.
func approvalSubject(e *Event) string {
	if e.Digest != "" {
		return e.Digest
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{e.Act, e.SessionID, e.AccountID, e.DeploymentID, e.Worker}, "\x00")))
	return hex.EncodeToString(sum[:])
}

// giveBack makes an approval good again whose act came to nothing: another guard refused
// it, or it starts over. A human is not asked twice about the same.
func (a *act) giveBack(ctx context.Context) error {
	if a.approval == nil {
		return nil
	}
	_, err := a.s.cfg.Store.MoveApproval(context.WithoutCancel(ctx), a.approval.move(ApprovalUsed, ApprovalGiven))
	return err
}

// errApprovalNeeded tells the agent the human's way: the address of the page behind a
// login, which decides nothing by itself, or the operator's command.
func (s *Service) errApprovalNeeded(kind Act, e *Event, a *Approval) *Error {
	r := strongest(e.Rules, Ask)
	way := "to run `mcp-server approvals approve " + a.ID + "` in their own terminal"
	if where := cmp.Or(s.approvalLink(a.ID), a.Yes.Where); where != "" {
		way = "to log in and decide at " + where
	}
	return Errorf(CodeApprovalNeeded, "Ask the user "+way+"; then make the same call again. "+r.Next,
		"%s needs a human's approval (rule %q): %s", kind, r.Rule, cmp.Or(r.Message, "the policy of this server asks a human"))
}

func errApprovalRefused(kind Act, a *Approval) *Error {
	return Errorf(CodePolicyDenied, "Stop, and ask the user what to change. Another artifact can be asked about again.",
		"%s was refused by a human (%s)", kind, a.ID)
}

// WaitingApprovals lists what waits for a human, for operators.
func (s *Service) WaitingApprovals(ctx context.Context) ([]Approval, error) {
	all, err := s.cfg.Store.Approvals(ctx, ApprovalWaiting, maxOperated)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	out := []Approval{}
	for _, a := range all {
		if now.Before(a.ExpiresAt) {
			out = append(out, a)
		}
	}
	return out, nil
}

// DecideApprovalBy records a human's answer about an act, once, by whatever channel. A yes
// is held to the rule under which it was asked for and to this server's own: channels and
// four eyes, as one about a claim is. digest is what the human was shown.
func (s *Service) DecideApprovalBy(ctx context.Context, id string, approve bool, digest string, who Human) (*Approval, error) {
	return s.decideApproval(ctx, id, approve, who, func(a *Approval) error {
		switch {
		case !approve:
			return nil
		case digest != a.Digest:
			return Errorf(CodeSessionClosed, "Look at what is asked, and decide again.", "the yes is about something else than what was asked")
		}
		return s.mayApprove(a.Yes, a.owner(), who)
	})
}

func (s *Service) decideApproval(ctx context.Context, id string, approve bool, who Human, may func(*Approval) error) (*Approval, error) {
	all, err := s.cfg.Store.Approvals(ctx, "", maxOperated)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	for _, a := range all {
		if a.ID != id {
			continue
		}
		if !now.Before(a.ExpiresAt) {
			return nil, Errorf(CodeSessionExpired, "Ask the agent to make its call again.", "the asking %s is over", id)
		}
		if a.State != ApprovalWaiting {
			return nil, errApprovalDecided(id)
		}
		if err := may(&a); err != nil {
			return nil, err
		}
		to := ApprovalRefused
		if approve {
			to = ApprovalGiven
		}
		done, err := s.cfg.Store.MoveApproval(ctx, ApprovalMove{
			ID: id, From: ApprovalWaiting, To: to, By: who.Name, Channel: who.Channel, Owner: who.Owner, At: now.UTC(),
		})
		if err != nil {
			return nil, err
		}
		if !done {
			return nil, errApprovalDecided(id)
		}
		a.State, a.By, a.Channel, a.ByOwner, a.DecidedAt = to, who.Name, who.Channel, who.Owner, now.UTC()
		return &a, s.notice(ctx, NoticeApproval, Event{
			SessionID: a.SessionID, Worker: a.Worker, Digest: a.Digest, Principal: a.Principal, Labels: a.Labels,
			Detail: "a human decided: " + string(to), Data: map[string]string{"approval_id": id, "act": string(a.Act), "by": who.Name, "channel": who.Channel},
		})
	}
	return nil, Errorf(CodeSessionNotFound, "`mcp-server approvals` lists what waits.", "there is no approval %q", cut(id, 60))
}

func errApprovalDecided(id string) *Error {
	return Errorf(CodeSessionClosed, "Nothing more is needed.", "%s was decided already", id)
}
