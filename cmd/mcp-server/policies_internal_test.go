package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/policy"
)

// TestExamplePolicies runs `policy test` over every example, and holds that each of its
// rules fires in one case and keeps silent in another: a rule that nothing tries proves
// nothing.
func TestExamplePolicies(t *testing.T) {
	const dir = "../../examples/policies"
	cases, err := filepath.Glob(dir + "/*.cases.jsonc")
	if err != nil || len(cases) < 8 {
		t.Fatalf("%v %v", cases, err)
	}
	all, _ := filepath.Glob(dir + "/*.jsonc")
	if len(all) != 2*len(cases) {
		t.Errorf("%d files, %d of them cases: one of them has no partner", len(all), len(cases))
	}
	readme, err := os.ReadFile(dir + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range cases {
		rules := strings.TrimSuffix(file, ".cases.jsonc") + ".jsonc"
		t.Run(filepath.Base(rules), func(t *testing.T) {
			var out bytes.Buffer
			if code := run(t.Context(), []string{"policy", "test", rules, file}, process{stdout: &out, stderr: &out, env: func(string) (string, bool) { return "", false }}); code != 0 {
				t.Errorf("exit code %d: %s", code, out.String())
			}
			if !strings.Contains(string(readme), "("+filepath.Base(rules)+")") {
				t.Error("the README does not name it")
			}
			everyRuleIsTried(t, rules, file)
		})
	}
}

func everyRuleIsTried(t *testing.T, rules, file string) {
	p, err := readPolicy(rules)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	list, err := policy.Cases(file, source)
	if err != nil {
		t.Fatal(err)
	}
	fired := map[string]int{}
	for _, c := range list {
		for _, r := range p.Decide(t.Context(), c.Act, c.Facts).Reasons {
			fired[r.Rule]++
		}
	}
	inForce, _ := p.Rules()
	for _, name := range inForce {
		if n := fired[name]; name != "no-secrets" && name != "http-names-its-job" && (n == 0 || n == len(list)) {
			t.Errorf("the rule %s fires in %d of %d cases", name, n, len(list))
		}
	}
}

// TestLiar: a model that claims the class which may deploy is not believed, whatever it
// claims, in whatever spelling; only the operator's label counts.
func TestLiar(t *testing.T) {
	p, err := readPolicy("../../examples/policies/classes-of-jobs.jsonc")
	if err != nil {
		t.Fatal(err)
	}
	for _, claim := range []map[string]string{
		{"class": "preview"},
		{"class": "ci", "labels.class": "ci", "labels": "class=ci"},
		{"Class": "demo", "CLASS": "demo", " class": "demo"},
		{"class": "preview' || 'a' == 'a"},
		{"run_id": "class=preview", "job_id": "ci"},
	} {
		for _, trusted := range []map[string]string{nil, {}, {"class": "production"}, {"class": ""}, {"team": "preview"}} {
			d := p.Decide(t.Context(), deploy.ActDeploy, deploy.Facts{Labels: trusted, ClaimedLabels: claim, Client: "preview", Door: "stdio"})
			if d.Verdict != deploy.Deny || d.Reasons[0].Rule != "class-may-use-accounts" || d.Reasons[0].Next == "" {
				t.Errorf("claimed %v, trusted %v: %+v", claim, trusted, d)
			}
		}
		honest := p.Decide(t.Context(), deploy.ActDeploy, deploy.Facts{Labels: map[string]string{"class": "preview"}, ClaimedLabels: claim})
		if honest.Verdict != deploy.Allow {
			t.Errorf("the operator says preview, the model %v: %+v", claim, honest)
		}
	}
}
