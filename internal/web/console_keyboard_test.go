package web_test

import (
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest/chromium"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// reach goes to what a selector finds with the Tab key alone, and wants the focus seen.
func (b *tab) reach(selector string) {
	b.t.Helper()
	if !b.TabTo(selector) {
		b.t.Errorf("%s has the focus and does not show it", selector)
	}
}

// TestChromiumKeyboard: everything is reached, seen and done without a pointer, in the
// order of the page, with a passkey too.
func TestChromiumKeyboard(t *testing.T) {
	b := newTab(t)
	h := newHall(t, web.ConsoleConfig{Passkeys: true})
	h.claimPage()
	b.Open(h.link(user("ann", approve, operate)))
	b.reach("form button.yes")
	b.Enter()
	b.Until("location.pathname === '/console' && document.querySelector('nav')")
	// Past the navigation at once.
	b.reach("a.skip")
	b.Enter()
	b.reach("main a")
	for _, selector := range []string{
		"a[href='/console/approvals/ap_1']", "a[href='/console/sessions/s_1']", "button[aria-label='Take down session s_1']",
		"form[action='/console/freeze'] button", "form[action='/console/teardown'] input[name=principal]", "form[action='/console/teardown'] input[name=sure]",
	} {
		b.reach(selector) // each after the one before
	}
	b.Authenticator()
	b.Open(h.con.Address() + "/passkeys")
	b.reach("form[data-passkey] button")
	b.Enter()
	b.Says("Passkey 1")

	b.Open(h.con.ClaimURL("c_1"))
	b.reach("button[value=approve]")
	b.reach("button[value=refuse]")
	b.Open(h.con.ClaimURL("c_1"))
	b.reach("button[value=approve]")
	b.Enter()
	b.Until("document.title === 'Cloudflare'")
	b.Open(h.con.Address() + "/approvals/ap_1")
	b.reach("button[value=refuse]")
	b.Enter()
	b.Says("Acts that wait for a human (0)")
	b.reach("button[aria-label='Take down session s_1']")
	b.Enter()
	b.Says("deleted worker shop")
	b.Open(h.con.Address() + "/record")
	b.reach("input[name=principal]")
	b.Type("ci-bot")
	b.Enter()
	b.Until("location.search.includes('principal=ci-bot')")
	b.reach("div.scroll") // a table that is wider than the window is scrolled with the arrows
	h.set(func(d *board) {
		if len(d.decided) != 2 || d.decided[0].Channel != deploy.ChannelPasskey || len(d.revoked) != 1 {
			t.Errorf("decided %+v, took down %+v", d.decided, d.revoked)
		}
	})
	// Nothing holds the focus: it goes round.
	b.Open(h.con.ClaimURL("c_1"))
	b.reach("a.skip")
	b.reach("nav button")
	b.reach("a.skip")
}

// TestChromiumKeyboardAttended: the page of stdio too.
func TestChromiumKeyboardAttended(t *testing.T) {
	b := newTab(t)
	h := open(t)
	b.Open(h.url)
	b.reach("button[value=approve]")
	b.reach("button[value=refuse]")
	b.Enter()
	b.Says("You said no")
	if n, state := h.svc.count(); n != 1 || state != deploy.ClaimRefused {
		t.Errorf("%d decisions, %s", n, state)
	}
}

// TestChromiumNoScripts: everything but passkeys works in a browser that runs no script.
func TestChromiumNoScripts(t *testing.T) {
	b := newTab(t)
	h := newHall(t, web.ConsoleConfig{})
	h.claimPage()
	b.NoScripts()
	b.enter(h, user("ann", approve, operate))
	if left := chromium.Eval[string](b.Tab, "document.querySelector('time[data-until]').textContent"); !strings.HasSuffix(left, "minutes left") {
		t.Errorf("%q: a script ran", left)
	}
	act := func(selector string) { t.Helper(); b.reach(selector); b.Enter() }
	act("form[action='/console/freeze'] button")
	b.Says("All new deployments are stopped")
	act("form[action='/console/freeze'] button")
	b.Says("Stop all new deployments")
	b.reach("form[action='/console/teardown'] input[name=principal]")
	b.Type("ci-bot")
	b.reach("form[action='/console/teardown'] input[name=sure]")
	b.Type(" ")
	act("form[action='/console/teardown'] label + button")
	b.Says("deleted worker shop")
	b.Open(h.con.Address() + "/approvals/ap_1")
	act("button[value=approve]")
	b.Says("Acts that wait for a human (0)")
	b.Open(h.con.ClaimURL("c_1"))
	act("button[value=approve]")
	b.Until("document.title === 'Cloudflare'") // led on by a refresh
	b.Open(h.con.ClaimURL("c_1"))
	act("button[value=finished]")
	b.Says("the word of ann")
	b.Open(h.con.Address() + "/record")
	b.reach("input[name=principal]")
	b.Type("ci-bot")
	b.Enter()
	b.Until("location.search.includes('principal=ci-bot') && !document.body.innerText.includes('create_account')")
	b.Open(h.con.Address() + "/passkeys")
	b.Says("adding one needs JavaScript")
	h.set(func(d *board) {
		if len(d.decided) != 2 || len(d.revoked) != 1 || d.revoked[0].Principal != "ci-bot" || d.frozen != nil {
			t.Errorf("decided %+v, took down %+v, frozen %+v", d.decided, d.revoked, d.frozen)
		}
	})
	act("nav button")
	b.Says("Log in")
	h.book.mu.Lock()
	defer h.book.mu.Unlock()
	if n := len(h.book.sessions); n != 0 {
		t.Errorf("%d logins are left", n)
	}
}
