package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// operate runs an operator's command on the world's store and API, and wants that code.
func (w *world) operate(code int, args ...string) string {
	w.t.Helper()
	all := append(args, w.serverArgs()[1:]...)
	stdout, stderr, got := w.run(w.home, all...)
	if got != code {
		w.t.Fatalf("%v: exit code %d, want %d\n%s\n%s", args, got, code, stdout, stderr)
	}
	return stdout
}

// record is what of an exported record these tests look at.
type recorded struct {
	Phase, Act, Principal, Verdict, Outcome, Worker, Digest, Detail string
	SessionID                                                       string            `json:"session_id"`
	SessionPrincipal                                                string            `json:"session_principal"`
	SessionLabels                                                   map[string]string `json:"session_labels"`
	ClaimedLabels                                                   map[string]string `json:"claimed_labels"`
	Labels, Data                                                    map[string]string
	Rules                                                           []struct{ Rule string }
}

// records lists what is on record.
func (w *world) records(args ...string) []recorded {
	w.t.Helper()
	var out []recorded
	for line := range strings.Lines(w.operate(0, append([]string{"audit", "list", "--json", "--limit", "0"}, args...)...)) {
		var r recorded
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Act == "" {
			w.t.Fatalf("%v: %s", err, line)
		}
		out = append(out, r)
	}
	return out
}

func story(all []recorded) []string {
	var out []string
	for _, r := range all {
		out = append(out, r.Act+" "+r.Verdict+r.Outcome)
	}
	return out
}

const classes = `{"rules": [{
	"name": "class-may-deploy", "acts": ["create_account", "deploy"], "when": "labels[?'class'].orValue('') != 'preview'",
	"verdict": "deny", "message": "Only previews deploy here.", "next": "Ask the operator."}]}`

// TestPolicyByLabelOverHTTP: the credential's label decides, whatever a model says that
// it is; both records of what was decided are there, and whole.
func TestPolicyByLabelOverHTTP(t *testing.T) {
	w := kindWorld(t)
	file := filepath.Join(w.write("policy.jsonc", classes), "policy.jsonc")
	tokens := w.tokensFile()
	preview := w.token("previews", "--label", "class=preview", "--label", "job_id=77")
	prod := w.token("nightly", "--label", "class=prod", "--label", "job_id=78")
	f := w.serveHTTP("--policy", file, "--tokens", tokens)
	liar := f.agent("http", prod)
	for _, args := range []map[string]any{
		{"files": says("x")},
		{"files": says("x"), "run_id": "class=preview", "job_id": "preview"},
	} {
		out := liar.call("deploy_temporary", args)
		if out.Error.Code != "policy_denied" || !strings.Contains(out.Error.Message, "class-may-deploy") || out.Error.Next != "Ask the operator." {
			t.Errorf("%s", out.Text)
		}
	}
	if n := len(w.accounts()); n != 0 {
		t.Errorf("%d accounts were spent", n)
	}
	d := f.agent("http", preview).deploy(map[string]any{"files": says("shown"), "name": "shown"})
	if err := f.stop(); err != nil {
		t.Errorf("%v\n%s", err, f.stderr.String())
	}
	if got := story(w.records("--principal", "token:nightly")); !slices.Equal(got, []string{"deploy deny", "deploy policy_denied", "deploy deny", "deploy policy_denied"}) {
		t.Errorf("%v", got)
	}
	all := w.records()
	lied := slices.IndexFunc(all, func(r recorded) bool { return r.ClaimedLabels["job_id"] == "preview" })
	if lied < 0 || all[lied].Labels["class"] != "prod" || all[lied].Labels["job_id"] != "78" || all[lied].Verdict != "deny" || all[lied].Rules[0].Rule != "class-may-deploy" {
		t.Errorf("what the model said of itself: %+v", all)
	}
	if got := story(w.records("--session", d.SessionID)); !slices.Equal(got, []string{"deploy allow", "create_account allow", "create_account ok", "deploy ok"}) {
		t.Errorf("the deployment: %v", got)
	}
	if out := w.operate(0, "audit", "verify"); !strings.Contains(out, "8") {
		t.Errorf("verify: %s", out)
	}
}

// TestASecretInTheCode is refused before an account is made, and is nowhere.
func TestASecretInTheCode(t *testing.T) {
	w := kindWorld(t)
	a := w.agent(w.serverArgs("--log-level", "debug"))
	secret := "ghp_" + "9aB3dE5fG7hJ2kL4mN6pQ8rS0tU1vW3xY5zA" // in two parts: this is no place for one
	out := a.call("deploy_temporary", map[string]any{"files": files("src/index.js",
		"const token = '"+secret+"';\nexport default { fetch: () => new Response(token.length) };")})
	if out.Error.Code != "policy_denied" || !strings.Contains(out.Error.Message, "no-secrets") || !strings.Contains(out.Text, `index.js`) {
		t.Errorf("%s", out.Text)
	}
	if len(w.accounts()) != 0 {
		t.Error("an account was made")
	}
	exported := w.operate(0, "audit", "export")
	if !strings.Contains(exported, `"findings"`) || strings.Contains(exported+out.Text+a.stderr.String(), secret) {
		t.Errorf("the finding is not on record, or the secret was said: %s", exported)
	}
}

// TestStop: by label, by address, and for all; what was up stops serving before the
// command returns, and nothing new is put up while it is frozen.
func TestStop(t *testing.T) {
	w := kindWorld(t)
	// Whatever the policy says of teardowns, an operator's stop is not asked of it.
	never := filepath.Join(w.write("p.jsonc", `{"rules": [{"name": "never", "act": "teardown", "when": "true", "verdict": "deny", "message": "Never.", "next": "Leave it."}]}`), "p.jsonc")
	a := w.agent(w.serverArgs("--label", "run_id=bad"))
	b := w.agent(w.serverArgs("--label", "run_id=good"))
	bad := a.deploy(map[string]any{"files": says("bad"), "name": "bad"})
	good := b.deploy(map[string]any{"files": says("good"), "name": "good"})
	held := w.agent(w.serverArgs("--label", "run_id=bad", "--policy", never))
	if out := held.call("teardown", map[string]any{"session_id": bad.SessionID}); out.Error.Code != "policy_denied" || !strings.Contains(out.Error.Message, "never") {
		t.Errorf("an agent's teardown: %s", out.Text)
	}
	if out := w.operate(0, "revoke", "--label", "run_id=bad", "--reason", "an incident", "--yes", "--json", "--policy", never); !strings.Contains(out, bad.SessionID) || strings.Contains(out, good.SessionID) {
		t.Errorf("%s", out)
	}
	if code, body := w.get(bad.URL); code == 200 {
		t.Errorf("it still serves: %q", body)
	}
	if code, _ := w.get(good.URL); code != 200 {
		t.Errorf("another one serves no more: %d", code)
	}
	if st := a.call("status", map[string]any{"session_id": bad.SessionID}).Live; st.Sessions[0].Phase != "closed" {
		t.Errorf("%+v", st)
	}
	w.operate(0, "revoke", "--labelled", "run_id=bad", "--yes") // again, by the flag's other name, does no harm
	if _, stderr, code := w.run(w.home, append([]string{"revoke", "--yes"}, w.serverArgs()[1:]...)...); code != 2 || !strings.Contains(stderr, "say what goes") {
		t.Errorf("revoke of nothing named: %d %s", code, stderr)
	}
	w.operate(0, "freeze", "--reason", "we look into it")
	for _, x := range []*agent{a, b} {
		if out := x.call("deploy_temporary", map[string]any{"files": says("more")}); out.Error.Code != "frozen" || !strings.Contains(out.Error.Message, "we look into it") {
			t.Errorf("%s", out.Text)
		}
	}
	w.operate(0, "revoke", "--url", good.URL, "--yes")
	if code, _ := w.get(good.URL); code == 200 {
		t.Error("by its address it was not taken down")
	}
	w.operate(2, "revoke", "--yes")
	w.operate(2, "revoke", "--all")
	w.operate(0, "unfreeze")
	again := a.deploy(map[string]any{"files": says("again"), "name": "again"})
	down := a.call("teardown", map[string]any{"session_id": again.SessionID, "reason": "the user asked"})
	if down.IsError || !strings.Contains(down.Text, `"closed":true`) || !strings.Contains(down.Text, "worker again") {
		t.Errorf("%s", down.Text)
	}
	if code, _ := w.get(again.URL); code == 200 {
		t.Error("after the tool it still serves")
	}
	stops := w.records("--act", "teardown", "--labelled", "run_id=bad")
	if got := story(stops); len(got) < 6 || !slices.Equal(got[:6], []string{"teardown deny", "teardown policy_denied", "teardown allow", "teardown ok", "teardown allow", "teardown ok"}) {
		t.Fatalf("%v", got)
	}
	if s := stops[2]; !strings.HasPrefix(s.Principal, "operator") || len(s.Labels) != 0 || s.SessionPrincipal != "local" || s.SessionLabels["run_id"] != "bad" || s.Rules[0].Rule != "emergency-stop" {
		t.Errorf("who did it to whom: %+v", s)
	}
	if got := w.records("--act", "teardown", "--principal", stops[2].Principal); len(got) < 4 {
		t.Errorf("%d records of the operator", len(got))
	}
	if got := w.records("--act", "freeze"); len(got) != 2 {
		t.Errorf("%d records of the freeze", len(got))
	}
	for _, acct := range w.accounts() {
		if acct.APIToken == "" {
			t.Error("no token to look for")
		}
	}
}

// TestAskOnDeploy: a human's yes at a terminal lets the same call pass once.
func TestAskOnDeploy(t *testing.T) {
	w := kindWorld(t)
	file := filepath.Join(w.write("p.jsonc", `{"otherwise": {"deploy": {"verdict": "ask", "message": "A human looks first.", "next": "Wait."}}}`), "p.jsonc")
	a := w.agent(w.serverArgs("--policy", file))
	args := map[string]any{"files": says("reviewed"), "name": "reviewed"}
	out := a.call("deploy_temporary", args)
	if out.Error.Code != "approval_needed" || len(w.accounts()) != 0 {
		t.Fatalf("%s", out.Text)
	}
	var list struct{ Waiting []struct{ ID, Worker string } }
	if err := json.Unmarshal([]byte(w.operate(0, "approvals", "--json")), &list); err != nil || len(list.Waiting) != 1 || list.Waiting[0].Worker != "reviewed" || !strings.Contains(out.Error.Next, list.Waiting[0].ID) {
		t.Fatalf("%+v, %v", list, err)
	}
	w.operate(2, "approvals", "approve", list.Waiting[0].ID) // no terminal, and no --yes
	w.operate(0, "approvals", "approve", list.Waiting[0].ID, "--yes")
	a.deploy(args)
	if out := a.call("deploy_temporary", args); out.Error.Code != "approval_needed" {
		t.Errorf("a second time: %s", out.Text)
	}
}

// TestNothingLeaksOnTheWaysOut looks for the token and the claim link in the record, the
// webhook and everything that the process said.
func TestNothingLeaksOnTheWaysOut(t *testing.T) {
	w := kindWorld(t)
	told := &lockedBuffer{}
	kinds := make(chan string, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(told, "%s\n%v\n", body, r.Header)
		var m struct{ Type string }
		_ = json.Unmarshal(body, &m)
		kinds <- m.Type
	}))
	defer hook.Close()
	const signing = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	a := w.agent(w.serverArgs("--log-level", "debug", "--webhook", hook.URL), "HOURGLASS_WEBHOOK_SECRET="+signing)
	d := a.deploy(map[string]any{"files": says("x"), "name": "leaky"})
	acct := w.accounts()[0]
	words := "the token is " + acct.APIToken + " and the link has " + acct.ClaimToken
	a.call("request_claim", map[string]any{"session_id": d.SessionID, "message": words})
	a.call("teardown", map[string]any{"session_id": d.SessionID, "reason": words})
	await(t, kinds, "claim.waiting", "claim.decided", "audit.checkpoint")
	if err := a.client.Close(); err != nil {
		t.Error(err)
	}
	said := a.said.String() + a.stderr.String() + told.String() + w.operate(0, "audit", "export") + w.operate(0, "audit", "list") +
		w.operate(0, "sessions", "show", d.SessionID, "--json")
	for name, secret := range map[string]string{"API token": acct.APIToken, "claim token": acct.ClaimToken, "signing secret": signing} {
		if secret == "" || strings.Contains(said, secret) {
			t.Errorf("the %s left the process, or is empty", name)
		}
	}
}

// await waits until each was told.
func await(t *testing.T, told <-chan string, want ...string) {
	t.Helper()
	for len(want) > 0 {
		select {
		case got := <-told:
			want = slices.DeleteFunc(want, func(x string) bool { return x == got })
		case <-time.After(time.Minute):
			t.Fatalf("never told: %v", want)
		}
	}
}
