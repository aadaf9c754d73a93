package main_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// TestSessionsCommand: what an operator sees of the store on either home, which is
// everything but secrets, and that forgetting asks first and is thorough.
func TestSessionsCommand(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, store := range map[string]func(t *testing.T) []string{
		"SQLite": func(t *testing.T) []string { t.Helper(); return []string{"--state-dir", t.TempDir()} },
		"PostgreSQL": func(t *testing.T) []string {
			t.Helper()
			return []string{"--store", peertest.Postgres(t), "--key-file", key}
		},
	} {
		t.Run(name, func(t *testing.T) { sessionsCommand(t, store(t)) })
	}
}

type listed struct {
	SessionID   string `json:"session_id"`
	Principal   string
	Phase       string
	MinutesLeft int `json:"minutes_left"`
	Workers     []string
	Labels      map[string]string
	Accounts    []struct {
		AccountID string `json:"account_id"`
		State     string
		Secrets   bool `json:"secrets_kept"`
	}
	Deployments []struct{ Worker, URL string }
	Steps       []struct{ Kind, State string }
}

func sessionsCommand(t *testing.T, store []string) {
	w := newWorld(t)
	dir := w.write("wrangler.jsonc", `{"name": "kept", "main": "w.js", "compatibility_date": "2026-08-01"}`, "w.js", `export default { fetch: () => new Response("hi") };`)
	args := append([]string{"--api-base-url", w.API, "--edge-url", w.Edge, "--accept-terms", "--label", "team=red"}, store...)
	said := ""
	run := func(want int, more ...string) string {
		t.Helper()
		out, errs, code := w.run(dir, append(more, args...)...)
		said += out + errs
		if code != want {
			t.Fatalf("%v: %d\n%s\n%s", more, code, out, errs)
		}
		return out
	}
	list := func(more ...string) []listed {
		t.Helper()
		var res struct{ Sessions []listed }
		if err := json.Unmarshal([]byte(run(0, append([]string{"sessions", "list", "--json"}, more...)...)), &res); err != nil {
			t.Fatal(err)
		}
		return res.Sessions
	}
	if got := list(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	run(0, "deploy", dir, "--json")
	run(0, "deploy", dir, "--json") // another process, the same account
	if n := len(w.accounts()); n != 1 {
		t.Errorf("%d accounts were made", n)
	}
	all := list("--live", "--has-label", "team=red", "--worker", "kept", "--principal", "local")
	if len(all) != 1 || all[0].Principal != "local" || all[0].Phase != "live" || all[0].MinutesLeft < 1 || all[0].Workers[0] != "kept" || all[0].Labels["team"] != "red" {
		t.Fatalf("%+v", all)
	}
	for _, none := range [][]string{{"--has-label", "team=blue"}, {"--worker", "other"}, {"--principal", "x"}, {"--digest", "00"}} {
		if got := list(none...); len(got) != 0 {
			t.Errorf("%v: %+v", none, got)
		}
	}
	id := all[0].SessionID
	var one listed
	if err := json.Unmarshal([]byte(run(0, "sessions", "show", id, "--json")), &one); err != nil {
		t.Fatal(err)
	}
	if len(one.Accounts) != 1 || one.Accounts[0].State != "current" || !one.Accounts[0].Secrets || len(one.Deployments) != 1 || len(one.Steps) == 0 {
		t.Errorf("%+v", one)
	}
	for _, st := range one.Steps {
		if st.State != "done" {
			t.Errorf("%+v", st)
		}
	}
	for _, table := range []string{run(0, "sessions", "list"), run(0, "sessions", "show", id)} {
		if !strings.Contains(table, id) || !strings.Contains(table, "team=red") || !strings.Contains(table, "kept") {
			t.Error(table)
		}
	}
	run(1, "sessions", "show", "s_none")
	run(2, "sessions", "list", "--has-label", "team")
	run(2, "sessions", "forget", id) // nobody can be asked
	if got := list(); len(got) != 1 {
		t.Error("it was forgotten without a yes")
	}
	run(0, "sessions", "forget", id, "--yes")
	run(1, "sessions", "forget", id, "--yes")
	if got := list(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	for _, a := range w.accounts() {
		if a.APIToken == "" || strings.Contains(said, a.APIToken) || strings.Contains(said, "claimToken") {
			t.Error("a secret was said")
		}
	}
	if strings.Contains(said, "postgres://") {
		t.Error("the store's address was said")
	}
}

// TestStoreSettings: what can't be a store, a key or an age is refused before anything
// is done, and no refusal repeats what may be a secret.
func TestStoreSettings(t *testing.T) {
	w := &world{t: t, home: t.TempDir(), cache: t.TempDir()}
	key := filepath.Join(w.home, "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	good := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	for _, c := range []struct {
		args []string
		env  []string
		code int
		want string
	}{
		{[]string{"--store", "mysql://u:PASS-WORD@h/d"}, nil, 2, "neither sqlite nor"},
		{[]string{"--store", "postgres://u:PASS-WORD@h:port/%zz", "--key-file", key}, nil, 2, "neither sqlite nor"},
		{[]string{"--store", "postgres://u:PASS-WORD@127.0.0.1:1/d"}, nil, 2, "--key-file"},
		{[]string{"--store", "postgres://u:PASS-WORD@127.0.0.1:1/d", "--key-file", key}, nil, 1, "can't be reached"},
		{nil, []string{"HOURGLASS_STORE=postgres://u@127.0.0.1:1/d", "PGPASSWORD=PASS-WORD", "HOURGLASS_KEY=" + good}, 1, "can't be reached"},
		{nil, []string{"HOURGLASS_KEY=PASS-WORD"}, 2, "32 bytes as base64"},
		{[]string{"--key-file", key}, []string{"HOURGLASS_KEY=" + good}, 2, "two keys"},
		{[]string{"--key-file", key + "x"}, nil, 1, "key file"},
		{[]string{"--keep-records", "59m"}, nil, 2, "at least 1h"},
		{[]string{"--keep-artifacts", "0"}, nil, 2, "keep-artifacts"},
		{[]string{"--keep-artifacts=-5h"}, nil, 2, "at least 1h"},
		{[]string{"--key-file", key}, nil, 0, ""},
	} {
		cmd := exec.Command(program, append([]string{"sessions", "list", "--state-dir", filepath.Join(w.home, "state")}, c.args...)...)
		cmd.Env, cmd.Dir = w.cleanEnv(c.env...), w.home
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(string(out), c.want) {
			t.Errorf("%v %v: %v %s", c.args, c.env, err, out)
		}
		if strings.Contains(string(out), "PASS-WORD") || strings.Contains(string(out), good) {
			t.Errorf("%v: a secret was said: %s", c.args, out)
		}
	}
}
