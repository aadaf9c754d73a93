//go:build unix

package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/peertest/chromium"
)

// dayAfter is the program on another day: a build whose clock is ahead, on the world's
// store, with the sandbox's clock moved as far.
type dayAfter struct {
	*world
	program string
	ahead   time.Duration
}

// buildAhead builds the program whose clock HOURGLASS_AHEAD moves.
func buildAhead(t *testing.T, w *world) *dayAfter {
	t.Helper()
	d := &dayAfter{world: w, program: filepath.Join(t.TempDir(), "mcp-server-ahead")}
	build := exec.Command("go", "build", "-tags", "ahead", "-o", d.program, ".") //nolint:gosec // our own program
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return d
}

// pass lets that much time pass, for the program and the API.
func (d *dayAfter) pass(by time.Duration) {
	d.t.Helper()
	d.ahead += by
	d.extra = []string{"HOURGLASS_AHEAD=" + d.ahead.String()}
	d.manage(http.MethodPost, "/clock", fmt.Sprintf(`{"advance_seconds":%d}`, int(by.Seconds())), nil)
}

// operate runs a command on that day, and wants success.
func (d *dayAfter) operate(args ...string) string {
	d.t.Helper()
	cmd := exec.Command(d.program, append(args, d.serverArgs()[1:]...)...) //nolint:gosec // our own program
	cmd.Env, cmd.Dir = d.cleanEnv(d.extra...), d.home
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("%v: %v\n%s%s", args, err, out, errs.String())
	}
	return string(out)
}

// chapter is what of an exported record the story is told by.
type chapter struct {
	At                                                            time.Time
	Phase, Act, Principal, Verdict, Outcome, Worker, Detail, Door string
	SessionID                                                     string            `json:"session_id"`
	ClaimID                                                       string            `json:"claim_id"`
	ClaimedLabels                                                 map[string]string `json:"claimed_labels"`
	Labels, Data                                                  map[string]string
	Rules                                                         []struct{ Rule, Message string }
}

// line is a record in one line, as the story wants it: who tried what, and what came of it.
func (c *chapter) line() string {
	switch {
	case c.Phase == "decision" && c.Act == "claim":
		return strings.TrimSpace(fmt.Sprintf("%s: claim %s by %s %s", c.Principal, c.Data["to"], c.Data["by"], c.Data["channel"]))
	case c.Phase == "notice":
		return fmt.Sprintf("%s: %s", c.Principal, c.Act)
	case c.Phase == "decision" && len(c.Rules) > 0 && c.Verdict == "deny":
		return fmt.Sprintf("%s: %s %s by %s", c.Principal, c.Act, c.Verdict, c.Rules[0].Rule)
	}
	return fmt.Sprintf("%s: %s %s", c.Principal, c.Act, c.Verdict+c.Outcome)
}

func chapters(t *testing.T, export string) (all []chapter, lines []string) {
	t.Helper()
	for text := range strings.Lines(export) {
		var c chapter
		if err := json.Unmarshal([]byte(text), &c); err != nil || c.Act == "" || c.At.IsZero() {
			t.Fatalf("%v: %s", err, text)
		}
		all, lines = append(all, c), append(lines, c.line())
	}
	return all, lines
}

// scenario is the people and agents of TestChromiumScenario.
type scenario struct {
	*testing.T
	w                   *world
	office              *office
	b                   *chromium.Tab
	preview, prod, liar string // credentials
	session, page       string
	hosts               map[string]string // by Worker
}

// TestChromiumScenario is the whole promise in one run: what an operator allows is done,
// what they do not is refused in their words, whoever lies gains nothing, a human other
// than the agent's owner decides by a touch, the account becomes theirs, and a week later
// the record tells all of it.
func TestChromiumScenario(t *testing.T) {
	b := chromium.New(t)
	w := kindWorld(t)
	rules, err := filepath.Abs("../../examples/policies/classes-of-jobs.jsonc")
	if err != nil {
		t.Fatal(err)
	}
	s := &scenario{T: t, w: w, b: b, hosts: map[string]string{}}
	s.preview = w.token("previews", "--label", "class=preview", "--label", "owner=bob", "--label", "job_id=pr-7")
	s.prod = w.token("nightly", "--label", "class=prod", "--label", "owner=eve", "--label", "job_id=n-1")
	s.liar = w.token("liar", "--label", "class=prod", "--label", "owner=eve", "--label", "job_id=n-2")
	flags := []string{"--policy", rules, "--accept-terms", "--approval", "passkey", "--four-eyes"}
	s.office = w.serveHTTP(flags...)
	b.Authenticator()

	s.agents()
	s.humans()
	said := s.office.stderr.String()
	if err := s.office.stop(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	if out := w.operate(0, "audit", "verify"); !strings.Contains(out, "whole") {
		t.Errorf("the record: %s", out)
	}
	kept := filepath.Join(t.TempDir(), "server.log") // as who keeps the log elsewhere has it
	if err := os.WriteFile(kept, []byte(said), 0o600); err != nil {
		t.Fatal(err)
	}

	later := buildAhead(t, w)
	later.pass(67 * time.Minute)
	s.afterTheHour(later, flags)
	later.pass(8 * 24 * time.Hour)
	s.aWeekLater(later, kept)
}

// agents try their luck: one may, one may not, one lies; then a human is asked.
func (s *scenario) agents() {
	s.Helper()
	for _, c := range []struct {
		token string
		args  map[string]any
	}{
		{s.prod, map[string]any{"files": says("prod"), "name": "shop"}},
		{s.liar, map[string]any{"files": says("lie"), "name": "shop", "run_id": "class=preview", "job_id": "preview"}},
	} {
		out := s.office.agent("http", c.token).call("deploy_temporary", c.args)
		if out.Error.Code != "policy_denied" || !strings.Contains(out.Error.Message, "class-may-use-accounts") ||
			!strings.Contains(out.Error.Message, "Only jobs of the classes preview, demo and ci may use temporary accounts.") ||
			!strings.HasPrefix(out.Error.Next, "Tell the user: this job's class is set by the operator") {
			s.Errorf("%s", out.Text)
		}
	}
	if out := s.office.agent("http", s.liar).call("deploy_temporary", map[string]any{"files": says("lie"), "labels": map[string]any{"class": "preview"}}); out.Error.Code != "unknown_argument" {
		s.Errorf("labels by an argument: %s", out.Text)
	}
	if n := len(s.w.accounts()); n != 0 {
		s.Fatalf("%d accounts were spent", n)
	}
	a := s.office.agent("http", s.preview)
	d := a.deploy(map[string]any{"files": says("the shop"), "name": "shop"})
	s.session = d.SessionID
	if out := s.office.agent("http", s.liar).call("request_claim", map[string]any{"session_id": d.SessionID}); out.Error.Code != "session_not_found" {
		s.Errorf("another's session: %s", out.Text)
	}
	asked := a.call("request_claim", map[string]any{"session_id": d.SessionID, "message": "It works. Please keep it."})
	s.page = s.office.claimPage(asked)
	for _, args := range []map[string]any{{"session_id": d.SessionID}, {"fresh": true}, {}} {
		args["files"], args["name"] = says("another"), "shop"
		if out := a.call("deploy_temporary", args); out.Error.Code != "claim_pending" {
			s.Errorf("while a human is asked: %s", out.Text)
		}
	}
}

// humans decide: the agent's owner can't, somebody else does, with a touch for exactly this.
func (s *scenario) humans() {
	s.Helper()
	s.office.enter(s.b, "bob", "--scope", "approve") // whose agent it is
	s.office.addPasskey(s.b)
	s.b.Open(s.page)
	s.b.Says("Keep this temporary account?")
	s.b.Press("button[value=approve]")
	s.b.Says("four eyes")
	s.b.Press("nav button")
	s.b.Says("Log in")

	s.office.enter(s.b, "ann", "--scope", "approve", "--scope", "operate")
	s.b.Open(s.page)
	s.b.Press("button[value=approve]") // no passkey, no yes
	s.b.Says("Add a passkey first.")
	s.office.addPasskey(s.b)
	a := s.office.agent("http", s.preview)
	if claim := s.claim(a); claim != "awaiting_human" {
		s.Fatalf("the claim is %s", claim)
	}
	s.b.Open(s.page)
	s.b.Says("It works. Please keep it.")
	s.b.Press("button[value=approve]")
	s.b.Says("Claim a sandbox account") // where Cloudflare's page would be
	if claim := s.claim(a); claim != "opened" {
		s.Errorf("the claim is %s", claim)
	}
	s.b.Press("form button")
	s.b.Says("It is claimed.")
	if acct := s.w.accounts(); len(acct) != 1 || !acct[0].Claimed {
		s.Errorf("%d accounts", len(acct))
	}
	if out := a.call("deploy_temporary", map[string]any{"files": says("too late"), "session_id": s.session}); out.Error.Code != "session_closed" {
		s.Errorf("after the yes: %s", out.Text)
	}
	// The agent goes on with something that nobody keeps.
	a.deploy(map[string]any{"files": says("a draft"), "name": "draft", "run_id": "r2"})
	var up []struct{ Name, Host string }
	s.w.manage(http.MethodGet, "/workers", "", &up)
	for _, one := range up {
		s.hosts[one.Name] = one.Host
	}
}

// claim is what the agent is told of it.
func (s *scenario) claim(a *agent) string {
	s.Helper()
	return a.claimOf(s.session)
}

// afterTheHour another server finds out what can be known, and the human says it.
func (s *scenario) afterTheHour(d *dayAfter, flags []string) {
	s.Helper()
	s.office = d.serveBy(d.program, flags...)
	a := s.office.agent("http", s.preview)
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if claim := s.claim(a); claim == "probably_adopted" {
			break
		} else if time.Now().After(deadline) {
			s.Fatalf("an hour later the claim is %s\n%s", claim, s.office.stderr.String())
		}
	}
	s.onlyTheKept()
	s.office.enter(s.b, "ann", "--scope", "approve", "--scope", "operate")
	s.b.Open(s.office.consoleURL + s.page[strings.Index(s.page, "/claims/"):])
	s.b.Says("probably_adopted")
	s.b.Press("button[value=finished]")
	s.b.Says("a human says that the account is in their dashboard")
	s.b.Open(s.office.consoleURL + "/record?act=claim")
	s.b.Says("to=adopted")
	if err := s.office.stop(); err != nil {
		s.Errorf("%v\n%s", err, s.office.stderr.String())
	}
}

// onlyTheKept wants what was claimed to serve, and what was not to be gone.
func (s *scenario) onlyTheKept() {
	s.Helper()
	for name, want := range map[string]string{"shop": "200 the shop", "draft": "410 "} {
		if got := s.w.byHost(s.hosts[name], "/"); !strings.HasPrefix(got, want) {
			s.Errorf("%s at %q answers %s", name, s.hosts[name], got)
		}
	}
}

// aWeekLater nothing is left to act on, and the record tells the whole story.
func (s *scenario) aWeekLater(d *dayAfter, kept string) {
	s.Helper()
	s.onlyTheKept()
	if out := d.operate("audit", "prune"); !strings.Contains(out, "0 records") {
		s.Errorf("a year is not over: %s", out)
	}
	if out := d.operate("audit", "verify", "--checkpoint", kept); !strings.Contains(out, "whole") {
		s.Errorf("against the log that was kept elsewhere: %s", out)
	}
	var list struct{ Sessions []listed }
	if err := json.Unmarshal([]byte(d.operate("sessions", "list", "--json")), &list); err != nil || len(list.Sessions) == 0 {
		s.Fatalf("%v %+v", err, list)
	}
	for _, one := range list.Sessions {
		if one.MinutesLeft != 0 || one.Phase == "live" {
			s.Errorf("it is still there: %+v", one)
		}
		var shown listed
		if err := json.Unmarshal([]byte(d.operate("sessions", "show", one.SessionID, "--json")), &shown); err != nil {
			s.Fatal(err)
		}
		for _, acct := range shown.Accounts {
			if acct.Secrets {
				s.Errorf("secrets of an account that is over are kept: %+v", shown)
			}
		}
	}
	export := d.operate("audit", "export", "--since", "30d")
	if newer := d.operate("audit", "export", "--since", "7d"); strings.TrimSpace(newer) != "" {
		s.Errorf("it was all more than seven days ago: %s", newer)
	}
	s.tells(export)
	for _, acct := range s.w.accounts() {
		for name, secret := range map[string]string{"API token": acct.APIToken, "claim token": acct.ClaimToken} {
			if secret == "" || strings.Contains(export, secret) {
				s.Errorf("the %s is in the export, or is empty", name)
			}
		}
	}
}

// tells holds the export to the story, step by step.
func (s *scenario) tells(export string) {
	s.Helper()
	all, lines := chapters(s.T, export)
	next := 0
	for _, want := range []string{
		"token:nightly: deploy deny by class-may-use-accounts", "token:nightly: deploy policy_denied",
		"token:liar: deploy deny by class-may-use-accounts", "token:liar: deploy policy_denied",
		"token:previews: deploy allow", "token:previews: create_account allow", "token:previews: create_account ok", "token:previews: deploy ok",
		"token:previews: request_claim ask", "token:previews: request_claim ok",
		"token:previews: deploy deny by claim", "token:previews: deploy claim_pending",
		"token:previews: claim approved by ann passkey", "token:previews: claim ok", "token:previews: claim opened by ann", "token:previews: claim ok",
		"token:previews: deploy deny by claim", "token:previews: deploy session_closed",
		"token:previews: create_account ok", "token:previews: deploy ok",
		"token:previews: claim probably_adopted by", "token:previews: claim adopted by ann console",
	} {
		i := slices.Index(lines[next:], want)
		if i < 0 {
			s.Fatalf("the export does not go on with %q\n%s", want, strings.Join(lines, "\n"))
		}
		next += i + 1
	}
	if !slices.Contains(lines, "token:previews: expired") {
		s.Errorf("the end of what nobody kept is not told:\n%s", strings.Join(lines, "\n"))
	}
	for _, c := range all {
		if c.Principal == "token:liar" && (c.Labels["class"] != "prod" || c.ClaimedLabels["job_id"] != "preview" || c.ClaimedLabels["run_id"] != "class=preview") {
			s.Errorf("the lie and the truth: %+v", c)
		}
		if c.Act == "claim" && (c.SessionID != s.session || c.ClaimID == "" || c.Labels["owner"] != "bob" || c.Data["by"] == "bob") {
			s.Errorf("who asked and who decided: %+v", c)
		}
		if c.Data["to"] == "probably_adopted" && (!strings.Contains(c.Detail, "answered HTTP 200") || !strings.Contains(c.Detail, "confidence: medium")) {
			s.Errorf("how it is known: %s", c.Detail)
		}
	}
}
