package cloudflare

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// absent tells whether the API said that there is no such Worker.
func absent(err error) bool {
	code := codeOf(err)
	return code == codeNoWorker || code == codeNoService || code == codeNoEnvironment
}

// Deployed asks what serves under a Worker's name: the newest deployment's version, its
// annotations, and the host where its route is enabled. A Worker of which nothing was
// deployed yet is none.
func (c *Client) Deployed(ctx context.Context, acct *deploy.Account, worker string) (*deploy.Served, error) {
	if err := checkAccount(acct); err != nil {
		return nil, err
	}
	if err := checkWorker(worker); err != nil {
		return nil, err
	}
	const doing = "asking what is deployed"
	script := "/workers/scripts/" + worker
	result, err := c.rest(ctx, acct, c.reading(doing), http.MethodGet, script+"/deployments", nil, nil)
	if absent(err) {
		return nil, nil //nolint:nilnil // the contract's way to say that there is none
	} else if err != nil {
		return nil, err
	}
	version, err := parseDeployments(result)
	if err != nil || version == "" {
		return nil, err
	}
	if result, err = c.rest(ctx, acct, c.reading(doing), http.MethodGet, script+"/versions/"+version, nil, nil); err != nil {
		return nil, err
	}
	out := &deploy.Served{VersionID: version}
	if out.Tag, out.Message, err = parseAnnotations(result); err != nil {
		return nil, err
	}
	if out.Host, err = c.host(ctx, acct, worker); err != nil {
		return nil, err
	}
	return out, nil
}

// parseDeployments gives the version that gets the most of the newest deployment's
// requests; "" when nothing was ever deployed. The list has the newest first (section 14).
func parseDeployments(result []byte) (string, error) {
	const doing = "asking what is deployed"
	var in struct {
		Deployments []struct {
			Versions []struct {
				ID      string  `json:"version_id"`
				Percent float64 `json:"percentage"`
			} `json:"versions"`
		} `json:"deployments"`
	}
	if json.Unmarshal(result, &in) != nil {
		return "", missing(doing, "deployments")
	}
	if len(in.Deployments) == 0 {
		return "", nil
	}
	most := -1
	versions := in.Deployments[0].Versions
	for i := range versions {
		if most < 0 || versions[i].Percent > versions[most].Percent {
			most = i
		}
	}
	if most < 0 {
		return "", missing(doing, "the deployment's versions")
	}
	id := versionID(versions[most].ID)
	if id == "" {
		return "", missing(doing, "version_id")
	}
	return id, nil
}

// parseAnnotations reads a version's tag and message. A version without annotations has
// neither; what is no text counts as absent.
func parseAnnotations(result []byte) (tag, message string, err error) {
	var in struct {
		Notes map[string]json.RawMessage `json:"annotations"`
	}
	if len(result) == 0 || json.Unmarshal(result, &in) != nil {
		return "", "", missing("asking for the deployed version", "annotations")
	}
	note := func(key string) string {
		var s string
		if json.Unmarshal(in.Notes[key], &s) != nil {
			return ""
		}
		return cut(clean(s), maxAnnotation)
	}
	return note("workers/tag"), note("workers/message"), nil
}

// host is where the Worker answers on workers.dev; "" while its route is off.
func (c *Client) host(ctx context.Context, acct *deploy.Account, worker string) (string, error) {
	const doing = "asking where the Worker answers"
	result, err := c.rest(ctx, acct, c.reading(doing), http.MethodGet, "/workers/workers/"+worker, nil, nil)
	if absent(err) {
		return "", nil // it went since
	} else if err != nil {
		return "", err
	}
	enabled, host, err := parseWorkerHost(result)
	if err != nil || !enabled || host != "" {
		return host, err
	}
	subdomain, err := c.subdomain(ctx, acct)
	if err != nil {
		return "", err
	}
	return worker + "." + subdomain + ".workers.dev", nil
}

// parseWorkerHost reads whether a Worker's route is enabled and at which host; "" where
// the API does not say (section 8: only the host of its URL counts).
func parseWorkerHost(result []byte) (enabled bool, host string, err error) {
	const doing = "asking where the Worker answers"
	var in struct {
		Subdomain struct {
			Enabled *bool  `json:"enabled"`
			URL     string `json:"url"`
		} `json:"subdomain"`
	}
	if json.Unmarshal(result, &in) != nil || in.Subdomain.Enabled == nil {
		return false, "", missing(doing, "subdomain.enabled")
	}
	if !*in.Subdomain.Enabled {
		return false, "", nil
	}
	if u, err := url.Parse(in.Subdomain.URL); err == nil && isHost(u.Hostname()) {
		host = u.Hostname()
	}
	return true, host, nil
}

// Inventory lists the Workers, KV namespaces, D1 databases and queues of the account. A
// list that can't be read whole is an error, as what is missing from it would be taken
// for gone.
func (c *Client) Inventory(ctx context.Context, acct *deploy.Account) (*deploy.Inventory, error) {
	if err := checkAccount(acct); err != nil {
		return nil, err
	}
	out := &deploy.Inventory{}
	workers, err := c.list(ctx, acct, listing{"Workers", "/workers/scripts", "id", "id"})
	if err != nil {
		return nil, err
	}
	for _, w := range workers {
		out.Workers = append(out.Workers, w.Ref)
	}
	for kind, l := range listings() {
		rows, err := c.list(ctx, acct, l)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			r.Type = kind
			out.Resources = append(out.Resources, r)
		}
	}
	slices.SortFunc(out.Resources, func(a, b deploy.OwnedResource) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Ref, b.Ref))
	})
	return out, nil
}

// listing says how a list of the account's is asked for and read.
type listing struct {
	plural   string // for people
	path     string
	id, name string // the fields of a row
}

// listings are the lists of resources, by type.
func listings() map[string]listing {
	return map[string]listing{
		deploy.ResourceKV:    {"KV namespaces", "/storage/kv/namespaces", "id", "title"},
		deploy.ResourceD1:    {"D1 databases", "/d1/database", "uuid", "name"},
		deploy.ResourceQueue: {"queues", "/queues", "queue_id", "queue_name"},
	}
}

// list reads a list page by page, until a page is not full or brings nothing new:
// some lists come whole whatever page is asked for.
func (c *Client) list(ctx context.Context, acct *deploy.Account, l listing) ([]deploy.OwnedResource, error) {
	doing := "listing " + l.plural
	var out []deploy.OwnedResource
	known := map[string]bool{}
	for page := 1; page <= maxPages; page++ {
		q := url.Values{"per_page": {strconv.Itoa(perPage)}, "page": {strconv.Itoa(page)}}
		result, err := c.rest(ctx, acct, c.reading(doing), http.MethodGet, l.path, q, nil)
		if err != nil {
			return nil, err
		}
		rows, err := parseList(result, l)
		if err != nil {
			return nil, err
		}
		before := len(out)
		for _, r := range rows {
			if !known[r.Ref] {
				known[r.Ref] = true
				out = append(out, r)
			}
		}
		if len(rows) < perPage || len(out) == before {
			return out, nil
		}
	}
	return nil, badResponse(doing, "the list has no end")
}

// parseList reads one page of a list. Every row has to have an id that is harmless in
// a path, and a name.
func parseList(result []byte, l listing) ([]deploy.OwnedResource, error) {
	doing := "listing " + l.plural
	var rows []map[string]json.RawMessage
	if len(result) > 0 && json.Unmarshal(result, &rows) != nil {
		return nil, missing(doing, "the list")
	}
	out := make([]deploy.OwnedResource, 0, len(rows))
	for _, row := range rows {
		var r deploy.OwnedResource
		if json.Unmarshal(row[l.id], &r.Ref) != nil || !isIdentifier(r.Ref) {
			return nil, missing(doing, l.id)
		}
		if json.Unmarshal(row[l.name], &r.Name) != nil || r.Name == "" {
			return nil, missing(doing, l.name)
		}
		r.Name = strings.ToValidUTF8(r.Name, "\uFFFD")
		out = append(out, r)
	}
	return out, nil
}

// DeleteWorker takes a Worker of the account down, with its routes, triggers and
// Durable Objects, also where other Workers are bound to it (force).
func (c *Client) DeleteWorker(ctx context.Context, acct *deploy.Account, worker string) error {
	if err := checkAccount(acct); err != nil {
		return err
	}
	if err := checkWorker(worker); err != nil {
		return err
	}
	return act(ctx, c, deploy.StepDelete, "worker "+worker, func() error {
		_, err := c.rest(ctx, acct, c.reading("taking the Worker down"), http.MethodDelete, "/workers/scripts/"+worker, url.Values{"force": {"true"}}, nil)
		if absent(err) {
			return nil
		}
		return err
	})
}

// errNoKind is a caller's mistake: Inventory gives the types there are.
var errNoKind = errors.New("the resource has no type or ref that can be deleted")

// DeleteResource deletes a KV namespace, a D1 database or a queue, the latter after its
// consumers, as a queue that is consumed is not deleted.
func (c *Client) DeleteResource(ctx context.Context, acct *deploy.Account, r deploy.OwnedResource) error {
	if err := checkAccount(acct); err != nil {
		return err
	}
	l, known := listings()[r.Type]
	if !known || !isIdentifier(r.Ref) {
		return internal(errNoKind)
	}
	what := r.Type + " " + cmp.Or(r.Name, r.Ref)
	return act(ctx, c, deploy.StepDelete, what, func() error {
		if r.Type == deploy.ResourceQueue {
			if err := c.dropConsumers(ctx, acct, r.Ref); err != nil {
				return err
			}
		}
		return c.delete(ctx, acct, "deleting one of the "+l.plural, l.path+"/"+r.Ref)
	})
}

// delete deletes what is at path; what is gone is no error.
func (c *Client) delete(ctx context.Context, acct *deploy.Account, doing, path string) error {
	t := c.reading(doing)
	t.final = codeNoQueue // which is not waited for here
	_, err := c.rest(ctx, acct, t, http.MethodDelete, path, nil, nil)
	switch codeOf(err) {
	case codeNoNamespace, codeNoDatabase, codeNoQueue, codeNoConsumer:
		return nil
	}
	return err
}

func (c *Client) dropConsumers(ctx context.Context, acct *deploy.Account, queue string) error {
	const doing = "looking for a queue's consumers"
	t := c.reading(doing)
	t.final = codeNoQueue
	result, err := c.rest(ctx, acct, t, http.MethodGet, "/queues/"+queue, nil, nil)
	if codeOf(err) == codeNoQueue {
		return nil
	} else if err != nil {
		return err
	}
	var row queueRow
	if json.Unmarshal(result, &row) != nil {
		return missing(doing, "consumers")
	}
	for _, k := range row.Consumers {
		if !isIdentifier(k.ID) {
			return missing(doing, "consumer_id")
		}
		if err := c.delete(ctx, acct, "removing a queue's consumer", "/queues/"+queue+"/consumers/"+k.ID); err != nil {
			return err
		}
	}
	return nil
}

var _ deploy.Caretaker = (*Client)(nil)
