package deploy

import (
	"fmt"
	"slices"
	"strings"
)

// Resources are what a Worker needs beside its code. They are found or made on the
// account when it is deployed; bindings of the artifact that name no resource yet
// (a kv_namespace without namespace_id, a d1 without id, a queue without queue_name)
// are completed then.
type Resources struct {
	// Databases are the D1 databases, by binding.
	Databases []Database `json:"databases,omitempty"`
	// Consumers are the queues that the Worker consumes.
	Consumers []Consumer `json:"consumers,omitempty"`
	// Crons are its cron triggers; HasCrons tells "none any more" from "not configured".
	Crons    []string `json:"crons,omitempty"`
	HasCrons bool     `json:"has_crons,omitempty"`
	// Objects are the configured migrations of Durable Object classes, oldest first.
	Objects []ObjectStep `json:"objects,omitempty"`
}

// Database is a D1 database of a Worker.
type Database struct {
	Binding string `json:"binding"`
	// Name is the database's configured name; "" stands for wrangler's default.
	Name string `json:"name,omitempty"`
	// Table is where applied migrations are recorded.
	Table      string      `json:"table,omitempty"`
	Migrations []Migration `json:"migrations,omitempty"`
}

// Migration is one file of migrations_dir.
type Migration struct {
	Name string `json:"name"` // as it is recorded
	File string `json:"file"` // as the project sees it
	SQL  string `json:"sql"`
}

// Consumer is a queue that a Worker consumes. Settings have the API's names and units
// (wrangler-wire fact sheet, section 11).
type Consumer struct {
	Queue      string         `json:"queue"`
	Settings   map[string]any `json:"settings,omitempty"`
	DeadLetter string         `json:"dead_letter,omitempty"`
}

// ObjectStep is one migration of Durable Object classes: its tag, and the step as the
// API takes it.
type ObjectStep struct {
	Tag  string         `json:"tag"`
	Step map[string]any `json:"step"`
}

// The types of resources in results.
const (
	ResourceKV       = "kv_namespace"
	ResourceD1       = "d1"
	ResourceQueue    = "queue"
	ResourceObjects  = "durable_objects"
	ResourceCron     = "cron"
	ResourceConsumer = "queue_consumer"
)

// Resource is one resource that a deployment made or found, as a result tells it.
type Resource struct {
	Type    string `json:"type"`
	Binding string `json:"binding,omitempty"`
	Name    string `json:"name"`
	State   string `json:"state"` // ResourceMade, ResourceKept or ResourceFailed
	// Applied are the migrations that this deployment applied.
	Applied []string `json:"applied,omitempty"`
}

// The states of a Resource.
const (
	ResourceMade   = "made"
	ResourceKept   = "kept"
	ResourceFailed = "failed"
)

// Prepared is what an account has ready for an upload.
type Prepared struct {
	// Bindings are the artifact's, complete.
	Bindings []Binding
	// Objects is the migration of Durable Object classes that the upload carries, in the
	// API's form; nil for none.
	Objects map[string]any
	// Resources tell what was found and made.
	Resources []Resource
	Warnings  []string
}

// NeedsResources tells whether anything of the artifact has to be found or made on the
// account before the upload.
func (a *Artifact) NeedsResources() bool {
	if r := a.Resources; r != nil && (len(r.Databases) > 0 || len(r.Objects) > 0) {
		return true
	}
	return slices.ContainsFunc(a.Bindings, func(b Binding) bool {
		switch b.Type() {
		case ResourceKV, ResourceD1, ResourceQueue:
			return true
		}
		return false
	})
}

// HasTriggers tells whether something has to be set up after the upload.
func (a *Artifact) HasTriggers() bool {
	return a.Resources != nil && (a.Resources.HasCrons || len(a.Resources.Consumers) > 0)
}

// QueueNames are the queues that the artifact uses, without those under default names.
func (a *Artifact) QueueNames() []string {
	var names []string
	for _, b := range a.Bindings {
		if name, _ := b["queue_name"].(string); b.Type() == ResourceQueue && name != "" {
			names = append(names, name)
		}
	}
	if a.Resources != nil {
		for _, c := range a.Resources.Consumers {
			names = append(names, c.Queue)
			if c.DeadLetter != "" {
				names = append(names, c.DeadLetter)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// preflightResources refuses more than an account can have, before there is one.
func preflightResources(a *Artifact) error {
	count := func(kind string) (n int) {
		for _, b := range a.Bindings {
			if b.Type() == kind {
				n++
			}
		}
		return n
	}
	if a.Resources != nil {
		names := []string{}
		for _, d := range a.Resources.Databases {
			names = append(names, d.Name+"/"+d.Binding)
			if d.Name != "" {
				names[len(names)-1] = d.Name
			}
		}
		slices.Sort(names)
		if n := len(slices.Compact(names)); n > maxDatabases {
			return tooMany("D1 databases", n, maxDatabases, "Use one database with several tables; bindings may share it by naming the same database_name.")
		}
		if n := len(a.Resources.Crons); n > maxCrons {
			return tooMany("cron triggers", n, maxCrons, "Use fewer triggers: one handler can look at controller.cron and the time.")
		}
	}
	unnamed := 0
	for _, b := range a.Bindings {
		if b.Type() == ResourceQueue && b["queue_name"] == nil {
			unnamed++
		}
	}
	if n := len(a.QueueNames()) + unnamed; n > maxQueues {
		return tooMany("queues", n, maxQueues, "Use fewer queues: messages can say what they are for.")
	}
	if n := count("hyperdrive"); n > maxHyperdrives {
		return tooMany("Hyperdrive configurations", n, maxHyperdrives, "Use fewer.")
	}
	return nil
}

// standsAlone refuses, before an account is made, what binds to another Worker: on a new
// account there is none.
func standsAlone(a *Artifact) error {
	for _, b := range a.Bindings {
		other := ""
		switch b.Type() {
		case "service":
			other, _ = b["service"].(string)
		case "durable_object_namespace":
			other, _ = b["script_name"].(string)
		}
		if other != "" && other != a.Name {
			return Errorf(CodeConfigInvalid, "Deploy that Worker first, then this one with the session_id of that result. Nothing was spent.",
				"the binding %s is to the Worker %s, which a new account does not have", b.Name(), other)
		}
	}
	return nil
}

func tooMany(what string, n, most int, next string) *Error {
	return Errorf(CodeNotSupported, next+" Nothing was spent.", "the configuration has %d %s; a temporary account has at most %d", n, what, most)
}

// resourceSummary words what failed after the upload, for a warning.
func resourceSummary(list []Resource) string {
	var failed []string
	for _, r := range list {
		if r.State == ResourceFailed {
			failed = append(failed, fmt.Sprintf("%s %s", r.Type, r.Name))
		}
	}
	return strings.Join(failed, ", ")
}

// Classes are the Durable Object classes that there are after all migrations.
func (r *Resources) Classes() []string {
	var out []string
	for _, o := range r.Objects {
		out = append(out, texts(o.Step["new_sqlite_classes"])...)
		for _, class := range texts(o.Step["deleted_classes"]) {
			out = slices.DeleteFunc(out, func(c string) bool { return c == class })
		}
		renames, _ := o.Step["renamed_classes"].([]any)
		for _, p := range renames {
			pair, _ := p.(map[string]any)
			from, _ := pair["from"].(string)
			to, _ := pair["to"].(string)
			if i := slices.Index(out, from); i >= 0 {
				out[i] = to
			}
		}
	}
	return out
}

// texts reads a list of strings, also one that came back from the store.
func texts(v any) []string {
	switch list := v.(type) {
	case []string:
		return list
	case []any:
		var out []string
		for _, e := range list {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}
