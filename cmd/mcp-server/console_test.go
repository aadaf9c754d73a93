package main_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// human is a browser that is logged in to the console.
type human struct {
	t      testing.TB
	client *http.Client
	left   string // where a redirect led that was not followed
	page   string
}

// loginLink has the operator's command print a link.
func (f *office) loginLink(name string, args ...string) string {
	f.w.t.Helper()
	base := strings.TrimSuffix(f.consoleURL, "/console")
	all := append([]string{"console-login", "--state-dir", filepath.Join(f.w.home, "state"), "--public-url", base, "--name", name}, args...)
	cmd := exec.Command(f.cmd.Path, all...) //nolint:gosec // our own program, the build that serves
	cmd.Env, cmd.Dir = f.cmd.Env, f.w.home
	out, err := cmd.Output()
	link := strings.TrimSpace(string(out))
	if err != nil || !strings.HasPrefix(link, f.consoleURL+"/login/") {
		f.w.t.Fatalf("console-login: %v %q", err, out)
	}
	return link
}

// logIn takes a link of the operator's command and goes in.
func (f *office) logIn(console, name string, args ...string) *human {
	f.w.t.Helper()
	link := f.loginLink(name, args...)
	h := f.stranger()
	if code := h.do(http.MethodPost, console+"/login", url.Values{"code": {link[strings.LastIndexByte(link, '/')+1:]}}); code != http.StatusOK {
		f.w.t.Fatalf("logging in: %d %s", code, h.page)
	}
	return h
}

// stranger is a browser that is not logged in.
func (f *office) stranger() *human {
	jar, _ := cookiejar.New(nil)
	h := &human{t: f.w.t}
	h.client = &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path != "/console" && !strings.HasPrefix(r.URL.Path, "/console/") {
			h.left = r.URL.String()
			return http.ErrUseLastResponse
		}
		return nil
	}}
	return h
}

// steal puts a cookie of somebody else's into this browser.
func (h *human) steal(address, name, value string) {
	h.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		h.t.Fatal(err)
	}
	h.client.Jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Path: "/"}})
}

func (h *human) do(method, address string, form url.Values) int {
	h.t.Helper()
	r, err := http.NewRequest(method, address, strings.NewReader(form.Encode()))
	if err != nil {
		h.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	resp, err := h.client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	h.page = string(b)
	return resp.StatusCode
}

func (h *human) field(name string) string {
	m := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(h.page)
	if m == nil {
		return ""
	}
	return m[1]
}

// TestConsoleFourEyes: over HTTP the agent gets an address that decides nothing without a
// login; its owner's yes is refused, another one's leads to the claim page, and the
// decision is on record with both.
func TestConsoleFourEyes(t *testing.T) {
	w := newWorld(t)
	token := w.token("bot", "--label", "owner=bob", "--label", "job_id=j1")
	f := w.serveHTTP("--accept-terms", "--four-eyes")
	a := f.agent("http", token)
	d := a.deploy(map[string]any{"files": says("zebra-shop"), "name": "zebra-shop"})
	got := a.call("request_claim", map[string]any{"session_id": d.SessionID})
	if got.IsError {
		t.Fatal(got.Text)
	}
	page := regexp.MustCompile(`http://localhost:\d+/console/claims/c_\w+`).FindString(got.Text)
	if page == "" || strings.Contains(got.Text, "/claim/") {
		t.Fatalf("request_claim: %s", got.Text)
	}
	console := page[:strings.Index(page, "/claims/")]
	if code, text := w.get(page); code != http.StatusUnauthorized || strings.Contains(text, "zebra") {
		t.Errorf("without a login: %d %s", code, text)
	}
	decide := func(h *human) int {
		h.do(http.MethodGet, page, nil)
		return h.do(http.MethodPost, page, url.Values{"form": {h.field("form")}, "digest": {h.field("digest")}, "decision": {"approve"}})
	}
	bob, ann := f.logIn(console, "bob", "--scope", "approve"), f.logIn(console, "ann", "--scope", "approve", "--scope", "operate")
	if code := decide(bob); code != http.StatusForbidden || !strings.Contains(bob.page, "four eyes") {
		t.Errorf("the owner's yes: %d %s", code, bob.page)
	}
	if code := decide(ann); code != http.StatusOK {
		t.Fatalf("another's yes: %d %s", code, ann.page)
	}
	if code := bob.do(http.MethodGet, page+"/go", nil); code != http.StatusConflict || bob.left != "" {
		t.Errorf("another browser goes on: %d %s", code, bob.left)
	}
	if ann.do(http.MethodGet, page+"/go", nil); !strings.Contains(ann.left, "claim-preview") {
		t.Errorf("she is led to %q", ann.left)
	}
	ann.do(http.MethodGet, console+"/record?act=claim", nil)
	for _, want := range []string{"to=approved", "to=opened", "by=ann", "channel=console", "bot"} {
		if !strings.Contains(ann.page, want) {
			t.Errorf("the record does not say %s\n%s", want, ann.page)
		}
	}
	if code := bob.do(http.MethodPost, console+"/login", url.Values{"code": {"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"}}); code != http.StatusForbidden {
		t.Errorf("a code that is none: %d", code)
	}
	doors := w.records("--act", "login_link")
	doors = append(append(doors, w.records("--act", "login")...), w.records("--act", "access_refused")...)
	var who []string
	for _, r := range doors {
		who = append(who, r.Act+" "+r.Data["user"]+" "+r.Data["how"])
	}
	if got := strings.Join(who, ", "); got != "login_link link:bob link, login_link link:ann link, login link:bob link, login link:ann link, access_refused  link" {
		t.Errorf("on record: %s", got)
	}
	if strings.Contains(f.stderr.String(), "claim-preview") || strings.Contains(ann.page, "claim-preview") {
		t.Error("the claim link is in the log or on a page")
	}
}
