package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// meanings say what each fact is. A fact without a meaning fails the test, and so does a
// meaning without a fact.
func meanings() map[string]string {
	return map[string]string{
		"act":                       "the act that is asked about; a rule is only asked about its own",
		"principal":                 "who calls: the local user on stdio, the verified subject of the credential over HTTP",
		"labels":                    "**trusted** labels, of the operator or the credential",
		"claimed_labels":            "what the model says of itself (`run_id`, `job_id`): **never trusted**",
		"client":                    "what the MCP client calls itself: **never trusted**",
		"door":                      "how the call came: `stdio`, `http` or `command`",
		"target":                    "the API that the account lives on",
		"session":                   "the session's handle, where there is one already",
		"fresh":                     "a new account is asked for",
		"discard_on_failed_check":   "the caller wants the deployment taken down if its check fails",
		"worker.name":               "the Worker's name",
		"worker.digest":             "SHA-256 of all that would be deployed",
		"worker.bytes":              "size of its modules, in bytes",
		"worker.gzip_bytes":         "the same, gzipped",
		"worker.asset_count":        "how many static files",
		"worker.asset_bytes":        "their size, in bytes",
		"worker.modules":            "names of its modules",
		"worker.bindings":           "its bindings, without their values",
		"worker.bindings.name":      "a binding's name",
		"worker.bindings.type":      "its type as the API calls it: `kv_namespace`, `d1`, `plain_text`, `secret_text` …",
		"worker.compatibility_date": "such as `2026-08-01`",
		"worker.flags":              "compatibility flags",
		"worker.crons":              "cron triggers",
		"worker.hosts":              "hosts in URLs of its code, in lower case; `*` stands for those that can't be told",
		"worker.packages":           "npm packages that were bundled into it",
		"worker.packages.name":      "a package's name",
		"worker.packages.version":   "its version, where its package.json tells it",
		"findings":                  "what the secret scan found and the policy does not allow ([secret-scan.md](secret-scan.md))",
		"findings.kind":             "a finding's kind",
		"findings.file":             "where it stands",
		"findings.line":             "its line, from 1",
		"findings.sample":           "masked",
		"findings.fingerprint":      "its name in `allow_findings`",
		"usage":                     "of the hour before this call",
		"usage.accounts":            "accounts that the principal made",
		"usage.deployments":         "deployments that the principal made",
		"usage.live_sessions":       "the principal's sessions with an account in use now",
		"usage.all_accounts":        "accounts that everybody made",
		"usage.all_deployments":     "deployments that everybody made",
		"usage.all_live_sessions":   "everybody's sessions with an account in use now",
		"now":                       "this server's time",
	}
}

// TestFactsTable: the page names every fact with its type and its meaning.
func TestFactsTable(t *testing.T) {
	left := meanings()
	var b strings.Builder
	b.WriteString("| fact | type | what it is |\n|---|---|---|\n")
	row := func(name, kind string) {
		what, ok := left[name]
		if !ok {
			t.Errorf("the fact %s has no meaning", name)
		}
		delete(left, name)
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.NewReplacer("bindings.", "bindings[].", "packages.", "packages[].", "findings.", "findings[].").Replace(name), kind, what)
	}
	row("act", "string")
	var walk func(prefix string, in reflect.Type)
	walk = func(prefix string, in reflect.Type) {
		for _, f := range fieldsOf(in) {
			of := in.Field(f.index).Type
			kind := strings.NewReplacer("deploy.", "").Replace(celType(of).String())
			element := of
			if of.Kind() == reflect.Slice {
				element = of.Elem()
			}
			if !slices.Contains(structs(), element) {
				row(prefix+f.name, kind)
				continue
			}
			if _, ok := left[prefix+f.name]; ok {
				row(prefix+f.name, map[bool]string{true: "list", false: "object"}[of != element])
			}
			walk(prefix+f.name+".", element)
		}
	}
	walk("", reflect.TypeFor[deploy.Facts]())
	for name := range left {
		t.Errorf("there is no fact %s", name)
	}
	page(t, "../../docs/policy.md", "facts", b.String())
}

// TestNamesResolve: the switch that gives a variable's value knows every declared one.
func TestNamesResolve(t *testing.T) {
	f := &facts{act: deploy.ActDeploy, Facts: &deploy.Facts{}}
	for _, name := range append([]string{"act"}, names(reflect.TypeFor[deploy.Facts]())...) {
		if _, ok := f.ResolveName(name); !ok {
			t.Errorf("%s is declared and has no value", name)
		}
	}
	if _, ok := f.ResolveName("nothing"); ok {
		t.Error("something that is not declared has a value")
	}
}

func names(t reflect.Type) []string {
	var out []string
	for _, f := range fieldsOf(t) {
		out = append(out, f.name)
	}
	return out
}

// TestPageSamples: the policies and cases on the page are right as they stand.
func TestPageSamples(t *testing.T) {
	blocks := blocksOf(t, "../../docs/policy.md")
	if len(blocks) != 3 {
		t.Fatalf("%d samples", len(blocks))
	}
	for _, source := range blocks[:2] {
		if _, err := New(Config{Name: "page", Source: []byte(source)}); err != nil {
			t.Errorf("%v\n%s", err, source)
		}
	}
	p, err := New(Config{Name: "page", Source: []byte(blocks[0])})
	if err != nil {
		t.Fatal(err)
	}
	cases, err := Cases("page", []byte(blocks[2]))
	if err != nil {
		t.Fatal(err)
	}
	for _, failed := range p.Try(t.Context(), cases) {
		t.Error(failed)
	}
	if in, _ := p.Rules(); !slices.Contains(in, "class-may-deploy") {
		t.Errorf("%v", in)
	}
	for _, source := range blocksOf(t, "../../docs/secret-scan.md") {
		if _, err := New(Config{Name: "page", Source: []byte(source)}); err != nil {
			t.Errorf("%v\n%s", err, source)
		}
	}
}
