package cloudflare

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// apiCode is the API's own number of a refusal. It is the cause of the error that a
// caller sees, so that code can tell refusals apart.
type apiCode int

// Error implements error.
func (c apiCode) Error() string { return "API error " + strconv.Itoa(int(c)) }

// codeOf is the API's number behind an error, or 0.
func codeOf(err error) int {
	e := deploy.AsError(err)
	for cause := error(e); cause != nil; {
		if c, ok := cause.(apiCode); ok { //nolint:errorlint // this is the unwrapping
			return int(c)
		}
		u, ok := cause.(interface{ Unwrap() error })
		if !ok {
			return 0
		}
		cause = u.Unwrap()
	}
	return 0
}

// The refusals that say "there is none" and "there is one already" (wrangler-wire fact
// sheet, sections 10 and 15; 10013 and 11009 as seen by others on the live API).
const (
	codeNoNamespace    = 10013
	codeTitleExists    = 10014
	codeNoDatabase     = 7404
	codeDatabaseExists = 7502
	codeQueueExists    = 11009
)

// rest makes one call with the account's token, by plain net/http: the packages of the
// SDK for these would add a minute to every build and encode no better.
func (c *Client) rest(ctx context.Context, acct *deploy.Account, t try, method, path string, query url.Values, body any) (json.RawMessage, error) {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return nil, internal(err)
		}
	}
	return c.trying(ctx, t, func(ctx context.Context) (*answer, error) {
		target := c.base.String() + "/accounts/" + acct.ID + path
		if len(query) > 0 {
			target += "?" + query.Encode()
		}
		req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(raw))
		if err != nil {
			return nil, internal(err)
		}
		req.Header.Set("Authorization", "Bearer "+acct.Token.Reveal())
		if body != nil {
			req.Header.Set("Content-Type", "application/json")
		}
		req.Header.Set("Accept", "application/json")
		req.Header.Set("User-Agent", c.cfg.UserAgent)
		res, err := c.http.Do(req)
		if err != nil {
			return nil, err //nolint:wrapcheck // it is worded by who knows the call
		}
		return readAnswer(res)
	})
}

// reading is a call that comes to the same however often it is made. making is one that
// must not be repeated blindly: look finds what it made when its answer was lost.
func (c *Client) reading(doing string) try {
	return try{doing: doing, timeout: c.cfg.Timeout, repeat: true}
}

func (c *Client) making(doing string, look func(ctx context.Context) (json.RawMessage, error)) try {
	return try{doing: doing, timeout: c.cfg.Timeout, repeat: true, look: look}
}

// row is a look's find as the answer that was lost would have had it.
func row[T any](found *T, err error) (json.RawMessage, error) {
	if found == nil || err != nil {
		return nil, err
	}
	raw, err := json.Marshal(found)
	if err != nil {
		return nil, internal(err)
	}
	return raw, nil
}

// preparing is one preparation of an account for an upload.
type preparing struct {
	c    *Client
	acct *deploy.Account
	a    *deploy.Artifact
	out  *deploy.Prepared
	// before are the bindings that the deployed version has; nil until they are asked for.
	before []deploy.Binding
}

// Prepare finds or makes resources as wrangler does (section 10): what the Worker's
// deployed version has under the same binding is inherited; else what exists under the
// name is taken; else it is made. Then it applies the migrations of D1 databases, in
// order, each once, and computes the migration of Durable Object classes.
//
// A resource that the configuration names by an id which this account does not have is
// replaced by one of the account's own, with a warning: ids of a configuration are
// those of the user's own account, which a temporary one has nothing to do with.
func (c *Client) Prepare(ctx context.Context, acct *deploy.Account, a *deploy.Artifact, stage func(deploy.Stage)) (*deploy.Prepared, error) {
	if err := checkAccount(acct); err != nil {
		return nil, err
	}
	if err := checkArtifact(a); err != nil {
		return nil, err
	}
	p := &preparing{c: c, acct: acct, a: a, out: &deploy.Prepared{}}
	if err := p.run(ctx, stage); err != nil {
		return nil, c.reallyLost(ctx, acct, a.Name, err)
	}
	return p.out, nil
}

func (p *preparing) run(ctx context.Context, stage func(deploy.Stage)) error {
	if err := p.settings(ctx); err != nil {
		return err
	}
	p.out.Bindings = slices.Clone(p.a.Bindings)
	databases := map[string]string{} // id by binding
	for i, b := range p.a.Bindings {
		var (
			done deploy.Binding
			id   string
			err  error
		)
		switch b.Type() {
		case deploy.ResourceKV:
			done, err = p.namespace(ctx, b)
		case deploy.ResourceD1:
			done, id, err = p.database(ctx, b)
			databases[b.Name()] = id
		case deploy.ResourceQueue:
			done, err = p.queue(ctx, b)
		default:
			continue
		}
		if err != nil {
			return err
		}
		p.out.Bindings[i] = done
	}
	if err := p.migrate(ctx, databases, stage); err != nil {
		return err
	}
	return p.objects(ctx)
}

// settings asks what the deployed version is bound to. That there is none is fine.
func (p *preparing) settings(ctx context.Context) error {
	result, err := p.c.rest(ctx, p.acct, p.c.reading("asking for the Worker's present bindings"), http.MethodGet, "/workers/scripts/"+p.a.Name+"/settings", nil, nil)
	if err != nil {
		if code := codeOf(err); code == codeNoWorker || code == codeNoService {
			return nil
		}
		return err
	}
	var in struct {
		Bindings []deploy.Binding `json:"bindings"`
	}
	if json.Unmarshal(result, &in) != nil {
		return missing("asking for the Worker's present bindings", "bindings")
	}
	p.before = in.Bindings
	return nil
}

// inherited finds the deployed version's binding of that name and type.
func (p *preparing) inherited(b deploy.Binding) deploy.Binding {
	for _, old := range p.before {
		if old.Name() == b.Name() && old.Type() == b.Type() {
			return old
		}
	}
	return nil
}

func inherit(b deploy.Binding) deploy.Binding {
	return deploy.Binding{"name": b.Name(), "type": "inherit"}
}

// defaultName is what wrangler calls a resource that has no name.
func (p *preparing) defaultName(b deploy.Binding) string {
	return p.a.Name + "-" + strings.ReplaceAll(strings.ToLower(b.Name()), "_", "-")
}

func (p *preparing) tell(b deploy.Binding, name, state string) {
	p.out.Resources = append(p.out.Resources, deploy.Resource{Type: b.Type(), Binding: b.Name(), Name: name, State: state})
}

func member(b deploy.Binding, key string) string {
	s, _ := b[key].(string)
	return s
}

func (p *preparing) warn(format string, args ...any) {
	p.out.Warnings = append(p.out.Warnings, fmt.Sprintf(format, args...))
}

// kvRow is what is read of a KV namespace.
type kvRow struct {
	ID    string `json:"id"`
	Title string `json:"title"`
}

// namespace finds or makes a KV namespace.
func (p *preparing) namespace(ctx context.Context, b deploy.Binding) (deploy.Binding, error) {
	name := p.defaultName(b)
	bound := func(id string) deploy.Binding {
		return deploy.Binding{"name": b.Name(), "type": b.Type(), "namespace_id": id}
	}
	if id := member(b, "namespace_id"); id != "" {
		has, err := p.has(ctx, "/storage/kv/namespaces/"+id, codeNoNamespace)
		if err != nil {
			return nil, err
		}
		if has {
			p.tell(b, id, deploy.ResourceKept)
			return bound(id), nil
		}
		p.warn("The KV namespace of the binding %s is not on the temporary account: a namespace of its own, %s, stands in for it, without its content.", b.Name(), name)
	}
	if p.inherited(b) != nil {
		p.tell(b, name, deploy.ResourceKept)
		return inherit(b), nil
	}
	there, err := p.findNamespace(ctx, name)
	if err != nil {
		return nil, err
	}
	if there != nil {
		p.tell(b, name, deploy.ResourceKept)
		return bound(there.ID), nil
	}
	id, err := p.makeNamespace(ctx, name)
	if err != nil {
		return nil, err
	}
	p.tell(b, name, deploy.ResourceMade)
	return bound(id), nil
}

// has tells whether the account has the resource at path; absent is the code that says
// that it has not.
func (p *preparing) has(ctx context.Context, path string, absent int) (bool, error) {
	_, err := p.c.rest(ctx, p.acct, p.c.reading("looking for a resource of the configuration"), http.MethodGet, path, nil, nil)
	if err == nil {
		return true, nil
	}
	if codeOf(err) == absent {
		return false, nil
	}
	return false, err
}

const (
	perPage  = 100
	maxPages = 100 // a temporary account has a handful
)

// findNamespace finds a namespace by its title; nil for none.
func (p *preparing) findNamespace(ctx context.Context, title string) (*kvRow, error) {
	rows, err := p.c.list(ctx, p.acct, listings()[deploy.ResourceKV])
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if r.Name == title {
			return &kvRow{r.Ref, r.Name}, nil
		}
	}
	return nil, nil //nolint:nilnil // there is none
}

func (p *preparing) makeNamespace(ctx context.Context, title string) (id string, err error) {
	return step(ctx, p.c, deploy.StepCreateResource, deploy.ResourceKV+" "+title, func() (string, string, error) {
		id, err := p.postNamespace(ctx, title)
		return id, id, err
	})
}

func (p *preparing) postNamespace(ctx context.Context, title string) (string, error) {
	const doing = "making a KV namespace"
	t := p.c.making(doing, func(ctx context.Context) (json.RawMessage, error) { return row(p.findNamespace(ctx, title)) })
	result, err := p.c.rest(ctx, p.acct, t, http.MethodPost, "/storage/kv/namespaces", nil, map[string]string{"title": title})
	if codeOf(err) == codeTitleExists { // somebody else made it since
		if there, errFind := p.findNamespace(ctx, title); errFind != nil {
			return "", errFind
		} else if there != nil {
			return there.ID, nil
		}
	}
	if err != nil {
		return "", err
	}
	var made kvRow
	if json.Unmarshal(result, &made) != nil || !isIdentifier(made.ID) {
		return "", missing(doing, "id")
	}
	return made.ID, nil
}

// queue finds or makes a producer's queue.
func (p *preparing) queue(ctx context.Context, b deploy.Binding) (deploy.Binding, error) {
	name := member(b, "queue_name")
	old := p.inherited(b)
	if old != nil && (name == "" || member(old, "queue_name") == name) {
		p.tell(b, member(old, "queue_name"), deploy.ResourceKept)
		return inherit(b), nil
	}
	if name == "" {
		name = p.defaultName(b)
	}
	_, made, err := p.c.ensureQueue(ctx, p.acct, name)
	if err != nil {
		return nil, err
	}
	p.tell(b, name, state(made))
	done := deploy.Binding{"type": b.Type(), "name": b.Name(), "queue_name": name}
	if delay, ok := b["delivery_delay"]; ok {
		done["delivery_delay"] = delay
	}
	return done, nil
}

func state(made bool) string {
	if made {
		return deploy.ResourceMade
	}
	return deploy.ResourceKept
}
