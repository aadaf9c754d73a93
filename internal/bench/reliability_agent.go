package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// agent deploys in one session, as an agent does that follows what it is told: after
// account_lost and session_expired it asks for a fresh account, after any other failure
// it makes the same call again.
type agent struct {
	t       *trial
	number  int
	caller  deploy.Caller
	session string
	fresh   bool
	workers map[string]*watched // of the current account
}

// watched is what an agent knows of one of its Workers.
type watched struct {
	host string
	live string // the mark of the last deployment that was reported live; "": none was
	// maybe are the marks of later calls that failed: they may have had their effect.
	maybe []string
}

// shapes are the kinds of applications that agents deploy, in turn.
func shapes() []string {
	return []string{"plain", "kv", "plain", "d1", "plain", "objects", "plain", "cron"}
}

// project is an application of a shape that answers with a mark, by way of its resource
// where it has one.
func project(shape, name, mark string) deploy.Source {
	config, body, more := "", fmt.Sprintf("return new Response(%q)", mark), ""
	var files []deploy.File
	switch shape {
	case "kv":
		config = `, "kv_namespaces": [{"binding": "KV"}]`
		body = fmt.Sprintf(`await env.KV.put("mark", %q); return new Response(await env.KV.get("mark"))`, mark)
	case "d1":
		config = `, "d1_databases": [{"binding": "DB", "database_name": "notes"}]`
		body = fmt.Sprintf(`const r = await env.DB.prepare("SELECT count(*) AS n FROM notes").first(); return new Response(%q + " notes " + r.n)`, mark)
		// The second would double the first one's row, and fail, if it ran again.
		files = append(files,
			deploy.File{Path: "migrations/0001_notes.sql", Content: []byte("CREATE TABLE notes (id INTEGER PRIMARY KEY); INSERT INTO notes VALUES (1);")},
			deploy.File{Path: "migrations/0002_more.sql", Content: []byte("INSERT INTO notes SELECT id + 1 FROM notes;")})
	case "objects":
		config = `, "durable_objects": {"bindings": [{"name": "ROOM", "class_name": "Room"}]}, "migrations": [{"tag": "v1", "new_sqlite_classes": ["Room"]}]`
		more = fmt.Sprintf("import { DurableObject } from \"cloudflare:workers\";\nexport class Room extends DurableObject { mark() { return %q; } }\n", mark)
		body = `return new Response(await env.ROOM.getByName("one").mark())`
	case "cron":
		config = `, "triggers": {"crons": ["0 4 * * *"]}`
	}
	files = append(files,
		deploy.File{Path: "wrangler.jsonc", Content: fmt.Appendf(nil, `{"name": %q, "main": "index.js", "compatibility_date": "2026-08-01"%s}`, name, config)},
		deploy.File{Path: "index.js", Content: []byte(more + "export default { async fetch(request, env) { " + body + "; }, async scheduled() {} };\n")})
	return deploy.Source{Files: files}
}

// run makes the agent's calls. Every third application is a second Worker, a plain one.
func (a *agent) run(ctx context.Context) {
	var name, shape, mark string
	done := true
	for i := 0; i < callsEach && a.t.begun.Add(1) <= int64(a.t.n) && ctx.Err() == nil; i++ {
		if done {
			name, shape = fmt.Sprintf("app-%d", a.number), shapes()[a.number%len(shapes())]
			if i%3 == 2 {
				name, shape = name+"-two", "plain"
			}
			mark = fmt.Sprintf("mark-%d-%d", a.number, i)
		}
		done = a.calls(ctx, shape, name, mark)
	}
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	a.t.tally.agents++
}

// calls makes one deployment and holds what it says against what is there.
func (a *agent) calls(ctx context.Context, shape, name, mark string) bool {
	res, err := a.t.service.Deploy(ctx, a.caller, deploy.DeployRequest{
		Source: project(shape, name, mark), SessionID: a.session, Fresh: a.fresh, Expect: &deploy.Expect{BodyContains: mark},
	})
	if err != nil {
		a.failed(ctx, name, mark, deploy.AsError(err))
		return false
	}
	a.session, a.fresh = res.SessionID, false
	if res.Account == deploy.AccountNew {
		a.workers = map[string]*watched{} // what was live before ends with the account before
	}
	w := a.watch(name)
	if u, err := url.Parse(res.URL); err == nil && w.host == "" {
		w.host = u.Host
	}
	t := a.t
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tally.succeeded++
	if res.Serving != deploy.ServingYes {
		t.tally.notYet++
		w.maybe = append(w.maybe, mark)
		return true
	}
	w.live, w.maybe = mark, nil
	return true
}

func (a *agent) watch(name string) *watched {
	w := a.workers[name]
	if w == nil {
		w = &watched{}
		a.workers[name] = w
	}
	return w
}

func (a *agent) failed(ctx context.Context, name, mark string, e *deploy.Error) {
	w := a.watch(name)
	w.maybe = append(w.maybe, mark)
	a.fresh = e.Code == deploy.CodeAccountLost || e.Code == deploy.CodeSessionExpired
	if a.session == "" { // the session may have been made before the failure
		if all, err := a.t.store.Sessions(ctx, a.caller.Principal, 1); err == nil && len(all) > 0 {
			a.session = all[0].ID
		}
	}
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	a.t.tally.failed[e.Code]++
	if e.Next == "" {
		a.t.tally.wrong("a failure says not what to do next: %v", e)
	}
	switch e.Code {
	case deploy.CodeAPIUnreachable, deploy.CodeAPIBadResponse, deploy.CodeAPIRefused, deploy.CodeRateLimited, deploy.CodeAccountLost, deploy.CodeSessionExpired:
	default: // nothing that the faults account for
		a.t.tally.wrong("agent %d, %s: %v (%v)", a.number, name, e, e.Cause)
	}
}

// look asks every Worker that was reported live. One whose account a fault has ended is
// not lost: the session says so.
func (a *agent) look(ctx context.Context, living map[string]bool) {
	deps, err := a.t.store.Deployments(ctx, a.session)
	if err != nil {
		a.t.tally.wrong("agent %d: %v", a.number, err)
		return
	}
	for name, w := range a.workers {
		i := slices.IndexFunc(deps, func(d deploy.Deployment) bool { return d.Worker == name && d.Host != "" })
		if w.live == "" || i < 0 {
			if w.live != "" {
				a.t.tally.lost = append(a.t.tally.lost, fmt.Sprintf("%s was reported live, and is in no record", name))
			}
			continue
		}
		host := deps[i].Host
		_, rest, _ := strings.Cut(host, ".")
		if subdomain, _, _ := strings.Cut(rest, "."); !living[subdomain] {
			a.t.tally.ended++
			continue
		}
		got, err := a.t.edge.Fetch(ctx, host, "/", nil)
		switch {
		case err != nil:
			a.t.tally.lost = append(a.t.tally.lost, fmt.Sprintf("%s: %v", host, err))
		case !answers(string(got.Body), append(w.maybe, w.live)):
			a.t.tally.lost = append(a.t.tally.lost, fmt.Sprintf("%s answers %d %.80q, not %s", host, got.Status, got.Body, w.live))
		default:
			a.t.tally.live++
		}
	}
}

// answers tells whether a body is that of one of the marks, with the rows that the
// migrations come to when each ran once.
func answers(body string, marks []string) bool {
	return slices.ContainsFunc(marks, func(m string) bool { return body == m || body == m+" notes 2" })
}
