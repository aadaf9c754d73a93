package hourglass_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/audit"
)

// TestAuditPage: the table of members in docs/audit.md is the code's.
func TestAuditPage(t *testing.T) {
	const path, from, to = "docs/audit.md", "<!-- fields: go test . -run TestAuditPage -generate -->\n", "<!-- /fields -->"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), from)
	table, tail, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatal("the page has lost its markers")
	}
	if *generate {
		table = audit.FieldsTable()
		if err := os.WriteFile(path, []byte(head+from+table+to+tail), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(audit.FieldsTable(), table); diff != "" {
		t.Errorf("the table differs from the code (-want +got); run with -generate if the code is right:\n%s", diff)
	}
}
