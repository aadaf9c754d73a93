package web_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/server"
	"github.com/rs/zerolog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// hall is a console behind a real Endpoint.
type hall struct {
	t     *testing.T
	board *board
	book  *book
	con   *web.Console
	addr  string // the Endpoint's, in numbers

	mu  sync.Mutex
	now time.Time
}

func (h *hall) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hall) later(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func newHall(t *testing.T, cfg web.ConsoleConfig) *hall {
	t.Helper()
	h := &hall{t: t, board: newBoard(), book: newBook(), now: time.Now()}
	cfg.Logger, cfg.Now, cfg.LookEvery = zerolog.Nop(), h.clock, 20*time.Millisecond
	var err error
	if h.con, err = web.NewConsole(cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Passkeys {
		h.board.channels = []string{deploy.ChannelPasskey}
	}
	h.con.Bind(h.board, h.book, h.board)
	end, err := web.NewEndpoint(web.EndpointConfig{
		MCP: server.NewMCPServer("t", "1"), Addr: "127.0.0.1:0", Console: h.con, Logger: zerolog.Nop(), StopWait: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := end.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.addr = end.Address()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- end.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return h
}

// person is a browser with cookies.
type person struct {
	h      *hall
	client *http.Client
	last   string // the body of the last page
}

func (h *hall) person() *person {
	jar, _ := cookiejar.New(nil)
	tr := &http.Transport{}
	h.t.Cleanup(tr.CloseIdleConnections)
	return &person{h: h, client: &http.Client{Jar: jar, Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (p *person) do(method, path string, form url.Values, headers ...string) *http.Response {
	p.h.t.Helper()
	base := strings.TrimSuffix(p.h.con.Address(), "/console")
	r, err := http.NewRequest(method, base+path, strings.NewReader(form.Encode()))
	if err != nil {
		p.h.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := p.client.Do(r)
	if err != nil {
		p.h.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		p.h.t.Fatal(err)
	}
	p.last = string(body)
	return resp
}

func (p *person) get(path string, want int, texts ...string) {
	p.h.t.Helper()
	if resp := p.do(http.MethodGet, path, nil); resp.StatusCode != want {
		p.h.t.Errorf("GET %s: %d, want %d\n%s", path, resp.StatusCode, want, p.last)
	}
	for _, s := range texts {
		if !strings.Contains(p.last, s) {
			p.h.t.Errorf("GET %s does not say %q\n%s", path, s, p.last)
		}
	}
}

var formToken = regexp.MustCompile(`name="form" value="([0-9a-f]+)"`)

// post sends a form with the token of the page that is open.
func (p *person) post(path string, want int, pairs ...string) *http.Response {
	p.h.t.Helper()
	form := url.Values{}
	if m := formToken.FindStringSubmatch(p.last); m != nil {
		form.Set("form", m[1])
	}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	resp := p.do(http.MethodPost, path, form)
	if resp.StatusCode != want {
		p.h.t.Errorf("POST %s %v: %d, want %d\n%s", path, pairs, resp.StatusCode, want, p.last)
	}
	return resp
}

func (h *hall) link(who deploy.ConsoleUser) string {
	h.t.Helper()
	link, err := web.NewLoginLink(h.t.Context(), h.book, h.con.Address(), who, h.clock())
	if err != nil {
		h.t.Fatal(err)
	}
	return link
}

func user(name string, scopes ...deploy.Scope) deploy.ConsoleUser {
	return deploy.ConsoleUser{ID: "link:" + name, Name: name, Owner: name, Scopes: scopes}
}

// enter logs somebody in.
func (h *hall) enter(who deploy.ConsoleUser) *person {
	h.t.Helper()
	p := h.person()
	link := h.link(who)
	p.post("/console/login", http.StatusOK, "code", link[strings.LastIndexByte(link, '/')+1:])
	p.get("/console", http.StatusOK, who.Name)
	return p
}

const (
	approve = deploy.ScopeApprove
	operate = deploy.ScopeOperate
)

// TestConsoleLogin: nothing is shown without a login, a link is good once and for its
// time, a preview uses nothing up, and a login ends.
func TestConsoleLogin(t *testing.T) {
	h := newHall(t, web.ConsoleConfig{})
	p := h.person()
	for _, path := range []string{"/console", "/console/claims/c_1", "/console/record", "/console/events", "/console/claims/c_1/go", "/console/sessions/s_1"} {
		p.get(path, http.StatusUnauthorized, "Log in")
		if strings.Contains(p.last, "shop") || strings.Contains(p.last, "ci-bot") {
			t.Errorf("%s shows something to nobody", path)
		}
	}
	link := h.link(user("ann", approve))
	path := strings.TrimPrefix(link, strings.TrimSuffix(h.con.Address(), "/console"))
	code := link[strings.LastIndexByte(link, '/')+1:]
	for range 3 {
		h.person().get(path, http.StatusOK, "Log in") // a preview
	}
	resp := p.post("/console/login", http.StatusOK, "code", code, "next", "/console/claims/c_1")
	if !strings.Contains(p.last, `content="0;url=/console/claims/c_1"`) {
		t.Errorf("it does not lead on\n%s", p.last)
	}
	c := resp.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("the cookie: %+v", c)
	}
	for hash := range h.book.sessions {
		if hash == c.Value {
			t.Error("the store holds the cookie itself")
		}
	}
	p.get("/console/claims/c_1", http.StatusOK, "Keep this temporary account?", "digest-of-all", "as the agent says")
	h.person().post("/console/login", http.StatusForbidden, "code", code) // again
	late := h.link(user("eve", approve))
	h.later(11 * time.Minute)
	h.person().post("/console/login", http.StatusForbidden, "code", late[strings.LastIndexByte(late, '/')+1:])
	p.get("/console", http.StatusOK)
	p.post("/console/logout", http.StatusSeeOther)
	p.get("/console", http.StatusUnauthorized)
	idle := h.enter(user("bob", approve))
	h.later(31 * time.Minute)
	idle.get("/console", http.StatusUnauthorized)
	busy := h.enter(user("cat", approve))
	for range 29 {
		h.later(25 * time.Minute)
		busy.do(http.MethodGet, "/console", nil)
	}
	busy.get("/console", http.StatusUnauthorized) // twelve hours are over
	p.post("/console/login", http.StatusForbidden, "code", "x", "next", "https://evil.example/")
	if strings.Contains(p.last, "evil.example") {
		t.Error("a login leads to another site")
	}
}

// TestConsoleApart: the two doors share nothing.
func TestConsoleApart(t *testing.T) {
	h := newHall(t, web.ConsoleConfig{})
	p := h.enter(user("ann", approve))
	host := strings.TrimPrefix(h.addr, "http://")
	for _, other := range []string{host, "evil.example", "127.0.0.1"} {
		if resp := p.do(http.MethodGet, "/console", nil, "Host", other); resp.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("under %s: %d", other, resp.StatusCode)
		}
	}
	if !strings.HasPrefix(h.con.Address(), "http://localhost:") {
		t.Errorf("the console is at %s: Workers of this machine share 127.0.0.1's cookies", h.con.Address())
	}
	if resp := p.do(http.MethodGet, "/console", nil, "Authorization", "Bearer x"); resp.StatusCode != http.StatusOK {
		t.Errorf("a login with a token beside it: %d", resp.StatusCode)
	}
	if resp := h.person().do(http.MethodGet, "/console", nil, "Authorization", "Bearer hgt_any"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a bearer token opened the console: %d", resp.StatusCode)
	}
	if resp := p.do(http.MethodGet, "/claim/"+token, nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("the page that needs no login is served: %d", resp.StatusCode)
	}
	resp := p.do(http.MethodGet, "/console", nil)
	policy := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'sha256-", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %s", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(p.last, "src=") || resp.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Error("the page loads something, or tells where it is")
	}
	// A link from a chat comes without the Strict cookie: it is sent round once.
	if resp := h.person().do(http.MethodGet, "/console/claims/c_1", nil, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"); resp.StatusCode != http.StatusOK {
		t.Errorf("a link from elsewhere: %d", resp.StatusCode)
	}
}

// TestConsoleForms: forms of other sites, programs and other logins decide nothing.
func TestConsoleForms(t *testing.T) {
	h := newHall(t, web.ConsoleConfig{})
	p := h.enter(user("ann", approve, operate))
	p.get("/console/claims/c_1", http.StatusOK)
	form := url.Values{"form": {formToken.FindStringSubmatch(p.last)[1]}, "decision": {"approve"}, "digest": {"digest-of-all"}}
	for name, headers := range map[string][]string{
		"another site":     {"Sec-Fetch-Site", "cross-site"},
		"a sister site":    {"Sec-Fetch-Site", "same-site"},
		"a foreign origin": {"Sec-Fetch-Site", "", "Origin", "http://127.0.0.1:1"},
		"a program":        {"Sec-Fetch-Site", ""},
	} {
		if resp := p.do(http.MethodPost, "/console/claims/c_1", form, headers...); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	other := h.enter(user("bob", approve))
	other.get("/console/claims/c_1", http.StatusOK)
	form.Set("form", formToken.FindStringSubmatch(other.last)[1])
	if resp := p.do(http.MethodPost, "/console/claims/c_1", form); resp.StatusCode != http.StatusForbidden {
		t.Errorf("another login's form: %d", resp.StatusCode)
	}
	p.get("/console", http.StatusOK)
	form.Del("form")
	for _, path := range []string{"/console/freeze", "/console/teardown", "/console/logout", "/console/approvals/ap_1", "/console/touch", "/console/passkeys/begin"} {
		if resp := p.do(http.MethodPost, path, form); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s without a token: %d", path, resp.StatusCode)
		}
	}
	if len(h.board.decided)+len(h.board.revoked) != 0 || h.board.frozen != nil {
		t.Error("something was done")
	}
}

// TestConsoleDecides: a claim from the asking to the word of the human, by one browser.
func TestConsoleDecides(t *testing.T) {
	h := newHall(t, web.ConsoleConfig{})
	h.board.fourEyes = true
	viewer, owner, ann := h.enter(user("op", operate)), h.enter(user("bob", approve)), h.enter(user("ann", approve))
	viewer.get("/console/claims/c_1", http.StatusOK, "somebody else has to decide")
	viewer.get("/console", http.StatusOK)
	viewer.post("/console/claims/c_1", http.StatusForbidden, "decision", "approve", "digest", "digest-of-all")
	owner.get("/console/claims/c_1", http.StatusOK)
	owner.post("/console/claims/c_1", http.StatusForbidden, "decision", "approve", "digest", "digest-of-all")
	if !strings.Contains(owner.last, "four eyes") {
		t.Errorf("the owner is not told why\n%s", owner.last)
	}
	ann.get("/console/claims/c_1", http.StatusOK)
	ann.post("/console/claims/c_1", http.StatusConflict, "decision", "approve", "digest", "another") // a yes for something else
	ann.get("/console/claims/c_1", http.StatusOK)
	ann.post("/console/claims/c_1", http.StatusSeeOther, "decision", "approve", "digest", "digest-of-all")
	ann.get("/console/claims/c_1", http.StatusOK, "Go on to Cloudflare", "Decided by", "ann (console)", "Claim link", "attended", "KV namespace", "revoke what you did not make")
	ann.post("/console/claims/c_1", http.StatusSeeOther, "decision", "approve", "digest", "digest-of-all") // a double click leads on, and counts once
	owner.get("/console/claims/c_1", http.StatusOK, "Only the browser in which it was approved")
	owner.post("/console/claims/c_1", http.StatusConflict, "decision", "refuse", "digest", "digest-of-all")
	if !strings.Contains(owner.last, "your decision did not count") {
		t.Errorf("the second is not told\n%s", owner.last)
	}
	owner.get("/console/claims/c_1/go", http.StatusConflict)
	for range 2 { // and again
		resp := ann.do(http.MethodGet, "/console/claims/c_1/go", nil)
		if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != claimURL || strings.Contains(ann.last, claimToken) {
			t.Errorf("going on: %d %s", resp.StatusCode, ann.last)
		}
	}
	ann.get("/console/claims/c_1", http.StatusOK)
	ann.post("/console/claims/c_1/outcome", http.StatusSeeOther, "outcome", "finished")
	ann.get("/console/claims/c_1", http.StatusOK, "adopted", "the word of ann")
	if len(h.board.decided) != 1 || h.board.decided[0].Name != "ann" || h.board.decided[0].Channel != deploy.ChannelConsole || h.board.decided[0].Browser == "" {
		t.Errorf("decided %+v", h.board.decided)
	}
}

// TestConsoleTwoAtOnce: of two who decide together, one decides.
func TestConsoleTwoAtOnce(t *testing.T) {
	h := newHall(t, web.ConsoleConfig{})
	people := []*person{h.enter(user("ann", approve)), h.enter(user("cat", approve))}
	var all sync.WaitGroup
	codes := make([]int, len(people))
	for i, p := range people {
		p.get("/console/claims/c_1", http.StatusOK)
		form := url.Values{"form": {formToken.FindStringSubmatch(p.last)[1]}, "decision": {"approve"}, "digest": {"digest-of-all"}}
		all.Go(func() { codes[i] = p.do(http.MethodPost, "/console/claims/c_1", form).StatusCode })
	}
	all.Wait()
	if codes[0]+codes[1] != http.StatusSeeOther+http.StatusConflict || len(h.board.decided) != 1 {
		t.Errorf("%v, decided %d times", codes, len(h.board.decided))
	}
}

// TestConsoleRefuseExpire: a no, an end, and an act that waits.
func TestConsoleRefuseExpire(t *testing.T) {
	h := newHall(t, web.ConsoleConfig{})
	ann := h.enter(user("ann", approve))
	ann.get("/console", http.StatusOK, "Claims that wait for a human (1)", "Acts that wait for a human (1)")
	ann.get("/console/approvals/ap_1", http.StatusOK, "production asks", "digest-of-act")
	ann.post("/console/approvals/ap_1", http.StatusConflict, "decision", "approve", "digest", "another")
	ann.get("/console/approvals/ap_1", http.StatusOK)
	ann.post("/console/approvals/ap_1", http.StatusSeeOther, "decision", "approve", "digest", "digest-of-act")
	ann.get("/console/approvals/ap_1", http.StatusNotFound)
	ann.get("/console/claims/c_1", http.StatusOK)
	ann.post("/console/claims/c_1", http.StatusSeeOther, "decision", "refuse", "digest", "digest-of-all")
	ann.get("/console/claims/c_1", http.StatusOK, "The account is not kept")
	h.board.mu.Lock()
	h.board.view.State = deploy.ClaimLapsed
	h.board.mu.Unlock()
	ann.get("/console/claims/c_1", http.StatusGone, "Too late")
	ann.post("/console/claims/c_1", http.StatusGone, "decision", "approve", "digest", "digest-of-all")
	ann.get("/console/claims/c_none", http.StatusNotFound)
}

// TestConsoleOperates: taking down, revoking, freezing, the record; for operators alone.
func TestConsoleOperates(t *testing.T) {
	h := newHall(t, web.ConsoleConfig{})
	ann, op := h.enter(user("ann", approve)), h.enter(user("op", operate))
	if strings.Contains(ann.last, "Live sessions") || strings.Contains(ann.last, "Take down") {
		t.Error("who only approves sees what is an operator's")
	}
	for _, path := range []string{"/console/freeze", "/console/teardown"} {
		ann.get("/console", http.StatusOK)
		ann.post(path, http.StatusForbidden, "to", "frozen", "session", "s_1")
	}
	ann.get("/console/record", http.StatusForbidden)
	op.get("/console", http.StatusOK, "Live sessions (1)", "shop.bright-morning.workers.dev", "run (as the agent says)")
	if strings.Contains(op.last, `href="javascript:`) {
		t.Error("a stranger's address became a link")
	}
	op.post("/console/freeze", http.StatusSeeOther, "to", "frozen", "reason", "an incident")
	op.get("/console", http.StatusOK, "All new deployments are stopped", "console:op", "an incident")
	op.post("/console/freeze", http.StatusSeeOther, "to", "thawed")
	op.get("/console", http.StatusOK, "Stop all new deployments")
	op.post("/console/teardown", http.StatusOK, "session", "s_1")
	op.get("/console", http.StatusOK)
	op.post("/console/teardown", http.StatusBadRequest, "all", "everything") // without the tick
	op.get("/console", http.StatusOK)
	op.post("/console/teardown", http.StatusBadRequest)
	op.get("/console", http.StatusOK)
	op.post("/console/teardown", http.StatusOK, "principal", "ci-bot", "sure", "yes")
	if len(h.board.revoked) != 2 || h.board.revoked[0].ID != "s_1" || h.board.revoked[1].Principal != "ci-bot" || h.board.by[0].Principal != "console:op" {
		t.Errorf("revoked %+v by %+v", h.board.revoked, h.board.by)
	}
	op.get("/console/record", http.StatusOK, "create_account", "kept long enough")
	op.get("/console/record?principal=ci-bot", http.StatusOK, "deploy (outcome)")
	if strings.Contains(op.last, "create_account") {
		t.Error("the filter filters nothing")
	}
	op.get("/console/sessions/s_1", http.StatusOK, "Owner", "bob")
}

// TestConsoleTellsOfChanges by SSE, until the login is over.
func TestConsoleTellsOfChanges(t *testing.T) {
	h := newHall(t, web.ConsoleConfig{})
	op := h.enter(user("op", operate))
	resp, err := op.client.Get(h.con.Address() + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	state := regexp.MustCompile(`data: (\w+)`)
	var said strings.Builder
	buf := make([]byte, 512)
	until := func(n int) {
		for len(state.FindAllString(said.String(), -1)) < n {
			k, err := resp.Body.Read(buf)
			said.Write(buf[:k])
			if err != nil {
				t.Fatalf("%v after %q", err, said.String())
			}
		}
	}
	until(1)
	h.board.mu.Lock()
	h.board.view.State = deploy.ClaimRefused
	h.board.mu.Unlock()
	until(2)
	op.get("/console", http.StatusOK)
	op.post("/console/logout", http.StatusSeeOther)
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("the stream: %v", err)
	}
}

// TestConsolePasskeyMode: without a touch there is no yes; a no needs none.
func TestConsolePasskeyMode(t *testing.T) {
	h := newHall(t, web.ConsoleConfig{Passkeys: true})
	ann := h.enter(user("ann", approve))
	for _, path := range []string{"/console/claims/c_1", "/console/approvals/ap_1"} {
		ann.get(path, http.StatusOK, "Yes, with my passkey")
		digest := regexp.MustCompile(`name="digest" value="([^"]+)"`).FindStringSubmatch(ann.last)[1]
		ann.post(path, http.StatusForbidden, "decision", "approve", "digest", digest)
		ann.get(path, http.StatusOK)
		ann.post(path, http.StatusForbidden, "decision", "approve", "digest", digest, "handle", strings.Repeat("A", 52), "passkey", "{}")
	}
	ann.get("/console/passkeys", http.StatusOK, "Add a passkey")
	ann.post("/console/touch", http.StatusConflict, "about", "claim/c_1", "digest", "digest-of-all") // she has none
	if len(h.board.decided) != 0 {
		t.Error("a yes counted without a touch")
	}
	ann.get("/console/claims/c_1", http.StatusOK)
	ann.post("/console/claims/c_1", http.StatusSeeOther, "decision", "refuse", "digest", "digest-of-all")
}

// TestConsoleSealed: a claim that is sealed to a key has no yes in the console: it says to
// whom, and gives the file that the holder of the key opens. A no counts.
func TestConsoleSealed(t *testing.T) {
	h := newHall(t, web.ConsoleConfig{})
	h.set(func(d *board) { d.view.Sealed, d.view.Claim.Custody = true, "sealed to age1qqqqqqqq…qqqqqe" })
	ann, op := h.enter(user("ann", approve)), h.enter(user("op", operate))
	ann.get("/console/claims/c_1", http.StatusOK, "sealed to age1qqqqqqqq…qqqqqe", "/console/claims/c_1/file", "mcp-server claim s_1", "shop-cache", "revoke what you did not make")
	if strings.Contains(ann.last, `value="approve"`) {
		t.Error("there is a yes that can't count")
	}
	resp := ann.do(http.MethodGet, "/console/claims/c_1/file", nil)
	if resp.StatusCode != http.StatusOK || !strings.Contains(resp.Header.Get("Content-Disposition"), "claim.json") || !strings.Contains(ann.last, deploy.ClaimFormat) || !strings.Contains(ann.last, "shop-cache") {
		t.Errorf("the file: %d %s", resp.StatusCode, ann.last)
	}
	op.get("/console/claims/c_1/file", http.StatusForbidden)
	h.person().get("/console/claims/c_1/file", http.StatusUnauthorized)
	ann.get("/console/claims/c_1", http.StatusOK)
	ann.post("/console/claims/c_1", http.StatusSeeOther, "decision", "refuse", "digest", "digest-of-all")
	ann.get("/console/claims/c_1", http.StatusOK, "The account is not kept")
	h.set(func(d *board) { d.view.Sealed = false })
	ann.get("/console/claims/c_1/file", http.StatusForbidden, "not sealed")
}

// set changes what the Service has.
func (h *hall) set(f func(*board)) {
	h.board.mu.Lock()
	defer h.board.mu.Unlock()
	f(h.board)
}
