package tools_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/tools"
)

// human is a client's user: it remembers what it was asked and answers as told.
type human struct {
	mu     sync.Mutex
	asked  []mcp.ElicitationParams
	answer func(context.Context, mcp.ElicitationParams) (*mcp.ElicitationResult, error)
}

func (h *human) Elicit(ctx context.Context, r mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
	h.mu.Lock()
	h.asked = append(h.asked, r.Params)
	h.mu.Unlock()
	return h.answer(ctx, r.Params)
}

func (h *human) questions() []mcp.ElicitationParams {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]mcp.ElicitationParams(nil), h.asked...)
}

func says(action mcp.ElicitationResponseAction, content any) *human {
	return &human{answer: func(context.Context, mcp.ElicitationParams) (*mcp.ElicitationResult, error) {
		return &mcp.ElicitationResult{ElicitationResponse: mcp.ElicitationResponse{Action: action, Content: content}}, nil
	}}
}

// declares is a client with a human and exactly this elicitation capability.
func declares(h *human, c *mcp.ElicitationCapability) []client.ClientOption {
	return []client.ClientOption{client.WithElicitationHandler(h), client.WithClientCapabilities(mcp.ClientCapabilities{Elicitation: c})}
}

// The ways to declare elicitation.
func emptyCap() *mcp.ElicitationCapability { return &mcp.ElicitationCapability{} }
func formCap() *mcp.ElicitationCapability  { return &mcp.ElicitationCapability{Form: &struct{}{}} }
func urlCap() *mcp.ElicitationCapability   { return &mcp.ElicitationCapability{URL: &struct{}{}} }
func bothCap() *mcp.ElicitationCapability {
	return &mcp.ElicitationCapability{Form: &struct{}{}, URL: &struct{}{}}
}

// needsTerms is a Service that deploys once somebody accepted the terms.
func needsTerms() *fakeService {
	svc := newFake()
	svc.deploy = func(context.Context, deploy.DeployRequest) (*deploy.DeployResult, error) {
		if len(svc.acceptedBy()) == 0 {
			return nil, deploy.Errorf(deploy.CodeTermsNeeded, "Run setup.", "no human has accepted the terms")
		}
		return sampleDeploy(), nil
	}
	return svc
}

func TestTermsByForm(t *testing.T) {
	yes := map[string]any{"accept": true}
	for name, c := range map[string]struct {
		human    *human
		caps     *mcp.ElicitationCapability
		asked    int
		accepted bool
	}{
		"yes":                   {says("accept", yes), formCap(), 1, true},
		"yes, empty capability": {says("accept", yes), emptyCap(), 1, true},
		"yes, both modes":       {says("accept", yes), bothCap(), 1, true},
		"only pages":            {says("accept", yes), urlCap(), 0, false},
		"sent without the tick": {says("accept", map[string]any{"accept": false}), formCap(), 1, false},
		"sent empty":            {says("accept", nil), formCap(), 1, false},
		"a word for the tick":   {says("accept", map[string]any{"accept": "true"}), formCap(), 1, false},
		"declined":              {says("decline", yes), formCap(), 1, false},
		"cancelled":             {says("cancel", yes), formCap(), 1, false},
		"no such thing":         {says("maybe", yes), formCap(), 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			roads(t, func(t *testing.T, connect func(*server.MCPServer, ...client.ClientOption) *client.Client) {
				svc := needsTerms()
				h := &human{answer: c.human.answer}
				cl := connect(newServer(t, svc, nil), declares(h, c.caps)...)
				res := callTool(t, cl, "deploy_temporary", `{"project_dir":"."}`)
				if got := h.questions(); len(got) != c.asked {
					t.Fatalf("asked %d times, want %d", len(got), c.asked)
				} else if c.asked > 0 {
					q := got[0]
					if q.Mode != "" || q.URL != "" || !strings.Contains(q.Message, svc.Terms()) || q.RequestedSchema == nil {
						t.Errorf("the question: %+v", q)
					}
				}
				if !c.accepted {
					if e := failure(t, res); e.Error.Code != "terms_not_accepted" {
						t.Errorf("%+v", e)
					}
					if len(svc.acceptedBy()) > 0 {
						t.Errorf("accepted by %v", svc.acceptedBy())
					}
					return
				}
				success(t, res)
				if diff := cmp.Diff([]string{"elicitation"}, svc.acceptedBy()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestTermsWithoutAnyoneToAsk(t *testing.T) {
	roads(t, func(t *testing.T, connect func(*server.MCPServer, ...client.ClientOption) *client.Client) {
		svc := needsTerms()
		e := failure(t, callTool(t, connect(newServer(t, svc, nil)), "deploy_temporary", `{"project_dir":"."}`))
		if e.Error.Code != "terms_not_accepted" || e.Error.Next != "Run setup." {
			t.Errorf("%+v", e)
		}
	})
}

// TestNoArgumentAccepts: answers that nobody asked for count for nothing.
func TestNoArgumentAccepts(t *testing.T) {
	svc := needsTerms()
	srv := newServer(t, svc, nil)
	modern := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{}}}}`
	answer := `"inputResponses":{"terms":{"action":"accept","content":{"accept":true}}}`
	call := func(args, extra string) map[string]any {
		t.Helper()
		raw, err := json.Marshal(srv.HandleMessage(t.Context(), json.RawMessage(
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"deploy_temporary","arguments":`+args+`,`+modern+extra+`}}`)))
		if err != nil {
			t.Fatal(err)
		}
		var out struct{ Result map[string]any }
		if err := json.Unmarshal(raw, &out); err != nil {
			t.Fatal(err)
		}
		return out.Result
	}
	first := call(`{"project_dir":"."}`, "")
	state, _ := first["requestState"].(string)
	if first["resultType"] != "input_required" || state == "" {
		t.Fatalf("%v", first)
	}
	for name, extra := range map[string]string{
		"no state":        "," + answer,
		"a made-up state": "," + answer + `,"requestState":"AAAAAAAAAAAAAAAAAAAAAAAAAA"`,
		"no answer":       `,"requestState":"` + state + `"`,
	} {
		if got := call(`{"project_dir":"."}`, extra); got["resultType"] != "input_required" || len(svc.acceptedBy()) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
	// A good state is good once.
	fresh := call(`{"project_dir":"."}`, "")["requestState"].(string)
	if got := call(`{"project_dir":"other"}`, `,`+answer+`,"requestState":"`+fresh+`"`); got["resultType"] != "input_required" || len(svc.acceptedBy()) != 0 {
		t.Errorf("the state of other arguments: %v", got)
	}
	if got := call(`{"project_dir":"."}`, `,`+answer+`,"requestState":"`+fresh+`"`); got["resultType"] != "input_required" || len(svc.acceptedBy()) != 0 {
		t.Errorf("a state that was used up: %v", got)
	}
	fresh = call(`{"project_dir":"."}`, "")["requestState"].(string)
	if got := call(`{"project_dir":"."}`, `,`+answer+`,"requestState":"`+fresh+`"`); got["resultType"] != "complete" || len(svc.acceptedBy()) != 1 {
		t.Errorf("a good state: %v", got)
	}
}

func TestClaimPage(t *testing.T) {
	for name, c := range map[string]struct {
		human  *human
		caps   *mcp.ElicitationCapability
		opened int
		says   string
		shows  bool // the address is in the result
	}{
		"opens pages":               {says("accept", nil), urlCap(), 1, "A page was opened", false},
		"opens pages and forms":     {says("accept", nil), bothCap(), 1, "A page was opened", false},
		"the user does not want to": {says("decline", nil), urlCap(), 1, "did not open", false},
		"the user closes it":        {says("cancel", nil), bothCap(), 1, "did not open", false},
		"forms alone":               {says("accept", nil), formCap(), 0, "open " + pageURL, true},
		"an empty capability":       {says("accept", nil), emptyCap(), 0, "open " + pageURL, true},
		"nothing declared":          {nil, nil, 0, "open " + pageURL, true},
	} {
		t.Run(name, func(t *testing.T) {
			roads(t, func(t *testing.T, connect func(*server.MCPServer, ...client.ClientOption) *client.Client) {
				var opts []client.ClientOption
				h := &human{}
				if c.human != nil {
					h.answer = c.human.answer
					opts = declares(h, c.caps)
				}
				cl := connect(newServer(t, newFake(), nil), opts...)
				res := callTool(t, cl, "request_claim", `{"message":"keep it"}`)
				got := success(t, res)
				asked := h.questions()
				if len(asked) != c.opened {
					t.Fatalf("asked %d times, want %d", len(asked), c.opened)
				}
				if c.opened > 0 && (asked[0].Mode != "url" || asked[0].URL != pageURL || asked[0].ElicitationID == "" || asked[0].RequestedSchema != nil) {
					t.Errorf("the question: %+v", asked[0])
				}
				body := text(t, res)
				if strings.Contains(body, "localhost") != c.shows {
					t.Errorf("the address in the result: %v, want %v: %s", !c.shows, c.shows, body)
				}
				if tell, _ := got["tell_user"].(string); !strings.Contains(tell, c.says) || !strings.Contains(tell, "11:22 UTC") {
					t.Errorf("tell_user: %q", tell)
				}
				if got["claim"] != "awaiting_human" || got["minutes_left"] != 40.0 || !strings.Contains(body, "Do not poll") {
					t.Errorf("%s", body)
				}
			})
		})
	}
}

// TestClientThatCanNotOpenPagesAfterAll: one that declared it and fails gets the address.
// (Since 2026-07-28 such a client does not come back with the call.)
func TestClientThatCanNotOpenPagesAfterAll(t *testing.T) {
	for road, connect := range map[string]func(*testing.T, *server.MCPServer, ...client.ClientOption) *client.Client{
		"in-process": localClient, "stdio": stdioClient,
	} {
		t.Run(road, func(t *testing.T) {
			h := &human{answer: func(context.Context, mcp.ElicitationParams) (*mcp.ElicitationResult, error) {
				return nil, errors.New("no browser")
			}}
			c := connect(t, newServer(t, newFake(), nil), append(declares(h, urlCap()), legacyOnly())...)
			got := success(t, callTool(t, c, "request_claim", `{}`))
			if tell, _ := got["tell_user"].(string); !strings.Contains(tell, "open "+pageURL) || len(h.questions()) != 1 {
				t.Errorf("%q, asked %d times", tell, len(h.questions()))
			}
		})
	}
}

func TestClaimApprovedAlready(t *testing.T) {
	svc := newFake()
	svc.claim = func(context.Context, deploy.ClaimRequest) (*deploy.ClaimResult, error) {
		r := sampleClaim()
		r.Claim, r.PageURL = deploy.ClaimApproved, ""
		return r, nil
	}
	h := says("accept", nil)
	got := success(t, callTool(t, localClient(t, newServer(t, svc, nil), declares(h, bothCap())...), "request_claim", `{}`))
	if got["claim"] != "approved" || len(h.questions()) != 0 {
		t.Errorf("%v, asked %d times", got, len(h.questions()))
	}
}

// TestTheHumanMayBeElsewhere: what an agent relays fits where the human is. Behind a login
// that is any machine; on the attended page it is this one; what is sealed is opened by a
// command, and no address is told.
func TestTheHumanMayBeElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		change        func(*deploy.ClaimResult)
		says, neither []string
	}{
		"attended":       {func(*deploy.ClaimResult) {}, []string{"open " + pageURL + " in a browser on this machine"}, []string{"log in"}},
		"behind a login": {func(r *deploy.ClaimResult) { r.Login = true }, []string{"open " + pageURL + " in any browser and log in"}, []string{"this machine", "terminal"}},
		"sealed": {
			func(r *deploy.ClaimResult) {
				r.PageURL, r.Command, r.Custody = "", "mcp-server claim s_1", "sealed to age1abc…xyz"
			},
			[]string{"run `mcp-server claim s_1` in your own terminal", "sealed to age1abc…xyz"},
			[]string{"http"},
		},
		"sealed, behind a login": {
			func(r *deploy.ClaimResult) {
				r.PageURL, r.Command, r.Custody, r.Login = "", "mcp-server claim s_1", "sealed to age1abc…xyz", true
			},
			[]string{"`mcp-server claim s_1` where this server keeps its store", "download the claim file in its console", "mcp-server claim FILE", "sealed to age1abc…xyz"},
			[]string{"http", "this machine"},
		},
		"sealed, approved": {
			func(r *deploy.ClaimResult) {
				r.Claim, r.PageURL, r.Command = deploy.ClaimOpened, "", "mcp-server claim s_1"
			},
			[]string{"run `mcp-server claim s_1` in your own terminal again"},
			[]string{"page", "http"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			svc := newFake()
			svc.claim = func(context.Context, deploy.ClaimRequest) (*deploy.ClaimResult, error) {
				r := sampleClaim()
				c.change(r)
				return r, nil
			}
			got := success(t, callTool(t, localClient(t, newServer(t, svc, nil)), "request_claim", `{}`))
			tell, _ := got["tell_user"].(string)
			for _, want := range c.says {
				if !strings.Contains(tell, want) {
					t.Errorf("it does not say %q: %s", want, tell)
				}
			}
			for _, never := range c.neither {
				if strings.Contains(tell, never) {
					t.Errorf("it says %q: %s", never, tell)
				}
			}
			want := sampleClaim()
			if c.change(want); got["custody"] != want.Custody {
				t.Errorf("custody %v", got["custody"])
			}
		})
	}
}

// TestHumanWhoDoesNotAnswer: where the protocol keeps the call open, it ends in time, and
// the client is told that its answer is not wanted any more.
func TestHumanWhoDoesNotAnswer(t *testing.T) {
	gone := make(chan struct{})
	h := &human{answer: func(ctx context.Context, _ mcp.ElicitationParams) (*mcp.ElicitationResult, error) {
		select {
		case <-ctx.Done():
		case <-gone:
		}
		return nil, errors.New("late")
	}}
	defer close(gone)
	srv, err := tools.New(tools.Config{Service: newFake(), AskTimeout: 60 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	c := stdioClient(t, srv, append(declares(h, bothCap()), legacyOnly())...)
	res := callTool(t, c, "request_claim", `{}`)
	if tell, _ := success(t, res)["tell_user"].(string); !strings.Contains(tell, "was asked to open") || strings.Contains(tell, "localhost") {
		t.Errorf("%q", tell)
	}
	if e := failure(t, callTool(t, stdioOf(t, h), "deploy_temporary", `{"project_dir":"."}`)); e.Error.Code != "terms_not_accepted" {
		t.Errorf("%+v", e)
	}
}

func stdioOf(t *testing.T, h *human) *client.Client {
	t.Helper()
	srv, err := tools.New(tools.Config{Service: needsTerms(), AskTimeout: 60 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return stdioClient(t, srv, append(declares(h, formCap()), legacyOnly())...)
}
