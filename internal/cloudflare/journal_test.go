package cloudflare_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// book is a Journal that remembers what it was told, and what was sent meanwhile.
type book struct {
	f      *fake
	mu     sync.Mutex
	lines  []string
	refuse deploy.StepKind // Begin fails
	lose   deploy.StepKind // settle fails
}

var (
	errRefused = errors.New("not now")
	errSettle  = errors.New("can't be settled")
)

func (b *book) Begin(_ context.Context, kind deploy.StepKind, what string) (func(string, error) error, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if kind == b.refuse {
		return nil, errRefused
	}
	before := len(b.f.requests())
	i := len(b.lines)
	b.lines = append(b.lines, string(kind)+" "+what+" open")
	return func(ref string, err error) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		end := "done " + ref
		if err != nil {
			end = string(deploy.AsError(err).Code)
		}
		if len(b.f.requests()) == before {
			end += ", and nothing was sent"
		}
		b.lines[i] = strings.TrimSpace(string(kind) + " " + what + ": " + end)
		if kind == b.lose {
			return errSettle
		}
		return nil
	}, nil
}

// journaled is a fake on which app is deployed with everything that it has.
func journaled(t *testing.T) *fake {
	t.Helper()
	f := newFake(t).happy().cared()
	newAssetServer(t, f, 2)
	id := map[string]string{"id": "x1", "uuid": "x1", "queue_id": "x1", "queue_name": "jobs", "consumer_id": "c9"}
	f.on("GET "+base+"/workers/scripts/"+worker+"/settings", result(map[string]any{"bindings": []any{}}))
	f.on("GET "+base+"/workers/services/"+worker, result(map[string]any{}))
	f.on("PUT "+base+"/workers/scripts/"+worker+"/schedules", result(nil))
	f.on("GET "+base+"/storage/kv/namespaces", result([]any{}))
	f.on("POST "+base+"/storage/kv/namespaces", result(id))
	f.on("GET "+base+"/d1/database/notes", refusal(404, 7404, "none"))
	f.on("POST "+base+"/d1/database", result(id))
	f.on("POST "+base+"/d1/database/x1/query", result([]any{map[string]any{"success": true}}))
	f.on("GET "+base+"/queues", result([]any{}))
	f.on("POST "+base+"/queues", result(id))
	f.on("POST "+base+"/queues/x1/consumers", result(id))
	return f
}

// everything takes every step that there is.
func everything(t *testing.T, f *fake, b *book) []error {
	t.Helper()
	ctx := deploy.WithJournal(t.Context(), b)
	c := f.newClient(t)
	a := app()
	a.Assets = site().Assets
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	_, err := c.Provision(ctx, nil)
	note(err)
	_, err = c.Prepare(ctx, account(), a, nil)
	note(err)
	_, err = c.Upload(ctx, account(), deploy.Upload{Artifact: a})
	note(err)
	_, err = c.EnableRoute(ctx, account(), worker)
	note(err)
	_, err = c.Trigger(ctx, account(), a)
	note(err)
	note(c.DeleteResource(ctx, account(), deploy.OwnedResource{Type: "kv_namespace", Name: "old", Ref: "n1"}))
	note(c.DeleteWorker(ctx, account(), worker))
	return errs
}

// TestJournal: every step with an effect is told before it is taken, and settled with
// what the API calls the result.
func TestJournal(t *testing.T) {
	f := journaled(t)
	b := &book{f: f}
	if err := errors.Join(everything(t, f, b)...); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"create_account temporary account: done " + accountID,
		"create_resource kv_namespace hello-cache-kv: done x1",
		"create_resource queue jobs: done x1",
		"create_resource d1 notes: done x1",
		"apply_migration migrations/0001_a.sql: done",
		"apply_migration migrations/0002_it's.sql: done",
		"upload_assets hello: done",
		"upload_script hello: done " + version,
		"enable_route hello: done",
		"set_trigger schedules hello: done",
		"create_resource queue dead: done x1",
		"create_resource queue jobs: done x1", // the fake never has it
		"set_trigger consumer jobs: done c9",
		"delete kv_namespace old: done",
		"delete worker hello: done",
	}
	if diff := cmp.Diff(want, b.lines); diff != "" {
		t.Error(diff)
	}
}

// TestJournalRefuses: a step that can't be written down is not taken, and its caller
// gets the journal's own error.
func TestJournalRefuses(t *testing.T) {
	effects := map[deploy.StepKind]string{
		deploy.StepCreateAccount: routeCreate, deploy.StepCreateResource: "POST " + base + "/storage/kv/namespaces",
		deploy.StepUploadAssets: routeAssets, deploy.StepUploadScript: routeUpload, deploy.StepEnableRoute: routeEnable,
		deploy.StepSetTrigger: "PUT " + base + "/workers/scripts/" + worker + "/schedules", deploy.StepDelete: routeDelete,
	}
	for kind, route := range effects {
		f := journaled(t)
		b := &book{f: f, refuse: kind}
		errs := everything(t, f, b)
		if !errors.Is(errors.Join(errs...), errRefused) {
			t.Errorf("%s: %v", kind, errs)
		}
		if f.count(route) != 0 {
			t.Errorf("%s was taken, although it was refused", kind)
		}
	}
	f := journaled(t)
	errs := everything(t, f, &book{f: f, refuse: deploy.StepApplyMigration})
	if !errors.Is(errs[1], errRefused) {
		t.Errorf("migration: %v", errs[1])
	}
	for _, s := range f.requests() {
		if strings.Contains(s.Body, "INSERT INTO") {
			t.Error("a migration was applied, although it was refused")
		}
	}
}

// TestJournalCannotSettle: the caller is told, and an account that was made comes along.
func TestJournalCannotSettle(t *testing.T) {
	f := journaled(t)
	ctx := deploy.WithJournal(t.Context(), &book{f: f, lose: deploy.StepCreateAccount})
	grant, err := f.newClient(t).Provision(ctx, nil)
	if !errors.Is(err, errSettle) || grant == nil || grant.Account.ID != accountID {
		t.Errorf("%+v %v", grant, err)
	}
	for i, kind := range []deploy.StepKind{deploy.StepCreateResource, deploy.StepUploadScript, deploy.StepEnableRoute, deploy.StepSetTrigger, deploy.StepDelete} {
		f := journaled(t)
		if errs := everything(t, f, &book{f: f, lose: kind}); !errors.Is(errs[min(i+1, 5)], errSettle) {
			t.Errorf("%s: %v", kind, errs)
		}
	}
}

// TestJournalHearsOfFailures: a step is settled with its own error, once, however often
// it was tried.
func TestJournalHearsOfFailures(t *testing.T) {
	f := journaled(t)
	f.on(routeUpload, says(http.StatusInternalServerError, "{}"))
	f.on(routeCreate, refusal(http.StatusTooManyRequests, 971, "wait"))
	b := &book{f: f}
	c := f.newClient(t)
	ctx := deploy.WithJournal(t.Context(), b)
	_, err := c.Provision(ctx, nil)
	wantError(t, err, deploy.CodeRateLimited, "")
	_, err = c.Upload(ctx, account(), deploy.Upload{Artifact: hello()})
	wantError(t, err, deploy.CodeAPIBadResponse, "")
	want := []string{"create_account temporary account: rate_limited", "upload_script hello: api_bad_response"}
	if diff := cmp.Diff(want, b.lines); diff != "" {
		t.Error(diff)
	}
	if n := f.count(routeUpload); n != 5 {
		t.Errorf("%d tries", n)
	}
}
