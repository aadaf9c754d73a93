package sandbox

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
)

// putScript uploads a Worker and deploys it at once.
func putScript(c *call) (answer, error) {
	name := c.args["script"]
	if !validName(name) {
		return answer{}, refuse(http.StatusBadRequest, 10016, "Script name is invalid: %s", name)
	}
	md, modules, err := parseUpload(c.r.Header.Get("Content-Type"), c.r.Body)
	if err != nil {
		return answer{}, err
	}
	a := c.acct
	a.deploying.Lock()
	defer a.deploying.Unlock()
	sc, before := a.scriptFor(name)
	v, err := a.newVersion(sc, md, modules, before)
	if err != nil {
		return answer{}, err
	}
	if err := a.deploy(c.r.Context(), sc, v); err != nil {
		return answer{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.scripts[name] == nil {
		a.scripts[name] = sc
	}
	sc.settle(md)
	a.settleObjects(sc, v, md)
	a.record(sc, v)
	sc.deployments = append(sc.deployments, &deployment{id: uuid(), createdAt: v.createdAt, versionID: v.id, annotations: deployNotes(md.Annotations)})
	return answer{result: map[string]any{
		"id": name, "tag": sc.tag, "etag": v.etag, "handlers": []string{"fetch"}, "created_on": stamp(sc.createdAt), "modified_on": stamp(sc.modifiedAt),
		"startup_time_ms": v.startupMS, "deployment_id": v.id, "has_modules": v.main != "", "has_assets": v.assets != nil,
		"compatibility_date": v.date, "last_deployed_from": "wrangler", "tags": sc.tags(),
	}}, nil
}

// settle keeps the settings that came with an upload that is deployed at once. They are
// the Worker's, not the version's: an upload of a version alone changes none of them.
func (sc *script) settle(md *metadata) {
	if md.Logpush != nil {
		sc.settings["logpush"] = *md.Logpush
	}
	if md.Observability != nil {
		sc.settings["observability"] = md.Observability
	}
	if md.TailConsumers != nil {
		sc.settings["tail_consumers"] = md.TailConsumers
	}
	if md.Tags != nil {
		sc.settings["tags"] = md.Tags
	}
}

func deployNotes(in map[string]any) map[string]any {
	out := map[string]any{"workers/triggered_by": "upload"}
	for _, key := range []string{"workers/message", "workers/tag"} {
		if v, ok := in[key]; ok {
			out[key] = v
		}
	}
	return out
}

// scriptFor finds a Worker or makes one that is not on the account yet, and tells
// which version's bindings an upload may inherit.
func (a *account) scriptFor(name string) (*script, *version) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if sc := a.scripts[name]; sc != nil {
		return sc, sc.deployed()
	}
	now := a.s.clock.Now()
	return &script{name: name, tag: randomHex(16), createdAt: now, modifiedAt: now, settings: map[string]any{}, tails: map[string]*tail{}}, nil
}

// record adds a version to its Worker; the caller holds account.mu.
func (a *account) record(sc *script, v *version) {
	v.number = 1
	if last := sc.latest(); last != nil {
		v.number = last.number + 1
	}
	sc.versions = append(sc.versions, v)
	sc.modifiedAt = v.createdAt
	if deployed := sc.deployed(); len(sc.versions) > maxVersions && sc.versions[0] != deployed {
		sc.versions = sc.versions[1:]
	}
}

// postVersion uploads a version without deploying it. It has been started once, so
// that a deployment can't fail on it, and is kept warm for one that follows at once.
func postVersion(c *call) (answer, error) {
	md, modules, err := parseUpload(c.r.Header.Get("Content-Type"), c.r.Body)
	if err != nil {
		return answer{}, err
	}
	a := c.acct
	a.deploying.Lock()
	defer a.deploying.Unlock()
	sc, err := c.script()
	if err != nil {
		return answer{}, err
	}
	a.mu.Lock()
	before := sc.deployed()
	a.mu.Unlock()
	if md.Migrations != nil {
		return answer{}, refuse(http.StatusBadRequest, 10211, "a migration must be deployed at once: versions can't be uploaded with one")
	}
	v, err := a.newVersion(sc, md, modules, before)
	if err != nil {
		return answer{}, err
	}
	if err := a.warm(c.r.Context(), sc, v); err != nil {
		return answer{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record(sc, v)
	return answer{result: versionView(sc, v)}, nil
}

func versionView(sc *script, v *version) map[string]any {
	notes := map[string]any{"workers/triggered_by": "upload"}
	maps.Copy(notes, v.annotations)
	return map[string]any{
		"id": v.id, "number": v.number, "annotations": notes, "startup_time_ms": v.startupMS,
		"metadata": map[string]any{
			"created_on": stamp(v.createdAt), "modified_on": stamp(v.createdAt), "source": v.source, "author_id": "", "author_email": "",
			"has_preview": sc.previewsEnabled,
		},
		"resources": map[string]any{
			"script":         map[string]any{"etag": v.etag, "handlers": []string{"fetch"}, "last_deployed_from": "wrangler"},
			"script_runtime": map[string]any{"compatibility_date": v.date, "compatibility_flags": v.flags, "usage_model": "standard", "limits": map[string]any{}},
			"bindings":       publicBindings(v.bindings),
		},
	}
}

func listVersions(c *call) (answer, error) {
	return c.reading(func(sc *script) (answer, error) {
		items := []any{}
		for _, v := range slices.Backward(sc.versions) {
			items = append(items, versionView(sc, v))
		}
		total := len(items)
		page, per := pageOf(c.r, 10)
		from, to := min(total, (page-1)*per), min(total, page*per)
		return answer{
			result: map[string]any{"items": items[from:to]},
			info:   &info{Page: page, PerPage: per, Count: to - from, TotalCount: total, TotalPages: (total + per - 1) / per},
		}, nil
	})
}

// pageOf reads the paging of a list request.
func pageOf(r *http.Request, perDefault int) (page, per int) {
	read := func(key string, d, most int) int {
		n, err := strconv.Atoi(r.URL.Query().Get(key))
		if err != nil || n < 1 || n > most {
			return d
		}
		return n
	}
	return read("page", 1, 1_000_000), read("per_page", perDefault, 1000)
}

func getVersion(c *call) (answer, error) {
	return c.reading(func(sc *script) (answer, error) {
		v := sc.version(c.args["version"])
		if v == nil {
			return answer{}, refuse(http.StatusNotFound, 10222, "this Worker has no version %s", c.args["version"])
		}
		return answer{result: versionView(sc, v)}, nil
	})
}

func deploymentView(d *deployment) map[string]any {
	return map[string]any{
		"id": d.id, "source": "wrangler", "strategy": "percentage", "author_email": "", "created_on": stamp(d.createdAt),
		"annotations": d.annotations, "versions": []any{map[string]any{"version_id": d.versionID, "percentage": 100}},
	}
}

func getDeployments(c *call) (answer, error) {
	return c.reading(func(sc *script) (answer, error) {
		out := []any{}
		for _, d := range slices.Backward(sc.deployments) {
			out = append(out, deploymentView(d))
		}
		return answer{result: map[string]any{"deployments": out}}, nil
	})
}

// postDeployment makes a version that was uploaded the one that serves.
func postDeployment(c *call) (answer, error) {
	var in struct {
		Strategy string `json:"strategy"`
		Versions []struct {
			VersionID  string  `json:"version_id"`
			Percentage float64 `json:"percentage"`
		} `json:"versions"`
		Annotations map[string]any `json:"annotations"`
	}
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	if len(in.Versions) != 1 || in.Versions[0].Percentage != 100 {
		return answer{}, refuse(http.StatusBadRequest, 10021, "the sandbox deploys one version at 100%% and does not split traffic")
	}
	a := c.acct
	a.deploying.Lock()
	defer a.deploying.Unlock()
	sc, err := c.script()
	if err != nil {
		return answer{}, err
	}
	a.mu.Lock()
	v := sc.version(in.Versions[0].VersionID)
	a.mu.Unlock()
	if v == nil {
		return answer{}, refuse(http.StatusNotFound, 10222, "this Worker has no version %s", in.Versions[0].VersionID)
	}
	if err := a.deploy(c.r.Context(), sc, v); err != nil {
		return answer{}, err
	}
	notes := map[string]any{"workers/triggered_by": "deployment"}
	maps.Copy(notes, in.Annotations)
	d := &deployment{id: uuid(), createdAt: c.s.clock.Now(), versionID: v.id, annotations: notes}
	a.mu.Lock()
	defer a.mu.Unlock()
	sc.deployments = append(sc.deployments, d)
	return answer{result: deploymentView(d)}, nil
}
