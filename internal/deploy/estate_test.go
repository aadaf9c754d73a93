package deploy_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// fullBundler makes Workers that have one of everything that goes over beside the code.
type fullBundler struct{}

func (fullBundler) Bundle(ctx context.Context, src deploy.Source) (*deploy.Artifact, error) {
	a, err := bundler{}.Bundle(ctx, src)
	if err != nil {
		return nil, err
	}
	a.Bindings = []deploy.Binding{
		{"name": "CACHE", "type": "kv_namespace"},
		{"name": "KEY", "type": "secret_text", "text": "the-value-of-the-secret"},
		{"name": "PLAIN", "type": "plain_text", "text": "x"},
	}
	a.Resources = &deploy.Resources{
		Crons: []string{"0 3 * * *"}, HasCrons: true, Consumers: []deploy.Consumer{{Queue: "mail"}},
		Objects: []deploy.ObjectStep{{Tag: "v1", Step: map[string]any{"new_sqlite_classes": []string{"Room", "Old"}}}, {Tag: "v2", Step: map[string]any{"deleted_classes": []string{"Old"}}}},
	}
	return a, a.Seal()
}

// TestEverythingThatGoesOver is listed in one way, wherever a human looks: Workers with
// files, checks and digests, what they store, what triggers them, their secrets by name.
func TestEverythingThatGoesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service(func(c *deploy.Config) { c.Bundler, c.Sealer = fullBundler{}, keySealer{} })
		must(t, s, worker("200 old"))
		time.Sleep(time.Second)
		must(t, s, worker("200 keep me"))
		if _, err := s.RequestClaim(t.Context(), me, deploy.ClaimRequest{}); err != nil {
			t.Fatal(err)
		}
		view, err := s.ClaimViewByID(t.Context(), w.claim().ID)
		if err != nil {
			t.Fatal(err)
		}
		file, err := s.SealedClaim(t.Context(), me, "")
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.ClaimFileByID(t.Context(), w.claim().ID)
		if err != nil || len(again.Recipients) != 1 || again.Recipients[0] != someKey {
			t.Fatalf("%+v %v", again, err)
		}
		for name, e := range map[string]*deploy.Estate{"view": &view.Estate, "file": &file.Estate, "console's file": &again.Estate} {
			var lines []string
			for _, it := range e.Items() {
				for _, f := range it.Facts {
					lines = append(lines, f.Name+": "+f.Value)
				}
			}
			text := strings.Join(lines, "\n") + "\n"
			for _, want := range []string{
				"Worker: hello\n", "Public address: ", "Deployed: 2000-01-01", "Content (SHA-256): " + e.Deployments[0].Digest + "\n", "Version: ",
				"Checked: GET / answered 200, as wanted (version confirmed)\n", "File: ", "KV namespace: kv\n", "Durable Object class: Room (of hello)\n",
				"Cron trigger: 0 3 * * * (of hello)\n", "Queue consumer: mail (of hello)\n", "Secret with its value: KEY (of hello)\n",
			} {
				if !strings.Contains(text, want) {
					t.Errorf("the %s does not list %q:\n%s", name, want, text)
				}
			}
			for _, never := range []string{"Old", "PLAIN", "the-value"} {
				if strings.Contains(text, never) {
					t.Errorf("the %s lists %q:\n%s", name, never, text)
				}
			}
			if strings.Count(text, "KV namespace") != 1 || len(e.Deployments) != 1 {
				t.Errorf("the %s lists something twice:\n%s", name, text)
			}
		}
		// What was taken down does not go over; what may not have been made is said to be unsure.
		acct := w.store.allAccounts()[0].ID
		w.store.steps = append(w.store.steps,
			deploy.Step{ID: "gone", SessionID: file.SessionID, AccountID: acct, Kind: deploy.StepDelete, State: deploy.StepDone, What: "kv_namespace kv"},
			deploy.Step{ID: "lost", SessionID: file.SessionID, AccountID: acct, Kind: deploy.StepCreateResource, State: deploy.StepLost, What: "d1 maybe"},
			deploy.Step{ID: "other", SessionID: file.SessionID, AccountID: "another", Kind: deploy.StepCreateResource, State: deploy.StepDone, What: "queue others"},
		)
		if view, err = s.ClaimViewByID(t.Context(), w.claim().ID); err != nil {
			t.Fatal(err)
		}
		for _, r := range view.Estate.Resources {
			if r.Type == deploy.ResourceKV || r.Type == deploy.ResourceQueue || r.Type == deploy.ResourceD1 && (r.Name != "maybe" || !r.Unsure) {
				t.Errorf("%+v", r)
			}
		}
	})
}

func TestShortKey(t *testing.T) {
	for key, want := range map[string]string{
		"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p": "age1ql3z7hjy…mcac8p",
		"short": "short", "": "",
	} {
		if got := deploy.ShortKey(key); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}
