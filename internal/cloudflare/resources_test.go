package cloudflare_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// resourceServer plays an account's resources, and can fail before or after the effect
// of any call that has one.
type resourceServer struct {
	*fake
	mu         sync.Mutex
	namespaces map[string]string // title by id
	databases  map[string]string // name by id
	applied    []string          // migrations, as recorded
	badSQL     string            // a migration with this text is refused
	queues     map[string]string // name by id
	consumers  map[string]map[string]any
	schedules  []string
	settings   []deploy.Binding // of the deployed version; nil: there is none
	tag        string           // its migration tag
	next       int
	// fault is asked at each call with an effect: "before", "after" or "".
	fault func() string
}

func newResourceServer(t *testing.T) *resourceServer {
	s := &resourceServer{
		fake: newFake(t), namespaces: map[string]string{}, databases: map[string]string{}, queues: map[string]string{},
		consumers: map[string]map[string]any{}, fault: func() string { return "" },
	}
	s.Config.Handler = http.HandlerFunc(s.handle)
	return s
}

func (s *resourceServer) handle(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	var list []map[string]any
	raw := json.NewDecoder(r.Body)
	if strings.HasSuffix(r.URL.Path, "/schedules") {
		_ = raw.Decode(&list)
	} else {
		_ = raw.Decode(&body)
	}
	path := strings.TrimPrefix(r.URL.Path, basePath+"/accounts/"+accountID)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fake.mu.Lock()
	said, _ := json.Marshal(body)
	s.seen = append(s.seen, seen{r.Method, path, r.URL.RawQuery, r.Header.Clone(), string(said)})
	s.fake.mu.Unlock()
	fault := ""
	if r.Method != http.MethodGet {
		fault = s.fault()
	}
	if fault == "before" {
		refusal(500, 10001, "at the wrong moment")(w, r)
		return
	}
	answer := s.effect(r.Method, path, r.URL.Query().Get("name"), body, list)
	if fault == "after" {
		panic(http.ErrAbortHandler) // the connection is cut
	}
	answer(w, r)
}

func (s *resourceServer) id() string { s.next++; return fmt.Sprintf("%032x", s.next) }

func keyOf(m map[string]string, value string) string {
	for k, v := range m {
		if v == value {
			return k
		}
	}
	return ""
}

func (s *resourceServer) effect(method, path, name string, body map[string]any, list []map[string]any) http.HandlerFunc {
	str := func(k string) string { v, _ := body[k].(string); return v }
	last := path[strings.LastIndex(path, "/")+1:]
	switch {
	case strings.HasSuffix(path, "/settings"):
		if s.settings == nil {
			return refusal(404, 10007, "no such Worker")
		}
		return result(map[string]any{"bindings": s.settings})
	case strings.HasPrefix(path, "/workers/services/"):
		if s.settings == nil {
			return refusal(404, 10090, "no such Worker")
		}
		return result(map[string]any{"default_environment": map[string]any{"script": map[string]any{"migration_tag": s.tag}}})
	case strings.HasSuffix(path, "/schedules"):
		s.schedules = nil
		for _, row := range list {
			c, _ := row["cron"].(string)
			s.schedules = append(s.schedules, c)
		}
		return result(nil)
	case path == "/storage/kv/namespaces" && method == http.MethodGet:
		rows := []any{}
		for _, id := range slices.Sorted(maps.Keys(s.namespaces)) {
			rows = append(rows, map[string]any{"id": id, "title": s.namespaces[id]})
		}
		return result(rows)
	case path == "/storage/kv/namespaces":
		if keyOf(s.namespaces, str("title")) != "" {
			return refusal(400, 10014, "exists")
		}
		id := s.id()
		s.namespaces[id] = str("title")
		return result(map[string]any{"id": id})
	case strings.HasPrefix(path, "/storage/kv/namespaces/"):
		if s.namespaces[last] == "" {
			return refusal(404, 10013, "none")
		}
		return result(map[string]any{"id": last})
	case path == "/d1/database":
		if keyOf(s.databases, str("name")) != "" {
			return refusal(400, 7502, "exists")
		}
		id := s.id()
		s.databases[id] = str("name")
		return result(map[string]any{"uuid": id, "name": str("name")})
	case strings.HasSuffix(path, "/query"):
		return s.query(str("sql"))
	case strings.HasPrefix(path, "/d1/database/"):
		id := last
		if s.databases[id] == "" {
			id = keyOf(s.databases, last)
		}
		if id == "" {
			return refusal(404, 7404, "none")
		}
		return result(map[string]any{"uuid": id, "name": s.databases[id]})
	case path == "/queues" && method == http.MethodGet:
		rows := []any{}
		if id := keyOf(s.queues, name); id != "" {
			consumers := []any{}
			if c := s.consumers[id]; c != nil {
				consumers = append(consumers, map[string]any{"consumer_id": "c" + id, "type": "worker", "script": c["script_name"]})
			}
			rows = append(rows, map[string]any{"queue_id": id, "queue_name": name, "consumers": consumers})
		}
		return result(rows)
	case path == "/queues":
		if keyOf(s.queues, str("queue_name")) != "" {
			return refusal(409, 11009, "exists")
		}
		id := s.id()
		s.queues[id] = str("queue_name")
		return result(map[string]any{"queue_id": id, "queue_name": str("queue_name")})
	case strings.Contains(path, "/consumers"):
		id := strings.Split(path, "/")[2]
		if method == http.MethodPost && s.consumers[id] != nil {
			return refusal(409, 11004, "has one")
		}
		s.consumers[id] = body
		return result(nil)
	}
	return refusal(404, 7003, "no such route")
}

func (s *resourceServer) query(sql string) http.HandlerFunc {
	rows := []any{}
	switch {
	case strings.HasPrefix(sql, "SELECT"):
		for i, name := range s.applied {
			rows = append(rows, map[string]any{"id": i + 1, "name": name})
		}
	case strings.Contains(sql, "hourglass_no_such_table") && (s.badSQL == "" || !strings.Contains(sql, s.badSQL)):
		return refusal(400, 7500, "no such table: hourglass_no_such_table: SQLITE_ERROR")
	case s.badSQL != "" && strings.Contains(sql, s.badSQL):
		return refusal(400, 7500, `near "`+s.badSQL+`": syntax error at offset 1: SQLITE_ERROR`)
	case strings.Contains(sql, "INSERT INTO \"d1_migrations\" (name) VALUES ('"):
		_, rest, _ := strings.Cut(sql, "VALUES ('")
		name, _, _ := strings.Cut(rest, "')")
		name = strings.ReplaceAll(name, "''", "'")
		if slices.Contains(s.applied, name) {
			return refusal(400, 7500, "UNIQUE constraint failed: d1_migrations.name")
		}
		s.applied = append(s.applied, name)
	}
	return result([]any{map[string]any{"results": rows, "success": true, "meta": map[string]any{}}})
}

// app is an artifact with one of everything.
func app() *deploy.Artifact {
	a := hello()
	a.Bindings = []deploy.Binding{
		{"name": "WHO", "type": "plain_text", "text": "you"},
		{"name": "CACHE_KV", "type": "kv_namespace"},
		{"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room"},
		{"name": "Q", "type": "queue", "queue_name": "jobs"},
		{"name": "DB", "type": "d1"},
	}
	a.Resources = &deploy.Resources{
		Databases: []deploy.Database{{Binding: "DB", Name: "notes", Table: "d1_migrations", Migrations: []deploy.Migration{
			{Name: "0001_a.sql", File: "migrations/0001_a.sql", SQL: "CREATE TABLE a (x);"}, {Name: "0002_it's.sql", File: "migrations/0002_it's.sql", SQL: "-- b\nCREATE TABLE b (x);"},
		}}},
		Objects:   []deploy.ObjectStep{{Tag: "v1", Step: map[string]any{"new_sqlite_classes": []string{"Room"}}}},
		Consumers: []deploy.Consumer{{Queue: "jobs", Settings: map[string]any{"batch_size": 5.0}, DeadLetter: "dead"}},
		Crons:     []string{"*/5 * * * *"}, HasCrons: true,
	}
	return a
}

func TestPrepare(t *testing.T) {
	s := newResourceServer(t)
	c := s.newClient(t)
	var stages []deploy.Stage
	p, err := c.Prepare(t.Context(), account(), app(), func(st deploy.Stage) { stages = append(stages, st) })
	if err != nil {
		t.Fatal(err)
	}
	want := &deploy.Prepared{
		Bindings: []deploy.Binding{
			{"name": "WHO", "type": "plain_text", "text": "you"},
			{"name": "CACHE_KV", "type": "kv_namespace", "namespace_id": keyOf(s.namespaces, worker+"-cache-kv")},
			{"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room"},
			{"name": "Q", "type": "queue", "queue_name": "jobs"},
			{"name": "DB", "type": "d1", "id": keyOf(s.databases, "notes")},
		},
		Objects: map[string]any{"new_tag": "v1", "steps": []any{map[string]any{"new_sqlite_classes": []string{"Room"}}}},
		Resources: []deploy.Resource{
			{Type: "kv_namespace", Binding: "CACHE_KV", Name: worker + "-cache-kv", State: "made"},
			{Type: "queue", Binding: "Q", Name: "jobs", State: "made"},
			{Type: "d1", Binding: "DB", Name: "notes", State: "made", Applied: []string{"0001_a.sql", "0002_it's.sql"}},
			{Type: "durable_objects", Name: "Room", State: "made"},
		},
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(stages, []deploy.Stage{deploy.StageMigrate}) {
		t.Errorf("stages: %v", stages)
	}
	list, err := c.Trigger(t.Context(), account(), app())
	if err != nil || len(list) != 3 {
		t.Errorf("%v %v", list, err)
	}
	if got := s.consumers[keyOf(s.queues, "jobs")]; got["script_name"] != worker || got["type"] != "worker" || got["dead_letter_queue"] != "dead" || fmt.Sprint(got["settings"]) != "map[batch_size:5]" {
		t.Errorf("consumer: %v", got)
	}
	if !slices.Equal(s.schedules, []string{"*/5 * * * *"}) || keyOf(s.queues, "dead") == "" {
		t.Errorf("%v %v", s.schedules, s.queues)
	}

	// The next deployment inherits, applies nothing twice and changes its consumer.
	s.settings = p.Bindings
	s.tag = "v1"
	s.applied = []string{"0001_a.sql", "0002_it's.sql"}
	before := s.next
	p, err = c.Prepare(t.Context(), account(), app(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range map[int]string{1: "CACHE_KV", 3: "Q", 4: "DB"} {
		if diff := cmp.Diff(deploy.Binding{"name": name, "type": "inherit"}, p.Bindings[i]); diff != "" {
			t.Error(diff)
		}
	}
	if p.Objects != nil || s.next != before || len(p.Resources) != 4 || p.Resources[0].State != "kept" || p.Resources[2].Applied != nil {
		t.Errorf("%+v", p)
	}
	if _, err := c.Trigger(t.Context(), account(), app()); err != nil {
		t.Error(err)
	}
}

// TestPrepareNames: what changes under a binding is not inherited.
func TestPrepareNames(t *testing.T) {
	s := newResourceServer(t)
	c := s.newClient(t)
	s.databases["d1"], s.queues["q1"] = "old", "old"
	s.settings = []deploy.Binding{{"name": "DB", "type": "d1", "id": "d1"}, {"name": "Q", "type": "queue", "queue_name": "old"}, {"name": "CACHE_KV", "type": "plain_text"}}
	a := app()
	p, err := c.Prepare(t.Context(), account(), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]deploy.Binding{
		1: {"name": "CACHE_KV", "type": "kv_namespace", "namespace_id": keyOf(s.namespaces, worker+"-cache-kv")},
		3: {"name": "Q", "type": "queue", "queue_name": "jobs"},
		4: {"name": "DB", "type": "d1", "id": keyOf(s.databases, "notes")},
	} {
		if diff := cmp.Diff(want, p.Bindings[i]); diff != "" {
			t.Error(diff)
		}
	}
	// Ids that the account has are taken as they are, on every deployment.
	theirs := slices.Clone(a.Bindings)
	theirs[1] = deploy.Binding{"name": "CACHE_KV", "type": "kv_namespace", "namespace_id": keyOf(s.namespaces, worker+"-cache-kv")}
	theirs[4] = deploy.Binding{"name": "DB", "type": "d1", "id": "d1"}
	withIDs := *a
	withIDs.Bindings = theirs
	made := s.next
	for range 2 {
		p, err := c.Prepare(t.Context(), account(), &withIDs, nil)
		if err != nil || len(p.Warnings) != 0 || s.next != made {
			t.Fatalf("%+v %v", p, err)
		}
		for _, i := range []int{1, 4} {
			if diff := cmp.Diff(theirs[i], p.Bindings[i]); diff != "" {
				t.Error(diff)
			}
		}
		s.settings = p.Bindings
	}
	s.settings = []deploy.Binding{}
	// Ids of another account: resources of this one stand in, and it is said.
	a.Bindings[1]["namespace_id"], a.Bindings[4]["id"] = "ffffffffffffffffffffffffffffffff", "52bdea48-0000-0000-0000-000000000000"
	p, err = c.Prepare(t.Context(), account(), a, nil)
	if err != nil || len(p.Warnings) != 2 || !strings.Contains(p.Warnings[0], "CACHE_KV") || !strings.Contains(p.Warnings[1], "notes") {
		t.Errorf("%+v %v", p, err)
	}
	if p.Bindings[1]["namespace_id"] != keyOf(s.namespaces, worker+"-cache-kv") || p.Bindings[4]["id"] != keyOf(s.databases, "notes") {
		t.Errorf("%v", p.Bindings)
	}
}

func TestMigrationFails(t *testing.T) {
	s := newResourceServer(t)
	s.badSQL = "b (x)"
	c := s.newClient(t)
	_, err := c.Prepare(t.Context(), account(), app(), nil)
	wantError(t, err, deploy.CodeMigrationFailed, "migrations/0002_it's.sql:2 of the database notes failed at the statement \"CREATE TABLE b (x);\"")
	if e := deploy.AsError(err); !strings.Contains(e.Message, "0001_a.sql before it stays applied") || !strings.Contains(e.Next, "rolled back") {
		t.Errorf("%s %s", e.Message, e.Next)
	}
	s.badSQL = ""
	if p, err := c.Prepare(t.Context(), account(), app(), nil); err != nil || !slices.Equal(p.Resources[2].Applied, []string{"0002_it's.sql"}) {
		t.Errorf("%+v %v", p, err)
	}
}

func TestObjectSteps(t *testing.T) {
	step := func(tag string) deploy.ObjectStep {
		return deploy.ObjectStep{Tag: tag, Step: map[string]any{"new_sqlite_classes": []string{tag}}}
	}
	steps := func(tags ...string) (out []any) {
		for _, tag := range tags {
			out = append(out, map[string]any{"new_sqlite_classes": []string{tag}})
		}
		return out
	}
	for name, c := range map[string]struct {
		configured []string
		tag        string
		want       map[string]any
	}{
		"a new Worker":         {[]string{"v1", "v2"}, "", map[string]any{"new_tag": "v2", "steps": steps("v1", "v2")}},
		"nothing new":          {[]string{"v1", "v2"}, "v2", nil},
		"one more":             {[]string{"v1", "v2"}, "v1", map[string]any{"old_tag": "v1", "new_tag": "v2", "steps": steps("v2")}},
		"a tag of other times": {[]string{"v3"}, "v1", map[string]any{"old_tag": "v1", "new_tag": "v3", "steps": steps("v3")}},
	} {
		t.Run(name, func(t *testing.T) {
			var all []deploy.ObjectStep
			for _, tag := range c.configured {
				all = append(all, step(tag))
			}
			if diff := cmp.Diff(c.want, cloudflare.ObjectSteps(all, c.tag)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNothingTwice: whatever fails, before or after its effect, and however often the
// deployment is repeated, each resource exists once in the end.
func TestNothingTwice(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := newResourceServer(t)
		defer s.Close()
		plan := rapid.SliceOfN(rapid.SampledFrom([]string{"before", "after", "", ""}), 0, 12).Draw(r, "faults")
		s.fault = func() string {
			if len(plan) == 0 {
				return ""
			}
			f := plan[0]
			plan = plan[1:]
			return f
		}
		c := s.newClient(t, func(cfg *cloudflare.Config) { cfg.RetryWait = time.Microsecond })
		for tries := 0; ; tries++ {
			_, err := c.Prepare(t.Context(), account(), app(), nil)
			if err == nil {
				_, err = c.Trigger(t.Context(), account(), app())
			}
			if err == nil {
				break
			}
			if e := deploy.AsError(err); e.Next == "" || tries > 20 {
				r.Fatalf("try %d: %v", tries, err)
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.namespaces) != 1 || len(s.databases) != 1 || len(s.queues) != 2 || len(s.consumers) != 1 || len(s.schedules) != 1 {
			r.Fatalf("%v %v %v %v %v", s.namespaces, s.databases, s.queues, s.consumers, s.schedules)
		}
		if !slices.Equal(s.applied, []string{"0001_a.sql", "0002_it's.sql"}) {
			r.Fatalf("%v", s.applied)
		}
	})
}
