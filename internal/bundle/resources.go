package bundle

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// maxResourceName is the longest name of a resource or table, in characters.
const maxResourceName = 64

// The forms of names that stand in API paths and queries. How long they may be is no part
// of them: a pattern that counts takes 0.1 MB, at every start of the program.
var (
	resourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	className    = regexp.MustCompile(`^[\pL_$][\pL\pN_$]*$`)
	cronForm     = regexp.MustCompile(`^[0-9A-Za-z*,/#-]+(?:\s+[0-9A-Za-z*,/#-]+){4}$`)
	tableName    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// settleResources reads what the Worker needs beside its code: bindings in wrangler's
// order (wrangler-wire fact sheet, section 6.1) and what is set up around the upload.
func (j *job) settleResources() (bindings []deploy.Binding) {
	r := &deploy.Resources{}
	bindings = append(bindings, j.namespaces()...)
	bindings = append(bindings, j.objectBindings(r)...)
	bindings = append(bindings, j.queues(r)...)
	bindings = append(bindings, j.databases(r)...)
	for _, o := range j.rows("hyperdrive", "binding", "id") {
		bindings = append(bindings, deploy.Binding{"name": o.text("binding"), "type": "hyperdrive", "id": o.text("id")})
	}
	if t := j.set.object("triggers"); t.get("crons") != nil {
		list, _ := t.get("crons").([]node)
		r.Crons, r.HasCrons = stringList(list), true
		if len(r.Crons) != len(list) || list == nil {
			j.set.wrong("triggers.crons", "a list of cron expressions")
		}
		for i, cron := range r.Crons {
			// What the five fields may say is the API's business; that there are five is known.
			if !cronForm.MatchString(strings.TrimSpace(cron)) {
				j.set.wrong(fmt.Sprintf("triggers.crons[%d]", i), `a cron expression of five fields, such as "*/5 * * * *"`)
			}
		}
	}
	if len(r.Databases) > 0 || len(r.Consumers) > 0 || r.HasCrons || len(r.Objects) > 0 {
		j.art.Resources = r
	}
	return bindings
}

// rows are the objects of a list, each with the strings that it must have.
func (j *job) rows(key string, need ...string) []*object {
	return j.rowsOf(key, j.set.list(key), need...)
}

func (j *job) rowsOf(key string, list []node, need ...string) []*object {
	var out []*object
	for i, n := range list {
		o, ok := n.(*object)
		if !ok {
			j.set.wrong(fmt.Sprintf("%s[%d]", key, i), "an object")
			continue
		}
		for _, k := range need {
			if o.text(k) == "" {
				j.set.wrong(fmt.Sprintf("%s[%d].%s", key, i, k), "a string that is not empty")
				ok = false
			}
		}
		for _, k := range o.keys {
			if o.values[k] == nil {
				continue
			}
			if _, isText := o.values[k].(string); !isText && (k == "id" || k == "database_id" || k == "database_name" || k == "queue" || k == "script_name" || k == "migrations_dir" || k == "migrations_pattern") {
				j.set.wrong(fmt.Sprintf("%s[%d].%s", key, i, k), "a string")
				ok = false
			}
		}
		if ok {
			out = append(out, o)
		}
	}
	return out
}

// named holds a name to what can stand in an address of the API.
func (j *job) named(where, name string) bool {
	if name == "" || len(name) <= maxResourceName && resourceName.MatchString(name) {
		return true
	}
	j.set.wrong(where, "a name of up to 64 letters, digits, dashes and underscores")
	return false
}

func (j *job) namespaces() (out []deploy.Binding) {
	for i, o := range j.rows("kv_namespaces", "binding") {
		b := deploy.Binding{"name": o.text("binding"), "type": deploy.ResourceKV}
		if id := o.text("id"); id != "" && j.named(fmt.Sprintf("kv_namespaces[%d].id", i), id) {
			b["namespace_id"] = id
		}
		out = append(out, b)
	}
	return out
}

func (j *job) databases(r *deploy.Resources) (out []deploy.Binding) {
	for i, o := range j.rows("d1_databases", "binding") {
		where := fmt.Sprintf("d1_databases[%d]", i)
		b := deploy.Binding{"name": o.text("binding"), "type": deploy.ResourceD1}
		if id := o.text("database_id"); id != "" && j.named(where+".database_id", id) {
			b["id"] = id
		}
		d := deploy.Database{Binding: o.text("binding"), Name: o.text("database_name"), Table: "d1_migrations"}
		j.named(where+".database_name", d.Name)
		if t := o.text("migrations_table"); t != "" {
			if len(t) > maxResourceName || !tableName.MatchString(t) {
				j.set.wrong(where+".migrations_table", "the name of a table: letters, digits and underscores")
			}
			d.Table = t
		}
		d.Migrations = j.migrations(where, o)
		r.Databases = append(r.Databases, d)
		out = append(out, b)
	}
	return out
}

func (j *job) queues(r *deploy.Resources) (out []deploy.Binding) {
	q := j.set.object("queues")
	list := func(key string) []node {
		v, ok := q.get(key).([]node)
		if !ok && q.get(key) != nil {
			j.set.wrong("queues."+key, "a list")
		}
		return v
	}
	for i, o := range j.rowsOf("queues.producers", list("producers"), "binding") {
		b := deploy.Binding{"name": o.text("binding"), "type": deploy.ResourceQueue}
		if name := o.text("queue"); name != "" && j.named(fmt.Sprintf("queues.producers[%d].queue", i), name) {
			b["queue_name"] = name
		}
		if delay := o.get("delivery_delay"); delay != nil {
			if f, ok := number(delay); !ok || f < 0 || f > maxQueueDelay {
				j.set.wrong(fmt.Sprintf("queues.producers[%d].delivery_delay", i), fmt.Sprintf("a number of seconds from 0 to %d", maxQueueDelay))
			}
			b["delivery_delay"] = plain(delay)
		}
		out = append(out, b)
	}
	for i, o := range j.rowsOf("queues.consumers", list("consumers"), "queue") {
		where := fmt.Sprintf("queues.consumers[%d]", i)
		if kind := o.text("type"); kind != "" && kind != "worker" {
			j.set.wrong(where+".type", `"worker": pull consumers are not part of a Worker's deployment here`)
			continue
		}
		c := deploy.Consumer{Queue: o.text("queue"), DeadLetter: o.text("dead_letter_queue"), Settings: map[string]any{}}
		j.named(where+".queue", c.Queue)
		j.named(where+".dead_letter_queue", c.DeadLetter)
		for _, set := range consumerSettings() {
			v := o.get(set.key)
			if v == nil {
				continue
			}
			f, ok := number(v)
			if !ok || f < set.least || f > set.most {
				j.set.wrong(where+"."+set.key, fmt.Sprintf("a number from %g to %g", set.least, set.most))
				continue
			}
			c.Settings[set.name] = f * set.unit
		}
		r.Consumers = append(r.Consumers, c)
	}
	return out
}

// number reads a number of JSON or TOML.
func number(n node) (float64, bool) {
	switch v := n.(type) {
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// setting is one setting of a queue's consumer: wrangler's key, the API's name and how
// many of its units are one of wrangler's, and what Cloudflare documents as its bounds.
type setting struct {
	key, name         string
	unit, least, most float64
}

func consumerSettings() []setting {
	return []setting{
		{"max_batch_size", "batch_size", 1, 1, 100},
		{"max_retries", "max_retries", 1, 0, 100},
		{"max_batch_timeout", "max_wait_time_ms", 1000, 0, 60}, // seconds, milliseconds
		{"max_concurrency", "max_concurrency", 1, 1, 250},
		{"retry_delay", "retry_delay", 1, 0, maxQueueDelay},
	}
}

const maxQueueDelay = 86_400 // seconds

// objectBindings reads the bindings to Durable Objects and the migrations of their
// classes, and refuses what no temporary account takes.
func (j *job) objectBindings(r *deploy.Resources) (out []deploy.Binding) {
	j.objectSteps(r)
	classes := r.Classes()
	list, ok := j.set.object("durable_objects").get("bindings").([]node)
	if !ok && j.set.object("durable_objects").get("bindings") != nil {
		j.set.wrong("durable_objects.bindings", "a list")
	}
	for i, o := range j.rowsOf("durable_objects.bindings", list, "name", "class_name") {
		class, script := o.text("class_name"), o.text("script_name")
		b := deploy.Binding{"name": o.text("name"), "type": "durable_object_namespace", "class_name": class}
		if script != "" && script != j.art.Name {
			b["script_name"] = script
		} else if !slices.Contains(classes, class) && j.set.err == nil {
			j.set.err = deploy.Errorf(deploy.CodeConfigInvalid,
				fmt.Sprintf(`Add "migrations": [{"tag": "v1", "new_sqlite_classes": [%q]}] to the configuration, or a further entry with a new tag where there are migrations already.`, class),
				"%s: durable_objects.bindings[%d] uses the class %s, which no migration creates", j.set.shown, i, cutText(class, 60))
		}
		out = append(out, b)
	}
	return out
}

func (j *job) objectSteps(r *deploy.Resources) {
	seen := map[string]bool{}
	for i, o := range j.rows("migrations", "tag") {
		where := fmt.Sprintf("migrations[%d]", i)
		step := map[string]any{}
		for _, key := range o.keys {
			v := o.values[key]
			switch {
			case key == "tag" || blankValue(v):
			case key == "new_classes":
				if j.set.err == nil {
					j.set.err = deploy.Errorf(deploy.CodeNotSupported,
						"Rename new_classes to new_sqlite_classes. The storage API of Durable Objects works on both.",
						"%s: %s.new_classes makes key-value-backed Durable Objects, which a temporary account can't have (code 10097)", j.set.shown, where)
				}
			case key == "new_sqlite_classes" || key == "deleted_classes":
				names, ok := v.([]node)
				texts := stringList(names)
				if !ok || len(texts) != len(names) || slices.ContainsFunc(texts, func(s string) bool { return !className.MatchString(s) }) {
					j.set.wrong(where+"."+key, "a list of class names")
				}
				step[key] = texts
			case key == "renamed_classes":
				step[key] = plain(v)
				if _, ok := v.([]node); !ok || len(j.rowsOf(where+"."+key, listOf(v), "from", "to")) != len(listOf(v)) {
					j.set.wrong(where+"."+key, "a list of {from, to}")
				}
			case key == "transferred_classes":
				step[key] = plain(v)
			default:
				j.set.unknownKey(where+"."+key, []string{"tag", "new_sqlite_classes", "renamed_classes", "deleted_classes"})
			}
		}
		if seen[o.text("tag")] {
			j.set.wrong(where+".tag", "a tag that no other migration has")
		}
		seen[o.text("tag")] = true
		r.Objects = append(r.Objects, deploy.ObjectStep{Tag: o.text("tag"), Step: step})
	}
}

func listOf(n node) []node {
	l, _ := n.([]node)
	return l
}

// checkClasses holds the Durable Object classes of the configuration against what the
// entry exports.
func (j *job) checkClasses(entry string, exports []string) error {
	if j.art.Resources == nil {
		return nil
	}
	for _, class := range j.art.Resources.Classes() {
		if slices.Contains(exports, class) {
			continue
		}
		known := "nothing but the default export"
		var others []string
		for _, e := range exports {
			if e != "default" {
				others = append(others, e)
			}
		}
		if len(others) > 0 {
			known = strings.Join(others[:min(len(others), 10)], ", ")
		}
		return deploy.Errorf(deploy.CodeConfigInvalid,
			fmt.Sprintf("Export the class from the entry (export class %s extends DurableObject { … }, or export { %s } from \"./its-file\"), or take it out of migrations by a further one with deleted_classes.", class, class),
			"the Durable Object class %s is not exported by %s, which exports %s", class, entry, known)
	}
	return nil
}
