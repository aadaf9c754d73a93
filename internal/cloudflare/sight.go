package cloudflare

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// maxSighted bounds how many Workers' versions one look asks for.
const maxSighted = 20

// Sight asks for the list of Workers and for the deployments of each that is named, all
// at once: no call of the API gives both. The list of a Worker's deployments has the
// newest first and goes back some way (section 14), so that a version shows also when
// another was deployed over it since.
func (c *Client) Sight(ctx context.Context, acct *deploy.Account, names []string) (*deploy.Sighted, error) {
	if err := checkAccount(acct); err != nil {
		return nil, err
	}
	names = names[:min(len(names), maxSighted)]
	for _, name := range names {
		if err := checkWorker(name); err != nil {
			return nil, err
		}
	}
	var asking sync.WaitGroup
	versions, failed := make([][]string, len(names)), make([]error, len(names))
	for i, name := range names {
		asking.Go(func() { versions[i], failed[i] = c.versionsOf(ctx, acct, name) })
	}
	rows, err := c.list(ctx, acct, listing{"Workers", "/workers/scripts", "id", "id"})
	asking.Wait()
	if err != nil {
		return nil, err
	}
	out := &deploy.Sighted{Versions: map[string][]string{}}
	for _, row := range rows {
		out.Workers = append(out.Workers, row.Ref)
	}
	for i, name := range names {
		if failed[i] != nil {
			return nil, failed[i]
		}
		if len(versions[i]) > 0 {
			out.Versions[name] = versions[i]
		}
	}
	return out, nil
}

// versionsOf gives the versions of a Worker's deployments, the newest first, each once;
// none for a Worker that is not there.
func (c *Client) versionsOf(ctx context.Context, acct *deploy.Account, worker string) ([]string, error) {
	const doing = "asking which versions were deployed"
	result, err := c.rest(ctx, acct, c.reading(doing), http.MethodGet, "/workers/scripts/"+worker+"/deployments", nil, nil)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseDeployed(result)
}

func parseDeployed(result []byte) ([]string, error) {
	const doing = "asking which versions were deployed"
	var in struct {
		Deployments []struct {
			Versions []struct {
				ID string `json:"version_id"`
			} `json:"versions"`
		} `json:"deployments"`
	}
	if json.Unmarshal(result, &in) != nil {
		return nil, missing(doing, "deployments")
	}
	var out []string
	seen := map[string]bool{}
	for _, d := range in.Deployments {
		for _, v := range d.Versions {
			id := versionID(v.ID)
			if id == "" {
				return nil, missing(doing, "version_id")
			}
			if !seen[id] {
				seen[id] = true
				out = append(out, id)
			}
		}
	}
	return out, nil
}
