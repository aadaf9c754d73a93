package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// secretive bundles with two secrets: one by reference, one in plain.
type secretive struct{ bundler }

func (s secretive) Bundle(ctx context.Context, src deploy.Source) (*deploy.Artifact, error) {
	a, err := s.bundler.Bundle(ctx, src)
	if err != nil {
		return nil, err
	}
	a.Bindings = []deploy.Binding{
		{"name": "KEY", "type": "secret_text", "from_env": "MY_KEY"},
		{"name": "OTHER", "type": "secret_text", "text": "given-by-the-agent"},
	}
	return a, a.Seal()
}

// TestShortSecrets: what can't be hidden is said to be so.
func TestShortSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service(func(c *deploy.Config) {
			c.Bundler = secretive{}
			c.Secrets = func(string) (string, bool) { return "1234567", true }
		})
		res := must(t, s, worker("200 x"))
		said := strings.Join(res.Warnings, " ")
		if !strings.Contains(said, "KEY has less than 8 bytes") || strings.Contains(said, "1234567") || strings.Count(said, "less than 8") != 1 {
			t.Errorf("%q", said)
		}
	})
}

func TestSecretsByReference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		env := map[string]string{"MY_KEY": "very-secret-value", "UNLISTED": "x"}
		allowed := "MY_KEY"
		s := w.service(func(c *deploy.Config) {
			c.Bundler = secretive{}
			c.Secrets = func(name string) (string, bool) {
				if name != allowed {
					return "", false
				}
				return env[name], true
			}
		})
		res := must(t, s, worker("200 the key is very-secret-value, and given-by-the-agent"))
		if got := fmt.Sprint(w.lastUpload.Bindings); !strings.Contains(got, "text:very-secret-value") || strings.Contains(got, "from_env") {
			t.Errorf("uploaded %s", got)
		}
		told, err := json.Marshal(res)
		if err != nil || strings.Contains(string(told), "very-secret-value") || strings.Contains(string(told), "given-by-the-agent") {
			t.Errorf("%s %v", told, err)
		}
		kept, err := w.store.Artifact(t.Context(), "me", res.BundleID)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := json.Marshal(kept); strings.Contains(string(b), "very-secret-value") {
			t.Error("the value is in the artifact")
		}
		// The same again: the value may have changed.
		env["MY_KEY"] = "another-secret-value"
		must(t, s, worker("200 the key is very-secret-value, and given-by-the-agent"))
		if got := fmt.Sprint(w.lastUpload.Bindings); !strings.Contains(got, "another-secret-value") {
			t.Errorf("uploaded %s", got)
		}
		uploads := w.uploads
		for name, set := range map[string]string{"not set": "MY_KEY", "not allowed": "SOMETHING"} {
			delete(env, "MY_KEY")
			allowed = set
			_, err := s.Deploy(t.Context(), me, worker("200 x"))
			if e := deploy.AsError(err); e == nil || e.Code != deploy.CodeSecretMissing || !strings.Contains(e.Message, "MY_KEY") || !strings.Contains(e.Next, "operator") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if w.uploads != uploads {
			t.Error("it was uploaded without its secret")
		}
	})
}
