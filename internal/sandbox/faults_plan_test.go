package sandbox_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/sandbox"
	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// TestFaultSpecs: a sandbox is as unkind from its start as it is told to be, and says
// what it can't read.
func TestFaultSpecs(t *testing.T) {
	none := func(context.Context) (workerd.Binary, error) { return workerd.Binary{}, context.Canceled }
	for spec, want := range map[string]string{
		"": "", "none": "", "mild": "", "default": "", "mild:7": "", " default:18446744073709551615 ": "",
		sandbox.MildFaults(3): "", sandbox.DefaultFaults(3): "", `{"rules":[]}`: "",
		"mild:x": "the seed", "mild:": "the seed", "rough": `"rough" is not known`, "{": "can't be read", `{"rules":[]} more`: "after the plan",
		`{"rule":[]}`: "can't be read", `{"rules":[{"endpoint":"*","kind":"x"}]}`: "there are latency",
	} {
		_, err := sandbox.New(sandbox.Config{Workerd: none, Faults: spec})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", spec, err, want)
		}
	}
}

// TestFaultsFromTheStart: what the configuration asks for is at work, and counted.
func TestFaultsFromTheStart(t *testing.T) {
	s := box(t, sandbox.Config{Faults: `{"seed":5,"rules":[{"endpoint":"POST /provisioning/previews/challenge","kind":"rate_limited","times":1,"retry_after":3}]}`})
	first := api(t, s, http.MethodPost, "/provisioning/previews/challenge", "", "", strings.NewReader("{}"))
	if first.status != http.StatusTooManyRequests || first.header.Get("Retry-After") != "3" {
		t.Errorf("%+v", first)
	}
	grant(t, s)
	var met struct {
		Seed uint64
		Met  map[string]int
		Hits []int
	}
	if manage(t, s, http.MethodGet, "/faults", "", &met); met.Seed != 5 || met.Met["rate_limited"] != 1 || len(met.Hits) != 1 || met.Hits[0] != 1 {
		t.Errorf("%+v", met)
	}
}

// TestSlowEdge: a new route answers 404, and an old version goes on serving, until the
// sandbox's own clock has moved on.
func TestSlowEdge(t *testing.T) {
	s := box(t, sandbox.Config{Faults: `{"rules":[
		{"endpoint":"POST /accounts/*/workers/scripts/*/subdomain","kind":"slow_edge","latency_ms":60000},
		{"endpoint":"PUT /accounts/*/workers/scripts/*","kind":"slow_edge","latency_ms":60000}]}`})
	g, host := grant(t, s), ""
	wants := func(status int, body string) {
		t.Helper()
		if got, text, _ := edge(t, s, host, "/"); got != status || !strings.Contains(text, body) {
			t.Errorf("%d %q, want %d %q", got, text, status, body)
		}
	}
	advance := func() { manage(t, s, http.MethodPost, "/clock", `{"advance_seconds":61}`, nil) }
	host = live(t, s, g, "slow", says("one"))
	wants(http.StatusNotFound, "has not reached the edge")
	advance()
	wants(http.StatusOK, "one")
	upload(t, s, g, "slow", says("two"), nil)
	wants(http.StatusOK, "one")
	advance()
	wants(http.StatusOK, "two")
}
