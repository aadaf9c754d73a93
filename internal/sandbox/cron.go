package sandbox

import (
	"context"
	_ "embed"
	"encoding/json"
	"net/http"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

//go:embed stores/events.js
var eventsCode []byte

// eventsWorker is the name of the Worker of ours that calls queue() and scheduled();
// no Worker of an account can have a dot in its name.
const eventsWorker = "hourglass.events"

// maxCrons is how many cron triggers an account may have (wrangler-wire fact sheet,
// section 21: the free plan's).
const maxCrons = 5

// schedule is one cron trigger of a Worker.
type schedule struct {
	cron      string
	createdAt time.Time
	next      time.Time // zero: never
}

// wantEvents makes sure that what runs can be sent events. The caller holds
// account.deploying.
func (a *account) wantEvents(ctx context.Context) error {
	a.mu.Lock()
	had, serving := a.events, a.runtime.serving
	a.events = true
	a.mu.Unlock()
	if had || len(serving) == 0 {
		return nil
	}
	a.dropWarm()
	return a.restart(ctx, serving)
}

// withEvents adds our Worker that calls the others' handlers.
func withEvents(cfg *workerd.Config) {
	w := workerd.Worker{
		Name: eventsWorker, MainModule: "main.js", CompatibilityDate: storeDate, CompatibilityFlags: []string{"service_binding_extra_handlers"},
		Modules: []workerd.Module{{Name: "main.js", Type: "application/javascript+module", Content: eventsCode}},
	}
	for _, o := range cfg.Workers {
		w.Bindings = append(w.Bindings, workerd.Binding{Name: o.Name, Kind: workerd.Service, Worker: o.Name})
	}
	cfg.Workers = append(cfg.Workers, w)
	cfg.Experimental = true
}

// nextTimes asks the runtime's own reader of cron expressions when each fires next.
func (a *account) nextTimes(ctx context.Context, crons []string, after time.Time) ([]time.Time, error) {
	body, err := json.Marshal(map[string]any{"crons": crons, "after": after.UnixMilli()})
	if err != nil {
		return nil, err
	}
	r, err := a.ask(ctx, "cron", "", http.MethodPost, "/", nil, body)
	if err != nil {
		return nil, err
	}
	var out struct {
		Next  []*int64 `json:"next"`
		Error string   `json:"error"`
	}
	if err := json.Unmarshal(r.body, &out); err != nil {
		return nil, err
	}
	if out.Error != "" {
		return nil, refuse(http.StatusBadRequest, 10100, "invalid cron string: %s", out.Error)
	}
	times := make([]time.Time, len(out.Next))
	for i, ms := range out.Next {
		if ms != nil {
			times[i] = time.UnixMilli(*ms)
		}
	}
	return times, nil
}

func scheduleViews(list []*schedule) map[string]any {
	out := []any{}
	for _, s := range list {
		out = append(out, map[string]any{"cron": s.cron, "created_on": stamp(s.createdAt), "modified_on": stamp(s.createdAt)})
	}
	return map[string]any{"schedules": out}
}

func getSchedules(c *call) (answer, error) {
	return c.reading(func(sc *script) (answer, error) { return answer{result: scheduleViews(sc.schedules)}, nil })
}

func putSchedules(c *call) (answer, error) {
	var in []struct {
		Cron string `json:"cron"`
	}
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	a := c.acct
	a.deploying.Lock()
	defer a.deploying.Unlock()
	sc, err := c.script()
	if err != nil {
		return answer{}, err
	}
	now := c.s.clock.Now()
	list := []*schedule{}
	crons := []string{}
	for _, s := range in {
		crons = append(crons, s.Cron)
		list = append(list, &schedule{cron: s.Cron, createdAt: now})
	}
	if len(list) > 0 {
		times, err := a.nextTimes(c.r.Context(), crons, now)
		if err != nil {
			return answer{}, err
		}
		for i := range list {
			list[i].next = times[i]
		}
		if err := a.wantEvents(c.r.Context()); err != nil {
			return answer{}, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	total := len(list)
	for _, other := range a.scripts {
		if other != sc {
			total += len(other.schedules)
		}
	}
	if total > maxCrons {
		return answer{}, refuse(http.StatusForbidden, 10072, "You have exceeded the limit of %d Cron Triggers. Please upgrade to a paid plan to add more.", maxCrons)
	}
	sc.schedules = list
	return answer{result: scheduleViews(list)}, nil
}

// fireCrons runs what is due on the sandbox's clock. A trigger that was due several
// times since the last look fires once.
func (a *account) fireCrons() {
	now := a.s.clock.Now()
	type due struct {
		script string
		s      *schedule
		at     time.Time
	}
	var fire []due
	a.mu.Lock()
	for name, sc := range a.scripts {
		for _, s := range sc.schedules {
			if !s.next.IsZero() && !now.Before(s.next) {
				fire = append(fire, due{name, s, s.next})
				s.next = time.Time{} // until it is known again
			}
		}
	}
	a.mu.Unlock()
	for _, d := range fire {
		a.s.serving.Go(func() {
			if times, err := a.nextTimes(a.s.ctx, []string{d.s.cron}, now); err == nil {
				a.mu.Lock()
				d.s.next = times[0]
				a.mu.Unlock()
			}
			_, _ = a.scheduled(a.s.ctx, d.script, d.s.cron, d.at) // what it came to is in the Worker's logs
		})
	}
}

// scheduled calls a Worker's scheduled() and tells the outcome.
func (a *account) scheduled(ctx context.Context, script, cron string, at time.Time) (json.RawMessage, error) {
	ctx, stop := context.WithTimeout(ctx, 15*time.Minute)
	defer stop()
	return a.event(ctx, script, map[string]any{"cron": cron, "time": at.UnixMilli()})
}

// postCron fires a Worker's scheduled() now, for tests and demos.
func (s *Sandbox) postCron(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Account string `json:"account_id"`
		Worker  string `json:"worker"`
		Cron    string `json:"cron"`
		Time    int64  `json:"scheduled_time"` // Unix milliseconds; 0: now
	}
	if !manageBody(w, r, &in) {
		return
	}
	a := s.accountWith(in.Account, in.Worker)
	if a == nil {
		writeJSON(w, http.StatusNotFound, map[string]string{"error": "there is no account with that Worker; give worker, and account_id where several have one of that name"})
		return
	}
	at := s.clock.Now()
	if in.Time != 0 {
		at = time.UnixMilli(in.Time)
	}
	a.deploying.Lock()
	err := a.wantEvents(r.Context())
	a.deploying.Unlock()
	var out json.RawMessage
	if err == nil {
		out, err = a.scheduled(r.Context(), in.Worker, in.Cron, at)
	}
	if err != nil {
		writeJSON(w, http.StatusBadGateway, map[string]string{"error": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, out)
}

// accountWith finds the living account that has a Worker; id may be empty where only
// one has.
func (s *Sandbox) accountWith(id, worker string) *account {
	s.mu.Lock()
	accounts := make([]*account, 0, len(s.accounts))
	for _, a := range s.accounts {
		if (id == "" || a.id == id) && !a.expired(s.clock.Now()) {
			accounts = append(accounts, a)
		}
	}
	s.mu.Unlock()
	var found *account
	for _, a := range accounts {
		a.mu.Lock()
		has := a.scripts[worker] != nil
		a.mu.Unlock()
		if has && found != nil {
			return nil
		}
		if has {
			found = a
		}
	}
	return found
}
