package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// TestSetupTalks plays the person at the terminal.
func TestSetupTalks(t *testing.T) {
	home, project := t.TempDir(), t.TempDir()
	project, err := filepath.EvalSymlinks(project)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(project, ".mcp.json"), []byte(`{"mcpServers": {"other": {"command": "x"}}, "keep": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	env := map[string]string{"HOME": home}
	p := process{stdout: &out, stderr: &out, env: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	o := &options{Platform: "cloudflare", APIBaseURL: "http://127.0.0.1:1/client/v4", StateDir: filepath.Join(home, "state"), LogLevel: "info", KeepArtifacts: time.Hour, KeepRecords: time.Hour}
	o.logKeeping = logKeeping{MaxLogLines: 1, MaxLogBytes: 1, MaxLogStreams: 1, KeepWorkerLogAge: time.Hour}
	talk := func(answers string) error {
		t.Helper()
		h, err := build(t.Context(), o, p)
		if err != nil {
			t.Fatal(err)
		}
		defer h.close() //nolint:errcheck // a test's
		return (&setupCmd{}).talk(t.Context(), h, &asker{in: bufio.NewReader(strings.NewReader(answers)), p: p}, p)
	}
	if err := talk("no\n"); err == nil {
		t.Error("a no went on")
	}
	if err := talk("yes\n" + home + "\n"); err == nil || !strings.Contains(err.Error(), "never allowed") {
		t.Errorf("the home folder: %v", err)
	}
	if err := talk("yes\n" + project + "\nno\nyes\nno\nno\nyes\n"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "https://www.cloudflare.com/terms/") {
		t.Error("the terms were not shown")
	}
	var got struct {
		MCPServers map[string]struct {
			Command string
			Args    []string
		} `json:"mcpServers"`
		Keep int
	}
	b, err := os.ReadFile(filepath.Join(project, ".mcp.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.Keep != 1 || got.MCPServers["other"].Command != "x" || strings.Join(got.MCPServers["hourglass"].Args, " ") != "stdio --root "+project {
		t.Errorf("%s", b)
	}
	if _, err := os.Stat(filepath.Join(project, ".vscode", "mcp.json")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(project, ".cursor")); err == nil {
		t.Error("a no was written")
	}
	h, err := build(t.Context(), o, p)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close() //nolint:errcheck // a test's
	if ok, err := h.accepted(t.Context()); err != nil || !ok {
		t.Errorf("the acceptance is not on record: %v %v", ok, err)
	}
}

func TestMergeLeavesAloneWhatItCantRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mcp.json")
	const text = `{ // a comment
"servers": {} }`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := mergeClient(path, "servers", map[string]any{}); err == nil || !strings.Contains(err.Error(), "--print") {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != text {
		t.Errorf("it was changed: %s %v", b, err)
	}
}

// TestSettingsOrder: flags, then the environment, then the file.
func TestSettingsOrder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "h.jsonc")
	if err := os.WriteFile(file, []byte("{ // settings\n \"log-level\": \"error\", \"read-only\": true, \"root\": [\"/a\", \"/b\"], \"label\": {\"team\": \"x\"}, }"), 0o600); err != nil {
		t.Fatal(err)
	}
	parse := func(args []string, env map[string]string) (options, int, string) {
		t.Helper()
		for k, v := range env {
			t.Setenv(k, v)
		}
		var out bytes.Buffer
		p := process{stdout: &out, stderr: &out, env: os.LookupEnv}
		var seen options
		code := runWith(t.Context(), append(args, "version"), p, func(o *options) { seen = *o })
		return seen, code, out.String()
	}
	o, code, text := parse([]string{"--config", file}, nil)
	if code != 0 || o.LogLevel != "error" || !o.ReadOnly || len(o.Root) != 2 || o.Label["team"] != "x" {
		t.Errorf("the file: %d %+v %s", code, o, text)
	}
	if o, _, _ = parse([]string{"--config", file}, map[string]string{"HOURGLASS_LOG_LEVEL": "warn"}); o.LogLevel != "warn" || !o.ReadOnly {
		t.Errorf("the environment: %+v", o)
	}
	if o, _, _ = parse([]string{"--config=" + file, "--log-level", "debug"}, nil); o.LogLevel != "debug" {
		t.Errorf("a flag: %+v", o)
	}
	if err := os.WriteFile(file, []byte(`{"no-such": "x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, code, text = parse([]string{"--config", file}, nil); code != exitRefused || !strings.Contains(text, "no-such") {
		t.Errorf("an unknown key: %d %s", code, text)
	}
	if _, code, text = parse([]string{"--config", filepath.Join(dir, "none")}, nil); code != exitRefused || !strings.Contains(text, "settings file") {
		t.Errorf("a file that is not there: %d %s", code, text)
	}
}

// TestRoots: the home folder and the root of the disk are never roots.
func TestRoots(t *testing.T) {
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(home, "project")
	if err := os.Mkdir(inner, 0o750); err != nil {
		t.Fatal(err)
	}
	p := process{env: func(k string) (string, bool) { return map[string]string{"HOME": home}[k], k == "HOME" }}
	t.Chdir(home)
	if got, err := roots(&options{}, p); err != nil || len(got) != 0 {
		t.Errorf("in the home folder: %v %v", got, err)
	}
	t.Chdir(inner)
	if got, err := roots(&options{}, p); err != nil || len(got) != 1 || got[0] != inner {
		t.Errorf("in a project: %v %v", got, err)
	}
	for _, bad := range []string{"/", home, filepath.Join(home, "none"), home + "/project/.."} {
		if _, err := roots(&options{Root: []string{bad}}, p); err == nil {
			t.Errorf("--root %s was taken", bad)
		}
	}
}

func TestEveryCodeHasAnExit(t *testing.T) {
	for code, want := range map[deploy.Code]bool{
		deploy.CodeNoEntry: true, deploy.CodeReadOnly: true, deploy.CodeStartFailed: true, deploy.CodeAPIUnreachable: false, deploy.CodeInternal: false,
	} {
		if refusedBeforeSpending(code) != want {
			t.Errorf("%s: %v", code, !want)
		}
	}
}
