package tools

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// The two ways in which a client can ask its human. A client is only ever asked in a
// way that it declared.
const (
	modeForm = mcp.ElicitationModeForm
	modeURL  = mcp.ElicitationModeURL
)

// canAsk tells whether the client of this request declared a way of asking. An empty
// capability means forms alone: that is what it meant before there were modes, and what
// Claude Code sends (peers fact sheet, 0.3). Since 2026-07-28 what counts is what this
// very request declares.
func canAsk(ctx context.Context, mode string) bool {
	var caps *mcp.ElicitationCapability
	if p := server.RequestProtocolInfoFromContext(ctx); p != nil && p.Modern {
		if p.ClientCapabilities != nil {
			caps = p.ClientCapabilities.Elicitation
		}
	} else if s, ok := server.ClientSessionFromContext(ctx).(server.SessionWithClientInfo); ok {
		caps = s.GetClientCapabilities().Elicitation
	}
	if caps == nil {
		return false
	}
	if mode == modeURL {
		return caps.URL != nil
	}
	return caps.Form != nil || caps.URL == nil
}

// inputRequired ends a call of 2026-07-28 that needs a human's answer: its result is the
// question, and the client calls again with the answer.
type inputRequired struct{ result *mcp.CallToolResult }

func (*inputRequired) Error() string { return "input is required from the client's user" }

// ask puts a question to the human and gives the answer. id names the question within its
// tool. Since 2026-07-28 the first pass returns an inputRequired error, to be passed on
// as it is; the call then comes again and ask gives the answer. Before, the client is
// asked while the call is open, for at most wait. Any other error means that the client
// could not ask. The caller has made sure that the client declared the mode.
func (c *call) ask(ctx context.Context, id string, wait time.Duration, params mcp.ElicitationParams) (*mcp.ElicitationResult, error) {
	params.Message = c.d.redact.Redact(params.Message)
	if server.IsModernRequest(ctx) {
		if answer := c.answers.to(id); answer != nil {
			return answer, nil
		}
		state := c.d.asked.put(c, id)
		return nil, &inputRequired{server.NewInputRequestBuilder(state).Elicit(id, params).ToolResult()}
	}
	srv := server.ServerFromContext(ctx)
	if srv == nil {
		return nil, server.ErrElicitationNotSupported
	}
	limited, stop := context.WithTimeout(ctx, wait)
	defer stop()
	answer, err := srv.RequestElicitation(limited, mcp.ElicitationRequest{
		Request: mcp.Request{Method: string(mcp.MethodElicitationCreate)}, Params: params,
	})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("asking through the client: %w", err)
	case answer == nil:
		return nil, errors.New("asking through the client: no answer")
	}
	return answer, nil
}

// askBook remembers which questions are open, since what a client sends back as state is
// its own to choose. An entry is good for one answer, for the principal, tool and
// arguments that it was made for, and for ten minutes.
type askBook struct {
	now  func() time.Time
	mu   sync.Mutex
	open map[string]question
}

type question struct {
	id        string
	principal string
	call      [sha256.Size]byte
	until     time.Time
}

const (
	askLife  = 10 * time.Minute
	maxAsked = 1024 // open questions; beyond it the oldest go
)

func newAskBook(now func() time.Time) *askBook {
	return &askBook{now: now, open: map[string]question{}}
}

// put opens a question and gives its state.
func (b *askBook) put(c *call, id string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if len(b.open) >= maxAsked {
		b.makeRoom(now)
	}
	state := rand.Text()
	b.open[state] = question{id: id, principal: c.caller.Principal, call: c.digest(), until: now.Add(askLife)}
	return state
}

func (b *askBook) makeRoom(now time.Time) {
	oldest := ""
	for state, q := range b.open {
		if !now.Before(q.until) {
			delete(b.open, state)
		} else if oldest == "" || q.until.Before(b.open[oldest].until) {
			oldest = state
		}
	}
	if len(b.open) >= maxAsked {
		delete(b.open, oldest)
	}
}

// take gives the answers that a repeated call brings, if its state is that of an open
// question of the same call; the question is closed by it.
func (b *askBook) take(c *call) *answers {
	params := c.request.Params.MultiRoundTripParams
	if params.RequestState == "" {
		return nil
	}
	b.mu.Lock()
	q, ok := b.open[params.RequestState]
	delete(b.open, params.RequestState)
	b.mu.Unlock()
	if !ok || q.principal != c.caller.Principal || q.call != c.digest() || !b.now().Before(q.until) {
		return nil
	}
	return &answers{id: q.id, result: server.ElicitationResponse(params.InputResponses, q.id)}
}

// answers is what a repeated call brought; nil brought nothing.
type answers struct {
	id     string
	result *mcp.ElicitationResult
}

func (a *answers) to(id string) *mcp.ElicitationResult {
	if a == nil || a.id != id {
		return nil
	}
	return a.result
}

// digest fixes tool and arguments of a call.
func (c *call) digest() [sha256.Size]byte {
	raw, err := rawArguments(c.request)
	if err != nil {
		raw = nil // the call is refused for it before anything is asked
	}
	return sha256.Sum256(append([]byte(c.tool+"\x00"), raw...))
}
