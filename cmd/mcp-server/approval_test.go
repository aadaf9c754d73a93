package main_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// console is the address of the office's console.
func (f *office) console() string {
	u, err := url.Parse(f.MCP)
	if err != nil {
		f.w.t.Fatal(err)
	}
	return "http://localhost:" + u.Port() + "/console"
}

// press sends the form of the page that is open with one of its two buttons.
func (h *human) press(page, decision string) int {
	h.do(http.MethodGet, page, nil)
	return h.do(http.MethodPost, page, url.Values{"form": {h.field("form")}, "digest": {h.field("digest")}, "decision": {decision}})
}

// TestTheServersRuleHoldsEverywhere: what a server with --approval passkey asks about is
// approved by no command of a shell that has its store, and by no login without a passkey;
// the agent is told the console's address, and nothing that decides. A no always counts.
func TestTheServersRuleHoldsEverywhere(t *testing.T) {
	w := kindWorld(t)
	file := filepath.Join(w.write("p.jsonc", `{"otherwise": {"deploy": {"verdict": "ask", "message": "A human looks first.", "next": "Wait."}}}`), "p.jsonc")
	token := w.token("bot", "--label", "owner=bob")
	f := w.serveHTTP("--approval", "passkey", "--policy", file)
	a := f.agent("http", token)
	args := map[string]any{"files": says("reviewed"), "name": "reviewed"}
	out := a.call("deploy_temporary", args)
	page := regexp.MustCompile(regexp.QuoteMeta(f.console()) + `/approvals/(ap_\w+)`).FindStringSubmatch(out.Error.Next)
	if out.Error.Code != "approval_needed" || page == nil || strings.Contains(out.Text, "terminal") || strings.Contains(out.Text, "mcp-server") {
		t.Fatalf("%s", out.Text)
	}
	_, errs, code := w.run(w.home, append([]string{"approvals", "approve", page[1], "--yes"}, w.serverArgs()[1:]...)...)
	if code == 0 || !strings.Contains(errs, "no_approval_channel") || !strings.Contains(errs, page[0]) {
		t.Errorf("at a terminal: %d %s", code, errs)
	}
	for _, want := range []string{"reviewed", "deploy", "A human looks first.", "token:bot", "owner=bob"} {
		if !strings.Contains(errs, want) {
			t.Errorf("the command does not show %q:\n%s", want, errs)
		}
	}
	ann := f.logIn(f.console(), "ann", "--scope", "approve")
	if code := ann.press(page[0], "approve"); code != http.StatusForbidden {
		t.Errorf("without a passkey: %d %s", code, ann.page)
	}
	if out := a.call("deploy_temporary", args); out.Error.Code != "approval_needed" || len(w.accounts()) != 0 {
		t.Fatalf("%s", out.Text)
	}
	w.operate(0, "approvals", "refuse", page[1])
	if out := a.call("deploy_temporary", args); out.Error.Code != "policy_denied" {
		t.Errorf("after a no: %s", out.Text)
	}
	var r struct{ Data map[string]string }
	if err := json.Unmarshal([]byte(w.operate(0, "audit", "list", "--json", "--act", "approval")), &r); err != nil || r.Data["channel"] != "command" || r.Data["by"] == "" {
		t.Errorf("on record: %+v %v", r, err)
	}
}

// TestStdioAsksInTheConsole of another server on its store: the agent gets no address that
// decides without a login, and four eyes, which stdio asked for, hold in the console, which
// was started without.
func TestStdioAsksInTheConsole(t *testing.T) {
	w := kindWorld(t)
	f := w.serveHTTP("--accept-terms")
	a := w.agent(w.serverArgs("--approval", "console", "--console-url", f.console(), "--four-eyes", "--label", "owner=bob"))
	d := a.deploy(map[string]any{"files": says("kept"), "name": "kept"})
	got := a.call("request_claim", map[string]any{"session_id": d.SessionID})
	page := regexp.MustCompile(regexp.QuoteMeta(f.console()) + `/claims/c_\w+`).FindString(got.Text)
	if got.IsError || page == "" || strings.Contains(got.Text, "/claim/") || strings.Contains(got.Text, "this machine") {
		t.Fatalf("%s", got.Text)
	}
	bob, ann := f.logIn(f.console(), "bob", "--scope", "approve"), f.logIn(f.console(), "ann", "--scope", "approve")
	if code := bob.press(page, "approve"); code != http.StatusForbidden || !strings.Contains(bob.page, "four eyes") {
		t.Errorf("the owner's yes: %d %s", code, bob.page)
	}
	if code := ann.press(page, "approve"); code != http.StatusOK {
		t.Fatalf("another's yes: %d %s", code, ann.page)
	}
	if ann.do(http.MethodGet, page+"/go", nil); !strings.Contains(ann.left, "claim-preview") {
		t.Errorf("she is led to %q", ann.left)
	}
}

// TestRulesThatNobodyCouldKeep stop the start, and say why.
func TestRulesThatNobodyCouldKeep(t *testing.T) {
	w := &world{t: t, home: t.TempDir(), cache: t.TempDir()}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a passkey without a console": {[]string{"stdio", "--approval", "passkey"}, "--console-url"},
		"four eyes on the page":       {[]string{"stdio", "--four-eyes"}, "--approval console or passkey"},
		"a console that is none":      {[]string{"stdio", "--approval", "console", "--console-url", "https://x.example/"}, "is not the address of a console"},
		"the page over HTTP":          {[]string{"http", "--approval", "attended"}, "has to be a login"},
		"a deployment":                {[]string{"deploy", w.home, "--approval", "passkey"}, "--console-url"},
		"what there is not":           {[]string{"stdio", "--approval", "telepathy"}, "must be one of"},
	} {
		if _, errs, code := w.run(w.home, append(c.args, "--state-dir", filepath.Join(w.home, "state"))...); code != 2 || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d %s", name, code, errs)
		}
	}
	// Whoever operates is not kept from it by a rule that is for those who ask.
	if _, errs, code := w.run(w.home, "freeze", "--approval", "passkey", "--state-dir", filepath.Join(w.home, "state")); code != 0 {
		t.Errorf("freeze: %d %s", code, errs)
	}
}
