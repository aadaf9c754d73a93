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
	ID        string        `json:"queue_id"`
	Name      string        `json:"queue_name"`
	Consumers []consumerRow `json:"consumers"`
}

type consumerRow struct {
	ID      string `json:"consumer_id"`
	Type    string `json:"type"`
	Script  string `json:"script"`
	Script2 string `json:"script_name"`
	Service string `json:"service"`
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
func (c *Client) ensureQueue(ctx context.Context, acct *deploy.Account, name string) (there *queueRow, made bool, err error) {
	if there, err = c.findQueue(ctx, acct, name); there != nil || err != nil {
		return there, false, err
	}
	there, err = step(ctx, c, deploy.StepCreateResource, deploy.ResourceQueue+" "+name, func() (*queueRow, string, error) {
		q, err := c.postQueue(ctx, acct, name)
		if err != nil {
			return nil, "", err
		}
		return q, q.ID, nil
	})
	return there, err == nil, err
}

func (c *Client) postQueue(ctx context.Context, acct *deploy.Account, name string) (*queueRow, error) {
	const doing = "making a queue"
	t := c.making(doing, func(ctx context.Context) (json.RawMessage, error) { return row(c.findQueue(ctx, acct, name)) })
	result, err := c.rest(ctx, acct, t, http.MethodPost, "/queues", nil, map[string]string{"queue_name": name})
	if codeOf(err) == codeQueueExists { // somebody else made it since
		if again, errAgain := c.findQueue(ctx, acct, name); again != nil || errAgain != nil {
			return again, errAgain
		}
	}
	if err != nil {
		return nil, err
	}
	made := &queueRow{}
	if json.Unmarshal(result, made) != nil || !isIdentifier(made.ID) {
		return nil, missing(doing, "queue_id")
	}
	return made, nil
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
	type schedule struct {
		Cron string `json:"cron"`
	}
	all := []schedule{}
	for _, cron := range a.Resources.Crons {
		all = append(all, schedule{cron})
	}
	return act(ctx, c, deploy.StepSetTrigger, "schedules "+a.Name, func() error {
		_, err := c.rest(ctx, acct, c.reading("setting cron triggers"), http.MethodPut, "/workers/scripts/"+a.Name+"/schedules", nil, all)
		return err
	})
}

const doingConsumer = "making the Worker a queue's consumer"

// consumer makes the Worker a queue's consumer, or changes how it is one.
func (c *Client) consumer(ctx context.Context, acct *deploy.Account, worker string, k deploy.Consumer) (made bool, err error) {
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
	old := q.consumedBy(worker)
	return step(ctx, c, deploy.StepSetTrigger, "consumer "+k.Queue, func() (bool, string, error) {
		if old != nil {
			_, err := c.rest(ctx, acct, c.reading(doingConsumer), http.MethodPut, "/queues/"+q.ID+"/consumers/"+old.ID, nil, body)
			return false, old.ID, err
		}
		id, err := c.postConsumer(ctx, acct, worker, q, body)
		return true, id, err
	})
}

// postConsumer makes a consumer. The API's answer is not needed, so that it may be empty.
func (c *Client) postConsumer(ctx context.Context, acct *deploy.Account, worker string, q *queueRow, body map[string]any) (id string, err error) {
	t := c.making(doingConsumer, func(ctx context.Context) (json.RawMessage, error) {
		now, err := c.findQueue(ctx, acct, q.Name)
		if now == nil || err != nil {
			return nil, err
		}
		return row(now.consumedBy(worker), nil)
	})
	result, err := c.rest(ctx, acct, t, http.MethodPost, "/queues/"+q.ID+"/consumers", nil, body)
	if err != nil {
		return "", err
	}
	var made consumerRow
	_ = json.Unmarshal(result, &made) // what can't be read has no name
	return made.ID, nil
}

// consumedBy finds the queue's consumer that is this Worker; nil: it is none.
func (q *queueRow) consumedBy(worker string) *consumerRow {
	for i, k := range q.Consumers {
		if k.Type != "http_pull" && (k.Script == worker || k.Script2 == worker || k.Service == worker) && isIdentifier(k.ID) {
			return &q.Consumers[i]
		}
	}
	return nil
}
