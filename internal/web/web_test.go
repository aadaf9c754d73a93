package web_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	token      = "PAGETOKENPAGETOKENPAGETOKENPAGETOKEN"
	claimToken = "cf-claim-token-0123456789abcdef" //nolint:gosec // made up
	claimURL   = "https://dash.cloudflare.com/claim-preview?claimToken=" + claimToken
)

// claims is a Service with one claim, by the rules of the real one.
type claims struct {
	mu       sync.Mutex
	view     deploy.ClaimView
	browser  string
	decided  int
	link     string
	fail     error
	panicNow bool
	refuse   error  // the answer to a decision
	deciding func() // called before a decision is taken, without the lock
}

func newClaims() *claims {
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	return &claims{link: claimURL, view: deploy.ClaimView{
		Claim: deploy.Claim{
			ID: "c_1", State: deploy.ClaimAwaiting, Message: "The shop works.\n<script>alert(1)</script> \u202eevil", Digest: "digest-of-all",
			AskedAt: now, ExpiresAt: now.Add(40 * time.Minute), Custody: "attended",
		},
		Session: deploy.Session{ID: "s_1", RunID: "run-7", JobID: "job-9", Client: "claude-code 2.1", Labels: map[string]string{"team": "web"}},
		Account: deploy.Account{Name: "Bright Morning", Subdomain: "bright-morning", ID: "acc1"},
		Estate: deploy.Estate{
			Deployments: []deploy.ClaimedDeployment{
				{Worker: "shop", URL: "https://shop.bright-morning.workers.dev", Digest: "aa11", VersionID: "v-1", CreatedAt: now, Serving: deploy.ServingYes},
				{Worker: "odd", URL: "javascript:alert(1)", Digest: "bb22", CreatedAt: now, Files: []deploy.Sized{{Name: "a\u202eb.js", Bytes: 7}}},
			},
			Resources: []deploy.ClaimedResource{{Type: deploy.ResourceKV, Name: "shop-cache"}, {Type: deploy.ResourceSecret, Name: "KEY", Worker: "shop"}},
		},
		State: deploy.ClaimAwaiting, Left: 40 * time.Minute,
	}}
}

func (c *claims) ClaimView(_ context.Context, tok string) (*deploy.ClaimView, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.panicNow {
		panic("secret in a panic: " + claimURL)
	}
	if c.fail != nil {
		return nil, c.fail
	}
	if tok != token {
		return nil, deploy.Errorf(deploy.CodeSessionNotFound, "Ask again.", "there is no claim under this address")
	}
	v := c.view
	return &v, nil
}

func (c *claims) DecideClaim(_ context.Context, _ string, approve bool, browser string) (*deploy.ClaimView, error) {
	if c.deciding != nil {
		c.deciding()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse != nil {
		return nil, c.refuse
	}
	switch c.view.State {
	case deploy.ClaimAwaiting:
	case deploy.ClaimLapsed:
		return nil, deploy.Errorf(deploy.CodeSessionExpired, "Ask again.", "too late")
	default:
		return nil, deploy.Errorf(deploy.CodeSessionClosed, "Nothing.", "decided already")
	}
	c.decided++
	c.browser, c.view.Claim.Browser, c.view.Claim.DecidedBy = browser, browser, "somebody"
	c.view.State = deploy.ClaimRefused
	if approve {
		c.view.State = deploy.ClaimApproved
	}
	v := c.view
	return &v, nil
}

func (c *claims) ClaimLink(_ context.Context, _, browser string) (deploy.Secret, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.view.State.Given():
		return "", deploy.Errorf(deploy.CodeClaimPending, "Decide.", "not approved")
	case browser == "" || browser != c.browser:
		return "", deploy.Errorf(deploy.CodeSessionClosed, "Other browser.", "another browser")
	case c.view.Left <= 0:
		return "", deploy.Errorf(deploy.CodeSessionExpired, "Over.", "over")
	}
	return deploy.Secret(c.link), nil
}

func (c *claims) AdoptedOnPage(_ context.Context, _ string, did bool, browser string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if browser == "" || browser != c.browser {
		return deploy.Errorf(deploy.CodeSessionClosed, "Other browser.", "another browser")
	}
	c.view.State = deploy.ClaimLapsed
	if did {
		c.view.State = deploy.ClaimAdopted
	}
	c.view.Claim.Evidence = "the word of somebody"
	return nil
}

func (c *claims) Opened(context.Context, string, string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view.State == deploy.ClaimApproved {
		c.view.State = deploy.ClaimOpened
	}
	return c.fail
}

func (c *claims) set(f func(*claims)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c)
}

func (c *claims) count() (decided int, state deploy.ClaimState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.decided, c.view.State
}

// house is a Server with its page's address and log.
type house struct {
	*web.Server
	url  string
	log  *bytes.Buffer
	svc  *claims
	base *url.URL
}

func open(t *testing.T) *house {
	t.Helper()
	h := &house{log: &bytes.Buffer{}, svc: newClaims()}
	var mu sync.Mutex
	var err error
	h.Server, err = web.New(web.Config{Service: h.svc, Logger: zerolog.New(lockedWriter{&mu, h.log})})
	if err != nil {
		t.Fatal(err)
	}
	if h.url, err = h.URL(t.Context(), &deploy.Claim{PageToken: token}); err != nil {
		t.Fatal(err)
	}
	if h.base, err = url.Parse(h.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, secret := range []string{claimToken, token, "claim-preview"} {
			if strings.Contains(h.log.String(), secret) {
				t.Errorf("the log has %s:\n%s", secret, h.log)
			}
		}
	})
	return h
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// browser is an HTTP client with cookies of its own that says what a browser says.
type browser struct {
	t *testing.T
	c *http.Client
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{t, &http.Client{
		Jar: jar, Transport: transport, Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (b *browser) do(method, to string, form url.Values, header map[string]string) reply {
	b.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, to, body)
	if err != nil {
		b.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for k, v := range header {
		if k == "Host" {
			req.Host = v
			continue
		}
		req.Header.Set(k, v)
	}
	resp, err := b.c.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(text)}
}

func (b *browser) get(to string) reply {
	b.t.Helper()
	return b.do(http.MethodGet, to, nil, map[string]string{"Sec-Fetch-Site": "none"})
}

func (b *browser) decide(to, decision string) reply {
	b.t.Helper()
	return b.do(http.MethodPost, to, url.Values{"decision": {decision}, "digest": {"digest-of-all"}}, map[string]string{"Sec-Fetch-Site": "same-origin"})
}

func TestPageShowsWhatWouldBeAdopted(t *testing.T) {
	h := open(t)
	r := newBrowser(t).get(h.url)
	if r.status != http.StatusOK {
		t.Fatalf("status %d", r.status)
	}
	for _, want := range []string{
		"Bright Morning", "bright-morning.workers.dev", "everything on it", "40 minutes", "10:40 UTC", "2 Workers",
		"shop", "https://shop.bright-morning.workers.dev", "aa11", "v-1", "odd", "bb22",
		"claude-code 2.1", "Program (as the agent says)", "Run (as the agent says)", "run-7", "job-9", "team", "web",
		"the agent&#39;s own words", "The shop works.", "&lt;script&gt;alert(1)&lt;/script&gt;",
		`value="approve"`, `value="refuse"`, `lang="en"`, "width=device-width",
		"KV namespace", "shop-cache", "Secret with its value", "KEY (of shop)", "ab.js (7 bytes)", "Claim link", "attended", "revoke what you did not make",
	} {
		if !strings.Contains(r.body, want) && !strings.Contains(r.body, strings.ReplaceAll(want, "&#39;", "'")) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, never := range []string{"<script", "\u202e", claimToken, "claim-preview", `href="javascript`, "ZgotmplZ"} {
		if strings.Contains(r.body, never) {
			t.Errorf("the page has %q", never)
		}
	}
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	h := open(t)
	b := newBrowser(t)
	origin := "http://" + h.base.Host
	for _, r := range []reply{
		b.get(h.url), b.get(origin + "/claim/UNKNOWNUNKNOWNUNKNOWN"), b.get(origin + "/"), b.get(origin + "/favicon.ico"),
		b.do(http.MethodGet, h.url, nil, map[string]string{"Host": "evil.example"}), b.decide(h.url, "approve"), b.get(h.url + "/go"),
	} {
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
			"Cross-Origin-Opener-Policy": "same-origin",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("status %d: %s: %q, want %q", r.status, name, got, want)
			}
		}
		csp := r.header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("status %d: the CSP lacks %s: %s", r.status, want, csp)
			}
		}
	}
	// The style that stands in the page is the one that the policy allows.
	r := b.get(h.url)
	m := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindStringSubmatch(r.body)
	if m == nil {
		t.Fatal("no style")
	}
	sum := sha256.Sum256([]byte(m[1]))
	if want := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(r.header.Get("Content-Security-Policy"), want) {
		t.Errorf("the policy does not allow the page's style %s: %s", want, r.header.Get("Content-Security-Policy"))
	}
}

func TestLookingChangesNothing(t *testing.T) {
	h := open(t)
	b := newBrowser(t)
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete} {
		r := b.do(method, h.url, nil, nil)
		if len(r.header.Values("Set-Cookie")) > 0 {
			t.Errorf("%s sets a cookie", method)
		}
		if method == http.MethodHead && (r.status != http.StatusOK || r.body != "") {
			t.Errorf("HEAD: status %d, body %q", r.status, r.body)
		}
		b.do(method, h.url+"?decision=approve", nil, nil)
		b.do(method, h.url+"/go", nil, nil)
	}
	if n, state := h.svc.count(); n != 0 || state != deploy.ClaimAwaiting {
		t.Errorf("%d decisions, state %s", n, state)
	}
}

func TestYesLeadsThisBrowserOn(t *testing.T) {
	h := open(t)
	b, other := newBrowser(t), newBrowser(t)
	b.get(h.url)
	r := b.decide(h.url, "approve")
	if r.status != http.StatusSeeOther || r.header.Get("Location") != h.base.Path+"?decided" {
		t.Fatalf("status %d, Location %q", r.status, r.header.Get("Location"))
	}
	cookie := r.header.Get("Set-Cookie")
	for _, want := range []string{"HttpOnly", "SameSite=Strict", "Path=" + h.base.Path, "Max-Age=6000"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie lacks %s: %s", want, cookie)
		}
	}
	page := b.get(h.url + "?decided")
	if !strings.Contains(page.body, `content="0;url=`+h.base.Path+`/go"`) || !strings.Contains(page.body, "Go on to Cloudflare") {
		t.Errorf("the page after the decision does not lead on:\n%s", page.body)
	}
	if again := b.get(h.url); strings.Contains(again.body, "http-equiv=\"refresh\"") || !strings.Contains(again.body, "Go on to Cloudflare") {
		t.Error("coming back must show the way on and not take it")
	}
	for range 3 { // as often as it wants
		on := b.get(h.url + "/go")
		if on.status != http.StatusSeeOther || on.header.Get("Location") != claimURL {
			t.Fatalf("go: status %d, Location %q", on.status, on.header.Get("Location"))
		}
		if on.body != "" || on.header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("go: body %q", on.body)
		}
	}
	for _, r := range []reply{other.get(h.url), other.get(h.url + "?decided")} {
		if r.status != http.StatusOK || strings.Contains(r.body, "refresh") || strings.Contains(r.body, claimToken) || !strings.Contains(r.body, "approved") {
			t.Errorf("another browser: status %d\n%s", r.status, r.body)
		}
	}
	if r := other.get(h.url + "/go"); r.status != http.StatusForbidden || r.header.Get("Location") != "" || strings.Contains(r.body, claimToken) {
		t.Errorf("another browser is led on: %d %q", r.status, r.header.Get("Location"))
	}
	if strings.Contains(page.body+r.body, claimToken) {
		t.Error("the claim link is in a page")
	}
	h.svc.set(func(c *claims) { c.view.Left = 0 })
	if r := b.get(h.url + "/go"); r.status != http.StatusGone || r.header.Get("Location") != "" {
		t.Errorf("after the hour: %d", r.status)
	}
}

// TestTheWordOfTheHuman: the browser that said yes says how it ended at Cloudflare, also
// after the hour; another one, another site and a program do not.
func TestTheWordOfTheHuman(t *testing.T) {
	h := open(t)
	b, other := newBrowser(t), newBrowser(t)
	word := func(b *browser, what, site string) reply {
		return b.do(http.MethodPost, h.url+"/outcome", url.Values{"outcome": {what}}, map[string]string{"Sec-Fetch-Site": site})
	}
	if r := b.get(h.url); strings.Contains(r.body, "I finished at Cloudflare") {
		t.Error("the page asks how it ended before a yes")
	}
	b.decide(h.url, "approve")
	if r := b.get(h.url); !strings.Contains(r.body, "I finished at Cloudflare") || !strings.Contains(r.body, "revoke what you did not make") {
		t.Errorf("the page does not ask how it ended, or does not tell of the token\n%s", r.body)
	}
	if r := other.get(h.url); strings.Contains(r.body, "I finished at Cloudflare") {
		t.Error("another browser is asked")
	}
	for name, r := range map[string]reply{
		"another browser": word(other, "finished", "same-origin"), "another site": word(b, "finished", "cross-site"), "a program": word(b, "finished", ""),
		"no button": word(b, "maybe", "same-origin"),
	} {
		if r.status != http.StatusForbidden && r.status != http.StatusBadRequest {
			t.Errorf("%s: %d", name, r.status)
		}
	}
	h.svc.set(func(c *claims) { c.view.State, c.view.Left = deploy.ClaimLapsed, 0 })
	if r := b.get(h.url); r.status != http.StatusGone || !strings.Contains(r.body, "I finished at Cloudflare") {
		t.Errorf("after the hour: %d\n%s", r.status, r.body)
	}
	if r := word(b, "finished", "same-origin"); r.status != http.StatusSeeOther || r.header.Get("Location") != h.base.Path {
		t.Errorf("the word: %d %s", r.status, r.header.Get("Location"))
	}
	if _, state := h.svc.count(); state != deploy.ClaimAdopted {
		t.Errorf("it is %s", state)
	}
	if r := b.get(h.url); !strings.Contains(r.body, "adopted") || !strings.Contains(r.body, "the word of somebody") {
		t.Errorf("the page does not say how it is known\n%s", r.body)
	}
}

// TestAYesThatIsNotGivenHere: a page whose yes does not count says where it does, calmly.
func TestAYesThatIsNotGivenHere(t *testing.T) {
	h := open(t)
	h.svc.set(func(c *claims) {
		c.refuse = deploy.Errorf(deploy.CodeNoApproval, "Log in and decide at https://console.example/console/claims/c_1.", "a yes on the attended page does not count for this")
	})
	if r := newBrowser(t).decide(h.url, "approve"); r.status != http.StatusForbidden || !strings.Contains(r.body, "does not count") || !strings.Contains(r.body, "https://console.example/console/claims/c_1") {
		t.Errorf("%d\n%s", r.status, r.body)
	}
}

func TestNoIsFinal(t *testing.T) {
	h := open(t)
	b := newBrowser(t)
	if r := b.decide(h.url, "refuse"); r.status != http.StatusSeeOther || r.header.Get("Set-Cookie") != "" {
		t.Fatalf("status %d, cookie %q", r.status, r.header.Get("Set-Cookie"))
	}
	if r := b.get(h.url + "?decided"); !strings.Contains(r.body, "You said no") || strings.Contains(r.body, "<form") {
		t.Errorf("after a no:\n%s", r.body)
	}
	if r := b.decide(h.url, "approve"); r.status != http.StatusConflict || !strings.Contains(r.body, "did not count") {
		t.Errorf("a second decision: %d\n%s", r.status, r.body)
	}
	if r := b.get(h.url + "/go"); r.status != http.StatusConflict {
		t.Errorf("go after a no: %d", r.status)
	}
}

func TestDecisionsThatAreRefused(t *testing.T) {
	h := open(t)
	b := newBrowser(t)
	good := url.Values{"decision": {"approve"}}
	own := "http://" + h.base.Host
	for name, c := range map[string]struct {
		form   url.Values
		header map[string]string
		want   int
	}{
		"from another site":        {good, map[string]string{"Sec-Fetch-Site": "cross-site"}, http.StatusForbidden},
		"from another port":        {good, map[string]string{"Sec-Fetch-Site": "same-site"}, http.StatusForbidden},
		"another origin":           {good, map[string]string{"Origin": "https://evil.example"}, http.StatusForbidden},
		"no origin of its own":     {good, map[string]string{"Origin": "null"}, http.StatusForbidden},
		"another name, own origin": {good, map[string]string{"Host": "evil.example:" + h.base.Port(), "Origin": own, "Sec-Fetch-Site": "same-origin"}, http.StatusMisdirectedRequest},
		"by number":                {good, map[string]string{"Host": "127.0.0.1:" + h.base.Port(), "Sec-Fetch-Site": "same-origin"}, http.StatusMisdirectedRequest},
		"a program":                {good, nil, http.StatusForbidden},
		"no button":                {url.Values{}, map[string]string{"Origin": own}, http.StatusBadRequest},
		"a third button":           {url.Values{"decision": {"maybe"}}, map[string]string{"Origin": own}, http.StatusBadRequest},
		"something else shown":     {url.Values{"decision": {"approve"}, "digest": {"other"}}, map[string]string{"Origin": own}, http.StatusConflict},
		"a large form":             {url.Values{"decision": {strings.Repeat("a", 5000)}}, map[string]string{"Origin": own}, http.StatusBadRequest},
	} {
		if r := b.do(http.MethodPost, h.url, c.form, c.header); r.status != c.want {
			t.Errorf("%s: status %d, want %d", name, r.status, c.want)
		}
	}
	if r := b.do(http.MethodPost, own+"/claim/ANOTHERTOKENANOTHERTOKEN", good, map[string]string{"Origin": own}); r.status != http.StatusNotFound {
		t.Errorf("an unknown token: %d", r.status)
	}
	if n, state := h.svc.count(); n != 0 || state != deploy.ClaimAwaiting {
		t.Fatalf("%d decisions, state %s", n, state)
	}
	// A browser without fetch metadata says its origin, and may decide.
	if r := b.do(http.MethodPost, h.url, good, map[string]string{"Origin": own}); r.status != http.StatusSeeOther {
		t.Errorf("an old browser: %d", r.status)
	}
}

func TestTwoDecisionsAtOnce(t *testing.T) {
	for range 20 {
		h := open(t)
		const n = 8
		status := make([]int, n)
		cookies := make([]string, n)
		var wg sync.WaitGroup
		for i := range n {
			b := newBrowser(t)
			wg.Go(func() {
				r := b.decide(h.url, []string{"approve", "refuse"}[i%2])
				status[i], cookies[i] = r.status, r.header.Get("Set-Cookie")
			})
		}
		wg.Wait()
		won := 0
		for i := range n {
			switch {
			case status[i] == http.StatusSeeOther:
				won++
			case status[i] != http.StatusConflict:
				t.Errorf("status %d", status[i])
			case cookies[i] != "":
				t.Error("a loser got a cookie")
			}
		}
		if decided, _ := h.svc.count(); won != 1 || decided != 1 {
			t.Fatalf("%d winners, %d decisions", won, decided)
		}
	}
}

func TestTooLate(t *testing.T) {
	h := open(t)
	h.svc.set(func(c *claims) { c.view.State, c.view.Left = deploy.ClaimLapsed, 0 })
	b := newBrowser(t)
	if r := b.get(h.url); r.status != http.StatusGone || strings.Contains(r.body, "<form") {
		t.Errorf("status %d", r.status)
	}
	if r := b.decide(h.url, "approve"); r.status != http.StatusGone {
		t.Errorf("status %d", r.status)
	}
}

func TestLinksThatAreNotFollowed(t *testing.T) {
	h := open(t)
	b := newBrowser(t)
	b.decide(h.url, "approve")
	for link, want := range map[string]int{
		"http://127.0.0.1:8787/claim?x=1":         http.StatusSeeOther,
		"javascript:alert(1)":                     http.StatusBadGateway,
		"http://example.com/claim":                http.StatusBadGateway,
		"https://user@dash.cloudflare.com/claim":  http.StatusBadGateway,
		"//dash.cloudflare.com/claim":             http.StatusBadGateway,
		"https://dash.cloudflare.com/claim\r\nX:": http.StatusBadGateway,
	} {
		h.svc.set(func(c *claims) { c.link = link })
		if r := b.get(h.url + "/go"); r.status != want {
			t.Errorf("%q: status %d, want %d", link, r.status, want)
		}
	}
}

func TestErrorsAreCalm(t *testing.T) {
	h := open(t)
	b := newBrowser(t)
	h.svc.set(func(c *claims) { c.fail = fmt.Errorf("the store: %w", errors.New(claimURL)) })
	if r := b.get(h.url); r.status != http.StatusInternalServerError || strings.Contains(r.body, claimToken) {
		t.Errorf("status %d\n%s", r.status, r.body)
	}
	h.svc.set(func(c *claims) { c.panicNow = true })
	if r := b.get(h.url); r.status != http.StatusInternalServerError || strings.Contains(r.body, claimToken) {
		t.Errorf("status %d\n%s", r.status, r.body)
	}
}

func TestUnknownTokens(t *testing.T) {
	h := open(t)
	b := newBrowser(t)
	for _, bad := range []string{"short", "ANOTHERTOKENANOTHERTOKEN", "..%2f..%2fetc", strings.Repeat("A", 500), "%00", "a%20b"} {
		if r := b.get("http://" + h.base.Host + "/claim/" + bad); r.status != http.StatusNotFound {
			t.Errorf("%s: status %d", bad, r.status)
		}
	}
}

func TestAddress(t *testing.T) {
	h := open(t)
	if h.base.Hostname() != "localhost" {
		t.Errorf("the host is %q", h.base.Hostname())
	}
	again, err := h.URL(t.Context(), &deploy.Claim{PageToken: token})
	if err != nil || again != h.url {
		t.Errorf("a second address: %q, %v", again, err)
	}
	// Whoever resolves localhost to ::1 must not meet somebody else there.
	if l, err := net.Listen("tcp6", "[::1]:"+h.base.Port()); err == nil {
		t.Error("the IPv6 half of the port is free")
		_ = l.Close()
	}
}

func TestNewAndURLRefuse(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "192.168.1.1:80", "example.com:80", "nonsense"} {
		if _, err := web.New(web.Config{Addr: addr}); err == nil {
			t.Errorf("%s: want an error", addr)
		}
	}
	s, err := web.New(web.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.URL(t.Context(), &deploy.Claim{PageToken: token}); err == nil {
		t.Error("without a Service: want an error")
	}
	s.Bind(newClaims())
	if _, err := s.URL(t.Context(), &deploy.Claim{PageToken: "../x"}); err == nil || strings.Contains(err.Error(), "../x") {
		t.Errorf("a bad token: %v", err)
	}
	if _, err := s.URL(t.Context(), &deploy.Claim{PageToken: token}); err != nil {
		t.Errorf("after Bind: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.URL(t.Context(), &deploy.Claim{PageToken: token}); err == nil {
		t.Error("after Close: want an error")
	}
}
