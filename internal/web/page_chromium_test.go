package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// TestChromiumAttended: the page of stdio, opened from a chat on another site: yes, on to
// Cloudflare, opened again, and over.
func TestChromiumAttended(t *testing.T) {
	b := newTab(t)
	h := open(t)
	link := claimPage(t)
	h.svc.set(func(c *claims) { c.link = link })
	chat := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "<title>chat</title><a href=%q>the agent asks</a>", h.url)
	}))
	t.Cleanup(chat.Close)
	again := func(title string) {
		t.Helper()
		b.Open(chat.URL)
		b.Press("a")
		b.Until(fmt.Sprintf("document.title.startsWith(%q)", title))
	}
	again("Keep this temporary account?")
	again("Keep this temporary account?") // looking decides nothing
	if n, _ := h.svc.count(); n != 0 {
		t.Errorf("%d decisions", n)
	}
	b.Press("button[value=approve]")
	b.Until("document.title === 'Cloudflare' && document.body.innerText === 'referrer:'")
	again("You said yes")
	b.Press("a.button") // by the cookie, which this site's own link is sent with
	b.Until("document.title === 'Cloudflare'")
	if n, state := h.svc.count(); n != 1 || state != deploy.ClaimOpened {
		t.Errorf("%d decisions, %s", n, state)
	}
	h.svc.set(func(c *claims) { c.view.State, c.view.Left = deploy.ClaimLapsed, 0 })
	again("Too late")
}
