package sandbox

import (
	"net/http"
	"slices"
)

// secretInput is one secret as the API takes it.
type secretInput struct {
	Name string `json:"name"`
	Text string `json:"text"`
	Type string `json:"type"`
}

func listSecrets(c *call) (answer, error) {
	return c.reading(func(sc *script) (answer, error) {
		out := []any{}
		if v := sc.deployed(); v != nil {
			for _, b := range v.bindings {
				if b.str("type") == "secret_text" {
					out = append(out, map[string]any{"name": b.str("name"), "type": "secret_text"})
				}
			}
		}
		return answer{result: out}, nil
	})
}

func putSecret(c *call) (answer, error) {
	var in secretInput
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	if in.Name == "" {
		return answer{}, refuse(http.StatusBadRequest, 10021, "the secret has no name")
	}
	err := c.changeSecrets(map[string]*secretInput{in.Name: &in})
	return answer{result: map[string]any{"name": in.Name, "type": "secret_text"}}, err
}

func deleteSecret(c *call) (answer, error) {
	return answer{}, c.changeSecrets(map[string]*secretInput{c.args["secret"]: nil})
}

func bulkSecrets(c *call) (answer, error) {
	var in struct {
		Secrets map[string]*secretInput `json:"secrets"`
	}
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	if err := c.changeSecrets(in.Secrets); err != nil {
		return answer{}, err
	}
	return listSecrets(c)
}

// changeSecrets makes and deploys a version that differs from the deployed one in its
// secrets: as live, each change of a secret is a new version. nil removes one.
func (c *call) changeSecrets(change map[string]*secretInput) error {
	a := c.acct
	a.deploying.Lock()
	defer a.deploying.Unlock()
	sc, err := c.script()
	if err != nil {
		return err
	}
	a.mu.Lock()
	base, latest := sc.deployed(), sc.latest()
	a.mu.Unlock()
	if base == nil || base != latest {
		return refuse(http.StatusBadRequest, 10214, "the Worker's latest version is not deployed, so a secret would go to another one")
	}
	v, err := withSecrets(a, base, change)
	if err != nil {
		return err
	}
	if err := a.deploy(c.r.Context(), sc, v); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record(sc, v)
	sc.deployments = append(sc.deployments, &deployment{id: uuid(), createdAt: v.createdAt, versionID: v.id, annotations: map[string]any{"workers/triggered_by": "secret"}})
	return nil
}

// withSecrets copies a version with other secrets.
func withSecrets(a *account, base *version, change map[string]*secretInput) (*version, error) {
	v := *base
	v.id, v.createdAt, v.etag = uuid(), a.s.clock.Now(), randomHex(32)
	v.annotations = map[string]any{"workers/triggered_by": "secret"}
	v.bindings = slices.Clone(base.bindings)
	for name, in := range change {
		i := slices.IndexFunc(v.bindings, func(b binding) bool { return b.str("name") == name })
		if i >= 0 && v.bindings[i].str("type") != "secret_text" {
			return nil, refuse(http.StatusBadRequest, 10053, "the name %q is taken by a binding of another type", name)
		}
		switch {
		case in == nil && i < 0:
			return nil, refuse(http.StatusNotFound, 10056, "the Worker has no secret %q", name)
		case in == nil:
			v.bindings = slices.Delete(v.bindings, i, i+1)
		case i >= 0:
			v.bindings[i] = binding{"name": name, "type": "secret_text", "text": in.Text}
		default:
			v.bindings = append(v.bindings, binding{"name": name, "type": "secret_text", "text": in.Text})
		}
	}
	return &v, nil
}

// patchLatestVersion is `wrangler versions secret put`: a new version that is not
// deployed.
func patchLatestVersion(c *call) (answer, error) {
	var in struct {
		Env map[string]*struct {
			Type string `json:"type"`
			Text string `json:"text"`
		} `json:"env"`
		Annotations map[string]any `json:"annotations"`
	}
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	change := map[string]*secretInput{}
	for name, s := range in.Env {
		change[name] = nil
		if s != nil {
			change[name] = &secretInput{Name: name, Text: s.Text}
		}
	}
	a := c.acct
	a.deploying.Lock()
	defer a.deploying.Unlock()
	sc, err := c.script()
	if err != nil {
		return answer{}, err
	}
	a.mu.Lock()
	base := sc.latest()
	a.mu.Unlock()
	if base == nil {
		return answer{}, refuse(http.StatusNotFound, 10222, "this Worker has no versions")
	}
	v, err := withSecrets(a, base, change)
	if err != nil {
		return answer{}, err
	}
	v.annotations = in.Annotations
	if err := a.warm(c.r.Context(), sc, v); err != nil {
		return answer{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record(sc, v)
	return answer{result: versionView(sc, v)}, nil
}
