package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/peertest/chromium"
)

// TestChromiumShellAgainstSealed: an agent with a shell as the same user reads the store
// with its key, makes itself a human with a login and a passkey, approves, and runs every
// command that decides: the link stays sealed to a key that is not here, and the claim waits.
func TestChromiumShellAgainstSealed(t *testing.T) {
	b := chromium.New(t)
	w := kindWorld(t)
	public := w.makeClaimKey(t)
	f := w.serveHTTP("--tokens", w.tokensFile(), "--accept-terms", "--approval", "passkey", "--four-eyes", "--claim-recipient", public)
	a := f.agent("http", w.token("bot", "--label", "job_id=j1", "--label", "owner=bob"))
	d := a.deploy(map[string]any{"files": says("x"), "name": "shop"})
	asked := a.call("request_claim", map[string]any{"session_id": d.SessionID})
	if asked.IsError || !strings.Contains(asked.Text, "mcp-server claim "+d.SessionID) || strings.Contains(asked.Text, "://") {
		t.Fatalf("%s", asked.Text)
	}
	link := w.accounts()[0].ClaimToken

	// It reads everything, and opens the store with its key.
	w.nowhere(t, "token:bot", link)
	private, err := os.ReadFile(filepath.Join(w.home, ".config", "hourglass", "claim.key"))
	if err != nil || strings.Contains(string(private), "AGE-SECRET-KEY-1") {
		t.Errorf("the human's key lies open: %v", err)
	}

	// It makes itself a human who is nobody's owner, with a passkey, and says yes.
	b.Authenticator()
	f.enter(b, "mallory", "--scope", "approve", "--scope", "operate", "--owner", "nobody")
	f.addPasskey(b)
	b.Open(f.consoleURL)
	b.Press("a[href^='/console/claims/']")
	b.Until("location.pathname.startsWith('/console/claims/')")
	page := chromium.Eval[string](b, "location.href")
	if chromium.Eval[bool](b, "!!document.querySelector('button[value=approve]')") {
		b.Press("button[value=approve]")
		b.Says("sealed to a human's key")
	}
	b.Open(page + "/go")
	b.Says("sealed to a human's key")

	// It runs what decides.
	claim := page[strings.LastIndexByte(page, '/')+1:]
	args := w.serverArgs("--claim-recipient", public)[1:]
	for _, c := range [][]string{{"claim", d.SessionID}, {"claim", d.SessionID, "--print"}, {"claim", d.SessionID, "--qr"}, {"approvals", "approve", claim, "--yes"}} {
		stdout, stderr, code := w.run(w.home, append(c, args...)...)
		if code == 0 || strings.Contains(stdout+stderr, link) {
			t.Errorf("%v: %d %s %s", c, code, stdout, stderr)
		}
	}
	term := w.openTerminal(t, nil, append([]string{"claim", d.SessionID}, args...)...)
	term.answer("Keep all of this", "yes")
	term.answer("Passphrase of", "a guess")
	if text, code := term.end(); code == 0 || strings.Contains(text, link) {
		t.Errorf("a guessed passphrase: %d %s", code, text)
	}
	if state := a.claimOf(d.SessionID); state != "awaiting_human" {
		t.Errorf("the claim is %s", state)
	}
	if accts := w.accounts(); accts[0].Claimed {
		t.Error("the account was claimed")
	}
	// The human has the passphrase.
	term = w.openTerminal(t, nil, append([]string{"claim", d.SessionID, "--qr"}, args...)...)
	term.answer("Keep all of this", "yes")
	term.answer("Passphrase of", phrase)
	if text, code := term.end(); code != 0 || !strings.Contains(text, "claimToken="+link) {
		t.Errorf("the human: %d %s", code, text)
	}
	if state := a.claimOf(d.SessionID); state != "opened" {
		t.Errorf("the claim is %s", state)
	}
	if said := f.stderr.String() + a.said.String() + w.operate(0, "audit", "export"); strings.Contains(said, link) {
		t.Error("the claim token was said")
	}
}

// TestChromiumShellAgainstAttended: without a seal, the same agent gets what the threat
// model says that it can: with a login and a first passkey of its own making it is a human.
// The record has the yes under the name that it chose, and four eyes hold for its owner's.
func TestChromiumShellAgainstAttended(t *testing.T) {
	b := chromium.New(t)
	w := kindWorld(t)
	f := w.serveHTTP("--tokens", w.tokensFile(), "--accept-terms", "--approval", "passkey", "--four-eyes")
	a := f.agent("http", w.token("bot", "--label", "job_id=j1", "--label", "owner=bob"))
	d := a.deploy(map[string]any{"files": says("x"), "name": "shop"})
	page := f.claimPage(a.call("request_claim", map[string]any{"session_id": d.SessionID}))
	b.Authenticator()
	f.enter(b, "bob", "--scope", "approve")
	f.addPasskey(b)
	b.Open(page)
	b.Press("button[value=approve]")
	b.Says("four eyes")
	b.Press("nav button")
	b.Says("Log in")
	f.enter(b, "mallory", "--scope", "approve", "--owner", "nobody")
	f.addPasskey(b)
	b.Open(page)
	b.Press("button[value=approve]")
	b.Says("Claim a sandbox account")
	if out := w.operate(0, "audit", "export", "--act", "claim"); !strings.Contains(out, `"by":"mallory"`) {
		t.Errorf("the record: %s", out)
	}
	if code, _ := w.get(page); code != http.StatusUnauthorized {
		t.Errorf("without a login: %d", code)
	}
}
