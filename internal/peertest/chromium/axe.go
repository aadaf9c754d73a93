package chromium

import (
	"os"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// Axe is axe-core, the accessibility checker.
type Axe struct{ source string }

// NewAxe reads axe-core from the installed peers, or skips the test where they can't be had.
func NewAxe(t testing.TB) *Axe {
	t.Helper()
	source, err := os.ReadFile(peertest.Get(t).Bin("axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return &Axe{string(source)}
}

// leastRules are the rules that find something to look at on any page of ours; fewer
// mean that axe-core did not look.
const leastRules = 10

// Look gives what axe-core has against the page that the tab shows, by every rule that it
// has on (WCAG A and AA, and good practice). What it can't decide counts too, but for the
// contrast of what is scrolled out of sight.
func (a *Axe) Look(b *Tab) []string {
	b.t.Helper()
	if !Eval[bool](b, "'axe' in window") {
		Eval[bool](b, a.source+"\n;true")
	}
	found := Eval[struct {
		Passed int      `json:"passed"`
		Wrong  []string `json:"wrong"`
	}](b, `axe.run().then((r) => {
		const hidden = (n) => n.any.some((c) => c.id === "color-contrast" && c.data?.messageKey === "elmPartiallyObscured");
		const told = (all) => all.flatMap((v) => v.nodes.filter((n) => !hidden(n)).map((n) => v.id + ": " + n.html + " " + n.failureSummary));
		return { passed: r.passes.length, wrong: told(r.violations).concat(told(r.incomplete)) };
	})`)
	if found.Passed < leastRules {
		b.t.Fatalf("axe-core passed %d rules: it did not look at the page", found.Passed)
	}
	return found.Wrong
}
