package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// clerk runs audit commands on a store of its own.
type clerk struct {
	t    *testing.T
	home string
	env  map[string]string
	args []string
}

func newClerk(t *testing.T, args ...string) *clerk {
	c := &clerk{t: t, home: t.TempDir(), env: map[string]string{}}
	c.args = append(args, "--state-dir", filepath.Join(c.home, "state"))
	return c
}

func (c *clerk) process(out, errs *bytes.Buffer) process {
	c.env["HOME"] = c.home
	return process{stdin: strings.NewReader(""), stdout: out, stderr: errs, env: func(k string) (string, bool) { v, ok := c.env[k]; return v, ok }}
}

func (c *clerk) run(args ...string) (stdout, stderr string, code int) {
	c.t.Helper()
	var out, errs bytes.Buffer
	code = run(c.t.Context(), append(args, c.args...), c.process(&out, &errs))
	return out.String(), errs.String(), code
}

// must runs a command that has to succeed.
func (c *clerk) must(args ...string) string {
	c.t.Helper()
	out, errs, code := c.run(args...)
	if code != 0 {
		c.t.Fatalf("%v: exit %d\n%s%s", args, code, out, errs)
	}
	return out
}

// write keeps n records as a server does, and gives its log.
func (c *clerk) write(n int) string {
	c.t.Helper()
	var out, errs bytes.Buffer
	p := c.process(&out, &errs)
	var o options
	if code := runWith(c.t.Context(), append([]string{"version"}, c.args...), p, func(seen *options) { o = *seen }); code != 0 {
		c.t.Fatal(errs.String())
	}
	store, err := openStore(c.t.Context(), &o, p, deploy.NewRedactor())
	if err != nil {
		c.t.Fatal(err)
	}
	defer store.Close()
	var kept bytes.Buffer
	log, err := newAudit(&o, p, store, deploy.NewRedactor(), logCheckpoints(zerolog.New(&kept).Level(zerolog.ErrorLevel)))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := range n {
		e := deploy.Event{
			ActID: fmt.Sprintf("act_%d", i/2), Phase: deploy.PhaseDecision, At: time.Now(), Act: "deploy", Principal: "local",
			Verdict: deploy.Allow, Worker: "hello\x1b[31m", Labels: map[string]string{"run": fmt.Sprint(i / 2)},
		}
		if i%2 == 1 {
			e.Phase, e.Verdict, e.Outcome = deploy.PhaseOutcome, "", "ok"
		}
		if err := log.Append(context.Background(), e); err != nil {
			c.t.Fatal(err)
		}
	}
	return kept.String()
}

// exec changes the database behind the log's back.
func (c *clerk) exec(query string) {
	c.t.Helper()
	var out, errs bytes.Buffer
	p := c.process(&out, &errs)
	var o options
	runWith(c.t.Context(), append([]string{"version"}, c.args...), p, func(seen *options) { o = *seen })
	store, err := openStore(c.t.Context(), &o, p, deploy.NewRedactor())
	if err != nil {
		c.t.Fatal(err)
	}
	defer store.Close()
	db, _, err := store.DB(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := db.ExecContext(c.t.Context(), query); err != nil {
		c.t.Fatal(err)
	}
}

// TestAuditCommands is the life of a record at the command line, on both stores.
func TestAuditCommands(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { auditCommands(t, newClerk(t)) })
	t.Run("postgres", func(t *testing.T) {
		c := newClerk(t)
		c.env["HOURGLASS_STORE"], c.env["HOURGLASS_KEY"] = peertest.Postgres(t), base64.StdEncoding.EncodeToString(make([]byte, 32))
		for k, v := range c.env {
			t.Setenv(k, v) // kong reads flags' variables from there
		}
		auditCommands(t, c)
	})
}

func auditCommands(t *testing.T, c *clerk) {
	kept := c.write(6)
	if n := strings.Count(kept, `"checkpoint":"hourglass-audit/`); n != 6 {
		t.Fatalf("%d checkpoints in the log: %s", n, kept)
	}
	keptFile, proofFile := filepath.Join(c.home, "server.log"), filepath.Join(c.home, "proof.json")
	if err := os.WriteFile(keptFile, []byte(kept), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := c.must("audit", "list"); strings.Count(out, "\n") != 6 || !strings.Contains(out, "hello·[31m") || strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
	if out := c.must("audit", "list", "--labelled", "run=1", "--since", "1h", "--json"); strings.Count(out, `"act_id":"act_1"`) != 2 || strings.Count(out, "\n") != 2 {
		t.Errorf("%q", out)
	}
	if out := c.must("audit", "export", "--outcome", "ok"); strings.Count(out, "\n") != 3 {
		t.Errorf("%q", out)
	}
	for _, bad := range [][]string{{"--since", "yesterday"}, {"--labelled", "run"}} {
		if _, errs, code := c.run(append([]string{"audit", "list"}, bad...)...); code != exitRefused {
			t.Errorf("%v: %d %s", bad, code, errs)
		}
	}
	if out := c.must("audit", "verify"); !strings.Contains(out, "The record is whole: 6 records") || !strings.Contains(out, "--checkpoint") {
		t.Errorf("%q", out)
	}
	var report struct {
		OK       bool
		Outside  int `json:"outside_checkpoints"`
		Problems []struct {
			Kind  string
			Index int
		}
	}
	verify := func() int {
		t.Helper()
		out, errs, code := c.run("audit", "verify", "--json", "--checkpoint", keptFile)
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("%v: %s%s", err, out, errs)
		}
		return code
	}
	if code := verify(); code != 0 || !report.OK || report.Outside != 6 {
		t.Errorf("%d %+v", code, report)
	}
	key := strings.TrimSpace(c.must("audit", "key"))
	c.must("audit", "prove", "--act", "act_1", "--out", proofFile)
	checkProofElsewhere(t, proofFile, key)
	c.exec("UPDATE audit_records SET act = 'teardown' WHERE idx = 4")
	if code := verify(); code != exitElse || report.OK || report.Problems[0].Kind != "column" || report.Problems[0].Index != 4 {
		t.Errorf("%d %+v", code, report)
	}
	c.exec("DELETE FROM audit_records WHERE idx = 2")
	if out, _, code := c.run("audit", "verify", "--key", key); code != exitElse || !strings.Contains(out, "record 2 is gone") || !strings.Contains(out, "NOT WHOLE") {
		t.Errorf("%d %s", code, out)
	}
}

// checkProofElsewhere: the proof is checked where there is no store at all.
func checkProofElsewhere(t *testing.T, file, key string) {
	t.Helper()
	away := newClerk(t)
	if out := away.must("audit", "check-proof", file, "--key", key); !strings.Contains(out, "record 3 of the 6") || !strings.Contains(out, "act_1") {
		t.Errorf("%q", out)
	}
	keyFile := filepath.Join(away.home, "key.pub")
	if err := os.WriteFile(keyFile, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := away.must("audit", "check-proof", file, "--key", keyFile, "--json"); !strings.Contains(out, `"index":3`) {
		t.Errorf("%q", out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(b, []byte("local"), []byte("other"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := away.run("audit", "check-proof", file, "--key", key); code != exitElse || !strings.Contains(errs, "does not hold") {
		t.Errorf("%d %s", code, errs)
	}
	if _, err := os.Stat(filepath.Join(away.home, "state")); err == nil {
		t.Error("checking a proof made a state folder")
	}
}

// TestAuditKeyOfReplicas: a key in the environment is used, and no file is made.
func TestAuditKeyOfReplicas(t *testing.T) {
	a, b := newClerk(t), newClerk(t)
	want := a.must("audit", "key")
	key, err := os.ReadFile(filepath.Join(a.home, "state", "audit.key"))
	if err != nil {
		t.Fatal(err)
	}
	b.env[auditKeyVar] = string(key)
	if got := b.must("audit", "key"); got != want {
		t.Errorf("%q, not %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(b.home, "state", "audit.key")); err == nil {
		t.Error("a key was made beside the given one")
	}
	b.env[auditKeyVar] = "PRIVATE+KEY+nonsense"
	if _, errs, code := b.run("audit", "key"); code == 0 || strings.Contains(errs, "nonsense") {
		t.Errorf("%d %s", code, errs)
	}
}

// TestAuditPruneCommand: --keep-audit is what prune goes by.
func TestAuditPruneCommand(t *testing.T) {
	c := newClerk(t)
	c.write(2)
	if out := c.must("audit", "prune", "--json", "--keep-audit", "1h"); strings.TrimSpace(out) != `{"pruned":0}` {
		t.Errorf("%q", out)
	}
	if _, errs, code := c.run("audit", "prune", "--keep-audit", "soon"); code == 0 || !strings.Contains(errs, "90d") {
		t.Errorf("%d %s", code, errs)
	}
}
