package tools

import (
	"context"
	"errors"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// acceptTerms asks the human to accept the terms, where the client declared that it can
// show a form, and records a yes. It gives needed back when there is no way to ask, and
// an error of the same code when the answer was not yes. No argument of a tool can say
// yes.
func (c *call) acceptTerms(ctx context.Context, svc Service, needed error) error {
	if !canAsk(ctx, modeForm) {
		return needed
	}
	answer, err := c.ask(ctx, "terms", c.d.cfg.AskTimeout, mcp.ElicitationParams{
		Message: "An agent wants to put code live on a temporary Cloudflare account. " + svc.Terms() + " Do you accept them?",
		RequestedSchema: map[string]any{
			"type": "object",
			"properties": map[string]any{
				"accept": map[string]any{
					"type": "boolean", "title": "I accept",
					"description": "Recorded by this server with the time; asked once", "default": false,
				},
			},
			"required": []string{"accept"},
		},
	})
	if err != nil {
		if _, ok := errors.AsType[*inputRequired](err); ok || ctx.Err() != nil {
			return err
		}
		e := *deploy.AsError(needed)
		e.Cause = err
		return &e
	}
	if !saidYes(answer) {
		return &deploy.Error{
			Code: deploy.CodeTermsNeeded, Message: "the user was asked and did not accept Cloudflare's terms; nothing was made",
			Next: "Stop, and tell the user that nothing was deployed. Ask again only if the user wants it.",
		}
	}
	return svc.AcceptTerms(ctx, c.caller, "elicitation")
}

func saidYes(answer *mcp.ElicitationResult) bool {
	if answer.Action != mcp.ElicitationResponseActionAccept {
		return false
	}
	content, ok := answer.Content.(map[string]any)
	return ok && content["accept"] == true
}
