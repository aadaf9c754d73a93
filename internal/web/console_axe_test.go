package web_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest/chromium"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// critic is axe-core on what a tab shows.
type critic struct {
	*tab
	axe    *chromium.Axe
	looked int
}

func newCritic(t *testing.T) *critic {
	t.Helper()
	axe := chromium.NewAxe(t)
	return &critic{tab: newTab(t), axe: axe}
}

// look holds the page that is open to axe-core in light and dark, wide and on a phone,
// and says under which name it is wrong. A page that is wider than the phone is wrong too.
func (c *critic) look(name string) {
	c.t.Helper()
	c.Until("document.querySelector('main h1')")
	c.looked++
	for _, width := range []int64{1000, 360} {
		c.Size(width, 800)
		if wide := chromium.Eval[int64](c.Tab, "document.documentElement.scrollWidth"); wide > width {
			c.t.Errorf("%s: %d pixels wide in a window of %d", name, wide, width)
		}
		for _, dark := range []bool{false, true} {
			c.Dark(dark)
			for _, f := range c.axe.Look(c.Tab) {
				c.t.Errorf("%s, %d wide, dark %t: %s", name, width, dark, f)
			}
		}
	}
}

// TestChromiumAxe: axe-core finds nothing on any page of the console, in any state.
func TestChromiumAxe(t *testing.T) {
	c := newCritic(t)
	h := newHall(t, web.ConsoleConfig{Passkeys: true})
	see := func(path string) { t.Helper(); c.Open(h.con.Address() + path); c.look(path) }
	see("/login")
	c.Open(h.link(user("eve", approve)))
	c.look("a one-time link")
	h.later(time.Hour)
	c.Press("form button.yes")
	c.Says("is older than 10 minutes")
	c.look("a link that is over")
	see("/claims/c_1") // asks for a login
	see("/nothing")

	c.enter(h, user("ann", approve, operate))
	for _, path := range []string{
		"", "/claims/c_1", "/claims/c_none", "/approvals/ap_1", "/approvals/ap_none", "/sessions/s_1", "/sessions/s_none",
		"/record", "/record?principal=ci-bot&act=deploy", "/record?principal=nobody", "/passkeys",
	} {
		see(path)
	}
	c.seeStates(h, see)
	c.seeForms(h)

	other := newHall(t, web.ConsoleConfig{})                     // no passkeys, and a human who may not decide
	c.enter(other, user("vic"+strings.Repeat("W", 90), operate)) // and has a long name
	see = func(path string) { t.Helper(); c.Open(other.con.Address() + path); c.look("who only looks: " + path) }
	for _, path := range []string{"", "/claims/c_1", "/approvals/ap_1"} {
		see(path)
	}
	c.enter(other, user("ann", approve))
	see("/claims/c_1")
	if c.looked < 35 {
		t.Errorf("only %d pages were looked at", c.looked)
	}

	// And it can fail.
	c.Open(h.con.Address() + "/record")
	chromium.Eval[bool](c.Tab, "document.querySelectorAll('label').forEach(l => l.replaceWith(l.querySelector('input'))), true")
	if got := c.axe.Look(c.Tab); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "label: ") }) {
		t.Errorf("inputs without labels: %v", got)
	}
}

// seeStates looks at a claim in every state, here and where it was not approved.
func (c *critic) seeStates(h *hall, see func(string)) {
	c.t.Helper()
	for _, state := range []deploy.ClaimState{
		deploy.ClaimApproved, deploy.ClaimOpened, deploy.ClaimProbablyAdopted, deploy.ClaimAdopted, deploy.ClaimRefused, deploy.ClaimWithdrawn, deploy.ClaimLapsed,
	} {
		h.set(func(d *board) {
			d.view.State, d.view.Claim.DecidedBy, d.view.Claim.Channel = state, "bob", deploy.ChannelPasskey
		})
		see("/claims/c_1")
	}
	see("") // with a claim that is decided, and none that waits
	h.set(func(d *board) {
		d.view.State, d.view.Left, d.approval.State = deploy.ClaimLapsed, 0, deploy.ApprovalUsed
	})
	see("") // nothing waits, nothing lives
	see("/sessions/s_1")
	h.set(func(d *board) {
		d.view.State, d.view.Left, d.approval.State = deploy.ClaimAwaiting, 40*time.Minute, deploy.ApprovalWaiting
	})
}

// seeForms looks at what comes of forms, also of those that are refused.
func (c *critic) seeForms(h *hall) {
	c.t.Helper()
	console := h.con.Address()
	c.Open(console)
	c.Press("form[action='/console/freeze'] button")
	c.Says("All new deployments are stopped")
	c.look("frozen")
	c.Press("form[action='/console/teardown'] input[name=session] + button")
	c.Says("deleted worker shop")
	c.look("what was taken down")
	c.Open(console)
	c.Press("form[action='/console/teardown'] input[value=everything] ~ button")
	c.Says("tick the box")
	c.look("everything, without the tick")
	c.Open(console + "/claims/c_1")
	h.set(func(d *board) { d.view.Claim.Digest = "another" })
	c.Press("button[value=refuse]")
	c.Says("has changed since the page was shown")
	c.look("something else is there now")
	c.Open(console + "/claims/c_1")
	h.set(func(d *board) { d.view.State = deploy.ClaimRefused })
	c.Press("button[value=refuse]")
	c.Says("your decision did not count")
	c.look("somebody else was faster")
	h.set(func(d *board) { d.view.State = deploy.ClaimAwaiting })
	c.Open(console + "/claims/c_1")
	c.Press("button[value=approve]") // without a passkey
	c.Says("Nothing was decided: Add a passkey first.")
	c.look("a yes without a passkey")
	c.Authenticator()
	c.Open(console + "/passkeys")
	c.Press("form[data-passkey] button")
	c.Says("Passkey 1")
	c.look("a passkey")
}

// TestChromiumAxeAttended: nor on the page of stdio that needs no login.
func TestChromiumAxeAttended(t *testing.T) {
	c := newCritic(t)
	h := open(t)
	c.Open(h.url)
	c.look("it waits")
	h.svc.set(func(s *claims) { s.view.State = deploy.ClaimRefused })
	c.Press("button[value=approve]")
	c.Says("your decision did not count")
	c.look("somebody else was faster")
	for _, state := range []deploy.ClaimState{
		deploy.ClaimApproved, deploy.ClaimOpened, deploy.ClaimProbablyAdopted, deploy.ClaimAdopted, deploy.ClaimRefused, deploy.ClaimWithdrawn, deploy.ClaimLapsed,
	} {
		h.svc.set(func(s *claims) { s.view.State = state })
		c.Open(h.url)
		c.look(string(state))
	}
	h.svc.set(func(s *claims) { s.view.State, s.link = deploy.ClaimAwaiting, "javascript:alert(1)" })
	c.Open(h.url)
	c.Press("button[value=approve]")
	c.Says("No way on") // it refuses to lead there
	c.look("no way on")
	c.Open(h.url)
	c.look("approved in this browser")
	c.Open(strings.Replace(h.url, token, strings.Repeat("X", len(token)), 1))
	c.Says("Nothing here")
	c.look(http.StatusText(http.StatusNotFound))
}
