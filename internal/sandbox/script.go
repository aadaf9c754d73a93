package sandbox

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// binding is one binding as it came in an upload's metadata.
type binding map[string]any

func (b binding) str(key string) string { s, _ := b[key].(string); return s }

// module is one module of a version.
type module struct {
	name, mime string
	content    []byte
}

// version is one version of a Worker; it never changes.
type version struct {
	owner       *account
	id          string
	number      int
	createdAt   time.Time
	main        string // "" for an assets-only Worker
	modules     []module
	date        string
	flags       []string
	bindings    []binding // resolved: no inherit
	assets      *assetSet // nil: none
	annotations map[string]any
	source      string
	startupMS   int
	etag        string
	classes     map[string]string // Durable Object classes: name to the id of the namespace
}

// deployment says which version serves.
type deployment struct {
	id          string
	createdAt   time.Time
	versionID   string
	annotations map[string]any
}

// script is one Worker. Its fields are under account.mu.
type script struct {
	name            string
	tag             string
	createdAt       time.Time
	modifiedAt      time.Time
	versions        []*version    // oldest first
	deployments     []*deployment // oldest first
	enabled         bool
	previewsEnabled bool
	routeAt         time.Time // when the route reaches the edge
	settings        map[string]any
	tails           map[string]*tail
	url             string // the loopback port of its own
	closePort       func()
	classes         map[string]string // as deployed
	migrationTag    string
	schedules       []*schedule
}

const maxVersions = 100 // kept of a Worker; older ones that are not deployed are dropped

// deployed is the version that serves, or nil.
func (sc *script) deployed() *version {
	if len(sc.deployments) == 0 {
		return nil
	}
	return sc.version(sc.deployments[len(sc.deployments)-1].versionID)
}

func (sc *script) latest() *version {
	if len(sc.versions) == 0 {
		return nil
	}
	return sc.versions[len(sc.versions)-1]
}

func (sc *script) version(id string) *version {
	for _, v := range sc.versions {
		if v.id == id {
			return v
		}
	}
	return nil
}

// host is the name under which the Worker is served.
func (a *account) host(name string) string { return name + "." + a.subdomain + ".workers.dev" }

// uuid gives a random one (version 4).
func uuid() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// script finds a Worker, or 10007.
func (c *call) script() (*script, error) {
	c.acct.mu.Lock()
	defer c.acct.mu.Unlock()
	sc := c.acct.scripts[c.args["script"]]
	if sc == nil {
		return nil, errNoScript(c.args["script"])
	}
	return sc, nil
}

// reading runs f on a Worker, under the account's lock.
func (c *call) reading(f func(sc *script) (answer, error)) (answer, error) {
	c.acct.mu.Lock()
	defer c.acct.mu.Unlock()
	sc := c.acct.scripts[c.args["script"]]
	if sc == nil {
		return answer{}, errNoScript(c.args["script"])
	}
	return f(sc)
}

func getService(c *call) (answer, error) {
	return c.reading(func(sc *script) (answer, error) {
		v := sc.deployed()
		view := map[string]any{
			"id": sc.name, "tag": sc.tag, "tags": sc.tags(), "etag": "", "handlers": []string{"fetch"}, "created_on": stamp(sc.createdAt),
			"modified_on": stamp(sc.modifiedAt), "last_deployed_from": "wrangler", "usage_model": "standard",
		}
		if v != nil {
			view["etag"] = v.etag
		}
		if sc.migrationTag != "" {
			view["migration_tag"] = sc.migrationTag
		}
		return answer{result: map[string]any{
			"id": sc.name, "created_on": stamp(sc.createdAt), "modified_on": stamp(sc.modifiedAt),
			"default_environment": map[string]any{
				"environment": "production", "created_on": stamp(sc.createdAt), "modified_on": stamp(sc.modifiedAt), "script_tag": sc.tag, "script": view,
			},
			"environments": []any{map[string]any{"environment": "production", "created_on": stamp(sc.createdAt), "modified_on": stamp(sc.modifiedAt)}},
		}}, nil
	})
}

func (sc *script) tags() []any {
	tags, _ := sc.settings["tags"].([]any)
	if tags == nil {
		tags = []any{}
	}
	return tags
}

// maxTags is how many tags a Worker may have, by Cloudflare's documentation; which code
// the live API refuses more with is not known.
const maxTags = 8

// checkTags refuses what the documentation says that tags may not be.
func checkTags(tags []any) error {
	if len(tags) > maxTags {
		return refuse(http.StatusBadRequest, 10021, "the Worker has %d tags; at most %d are taken", len(tags), maxTags)
	}
	for _, t := range tags {
		if s, ok := t.(string); !ok || s == "" || strings.ContainsAny(s, ",&") {
			return refuse(http.StatusBadRequest, 10021, "the tag %q is none: a text without commas and ampersands", fmt.Sprint(t))
		}
	}
	return nil
}

func listScripts(c *call) (answer, error) {
	c.acct.mu.Lock()
	defer c.acct.mu.Unlock()
	out := []any{}
	for _, name := range slices.Sorted(maps.Keys(c.acct.scripts)) {
		sc := c.acct.scripts[name]
		row := map[string]any{"id": name, "tag": sc.tag, "tags": sc.tags(), "created_on": stamp(sc.createdAt), "modified_on": stamp(sc.modifiedAt), "last_deployed_from": "wrangler"}
		if v := sc.deployed(); v != nil {
			row["etag"], row["has_modules"], row["has_assets"] = v.etag, v.main != "", v.assets != nil
		}
		out = append(out, row)
	}
	return answer{result: out}, nil
}

func getScript(c *call) (answer, error) {
	sc, err := c.script()
	if err != nil {
		return answer{}, err
	}
	return answer{result: map[string]any{"id": sc.name, "tag": sc.tag}}, nil
}

// deleteScript ends a Worker.
func deleteScript(c *call) (answer, error) {
	a, name := c.acct, c.args["script"]
	a.deploying.Lock()
	defer a.deploying.Unlock()
	a.mu.Lock()
	sc := a.scripts[name]
	if sc == nil {
		a.mu.Unlock()
		return answer{}, errNoScript(name)
	}
	for other, o := range a.scripts {
		if v := o.deployed(); other != name && v != nil && c.r.URL.Query().Get("force") != "true" && bindsTo(v, name) {
			a.mu.Unlock()
			return answer{}, refuse(http.StatusConflict, 10064, "the Worker %s is bound to by %s; delete that first, or use force", name, other)
		}
	}
	delete(a.scripts, name)
	tails := slices.Collect(maps.Values(sc.tails))
	a.mu.Unlock()
	for _, t := range tails {
		t.close()
	}
	if sc.closePort != nil {
		sc.closePort()
	}
	a.dropFromRuntime()
	a.mu.Lock()
	for _, id := range sc.classes {
		a.dropObjects(id)
	}
	consumed := false
	for _, q := range a.queueList {
		n := len(q.consumers)
		q.consumers = slices.DeleteFunc(q.consumers, func(k *consumer) bool { return k.script == name })
		consumed = consumed || len(q.consumers) != n
	}
	a.mu.Unlock()
	if consumed {
		if err := a.restartQueues(c.r.Context(), true); err != nil {
			return answer{}, err
		}
	}
	return answer{result: map[string]any{"id": name}}, nil
}

func bindsTo(v *version, name string) bool {
	return slices.ContainsFunc(v.bindings, func(b binding) bool {
		return b.str("type") == "service" && b.str("service") == name || b.str("type") == "durable_object_namespace" && b.str("script_name") == name
	})
}

// publicBindings are bindings as the API shows them: secrets without their text.
func publicBindings(all []binding) []binding {
	out := make([]binding, 0, len(all))
	for _, b := range all {
		if t := b.str("type"); t == "secret_text" || t == "secret_key" {
			b = binding{"name": b["name"], "type": t}
		}
		out = append(out, b)
	}
	return out
}

func getSettings(c *call) (answer, error) {
	return c.reading(func(sc *script) (answer, error) {
		out := map[string]any{"bindings": []binding{}, "tags": sc.tags(), "usage_model": "standard", "logpush": false, "tail_consumers": nil}
		if v := sc.deployed(); v != nil {
			out["bindings"], out["compatibility_date"], out["compatibility_flags"] = publicBindings(v.bindings), v.date, v.flags
		}
		maps.Copy(out, sc.settings)
		return answer{result: out}, nil
	})
}

func getScriptSettings(c *call) (answer, error) {
	return c.reading(func(sc *script) (answer, error) {
		out := map[string]any{"logpush": false, "tail_consumers": nil, "tags": sc.tags()}
		maps.Copy(out, sc.settings)
		return answer{result: out}, nil
	})
}

// patchScriptSettings keeps what does not change the program: tags, logpush, ...
func patchScriptSettings(c *call) (answer, error) {
	var in map[string]any
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	if tags, ok := in["tags"].([]any); ok {
		if err := checkTags(tags); err != nil {
			return answer{}, err
		}
	}
	return c.reading(func(sc *script) (answer, error) {
		for _, key := range []string{"tags", "logpush", "tail_consumers", "observability", "placement", "limits"} {
			if v, ok := in[key]; ok {
				sc.settings[key] = v
			}
		}
		return answer{result: sc.settings}, nil
	})
}

func getScriptSubdomain(c *call) (answer, error) {
	return c.reading(func(sc *script) (answer, error) {
		return answer{result: map[string]any{"enabled": sc.enabled, "previews_enabled": sc.previewsEnabled}}, nil
	})
}

// postScriptSubdomain turns the Worker's route on workers.dev on or off.
func postScriptSubdomain(c *call) (answer, error) {
	var in struct {
		Enabled         *bool `json:"enabled"`
		PreviewsEnabled *bool `json:"previews_enabled"`
	}
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	if in.Enabled == nil {
		return answer{}, refuse(http.StatusBadRequest, 10001, "enabled is required")
	}
	delay := time.Duration(c.s.propagation().RouteMS)*time.Millisecond + slowEdge(c.r.Context())
	return c.reading(func(sc *script) (answer, error) {
		if *in.Enabled && !sc.enabled {
			sc.routeAt = c.s.clock.Now().Add(delay)
		}
		sc.enabled = *in.Enabled
		sc.previewsEnabled = sc.enabled
		if in.PreviewsEnabled != nil {
			sc.previewsEnabled = *in.PreviewsEnabled
		}
		return answer{result: map[string]any{"enabled": sc.enabled, "previews_enabled": sc.previewsEnabled}}, nil
	})
}

func getWorker(c *call) (answer, error) {
	return c.reading(func(sc *script) (answer, error) {
		host := c.acct.host(sc.name)
		return answer{result: map[string]any{
			"id": sc.tag, "name": sc.name, "created_on": stamp(sc.createdAt), "updated_on": stamp(sc.modifiedAt), "tags": sc.tags(),
			"subdomain": map[string]any{
				"enabled": sc.enabled, "previews_enabled": sc.previewsEnabled, "url": "https://" + host, "preview_url_suffix": "-" + host,
			},
		}}, nil
	})
}

func getReferences(c *call) (answer, error) {
	return c.reading(func(sc *script) (answer, error) {
		incoming := []any{}
		for _, name := range slices.Sorted(maps.Keys(c.acct.scripts)) {
			if v := c.acct.scripts[name].deployed(); v != nil && name != sc.name && bindsTo(v, sc.name) {
				incoming = append(incoming, map[string]any{"name": name, "environment": "production", "service": name})
			}
		}
		return answer{result: map[string]any{
			"services": map[string]any{"incoming": incoming, "outgoing": []any{}}, "durable_objects": []any{}, "dispatch_outbounds": []any{},
		}}, nil
	})
}

// validName tells whether a Worker may be called that.
func validName(name string) bool {
	if name == "" || len(name) > 63 || strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-") {
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) < 0
}
