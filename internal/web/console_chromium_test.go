package web_test

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest/chromium"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// screenshots has the browser tests write their pictures:
// go test ./internal/web -run Chromium -screenshots ../../docs
var screenshots = flag.String("screenshots", "", "folder for pictures of the console")

// tab is a browser on a hall's pages.
type tab struct {
	*chromium.Tab
	t *testing.T
}

func newTab(t *testing.T) *tab {
	t.Helper()
	return &tab{chromium.New(t), t}
}

func (b *tab) picture(name string) {
	b.t.Helper()
	if *screenshots != "" {
		b.Picture(filepath.Join(*screenshots, name))
	}
}

// claimPage is the address of what stands for Cloudflare's claim page, where a yes leads to;
// it says who sent the browser there.
func claimPage(t *testing.T) string {
	t.Helper()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "<title>Cloudflare</title>referrer:%s", r.Header.Get("Referer"))
	}))
	t.Cleanup(page.Close)
	return page.URL + "/claim-preview?claimToken=x"
}

func (h *hall) claimPage() {
	h.t.Helper()
	link := claimPage(h.t)
	h.set(func(d *board) { d.link = deploy.Secret(link) })
}

// enter logs the tab in by a one-time link.
func (b *tab) enter(h *hall, who deploy.ConsoleUser) {
	b.t.Helper()
	b.Open(h.link(who))
	b.Press("form button.yes")
	b.Until("location.pathname === '/console' && document.querySelector('nav')")
}

// TestChromiumPasskey: a yes by a touch, bound to what was shown; what was signed for
// something else, or was used already, does not count.
func TestChromiumPasskey(t *testing.T) {
	b := newTab(t)
	h := newHall(t, web.ConsoleConfig{Passkeys: true})
	h.claimPage()
	b.enter(h, user("ann", approve))
	b.Authenticator()
	b.Open(h.con.Address() + "/passkeys")
	b.Press("form[data-passkey] button")
	b.Until("document.body.innerText.includes('Passkey 1')")

	b.Open(h.con.ClaimURL("c_1"))
	// A touch for another digest, sent with the digest of this page; and then again.
	send := func(touchFor, sendFor, keep string) string {
		return chromium.Eval[string](b.Tab, fmt.Sprintf(`(async () => {
			const form = document.querySelector("form[data-passkey]").elements.form.value;
			const post = (path, f) => fetch(path, {method: "POST", body: new URLSearchParams({form, ...f})});
			if (!%[3]s) {
				const q = await (await post("/console/touch", {about: "claim/c_1", digest: %[1]q})).json();
				const got = await navigator.credentials.get({publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(q.options.publicKey)});
				window.answer = {handle: q.handle, passkey: JSON.stringify(got.toJSON())};
			}
			return String((await post("/console/claims/c_1", {decision: "approve", digest: %[2]q, ...window.answer})).status);
		})()`, touchFor, sendFor, keep))
	}
	if got := send("another", "digest-of-all", "false"); got != "403" {
		t.Errorf("a touch for another digest: %s", got)
	}
	if got := send("", "digest-of-all", "window.answer"); got != "403" {
		t.Errorf("the same touch again: %s", got)
	}
	// Redeployed between the asking and the yes.
	b.Open(h.con.ClaimURL("c_1"))
	h.set(func(d *board) { d.view.Claim.Digest = "digest-of-more" })
	b.Press("button[value=approve]")
	b.Until("document.title.startsWith('Not decided')")
	if n := len(h.board.decided); n != 0 {
		t.Fatalf("%d decisions counted", n)
	}
	b.Open(h.con.ClaimURL("c_1"))
	b.picture("console-claim.png")
	b.Press("button[value=approve]")
	b.Until("document.title === 'Cloudflare'")
	b.Until("document.body.innerText === 'referrer:'")
	h.set(func(d *board) {
		if len(d.decided) != 1 || d.decided[0].Channel != deploy.ChannelPasskey || d.decided[0].Name != "ann" {
			t.Errorf("decided %+v", d.decided)
		}
	})
	// An act that a policy asks about takes a touch of its own.
	b.Open(h.con.Address() + "/approvals/ap_1")
	b.Press("button[value=approve]")
	b.Until("location.pathname === '/console' && document.body.innerText.includes('Acts that wait for a human (0)')")
	if n := len(h.book.keys); n != 1 {
		t.Errorf("%d passkeys", n)
	}
}

// TestChromiumPages: approve, refuse, expire, reopen, tear down; the page is kept fresh.
func TestChromiumPages(t *testing.T) {
	b := newTab(t)
	h := newHall(t, web.ConsoleConfig{})
	h.claimPage()
	b.enter(h, user("ann", approve, operate))
	b.Until("document.querySelector('time[data-until]').textContent.includes(':')") // the script runs, and counts down
	b.picture("console.png")
	b.Dark(true)
	b.picture("console-dark.png")
	b.Dark(false)
	h.set(func(d *board) { d.approval.State = deploy.ApprovalUsed })
	b.Until("document.body.innerText.includes('Acts that wait for a human (0)')") // told by SSE
	b.Press("form[action='/console/teardown'] button")
	b.Until("document.body.innerText.includes('deleted worker shop')")
	b.Open(h.con.ClaimURL("c_1"))
	b.Press("button[value=approve]")
	b.Until("document.title === 'Cloudflare'")
	b.Open(h.con.ClaimURL("c_1")) // reopened
	b.Press("a.yes")
	b.Until("document.title === 'Cloudflare'")
	b.Open(h.con.ClaimURL("c_1"))
	b.Press("button[value=finished]")
	b.Until("document.body.innerText.includes('the word of ann')")
	h.set(func(d *board) { d.view.State = deploy.ClaimAwaiting })
	b.Open(h.con.ClaimURL("c_1"))
	b.Press("button[value=refuse]")
	b.Until("document.title.startsWith('You said no')")
	h.set(func(d *board) { d.view.State = deploy.ClaimLapsed })
	b.Open(h.con.ClaimURL("c_1"))
	b.Until("document.title.startsWith('Too late')")
	b.Size(360, 740)
	h.set(func(d *board) {
		d.view.State, d.view.Claim.DecidedBy, d.view.Claim.Channel, d.view.Claim.Evidence = deploy.ClaimAwaiting, "", "", ""
	})
	b.Open(h.con.ClaimURL("c_1"))
	b.picture("console-phone.png")
	for _, path := range []string{"", "/claims/c_1", "/record", "/passkeys", "/sessions/s_1"} {
		b.Open(h.con.Address() + path)
		if wide := chromium.Eval[int](b.Tab, "document.documentElement.scrollWidth"); wide > 360 {
			t.Errorf("%s is %d pixels wide on a phone of 360", path, wide)
		}
	}
	cookies := chromium.Eval[string](b.Tab, "document.cookie")
	if strings.Contains(cookies, "hourglass") {
		t.Errorf("a script reads %s", cookies)
	}
}

// TestChromiumWorkerCookie: a Worker of this machine, under 127.0.0.1, is not sent the
// console's cookie by the browser of a human who opens it.
func TestChromiumWorkerCookie(t *testing.T) {
	b := newTab(t)
	h := newHall(t, web.ConsoleConfig{})
	worker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "<title>worker</title>cookies:%s", r.Header.Get("Cookie"))
	}))
	t.Cleanup(worker.Close)
	b.enter(h, user("ann", approve))
	b.Open(worker.URL)
	b.Until("document.body.innerText === 'cookies:'")
}
