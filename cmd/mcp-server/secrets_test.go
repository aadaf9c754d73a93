package main_test

import (
	"strings"
	"testing"
)

// TestSecretFromEnvironment: the operator's value reaches the Worker, and nothing that
// is said on the way.
func TestSecretFromEnvironment(t *testing.T) {
	w := newWorld(t)
	const value = "s3cret-of-the-operator"
	dir := w.write("wrangler.jsonc", `{"name": "keeper", "main": "w.js", "compatibility_date": "2026-08-01", "vars": {"KEY": {"from_env": "TEAM_KEY"}}}`,
		"w.js", `export default { async fetch(r, env) { console.log(env.KEY); return new Response("key " + env.KEY + " " + env.KEY.length); } };`)
	a := w.agent(w.serverArgs("--root", dir, "--allow-secret", "TEAM_KEY"), "TEAM_KEY="+value)
	d := a.deploy(map[string]any{"project_dir": dir})
	if _, body := w.get(d.URL); body != "key s3cret-of-the-operator 22" {
		t.Errorf("the Worker has %q", body)
	}
	if said := a.said.String(); strings.Contains(said, value) || !strings.Contains(said, "[redacted]") {
		t.Errorf("it was said, or its excerpt was not: %s", said)
	}
	if logs := a.stderr.String(); strings.Contains(logs, value) {
		t.Error("it is in the log")
	}
	refusal := func(args []string, env ...string) string {
		t.Helper()
		other := w.agent(append(w.serverArgs("--root", dir, "--state-dir", t.TempDir()), args...), env...)
		got := other.call("deploy_temporary", map[string]any{"project_dir": dir})
		if !got.IsError || got.Error.Code != "secret_missing" {
			t.Errorf("%+v", got)
		}
		return got.Text
	}
	made := len(w.accounts())
	if text := refusal(nil, "TEAM_KEY="+value); !strings.Contains(text, "--allow-secret TEAM_KEY") {
		t.Error(text)
	}
	if text := refusal([]string{"--allow-secret", "TEAM_KEY"}); !strings.Contains(text, "not set") {
		t.Error(text)
	}
	if len(w.accounts()) != made {
		t.Error("an account was spent")
	}
	if _, errs, code := w.run(dir, "status", "--allow-secret", "CLOUDFLARE_API_TOKEN"); code == 0 || !strings.Contains(errs, "never given to a Worker") {
		t.Errorf("%d %s", code, errs)
	}
}
