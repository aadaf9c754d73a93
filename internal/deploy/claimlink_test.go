package deploy_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

const sealedText = "-----BEGIN AGE ENCRYPTED FILE-----\nx\n-----END AGE ENCRYPTED FILE-----\n"

// claimed is the file of an account with a Worker and what it stores.
func claimed() *deploy.ClaimFile {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	return deploy.NewClaimFile(
		deploy.Session{ID: "s", Principal: "local", RunID: "7", Labels: map[string]string{"team": "web"}, Client: "c"},
		deploy.Account{
			ID: "a", Name: "otter", Target: "t", ClaimURL: sealedText, SealedTo: []string{"age1someone"}, ExpiresAt: now.Add(time.Hour),
			ClaimExpiresAt: now.Add(time.Minute), Token: "the-token-of-the-account",
		}, strings.Repeat("a", 64),
		deploy.Estate{
			Deployments: []deploy.ClaimedDeployment{{Worker: "w", Digest: "new", CreatedAt: now, Files: []deploy.Sized{{Name: "index.js", Bytes: 9}}}},
			Resources:   []deploy.ClaimedResource{{Type: deploy.ResourceKV, Name: "notes"}, {Type: deploy.ResourceCron, Name: "* * * * *", Worker: "w", Unsure: true}},
			Foreign:     []deploy.ForeignChange{{Worker: "strange", SeenAt: now}},
		},
	)
}

// TestAnOlderClaimFile: one from before resources were listed is read as it was.
func TestAnOlderClaimFile(t *testing.T) {
	f, err := deploy.ParseClaimFile([]byte(`{"format": "hourglass-claim/1", "session_id": "s", "principal": "local", "account_id": "a", "account_name": "otter", "target": "t",
		"expires_at": "2026-11-24T13:00:00Z", "digest": "d", "deployments": [{"worker": "w", "digest": "x", "created_at": "2026-11-24T12:00:00Z"}],
		"sealed": "-----BEGIN AGE ENCRYPTED FILE-----\nx\n-----END AGE ENCRYPTED FILE-----\n"}`))
	if err != nil || len(f.Deployments) != 1 || f.Deployments[0].Worker != "w" || len(f.Resources) != 0 {
		t.Fatalf("%+v %v", f, err)
	}
	if items := f.Items(); len(items) != 2 || items[0].Title != "Worker w" || items[1].Facts[0].Value != "none that is known here" {
		t.Errorf("%+v", items)
	}
}

func TestClaimFile(t *testing.T) {
	f := claimed()
	if len(f.Deployments) != 1 || f.Deployments[0].Digest != "new" || len(f.Deployments[0].Files) != 1 || f.ClaimedLabels["run_id"] != "7" || f.ExpiresAt.Minute() != 1 || len(f.Digest) != 64 {
		t.Errorf("%+v", f)
	}
	b, err := f.Encode()
	if err != nil || strings.Contains(string(b), "the-token") {
		t.Fatalf("%s %v", b, err)
	}
	got, err := deploy.ParseClaimFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f, got); diff != "" {
		t.Error(diff)
	}
	for name, change := range map[string]func(f *deploy.ClaimFile){
		"no format": func(f *deploy.ClaimFile) { f.Format = "" }, "a link": func(f *deploy.ClaimFile) { f.Sealed = "https://x" },
		"no account": func(f *deploy.ClaimFile) { f.AccountID = "" }, "no end": func(f *deploy.ClaimFile) { f.ExpiresAt = time.Time{} },
	} {
		f := claimed()
		change(f)
		b, _ := f.Encode()
		if _, err := deploy.ParseClaimFile(b); !deploy.IsCode(err, deploy.CodeInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := deploy.ParseClaimFile([]byte(strings.Repeat(" ", 5<<20))); !deploy.IsCode(err, deploy.CodeInvalidArgument) {
		t.Errorf("a large one: %v", err)
	}
}

// FuzzClaimFile: what is taken is written and read the same way.
func FuzzClaimFile(f *testing.F) {
	b, _ := claimed().Encode()
	f.Add(b)
	f.Add([]byte(`{"format":"hourglass-claim/1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := deploy.ParseClaimFile(b)
		if err != nil {
			return
		}
		again, err := got.Encode()
		if err != nil {
			return // a time that JSON does not write
		}
		twice, err := deploy.ParseClaimFile(again)
		if err != nil {
			t.Fatal(err)
		}
		x, _ := json.Marshal(got)
		y, _ := json.Marshal(twice)
		if string(x) != string(y) {
			t.Errorf("%s\n%s", x, y)
		}
	})
}
