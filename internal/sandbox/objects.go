package sandbox

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// migration is what an upload says of Durable Object classes (wrangler-wire fact
// sheet, section 6.2).
type migration struct {
	OldTag string `json:"old_tag"`
	NewTag string `json:"new_tag"`
	Steps  []struct {
		New       []string `json:"new_classes"`
		NewSQLite []string `json:"new_sqlite_classes"`
		Renamed   []struct {
			From string `json:"from"`
			To   string `json:"to"`
		} `json:"renamed_classes"`
		Deleted     []string `json:"deleted_classes"`
		Transferred []struct {
			From       string `json:"from"`
			FromScript string `json:"from_script"`
			To         string `json:"to"`
		} `json:"transferred_classes"`
	} `json:"steps"`
}

// migrated gives the classes of a Worker, by name with the id of their namespace, as
// they are after the upload's migration. It changes nothing.
func (sc *script) migrated(md *metadata) (map[string]string, error) {
	classes := maps.Clone(sc.classes)
	if classes == nil {
		classes = map[string]string{}
	}
	m := md.Migrations
	if m == nil {
		return classes, md.declared(classes)
	}
	if m.OldTag != sc.migrationTag {
		return nil, refuse(http.StatusPreconditionFailed, 10079, "Migration tag precondition failed; current tag is %s", sc.migrationTag)
	}
	for _, step := range m.Steps {
		if len(step.New) > 0 {
			return nil, errKeyValueClass()
		}
		for _, name := range step.NewSQLite {
			if classes[name] != "" {
				return nil, refuse(http.StatusBadRequest, 10074, "Cannot apply new-sqlite-class migration to class '%s' that is already depended on by existing Durable Objects", name)
			}
			classes[name] = randomHex(16)
		}
		for _, r := range step.Renamed {
			if classes[r.From] == "" || classes[r.To] != "" {
				return nil, refuse(http.StatusBadRequest, 10021, "Cannot apply renamed-classes migration from '%s' to '%s'", r.From, r.To)
			}
			classes[r.To] = classes[r.From]
			delete(classes, r.From)
		}
		for _, name := range step.Deleted {
			if classes[name] == "" {
				return nil, refuse(http.StatusBadRequest, 10021, "Cannot apply deleted-classes migration to non-existing class '%s'", name)
			}
			delete(classes, name)
		}
		if len(step.Transferred) > 0 {
			return nil, refuse(http.StatusBadRequest, 10021, "the sandbox does not transfer Durable Object classes between Workers")
		}
	}
	return classes, nil
}

func errKeyValueClass() error {
	return refuse(http.StatusForbidden, 10097, "In order to use Durable Objects with a free plan, you must create a namespace using a `new_sqlite_classes` migration.")
}

// declared adds the classes that the upload's exports declare, in place of migrations.
func (md *metadata) declared(classes map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(md.Exports)) {
		e, _ := md.Exports[name].(map[string]any)
		if e["type"] != "durable-object" {
			continue
		}
		if e["storage"] != "sqlite" {
			return errKeyValueClass()
		}
		if classes[name] == "" {
			classes[name] = randomHex(16)
		}
	}
	return nil
}

// checkObjects holds the classes of a version against what its code exports.
func checkObjects(v *version, report workerd.Report) error {
	exported := slices.Concat(report.DurableObjects, report.Classes)
	for _, name := range slices.Sorted(maps.Keys(v.classes)) {
		if !slices.Contains(exported, name) {
			return refuse(http.StatusBadRequest, 10064, "New version of script does not export class '%s' which is depended on by existing Durable Objects. If you want to delete the Durable Object's data, you will need to create a delete-class migration.", name)
		}
	}
	return nil
}

// objectBinding resolves a binding to Durable Objects.
func (a *account) objectBinding(script string, v *version, b binding) error {
	class, owner := b.str("class_name"), b.str("script_name")
	classes := v.classes
	if owner != "" && owner != script {
		a.mu.Lock()
		other := a.scripts[owner]
		var d *version
		if other != nil {
			d = other.deployed()
		}
		a.mu.Unlock()
		if d == nil {
			return refuse(http.StatusBadRequest, 10061, "Cannot create binding for class '%s' in script '%s' because that script does not exist", class, owner)
		}
		classes = d.classes
	}
	if classes[class] == "" {
		return refuse(http.StatusBadRequest, 10061, "Cannot create binding for class '%s' because it is not currently configured to implement Durable Objects. Please create a migration for it.", class)
	}
	b["namespace_id"] = classes[class]
	return nil
}

// class is what the class behind a namespace is called now; "" when it is no more. v may
// be nil.
func (v *version) class(id string) string {
	if v != nil {
		for name, of := range v.classes {
			if of == id {
				return name
			}
		}
	}
	return ""
}

// keepsBound refuses a version that deletes a class which another Worker is bound to.
func (a *account) keepsBound(sc *script, v *version) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, other := range a.scripts {
		d := other.deployed()
		if other == sc || d == nil {
			continue
		}
		for _, b := range d.bindings {
			id := b.str("namespace_id")
			if b.str("type") == "durable_object_namespace" && b.str("script_name") == sc.name && sc.deployed().class(id) != "" && v.class(id) == "" {
				return refuse(http.StatusBadRequest, 10064, "Cannot delete the class '%s': the Worker '%s' is bound to it (%s)", sc.deployed().class(id), name, b.str("name"))
			}
		}
	}
	return nil
}

// hasObjects tells whether any of these versions has Durable Objects. Then two
// processes may not run at once: both would open the same files.
func hasObjects(set map[string]*version) bool {
	for _, v := range set {
		if len(v.classes) > 0 {
			return true
		}
	}
	return false
}

// settleObjects keeps what a deployed version made of the classes, and removes the
// data of those that are no more. The caller holds account.mu.
func (a *account) settleObjects(sc *script, v *version, md *metadata) {
	for _, id := range sc.classes {
		if !slices.Contains(slices.Collect(maps.Values(v.classes)), id) {
			a.dropObjects(id)
		}
	}
	sc.classes = v.classes
	if md.Migrations != nil {
		sc.migrationTag = md.Migrations.NewTag
	}
}

// dropObjects removes the data of a class.
func (a *account) dropObjects(id string) {
	if home := a.stores.where(); home != "" {
		_ = os.RemoveAll(filepath.Join(home, "objects", id))
	}
}

func listObjectNamespaces(c *call) (answer, error) {
	c.acct.mu.Lock()
	defer c.acct.mu.Unlock()
	out := []any{}
	for _, name := range slices.Sorted(maps.Keys(c.acct.scripts)) {
		sc := c.acct.scripts[name]
		for _, class := range slices.Sorted(maps.Keys(sc.classes)) {
			out = append(out, map[string]any{"id": sc.classes[class], "name": name + "_" + class, "script": name, "class": class, "use_sqlite": true})
		}
	}
	return paged(c, out, 20), nil
}
