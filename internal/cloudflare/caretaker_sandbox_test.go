package cloudflare_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

const resourceful = `
import { DurableObject } from "cloudflare:workers";
export class Room extends DurableObject {}
export default { fetch: () => new Response("here"), queue() {}, scheduled() {} };`

// TestCaretakerAgainstTheSandbox: what a deployment brought is found and taken away
// again, each twice without harm.
func TestCaretakerAgainstTheSandbox(t *testing.T) {
	urls := startSandbox(t)
	c, err := cloudflare.New(cloudflare.Config{BaseURL: urls.API})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	grant, err := c.Provision(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	acct := &grant.Account
	if got, err := c.Deployed(t.Context(), acct, worker); got != nil || err != nil {
		t.Fatalf("of nothing: %+v %v", got, err)
	}
	a := app()
	a.Modules[0].Content = []byte(resourceful)
	p, err := c.Prepare(t.Context(), acct, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	up, err := c.Upload(t.Context(), acct, deploy.Upload{Artifact: a, Bindings: p.Bindings, Objects: p.Objects, Tag: "0123456789abcdef", Message: "hourglass s_1"})
	if err != nil {
		t.Fatal(err)
	}
	want := &deploy.Served{VersionID: up.VersionID, Tag: "0123456789abcdef", Message: "hourglass s_1"}
	got, err := c.Deployed(t.Context(), acct, worker)
	if err != nil || !cmp.Equal(want, got) {
		t.Errorf("without a route: %+v %v", got, err)
	}
	host, errHost := c.EnableRoute(t.Context(), acct, worker)
	want.Host = host
	got, err = c.Deployed(t.Context(), acct, worker)
	if errors.Join(err, errHost) != nil || !cmp.Equal(want, got) {
		t.Errorf("with one: %+v %v", got, err)
	}
	if _, err := c.Trigger(t.Context(), acct, a); err != nil {
		t.Fatal(err)
	}
	all, err := c.Inventory(t.Context(), acct)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range all.Resources {
		names = append(names, r.Type+" "+r.Name)
	}
	if diff := cmp.Diff([]string{"d1 notes", "kv_namespace hello-cache-kv", "queue dead", "queue jobs"}, names); diff != "" || !cmp.Equal(all.Workers, []string{worker}) {
		t.Errorf("%v %s", all.Workers, diff)
	}
	for range 2 {
		for _, r := range all.Resources {
			if err := c.DeleteResource(t.Context(), acct, r); err != nil {
				t.Errorf("%s %s: %v", r.Type, r.Name, err)
			}
		}
		if err := c.DeleteWorker(t.Context(), acct, worker); err != nil {
			t.Error(err)
		}
	}
	if all, err = c.Inventory(t.Context(), acct); err != nil || len(all.Resources)+len(all.Workers) != 0 {
		t.Errorf("it is not empty: %+v %v", all, err)
	}
	if got, err := c.Deployed(t.Context(), acct, worker); got != nil || err != nil {
		t.Errorf("afterwards: %+v %v", got, err)
	}
}
