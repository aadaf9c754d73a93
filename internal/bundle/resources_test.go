package bundle_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

const roomWorker = `import { DurableObject } from "cloudflare:workers";
export class Room extends DurableObject {}
export { Lobby } from "./lobby";
export default { async fetch() { return new Response("hello") } }`

func withConfig(config string, more ...string) deploy.Source {
	files := map[string]string{
		"wrangler.jsonc": `{"name": "app", "main": "index.js", "compatibility_date": "2026-08-01", ` + config + `}`,
		"index.js":       roomWorker, "lobby.js": `export class Lobby {}`,
	}
	for i := 0; i+1 < len(more); i += 2 {
		files[more[i]] = more[i+1]
	}
	return inline(files)
}

func TestResources(t *testing.T) {
	b := newBundler(t, bundle.Config{})
	a, err := b.Bundle(t.Context(), withConfig(`
		"vars": {"A": "x"},
		"services": [{"binding": "BACK", "service": "back", "entrypoint": "Api"}],
		"kv_namespaces": [{"binding": "KV"}, {"binding": "KV2", "id": "8cfa1af4c73c069b44c8ea79beb7f8ec"}],
		"d1_databases": [{"binding": "DB", "database_name": "notes", "migrations_dir": "./sql", "migrations_table": "done"}],
		"queues": {"producers": [{"binding": "Q", "queue": "jobs", "delivery_delay": 5}, {"binding": "OWN_Q"}],
			"consumers": [{"queue": "jobs", "max_batch_size": 5, "max_batch_timeout": 2.5, "max_retries": 0, "dead_letter_queue": "dead", "retry_delay": 1, "max_concurrency": null}]},
		"durable_objects": {"bindings": [{"name": "ROOM", "class_name": "Room"}, {"name": "FAR", "class_name": "X", "script_name": "other"}]},
		"migrations": [{"tag": "v1", "new_sqlite_classes": ["Room", "Old"]}, {"tag": "v2", "renamed_classes": [{"from": "Old", "to": "Lobby"}], "deleted_classes": []}],
		"hyperdrive": [{"binding": "H", "id": "abc"}],
		"triggers": {"crons": ["*/5 * * * *"]}`,
		"sql/0002_b.sql", "B;", "sql/0001_a.sql", "A;", "sql/readme.md", "no"))
	if err != nil {
		t.Fatal(err)
	}
	want := []deploy.Binding{
		{"name": "A", "type": "plain_text", "text": "x"},
		{"name": "KV", "type": "kv_namespace"},
		{"name": "KV2", "type": "kv_namespace", "namespace_id": "8cfa1af4c73c069b44c8ea79beb7f8ec"},
		{"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room"},
		{"name": "FAR", "type": "durable_object_namespace", "class_name": "X", "script_name": "other"},
		{"name": "Q", "type": "queue", "queue_name": "jobs", "delivery_delay": a.Bindings[5]["delivery_delay"]},
		{"name": "OWN_Q", "type": "queue"},
		{"name": "DB", "type": "d1"},
		{"name": "H", "type": "hyperdrive", "id": "abc"},
		{"name": "BACK", "type": "service", "service": "back", "entrypoint": "Api"},
	}
	if diff := cmp.Diff(want, a.Bindings); diff != "" {
		t.Error(diff)
	}
	wantRes := &deploy.Resources{
		Databases: []deploy.Database{{Binding: "DB", Name: "notes", Table: "done", Migrations: []deploy.Migration{
			{Name: "0001_a.sql", File: "sql/0001_a.sql", SQL: "A;"}, {Name: "0002_b.sql", File: "sql/0002_b.sql", SQL: "B;"},
		}}},
		Consumers: []deploy.Consumer{{Queue: "jobs", DeadLetter: "dead", Settings: map[string]any{"batch_size": 5.0, "max_wait_time_ms": 2500.0, "max_retries": 0.0, "retry_delay": 1.0}}},
		Crons:     []string{"*/5 * * * *"}, HasCrons: true,
		Objects: []deploy.ObjectStep{
			{Tag: "v1", Step: map[string]any{"new_sqlite_classes": []string{"Room", "Old"}}},
			{Tag: "v2", Step: map[string]any{"renamed_classes": []any{map[string]any{"from": "Old", "to": "Lobby"}}}},
		},
	}
	if diff := cmp.Diff(wantRes, a.Resources); diff != "" {
		t.Error(diff)
	}
	if got := a.QueueNames(); fmt.Sprint(got) != "[dead jobs]" {
		t.Error(got)
	}
	// What decides what is deployed decides the digest.
	other, err := b.Bundle(t.Context(), withConfig(`"triggers": {"crons": ["1 * * * *"]}`))
	again, err2 := b.Bundle(t.Context(), withConfig(`"triggers": {"crons": ["2 * * * *"]}`))
	if err != nil || err2 != nil || other.Digest == again.Digest {
		t.Errorf("%v %v: the digest does not hold the triggers", err, err2)
	}
}

// TestResourcesTOML: the same from the other format.
func TestResourcesTOML(t *testing.T) {
	b := newBundler(t, bundle.Config{})
	a, err := b.Bundle(t.Context(), inline(map[string]string{
		"index.js": roomWorker, "lobby.js": "export class Lobby {}",
		"wrangler.toml": `name = "app"
main = "index.js"
compatibility_date = 2026-08-01
[[kv_namespaces]]
binding = "KV"
[[queues.consumers]]
queue = "jobs"
max_batch_size = 7
max_batch_timeout = 3
[triggers]
crons = []
[[migrations]]
tag = "v1"
new_sqlite_classes = ["Room"]
[[env.prod.kv_namespaces]]
binding = "PROD_KV"
`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Bindings) != 1 || a.Bindings[0].Name() != "KV" || !a.Resources.HasCrons || len(a.Resources.Crons) != 0 {
		t.Errorf("%v %+v", a.Bindings, a.Resources)
	}
	if diff := cmp.Diff(map[string]any{"batch_size": 7.0, "max_wait_time_ms": 3000.0}, a.Resources.Consumers[0].Settings); diff != "" {
		t.Error(diff)
	}
}

// TestResourceMistakes: each names the key, and what to do.
func TestResourceMistakes(t *testing.T) {
	b := newBundler(t, bundle.Config{})
	const classes = `"migrations": [{"tag": "v1", "new_sqlite_classes": ["Room"]}]`
	for config, want := range map[string]struct {
		code  deploy.Code
		words []string
	}{
		`"kv_namespaces": "KV"`:                                                     {deploy.CodeConfigInvalid, []string{"kv_namespaces", "a list"}},
		`"kv_namespaces": ["KV"]`:                                                   {deploy.CodeConfigInvalid, []string{"kv_namespaces[0]", "an object"}},
		`"kv_namespaces": [{"id": "x"}]`:                                            {deploy.CodeConfigInvalid, []string{"kv_namespaces[0].binding"}},
		`"kv_namespaces": [{"binding": "A", "id": 5}]`:                              {deploy.CodeConfigInvalid, []string{"kv_namespaces[0].id"}},
		`"kv_namespaces": [{"binding": "A", "id": "../x"}]`:                         {deploy.CodeConfigInvalid, []string{"kv_namespaces[0].id", "letters"}},
		`"kv_namespaces": [{"binding": "A"}, {"binding":"A"}]`:                      {deploy.CodeConfigInvalid, []string{`"A"`, "twice"}},
		`"d1_databases": [{"binding": "A", "database_name": "a b"}]`:                {deploy.CodeConfigInvalid, []string{"d1_databases[0].database_name"}},
		`"d1_databases": [{"binding": "A", "migrations_dir": "nowhere"}]`:           {deploy.CodeConfigInvalid, []string{"migrations_dir", "nowhere"}},
		`"d1_databases": [{"binding": "A", "migrations_dir": "../../etc"}]`:         {deploy.CodePathInvalid, []string{"migrations_dir"}},
		`"d1_databases": [{"binding": "A", "migrations_table": "x; DROP TABLE y"}]`: {deploy.CodeConfigInvalid, []string{"migrations_table"}},
		`"queues": []`:                {deploy.CodeConfigInvalid, []string{"queues", "an object"}},
		`"queues": {"producers": {}}`: {deploy.CodeConfigInvalid, []string{"queues.producers"}},
		`"queues": {"producers": [{"binding": "Q", "queue": "a/b"}]}`:              {deploy.CodeConfigInvalid, []string{"queues.producers[0].queue"}},
		`"queues": {"consumers": [{}]}`:                                            {deploy.CodeConfigInvalid, []string{"queues.consumers[0].queue"}},
		`"queues": {"consumers": [{"queue": "q", "max_retries": "3"}]}`:            {deploy.CodeConfigInvalid, []string{"max_retries", "a number"}},
		`"queues": {"consumers": [{"queue": "q", "max_retries": -1}]}`:             {deploy.CodeConfigInvalid, []string{"max_retries"}},
		`"queues": {"consumers": [{"queue": "q", "max_batch_size": 500}]}`:         {deploy.CodeConfigInvalid, []string{"queues.consumers[0].max_batch_size", "1 to 100"}},
		`"queues": {"consumers": [{"queue": "q", "max_batch_timeout": 61}]}`:       {deploy.CodeConfigInvalid, []string{"max_batch_timeout", "60"}},
		`"queues": {"producers": [{"binding": "Q", "delivery_delay": "5"}]}`:       {deploy.CodeConfigInvalid, []string{"queues.producers[0].delivery_delay"}},
		`"queues": {"consumers": [{"queue": "q", "type": "http_pull"}]}`:           {deploy.CodeConfigInvalid, []string{"type", "worker"}},
		`"triggers": {"crons": "* * * * *"}`:                                       {deploy.CodeConfigInvalid, []string{"triggers.crons"}},
		`"triggers": {"crons": ["1 * * * *", "bad cron"]}`:                         {deploy.CodeConfigInvalid, []string{"triggers.crons[1]", "five fields"}},
		`"triggers": {"crons": [5]}`:                                               {deploy.CodeConfigInvalid, []string{"triggers.crons"}},
		`"durable_objects": {"bindings": [{"name": "R", "class_name": "Room"}]}`:   {deploy.CodeConfigInvalid, []string{"Room", "no migration", "new_sqlite_classes"}},
		`"migrations": [{"tag": "v1", "new_classes": ["Room"]}]`:                   {deploy.CodeNotSupported, []string{"new_classes", "10097", "new_sqlite_classes"}},
		`"migrations": [{"tag": "v1", "new_sqlite_classes": ["Missing"]}]`:         {deploy.CodeConfigInvalid, []string{"Missing", "not exported", "Room"}},
		`"migrations": [{"new_sqlite_classes": ["Room"]}]`:                         {deploy.CodeConfigInvalid, []string{"migrations[0].tag"}},
		classes[:len(classes)-1] + `, {"tag": "v1", "deleted_classes": ["Room"]}]`: {deploy.CodeConfigInvalid, []string{"tag"}},
		`"migrations": [{"tag": "v1", "renamed_classes": [{"from": "A"}]}]`:        {deploy.CodeConfigInvalid, []string{"renamed_classes[0].to"}},
		`"exports": {"Room": {"type": "durable-object"}}`:                          {deploy.CodeNotSupported, []string{"exports", "migrations"}},
		`"r2_buckets": [{"binding": "B"}]`:                                         {deploy.CodeNotSupported, []string{"r2_buckets"}},
		`"ratelimits": [{"name": "B"}]`:                                            {deploy.CodeNotSupported, []string{"ratelimits"}},
	} {
		t.Run(config[:min(len(config), 60)], func(t *testing.T) {
			refused(t, b, withConfig(config), want.code, want.words...)
		})
	}
	// A migration that is taken back needs no class any more.
	src := withConfig(`"migrations": [{"tag": "v1", "new_sqlite_classes": ["Gone"]}, {"tag": "v2", "deleted_classes": ["Gone"]}]`)
	if _, err := b.Bundle(t.Context(), src); err != nil {
		t.Error(err)
	}
	// Environments have resources of their own.
	src = withConfig(`"kv_namespaces": [{"binding": "TOP"}], "env": {"staging": {"kv_namespaces": [{"binding": "STAGE"}]}}`)
	src.Environment = "staging"
	a, err := b.Bundle(t.Context(), src)
	if err != nil || len(a.Bindings) != 1 || a.Bindings[0].Name() != "STAGE" {
		t.Errorf("%+v %v", a, err)
	}
	if !strings.HasSuffix(a.Name, "-staging") {
		t.Error(a.Name)
	}
}

func TestSecretBindings(t *testing.T) {
	b := newBundler(t, bundle.Config{})
	a, err := b.Bundle(t.Context(), withConfig(`"vars": {"A": {"from_env": "MY_KEY"}, "B": {"secret": "plain value"}, "C": {"from_env": "x", "more": 1}}, "secrets": {"required": ["A", "NEEDED"]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []deploy.Binding{
		{"name": "C", "type": "json", "json": map[string]any{"from_env": "x", "more": a.Bindings[0]["json"].(map[string]any)["more"]}},
		{"name": "A", "type": "secret_text", "from_env": "MY_KEY"},
		{"name": "B", "type": "secret_text", "text": "plain value"},
		{"name": "NEEDED", "type": "secret_text", "from_env": "NEEDED"},
	}
	if diff := cmp.Diff(want, a.Bindings); diff != "" {
		t.Error(diff)
	}
	refused(t, b, withConfig(`"vars": {"A": {"from_env": "not a name"}}`), deploy.CodeConfigInvalid, "vars.A.from_env")
	refused(t, b, withConfig(`"vars": {"A": {"from_env": 5}}`), deploy.CodeConfigInvalid, "vars.A.from_env")
}

// TestSecretLookingFiles: by any name that begins or ends like theirs, under the name
// of another, and where their own folder is the site.
func TestSecretLookingFiles(t *testing.T) {
	const config = `{"name": "site", "compatibility_date": "2026-08-01", "assets": {"directory": "pub"}}`
	left := []string{
		".env", ".env.production", ".envrc", ".env-prod", ".ENV_LOCAL", ".env~", "e/.env/key", "a/.dev.vars", ".dev.vars-old", ".npmrc", "b/.npmrc.bak", ".git/config", "c/.git/HEAD",
		"server.key", "k.pem", "putty.ppk", "id_ed25519", ".ssh/known_hosts",
	}
	kept := []string{"index.html", "environment.txt", "env", "a.env.html", "keys.html", "gitignore", ".gitignore", "id_rsa.pub", "dev.vars.md"}
	files := map[string]string{"wrangler.jsonc": config, "pub/pgp.txt": "-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "pub/pub.txt": "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"}
	for _, name := range append(left, kept...) {
		files["pub/"+name] = "x"
	}
	b := newBundler(t, bundle.Config{})
	a := must(t, b, inline(files))
	slices.Sort(a.Assets.LeftOut)
	want := append(left, "pgp.txt")
	slices.Sort(want)
	if diff := cmp.Diff(want, a.Assets.LeftOut); diff != "" {
		t.Error(diff)
	}
	if len(a.Assets.Files) != len(kept)+1 {
		t.Errorf("%d files", len(a.Assets.Files))
	}
	for _, dir := range []string{".git", ".git/sub", ".env.d"} {
		a, err := b.Bundle(t.Context(), inline(map[string]string{
			"wrangler.jsonc": strings.Replace(config, `"pub"`, `"`+dir+`"`, 1), dir + "/config": "[remote]", dir + "/index.html": "x",
		}))
		if err == nil {
			t.Errorf("%s was deployed: %v", dir, a.Assets.Files)
		}
	}
	dirOnDisk := t.TempDir()
	for name, content := range map[string]string{"wrangler.jsonc": config, "pub/index.html": "x", ".env": "A=secret"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dirOnDisk, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dirOnDisk, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../.env", filepath.Join(dirOnDisk, "pub", "settings.txt")); err != nil {
		t.Fatal(err)
	}
	a = must(t, newBundler(t, bundle.Config{Roots: []string{dirOnDisk}}), deploy.Source{ProjectDir: dirOnDisk})
	if diff := cmp.Diff([]string{"settings.txt"}, a.Assets.LeftOut); diff != "" || len(a.Assets.Files) != 1 {
		t.Errorf("%s %v", diff, a.Assets.Files)
	}
}

func TestAllowedFiles(t *testing.T) {
	files := map[string]string{
		"wrangler.jsonc": `{"name": "site", "compatibility_date": "2026-08-01", "assets": {"directory": "pub"}}`,
		"pub/index.html": "x", "pub/.well-known/public.pem": "-----BEGIN PUBLIC KEY-----", "pub/sub/.env.example": "A=", "pub/.env": "A=b",
		"pub/cert.txt": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\ny", "pub/ca.crt": "-----BEGIN CERTIFICATE-----",
		"pub/account.json": `{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\nabc"}`,
	}
	paths := func(a *deploy.Artifact) (out []string) {
		for _, f := range a.Assets.Files {
			out = append(out, f.Path)
		}
		return out
	}
	a := must(t, newBundler(t, bundle.Config{}), inline(files))
	if diff := cmp.Diff([]string{"/ca.crt", "/index.html"}, paths(a)); diff != "" {
		t.Error(diff)
	}
	if len(a.Assets.LeftOut) != 5 || !strings.Contains(strings.Join(a.Warnings, " "), "--allow-file") || !strings.Contains(strings.Join(a.Warnings, " "), "account.json") {
		t.Errorf("%v %v", a.Assets.LeftOut, a.Warnings)
	}
	a = must(t, newBundler(t, bundle.Config{AllowFiles: []string{".well-known/*.pem", "/**/.env.example"}}), inline(files))
	if diff := cmp.Diff([]string{"/.well-known/public.pem", "/ca.crt", "/index.html", "/sub/.env.example"}, paths(a)); diff != "" {
		t.Error(diff)
	}
	if _, err := bundle.New(bundle.Config{AllowFiles: []string{""}}); err == nil {
		t.Error("an empty pattern was taken")
	}
}
