package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/policy"
)

// FuzzPolicy: whatever the file, it is refused at places that it has, or it decides every
// act with a verdict and a reason.
func FuzzPolicy(f *testing.F) {
	f.Add(policy.Default())
	f.Add([]byte(one("labels.class == 'batch' && worker.hosts.all(h, h.endsWith('.dev'))")))
	f.Add([]byte(`{"rules": [{"name": "a", "acts": ["deploy"], "when": ["fresh &&", "\u00fc"], "verdict": "deny"}], "otherwise": {"deploy": "allow"}, "allow_findings": []}`))
	f.Add([]byte("{\"rules\": [{\"when\": \"\\ud83d\\ude00\\n\\t'\", }]}"))
	f.Fuzz(func(t *testing.T, source []byte) {
		p, err := policy.New(policy.Config{Name: "f.jsonc", Source: slices.Concat([]byte{}, source)})
		if err != nil {
			e, ok := errors.AsType[*deploy.Error](err)
			if !ok || e.Next == "" || len(e.Diagnostics) == 0 {
				t.Fatalf("%v", err)
			}
			lines := strings.Split(strings.TrimPrefix(string(source), "\xef\xbb\xbf"), "\n")
			for _, d := range e.Diagnostics {
				if d.Line < 1 || d.Line > len(lines) || d.Column < 1 || d.Column > len([]rune(lines[d.Line-1]))+1 || d.Text == "" {
					t.Errorf("%d:%d: %s", d.Line, d.Column, d.Text)
				}
			}
			return
		}
		for _, act := range append(deploy.Acts(), "something else") {
			d := p.Decide(t.Context(), act, deploy.Facts{Labels: map[string]string{"a": "b"}, Worker: deploy.WorkerFacts{Hosts: []string{"x"}}})
			if len(d.Reasons) == 0 || d.Verdict != d.Reasons[0].Verdict || !slices.Contains([]deploy.Verdict{deploy.Allow, deploy.Ask, deploy.Deny}, d.Verdict) {
				t.Errorf("%s: %+v", act, d)
			}
			for _, r := range d.Reasons {
				if r.Verdict != deploy.Allow && (r.Message == "" || r.Next == "") {
					t.Errorf("%s: %+v", act, r)
				}
			}
		}
	})
}

// FuzzCases: a file of cases is refused with places, or its cases can be tried.
func FuzzCases(f *testing.F) {
	f.Add([]byte(`[{"name": "a", "act": "deploy", "facts": {"labels": {"a": "b"}, "now": "2026-11-24T11:00:00Z", "worker": {"bytes": 3}}, "want": {"verdict": "allow", "rules": []}}]`))
	f.Add([]byte(`[{"facts": {"findings": [{"line": 1e9}], "fresh": 1, "now": 3}}]`))
	p, err := policy.New(policy.Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		cases, err := policy.Cases("c.jsonc", source)
		if err != nil {
			if e, ok := errors.AsType[*deploy.Error](err); !ok || len(e.Diagnostics) == 0 {
				t.Fatalf("%v", err)
			}
			return
		}
		for _, failed := range p.Try(t.Context(), cases) {
			_ = failed.String()
		}
	})
}
