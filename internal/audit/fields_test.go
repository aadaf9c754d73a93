package audit_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/audit"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// TestEveryMemberIsDocumented: a record in which everything is set has no member that
// the page does not explain, and the page explains none that there is not.
func TestEveryMemberIsDocumented(t *testing.T) {
	some := map[string]string{"k": "v"}
	b, err := json.Marshal(deploy.Event{
		ActID: "x", Phase: "x", At: time.Now(), Act: "x", Principal: "x", Labels: some, ClaimedLabels: some, Client: "x", Door: "x", TraceID: "x", Target: "x",
		SessionID: "x", AccountID: "x", AccountName: "x", Worker: "x", URL: "x", BundleID: "x", Digest: "x", DeploymentID: "x", VersionID: "x", ClaimID: "x",
		Verdict: "x", Rules: []deploy.Reason{{Rule: "x", Verdict: "x", Message: "x", Next: "x", Require: []string{"x"}}},
		SessionPrincipal: "x", SessionLabels: some,
		Findings: []deploy.Finding{{Kind: "x", File: "x", Line: 1, Sample: "x", Fingerprint: "x"}},
		Outcome:  "x", Detail: "x", Data: some, ExpiresAt: time.Now(), DurationMS: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(b, &members); err != nil {
		t.Fatal(err)
	}
	want := []string{"index", "leaf_hash", "pruned_at"}
	for k, v := range members {
		want = append(want, k)
		if list, ok := v.([]any); ok {
			for inner := range list[0].(map[string]any) {
				want = append(want, k+"[]."+inner)
			}
		}
	}
	var got []string
	for _, f := range audit.Fields() {
		got = append(got, f.Name)
		if f.Meaning == "" || strings.Contains(f.Type, ".") {
			t.Errorf("%s is not explained: %+v", f.Name, f)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("documented %v\nwritten    %v", got, want)
	}
}
