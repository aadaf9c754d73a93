package tools

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

type claimInput struct {
	SessionID string `json:"session_id,omitempty" desc:"Default: your current session"`
	Message   string `json:"message,omitempty" desc:"To the human: what this is, why keep it"`
	Withdraw  bool   `json:"withdraw,omitempty" desc:"Take the asking back, to deploy again"`
}

type claimOutput struct {
	Claim       string    `json:"claim" enum:"awaiting_human,approved,opened,probably_adopted,adopted,refused,withdrawn,lapsed"`
	SessionID   string    `json:"session_id"`
	TellUser    string    `json:"tell_user" desc:"Relay it word for word"`
	Custody     string    `json:"custody,omitempty" schema:"loose" desc:"Who can open Cloudflare's claim link"`
	Next        nextRow   `json:"next" schema:"loose"`
	ExpiresAt   time.Time `json:"expires_at"`
	MinutesLeft int       `json:"minutes_left"`
	Warnings    []string  `json:"warnings,omitempty" schema:"loose"`
}

func (o *claimOutput) budget() int  { return maxResult }
func (o *claimOutput) shrink() bool { return false }

func claimTool(svc Service) tool[claimInput, *claimOutput] {
	return tool[claimInput, *claimOutput]{
		name: "request_claim", title: "Ask a human to keep the account",
		description: "Ask a human to take over the temporary account, with everything on it, before it is deleted. " +
			"Call it only when the user wants to keep what works. Returns at once: relay tell_user, then stop; do not poll. " +
			"Deploys to the session are frozen until the human decides, or until withdraw. " +
			"Cloudflare's claim URL is for the human alone: never ask for it or look for it.",
		scope: deploy.ScopeDeploy,
		hints: hints{idempotent: true, openWorld: true},
		run: func(ctx context.Context, c *call, in claimInput) (*claimOutput, error) {
			c.about(in.SessionID, "", "")
			res, err := svc.RequestClaim(ctx, c.caller, deploy.ClaimRequest{SessionID: in.SessionID, Message: in.Message, Withdraw: in.Withdraw})
			if err != nil {
				return nil, err
			}
			c.session = res.SessionID
			tell, err := c.tellUser(ctx, res)
			if err != nil {
				return nil, err
			}
			return &claimOutput{
				Claim: string(res.Claim), SessionID: res.SessionID, TellUser: tell, Custody: res.Custody, Next: nextRow(res.Next),
				ExpiresAt: res.ExpiresAt.UTC().Truncate(time.Second), MinutesLeft: res.MinutesLeft, Warnings: texts(res.Warnings),
			}, nil
		},
	}
}

// tellUser is the sentence for the user. The page's address is in it only where the
// client can't open pages itself.
func (c *call) tellUser(ctx context.Context, res *deploy.ClaimResult) (string, error) {
	until := res.ExpiresAt.UTC().Format("15:04 UTC")
	switch {
	case res.Claim == deploy.ClaimWithdrawn:
		return "The request to keep this account was taken back. It is deleted at " + until + " unless you are asked again and say yes.", nil
	case res.Claim.Given() && res.Command != "":
		return "You have approved keeping this account already. If you have not finished at Cloudflare, " + sealedWay(res) + " again before " + until + ".", nil
	case res.Claim.Given():
		return "You have approved keeping this account already. If you have not finished at Cloudflare, open the approval page again in the same browser before " + until + ".", nil
	case res.Claim == deploy.ClaimAwaiting && res.Command != "":
		return "To keep what is deployed, " + sealedWay(res) + ": it shows everything that would become yours and asks for your key. The claim link is " + res.Custody + ". " + deadline(res, until), nil
	case res.Claim != deploy.ClaimAwaiting || res.PageURL == "":
		return "The request to keep this account is over (" + string(res.Claim) + "). Tell me if you want to be asked again.", nil
	case !canAsk(ctx, modeURL):
		return withAddress(res, until), nil
	}
	answer, err := c.ask(ctx, "claim_page", c.d.cfg.AskTimeout/6, mcp.ElicitationParams{
		Mode: modeURL, ElicitationID: "claim-" + rand.Text(), URL: res.PageURL,
		Message: fmt.Sprintf("Open the page on which you decide whether to keep the temporary Cloudflare account? It is deleted at %s.", until),
	})
	if err != nil {
		if _, ok := errors.AsType[*inputRequired](err); ok || ctx.Err() != nil {
			return "", err
		}
		if errors.Is(err, context.DeadlineExceeded) { // the question still stands in the client
			return "Your client was asked to open the page on which you decide whether to keep this account. " + deadline(res, until), nil
		}
		return withAddress(res, until), nil // it declared what it can't do
	}
	if answer.Action != mcp.ElicitationResponseActionAccept {
		return "You did not open the page on which to decide whether to keep this account. Changes to it are on hold. " +
			deadline(res, until) + " Tell me if you want to be asked again.", nil
	}
	return "A page was opened in your browser: it lists everything on the account that would become yours. " + deadline(res, until), nil
}

// sealedWay is how the holder of the key opens a sealed claim. Where the server is
// elsewhere, its store is too: then the console has a file to take along. No address is in
// it: what is sealed is decided on no page.
func sealedWay(res *deploy.ClaimResult) string {
	if res.Login {
		return "run `" + res.Command + "` where this server keeps its store, or download the claim file in its console and run `mcp-server claim FILE` on your own machine"
	}
	return "run `" + res.Command + "` in your own terminal"
}

func withAddress(res *deploy.ClaimResult, until string) string {
	where := " in a browser on this machine"
	if res.Login {
		where = " in any browser and log in"
	}
	return "To keep what is deployed, open " + res.PageURL + where + ": it lists everything that would become yours. " + deadline(res, until)
}

func deadline(res *deploy.ClaimResult, until string) string {
	return fmt.Sprintf("Please decide within %d minutes; without a yes everything is deleted at %s.", res.MinutesLeft, until)
}
