package cloudflare

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// queueRow is what is read of a queue (section 11).
type queueRow struct {
	ID        string `json:"queue_id"`
	Name      string `json:"queue_name"`
	Consumers []struct {
		ID      string `json:"consumer_id"`
		Type    string `json:"type"`
		Script  string `json:"script"`
		Script2 string `json:"script_name"`
		Service string `json:"service"`
	} `json:"consumers"`
}

func (c *Client) findQueue(ctx context.Context, acct *deploy.Account, name string) (*queueRow, error) {
	const doing = "looking for a queue"
	result, err := c.rest(ctx, acct, c.reading(doing), http.MethodGet, "/queues", url.Values{"name": {name}, "page": {"1"}}, nil)
	if err != nil {
		return nil, err
	}
	var rows []queueRow
	if len(result) > 0 && json.Unmarshal(result, &rows) != nil {
		return nil, missing(doing, "the list")
	}
	for i := range rows {
		if rows[i].Name == name && isIdentifier(rows[i].ID) {
			return &rows[i], nil
		}
	}
	return nil, nil //nolint:nilnil // there is none
}

// ensureQueue finds a queue or makes it.
func (c *Client) ensureQueue(ctx context.Context, acct *deploy.Account, name string) (row *queueRow, made bool, err error) {
	const doing = "making a queue"
	if row, err = c.findQueue(ctx, acct, name); row != nil || err != nil {
		return row, false, err
	}
	result, err := c.rest(ctx, acct, c.making(doing), http.MethodPost, "/queues", nil, map[string]string{"queue_name": name})
	if codeOf(err) == codeQueueExists {
		if again, errAgain := c.findQueue(ctx, acct, name); again != nil || errAgain != nil {
			return again, false, errAgain
		}
	}
	if err != nil {
		return nil, false, err
	}
	row = &queueRow{}
	if json.Unmarshal(result, row) != nil || !isIdentifier(row.ID) {
		return nil, false, missing(doing, "queue_id")
	}
	return row, true, nil
}

// Trigger sets the cron triggers and the queues' consumers of a Worker (section 11).
// Queues that are not there yet, dead letter queues among them, are made: wrangler
// stops at them, which on an account of an hour helps nobody.
func (c *Client) Trigger(ctx context.Context, acct *deploy.Account, a *deploy.Artifact) ([]deploy.Resource, error) {
	if err := checkAccount(acct); err != nil {
		return nil, err
	}
	if err := checkWorker(a.Name); err != nil || a.Resources == nil {
		return nil, err
	}
	var out []deploy.Resource
	var first error
	note := func(kind, name string, made bool, err error) {
		s := state(made)
		if err != nil {
			s = deploy.ResourceFailed
			if first == nil {
				first = err
			}
		}
		out = append(out, deploy.Resource{Type: kind, Name: name, State: s})
	}
	if a.Resources.HasCrons {
		err := c.schedules(ctx, acct, a)
		for _, cron := range a.Resources.Crons {
			note(deploy.ResourceCron, cron, true, err)
		}
		if len(a.Resources.Crons) == 0 && err != nil {
			note(deploy.ResourceCron, "none", false, err)
		}
	}
	for _, k := range a.Resources.Consumers {
		if k.DeadLetter != "" {
			_, made, err := c.ensureQueue(ctx, acct, k.DeadLetter)
			note(deploy.ResourceQueue, k.DeadLetter, made, err)
		}
		made, err := c.consumer(ctx, acct, a.Name, k)
		note(deploy.ResourceConsumer, k.Queue, made, err)
	}
	return out, first
}

func (c *Client) schedules(ctx context.Context, acct *deploy.Account, a *deploy.Artifact) error {
	type row struct {
		Cron string `json:"cron"`
	}
	rows := []row{}
	for _, cron := range a.Resources.Crons {
		rows = append(rows, row{cron})
	}
	_, err := c.rest(ctx, acct, c.reading("setting cron triggers"), http.MethodPut, "/workers/scripts/"+a.Name+"/schedules", nil, rows)
	return err
}

// consumer makes the Worker a queue's consumer, or changes how it is one.
func (c *Client) consumer(ctx context.Context, acct *deploy.Account, worker string, k deploy.Consumer) (made bool, err error) {
	const doing = "making the Worker a queue's consumer"
	q, _, err := c.ensureQueue(ctx, acct, k.Queue)
	if err != nil {
		return false, err
	}
	settings := k.Settings
	if settings == nil {
		settings = map[string]any{}
	}
	body := map[string]any{"type": "worker", "script_name": worker, "settings": settings}
	if k.DeadLetter != "" {
		body["dead_letter_queue"] = k.DeadLetter
	}
	for _, old := range q.Consumers {
		if old.Type != "http_pull" && (old.Script == worker || old.Script2 == worker || old.Service == worker) && isIdentifier(old.ID) {
			_, err = c.rest(ctx, acct, c.reading(doing), http.MethodPut, "/queues/"+q.ID+"/consumers/"+old.ID, nil, body)
			return false, err
		}
	}
	_, err = c.rest(ctx, acct, c.making(doing), http.MethodPost, "/queues/"+q.ID+"/consumers", nil, body)
	return true, err
}
