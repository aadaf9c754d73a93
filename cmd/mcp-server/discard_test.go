//go:build unix

package main_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// discarded is what a result tells of what was taken down.
type discarded struct {
	By        string
	Deleted   []string
	NotUndone []string `json:"not_undone"`
	Earlier   string   `json:"earlier_bundle_id"`
}

func (a *agent) discarded(out answer) *discarded {
	a.t.Helper()
	var body struct{ Discarded *discarded }
	if err := json.Unmarshal([]byte(out.Text), &body); err != nil || out.IsError {
		a.t.Fatalf("%v: %s", err, out.Text)
	}
	return body.Discarded
}

// keeping is a Worker with a namespace, whose answer is given.
func keeping(name, answer string) []map[string]any {
	return files("wrangler.jsonc", `{"name": "`+name+`", "main": "w.js", "compatibility_date": "2026-08-01", "kv_namespaces": [{"binding": "KV"}]}`,
		"w.js", `export default { async fetch(r, env) { await env.KV.put("k", "v"); `+answer+` } };`)
}

// has lists what is on the sandbox's accounts: Workers, and KV namespaces.
func (w *crashWorld) has(t *testing.T) (out []string) {
	t.Helper()
	for _, acct := range w.accounts() {
		out = append(out, w.resources(t, acct)...)
	}
	return out
}

// TestDiscardOnFailedCheck: on the sandbox, what fails its check is gone when the call
// returns, with what it made; the next try goes to the same account. The record has it as
// a teardown inside the deployment, and a repeated call under its key does nothing again.
func TestDiscardOnFailedCheck(t *testing.T) {
	w := &crashWorld{world: kindWorld(t)}
	a := w.agent(w.serverArgs())
	args := map[string]any{
		"files": keeping("fails", `throw new Error("not today");`), "discard_on_failed_check": true,
	}
	key := map[string]any{"idempotencyKey": "k-1"}
	out := a.callMeta("deploy_temporary", args, key)
	d := a.discarded(out)
	if d == nil || d.By != "the call" || !slices.Equal(d.Deleted, []string{"worker fails", "kv_namespace fails-kv"}) || len(d.NotUndone) != 0 {
		t.Fatalf("%s", out.Text)
	}
	if l := out.Live; l.Serving != "deleted" || l.URL != "" || l.Phase != "live" || !strings.Contains(l.Check.Error, "not today") || l.Check.OK {
		t.Errorf("%+v", l)
	}
	if left := w.has(t); len(left) != 0 {
		t.Errorf("on the account: %q", left)
	}
	if got := story(w.records("--session", out.Live.SessionID)); !slices.Equal(got, []string{
		"deploy allow", "create_account allow", "create_account ok", "teardown allow", "teardown ok", "deploy ok",
	}) {
		t.Errorf("%v", got)
	}
	uploads, records := w.uploads(), len(w.records())
	second := w.agent(w.serverArgs()) // another process, with the same key
	if again := second.discarded(second.callMeta("deploy_temporary", args, key)); again == nil || !slices.Equal(again.Deleted, d.Deleted) {
		t.Errorf("%+v", again)
	}
	if w.uploads() != uploads || len(w.records()) != records {
		t.Errorf("%d uploads, %d records: it was done again", w.uploads(), len(w.records()))
	}
	good := a.deploy(map[string]any{"files": keeping("fails", `return new Response("mended");`), "discard_on_failed_check": true})
	if good.Account != "reused" || good.Check.BodyExcerpt != "mended" || good.Serving != "yes" {
		t.Errorf("%+v", good)
	}
	// A new version that fails takes the Worker with it; the bundle of the one before puts it back.
	worse := a.call("deploy_temporary", map[string]any{
		"files": keeping("fails", `return new Response("worse");`), "discard_on_failed_check": true, "expect": map[string]any{"body_contains": "better"},
	})
	if d := a.discarded(worse); d == nil || d.Earlier != good.BundleID || !slices.Equal(d.Deleted, []string{"worker fails"}) {
		t.Errorf("%s", worse.Text)
	}
	if code, body := w.get(good.URL); code == http.StatusOK {
		t.Errorf("it serves %q", body)
	}
	if back := a.deploy(map[string]any{"bundle_id": good.BundleID}); back.Check.BodyExcerpt != "mended" || back.URL != good.URL {
		t.Errorf("%+v", back)
	}
	if n := len(w.accounts()); n != 1 {
		t.Errorf("%d accounts", n)
	}
}

// TestPolicyDiscards: the example's policy takes down what a pipeline deploys and fails,
// whatever the call says; who is no pipeline keeps it.
func TestPolicyDiscards(t *testing.T) {
	w := kindWorld(t)
	file, err := filepath.Abs("../../examples/policies/discard-failed.jsonc")
	if err != nil {
		t.Fatal(err)
	}
	args := map[string]any{"files": files("w.js", `export default { fetch() { return new Response("no", { status: 500 }); } };`), "name": "piped"}
	ci := w.agent(w.serverArgs("--policy", file, "--label", "class=ci"))
	if d := ci.discarded(ci.call("deploy_temporary", args)); d == nil || d.By != "the policy: ci-keeps-nothing-broken" || !slices.Equal(d.Deleted, []string{"worker piped"}) {
		t.Errorf("%+v", d)
	}
	args["discard_on_failed_check"] = false
	if d := ci.discarded(ci.call("deploy_temporary", args)); d == nil || len(d.Deleted) != 1 {
		t.Errorf("the call gets out of it: %+v", d)
	}
	demo := w.agent(w.serverArgs("--policy", file, "--label", "class=demo"))
	out := demo.call("deploy_temporary", args)
	if d := demo.discarded(out); d != nil || out.Live.URL == "" {
		t.Errorf("%s", out.Text)
	}
	if code, _ := w.get(out.Live.URL); code != http.StatusInternalServerError {
		t.Errorf("%d", code)
	}
}

// settled asks for a session's status, which looks after it, until nothing is open: the
// lease of the dead has to run out first.
func (a *agent) settled(session string) string {
	a.t.Helper()
	for until := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		st := a.call("status", map[string]any{"session_id": session}).Text
		if !strings.Contains(st, "unresolved") {
			return st
		}
		if time.Now().After(until) {
			a.t.Fatalf("it stays open: %s\n%s", st, a.stderr.String())
		}
	}
}

// discardPoints are where a deployment that fails its check can die after its upload.
func discardPoints() []string {
	if !peertest.Full() {
		return []string{"settled/upload_script", "after/SaveChecked", "taken/delete"}
	}
	return []string{
		"begun/discard", "taken/upload_script", "settled/upload_script", "taken/enable_route", "after/SaveDeployment", "before/SaveChecked",
		"after/SaveChecked", "before/Discard", "begun/delete", "taken/delete", "settled/delete", "after/Discard", "taken/discard", "settled/discard",
	}
}

// TestKilledBeforeTheDiscard: wherever the server dies, the next process that looks takes
// down what nobody saw pass its check, and puts that on record.
func TestKilledBeforeTheDiscard(t *testing.T) {
	t.Parallel() // it waits for leases of the dead more than it works
	w := &crashWorld{world: kindWorld(t), program: buildCrash(t)}
	for _, point := range discardPoints() {
		t.Run(point, func(t *testing.T) {
			state := t.TempDir()
			before := w.accounts()
			args := map[string]any{"files": keeping("fails", `throw new Error("not today");`), "discard_on_failed_check": true}
			w.with(t, state, point).dies(t, args, nil)
			next := w.with(t, state, "")
			session := w.left(next)
			st := next.settled(session)
			var left []string
			for _, acct := range w.made(before) {
				left = append(left, w.resources(t, acct)...)
			}
			uploaded := point != "begun/discard"
			if uploaded && len(left) != 0 {
				t.Errorf("on the account: %q", left)
			}
			done := false
			for _, s := range w.ledger(t, state, session).Steps {
				done = done || s.Kind == "discard" && s.State == "done"
			}
			if !done || strings.Contains(st, `"serving":"yes"`) {
				t.Errorf("after the next look: done %v, %s", done, st)
			}
			again := next.call("deploy_temporary", map[string]any{"files": keeping("fails", `return new Response("mended");`), "session_id": session})
			if again.IsError || again.Live.Account != "reused" || again.Live.Check.BodyExcerpt != "mended" {
				t.Errorf("%s", again.Text)
			}
		})
	}
}
