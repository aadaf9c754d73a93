package tools

import (
	"context"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

type teardownInput struct {
	SessionID    string `json:"session_id,omitempty" desc:"Default: your current session"`
	DeploymentID string `json:"deployment_id,omitempty" desc:"Only that deployment's Worker"`
	Reason       string `json:"reason,omitempty" desc:"For the record"`
}

type teardownOutput struct {
	SessionID string   `json:"session_id"`
	Deleted   []string `json:"deleted" desc:"Untrusted"`
	NotUndone []string `json:"not_undone,omitempty" desc:"What stays, and why; untrusted"`
	Closed    bool     `json:"closed" desc:"The account's token is gone; the session takes no more"`
	Warnings  []string `json:"warnings,omitempty"`
	LeftOut   leftOut  `json:"left_out,omitempty"`
	Next      nextRow  `json:"next" schema:"loose"`
}

func teardownTool(svc Service) tool[teardownInput, *teardownOutput] {
	return tool[teardownInput, *teardownOutput]{
		name: "teardown", title: "Take a deployment down",
		description: "Delete what a session put up, before its hour ends: its Workers and their data, then the account's token and any request to keep it. " +
			"With deployment_id only that Worker. It can't be undone; repeating it does no harm. " +
			"Use it when the user asks, or when what is live should not be.",
		scope: deploy.ScopeDeploy,
		hints: hints{destructive: true, idempotent: true, openWorld: true},
		run: func(ctx context.Context, c *call, in teardownInput) (*teardownOutput, error) {
			c.about(in.SessionID, "", "")
			res, err := svc.Teardown(ctx, c.caller, deploy.TeardownRequest{
				SessionID: in.SessionID, DeploymentID: in.DeploymentID, Reason: clip(in.Reason, 300),
			})
			if err != nil {
				return nil, err
			}
			c.session = res.SessionID
			return &teardownOutput{
				SessionID: res.SessionID, Deleted: texts(res.Deleted), NotUndone: texts(res.NotUndone),
				Closed: res.Closed, Warnings: texts(res.Warnings), Next: nextRow(res.Next),
			}, nil
		},
	}
}

func (o *teardownOutput) budget() int { return maxResult }

func (o *teardownOutput) shrink() bool {
	return dropRow(&o.Deleted, &o.LeftOut, "deleted", 5) || dropRow(&o.Warnings, &o.LeftOut, "warnings", 1) ||
		dropRow(&o.NotUndone, &o.LeftOut, "not_undone", 1)
}
