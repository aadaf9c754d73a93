package web_test

import (
	"sync"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// gate holds the first decision back until it is opened.
type gate struct {
	once         sync.Once
	came, opened chan struct{}
}

func newGate() *gate { return &gate{came: make(chan struct{}), opened: make(chan struct{})} }

func (g *gate) pass() {
	g.once.Do(func() { close(g.came) })
	<-g.opened
}

// twice clicks a second time while the server is still at work on the first.
func (b *tab) twice(g *gate, selector string) {
	b.t.Helper()
	b.Until("document.querySelector('main h1')")
	b.ClickTwice(selector, func() { <-g.came })
	close(g.opened)
}

// TestChromiumDoubleClick: a browser gives the first answer up when a button is pressed a
// second time, and may never see the cookie that came with it. The human is led on all the same,
// and decides once.
func TestChromiumDoubleClick(t *testing.T) {
	for name, cfg := range map[string]web.ConsoleConfig{"console": {}, "passkey": {Passkeys: true}} {
		t.Run(name, func(t *testing.T) {
			b, g := newTab(t), newGate()
			h := newHall(t, cfg)
			h.claimPage()
			b.enter(h, user("ann", approve))
			if cfg.Passkeys {
				b.Authenticator()
				b.Open(h.con.Address() + "/passkeys")
				b.Press("form[data-passkey] button")
				b.Says("Passkey 1")
			}
			h.set(func(d *board) { d.deciding = g.pass })
			b.Open(h.con.ClaimURL("c_1"))
			b.twice(g, "button[value=approve]")
			b.Until("document.title === 'Cloudflare'")
			h.set(func(d *board) {
				if len(d.decided) != 1 {
					t.Errorf("%d decisions", len(d.decided))
				}
			})
		})
	}
	t.Run("attended", func(t *testing.T) {
		b, g := newTab(t), newGate()
		h := open(t)
		page := claimPage(t)
		h.svc.set(func(c *claims) { c.link, c.deciding = page, g.pass })
		b.Open(h.url)
		b.twice(g, "button[value=approve]")
		b.Until("document.title === 'Cloudflare'")
		if n, state := h.svc.count(); n != 1 || state != deploy.ClaimOpened {
			t.Errorf("%d decisions, %s", n, state)
		}
	})
}
