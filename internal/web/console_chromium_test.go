package web_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// screenshots has the browser tests write their pictures:
// go test ./internal/web -run Chromium -screenshots ../../docs
var screenshots = flag.String("screenshots", "", "folder for pictures of the console")

// tab is a tab of headless Chromium.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func newTab(t *testing.T) *tab {
	t.Helper()
	opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath(peertest.Chromium(t)), chromedp.UserDataDir(t.TempDir())}
	for _, name := range []string{
		"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update",
		"disable-sync", "disable-dev-shm-usage",
	} {
		opts = append(opts, chromedp.Flag(name, true))
	}
	ctx, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(ctx)
	t.Cleanup(end)
	b := &tab{t: t, ctx: ctx}
	do(b, chromedp.EmulateViewport(1000, 900))
	return b
}

// do does one thing, within a time that is for hangs alone.
func do[T any](b *tab, a chromedp.Action[T]) T {
	b.t.Helper()
	ctx := b.ctx
	if chromedp.FromContext(b.ctx).Target != nil {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(b.ctx, time.Minute)
		defer stop()
	}
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// until waits for an expression of the page to be true.
func (b *tab) until(expression string) {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx, time.Minute)
	defer stop()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if err == nil && ok {
			return
		}
		select {
		case <-ctx.Done():
			text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.title + ' ' + document.body.innerText"))
			b.t.Fatalf("it never came to %s: %v\n%s", expression, err, text)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (b *tab) open(address string) { b.t.Helper(); do(b, chromedp.Navigate(address)) }

func (b *tab) press(selector string) {
	b.t.Helper()
	b.until(fmt.Sprintf("document.querySelector(%q)", selector))
	do(b, chromedp.Evaluate[bool](fmt.Sprintf("(document.querySelector(%q).click(), true)", selector)))
}

func (b *tab) picture(name string) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name), do(b, chromedp.CaptureScreenshot()), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// authenticator gives the tab a passkey device that is touched whenever it is asked.
func (b *tab) authenticator() {
	b.t.Helper()
	do(b, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		if _, err := cdp.Call(ctx, t, webauthn.Enable, webauthn.EnableParams{}); err != nil {
			return chromedp.Void{}, err
		}
		_, err := cdp.Call(ctx, t, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal, HasResidentKey: true,
			HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
		}})
		return chromedp.Void{}, err
	})
}

// dark has the tab prefer dark colours, or light ones.
func (b *tab) dark(on bool) {
	b.t.Helper()
	value := map[bool]string{true: "dark", false: "light"}[on]
	do(b, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}},
		})
		return chromedp.Void{}, err
	})
}

// TestChromiumAxe: axe-core finds nothing on any page, in light and dark, wide and on a
// phone.
func TestChromiumAxe(t *testing.T) {
	source, err := os.ReadFile(peertest.Get(t).Bin("axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	b := newTab(t)
	h := newHall(t, web.ConsoleConfig{Passkeys: true})
	look := func(address string) {
		t.Helper()
		b.open(address)
		b.until("document.querySelector('main h1')")
		do(b, chromedp.Evaluate[bool](string(source)+"\n;true"))
		found := do(b, chromedp.Evaluate[[]string](`axe.run().then(r => {
			if (r.passes.length < 10) return ["only " + r.passes.length + " rules found anything to look at"];
			return r.violations.flatMap(v => v.nodes.map(n => v.id + ": " + n.html + " " + n.failureSummary));
		})`, chromedp.EvalAwaitPromise))
		for _, f := range found {
			t.Errorf("%s: %s", strings.TrimPrefix(address, h.con.Address()), f)
		}
	}
	look(h.con.Address() + "/login")
	b.enter(h, user("ann", approve, operate))
	for _, on := range []bool{false, true} {
		b.dark(on)
		for _, width := range []int64{1000, 360} {
			do(b, chromedp.EmulateViewport(width, 800))
			for _, path := range []string{"", "/claims/c_1", "/claims/c_none", "/approvals/ap_1", "/record", "/passkeys", "/sessions/s_1"} {
				look(h.con.Address() + path)
			}
		}
	}
}

// enter logs the tab in by a one-time link.
func (b *tab) enter(h *hall, who deploy.ConsoleUser) {
	b.t.Helper()
	b.open(h.link(who))
	b.press("form button.yes")
	b.until("location.pathname === '/console' && document.querySelector('nav')")
}

// TestChromiumPasskey: a yes by a touch, bound to what was shown; what was signed for
// something else, or was used already, does not count.
func TestChromiumPasskey(t *testing.T) {
	b := newTab(t)
	h := newHall(t, web.ConsoleConfig{Passkeys: true})
	claimPage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "<title>Cloudflare</title>referrer:%s", r.Header.Get("Referer"))
	}))
	t.Cleanup(claimPage.Close)
	h.board.link = deploy.Secret(claimPage.URL + "/claim-preview?claimToken=x")
	b.enter(h, user("ann", approve))
	b.authenticator()
	b.open(h.con.Address() + "/passkeys")
	b.press("form[data-passkey] button")
	b.until("document.body.innerText.includes('Passkey 1')")

	b.open(h.con.ClaimURL("c_1"))
	// A touch for another digest, sent with the digest of this page; and then again.
	send := func(touchFor, sendFor, keep string) string {
		return do(b, chromedp.Evaluate[string](fmt.Sprintf(`(async () => {
			const form = document.querySelector("form[data-passkey]").elements.form.value;
			const post = (path, f) => fetch(path, {method: "POST", body: new URLSearchParams({form, ...f})});
			if (!%[3]s) {
				const q = await (await post("/console/touch", {about: "claim/c_1", digest: %[1]q})).json();
				const got = await navigator.credentials.get({publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(q.options.publicKey)});
				window.answer = {handle: q.handle, passkey: JSON.stringify(got.toJSON())};
			}
			return String((await post("/console/claims/c_1", {decision: "approve", digest: %[2]q, ...window.answer})).status);
		})()`, touchFor, sendFor, keep), chromedp.EvalAwaitPromise))
	}
	if got := send("another", "digest-of-all", "false"); got != "403" {
		t.Errorf("a touch for another digest: %s", got)
	}
	if got := send("", "digest-of-all", "window.answer"); got != "403" {
		t.Errorf("the same touch again: %s", got)
	}
	// Redeployed between the asking and the yes.
	b.open(h.con.ClaimURL("c_1"))
	h.set(func(d *board) { d.view.Claim.Digest = "digest-of-more" })
	b.press("button[value=approve]")
	b.until("document.title.startsWith('Not decided')")
	if n := len(h.board.decided); n != 0 {
		t.Fatalf("%d decisions counted", n)
	}
	b.open(h.con.ClaimURL("c_1"))
	b.picture("console-claim.png")
	b.press("button[value=approve]")
	b.until("document.title === 'Cloudflare'")
	b.until("document.body.innerText === 'referrer:'")
	h.set(func(d *board) {
		if len(d.decided) != 1 || d.decided[0].Channel != deploy.ChannelPasskey || d.decided[0].Name != "ann" {
			t.Errorf("decided %+v", d.decided)
		}
	})
	// An act that a policy asks about takes a touch of its own.
	b.open(h.con.Address() + "/approvals/ap_1")
	b.press("button[value=approve]")
	b.until("location.pathname === '/console' && document.body.innerText.includes('Acts that wait for a human (0)')")
	if n := len(h.book.keys); n != 1 {
		t.Errorf("%d passkeys", n)
	}
}

// TestChromiumPages: approve, refuse, expire, reopen, tear down; the page is kept fresh.
func TestChromiumPages(t *testing.T) {
	b := newTab(t)
	h := newHall(t, web.ConsoleConfig{})
	claimPage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<title>Cloudflare</title>") }))
	t.Cleanup(claimPage.Close)
	h.set(func(d *board) { d.link = deploy.Secret(claimPage.URL + "/claim-preview") })
	b.enter(h, user("ann", approve, operate))
	b.until("document.querySelector('time[data-until]').textContent.includes(':')") // the script runs, and counts down
	b.picture("console.png")
	h.set(func(d *board) { d.approval.State = deploy.ApprovalUsed })
	b.until("document.body.innerText.includes('Acts that wait for a human (0)')") // told by SSE
	b.press("form[action='/console/teardown'] button")
	b.until("document.body.innerText.includes('deleted worker shop')")
	b.open(h.con.ClaimURL("c_1"))
	b.press("button[value=approve]")
	b.until("document.title === 'Cloudflare'")
	b.open(h.con.ClaimURL("c_1")) // reopened
	b.press("a.yes")
	b.until("document.title === 'Cloudflare'")
	b.open(h.con.ClaimURL("c_1"))
	b.press("button[value=finished]")
	b.until("document.body.innerText.includes('the word of ann')")
	h.set(func(d *board) { d.view.State = deploy.ClaimAwaiting })
	b.open(h.con.ClaimURL("c_1"))
	b.press("button[value=refuse]")
	b.until("document.title.startsWith('You said no')")
	h.set(func(d *board) { d.view.State = deploy.ClaimLapsed })
	b.open(h.con.ClaimURL("c_1"))
	b.until("document.title.startsWith('Too late')")
	do(b, chromedp.EmulateViewport(360, 740))
	for _, path := range []string{"", "/claims/c_1", "/record", "/passkeys", "/sessions/s_1"} {
		b.open(h.con.Address() + path)
		if wide := do(b, chromedp.Evaluate[int]("document.documentElement.scrollWidth")); wide > 360 {
			t.Errorf("%s is %d pixels wide on a phone of 360", path, wide)
		}
	}
	cookies := do(b, chromedp.Evaluate[string]("document.cookie"))
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
	b.open(worker.URL)
	b.until("document.body.innerText === 'cookies:'")
}
