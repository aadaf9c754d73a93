package deploy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// TestFacts: what rules see of an artifact; never a value of a binding.
func TestFacts(t *testing.T) {
	a := &deploy.Artifact{
		Name: "w", Digest: "d", Bytes: 9, GzipBytes: 8, CompatibilityDate: "2026-08-01", CompatibilityFlags: []string{"nodejs_compat"},
		Modules: []deploy.Module{
			{Name: "index.js", Type: deploy.TypeESModule, Content: []byte("fetch('https://API.example.com:8443/x')")},
			{Name: "index.js.map", Type: deploy.TypeSourceMap, Content: []byte("https://only-in-the-map.example.com")},
		},
		Bindings: []deploy.Binding{
			{"name": "KEY", "type": "secret_text", "text": "a-value-that-is-secret"},
			{"name": "URL", "type": "plain_text", "text": "a-plain-value"},
			{"name": "DB", "type": "d1"},
		},
		Resources: &deploy.Resources{Crons: []string{"* * * * *"}},
		Assets:    &deploy.Assets{Files: []deploy.Asset{{Path: "/a", Content: []byte("abc")}, {Path: "/b", Content: []byte("de")}}},
		Packages:  []deploy.PackageFact{{Name: "hono", Version: "4.6.0"}},
	}
	want := deploy.WorkerFacts{
		Name: "w", Digest: "d", Bytes: 9, GzipBytes: 8, AssetCount: 2, AssetBytes: 5, Modules: []string{"index.js"},
		Bindings:          []deploy.BindingFact{{Name: "KEY", Type: "secret_text"}, {Name: "URL", Type: "plain_text"}, {Name: "DB", Type: "d1"}},
		CompatibilityDate: "2026-08-01", Flags: []string{"nodejs_compat"}, Crons: []string{"* * * * *"},
		Hosts: []string{"api.example.com"}, Packages: a.Packages,
	}
	got := a.Facts()
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if s := fmt.Sprintf("%+v", got); strings.Contains(s, "value") {
		t.Errorf("a value of a binding is among the facts: %s", s)
	}
	if d := cmp.Diff(deploy.WorkerFacts{}, (&deploy.Artifact{}).Facts(), cmp.Transformer("nil", func(s []string) int { return len(s) })); d != "" {
		t.Error(d)
	}
}

func TestHosts(t *testing.T) {
	for code, want := range map[string][]string{
		`fetch("https://a.example.com/x")`:                    {"a.example.com"},
		`new WebSocket('wss://b.example.com')`:                {"b.example.com"},
		`"https:\/\/c.example.com\/x"`:                        {"c.example.com"},
		"`https://${tenant}.example.com/`":                    {"*"},
		"`https://user:pw@d.example.com:80/`":                 {"d.example.com"},
		`"http://[2001:DB8::1]:8080/"`:                        {"2001:db8::1"},
		`"https://e.example.com."`:                            {"e.example.com"},
		`https://f.example.com?x https://g.example.com#y`:     {"f.example.com", "g.example.com"},
		`"HTTPS://H.EXAMPLE.COM"`:                             {"h.example.com"},
		`"https://i.example.com\nx" + 'http://j.example.com'`: {"i.example.com", "j.example.com"},
		`"https://" + host`:                                   nil,
		`xhttps://k.example.com ftp://l.example.com`:          nil,
		`https://`:       nil,
		`"https://[::1"`: nil,
	} {
		a := &deploy.Artifact{Modules: []deploy.Module{{Name: "m", Type: deploy.TypeESModule, Content: []byte(code)}}}
		if got := a.Facts().Hosts; !slices.Equal(got, want) {
			t.Errorf("%s: %v, not %v", code, got, want)
		}
	}
}

// TestManyHosts: what goes beyond the bound is not hidden by it.
func TestManyHosts(t *testing.T) {
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, "https://h%d.example.com ", i)
	}
	hosts := (&deploy.Artifact{Modules: []deploy.Module{{Name: "m", Content: []byte(b.String())}}}).Facts().Hosts
	if len(hosts) != 4097 || hosts[0] != deploy.UnknownHost {
		t.Errorf("%d hosts, the first is %s", len(hosts), hosts[0])
	}
}
