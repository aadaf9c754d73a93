package tools

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
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
		state, err := c.d.asked.put(c, id)
		if err != nil {
			return nil, err
		}
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

// askBook makes and checks the states of open questions. What a client sends back as
// state is its own to choose, so a state is signed: for the question, the principal, the
// tool with its arguments, and ten minutes. Every replica that has the key takes it; each
// takes it once.
type askBook struct {
	now  func() time.Time
	key  func() ([]byte, error)
	mu   sync.Mutex
	used map[string]time.Time // states that were taken, and when they end
}

const (
	askLife = 10 * time.Minute
	maxUsed = 4096 // states that are remembered as taken; beyond it the first to end go
)

// newAskBook makes a book that signs with key, or without one with a key of its own.
func newAskBook(now func() time.Time, key func() ([]byte, error)) *askBook {
	own := make([]byte, 32)
	_, _ = rand.Read(own) // it never fails
	if key == nil {
		key = func() ([]byte, error) { return own, nil }
	}
	return &askBook{now: now, key: key, used: map[string]time.Time{}}
}

// put opens a question and gives its state: nonce, end, question, and two signatures, one
// of these and one of whose call it is.
func (b *askBook) put(c *call, id string) (string, error) {
	until := strconv.FormatInt(b.now().Add(askLife).Unix(), 10)
	text := rand.Text() + "." + until + "." + id
	ours, whose, err := b.sign(c, text)
	if err != nil {
		return "", err
	}
	return text + "." + ours + "." + whose, nil
}

func (b *askBook) sign(c *call, text string) (ours, whose string, err error) {
	key, err := b.key()
	if err != nil {
		return "", "", fmt.Errorf("the key for questions: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "state\x00%s", text)
	ours = base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	digest := c.digest()
	mac.Reset()
	fmt.Fprintf(mac, "call\x00%s\x00%d:%s\x00", text, len(c.caller.Principal), c.caller.Principal)
	mac.Write(digest[:])
	return ours, base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), nil
}

// take gives the answers that a repeated call brings, if its state is that of an open
// question of the same call; the question is closed by it, whoever's call it was.
func (b *askBook) take(c *call) *answers {
	params := c.request.Params.MultiRoundTripParams
	parts := strings.Split(params.RequestState, ".")
	if len(parts) != 5 {
		return nil
	}
	text := strings.Join(parts[:3], ".")
	ours, whose, err := b.sign(c, text)
	if err != nil || !hmac.Equal([]byte(ours), []byte(parts[3])) {
		return nil
	}
	end, err := strconv.ParseInt(parts[1], 10, 64)
	until := time.Unix(end, 0)
	if err != nil || !b.now().Before(until) || !b.once(text, until) || !hmac.Equal([]byte(whose), []byte(parts[4])) {
		return nil
	}
	return &answers{id: parts[2], result: server.ElicitationResponse(params.InputResponses, parts[2])}
}

// once tells whether a state is taken for the first time, here.
func (b *askBook) once(state string, until time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, again := b.used[state]; again {
		return false
	}
	if len(b.used) >= maxUsed {
		b.makeRoom()
	}
	b.used[state] = until
	return true
}

func (b *askBook) makeRoom() {
	now, first := b.now(), ""
	for state, until := range b.used {
		if !now.Before(until) {
			delete(b.used, state)
		} else if first == "" || until.Before(b.used[first]) {
			first = state
		}
	}
	if len(b.used) >= maxUsed {
		delete(b.used, first)
	}
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
