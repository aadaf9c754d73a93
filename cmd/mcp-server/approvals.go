package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// approvalsCmd is where a human decides what a policy asks about.
type approvalsCmd struct {
	List    approvalsListCmd    `cmd:"" default:"withargs" help:"Show what waits."`
	Approve approvalsApproveCmd `cmd:"" help:"Say yes to one."`
	Refuse  approvalsRefuseCmd  `cmd:"" help:"Say no to one."`
}

type approvalsListCmd struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Run lists what waits for a human.
func (c *approvalsListCmd) Run(ctx context.Context, o *options, p process) error {
	o.brief = true
	h, err := build(ctx, o, p)
	if err != nil {
		return err
	}
	waiting, err := h.service.WaitingApprovals(ctx)
	if err == nil && c.JSON {
		err = printJSON(p, map[string]any{"waiting": waiting})
	} else if err == nil {
		err = showApprovals(waiting, p)
	}
	return errors.Join(err, h.close())
}

func showApprovals(waiting []deploy.Approval, p process) error {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, a := range waiting {
		why := ""
		for _, r := range a.Reasons {
			if r.Verdict == deploy.Ask {
				why = r.Rule + ": " + r.Message
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\tuntil %s\t%s\n", a.ID, a.Act, printable(a.Worker), a.Digest, printable(a.Principal), a.ExpiresAt.Format(time.RFC3339), printable(why))
	}
	fmt.Fprintf(w, "%d wait\n", len(waiting))
	return w.Flush()
}

type approvalsApproveCmd struct {
	ID  string `arg:"" help:"The approval."`
	Yes bool   `help:"Don't ask."`
}

// Run shows what is asked and says yes to exactly that.
func (c *approvalsApproveCmd) Run(ctx context.Context, o *options, p process) error {
	return decideApproval(ctx, o, p, c.ID, func(a *deploy.Approval) error {
		showApproval(a, p)
		return confirmed(c.Yes, "The agent may do this, once.", p)
	})
}

type approvalsRefuseCmd struct {
	ID string `arg:"" help:"The approval."`
}

// Run says no.
func (c *approvalsRefuseCmd) Run(ctx context.Context, o *options, p process) error {
	return decideApproval(ctx, o, p, c.ID, nil)
}

// showApproval prints what a yes would allow. All of it was written by others.
func showApproval(a *deploy.Approval, p process) {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-10s %s\n", name, printable(value))
		}
	}
	line("act", string(a.Act))
	line("Worker", a.Worker)
	line("session", a.SessionID)
	line("digest", a.Digest)
	line("asked by", a.Principal)
	line("labels", pairs(a.Labels))
	for _, r := range a.Reasons {
		if r.Verdict == deploy.Ask {
			line("rule", r.Rule+": "+r.Message)
		}
	}
	line("until", a.ExpiresAt.Local().Format(time.RFC3339))
	fmt.Fprint(p.stderr, b.String())
}

// decideApproval decides about what waits under an ID, for the digest that was shown. sure
// nil is a no. Whether a yes at a terminal counts is the rule's to say under which it was
// asked for.
func decideApproval(ctx context.Context, o *options, p process, id string, sure func(*deploy.Approval) error) (err error) {
	o.brief = true
	h, err := build(ctx, o, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	waiting, err := h.service.WaitingApprovals(ctx)
	if err != nil {
		return err
	}
	digest := ""
	if i := slices.IndexFunc(waiting, func(a deploy.Approval) bool { return a.ID == id }); i >= 0 && sure != nil {
		digest = waiting[i].Digest
		if err := sure(&waiting[i]); err != nil {
			return err
		}
	}
	a, err := h.service.DecideApprovalBy(ctx, id, sure != nil, digest, deploy.Human{Name: operator().Principal, Channel: deploy.ChannelCommand})
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%s %s: %s of %s\n", a.ID, a.State, a.Act, printable(a.Worker))
	return nil
}
