package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// resourceful bundles with resources: what the code names in its first line.
type resourceful struct{ bundler }

func (r resourceful) Bundle(ctx context.Context, src deploy.Source) (*deploy.Artifact, error) {
	a, err := r.bundler.Bundle(ctx, src)
	if err != nil {
		return nil, err
	}
	a.Bindings = []deploy.Binding{{"name": "KV", "type": "kv_namespace"}}
	a.Resources = &deploy.Resources{Crons: []string{"0 * * * *"}, HasCrons: true}
	return a, a.Seal()
}

func withResources(c *deploy.Config) { c.Bundler = resourceful{} }

func TestResourcesOnTheRoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service(withResources)
		var told []deploy.Stage
		req := worker("200 hello")
		req.Progress = func(st deploy.Stage) { told = append(told, st) }
		res := must(t, s, req)
		if fmt.Sprint(res.Resources) != "[{kv_namespace KV kv made []} {cron  0 * * * * made []}]" {
			t.Errorf("%v", res.Resources)
		}
		order := []deploy.Stage{deploy.StageAccount, deploy.StageResources, deploy.StageMigrate, deploy.StageUpload, deploy.StageRoute, deploy.StageTriggers, deploy.StageCheck}
		if got := told[len(told)-len(order):]; !slices.Equal(got, order) {
			t.Errorf("%v", told)
		}
		// The same again does nothing; a failure before the upload leaves what is live.
		again := must(t, s, worker("200 hello"))
		if again.Changed || w.prepares != 1 || w.triggers != 1 {
			t.Errorf("changed %v, %d prepares, %d triggers", again.Changed, w.prepares, w.triggers)
		}
		w.onPrepare = func(int) error { return deploy.Errorf(deploy.CodeMigrationFailed, "Correct it.", "it failed") }
		uploads := w.uploads
		_, err := s.Deploy(t.Context(), me, worker("200 other"))
		if !deploy.IsCode(err, deploy.CodeMigrationFailed) || w.uploads != uploads {
			t.Errorf("%v, %d uploads", err, w.uploads-uploads)
		}
	})
}

// TestTriggerFails: the Worker is live, the result says what is missing, and the same
// call again sets it up.
func TestTriggerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service(withResources)
		w.onTrigger = func(n int) error {
			if n == 1 {
				return deploy.Errorf(deploy.CodeAPIRefused, "Look.", "no crons today")
			}
			return nil
		}
		res := must(t, s, worker("200 hello"))
		said := strings.Join(res.Warnings, " ")
		if res.Serving != deploy.ServingYes || !strings.Contains(said, "cron 0 * * * *") || !strings.Contains(said, "no crons today") || res.Resources[1].State != deploy.ResourceFailed {
			t.Errorf("%+v", res)
		}
		res = must(t, s, worker("200 hello"))
		if len(res.Warnings) != 0 || w.triggers != 2 || res.Resources[1].State != deploy.ResourceMade {
			t.Errorf("%+v, %d triggers", res, w.triggers)
		}
	})
}

// TestTooManyResources: refused before an account is spent.
func TestTooManyResources(t *testing.T) {
	base := func() *deploy.Artifact {
		return &deploy.Artifact{Name: "a", MainModule: "i.js", Modules: []deploy.Module{{Name: "i.js", Type: deploy.TypeESModule, Content: []byte("200 x")}}}
	}
	many := func(n int, one func(i int)) {
		for i := range n {
			one(i)
		}
	}
	for what, change := range map[string]func(a *deploy.Artifact){
		"D1 databases": func(a *deploy.Artifact) {
			a.Resources = &deploy.Resources{Databases: []deploy.Database{{Binding: "A", Name: "a"}, {Binding: "B"}}}
		},
		"queues": func(a *deploy.Artifact) {
			many(9, func(i int) {
				a.Bindings = append(a.Bindings, deploy.Binding{"name": fmt.Sprint("Q", i), "type": "queue", "queue_name": fmt.Sprint("q", i)})
			})
			a.Resources = &deploy.Resources{Consumers: []deploy.Consumer{{Queue: "x", DeadLetter: "y"}}}
		},
		"cron triggers": func(a *deploy.Artifact) {
			a.Resources = &deploy.Resources{Crons: []string{"1 * * * *", "2 * * * *", "3 * * * *", "4 * * * *", "5 * * * *", "6 * * * *"}}
		},
		"Hyperdrive": func(a *deploy.Artifact) {
			many(3, func(i int) {
				a.Bindings = append(a.Bindings, deploy.Binding{"name": fmt.Sprint("H", i), "type": "hyperdrive", "id": "x"})
			})
		},
	} {
		t.Run(what, func(t *testing.T) {
			a := base()
			change(a)
			if err := a.Seal(); err != nil {
				t.Fatal(err)
			}
			w := newWorld(t)
			s := w.service(func(c *deploy.Config) { c.Bundler = fixed{a} })
			_, err := s.Deploy(t.Context(), me, worker("200 x"))
			if e := deploy.AsError(err); e == nil || e.Code != deploy.CodeNotSupported || !strings.Contains(e.Message, what) || w.provisions != 0 {
				t.Errorf("%v, %d accounts", err, w.provisions)
			}
		})
	}
}

type fixed struct{ a *deploy.Artifact }

func (f fixed) Bundle(context.Context, deploy.Source) (*deploy.Artifact, error) { return f.a, nil }

// TestResourcesSurviveTheStore: an artifact is kept as JSON, and deployed from it.
func TestResourcesSurviveTheStore(t *testing.T) {
	r := &deploy.Resources{Objects: []deploy.ObjectStep{
		{Tag: "v1", Step: map[string]any{"new_sqlite_classes": []string{"A", "B"}}},
		{Tag: "v2", Step: map[string]any{"renamed_classes": []any{map[string]any{"from": "A", "to": "C"}}, "deleted_classes": []string{"B"}}},
	}}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back deploy.Resources
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Classes(), []string{"C"}) || !slices.Equal(back.Classes(), []string{"C"}) {
		t.Errorf("%v %v", r.Classes(), back.Classes())
	}
}

// bound bundles with a binding to other Workers.
type bound struct {
	bundler
	binding deploy.Binding
}

func (b bound) Bundle(ctx context.Context, src deploy.Source) (*deploy.Artifact, error) {
	a, err := b.bundler.Bundle(ctx, src)
	if err != nil {
		return nil, err
	}
	a.Bindings = []deploy.Binding{b.binding}
	return a, a.Seal()
}

// TestBoundToNothing: on a new account there is no other Worker, which is known before
// there is one.
func TestBoundToNothing(t *testing.T) {
	for _, b := range []deploy.Binding{
		{"name": "B", "type": "service", "service": "other"},
		{"name": "B", "type": "durable_object_namespace", "class_name": "Room", "script_name": "other"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			s := w.service(func(c *deploy.Config) { c.Bundler = bound{binding: b} })
			_, err := s.Deploy(t.Context(), me, worker("200 x"))
			if e := deploy.AsError(err); e == nil || e.Code != deploy.CodeConfigInvalid || !strings.Contains(e.Message, "Worker other") || !strings.Contains(e.Next, "session_id") || w.provisions != 0 {
				t.Errorf("%v, %d accounts", err, w.provisions)
			}
			// Into an account that exists it goes: the API knows what is there.
			first := must(t, w.service(), worker("200 other"))
			req := worker("200 x")
			req.SessionID = first.SessionID
			must(t, s, req)
			if w.provisions != 1 {
				t.Errorf("%d accounts", w.provisions)
			}
		})
	}
}
