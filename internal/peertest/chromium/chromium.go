// Package chromium drives headless Chromium for tests: pages as a human sees them, passkeys
// that are touched, the keyboard, and axe-core's opinion. It knows no page of ours.
//
// It is a room of its own beside peertest so that only tests of pages compile the
// protocol that Chromium speaks.
package chromium

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// patience is for hangs alone: nothing that works takes that long.
const patience = 2 * time.Minute

// Path is where Chromium is, Debian's package of that name, or skips the test
// with the reason.
func Path(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	peertest.Skip(t, "there is no Chromium here (Debian: apt-get install chromium)")
	return ""
}

// Tab is the one tab of a Chromium with a profile of its own. What goes wrong in it ends
// the test.
type Tab struct {
	t   testing.TB
	ctx context.Context
}

// New starts a Chromium that ends with the test, or skips the test where there is none.
func New(t testing.TB) *Tab {
	t.Helper()
	opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath(Path(t)), chromedp.UserDataDir(t.TempDir())}
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
	b := &Tab{t: t, ctx: ctx}
	b.Size(1000, 900)
	return b
}

// do does one thing.
func do[T any](b *Tab, a chromedp.Action[T]) T {
	b.t.Helper()
	ctx := b.ctx
	if chromedp.FromContext(b.ctx).Target != nil { // the first one starts the browser, which lives on
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(b.ctx, patience)
		defer stop()
	}
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// send sends a command of the protocol.
func send[P, R any](b *Tab, command cdp.Command[P, R], params P) {
	b.t.Helper()
	do(b, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, command, params)
		return chromedp.Void{}, err
	})
}

// Eval is the value of an expression in the page; a promise is waited for. The page's
// own policy does not bind it.
func Eval[T any](b *Tab, expression string) T {
	b.t.Helper()
	return do(b, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// Open goes to an address and waits until it is loaded.
func (b *Tab) Open(address string) { b.t.Helper(); do(b, chromedp.Navigate(address)) }

// Until waits for an expression of the page to be true.
func (b *Tab) Until(expression string) {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx, patience)
	defer stop()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if err == nil && ok {
			return
		}
		select {
		case <-ctx.Done():
			text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("location.pathname + ' ' + document.title + ' ' + document.body.innerText"))
			b.t.Fatalf("it never came to %s (%v):\n%s", expression, err, text)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Says waits until the page says a text.
func (b *Tab) Says(text string) {
	b.t.Helper()
	b.Until(fmt.Sprintf("document.body && (document.title + document.body.innerText).includes(%q)", text))
}

// Press clicks on what a selector finds, once it is there.
func (b *Tab) Press(selector string) {
	b.t.Helper()
	b.Until(fmt.Sprintf("document.querySelector(%q)", selector))
	Eval[bool](b, fmt.Sprintf("(document.querySelector(%q).click(), true)", selector))
}

// ClickTwice clicks with the mouse on the middle of what a selector finds, which is in
// sight, does something, and clicks again, whatever the first click began.
func (b *Tab) ClickTwice(selector string, between func()) {
	b.t.Helper()
	at := Eval[struct{ X, Y float64 }](b, fmt.Sprintf(`(() => {
		const r = document.querySelector(%q).getBoundingClientRect();
		return { X: r.x + r.width / 2, Y: r.y + r.height / 2 };
	})()`, selector))
	do(b, chromedp.MouseClickXY(at.X, at.Y))
	between()
	do(b, chromedp.MouseClickXY(at.X, at.Y))
}

// Type types on the keyboard, into what has the focus.
func (b *Tab) Type(keys string) { b.t.Helper(); do(b, chromedp.KeyEvent(keys)) }

// TabTo presses the Tab key until what a selector finds has the focus, and gives whether
// it is seen to have it: an outline, or a border that was not there. Where it is not
// reached within so many stops as the page can have, the test ends.
func (b *Tab) TabTo(selector string) (visible bool) {
	b.t.Helper()
	const most = 100
	for range most {
		b.Type(kb.Tab)
		if Eval[bool](b, fmt.Sprintf("document.activeElement.matches(%q)", selector)) {
			return Eval[bool](b, `(() => {
				const s = getComputedStyle(document.activeElement), box = document.activeElement.getBoundingClientRect();
				return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 && box.width > 0 && box.height > 0 && box.top >= 0 && box.bottom <= innerHeight;
			})()`)
		}
	}
	b.t.Fatalf("the keyboard does not get to %s", selector)
	return false
}

// Enter presses the Enter key.
func (b *Tab) Enter() { b.t.Helper(); b.Type(kb.Enter) }

// Size makes the window that large, in CSS pixels.
func (b *Tab) Size(width, height int64) { b.t.Helper(); do(b, chromedp.EmulateViewport(width, height)) }

// Dark has the tab prefer dark colours, or light ones.
func (b *Tab) Dark(on bool) {
	b.t.Helper()
	value := map[bool]string{true: "dark", false: "light"}[on]
	send(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}}})
}

// NoScripts has no script of any page run from the next page on.
func (b *Tab) NoScripts() {
	b.t.Helper()
	send(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
}

// Authenticator gives the tab a passkey device that is touched whenever it is asked.
func (b *Tab) Authenticator() {
	b.t.Helper()
	send(b, webauthn.Enable, webauthn.EnableParams{})
	do(b, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal, HasResidentKey: true,
			HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
		}})
		return chromedp.Void{}, err
	})
}

// Cookies are those that the browser would send to an address, by name, also those that no
// script can read: what a program that reads the browser's profile has.
func (b *Tab) Cookies(address string) map[string]string {
	b.t.Helper()
	all := do(b, func(ctx context.Context, t *chromedp.Target) (map[string]string, error) {
		got, err := cdp.Call(ctx, t, network.GetCookies, network.GetCookiesParams{URLs: []string{address}})
		out := map[string]string{}
		for _, c := range got.Cookies {
			out[c.Name] = c.Value
		}
		return out, err
	})
	return all
}

// Picture writes what the window shows as a PNG.
func (b *Tab) Picture(path string) {
	b.t.Helper()
	if err := os.WriteFile(path, do(b, chromedp.CaptureScreenshot()), 0o600); err != nil {
		b.t.Fatal(err)
	}
}
