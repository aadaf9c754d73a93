package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPolicyCommand: what a person sees of a right and of a wrong policy, and the exit codes.
func TestPolicyCommand(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good.jsonc", `{
		// only named teams
		"rules": [{"name": "teams", "act": "deploy", "when": "!('team' in labels)", "verdict": "deny", "message": "no team", "next": "ask the operator"}],
		"allow_findings": [{"fingerprint": "f_0123456789abcdef01234567", "reason": "a sample"}]}`)
	own := file("own.jsonc", `{"rules": [{"name": "no-secrets", "act": "deploy", "when": "false", "verdict": "allow"}]}`)
	bad := file("bad.jsonc", "{\n  \"rules\": [{\"name\": \"a\", \"act\": \"deploy\", \"verdict\": \"allow\",\n    \"when\": \"labls.team == 'x'\"}]\n}")
	passing := file("passing.jsonc", `[
		{"name": "a team", "act": "deploy", "facts": {"labels": {"team": "a"}}, "want": {"verdict": "allow", "rules": ["otherwise"]}},
		{"name": "none", "act": "deploy", "want": {"verdict": "deny", "rules": ["teams"]}}]`)
	failing := file("failing.jsonc", `[{"name": "none", "act": "deploy", "want": {"verdict": "allow"}}, {"name": "ok", "act": "teardown", "want": {"verdict": "allow"}}]`)
	typo := file("typo.jsonc", `[{"name": "none", "act": "deploy", "facts": {"worker": {"nqme": "x"}}, "want": {"verdict": "allow"}}]`)
	empty := file("empty.jsonc", "")
	for _, c := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"check", good}, 0, []string{"is right", "no-secrets, http-names-its-job, teams", "allows: 1"}},
		{[]string{"check", own}, 0, []string{"replaces: no-secrets"}},
		{[]string{"check", bad}, 2, []string{"bad.jsonc:3:14", `did you mean "labels"?`, "try again"}},
		{[]string{"check", empty}, 2, []string{"empty.jsonc:1:1"}},
		{[]string{"check", filepath.Join(dir, "none.jsonc")}, 2, []string{"can't be read", "Name a file"}},
		{[]string{"test", good, passing}, 0, []string{"2 of 2 cases"}},
		{[]string{"test", good, failing}, 1, []string{"none: wanted allow, got deny by teams (deny)", "1 of 2"}},
		{[]string{"test", bad, passing}, 2, []string{"bad.jsonc:3:14"}},
		{[]string{"test", good, typo}, 2, []string{"typo.jsonc:1:57", `did you mean "name"?`}},
		{[]string{"show-default"}, 0, []string{"no-secrets", "http-names-its-job", `"request_claim"`}},
	} {
		var out bytes.Buffer
		code := run(t.Context(), append([]string{"policy"}, c.args...), process{
			stdin: strings.NewReader(""), stdout: &out, stderr: &out, env: func(string) (string, bool) { return "", false },
		})
		if code != c.code {
			t.Errorf("%v: exit code %d, not %d: %s", c.args, code, c.code, out.String())
		}
		for _, want := range c.says {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%v does not say %q: %s", c.args, want, out.String())
			}
		}
	}
}

// TestLoadPolicy: --policy, and the default without it.
func TestLoadPolicy(t *testing.T) {
	p, err := loadPolicy(&options{})
	if err != nil {
		t.Fatal(err)
	}
	if in, _ := p.Rules(); len(in) < 2 {
		t.Errorf("%v", in)
	}
	if _, err := loadPolicy(&options{Policy: filepath.Join(t.TempDir(), "gone.jsonc")}); err == nil {
		t.Error("a policy that is not there must never count as none")
	}
}
