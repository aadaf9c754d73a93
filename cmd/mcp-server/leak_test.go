package main_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
)

// waysOut collects what left the process, by the way on which it left.
type waysOut map[string]string

func (w waysOut) say(way, text string) { w[way] += text + "\n" }

// leaks names the secrets that are in a text, in any form in which they travel.
func leaks(text string, secrets map[string]string) (out []string) {
	for name, s := range secrets {
		forms := []string{s, url.QueryEscape(s), hex.EncodeToString([]byte(s)), strings.ToUpper(hex.EncodeToString([]byte(s)))}
		for offset := range 3 { // inside a longer text that is encoded as a whole
			digits := base64.RawStdEncoding.EncodeToString(append(make([]byte, offset), s...))
			forms = append(forms, digits[2:len(digits)-2])
		}
		if slices.ContainsFunc(forms, func(f string) bool { return strings.Contains(text, f) }) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// indiscreet stands before the API. To an upload of the Worker "echoed" it answers with
// everything that it knows of the account.
func indiscreet(t *testing.T, w *world) string {
	t.Helper()
	target, err := url.Parse(strings.TrimSuffix(w.API, "/client/v4"))
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }}
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "/scripts/echoed") {
			proxy.ServeHTTP(rw, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		rw.WriteHeader(http.StatusBadRequest)
		raw, _ := json.Marshal(map[string]any{"success": false, "errors": []any{map[string]any{"code": 10021, "message": r.Header.Get("Authorization") + " is wrong"}}})
		_, _ = rw.Write(raw)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/client/v4"
}

// leakWatch is a server under watch on every way out, and the agents and humans at it.
type leakWatch struct {
	t   *testing.T
	w   *world
	f   *office
	a   *agent
	out waysOut
	spy string // what a model, a page or a client says that has got hold of the secrets
	// alive is the same of an account that is still in use: what is over was wiped, and a
	// process that never knew it can't know it when somebody types it.
	alive string
	base  map[string]map[string]any
	live  live
}

// TestNothingLeaksAnywhere tries every tool, argument, resource, prompt, error, log,
// trace, metric, page, webhook and command for the token, the claim link and the keys of
// the operator's, also when whoever calls says them itself. Tools and arguments are those
// of the live list, pages those of the routes' source: what is added later is tried too.
func TestNothingLeaksAnywhere(t *testing.T) {
	w := kindWorld(t)
	real := w.API
	w.API = indiscreet(t, w)
	l := &leakWatch{t: t, w: w, out: waysOut{}}
	told, spans := &lockedBuffer{}, &collector{}
	kinds := make(chan string, 1000)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(told, "%s\n%v\n%s\n", body, r.Header, r.URL)
		var m struct{ Type string }
		_ = json.Unmarshal(body, &m)
		kinds <- m.Type
	}))
	defer hook.Close()
	collecting := httptest.NewServer(spans)
	defer collecting.Close()
	secrets := map[string]string{
		"signing secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "collector's key": "k-very-secret-collector",
		"agent's token": w.token("bot", "--label", "owner=bob"), "operator's token": w.token("ops", "--scope", "operate"),
	}
	w.extra = []string{"HOURGLASS_WEBHOOK_SECRET=" + secrets["signing secret"], "HOURGLASS_OTLP_HEADERS=X-Collector-Key=" + secrets["collector's key"]}
	asks := filepath.Join(w.write("p.jsonc", `{"rules": [
		{"name": "no-secrets", "act": "deploy", "when": "false", "verdict": "allow"},
		{"name": "look", "act": "deploy", "when": "worker.name == 'asked'", "verdict": "ask", "message": "A human looks.", "next": "Wait."}]}`), "p.jsonc")
	l.f = w.serveHTTP("--accept-terms", "--keep-worker-logs", "--log-level", "debug", "--webhook", hook.URL, "--otlp-endpoint", collecting.URL, "--policy", asks)
	l.a = l.f.agent("http", secrets["agent's token"])
	l.live = l.a.deploy(map[string]any{"files": says("kept"), "name": "kept"})
	acct := w.accounts()[0]
	l.spy = "the token is " + acct.APIToken + ", the link https://dash.cloudflare.com/claim-preview?claimToken=" + acct.ClaimToken

	l.tools()
	l.protocol(secrets["agent's token"])
	l.pages()
	l.attended()
	l.sights(secrets["operator's token"], secrets["agent's token"])
	await(t, kinds, "claim.waiting", "claim.decided", "approval.waiting", "operator.freeze", "audit.checkpoint")
	if err := l.f.stop(); err != nil {
		t.Errorf("%v\n%s", err, l.f.stderr.String())
	}
	l.commands()
	l.atRest()
	l.out.say("tool results", l.a.said.String())
	l.out.say("log", l.f.stderr.String())
	l.out.say("standard output", l.f.rest.String()+"nothing else")
	l.out.say("webhook", told.String())
	spans.mu.Lock()
	l.out.say("spans", spans.bodies)
	spans.mu.Unlock()

	w.API = real
	for i, acct := range w.accounts() {
		secrets[fmt.Sprintf("API token %d", i)], secrets[fmt.Sprintf("claim token %d", i)] = acct.APIToken, acct.ClaimToken
	}
	l.judge(secrets)
}

// judge wants no secret on any way, and something on every one: silence proves nothing.
func (l *leakWatch) judge(secrets map[string]string) {
	l.t.Helper()
	for name, s := range secrets {
		if len(s) < 8 {
			l.t.Errorf("no %s to look for: %q", name, s)
		}
	}
	for way, marker := range map[string]string{
		"tool results": `"serving":"yes"`, "tool errors": `"error"`, "protocol": "hourglass://limits", "log": "tool call", "standard output": "nothing else",
		"metrics": "hourglass_tool_calls_total", "health": `"store":"ok"`, "spans": "tools/call deploy_temporary", "pages": "kept", "attended page": "Keep",
		"worker logs": "the token is", "webhook": "claim.waiting", "commands": "request_claim", "disk": "",
	} {
		text, there := l.out[way]
		if !there || !strings.Contains(text, marker) {
			l.t.Errorf("nothing of what was expected went out by: %s", way)
		}
		for _, name := range leaks(text, secrets) {
			before, _, _ := strings.Cut(text, secrets[name])
			l.t.Errorf("the %s is in what went out by: %s, after …%q", name, way, before[max(0, len(before)-200):])
		}
	}
	if len(l.out) != 14 {
		l.t.Errorf("a way out that nobody looks at: %v", slices.Sorted(maps.Keys(l.out)))
	}
}

// tools says the secrets in every argument of every tool, of whatever type it is, and
// under a name that no tool knows.
func (l *leakWatch) tools() {
	l.t.Helper()
	list, err := l.a.client.ListTools(l.t.Context(), mcp.ListToolsRequest{})
	if err != nil {
		l.t.Fatal(err)
	}
	raw, err := json.Marshal(list)
	if err != nil {
		l.t.Fatal(err)
	}
	l.out.say("protocol", string(raw))
	var in struct {
		Tools []struct {
			Name        string `json:"name"`
			InputSchema schema `json:"inputSchema"`
		}
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		l.t.Fatal(err)
	}
	code := fmt.Sprintf(`export default { fetch(r) { console.log(%[1]q); if (new URL(r.url).pathname !== "/") throw new Error(%[1]q); return new Response(%[1]q); } };`, l.spy)
	l.base = map[string]map[string]any{
		"bundle": {"files": says("x")}, "deploy_temporary": {"files": says("x"), "name": "spied"}, "status": {"detail": true},
		"request_claim": {"session_id": l.live.SessionID, "withdraw": true}, "teardown": {"session_id": "s_none"},
	}
	tried := 0
	for _, tool := range in.Tools {
		base, known := l.base[tool.Name]
		if !known {
			l.t.Errorf("a tool that nobody tries: %s", tool.Name)
		}
		for _, at := range tool.InputSchema.leaves(nil) {
			tried++
			l.call(tool.Name, put(base, at, l.spy))
		}
		l.call(tool.Name, put(base, []string{l.spy}, 1))
	}
	if tried < 25 {
		l.t.Errorf("%d arguments", tried)
	}
	for _, meta := range []map[string]any{{"idempotencyKey": l.spy}, {"traceparent": l.spy, "tracestate": l.spy}, {l.spy: l.spy}} {
		l.out.say("tool errors", l.a.callMeta("deploy_temporary", map[string]any{"files": says("meta")}, meta).Text)
	}
	spoken := l.call("deploy_temporary", map[string]any{"files": files("w.js", code), "name": "spoken"})
	l.call("deploy_temporary", map[string]any{"files": files("w.js", code+"\n"), "name": "spoken", "expect": map[string]any{"path": "/throw"}})
	l.call("deploy_temporary", map[string]any{"files": files("w.js", "export default {\n'"+l.spy), "name": "broken"})
	if echo := l.call("deploy_temporary", map[string]any{"files": says("x"), "name": "echoed"}); echo.Error.Code == "" || !strings.Contains(echo.Text, "is wrong") {
		l.t.Errorf("the API's own words did not come through: %s", echo.Text)
	}
	l.call("deploy_temporary", map[string]any{"files": says("x"), "name": "asked"})
	l.call("request_claim", map[string]any{"session_id": l.live.SessionID, "message": l.spy})
	l.call("status", map[string]any{"detail": true})
	if !strings.Contains(spoken.Text, "[redacted]") {
		l.t.Errorf("the Worker that says the secrets was not heard: %s", spoken.Text)
	}
	l.workerLogs(spoken.Live)
}

// workerLogs has the Worker called until what it said is kept, and reads that.
func (l *leakWatch) workerLogs(spoken live) {
	l.t.Helper()
	show := func(more ...string) string {
		out, errs, _ := l.w.run(l.w.home, append([]string{"sessions", "logs", spoken.SessionID, "--state-dir", filepath.Join(l.w.home, "state")}, more...)...)
		return out + errs
	}
	for until := time.Now().Add(time.Minute); !strings.Contains(show(), "the token is"); time.Sleep(200 * time.Millisecond) {
		l.w.get(spoken.URL)
		if time.Now().After(until) {
			l.t.Fatalf("what the Worker said was never kept: %s\n%s", show(), l.f.stderr.String())
		}
	}
	l.out.say("worker logs", show()+show("--json"))
}

func (l *leakWatch) call(tool string, args map[string]any) answer {
	l.t.Helper()
	out := l.a.call(tool, args)
	if out.IsError {
		l.out.say("tool errors", out.Text)
	}
	return out
}

// leaves are the paths to every argument of a schema; "[]" is an element of a list.
func (s *schema) leaves(at []string) (out [][]string) {
	if len(at) > 0 {
		out = append(out, slices.Clone(at))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		out = append(out, p.leaves(append(slices.Clone(at), name))...)
	}
	if s.Items != nil {
		out = append(out, s.Items.leaves(append(slices.Clone(at), "[]"))...)
	}
	return out
}

// put gives a copy of args with a value at a path.
func put(args map[string]any, at []string, v any) map[string]any {
	out := maps.Clone(args)
	if out == nil {
		out = map[string]any{}
	}
	out[at[0]] = nest(out[at[0]], at[1:], v)
	return out
}

func nest(had any, at []string, v any) any {
	switch {
	case len(at) == 0:
		return v
	case at[0] == "[]":
		list, _ := had.([]map[string]any)
		if len(at) == 1 || len(list) == 0 {
			return []any{nest(nil, at[1:], v)}
		}
		return []any{nest(list[0], at[1:], v)}
	}
	m, _ := had.(map[string]any)
	return put(m, at, v)
}

// protocol says the secrets wherever MCP, or HTTP under it, takes a word.
func (l *leakWatch) protocol(token string) {
	l.t.Helper()
	ctx, c := l.t.Context(), l.a.client
	keep := func(v any, err error) {
		raw, _ := json.Marshal(v)
		l.out.say("protocol", string(raw))
		if err != nil {
			l.out.say("protocol", err.Error())
		}
	}
	resources, err := c.ListResources(ctx, mcp.ListResourcesRequest{})
	keep(resources, err)
	templates, err := c.ListResourceTemplates(ctx, mcp.ListResourceTemplatesRequest{})
	keep(templates, err)
	uris := []string{l.spy, "hourglass://" + url.PathEscape(l.spy)}
	for _, r := range resources.Resources {
		uris = append(uris, r.URI)
	}
	for _, uri := range uris {
		req := mcp.ReadResourceRequest{}
		req.Params.URI = uri
		keep(c.ReadResource(ctx, req))
	}
	prompts, err := c.ListPrompts(ctx, mcp.ListPromptsRequest{})
	keep(prompts, err)
	for _, p := range append(prompts.Prompts, mcp.NewPrompt(l.spy)) {
		req := mcp.GetPromptRequest{}
		req.Params.Name, req.Params.Arguments = p.Name, map[string]string{l.spy: l.spy}
		for _, arg := range p.Arguments {
			req.Params.Arguments[arg.Name] = l.spy
			ask := mcp.CompleteRequest{}
			ask.Params.Ref = mcp.PromptReference{Type: "ref/prompt", Name: p.Name}
			ask.Params.Argument.Name, ask.Params.Argument.Value = arg.Name, l.spy
			keep(c.Complete(ctx, ask))
		}
		keep(c.GetPrompt(ctx, req))
	}
	unknown := mcp.CallToolRequest{}
	unknown.Params.Name = l.spy
	keep(c.CallTool(ctx, unknown))
	for _, body := range []string{
		"{" + l.spy, `{"jsonrpc":"2.0","id":"` + l.spy + `","method":"` + l.spy + `"}`, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + l.spy + `"}}`,
	} {
		for _, auth := range []string{token, l.spy, ""} {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.f.MCP+"?q="+url.QueryEscape(l.spy), strings.NewReader(body))
			if err != nil {
				l.t.Fatal(err)
			}
			for k, v := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer " + auth, "Mcp-Session-Id": l.spy, "User-Agent": l.spy} {
				req.Header.Set(k, v)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				l.t.Fatal(err)
			}
			raw, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			l.out.say("protocol", string(raw)+fmt.Sprint(res.Header))
		}
	}
}

// sights asks for what operators see.
func (l *leakWatch) sights(operator, agent string) {
	for _, path := range []string{"/healthz", "/readyz", "/.well-known/oauth-protected-resource", "/" + url.PathEscape(l.spy), "/metrics"} {
		for _, token := range []string{agent, "", operator} {
			code, text := l.f.ask(l.t, path, token)
			if way := "health"; path == "/metrics" && code == http.StatusOK {
				l.out.say("metrics", text)
			} else {
				l.out.say(way, text)
			}
		}
	}
}

// pages goes the humans' ways in the console with the secrets in every field, and then to
// every page that there is.
func (l *leakWatch) pages() {
	l.t.Helper()
	page := regexp.MustCompile(`http://localhost:\d+/console/claims/c_\w+`).FindString(l.a.said.String())
	if page == "" {
		l.t.Fatal("no claim was asked for")
	}
	console, _, _ := strings.Cut(page, "/claims/")
	ann, bob := l.f.logIn(console, "ann", "--scope", "approve", "--scope", "operate"), l.f.logIn(console, "bob", "--scope", "approve", "--scope", "operate")
	show := func(h *human) { l.out.say("pages", h.page) }
	do := func(h *human, from, to string, form url.Values) {
		h.do(http.MethodGet, console+from, nil)
		show(h)
		form.Set("form", h.field("form"))
		if form.Get("digest") == "" {
			form.Set("digest", h.field("digest"))
		}
		h.do(http.MethodPost, console+to, form)
		show(h)
	}
	do(ann, "", "/freeze", url.Values{"to": {"frozen"}, "reason": {l.spy}})
	l.call("deploy_temporary", map[string]any{"files": says("x")})
	do(ann, "", "/freeze", url.Values{"to": {"thawed"}, "reason": {l.spy}})
	asked := regexp.MustCompile(`/approvals/(ap_\w+)`).FindStringSubmatch(ann.page)
	if ann.do(http.MethodGet, console, nil); asked == nil {
		asked = regexp.MustCompile(`/approvals/(ap_\w+)`).FindStringSubmatch(ann.page)
	}
	if asked == nil {
		l.t.Fatalf("no approval waits: %s", ann.page)
	}
	ids := map[string]string{"sessions": l.live.SessionID, "approvals": asked[1], "claims": page[strings.LastIndexByte(page, '/')+1:], "login": url.PathEscape(l.spy)}
	l.everyPage(console, bob, ids, http.MethodGet)
	do(ann, "/approvals/"+ids["approvals"], "/approvals/"+ids["approvals"], url.Values{"decision": {"refuse"}, "reason": {l.spy}})
	do(ann, "/claims/"+ids["claims"], "/claims/"+ids["claims"], url.Values{"decision": {"approve"}, "reason": {l.spy}})
	// The one place where the link may be: on the way of the browser that said yes.
	ann.do(http.MethodGet, page+"/go", nil)
	if given := map[string]string{"claim token": l.w.accounts()[0].ClaimToken}; !slices.Contains(leaks(ann.left, given), "claim token") {
		l.t.Errorf("she is not led on, or this test can't see a link: %q", ann.left)
	}
	bob.do(http.MethodGet, page+"/go", nil)
	show(bob)
	do(ann, "/claims/"+ids["claims"], "/claims/"+ids["claims"]+"/outcome", url.Values{"outcome": {"adopted"}})
	l.everyPage(console, bob, ids, http.MethodGet)
	do(ann, "", "/teardown", url.Values{"session": {l.live.SessionID}, "reason": {l.spy}})
	l.everyPage(console, bob, ids, http.MethodPost)
	for _, path := range []string{"/record?principal=" + url.QueryEscape(l.spy) + "&act=claim", "/" + url.PathEscape(l.spy), "/sessions/" + url.PathEscape(l.spy), "/login?next=" + url.QueryEscape(l.spy)} {
		ann.do(http.MethodGet, console+path, nil)
		show(ann)
	}
}

// everyPage visits what the console's routes name, whoever wrote them; forms are sent with
// the secrets in every field that there is.
func (l *leakWatch) everyPage(console string, h *human, ids map[string]string, method string) {
	l.t.Helper()
	source, err := os.ReadFile("../../internal/web/console.go")
	if err != nil {
		l.t.Fatal(err)
	}
	routes := regexp.MustCompile(`"(GET|POST) /console(/[^"]*)?"`).FindAllStringSubmatch(string(source), -1)
	if len(routes) < 20 {
		l.t.Fatalf("%d routes in the console", len(routes))
	}
	form := url.Values{}
	html, err := os.ReadFile("../../internal/web/console.html")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`name="(\w+)"`).FindAllStringSubmatch(string(html), -1) {
		form.Set(m[1], l.spy)
	}
	h.do(http.MethodGet, console, nil)
	form.Set("form", h.field("form"))
	for _, r := range routes {
		if r[1] != method || r[2] == "/logout" {
			continue
		}
		path := regexp.MustCompile(`/(\w+)/\{\w+\}`).ReplaceAllStringFunc(r[2], func(part string) string {
			kind, _, _ := strings.Cut(part[1:], "/")
			return "/" + kind + "/" + cmp.Or(ids[kind], "x")
		})
		if path == "/events" {
			l.out.say("pages", h.begin(console+path))
			continue
		}
		h.do(method, console+path, form)
		l.out.say("pages", h.page+h.left)
		h.left = ""
	}
}

// begin reads the beginning of a stream: its headers, and what comes with them.
func (h *human) begin(address string) string {
	h.t.Helper()
	ctx, stop := context.WithCancel(h.t.Context())
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	res, err := h.client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	stop()
	rest, _ := io.ReadAll(res.Body) // it ends with the context
	return fmt.Sprint(res.Header, string(rest))
}

// attended is the page of a server on stdio.
func (l *leakWatch) attended() {
	l.t.Helper()
	a := l.w.agent(l.w.serverArgs("--log-level", "debug"))
	d := a.deploy(map[string]any{"files": says("attended"), "name": "attended"})
	mine := l.w.accounts()
	acct := mine[len(mine)-1]
	spy := acct.APIToken + " " + acct.ClaimToken
	l.alive = spy
	claim := a.call("request_claim", map[string]any{"session_id": d.SessionID, "message": spy})
	page := regexp.MustCompile(`http://localhost:\d+/claim/[A-Za-z0-9]+`).FindString(claim.Text)
	if page == "" {
		l.t.Fatalf("%s", claim.Text)
	}
	h := &human{t: l.t, client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	for _, step := range []struct{ method, path, decision string }{
		{http.MethodGet, "", ""},
		{http.MethodPost, "", spy},
		{http.MethodGet, "/" + url.PathEscape(spy), ""},
		{http.MethodGet, "/go", ""},
		{http.MethodPost, "", "refuse"},
		{http.MethodGet, "", ""},
		{http.MethodGet, "/go", ""},
	} {
		h.do(step.method, page+step.path, url.Values{"decision": {step.decision}, "x": {spy}})
		l.out.say("attended page", h.page)
	}
	if err := a.client.Close(); err != nil {
		l.t.Error(err)
	}
	l.out.say("tool results", a.said.String())
	l.out.say("log", a.stderr.String())
}

// commands runs what operators run, each in a process that has learnt nothing yet.
func (l *leakWatch) commands() {
	l.t.Helper()
	for _, args := range [][]string{
		{"audit", "list"},
		{"audit", "list", "--json"},
		{"audit", "export"},
		{"audit", "verify"},
		{"audit", "prove", "0"},
		{"sessions", "list"},
		{"sessions", "list", "--json"},
		{"sessions", "show", l.live.SessionID},
		{"sessions", "show", l.live.SessionID, "--json"},
		{"approvals"},
		{"approvals", "--json"},
		{"status"},
		{"status", "--json"},
		{"status", "--session", l.spy},
		{"sessions", "show", l.spy},
		{"audit", "list", "--url", l.spy},
		{"revoke", "--session", l.spy, "--yes"},
		{"revoke", "--all", "--reason", l.alive, "--yes", "--json"},
		{"policy", "show-default"},
		{"doctor"},
		{"version"},
	} {
		all := append(slices.Clone(args), l.w.serverArgs()[1:]...)
		if args[0] == "policy" || args[0] == "version" {
			all = args
		}
		stdout, stderr, _ := l.w.run(l.w.home, all...)
		// What somebody types at a terminal they may be told again there.
		for _, x := range args {
			if x == l.spy {
				stdout, stderr = strings.ReplaceAll(stdout, x, ""), strings.ReplaceAll(stderr, x, "")
			}
		}
		l.out.say("commands", stdout+stderr)
	}
	list, errs, _ := l.w.run(l.w.home, "tokens", "list", "--json", "--state-dir", filepath.Join(l.w.home, "state"))
	l.out.say("commands", list+errs)
}

// atRest reads the state folder, without the keys.
func (l *leakWatch) atRest() {
	l.t.Helper()
	err := filepath.WalkDir(filepath.Join(l.w.home, "state"), func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || e.Name() == "key" || e.Name() == "audit.key" {
			return err
		}
		b, err := os.ReadFile(path) //nolint:gosec // a test's own
		l.out.say("disk", string(b))
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
}
