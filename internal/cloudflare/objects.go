package cloudflare

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// codeNoService says that there is no such Worker, in the words of another endpoint.
const codeNoService = 10090

// objects computes the migration of Durable Object classes that the upload carries, as
// wrangler does: the configured steps after the one whose tag the Worker has.
func (p *preparing) objects(ctx context.Context) error {
	if p.a.Resources == nil || len(p.a.Resources.Objects) == 0 {
		return nil
	}
	tag, err := p.c.objectTag(ctx, p.acct, p.a.Name)
	if err != nil {
		return err
	}
	p.out.Objects = objectSteps(p.a.Resources.Objects, tag)
	st := deploy.ResourceKept
	if p.out.Objects != nil {
		st = deploy.ResourceMade
	}
	if classes := p.a.Resources.Classes(); len(classes) > 0 {
		p.out.Resources = append(p.out.Resources, deploy.Resource{Type: deploy.ResourceObjects, Name: strings.Join(classes, ", "), State: st})
	}
	if at := slices.IndexFunc(p.a.Resources.Objects, func(o deploy.ObjectStep) bool { return o.Tag == tag }); tag != "" && at < 0 {
		p.warn("The Worker's last Durable Object migration, %q, is not in the configuration: all configured ones are applied after it.", tag)
	}
	return nil
}

// objectTag asks for the last Durable Object migration that the Worker has had; "" for
// none, also where there is no such Worker.
func (c *Client) objectTag(ctx context.Context, acct *deploy.Account, worker string) (string, error) {
	const doing = "asking for the Worker's Durable Object migration"
	result, err := c.rest(ctx, acct, c.reading(doing), http.MethodGet, "/workers/services/"+worker, nil, nil)
	if absent(err) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	var in struct {
		Environment struct {
			Script struct {
				Tag string `json:"migration_tag"`
			} `json:"script"`
		} `json:"default_environment"`
	}
	if json.Unmarshal(result, &in) != nil {
		return "", missing(doing, "default_environment")
	}
	return in.Environment.Script.Tag, nil
}

const codeNoEnvironment = 10092

// objectSteps gives the API's form of the steps after tag; nil when there are none.
func objectSteps(configured []deploy.ObjectStep, tag string) map[string]any {
	from := 0
	if tag != "" {
		from = slices.IndexFunc(configured, func(o deploy.ObjectStep) bool { return o.Tag == tag }) + 1
	}
	if from >= len(configured) {
		return nil
	}
	steps := []any{}
	for _, o := range configured[from:] {
		steps = append(steps, o.Step)
	}
	out := map[string]any{"new_tag": configured[len(configured)-1].Tag, "steps": steps}
	if tag != "" {
		out["old_tag"] = tag
	}
	return out
}

func itoa(n int) string { return strconv.Itoa(n) }

// refusedWord is the word at which SQLite stopped reading or that it does not know, if
// the API's words name one: near "SELEKT", no such table: nowhere.
func refusedWord(message string) string {
	if _, rest, ok := strings.Cut(message, `near "`); ok {
		word, _, ok := strings.Cut(rest, `"`)
		if ok {
			return word
		}
	}
	for _, lead := range []string{"no such table: ", "no such column: ", "no such function: ", "table "} {
		if _, rest, ok := strings.Cut(message, lead); ok {
			word, _, _ := strings.Cut(rest, ":")
			word, _, _ = strings.Cut(word, " ")
			return strings.Trim(word, `"'`+"`")
		}
	}
	return ""
}

// lineOf is the first line of a text that holds a word, from 1; 0: none does, or
// several do, so that it would be a guess.
func lineOf(text, word string) int {
	found := 0
	for i, line := range strings.Split(text, "\n") {
		if strings.Contains(line, word) {
			if found > 0 {
				return 0
			}
			found = i + 1
		}
	}
	return found
}
