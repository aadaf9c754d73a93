package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// runbook are the commands of docs/runbook.md, in their order.
func runbook(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		out = append(out, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	return out
}

// shellWords splits a command line as a shell does, as far as the runbook needs it.
func shellWords(line string) (out []string) {
	for _, w := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(line, -1) {
		out = append(out, strings.Trim(w, `"`))
	}
	return out
}

// TestRunbook goes by the runbook: each command does what the page says, on a Worker that
// is up.
func TestRunbook(t *testing.T) {
	w := kindWorld(t)
	a := w.agent(w.serverArgs("--label", "run_id=r-4711"))
	d := a.deploy(map[string]any{"files": says("bad"), "name": "bad"})
	other := a.deploy(map[string]any{"files": says("beside it"), "name": "beside"})
	first := w.records("--session", d.SessionID)[0]
	bearer, earlier, kept := w.token("bot", "--label", "job_id=7"), w.copyOfState(), filepath.Join(w.home, "server.log")
	office := w.serveHTTP("--accept-terms")
	if code, _ := office.ask(t, "/mcp", bearer); code == http.StatusUnauthorized {
		t.Error("the token is good for nothing before it is revoked")
	}
	fill := map[string]string{
		"$TOKEN": "bot", "$DEPLOYMENT": other.DeploymentID, "$SERVER_LOG": kept,
		"$URL": d.URL, "$LABEL": "run_id=r-4711", "$PRINCIPAL": first.Principal, "$DIGEST": first.Digest, "$SESSION": d.SessionID,
		"$POLICY": filepath.Join(w.write("p.jsonc", classes), "p.jsonc"),
	}
	steps := runbook(t)
	if len(steps) < 23 {
		t.Fatalf("%d commands in the runbook", len(steps))
	}
	for _, step := range steps {
		args := shellWords(step)
		if args[0] != "mcp-server" {
			t.Fatalf("not a command of ours: %s", step)
		}
		for i, x := range args {
			if strings.HasPrefix(x, "$") {
				if args[i] = fill[x]; args[i] == "" {
					t.Fatalf("%s: nothing to fill in for %s", step, x)
				}
			}
		}
		if slices.Contains(args, kept) {
			a.keepLog(kept)
		}
		out := w.operate(0, args[1:]...)
		switch args[1] + " " + args[2%len(args)] {
		case "audit list", "sessions list":
			if !strings.Contains(out, d.SessionID) {
				t.Errorf("%s does not find the session: %s", step, out)
			}
		case "sessions show":
			if !strings.Contains(out, "bad") {
				t.Errorf("%s: %s", step, out)
			}
		case "freeze --reason":
			if got := a.call("deploy_temporary", map[string]any{"files": says("more")}); got.Error.Code != "frozen" || !strings.Contains(got.Error.Message, "4711") {
				t.Errorf("after %s: %s", step, got.Text)
			}
			if code, _ := w.get(d.URL); code != 200 {
				t.Errorf("a freeze took it down: %d", code)
			}
		case "revoke --deployment":
			if code, _ := w.get(other.URL); code == 200 || !strings.Contains(out, "deleted worker beside") {
				t.Errorf("after %s it answers %d: %s", step, code, out)
			}
			if code, _ := w.get(d.URL); code != 200 {
				t.Errorf("after %s another Worker answers %d", step, code)
			}
		case "revoke --url":
			if code, body := w.get(d.URL); code == 200 {
				t.Errorf("after %s it serves %q", step, body)
			}
			if !strings.Contains(out, "deleted worker bad") {
				t.Errorf("%s: %s", step, out)
			}
		case "tokens revoke":
			if code, _ := office.ask(t, "/mcp", bearer); code != http.StatusUnauthorized {
				t.Errorf("after %s: %d", step, code)
			}
		case "tokens list":
			if !strings.Contains(out, "  bot  ") {
				t.Errorf("%s: %s", step, out)
			}
		case "audit verify":
			if !strings.Contains(out, "The record is whole") || slices.Contains(args, kept) == strings.Contains(out, " 0 from outside") {
				t.Errorf("%s: %s", step, out)
			}
			w.verifyTruncated(earlier, kept)
		case "audit key":
			fill["$KEY"] = strings.TrimSpace(out)
		case "audit export":
			if raw, err := os.ReadFile(filepath.Join(w.home, "incident.jsonl")); err != nil || !strings.Contains(string(raw), "incident 4711") {
				t.Errorf("%s: %v %s", step, err, raw)
			}
		case "unfreeze mcp-server":
			a.deploy(map[string]any{"files": says("good"), "name": "good"})
		}
	}
	// An account at hand: the Worker itself says whose it is.
	var tags []string
	for _, acct := range w.accounts() {
		tags = append(tags, w.tagsOf(acct, "good")...)
	}
	if !slices.Contains(tags, "run_id=r-4711") || !slices.ContainsFunc(tags, func(x string) bool { return strings.HasPrefix(x, "session=s_") }) {
		t.Errorf("the Worker's tags: %q", tags)
	}
}

// copyOfState is the state folder as it is now: later, a store whose end was cut off
// together with its checkpoints.
func (w *world) copyOfState() string {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "state")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(w.home, "state"))); err != nil {
		w.t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() { // keys that others can read are refused
			if err := os.Chmod(f, 0o600); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return dir
}

// keepLog keeps the server's log, as its operator does, once the checkpoint of what it
// recorded last has come.
func (a *agent) keepLog(path string) {
	a.t.Helper()
	for until := time.Now().Add(time.Minute); strings.Count(a.stderr.String(), `"checkpoint"`) < 7; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(until) {
			a.t.Fatalf("no checkpoint in the log: %s", a.stderr.String())
		}
	}
	if err := os.WriteFile(path, []byte(a.stderr.String()), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// verifyTruncated wants a store that was cut off to be whole in itself, and not against
// the kept log, where there is one already.
func (w *world) verifyTruncated(state, kept string) {
	w.t.Helper()
	if out, errs, code := w.run(w.home, "audit", "verify", "--state-dir", state); code != 0 {
		w.t.Errorf("in itself: %d %s %s", code, out, errs)
	}
	if _, err := os.Stat(kept); err != nil {
		return
	}
	if out, errs, code := w.run(w.home, "audit", "verify", "--checkpoint", kept, "--state-dir", state); code != 1 || !strings.Contains(out, "truncated") || !strings.Contains(out, "NOT WHOLE") {
		w.t.Errorf("against the kept log: %d %s %s", code, out, errs)
	}
}

// tagsOf asks the API for a Worker's tags, as whoever holds the account can.
func (w *world) tagsOf(acct account, worker string) []string {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.API+"/accounts/"+acct.ID+"/workers/scripts/"+worker+"/script-settings", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+acct.APIToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	var in struct{ Result struct{ Tags []string } }
	if err := json.NewDecoder(resp.Body).Decode(&in); err != nil {
		w.t.Fatal(err)
	}
	return in.Result.Tags
}
