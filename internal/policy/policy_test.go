package policy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/policy"
)

func mustNew(t testing.TB, source string) *policy.Policy {
	t.Helper()
	cfg := policy.Config{Name: "p.jsonc"}
	if source != "" {
		cfg.Source = []byte(source)
	}
	p, err := policy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// one is a policy with one rule of that condition, which asks.
func one(when string) string {
	quoted, _ := json.Marshal(when)
	return fmt.Sprintf(`{"rules": [{"name": "r", "act": "deploy", "when": %s, "verdict": "ask", "message": "m", "next": "n"}]}`, quoted)
}

func rules(d deploy.Decision) []string {
	var out []string
	for _, r := range d.Reasons {
		out = append(out, r.Rule)
	}
	return out
}

// TestDefault: deploying is allowed, keeping asked, secrets denied, and HTTP names its job.
func TestDefault(t *testing.T) {
	p := mustNew(t, "")
	found := []deploy.Finding{{Kind: "github-token", File: "a.js", Line: 1, Fingerprint: "f_1"}}
	for _, c := range []struct {
		act   deploy.Act
		facts deploy.Facts
		want  deploy.Verdict
		rules []string
	}{
		{deploy.ActCreateAccount, deploy.Facts{Door: "stdio"}, deploy.Allow, []string{"otherwise"}},
		{deploy.ActDeploy, deploy.Facts{Door: "stdio"}, deploy.Allow, []string{"otherwise"}},
		{deploy.ActTeardown, deploy.Facts{Door: "http"}, deploy.Allow, []string{"otherwise"}},
		{deploy.ActRequestClaim, deploy.Facts{Door: "stdio"}, deploy.Ask, []string{"otherwise"}},
		{deploy.ActDeploy, deploy.Facts{Door: "stdio", Findings: found}, deploy.Deny, []string{"no-secrets"}},
		{deploy.ActCreateAccount, deploy.Facts{Door: "stdio", Findings: found}, deploy.Deny, []string{"no-secrets"}},
		{deploy.ActTeardown, deploy.Facts{Findings: found}, deploy.Allow, []string{"otherwise"}},
		{deploy.ActDeploy, deploy.Facts{Door: "http"}, deploy.Deny, []string{"http-names-its-job"}},
		{deploy.ActCreateAccount, deploy.Facts{Door: "http", Labels: map[string]string{"team": "a", "run_id": ""}}, deploy.Deny, []string{"http-names-its-job"}},
		{deploy.ActDeploy, deploy.Facts{Door: "http", Labels: map[string]string{"run_id": "r1"}}, deploy.Allow, []string{"otherwise"}},
		{deploy.ActDeploy, deploy.Facts{Door: "http", Labels: map[string]string{"job_id": "j1"}}, deploy.Allow, []string{"otherwise"}},
		{deploy.ActDeploy, deploy.Facts{Door: "http", ClaimedLabels: map[string]string{"job_id": "j1", "run_id": "r1"}}, deploy.Deny, []string{"http-names-its-job"}},
		{deploy.ActDeploy, deploy.Facts{Door: "http", Findings: found}, deploy.Deny, []string{"no-secrets", "http-names-its-job"}},
		{"paint", deploy.Facts{}, deploy.Deny, []string{"otherwise"}},
	} {
		d := p.Decide(t.Context(), c.act, c.facts)
		if d.Verdict != c.want || !slices.Equal(rules(d), c.rules) {
			t.Errorf("%s %+v: %+v", c.act, c.facts, d)
		}
		for _, r := range d.Reasons {
			if r.Verdict != deploy.Allow && (r.Message == "" || r.Next == "") {
				t.Errorf("%s: %+v", c.act, r)
			}
		}
	}
}

// TestOrder: deny beats ask beats allow, and every match is reported, the strongest first.
func TestOrder(t *testing.T) {
	p := mustNew(t, `{"rules": [
		{"name": "a", "acts": ["deploy", "teardown"], "when": "true", "verdict": "allow"},
		{"name": "b", "act": "deploy", "when": "principal != 'root'", "verdict": "ask", "message": "m", "next": "n"},
		{"name": "c", "act": "deploy", "when": "worker.name == 'x'", "verdict": "deny", "message": "no x", "next": "rename it"}
	]}`)
	for name, want := range map[string][]string{"x": {"c", "b", "a"}, "y": {"b", "a"}} {
		d := p.Decide(t.Context(), deploy.ActDeploy, deploy.Facts{Worker: deploy.WorkerFacts{Name: name}})
		if !slices.Equal(rules(d), want) || d.Verdict != d.Reasons[0].Verdict {
			t.Errorf("%s: %+v", name, d)
		}
	}
	d := p.Decide(t.Context(), deploy.ActDeploy, deploy.Facts{Principal: "root"})
	if d.Verdict != deploy.Allow || !slices.Equal(rules(d), []string{"a"}) {
		t.Errorf("%+v", d)
	}
	if d := p.Decide(t.Context(), deploy.ActRequestClaim, deploy.Facts{}); d.Verdict != deploy.Ask || rules(d)[0] != "otherwise" {
		t.Errorf("an act that the file does not speak about: %+v", d)
	}
}

// TestRequire: a rule that requires something decides nothing: neither does it let
// anything pass that another rule, or "otherwise", would not.
func TestRequire(t *testing.T) {
	p := mustNew(t, `{"rules": [
		{"name": "ci-discards", "act": "deploy", "when": "labels[?'class'].orValue('') == 'ci'", "require": ["discard_on_failed_check"], "message": "m"},
		{"name": "says-so-too", "act": "deploy", "when": "worker.name == 'x'", "require": ["discard_on_failed_check"], "message": "m"},
		{"name": "no-y", "act": "deploy", "when": "worker.name == 'y'", "verdict": "deny", "message": "m", "next": "n"},
		{"name": "broken", "act": "deploy", "when": "worker.name == 'z' && labels.none == ''", "require": ["discard_on_failed_check"], "message": "m"}
	], "otherwise": {"deploy": {"verdict": "ask", "message": "m", "next": "n"}}}`)
	for _, c := range []struct {
		class, worker string
		verdict       deploy.Verdict
		rules         []string
		required      int
	}{
		{"ci", "w", deploy.Ask, []string{"otherwise", "ci-discards"}, 1},
		{"ci", "x", deploy.Ask, []string{"otherwise", "ci-discards", "says-so-too"}, 2},
		{"ci", "y", deploy.Deny, []string{"no-y", "ci-discards"}, 1},
		{"", "w", deploy.Ask, []string{"otherwise"}, 0},
		{"", "z", deploy.Deny, []string{"broken"}, 0}, // it can't be evaluated, so it denies
	} {
		d := p.Decide(t.Context(), deploy.ActDeploy, deploy.Facts{Labels: map[string]string{"class": c.class}, Worker: deploy.WorkerFacts{Name: c.worker}})
		n := 0
		for _, r := range d.Reasons {
			n += len(r.Require)
			if (r.Verdict == deploy.Require) != (len(r.Require) > 0) {
				t.Errorf("%+v", r)
			}
		}
		if d.Verdict != c.verdict || !slices.Equal(rules(d), c.rules) || n != c.required {
			t.Errorf("%+v: %+v", c, d)
		}
	}
	// A wish of the caller's is a fact.
	wish := mustNew(t, `{"rules": [{"name": "asked", "act": "deploy", "when": "!discard_on_failed_check", "verdict": "deny", "message": "m", "next": "n"}]}`)
	if d := wish.Decide(t.Context(), deploy.ActDeploy, deploy.Facts{DiscardOnFailedCheck: true}); d.Verdict != deploy.Allow {
		t.Errorf("%+v", d)
	}
	if d := wish.Decide(t.Context(), deploy.ActDeploy, deploy.Facts{}); d.Verdict != deploy.Deny {
		t.Errorf("%+v", d)
	}
}

// TestRequireInCases: what must be required is a part of a case.
func TestRequireInCases(t *testing.T) {
	p := mustNew(t, `{"rules": [{"name": "a", "act": "deploy", "when": "fresh", "require": ["discard_on_failed_check"], "message": "m"}]}`)
	for want, ok := range map[string]bool{
		`"act": "deploy", "facts": {"fresh": true}, "want": {"verdict": "allow", "rules": ["a", "otherwise"], "require": ["discard_on_failed_check"]}`: true,
		`"act": "deploy", "facts": {"fresh": true}, "want": {"verdict": "allow"}`:                                                                      true,
		`"act": "deploy", "facts": {"fresh": true}, "want": {"verdict": "allow", "require": []}`:                                                       false,
		`"act": "deploy", "want": {"verdict": "allow", "require": []}`:                                                                                 true,
		`"act": "deploy", "want": {"verdict": "allow", "require": ["discard_on_failed_check"]}`:                                                        false,
	} {
		cases, err := policy.Cases("c.jsonc", []byte(`[{"name": "n", `+want+`}]`))
		if err != nil {
			t.Fatal(err)
		}
		if failed := p.Try(t.Context(), cases); (len(failed) == 0) != ok {
			t.Errorf("%s: %v", want, failed)
		}
	}
	_, err := policy.Cases("c.jsonc", []byte(`[{"name": "n", "act": "deploy", "want": {"verdict": "allow", "require": ["discards"]}}]`))
	if e, ok := errors.AsType[*deploy.Error](err); !ok || !strings.Contains(e.Diagnostics[0].Text, `"discards"`) {
		t.Errorf("%v", err)
	}
}

// TestCombination: how a file combines with the default.
func TestCombination(t *testing.T) {
	secret := deploy.Facts{Findings: []deploy.Finding{{Fingerprint: "f_0123456789abcdef01234567"}}}
	// An allow of the file's does not switch a default deny off.
	p := mustNew(t, `{"rules": [{"name": "all", "acts": ["deploy", "request_claim"], "when": "true", "verdict": "allow"}]}`)
	if d := p.Decide(t.Context(), deploy.ActDeploy, secret); d.Verdict != deploy.Deny {
		t.Errorf("%+v", d)
	}
	if d := p.Decide(t.Context(), deploy.ActRequestClaim, secret); d.Verdict != deploy.Allow {
		t.Errorf("what no default rule denies can be allowed: %+v", d)
	}
	// The same name takes its place.
	p = mustNew(t, `{"rules": [{"name": "no-secrets", "act": "deploy", "when": "findings.size() > 1", "verdict": "ask", "message": "m", "next": "n"}]}`)
	if d := p.Decide(t.Context(), deploy.ActDeploy, secret); d.Verdict != deploy.Allow {
		t.Errorf("%+v", d)
	}
	if in, out := p.Rules(); !slices.Equal(in, []string{"http-names-its-job", "no-secrets"}) || !slices.Equal(out, []string{"no-secrets"}) {
		t.Errorf("%v %v", in, out)
	}
	// A fingerprint lets one finding through, and no other.
	p = mustNew(t, `{"allow_findings": [{"fingerprint": "f_0123456789abcdef01234567", "reason": "a test key, seen by Ann"}]}`)
	if d := p.Decide(t.Context(), deploy.ActDeploy, secret); d.Verdict != deploy.Allow {
		t.Errorf("%+v", d)
	}
	two := secret
	two.Findings = append(slices.Clone(two.Findings), deploy.Finding{Fingerprint: "f_other"})
	if d := p.Decide(t.Context(), deploy.ActDeploy, two); d.Verdict != deploy.Deny || len(two.Findings) != 2 {
		t.Errorf("%+v", d)
	}
	if p.AllowedFindings()["f_0123456789abcdef01234567"] == "" {
		t.Error("the allowance is not told")
	}
	// otherwise turns the policy into an allow list, one act at a time.
	p = mustNew(t, `{
		"rules": [{"name": "batch", "act": "deploy", "when": "labels[?'class'].orValue('') == 'batch'", "verdict": "allow"}],
		"otherwise": {"deploy": {"verdict": "deny", "message": "only batch jobs deploy", "next": "Ask the operator."}}}`)
	if d := p.Decide(t.Context(), deploy.ActDeploy, deploy.Facts{}); d.Verdict != deploy.Deny || d.Reasons[0].Message != "only batch jobs deploy" {
		t.Errorf("%+v", d)
	}
	if d := p.Decide(t.Context(), deploy.ActDeploy, deploy.Facts{Labels: map[string]string{"class": "batch"}}); d.Verdict != deploy.Allow {
		t.Errorf("%+v", d)
	}
	if d := p.Decide(t.Context(), deploy.ActTeardown, deploy.Facts{}); d.Verdict != deploy.Allow {
		t.Errorf("%+v", d)
	}
}

// TestNotEvaluated: what can't be evaluated denies, says which rule, and why.
func TestNotEvaluated(t *testing.T) {
	many := deploy.WorkerFacts{}
	for i := range 3000 {
		many.Hosts = append(many.Hosts, fmt.Sprintf("h%d.example.com", i))
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name, when, says string
		ctx              context.Context
		facts            deploy.Facts
	}{
		{name: "a label that is not there", when: "labels.class == 'batch'", says: "no such key"},
		{name: "of an empty map", when: "labels['class'] == 'batch'", says: "no such key", facts: deploy.Facts{Labels: map[string]string{}}},
		{name: "an index beyond the end", when: "worker.hosts[3] == 'x'", says: "index"},
		{name: "a number that is none", when: "int(principal) > 3", says: "", facts: deploy.Facts{Principal: "x"}},
		{name: "a division by zero", when: "worker.bytes / worker.asset_bytes > 1", says: "division"},
		{name: "a zone out of a label", when: "now.getHours(labels.zone) > 3", says: "", facts: deploy.Facts{Labels: map[string]string{"zone": "Nowhere/Land"}}},
		{name: "too much work", when: "worker.hosts.all(a, worker.hosts.exists(b, a == b + 'x') || a != '')", says: "cost", facts: deploy.Facts{Worker: many}},
		{name: "a call that is given up", when: "worker.hosts.all(a, worker.hosts.all(b, a != b + 'x'))", says: "", ctx: cancelled, facts: deploy.Facts{Worker: many}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := c.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			d := mustNew(t, one(c.when)).Decide(ctx, deploy.ActDeploy, c.facts)
			if d.Verdict != deploy.Deny || len(d.Reasons) != 1 || d.Reasons[0].Rule != "r" {
				t.Fatalf("%+v", d)
			}
			if m := d.Reasons[0].Message; !strings.Contains(m, "the rule r can't be evaluated") || !strings.Contains(m, c.says) || d.Reasons[0].Next == "" {
				t.Errorf("%+v", d.Reasons[0])
			}
		})
	}
}

// TestEveryFact: every fact can be read, with its type, also when nothing is known.
func TestEveryFact(t *testing.T) {
	full := deploy.Facts{
		Principal: "p", Labels: map[string]string{"k": "v"}, ClaimedLabels: map[string]string{"run_id": "r"}, Client: "c", Door: "http", Target: "t",
		Session: "s", Fresh: true, Now: time.Date(2026, 11, 24, 22, 30, 0, 0, time.UTC),
		Worker: deploy.WorkerFacts{
			Name: "n", Digest: "d", Bytes: 5, GzipBytes: 4, AssetCount: 3, AssetBytes: 2, Modules: []string{"m.js"},
			Bindings: []deploy.BindingFact{{Name: "B", Type: "d1"}}, CompatibilityDate: "2026-08-01", Flags: []string{"nodejs_compat"},
			Crons: []string{"* * * * *"}, Hosts: []string{"api.example.com"}, Packages: []deploy.PackageFact{{Name: "hono", Version: "4.6.0"}},
		},
		Findings: []deploy.Finding{{Kind: "k", File: "f", Line: 7, Sample: "…", Fingerprint: "fp"}},
		Usage:    deploy.Usage{Accounts: 1, Deployments: 2, LiveSessions: 3, AllAccounts: 4, AllDeployments: 5, AllLiveSessions: 6},
	}
	for _, when := range []string{
		"act == 'deploy'", "principal == 'p'", "labels.k == 'v' && 'k' in labels", "claimed_labels.run_id == 'r'", "client == 'c'", "door == 'http'",
		"target == 't'", "session == 's'", "fresh", "now.getHours() == 22", "now.getHours('Europe/Berlin') == 23", "now.getDayOfWeek() == 2",
		"now - duration('1h') < now", "worker.name == 'n'", "worker.digest == 'd'", "worker.bytes == 5", "worker.gzip_bytes == 4",
		"worker.asset_count == 3", "worker.asset_bytes == 2", "worker.modules == ['m.js']", "worker.bindings.exists(b, b.type == 'd1' && b.name == 'B')",
		"worker.compatibility_date >= '2026-01-01'", "'nodejs_compat' in worker.flags", "worker.crons.size() == 1",
		"worker.hosts.all(h, h.endsWith('.example.com'))", "worker.packages.exists(p, p.name == 'hono' && p.version.startsWith('4.'))",
		"findings.exists(f, f.kind == 'k' && f.file == 'f' && f.line == 7 && f.sample != '' && f.fingerprint == 'fp')",
		"usage.accounts == 1 && usage.deployments == 2 && usage.live_sessions == 3 && usage.all_accounts == 4 && usage.all_deployments == 5 && usage.all_live_sessions == 6",
		"sets.contains(['d1', 'kv_namespace'], worker.bindings.map(b, b.type))", "principal.upperAscii() == 'P'", "worker.name.matches('^[a-z]+$')",
	} {
		p := mustNew(t, one(when))
		if d := p.Decide(t.Context(), deploy.ActDeploy, full); rules(d)[0] == "otherwise" || d.Reasons[len(d.Reasons)-1].Message != "m" {
			t.Errorf("%s does not hold: %+v", when, d)
		}
	}
	for _, when := range []string{
		"labels.size() == 0 && claimed_labels.size() == 0 && !('k' in labels)", "findings == []", "worker.hosts.all(h, false)",
		"worker.packages.size() == 0 && worker.bindings.size() == 0", "usage.accounts == 0", "!fresh && principal == ''", "now < timestamp('2026-01-01T00:00:00Z')",
	} {
		if d := mustNew(t, one(when)).Decide(t.Context(), deploy.ActDeploy, deploy.Facts{}); rules(d)[0] != "r" || d.Verdict != deploy.Ask {
			t.Errorf("%s does not hold of nothing: %+v", when, d)
		}
	}
}

// TestMistakes: each mistake is told with line and column in the file.
func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		name, source, at, says string
	}{
		{"not JSON", "{\n  \"rules\": [}\n", "2:13", "JSON"},
		{"no object", "[]", "1:1", "must be an object"},
		{"nothing", "", "1:1", "JSON"},
		{"not UTF-8", "{\n\"rules\": \"\xff\"}", "2:11", "UTF-8"},
		{"unknown key", "{\n  // c\n  \"ruls\": []}", "3:3", `did you mean "rules"`},
		{"unknown key of a rule", `{"rules": [{"name": "a", "act": "deploy", "whem": "true", "when": "true", "verdict": "allow"}]}`, "1:43", `did you mean "when"`},
		{"key twice", `{"rules": [{"name": "a", "act": "deploy", "when": "true", "verdict": "allow", "verdict": "deny"}]}`, "1:79", "twice"},
		{"no name", `{"rules": [{"act": "deploy", "when": "true", "verdict": "allow"}]}`, "1:12", `needs the key "name"`},
		{"no condition", `{"rules": [{"name": "a", "act": "deploy", "verdict": "allow"}]}`, "1:12", `needs the key "when"`},
		{"no act", `{"rules": [{"name": "a", "when": "true", "verdict": "allow"}]}`, "1:12", "needs an act"},
		{"both acts", `{"rules": [{"name": "a", "act": "deploy", "acts": ["deploy"], "when": "true", "verdict": "allow"}]}`, "1:33", "either"},
		{"unknown act", `{"rules": [{"name": "a", "act": "deplyo", "when": "true", "verdict": "allow"}]}`, "1:33", `did you mean "deploy"`},
		{"unknown verdict", `{"rules": [{"name": "a", "act": "deploy", "when": "true", "verdict": "denny"}]}`, "1:70", `did you mean "deny"`},
		{"no message", `{"rules": [{"name": "a", "act": "deploy", "when": "true", "verdict": "deny"}]}`, "1:70", "message"},
		{"no next", `{"rules": [{"name": "a", "act": "deploy", "when": "true", "verdict": "ask", "message": "m"}]}`, "1:70", "next"},
		{"bad name", `{"rules": [{"name": "A b", "act": "deploy", "when": "true", "verdict": "allow"}]}`, "1:21", "lower-case"},
		{"reserved name", `{"rules": [{"name": "otherwise", "act": "deploy", "when": "true", "verdict": "allow"}]}`, "1:21", "otherwise"},
		{"same name", `{"rules": [{"name": "a", "act": "deploy", "when": "true", "verdict": "allow"},` + "\n" + `{"name": "a", "act": "deploy", "when": "true", "verdict": "allow"}]}`, "2:10", "two rules"},
		{"no number", `{"rules": 3}`, "1:11", "must be a list"},
		{"null", `{"rules": [null]}`, "1:12", "must be an object"},
		{"otherwise of no act", `{"otherwise": {"dploy": "deny"}}`, "1:25", `did you mean "deploy"`},
		{"otherwise without words", `{"otherwise": {"deploy": "deny"}}`, "1:26", "message"},
		{"fingerprint", `{"allow_findings": [{"fingerprint": "abc", "reason": "r"}]}`, "1:37", "24"},
		{"reason", `{"allow_findings": [{"fingerprint": "f_0123456789abcdef01234567", "reason": " "}]}`, "1:37", "reason"},
		{"fact", "{\"rules\": [{\"name\": \"a\", \"act\": \"deploy\", \"verdict\": \"allow\",\n  \"when\": \"true && prinzipal == 'x'\"}]}", "2:20", `did you mean "principal"`},
		{"field", "{\"rules\": [{\"name\": \"a\", \"act\": \"deploy\", \"verdict\": \"allow\",\n  \"when\": \"worker.nqme == 'x'\"}]}", "2:18", `did you mean "name"`},
		{"past escapes", `{"rules": [{"name": "a", "act": "deploy", "verdict": "allow", "when": "principal == \"\u00fcé\ud83d\ude00\" && nix"}]}`, "1:112", `"nix"`},
		{"in lines", "{\"rules\": [{\"name\": \"a\", \"act\": \"deploy\", \"verdict\": \"allow\", \"when\": [\n  \"fresh &&\",\n  \"  worker.hosts.all(h, hh == 'x')\"\n]}]}", "3:26", `"hh"`},
		{"syntax", `{"rules": [{"name": "a", "act": "deploy", "verdict": "allow", "when": "fresh &&"}]}`, "1:80", ""},
		{"type", `{"rules": [{"name": "a", "act": "deploy", "verdict": "allow", "when": "worker.bytes > 'x'"}]}`, "1:85", "overload"},
		{"no boolean", `{"rules": [{"name": "a", "act": "deploy", "verdict": "allow", "when": "worker.bytes"}]}`, "1:72", "true or false"},
		{"empty condition", `{"rules": [{"name": "a", "act": "deploy", "verdict": "allow", "when": " "}]}`, "1:71", "empty"},
		{"condition of no string", `{"rules": [{"name": "a", "act": "deploy", "verdict": "allow", "when": true}]}`, "1:71", "string"},
		{"expression of numbers", `{"rules": [{"name": "a", "act": "deploy", "verdict": "allow", "when": [1]}]}`, "1:71", "string"},
		{"door", `{"rules": [{"name": "a", "act": "deploy", "verdict": "allow", "when": "door == 'HTTP'"}]}`, "1:80", "stdio, http, command"},
		{"door in a list", `{"rules": [{"name": "a", "act": "deploy", "verdict": "allow", "when": "door in ['http', 'web']"}]}`, "1:89", "web"},
		{"act in a condition", `{"rules": [{"name": "a", "act": "deploy", "verdict": "allow", "when": "'claim' == act"}]}`, "1:72", "request_claim"},
		{"zone", `{"rules": [{"name": "a", "act": "deploy", "verdict": "allow", "when": "now.getHours('Europe/Berln') > 3"}]}`, "1:85", "time zone"},
		{"pattern", `{"rules": [{"name": "a", "act": "deploy", "verdict": "allow", "when": "principal.matches('(')"}]}`, "1:90", "matches"},
		{"no verdict", `{"rules": [{"name": "a", "act": "deploy", "when": "true", "message": "m"}]}`, "1:12", `"verdict", or "require"`},
		{"nothing required", `{"rules": [{"name": "a", "act": "deploy", "when": "true", "require": []}]}`, "1:12", `"verdict", or "require"`},
		{"verdict and require", `{"rules": [{"name": "a", "act": "deploy", "when": "true", "verdict": "allow", "message": "m", "require": ["discard_on_failed_check"]}]}`, "1:70", `either "verdict" or "require"`},
		{"unknown requirement", `{"rules": [{"name": "a", "act": "deploy", "when": "true", "message": "m", "require": ["discard_on_failed_chek"]}]}`, "1:87", `did you mean "discard_on_failed_check"`},
		{"required of another act", `{"rules": [{"name": "a", "acts": ["deploy", "teardown"], "when": "true", "message": "m", "require": ["discard_on_failed_check"]}]}`, "1:45", `nothing can be required of the act "teardown"`},
		{"required without words", `{"rules": [{"name": "a", "act": "deploy", "when": "true", "require": ["discard_on_failed_check"]}]}`, "1:71", "needs a message"},
		{"labels are text", `{"rules": [{"name": "a", "act": "deploy", "verdict": "allow", "when": "labels.n > 3"}]}`, "1:81", "overload"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := policy.New(policy.Config{Name: "p.jsonc", Source: []byte(c.source)})
			e, ok := errors.AsType[*deploy.Error](err)
			if !ok || e.Next == "" || len(e.Diagnostics) == 0 {
				t.Fatalf("%v", err)
			}
			d := e.Diagnostics[0]
			if at := fmt.Sprintf("%d:%d", d.Line, d.Column); at != c.at || d.File != "p.jsonc" || !strings.Contains(d.Text, c.says) {
				t.Errorf("%s %s, not %s %q", at, d.Text, c.at, c.says)
			}
		})
	}
}

// TestAllMistakesAtOnce: one look mends them all.
func TestAllMistakesAtOnce(t *testing.T) {
	_, err := policy.New(policy.Config{Name: "p.jsonc", Source: []byte(`{
		"rules": [
			{"name": "a", "act": "deploy", "when": "x1 && x2", "verdict": "allow"},
			{"name": "b", "act": "nothing", "when": "true", "verdict": "maybe"}
		], "more": 1}`)})
	e, ok := errors.AsType[*deploy.Error](err)
	if !ok || len(e.Diagnostics) != 5 || !strings.Contains(e.Message, "p.jsonc:3:44") || !strings.Contains(e.Message, "4 more") {
		t.Errorf("%v %+v", err, e.Diagnostics)
	}
}

// TestDecideTogether: one policy, many callers.
func TestDecideTogether(t *testing.T) {
	p := mustNew(t, one("worker.name == labels.name"))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 200 {
				name := fmt.Sprint(i, n%2)
				f := deploy.Facts{Worker: deploy.WorkerFacts{Name: name}, Labels: map[string]string{"name": fmt.Sprint(i, 0)}}
				if d := p.Decide(t.Context(), deploy.ActDeploy, f); (d.Verdict == deploy.Ask) != (n%2 == 0) {
					t.Errorf("%s: %+v", name, d)
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkDecide(b *testing.B) {
	p := mustNew(b, one("labels[?'class'].orValue('') in ['batch', 'preview'] && worker.bindings.all(x, x.type in ['kv_namespace', 'd1'])"))
	f := deploy.Facts{
		Door: "http", Labels: map[string]string{"class": "batch", "run_id": "r"},
		Worker: deploy.WorkerFacts{Name: "w", Bindings: []deploy.BindingFact{{Name: "KV", Type: "kv_namespace"}, {Name: "DB", Type: "d1"}}},
	}
	if d := p.Decide(b.Context(), deploy.ActDeploy, f); d.Verdict != deploy.Ask {
		b.Fatalf("%+v", d)
	}
	for b.Loop() {
		p.Decide(b.Context(), deploy.ActDeploy, f)
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		mustNew(b, one("fresh"))
	}
}

// TestRoomForRealRules: the bound on work leaves room for large Workers and long lists.
func TestRoomForRealRules(t *testing.T) {
	f := deploy.Facts{}
	for i := range 1000 {
		f.Worker.Packages = append(f.Worker.Packages, deploy.PackageFact{Name: fmt.Sprintf("@scope/package-number-%d", i), Version: "1.2.3"})
		f.Worker.Hosts = append(f.Worker.Hosts, fmt.Sprintf("host%d.example.com", i))
	}
	names := "'evil-0'"
	for i := range 19 {
		names += fmt.Sprintf(", 'evil-%d'", i+1)
	}
	p := mustNew(t, one("worker.packages.exists(p, p.name in ["+names+"]) || !worker.hosts.all(h, h.endsWith('.example.com') || h in ["+names+"])"))
	if d := p.Decide(t.Context(), deploy.ActDeploy, f); d.Verdict != deploy.Allow {
		t.Errorf("%+v", d)
	}
}
