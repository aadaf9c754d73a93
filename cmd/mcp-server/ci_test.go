//go:build unix

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// ciJob is what the examples for a CI have in common, out of their YAML: the script that
// deploys, checks and discards what fails, and the one that tells.
type ciJob struct{ deploy, tell string }

func readCI(t *testing.T, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "examples", "ci", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func ciJobs(t *testing.T) map[string]ciJob {
	t.Helper()
	var gh struct {
		Jobs map[string]struct {
			Steps []struct{ Name, Run string }
		}
	}
	readCI(t, "github.yml", &gh)
	var hub ciJob
	for _, s := range gh.Jobs["preview"].Steps {
		switch s.Name {
		case "deploy and check":
			hub.deploy = s.Run
		case "comment the address":
			hub.tell = s.Run
		}
	}
	var gl map[string]struct{ Script []string }
	readCI(t, "gitlab.yml", &gl)
	lab := ciJob{deploy: gl["preview"].Script[0], tell: gl["preview"].Script[1]}
	return map[string]ciJob{"github": hub, "gitlab": lab}
}

// TestCIExamples: the scripts of the examples, run against the sandbox as a CI runs them:
// what is good stays live and its address is known to the step that tells it; what fails
// the check fails the job and is taken down.
func TestCIExamples(t *testing.T) {
	w := newWorld(t)
	bin := t.TempDir()
	if err := os.Symlink(program, filepath.Join(bin, "mcp-server")); err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"gh", "curl"} { // what they would have told the world
		//nolint:gosec // a program
		if err := os.WriteFile(filepath.Join(bin, tool), []byte("#!/bin/sh\nprintf '%s\\n' \"$@\" >> \"$TOLD\"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, job := range ciJobs(t) {
		for _, good := range []bool{true, false} {
			answer := map[bool]string{true: "200", false: "500"}[good]
			dir := w.write("wrangler.jsonc", `{"name": "ci-`+name+answer+`", "main": "w.js", "compatibility_date": "2026-08-01"}`,
				"w.js", `export default { fetch() { return new Response("ci", { status: `+answer+` }); } };`)
			out := filepath.Join(t.TempDir(), "output")
			env := append(w.cleanEnv("HOURGLASS_ACCEPT_TERMS=true", "HOURGLASS_STATE_DIR="+t.TempDir(), "HOURGLASS_LABEL=run_id=7",
				"HOURGLASS_API_BASE_URL="+w.API, "HOURGLASS_EDGE_URL="+w.Edge, "PROJECT=.", "CHECK_PATH=/", "GITHUB_OUTPUT="+out), "PATH="+bin+":"+os.Getenv("PATH"))
			sh := func(script string, more ...string) (string, error) {
				cmd := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", script)
				cmd.Dir, cmd.Env = dir, append(env, more...)
				said, err := cmd.CombinedOutput()
				return string(said), err
			}
			said, err := sh(job.deploy)
			if (err == nil) != good {
				t.Errorf("%s %s: %v\n%s", name, answer, err, said)
				continue
			}
			known, _ := os.ReadFile(out) //nolint:gosec // our own
			url, _ := os.ReadFile(filepath.Join(dir, "url.txt"))
			if good && !strings.Contains(string(known)+string(url), "http") {
				t.Errorf("%s: the address is not known: %s %s", name, known, url)
			}
			if good {
				_, address, _ := strings.Cut(strings.TrimSpace(string(known))+string(url), "http")
				tell := strings.ReplaceAll(job.tell, "${{ github.event.pull_request.number }}", "12")
				told := filepath.Join(t.TempDir(), "told")
				said, err := sh(tell, "URL=http"+address, "TOLD="+told, "PREVIEW_TOKEN=t", "CI_API_V4_URL=https://gitlab.example/api/v4", "CI_PROJECT_ID=5", "CI_MERGE_REQUEST_IID=12")
				what, _ := os.ReadFile(told) //nolint:gosec // our own
				if err != nil || !strings.Contains(string(what), "Live for an hour, public - http"+strings.TrimSpace(address)+"\n") || !strings.Contains(string(what), "12") {
					t.Errorf("%s tells %q: %v\n%s", name, what, err, said)
				}
			}
			if !good {
				if !strings.Contains(said, `"discarded":{"by":"the call","deleted":["worker ci-`+name+answer+`"]}`) {
					t.Errorf("%s does not say what was taken down: %s", name, said)
				}
				if strings.Contains(string(known)+string(url), "http") {
					t.Errorf("%s: an address that is none any more: %s %s", name, known, url)
				}
				if said, err := sh("mcp-server status"); err != nil || strings.Contains(said, "serving: yes") {
					t.Errorf("%s: after the teardown: %v\n%s", name, err, said)
				}
			}
		}
	}
}
