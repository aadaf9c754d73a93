package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/hourglass-mcp/hourglass/internal/sandbox"
	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// story plays the two stories of the demo through a real MCP client.
type story struct {
	show   *stageDirector
	rep    *demoReport
	opts   *options
	work   string
	urls   sandbox.URLs
	client *client.Client
	stderr bytes.Buffer

	kept, lost deployed
	page       string // the address of the approval page
	claimPage  string // where the approval leads on to
}

// deployed is what the story remembers of a deployment.
type deployed struct {
	URL       string    `json:"url"`
	SessionID string    `json:"session_id"`
	VersionID string    `json:"version_id"`
	Account   string    `json:"account"`
	Changed   bool      `json:"changed"`
	Phase     string    `json:"phase"`
	Serving   string    `json:"serving"`
	ExpiresAt time.Time `json:"expires_at"`
	Check     struct {
		Status      int     `json:"status"`
		OK          bool    `json:"ok"`
		LatencyMS   float64 `json:"latency_ms"`
		BodyExcerpt string  `json:"body_excerpt"`
		Version     string  `json:"version"`
		Error       string  `json:"error"`
		At          string  `json:"at"`
	} `json:"check"`
}

// step times one step and writes it down; what it promises is checked inside.
func (s *story) step(name string, do func() (string, error)) error {
	began := time.Now()
	detail, err := do()
	st := demoStep{Name: name, MS: float64(time.Since(began).Microseconds()) / 1000, Detail: detail}
	if err != nil {
		st.Detail = "failed: " + err.Error()
		s.rep.Steps = append(s.rep.Steps, st)
		return fmt.Errorf("%s: %w", name, err)
	}
	s.rep.Steps = append(s.rep.Steps, st)
	s.show.did(st)
	return nil
}

func (s *story) findRuntime(ctx context.Context, o *options, p process) (string, error) {
	cache, err := cacheDir(o)
	if err != nil {
		return "", err
	}
	bin, err := workerd.Find(ctx, workerd.FindConfig{CacheDir: cache, Progress: func(l string) { fmt.Fprintln(p.stderr, l) }})
	if err != nil {
		return "", err
	}
	return "workerd " + bin.Version + ", the runtime that Cloudflare runs", nil
}

// connect starts our own server as a child process and speaks MCP with it.
func (s *story) connect(ctx context.Context, _ process) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program: %w", err)
	}
	args := []string{
		"stdio", "--api-base-url", s.urls.API, "--edge-url", s.urls.Edge, "--state-dir", s.work + "/state",
		"--root", s.work, "--log-level", "warn", "--label", "demo=yes",
	}
	if s.opts.CacheDir != "" {
		args = append(args, "--cache-dir", s.opts.CacheDir)
	}
	// The child's environment is ours: the settings given by flags win over it.
	t := transport.NewStdioWithOptions(self, os.Environ(), args, transport.WithCommandStderrWriter(&s.stderr))
	if err := t.Start(context.WithoutCancel(ctx)); err != nil {
		return "", fmt.Errorf("starting the server: %w", err)
	}
	s.client = client.NewClient(t)
	init := mcp.InitializeRequest{}
	init.Params.ProtocolVersion = "2025-11-25"
	init.Params.ClientInfo = mcp.Implementation{Name: "hourglass-demo", Version: version}
	hello, err := s.client.Initialize(ctx, init)
	if err != nil {
		return "", fmt.Errorf("initialize: %w (server: %s)", err, s.stderr.String())
	}
	list, err := s.client.ListTools(ctx, mcp.ListToolsRequest{})
	if err != nil {
		return "", fmt.Errorf("tools/list: %w", err)
	}
	names := []string{}
	for _, t := range list.Tools {
		names = append(names, t.Name)
	}
	return fmt.Sprintf("MCP %s over stdio; tools: %s", hello.ProtocolVersion, strings.Join(names, ", ")), nil
}

// call calls a tool and decodes what it answered. Nothing that holds a claim link of
// Cloudflare's may come back, whatever the tool.
func (s *story) call(ctx context.Context, tool string, args map[string]any, out any) error {
	req := mcp.CallToolRequest{}
	req.Params.Name, req.Params.Arguments = tool, args
	res, err := s.client.CallTool(ctx, req)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, c := range res.Content {
		if t, ok := c.(mcp.TextContent); ok {
			text.WriteString(t.Text)
		}
	}
	if strings.Contains(text.String(), "claimToken") {
		return errors.New("the tool's answer holds a claim link")
	}
	if res.IsError {
		return fmt.Errorf("the tool answered an error: %s", text.String())
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal([]byte(text.String()), out); err != nil {
		return fmt.Errorf("the tool's answer is not JSON: %w", err)
	}
	return nil
}

func files(path, content string) []map[string]any {
	return []map[string]any{{"path": path, "content": content}}
}

const firstWorker = `export default {
  async fetch(request: Request): Promise<Response> {
    return new Response("Hello from a temporary account!\n");
  },
};
`

const secondWorker = `export default {
  async fetch(request: Request): Promise<Response> {
    const name = new URL(request.url).searchParams.get("name") ?? "you";
    return new Response("Changed: the hour is running, " + name + "!\n");
  },
};
`

const throwingWorker = `type Visitor = { name: string };

function greet(v: Visitor | undefined): string {
  return "Hello " + v!.name.toUpperCase();
}

export default {
  async fetch(): Promise<Response> {
    return new Response(greet(undefined));
  },
};
`

// tell plays both stories and then lets the hour pass.
func (s *story) tell(ctx context.Context) error {
	steps := []struct {
		chapter, name string
		do            func(context.Context) (string, error)
	}{
		{"An agent puts a Worker live", "deploy", s.deployFirst},
		{"", "open", s.openURL},
		{"It changes it", "redeploy", s.redeploy},
		{"", "unchanged", s.unchanged},
		{"It makes a mistake, and is told where", "throw", s.deployThrowing},
		{"", "fix", s.fix},
		{"", "status", s.status},
		{"A second run, on an account of its own, that nobody will keep", "second", s.deploySecond},
		{"The user wants to keep the first", "request_claim", s.requestClaim},
		{"", "approve", s.approve},
		{"", "claim", s.claim},
		{"The sandbox's clock passes the hour", "expiry", s.expire},
	}
	for _, st := range steps {
		if st.chapter != "" {
			s.show.chapter("%s", st.chapter)
		}
		if err := s.step(st.name, func() (string, error) { return st.do(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) deployFirst(ctx context.Context) (string, error) {
	err := s.call(ctx, "deploy_temporary", map[string]any{
		"files": files("src/index.ts", firstWorker), "name": "hello-demo", "run_id": "demo-kept",
		"expect": map[string]any{"body_contains": "Hello from a temporary account"},
	}, &s.kept)
	if err != nil {
		return "", err
	}
	if s.kept.Account != "new" || s.kept.Serving != "yes" || !s.kept.Check.OK {
		return "", fmt.Errorf("not live as it should be: %s", pretty(s.kept))
	}
	s.rep.URL = s.kept.URL
	s.rep.SecondsLeft = int(time.Until(s.kept.ExpiresAt).Seconds())
	return fmt.Sprintf("new account (proof of work done), live at %s", s.kept.URL), nil
}

// get asks the live URL as any program on this machine would.
func (s *story) get(ctx context.Context, address string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, "", fmt.Errorf("%s: %w", address, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("asking the URL: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to the end below
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, string(body), err
}

func (s *story) openURL(ctx context.Context) (string, error) {
	status, body, err := s.get(ctx, s.kept.URL)
	if err != nil {
		return "", err
	}
	if status != http.StatusOK || !strings.Contains(body, "Hello from a temporary account") {
		return "", fmt.Errorf("the URL answered %d %q", status, body)
	}
	return fmt.Sprintf("GET answered %d: %s", status, strings.TrimSpace(body)), nil
}

func (s *story) redeploy(ctx context.Context) (string, error) {
	var d deployed
	err := s.call(ctx, "deploy_temporary", map[string]any{
		"files": files("src/index.ts", secondWorker), "name": "hello-demo", "session_id": s.kept.SessionID,
	}, &d)
	if err != nil {
		return "", err
	}
	if d.Account != "reused" || !d.Changed || d.URL != s.kept.URL || d.Check.Version != "confirmed" {
		return "", fmt.Errorf("not redeployed as it should be: %s", pretty(d))
	}
	_, body, err := s.get(ctx, d.URL+"/?name=reader")
	if err != nil || !strings.Contains(body, "Changed: the hour is running, reader") {
		return "", fmt.Errorf("the URL answered %q (%w)", body, err)
	}
	s.kept = d
	return fmt.Sprintf("same account, same URL, new version %s: %s", d.Check.Version, strings.TrimSpace(body)), nil
}

func (s *story) unchanged(ctx context.Context) (string, error) {
	var d deployed
	err := s.call(ctx, "deploy_temporary", map[string]any{
		"files": files("src/index.ts", secondWorker), "name": "hello-demo", "session_id": s.kept.SessionID,
	}, &d)
	if err != nil {
		return "", err
	}
	if d.Changed || d.VersionID != s.kept.VersionID {
		return "", fmt.Errorf("the same content was deployed again: %s", pretty(d))
	}
	return "the same content again uploads nothing", nil
}

func (s *story) deployThrowing(ctx context.Context) (string, error) {
	var d deployed
	err := s.call(ctx, "deploy_temporary", map[string]any{
		"files": files("src/index.ts", throwingWorker), "name": "hello-demo", "session_id": s.kept.SessionID,
	}, &d)
	if err != nil {
		return "", err
	}
	if d.Check.OK || d.Check.Status != http.StatusInternalServerError || !strings.Contains(d.Check.Error, "TypeError") ||
		!strings.HasPrefix(d.Check.At, "src/index.ts:4:") {
		return "", fmt.Errorf("the agent was not told what failed: %s", pretty(d.Check))
	}
	return fmt.Sprintf("the agent is told: %s, at %s", d.Check.Error, d.Check.At), nil
}

func (s *story) fix(ctx context.Context) (string, error) {
	var d deployed
	err := s.call(ctx, "deploy_temporary", map[string]any{
		"files": files("src/index.ts", secondWorker), "name": "hello-demo", "session_id": s.kept.SessionID,
	}, &d)
	if err != nil {
		return "", err
	}
	if !d.Check.OK || d.Check.Version != "confirmed" {
		return "", fmt.Errorf("the fix is not live: %s", pretty(d))
	}
	s.kept = d
	return fmt.Sprintf("fixed and live again: %s", strings.TrimSpace(d.Check.BodyExcerpt)), nil
}

func (s *story) status(ctx context.Context) (string, error) {
	var st struct {
		Sessions []struct {
			SessionID   string `json:"session_id"`
			MinutesLeft int    `json:"minutes_left"`
			Phase       string `json:"phase"`
		} `json:"sessions"`
	}
	if err := s.call(ctx, "status", map[string]any{}, &st); err != nil {
		return "", err
	}
	if len(st.Sessions) != 1 || st.Sessions[0].SessionID != s.kept.SessionID || st.Sessions[0].Phase != "live" {
		return "", fmt.Errorf("status told %s", pretty(st))
	}
	return fmt.Sprintf("%s, %d minutes left", st.Sessions[0].Phase, st.Sessions[0].MinutesLeft), nil
}

func (s *story) deploySecond(ctx context.Context) (string, error) {
	err := s.call(ctx, "deploy_temporary", map[string]any{
		"files": files("index.js", `export default { fetch: () => new Response("Nobody will keep me.\n") };`),
		"name":  "short-lived", "run_id": "demo-lost",
	}, &s.lost)
	if err != nil {
		return "", err
	}
	if s.lost.Account != "new" || s.lost.SessionID == s.kept.SessionID {
		return "", fmt.Errorf("the second run did not get an account of its own: %s", pretty(s.lost))
	}
	return "live at " + s.lost.URL, nil
}

// pageDigest is what the page binds the decision to.
var pageDigest = regexp.MustCompile(`name="digest" value="([^"]*)"`)

var pageAddress = regexp.MustCompile(`http://localhost:\d+/[^\s"')]+`)

func (s *story) requestClaim(ctx context.Context) (string, error) {
	var c struct {
		Claim    string `json:"claim"`
		TellUser string `json:"tell_user"`
	}
	err := s.call(ctx, "request_claim", map[string]any{
		"session_id": s.kept.SessionID, "message": "The demo works; do you want to keep it?",
	}, &c)
	if err != nil {
		return "", err
	}
	s.rep.Claim = c.Claim
	page := strings.TrimRight(pageAddress.FindString(c.TellUser), ".,")
	if c.Claim != "awaiting_human" || page == "" {
		return "", fmt.Errorf("no human was asked: %s", pretty(c))
	}
	s.page = page // the page's address is all that the human needs
	return "the agent was told to relay: " + c.TellUser, nil
}

// approve plays the human: it opens the page in a "browser" (an HTTP client with
// cookies) and presses the button.
func (s *story) approve(ctx context.Context) (string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", fmt.Errorf("a cookie jar: %w", err)
	}
	human := &http.Client{Jar: jar, CheckRedirect: func(next *http.Request, _ []*http.Request) error {
		if claimLink.MatchString(next.URL.String()) {
			s.claimPage = next.URL.String()
			return http.ErrUseLastResponse
		}
		return nil
	}}
	page, err := humanGet(ctx, human, s.page)
	if err != nil {
		return "", err
	}
	digest := pageDigest.FindStringSubmatch(page)
	if !strings.Contains(page, "hello-demo") || digest == nil {
		return "", errors.New("the page does not say what would be kept")
	}
	if err := humanPost(ctx, human, s.page, url.Values{"decision": {"approve"}, "digest": {digest[1]}}); err != nil {
		return "", err
	}
	if _, err := humanGet(ctx, human, s.page+"/go"); err != nil {
		return "", err
	}
	if s.claimPage == "" {
		return "", errors.New("the page did not lead on to the claim page")
	}
	s.rep.Claim = "approved"
	return "(the demo plays the human) read the page, pressed Approve, was led to the claim page", nil
}
