package tools

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// The prompts: what a person picks from a menu of the client. They ask for what the
// tools do and allow nothing.
const (
	promptDeploy = "deploy"
	promptStatus = "status"
	promptKeep   = "keep"
	argFolder    = "project_dir"
	argExpect    = "expect"
	argSession   = "session_id"
)

// addPrompts adds the prompts and the completion of their arguments.
func (d *door) addPrompts(srv *server.MCPServer) {
	srv.AddPrompt(mcp.NewPrompt(promptDeploy,
		mcp.WithPromptDescription("Put a Worker live on a temporary account, check what it answers and fix it until it works."),
		mcp.WithArgument(argFolder, mcp.ArgumentDescription("The project's folder; without one, the code of this conversation")),
		mcp.WithArgument(argExpect, mcp.ArgumentDescription("What the live page must show")),
	), func(_ context.Context, r mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		text := "Deploy the Worker that we have been working on with deploy_temporary."
		if dir := r.Params.Arguments[argFolder]; dir != "" {
			text = fmt.Sprintf("Deploy the Worker in the folder %q with deploy_temporary.", clip(dir, 300))
		}
		if want := r.Params.Arguments[argExpect]; want != "" {
			text += fmt.Sprintf(" The live page must show %q; pass that as expect.", clip(want, 300))
		}
		text += " Fix what the check shows and deploy again, at most five times. Then tell me the URL, that it is public, and when it ends."
		return d.prompt("Deploy and check", text), nil
	})
	srv.AddPrompt(mcp.NewPrompt(promptStatus,
		mcp.WithPromptDescription("Tell what is live, for how long, and whether it works."),
	), func(context.Context, mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return d.prompt("What is live", "Call status and tell me in a few lines what is live, at which URLs, whether each answers as it should, and how many minutes are left."), nil
	})
	srv.AddPrompt(mcp.NewPrompt(promptKeep,
		mcp.WithPromptDescription("Ask me whether to keep what is deployed before it is deleted."),
		mcp.WithArgument(argSession, mcp.ArgumentDescription("The session to keep; without one, the current")),
	), func(_ context.Context, r mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		text := "I may want to keep what is deployed. Call request_claim"
		if id := r.Params.Arguments[argSession]; id != "" {
			text += fmt.Sprintf(" for the session %q", clip(id, 80))
		}
		return d.prompt("Keep it", text+", tell me what it says and stop."), nil
	})
}

func (d *door) prompt(title, text string) *mcp.GetPromptResult {
	return mcp.NewGetPromptResult(title, []mcp.PromptMessage{
		mcp.NewPromptMessage(mcp.RoleUser, mcp.NewTextContent(d.redact.Redact(foreign(text)))),
	})
}

// completions gives the caller's own sessions while one is typed. It is a
// server.PromptCompletionProvider.
type completions struct{ d *door }

const maxCompletions = 20

// CompletePromptArgument implements server.PromptCompletionProvider. What can't be found
// out has no completions; that is no reason to disturb who types.
func (p completions) CompletePromptArgument(ctx context.Context, prompt string, arg mcp.CompleteArgument, _ mcp.CompleteContext) (*mcp.Completion, error) {
	caller := p.d.cfg.Caller(ctx)
	out := &mcp.Completion{Values: []string{}}
	if prompt != promptKeep || arg.Name != argSession || !caller.May(deploy.ScopeRead) {
		return out, nil
	}
	ctx, done := context.WithTimeout(ctx, 3*time.Second)
	defer done()
	res, err := p.d.cfg.Service.Status(ctx, caller, deploy.StatusRequest{})
	if err != nil {
		p.d.cfg.Logger.Debug().Str("error", p.d.redact.Redact(err.Error())).Msg("no completions")
		return out, nil
	}
	for _, s := range res.Sessions {
		if (s.Phase == deploy.PhaseLive || s.Phase == deploy.PhaseExpiring) && strings.HasPrefix(s.SessionID, arg.Value) {
			out.Total++
			if len(out.Values) < maxCompletions {
				out.Values = append(out.Values, s.SessionID)
			}
		}
	}
	out.HasMore = out.Total > len(out.Values)
	return out, nil
}

// report tells the client's own log how a call ended, where the client asked for that
// (logging/setLevel, or since 2026-07-28 the level of the request). A client that can't
// be told is no reason to fail the call.
func (c *call) report(ctx context.Context, outcome string, took time.Duration) {
	srv := server.ServerFromContext(ctx)
	if srv == nil {
		return
	}
	level := mcp.LoggingLevelInfo
	if outcome != outcomeOK && outcome != outcomeAsked {
		level = mcp.LoggingLevelWarning
	}
	_ = srv.SendLogMessageToClient(ctx, mcp.NewLoggingMessageNotification(level, "hourglass",
		map[string]any{"tool": c.tool, "outcome": outcome, "ms": took.Milliseconds()}))
}
