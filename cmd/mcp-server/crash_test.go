//go:build unix

package main_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// crashWorld is a sandbox, a server that dies where it is told to, and a store.
type crashWorld struct {
	*world
	program string
	store   []string // the store's flags; none: the state folder
	env     []string
}

// buildCrash builds the server that HOURGLASS_CRASH_AT kills.
func buildCrash(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mcp-server-crash")
	build := exec.Command("go", "build", "-tags", "crash", "-o", path, ".") //nolint:gosec // our own program
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// shared gives a world whose servers share a PostgreSQL database and, as they must then,
// the keys: of the store and of the record.
func shared(t *testing.T, url string, key []byte) *crashWorld {
	t.Helper()
	w := &crashWorld{world: kindWorld(t), program: buildCrash(t), store: []string{"--store", url}}
	dir := t.TempDir()
	made := exec.Command(w.program, "audit", "key", "--state-dir", dir) //nolint:gosec // our own program
	made.Env = w.cleanEnv()
	if out, err := made.CombinedOutput(); err != nil {
		t.Fatalf("audit key: %v\n%s", err, out)
	}
	record, err := os.ReadFile(filepath.Join(dir, "audit.key")) //nolint:gosec // it was made just now
	if err != nil {
		t.Fatal(err)
	}
	w.env = []string{"HOURGLASS_KEY=" + base64.StdEncoding.EncodeToString(key), "HOURGLASS_AUDIT_KEY=" + strings.TrimSpace(string(record))}
	return w
}

// with starts a server on a state folder; crashAt "" lets it live.
func (w *crashWorld) with(t *testing.T, state, crashAt string) *agent {
	t.Helper()
	here := *w.world
	here.t = t
	args := append([]string{"stdio", "--api-base-url", w.API, "--edge-url", w.Edge, "--state-dir", state}, w.store...)
	return here.agentOf(w.program, args, append(slices.Clone(w.env), "HOURGLASS_CRASH_AT="+crashAt)...)
}

// victim is the project that is deployed: something of every kind of step, each of
// which shows in the answer if it was done twice or not at all.
func victim(name string) []map[string]any {
	return files(
		"wrangler.jsonc", `{"name": "`+name+`", "main": "w.js", "compatibility_date": "2026-08-01", "assets": {"directory": "public", "binding": "ASSETS"},
			"kv_namespaces": [{"binding": "KV"}], "d1_databases": [{"binding": "DB"}], "triggers": {"crons": ["0 0 1 1 *"]}}`,
		"w.js", `export default {
			async fetch(r, env) {
				const rows = (await env.DB.prepare("SELECT text FROM notes").all()).results;
				await env.KV.put("k", "kv");
				return new Response([await env.KV.get("k"), rows.length, (await (await env.ASSETS.fetch(new URL("/page.txt", r.url))).text()).trim()].join(" "));
			},
			async scheduled() {},
		};`,
		"public/page.txt", "page",
		"migrations/1_notes.sql", "CREATE TABLE notes (text TEXT);",
		"migrations/2_first.sql", "INSERT INTO notes (text) VALUES ('one row');",
	)
}

const victimSays = "kv 1 page"

// ledger is what `sessions show` tells of a session.
type ledger struct {
	Steps []struct{ Kind, What, State string } `json:"steps"`
}

func (w *crashWorld) ledger(t *testing.T, state, session string) (l ledger) {
	t.Helper()
	cmd := exec.Command(w.program, append([]string{"sessions", "show", session, "--json", "--state-dir", state}, w.store...)...) //nolint:gosec // our own program
	cmd.Env = w.cleanEnv(w.env...)
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &l)
	}
	if err != nil {
		t.Fatalf("sessions show: %v\n%s", err, out)
	}
	return l
}

// resources lists what an account has, as the ledger names it.
func (w *crashWorld) resources(t *testing.T, acct account) (out []string) {
	t.Helper()
	for path, is := range map[string][2]string{
		"/storage/kv/namespaces": {deploy.ResourceKV, "title"}, "/d1/database": {deploy.ResourceD1, "name"}, "/queues": {deploy.ResourceQueue, "queue_name"},
	} {
		for _, r := range w.listed(t, acct, path) {
			out = append(out, fmt.Sprintf("%s %v", is[0], r[is[1]]))
		}
	}
	return out
}

// listed asks the API for a list on an account, with the account's own token.
func (w *crashWorld) listed(t *testing.T, acct account, path string) []map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.API+"/accounts/"+acct.ID+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+acct.APIToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	var body struct{ Result []map[string]any }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", path, resp.StatusCode, err)
	}
	return body.Result
}

// made gives the accounts that were made since, with the Worker's name on them.
func (w *crashWorld) made(before []account) []account {
	return slices.DeleteFunc(w.accounts(), func(a account) bool { return slices.Contains(before, a) })
}

// left is the session that the killed process left, as an agent finds it: by status. It
// is not the current one of the process that asks.
func (w *crashWorld) left(next *agent) string {
	var out struct {
		Sessions []struct {
			SessionID string `json:"session_id"`
			Current   bool   `json:"current"`
		} `json:"sessions"`
	}
	if err := json.Unmarshal([]byte(next.call("status", map[string]any{}).Text), &out); err != nil {
		next.t.Fatal(err)
	}
	for _, s := range out.Sessions {
		if !s.Current {
			return s.SessionID
		}
	}
	return ""
}

// dies deploys, and the server is killed in the middle of it.
func (a *agent) dies(t *testing.T, args, meta map[string]any) {
	t.Helper()
	a.diesIn(t, "deploy_temporary", args, meta)
}

// diesIn makes a call in the middle of which the server is killed.
func (a *agent) diesIn(t *testing.T, tool string, args, meta map[string]any) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	req := mcp.CallToolRequest{}
	req.Params.Name, req.Params.Arguments = tool, args
	req.Params.Meta = &mcp.Meta{AdditionalFields: meta}
	res, err := a.client.CallTool(ctx, req)
	if err == nil {
		t.Fatalf("the server got through alive: the point is never reached: %+v\n%s", res.Content, a.stderr.String())
	}
	if ctx.Err() != nil {
		t.Fatalf("the server neither died nor answered: %v\n%s", err, a.stderr.String())
	}
}

// crash kills a server at a point while it deploys, and lets the next one make the same
// call: after a restart, or another process that ran all the while.
func (w *crashWorld) crash(t *testing.T, point string, keyed, another bool) {
	state, name := t.TempDir(), "w-"+strings.ToLower(rand.Text()[:10])
	args := map[string]any{"files": victim(name)}
	meta := map[string]any{}
	if keyed {
		meta["idempotencyKey"] = "key-of-" + name
	}
	before := w.accounts()
	most := 1
	var next *agent
	if another { // and it has work of its own meanwhile, on an account of its own
		most++
		next = w.with(t, state, "")
		done := make(chan answer, 1)
		go func() {
			defer close(done)
			done <- next.call("deploy_temporary", map[string]any{"files": says("own"), "name": "own"})
		}()
		defer func() {
			if own := next.call("status", map[string]any{}); strings.Count(own.Text, `"serving":"yes"`) != 2 {
				t.Errorf("both are live: %s", own.Text)
			}
		}()
		w.with(t, state, point).dies(t, args, meta)
		if own := <-done; own.IsError || own.Live.Check.BodyExcerpt != "own" {
			t.Fatalf("the other process: %s", own.Text)
		}
	} else {
		w.with(t, state, point).dies(t, args, meta)
		next = w.with(t, state, "")
	}
	if left := w.left(next); left != "" && !keyed {
		args["session_id"] = left
	}
	got := next.callMeta("deploy_temporary", args, meta)
	if got.IsError && got.Error.Code == "account_lost" {
		if point != "begun/create_account" && point != "taken/create_account" {
			t.Errorf("the account is lost: %s", got.Text)
		}
		if n := len(w.made(before)); n > most {
			t.Errorf("%d accounts were made without fresh: true", n)
		}
		most++
		args["fresh"], args["session_id"] = true, w.left(next)
		got = next.call("deploy_temporary", args)
	}
	if got.IsError || got.Live.Serving != "yes" || got.Live.Check.BodyExcerpt != victimSays {
		t.Fatalf("the same call again: %s\n%s", got.Text, next.stderr.String())
	}
	made := w.made(before)
	if len(made) > most {
		t.Errorf("%d accounts were made, at most %d are in order", len(made), most)
	}
	w.known(t, state, got.Live.SessionID, made)
	if left := next.call("status", map[string]any{"session_id": got.Live.SessionID}); strings.Contains(left.Text, "unresolved") {
		t.Errorf("something is unresolved: %s", left.Text)
	}
}

// known wants every resource of the accounts to be in the session's ledger.
func (w *crashWorld) known(t *testing.T, state, session string, made []account) {
	t.Helper()
	l := w.ledger(t, state, session)
	for _, acct := range made {
		has := w.resources(t, acct)
		for _, r := range has {
			if !slices.ContainsFunc(l.Steps, func(s struct{ Kind, What, State string }) bool {
				return s.Kind == string(deploy.StepCreateResource) && s.What == r && s.State == string(deploy.StepDone)
			}) {
				t.Errorf("%s is on the account and not in the ledger: %+v", r, l.Steps)
			}
		}
		if n := len(has); n != 0 && n != 2 {
			t.Errorf("the account has %q", has)
		}
	}
}

// reachable are the points that a deployment of the victim passes: it takes nothing down.
func reachable() []string {
	return slices.DeleteFunc(deploy.CrashPoints(), func(p string) bool {
		_, what, _ := strings.Cut(strings.ToLower(p), "/")
		return what == string(deploy.StepDelete) || what == string(deploy.StepDiscard)
	})
}

// TestKilledInTeardown: who takes down is killed around a deletion; the next one finds
// what is left, takes the rest down, and nothing stays on the account or unresolved.
func TestKilledInTeardown(t *testing.T) {
	t.Parallel()
	w := &crashWorld{world: kindWorld(t), program: buildCrash(t)}
	all := []string{"taken", "before", "begun", "settled"}
	if !peertest.Full() {
		all = all[:1]
	}
	for _, when := range all {
		point := when + "/" + string(deploy.StepDelete)
		t.Run(point, func(t *testing.T) {
			state, name := t.TempDir(), "w-"+strings.ToLower(rand.Text()[:10])
			before := w.accounts()
			a := w.with(t, state, point)
			live := a.deploy(map[string]any{"files": victim(name)})
			made := w.made(before)
			if len(made) != 1 || len(w.resources(t, made[0])) != 2 {
				t.Fatalf("%+v", made)
			}
			session := map[string]any{"session_id": live.SessionID}
			a.diesIn(t, "teardown", session, nil)
			next := w.with(t, state, "")
			if got := next.call("status", session); got.IsError || !strings.Contains(got.Text, live.SessionID) {
				t.Errorf("between: %s", got.Text)
			}
			got := next.call("teardown", session)
			if got.IsError || !strings.Contains(got.Text, `"closed":true`) || strings.Contains(got.Text, "not_undone\":[") {
				t.Fatalf("the same call again: %s\n%s", got.Text, next.stderr.String())
			}
			if has := w.resources(t, made[0]); len(has) != 0 {
				t.Errorf("the account still has %q", has)
			}
			if has := w.listed(t, made[0], "/workers/scripts"); len(has) != 0 {
				t.Errorf("the account still has the Workers %v", has)
			}
			for _, s := range w.ledger(t, state, live.SessionID).Steps {
				if !deploy.StepState(s.State).Settled() {
					t.Errorf("left open: %+v", s)
				}
			}
			if again := next.call("teardown", session); again.IsError {
				t.Errorf("a third time: %s", again.Text)
			}
		})
	}
}

// few are those that are walked when the tests do not run in full.
func few() []string {
	return []string{"begun/create_account", "taken/apply_migration", "settled/upload_script", "after/SaveDeployment"}
}

// TestKilledAtEveryPoint: at most one account is made for a session unless the agent asks
// for a fresh one, the deployment ends live, and nothing is on the account that the
// ledger does not know.
func TestKilledAtEveryPoint(t *testing.T) {
	t.Parallel() // it waits for leases of the dead more than it works
	points := few()
	if peertest.Full() {
		points = reachable()
	}
	w := &crashWorld{world: kindWorld(t), program: buildCrash(t)}
	t.Run("points", func(t *testing.T) {
		for i, point := range points {
			t.Run(point, func(t *testing.T) { w.crash(t, point, i%2 == 0, i%3 == 0) })
		}
	})
}

// TestKilledOnPostgreSQL is the same with the store that replicas share.
func TestKilledOnPostgreSQL(t *testing.T) {
	t.Parallel()
	points := few()[:2]
	if peertest.Full() {
		points = reachable()
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	w := shared(t, peertest.Postgres(t), key)
	t.Run("points", func(t *testing.T) {
		for i, point := range points {
			t.Run(point, func(t *testing.T) { w.crash(t, point, i%2 == 1, i%2 == 0) })
		}
	})
}
