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

// claimed is an account with two versions of one Worker, another's deployment, and one
// that failed.
func claimed() *deploy.ClaimFile {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	return deploy.NewClaimFile(
		deploy.Session{ID: "s", Principal: "local", RunID: "7", Labels: map[string]string{"team": "web"}, Client: "c"},
		deploy.Account{ID: "a", Name: "otter", Target: "t", ClaimURL: sealedText, ExpiresAt: now.Add(time.Hour), ClaimExpiresAt: now.Add(time.Minute), Token: "the-token-of-the-account"},
		[]deploy.Deployment{
			{ID: "3", AccountID: "a", Worker: "w", Digest: "new", CreatedAt: now},
			{ID: "2", AccountID: "a", Worker: "w", Digest: "old", CreatedAt: now},
			{ID: "1", AccountID: "b", Worker: "other", Digest: "x"},
			{ID: "0", AccountID: "a", Worker: "broken", Digest: "y", Serving: deploy.ServingFailed},
		}, map[string][]deploy.Sized{"3": {{Name: "index.js", Bytes: 9}}},
		[]deploy.ForeignChange{{Worker: "strange", SeenAt: now}},
	)
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
