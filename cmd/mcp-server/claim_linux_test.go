package main_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

const phrase = "correct horse battery staple"

// TestSealedClaim: a human makes a key in their own terminal; a server deploys with its
// public half; from then on nothing that the server has opens the claim link, and the
// human does, from the session and from a file of a CI run.
func TestSealedClaim(t *testing.T) {
	w := newWorld(t)
	public := w.makeClaimKey(t)
	project := w.write("site/index.js", "export default { fetch: () => new Response('kept'), scheduled() {} };",
		"site/wrangler.jsonc", `{"name": "kept", "main": "index.js", "compatibility_date": "2026-01-01",
			"kv_namespaces": [{"binding": "NOTES"}], "triggers": {"crons": ["0 3 * * *"]}}`)
	file := filepath.Join(w.home, "claim.json")
	args := []string{"--api-base-url", w.API, "--edge-url", w.Edge, "--state-dir", filepath.Join(w.home, "state"), "--claim-recipient", public}
	stdout, stderr, code := w.run(project, append([]string{"deploy", filepath.Join(project, "site"), "--json", "--name", "kept", "--run-id", "run\x1b[2J7", "--claim-out", file}, args...)...)
	if code != 0 {
		t.Fatalf("%d %s %s", code, stdout, stderr)
	}
	var res struct {
		SessionID string `json:"session_id"`
	}
	if err := json.Unmarshal([]byte(stdout), &res); err != nil {
		t.Fatal(err)
	}
	token := w.accounts()[0].ClaimToken
	w.nowhere(t, "local", token)
	if strings.Contains(stdout+stderr, token) {
		t.Error("the claim token left the process")
	}

	// An agent that asks is sent to the human, and told no address.
	a := w.agent(append([]string{"stdio"}, args...))
	out := a.call("request_claim", map[string]any{"session_id": res.SessionID})
	short := deploy.SealedTo([]string{public})
	if !strings.Contains(out.Text, `"custody":"`+short+`"`) {
		t.Errorf("it does not say to whom the link is sealed: %s", out.Text)
	}
	if out.IsError || out.Live.Claim != "awaiting_human" || !strings.Contains(out.Text, "mcp-server claim "+res.SessionID) || strings.Contains(out.Text, "://") {
		t.Errorf("%s", out.Text)
	}

	// Not to a pipe, and not without a person.
	for _, what := range []string{res.SessionID, file} {
		_, stderr, code := w.run(w.home, append([]string{"claim", what}, args...)...)
		if code != 2 || !strings.Contains(stderr, "terminal") {
			t.Errorf("%d %s", code, stderr)
		}
	}
	for name, c := range map[string]struct {
		env  []string
		args []string
	}{
		"the session, over SSH": {[]string{"SSH_CONNECTION=192.0.2.1 1 192.0.2.2 22"}, append([]string{"claim", res.SessionID}, args...)},
		"the newest session":    {nil, append([]string{"claim", "--qr"}, args...)},
		"the file, elsewhere":   {nil, []string{"claim", file, "--qr", "--state-dir", filepath.Join(w.home, "none")}},
	} {
		t.Run(name, func(t *testing.T) {
			term := w.openTerminal(t, c.env, c.args...)
			term.answer("Keep all of this", "yes")
			term.answer("Passphrase of", phrase)
			text, code := term.end()
			if code != 0 || !strings.Contains(text, "claimToken="+token) || !strings.Contains(text, "▀") {
				t.Errorf("%d %s", code, text)
			}
			before, _, _ := strings.Cut(text, "Keep all of this")
			for _, want := range []string{"kept", "digest", "minutes (until", "asked for by", "run·[2J7", "answered 200, as wanted", "index.js", short, "KV namespace", "kept-notes", "Cron trigger", "0 3 * * *", "revoke what you did not make"} {
				if !strings.Contains(before, want) {
					t.Errorf("%q is not shown before the question:\n%s", want, before)
				}
			}
			if strings.Contains(text, phrase) || strings.Contains(before, token) || strings.Contains(before, "\x1b") {
				t.Errorf("it shows too much:\n%q", text)
			}
		})
	}
	// The yes stands, is on record as a human's, and the agent can't change anything any more.
	if st := a.call("status", map[string]any{"session_id": res.SessionID}).Live; st.Sessions[0].Claim != "opened" || st.Sessions[0].Phase != "closed" {
		t.Errorf("status: %+v", st)
	}
	list, stderr, code := w.run(w.home, append([]string{"audit", "list", "--json", "--act", "claim"}, args...)...)
	if code != 0 || !strings.Contains(list, `"to":"approved"`) || !strings.Contains(list, `"channel":"sealed"`) || !strings.Contains(list, `"to":"opened"`) {
		t.Errorf("%d %s %s", code, list, stderr)
	}
	if !strings.Contains(list, `"custody":"`+short+`"`) {
		t.Errorf("the record does not say to whom it is sealed: %s", list)
	}
	w.claimRefusals(t, file, res.SessionID, args)
	w.sayAdopted(t, res.SessionID, args)
	if _, err := os.Stat(filepath.Join(w.home, "none")); err == nil {
		t.Error("opening a file made a state folder")
	}
}

// sayAdopted: the human's word at a terminal ends the claim's story; nobody else's does.
func (w *world) sayAdopted(t *testing.T, id string, args []string) {
	t.Helper()
	if _, stderr, code := w.run(w.home, append([]string{"claim", id, "--adopted"}, args...)...); code != 2 || !strings.Contains(stderr, "terminal") {
		t.Errorf("without a terminal: %d %s", code, stderr)
	}
	term := w.openTerminal(t, nil, append([]string{"claim", id, "--adopted"}, args...)...)
	term.answer("in your dashboard?", "yes")
	if text, code := term.end(); code != 0 || !strings.Contains(text, "Noted.") {
		t.Errorf("%d %s", code, text)
	}
	out, stderr, code := w.run(w.home, append([]string{"sessions", "show", id, "--json"}, args...)...)
	for _, want := range []string{`"state":"adopted"`, "a human says that the account is in their dashboard", "at a terminal", `"channel":"sealed"`} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("the session does not say %s: %d %s %s", want, code, out, stderr)
		}
	}
}

// makeClaimKey is claim-key new, by a person.
func (w *world) makeClaimKey(t *testing.T) string {
	t.Helper()
	if _, stderr, code := w.run(w.home, "claim-key", "new"); code != 2 || !strings.Contains(stderr, "terminal") {
		t.Errorf("without a terminal: %d %s", code, stderr)
	}
	term := w.openTerminal(t, nil, "claim-key", "new")
	term.answer("A new passphrase", phrase)
	term.answer("The same once more", phrase+"?")
	if text, code := term.end(); code == 0 || !strings.Contains(text, "nothing was written") || strings.Contains(text, phrase) {
		t.Errorf("two that differ: %d %s", code, text)
	}
	term = w.openTerminal(t, nil, "claim-key", "new")
	term.answer("A new passphrase", phrase)
	term.answer("The same once more", phrase)
	text, code := term.end()
	if code != 0 || strings.Contains(text, phrase) {
		t.Fatalf("%d %s", code, text)
	}
	public, _, code := w.run(w.home, "claim-key", "show")
	if public = strings.TrimSpace(public); code != 0 || !strings.HasPrefix(public, "age1") || !strings.Contains(text, public) {
		t.Fatalf("%d %q", code, public)
	}
	info, err := os.Stat(filepath.Join(w.home, ".config", "hourglass", "claim.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if text, code := w.openTerminal(t, nil, "claim-key", "new").end(); code != 2 || !strings.Contains(text, "is there already") {
		t.Errorf("over another key: %d %s", code, text)
	}
	return public
}

// TestSetupMakesAClaimKey: setup makes the key with the person at the keyboard, and the
// client starts the server with its public half.
func TestSetupMakesAClaimKey(t *testing.T) {
	w := &world{t: t, home: t.TempDir(), cache: t.TempDir()}
	project := w.write("site/index.js", "export default {};")
	term := w.openTerminal(t, nil, "setup", "--state-dir", filepath.Join(w.home, "state"))
	term.answer("Do you accept both", "yes")
	term.answer("Which folder", project)
	term.answer("Make such a key", "yes")
	term.answer("A new passphrase", phrase)
	term.answer("The same once more", phrase)
	term.answer("Claude Code", "no")
	term.answer("Claude Desktop", "yes")
	term.answer("Cursor", "no")
	term.answer("VS Code", "no")
	if text, code := term.end(); code != 0 || strings.Contains(text, phrase) {
		t.Fatalf("%d %s", code, text)
	}
	public, err := os.ReadFile(filepath.Join(w.home, ".config", "hourglass", "claim.key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(w.home, ".config", "Claude", "claude_desktop_config.json"))
	if err != nil || !strings.Contains(string(b), strings.TrimSpace(string(public))) || !strings.Contains(string(b), "--claim-recipient") {
		t.Errorf("%s %v", b, err)
	}
}

// nowhere: no file under the home holds the token, and what the store keeps in the
// link's place is sealed to the human, under the store's own key.
func (w *world) nowhere(t *testing.T, principal, token string) {
	t.Helper()
	err := filepath.WalkDir(w.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte(token)) {
			t.Errorf("the claim token is in %s", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	store, err := session.Open(t.Context(), session.Config{Dir: filepath.Join(w.home, "state")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	sessions, err := store.Sessions(t.Context(), principal, 5)
	if err != nil || len(sessions) != 1 {
		t.Fatalf("%v %v", sessions, err)
	}
	accounts, err := store.Accounts(t.Context(), sessions[0].ID)
	if err != nil || len(accounts) != 1 || !deploy.SealedClaim(accounts[0].ClaimURL) || strings.Contains(accounts[0].ClaimURL.Reveal(), token) {
		t.Errorf("the store's key opens the claim link: %v %v", accounts, err)
	}
}

// claimRefusals: a no opens nothing; nor do the wrong passphrase, a link that leads
// elsewhere, one that is another account's, a time that is over.
func (w *world) claimRefusals(t *testing.T, file, sessionID string, args []string) {
	t.Helper()
	term := w.openTerminal(t, nil, append([]string{"claim", sessionID}, args...)...)
	term.answer("Keep all of this", "no")
	if text, code := term.end(); code != 0 || strings.Contains(text, "claimToken") || strings.Contains(text, "Passphrase") {
		t.Errorf("a no: %d %s", code, text)
	}
	term = w.openTerminal(t, nil, "claim", file, "--qr")
	term.answer("Keep all of this", "yes")
	term.answer("Passphrase of", "incorrect horse")
	if text, code := term.end(); code == 0 || strings.Contains(text, "claimToken") || !strings.Contains(text, "does not open this key") {
		t.Errorf("the wrong passphrase: %d %s", code, text)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	good, err := deploy.ParseClaimFile(b)
	if err != nil {
		t.Fatal(err)
	}
	to, err := session.ParseRecipients([]string{args[len(args)-1]})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(f *deploy.ClaimFile)
		want   string
	}{
		"another account's": {func(f *deploy.ClaimFile) { f.AccountID = "another" }, "belongs to another account"},
		"another session's": {func(f *deploy.ClaimFile) { f.SessionID = "another" }, "belongs to another account"},
		"one that leads elsewhere": {func(f *deploy.ClaimFile) {
			sealed, err := to.SealClaim(deploy.ClaimLink{URL: "https://dash.cloudflare.com.example/claim-preview?claimToken=x", AccountID: f.AccountID, SessionID: f.SessionID})
			if err != nil {
				t.Fatal(err)
			}
			f.Sealed = sealed.Reveal()
		}, "does not lead to Cloudflare"},
		"one that is over": {func(f *deploy.ClaimFile) { f.ExpiresAt = f.ExpiresAt.AddDate(0, 0, -1) }, "hour is over"},
	} {
		f := *good
		c.change(&f)
		changed, err := f.Encode()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(w.home, "changed.json")
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		term := w.openTerminal(t, nil, "claim", path, "--qr")
		if name != "one that is over" {
			term.answer("Keep all of this", "yes")
			term.answer("Passphrase of", phrase)
		}
		if text, code := term.end(); code == 0 || strings.Contains(text, "claimToken") || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
}
