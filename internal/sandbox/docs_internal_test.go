package sandbox

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDocumentedEndpoints: docs/sandbox.md names every endpoint, and none that is not there;
// and so with the bindings.
func TestDocumentedEndpoints(t *testing.T) {
	page, err := os.ReadFile("../../docs/sandbox.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "## Endpoints")
	table, rest, _ := strings.Cut(rest, "## Bindings")
	var told, have []string
	for _, m := range regexp.MustCompile("`([A-Z]+(?:,[A-Z]+)*) (…[^` ]*|/[^` ]*)`").FindAllStringSubmatch(table, -1) {
		for method := range strings.SplitSeq(m[1], ",") {
			if m[2] != "/unknown" { // of the management port
				told = append(told, method+" "+strings.Replace(m[2], "…", "/accounts/{account}", 1))
			}
		}
	}
	for _, e := range endpoints() {
		have = append(have, e.method+" "+e.pattern)
	}
	slices.Sort(told)
	slices.Sort(have)
	if diff := cmp.Diff(have, told); diff != "" {
		t.Errorf("docs/sandbox.md (-code +page):\n%s", diff)
	}
	bindings, _, _ := strings.Cut(rest, "\n## ")
	for _, kind := range []string{"plain_text", "json", "secret_text", "inherit", "service", "version_metadata", "assets", "kv_namespace", "d1", "queue", "durable_object_namespace", "hyperdrive"} {
		known := refuseUnsupported(&metadata{Bindings: []binding{{"name": "X", "type": kind}}}) == nil
		if !strings.Contains(bindings, "`"+kind+"`") || known != (kind != "hyperdrive") {
			t.Errorf("%s: on the page %v, taken %v", kind, strings.Contains(bindings, "`"+kind+"`"), known)
		}
	}
}
