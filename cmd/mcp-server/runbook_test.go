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
	first := w.records("--session", d.SessionID)[0]
	fill := map[string]string{
		"$URL": d.URL, "$LABEL": "run_id=r-4711", "$PRINCIPAL": first.Principal, "$DIGEST": first.Digest, "$SESSION": d.SessionID,
		"$POLICY": filepath.Join(w.write("p.jsonc", classes), "p.jsonc"),
	}
	steps := runbook(t)
	if len(steps) < 18 {
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
		case "revoke --url":
			if code, body := w.get(d.URL); code == 200 {
				t.Errorf("after %s it serves %q", step, body)
			}
			if !strings.Contains(out, "deleted worker bad") {
				t.Errorf("%s: %s", step, out)
			}
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
