//go:build unix

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/peertest/chromium"
)

// The attackers of docs/threat-model.md who want an account kept that no human wanted,
// against the real program, the sandbox and a real browser.

// enter logs a human in, in a browser, by a link of the operator's command.
func (f *office) enter(b *chromium.Tab, name string, args ...string) {
	f.w.t.Helper()
	b.Open(f.loginLink(name, args...))
	b.Press("form button.yes")
	b.Until("location.pathname === '/console' && document.querySelector('nav')")
}

// addPasskey gives the human who is logged in a passkey.
func (f *office) addPasskey(b *chromium.Tab) {
	f.w.t.Helper()
	b.Open(f.consoleURL + "/passkeys")
	b.Press("form[data-passkey] button")
	b.Says("Passkey 1")
}

// claimPage is where a human decides, as request_claim gave it, which says nothing else.
func (f *office) claimPage(asked answer) string {
	f.w.t.Helper()
	page := regexp.MustCompile(regexp.QuoteMeta(f.consoleURL) + `/claims/c_\w+`).FindString(asked.Text)
	if page == "" || asked.Live.Claim != "awaiting_human" || strings.Contains(asked.Text, "claim-preview") {
		f.w.t.Fatalf("request_claim: %s", asked.Text)
	}
	return page
}

// claimOf is what an agent is told of its claim.
func (a *agent) claimOf(session string) string {
	a.t.Helper()
	st := a.call("status", map[string]any{"session_id": session})
	if st.IsError || len(st.Live.Sessions) != 1 {
		a.t.Fatalf("%s", st.Text)
	}
	return st.Live.Sessions[0].Claim
}

// passkeyScript sends what a page of the console sends: post a form with the token of the
// login, touch for a digest, and decide with a touch.
const passkeyScript = `(() => {
	const form = document.querySelector("input[name=form]").value;
	const post = (path, f) => fetch(path, { method: "POST", body: new URLSearchParams({ form, ...f }) });
	window.touch = async (about, digest) => {
		const q = await (await post("/console/touch", { about, digest })).json();
		const got = await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(q.options.publicKey) });
		return { handle: q.handle, passkey: JSON.stringify(got.toJSON()) };
	};
	window.decide = async (claim, digest, yes) => (await post("/console/claims/" + claim, { decision: "approve", digest, ...yes })).status;
	return true;
})()`

// TestChromiumReplayedYes: a touch counts once, for the digest and the claim that the human was
// shown; what was deployed between the asking and the yes is another digest.
func TestChromiumReplayedYes(t *testing.T) {
	b := chromium.New(t)
	w := kindWorld(t)
	f := w.serveHTTP("--tokens", w.tokensFile(), "--accept-terms", "--approval", "passkey")
	a := f.agent("http", w.token("bot", "--label", "job_id=j1"))
	d := a.deploy(map[string]any{"files": says("what she saw"), "name": "shop"})
	ask := map[string]any{"session_id": d.SessionID}
	first := f.claimPage(a.call("request_claim", ask))
	b.Authenticator()
	f.enter(b, "ann", "--scope", "approve")
	f.addPasskey(b)
	b.Open(first)
	type yes struct {
		Handle  string `json:"handle"`
		Passkey string `json:"passkey"`
	}
	id := func(page string) string { return page[strings.LastIndexByte(page, '/')+1:] }
	touch := func(claim, digest string) yes {
		t.Helper()
		chromium.Eval[bool](b, passkeyScript)
		return chromium.Eval[yes](b, fmt.Sprintf("touch(%q, %q)", "claim/"+claim, digest))
	}
	decide := func(claim, digest string, with any) int {
		t.Helper()
		chromium.Eval[bool](b, passkeyScript)
		raw, err := json.Marshal(with)
		if err != nil {
			t.Fatal(err)
		}
		return chromium.Eval[int](b, fmt.Sprintf("decide(%q, %q, %s)", claim, digest, raw))
	}
	shown := func() string { return chromium.Eval[string](b, "document.querySelector('input[name=digest]').value") }
	old, oldDigest := id(first), shown()
	kept := []yes{touch(old, oldDigest), touch(old, oldDigest)}

	// The agent takes the asking back, puts up something else, and asks again.
	if out := a.call("request_claim", map[string]any{"session_id": d.SessionID, "withdraw": true}); out.IsError {
		t.Fatal(out.Text)
	}
	a.deploy(map[string]any{"files": says("what she did not see"), "name": "shop", "session_id": d.SessionID})
	second := f.claimPage(a.call("request_claim", ask))
	if code := decide(old, oldDigest, kept[0]); code != http.StatusConflict {
		t.Errorf("a yes for what was taken back: %d", code)
	}
	b.Open(second)
	now, digest := id(second), shown()
	if now == old || digest == oldDigest {
		t.Fatalf("it is the same: %s %s", now, digest)
	}
	for name, c := range map[string]struct {
		digest string
		with   any
		want   int
	}{
		"her yes to the old one":         {digest, kept[1], http.StatusForbidden},
		"the same once more":             {digest, kept[1], http.StatusForbidden},
		"a new touch for the old one":    {digest, touch(old, oldDigest), http.StatusForbidden},
		"a touch for the old digest":     {digest, touch(now, oldDigest), http.StatusForbidden},
		"a touch for the old claim":      {digest, touch(old, digest), http.StatusForbidden},
		"the old digest, with its touch": {oldDigest, touch(now, oldDigest), http.StatusConflict},
		"no touch":                       {digest, map[string]string{}, http.StatusForbidden},
		"a handle and no touch":          {digest, map[string]string{"handle": touch(now, digest).Handle, "passkey": "{}"}, http.StatusForbidden},
		"a touch that answers another's": {digest, yes{touch(now, digest).Handle, touch(now, digest).Passkey}, http.StatusForbidden},
	} {
		if code := decide(now, c.digest, c.with); code != c.want {
			t.Errorf("%s: %d, want %d", name, code, c.want)
		}
	}
	if claim := a.claimOf(d.SessionID); claim != "awaiting_human" {
		t.Fatalf("the claim is %s", claim)
	}
	b.Open(second)
	b.Press("button[value=approve]")
	b.Says("Claim a sandbox account")
}

// wolf is a Worker that tries what a page in the human's browser can try at the console.
const wolf = `export default { fetch(request) {
	return new Response("<!doctype html><title>wolf</title><p>sent:" + (request.headers.get("cookie") ?? "") + "</p>" +
		"<form method=post><input name=decision value=approve><input name=digest><input name=form><button>Win</button></form><script>(" + attack + ")()</script>",
		{ headers: { "content-type": "text/html" } });
} };
async function attack() {
	const q = new URLSearchParams(location.search), page = q.get("page"), form = document.forms[0];
	form.action = page; form.digest.value = q.get("digest"); form.elements.form.value = q.get("form");
	const tried = [document.cookie];
	for (const go of [
		() => fetch(page, { credentials: "include" }).then((r) => r.text()),
		() => fetch(page, { method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams(new FormData(form)) }).then((r) => r.type),
		() => fetch(page + "/go", { mode: "no-cors", credentials: "include" }).then((r) => r.type),
	]) tried.push(await go().catch(() => "refused"));
	document.title = "tried " + tried.join("|");
}`

// TestChromiumHostileWorker: a deployed Worker that the human opens while logged in reads
// and is sent no cookie, and its forms decide nothing, even with everything that the
// console's own page has in its form.
func TestChromiumHostileWorker(t *testing.T) {
	b := chromium.New(t)
	w := kindWorld(t)
	f := w.serveHTTP("--tokens", w.tokensFile(), "--accept-terms")
	a := f.agent("http", w.token("bot", "--label", "job_id=j1"))
	d := a.deploy(map[string]any{"files": files("index.js", wolf), "name": "wolf"})
	page := f.claimPage(a.call("request_claim", map[string]any{"session_id": d.SessionID}))
	f.enter(b, "ann", "--scope", "approve", "--scope", "operate")
	b.Open(page)
	field := func(name string) string {
		return chromium.Eval[string](b, fmt.Sprintf("document.querySelector('main input[name=%s]').value", name))
	}
	q := url.Values{"page": {page}, "digest": {field("digest")}, "form": {field("form")}}
	b.Open(d.URL + "/?" + q.Encode())
	b.Until("document.title.startsWith('tried ')")
	if got := chromium.Eval[string](b, "document.title"); got != "tried |refused|refused|refused" {
		t.Errorf("the Worker's page: %s", got)
	}
	if got := chromium.Eval[string](b, "document.querySelector('p').innerText"); got != "sent:" {
		t.Errorf("the Worker was %s", got)
	}
	b.Press("form button") // as a whole page, which a browser sends more with
	b.Says("The form came from another site.")
	if claim := a.claimOf(d.SessionID); claim != "awaiting_human" {
		t.Fatalf("the claim is %s", claim)
	}
	b.Open(page) // it works for her all the while
	b.Press("button[value=refuse]")
	b.Says("You said no")
}

// TestChromiumStolenLogin: whoever reads the operator's store, or the human's browser, has a
// login at most: no yes and no passkey comes of it, and of a link that was used nothing.
func TestChromiumStolenLogin(t *testing.T) {
	b := chromium.New(t)
	w := kindWorld(t)
	f := w.serveHTTP("--tokens", w.tokensFile(), "--accept-terms", "--approval", "passkey")
	a := f.agent("http", w.token("bot", "--label", "job_id=j1"))
	d := a.deploy(map[string]any{"files": says("x"), "name": "shop"})
	page := f.claimPage(a.call("request_claim", map[string]any{"session_id": d.SessionID}))
	b.Authenticator()
	link := f.loginLink("ann", "--scope", "approve", "--scope", "operate")
	b.Open(link)
	b.Press("form button.yes")
	b.Until("location.pathname === '/console' && document.querySelector('nav')")
	f.addPasskey(b)

	code := link[strings.LastIndexByte(link, '/')+1:]
	cookie := b.Cookies(f.consoleURL)["hourglass_console"]
	w.noFileHas(map[string]string{"the link's code": code, "the cookie": cookie})
	thief := f.stranger()
	if got := thief.do(http.MethodPost, f.consoleURL+"/login", url.Values{"code": {code}}); got != http.StatusForbidden {
		t.Errorf("the link once more: %d", got)
	}
	if got := thief.do(http.MethodGet, page, nil); got != http.StatusUnauthorized {
		t.Errorf("without a login: %d", got)
	}
	thief.steal(f.consoleURL, "hourglass_console", cookie)
	again := f.logIn(f.consoleURL, "ann", "--scope", "approve") // who can write to the store makes a login
	for name, h := range map[string]*human{"a stolen cookie": thief, "a login that the agent made": again} {
		if got := h.do(http.MethodGet, page, nil); got != http.StatusOK {
			t.Fatalf("%s shows %d", name, got)
		}
		form := url.Values{"form": {h.field("form")}, "digest": {h.field("digest")}, "decision": {"approve"}}
		if got := h.do(http.MethodPost, page, form); got != http.StatusForbidden {
			t.Errorf("%s approves: %d", name, got)
		}
		if got := h.do(http.MethodPost, f.consoleURL+"/passkeys/begin", form); got != http.StatusConflict {
			t.Errorf("%s adds a passkey: %d", name, got)
		}
		if got := h.do(http.MethodGet, page+"/go", nil); got != http.StatusConflict || h.left != "" {
			t.Errorf("%s is led on: %d %s", name, got, h.left)
		}
	}
	if claim := a.claimOf(d.SessionID); claim != "awaiting_human" {
		t.Errorf("the claim is %s", claim)
	}
}

// TestAnotherPrincipalsClaim: whoever learns another's handle, claim and page can't ask, take back,
// look, take down or decide, and is not told whether there is such a thing.
func TestAnotherPrincipalsClaim(t *testing.T) {
	w := kindWorld(t)
	f := w.serveHTTP("--tokens", w.tokensFile(), "--accept-terms")
	a := f.agent("http", w.token("bot", "--label", "job_id=j1"))
	d := a.deploy(map[string]any{"files": says("mine"), "name": "shop"})
	page := f.claimPage(a.call("request_claim", map[string]any{"session_id": d.SessionID}))
	token := w.token("other", "--label", "job_id=j2")
	other := f.agent("http", token)
	for _, c := range []struct {
		tool string
		args map[string]any
	}{
		{"request_claim", map[string]any{}},
		{"request_claim", map[string]any{"withdraw": true}},
		{"status", map[string]any{}},
		{"teardown", map[string]any{}},
		{"deploy_temporary", map[string]any{"files": says("theirs")}},
	} {
		c.args["session_id"] = d.SessionID
		theirs := other.call(c.tool, c.args)
		c.args["session_id"] = "s_none"
		none := other.call(c.tool, c.args)
		if theirs.Error.Code != "session_not_found" || strings.ReplaceAll(theirs.Text, d.SessionID, "s_none") != none.Text {
			t.Errorf("%s %v: %s, and of none: %s", c.tool, c.args, theirs.Text, none.Text)
		}
	}
	if out := other.call("status", map[string]any{}); strings.Contains(out.Text, d.SessionID) || strings.Contains(out.Text, "c_") {
		t.Errorf("status lists it: %s", out.Text)
	}
	h := f.stranger()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		r, err := http.NewRequestWithContext(t.Context(), method, page, strings.NewReader("decision=approve"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		resp, err := h.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s of the page with an agent's token: %d", method, resp.StatusCode)
		}
	}
	if claim := a.claimOf(d.SessionID); claim != "awaiting_human" {
		t.Errorf("the claim is %s", claim)
	}
}

// noFileHas looks through everything that the program keeps, in text and in hexadecimal.
func (w *world) noFileHas(secrets map[string]string) {
	w.t.Helper()
	looked := 0
	err := filepath.WalkDir(filepath.Join(w.home, "state"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		looked++
		for name, secret := range secrets {
			if secret == "" || bytes.Contains(content, []byte(secret)) || bytes.Contains(content, fmt.Appendf(nil, "%x", secret)) {
				w.t.Errorf("%s is in %s, or is empty", name, path)
			}
		}
		return nil
	})
	if err != nil || looked < 3 {
		w.t.Fatalf("%d files, %v", looked, err)
	}
}
