package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestSmallGrammar: what the small grammar takes the whole one takes too, as the same
// command with the same options, be they from flags, variables or the settings file; and
// what only the whole one knows is left to it.
func TestSmallGrammar(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ours := file("ours.jsonc", `{"label": {"job_id": "7"}, "max-accounts": 3}`)
	theirs := file("theirs.jsonc", `{"read-only": true, "addr": "127.0.0.1:0"}`) // of http
	wrong := file("wrong.jsonc", `{"reed-only": true}`)
	for _, c := range []struct {
		args  string
		env   map[string]string
		small bool
		err   string
	}{
		{args: "", small: true},
		{args: "stdio", small: true},
		{args: "--read-only --label a=b --label c=d", small: true},
		{args: "stdio --root demo --state-dir http", small: true}, // values that are names of commands
		{args: "--read-only", env: map[string]string{"HOURGLASS_MAX_ACCOUNTS": "4", "HOURGLASS_LOG_LEVEL": "warn"}, small: true},
		{args: "--config " + ours, small: true},
		{args: "--config=" + theirs},
		{args: "--config " + wrong, err: "no such setting: reed-only"},
		{args: "--read-only demo"},
		{args: "--state-dir x http --addr 127.0.0.1:0"},
		{args: "stdio more", err: "unexpected argument more"},
		{args: "--log-level loud", err: "log-level"},
		{args: "--no-such-flag", err: "no-such-flag"},
		{args: "status --json"},
	} {
		args := strings.Fields(c.args)
		p := process{stdin: strings.NewReader(""), stdout: new(strings.Builder), stderr: new(strings.Builder), env: func(name string) (string, bool) {
			v, ok := c.env[name]
			return v, ok
		}}
		for k, v := range c.env {
			t.Setenv(k, v) // kong reads the real ones
		}
		var one stdioGrammar
		var all grammar
		small, errSmall := parse(t.Context(), &one, &one.options, args, p)
		whole, errWhole := parse(t.Context(), &all, &all.options, args, p)
		got, o, err := understand(t.Context(), args, p)
		for k := range c.env {
			os.Unsetenv(k)
		}
		if (errSmall == nil) != c.small {
			t.Errorf("%q: the small grammar says %v", c.args, errSmall)
		}
		if c.err != "" {
			if err == nil || err.Error() != errWhole.Error() || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want the whole grammar's %v", c.args, err, errWhole)
			}
			continue
		}
		if err != nil || errWhole != nil {
			t.Errorf("%q: %v, %v", c.args, err, errWhole)
			continue
		}
		if got.Command() != whole.Command() || !reflect.DeepEqual(*o, all.options) {
			t.Errorf("%q: %s with %+v, want %s with %+v", c.args, got.Command(), *o, whole.Command(), all.options)
		}
		if c.small && small.Command() != "stdio" {
			t.Errorf("%q: %s", c.args, small.Command())
		}
	}
	for _, args := range []string{"--help", "-h", "stdio --help", "--read-only --help=true"} {
		var out strings.Builder
		p := process{stdout: &out, stderr: &out, env: func(string) (string, bool) { return "", false }}
		if code := run(t.Context(), strings.Fields(args), p); code != 0 || !strings.Contains(out.String(), "Usage: mcp-server") {
			t.Errorf("%q: %d, %q", args, code, out.String())
		}
		if strings.HasPrefix(args, "-") && !strings.Contains(out.String(), "demo") {
			t.Errorf("%q shows a part of the commands: %s", args, out.String())
		}
	}
}
