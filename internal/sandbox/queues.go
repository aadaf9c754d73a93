package sandbox

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

//go:embed stores/queues.js
var queuesFront []byte

//go:embed stores/deliver.js
var deliverWorker []byte

const (
	maxQueues      = 10 // of a temporary account (wrangler-wire fact sheet, section 21)
	maxMessageBody = 8 << 20
)

// queue is a queue; its messages are in the account's queue process.
type queue struct {
	id, name   string
	createdAt  time.Time
	modifiedAt time.Time
	paused     bool
	delay      float64 // of deliveries, in seconds
	consumers  []*consumer
}

// consumer takes a queue's messages.
type consumer struct {
	id         string
	kind       string // "worker" or "http_pull"
	script     string
	settings   map[string]any
	deadLetter string // a queue's name
	createdAt  time.Time
}

// queueProcess runs the runtime's own Queues for an account, in a process of its own:
// who consumes what is fixed when it starts, so it starts anew when that changes. The
// messages are on the disk and outlast it.
type queueProcess struct {
	mu     sync.RWMutex // held for reading by everything that speaks to it
	p      *workerd.Process
	closed bool
	flight atomic.Int32 // batches that consumers are busy with
}

// settle waits a moment for batches that consumers are busy with: cut off, they would
// be delivered again.
func (q *queueProcess) settle(ctx context.Context) {
	const most, after = 2 * time.Second, 30 * time.Millisecond
	ctx, stop := context.WithTimeout(ctx, most)
	defer stop()
	for ctx.Err() == nil && q.flight.Load() > 0 {
		_ = sleep(ctx, 5*time.Millisecond)
	}
	_ = sleep(ctx, after) // for what the process writes down when it has the answer
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// sent is one batch on its way to a consumer.
type sent struct {
	Queue    string            `json:"queue"`
	Messages []json.RawMessage `json:"messages"`
	Metadata json.RawMessage   `json:"metadata"`
}

// consumersJSON is the configuration of the Queues Worker: by the queues' ids, so that
// one that is made again under an old name starts empty.
func (a *account) consumersJSON() (text string, ids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	byName := map[string]string{}
	for _, q := range a.queueList {
		byName[q.name] = q.id
		ids = append(ids, q.id)
	}
	all := map[string]any{}
	for _, q := range a.queueList {
		for _, c := range q.consumers {
			if c.kind != "worker" || q.paused {
				continue
			}
			dead := c.deadLetter
			if id := byName[dead]; id != "" {
				dead = id
			} else if dead != "" {
				dead = "missing:" + dead
			}
			all[q.id] = map[string]any{
				"consumer": "CONSUMER", "maxBatchSize": number(c.settings, "batch_size", 10), "maxBatchTimeout": number(c.settings, "max_wait_time_ms", 5000) / 1000,
				"maxRetries": number(c.settings, "max_retries", 3), "retryDelay": number(c.settings, "retry_delay", 0),
				"maxConcurrency": number(c.settings, "max_concurrency", 0), "deadLetterQueue": dead,
			}
		}
	}
	return stringify(all), ids
}

// number reads a setting that may be null or absent.
func number(settings map[string]any, key string, absent float64) float64 {
	if v, ok := settings[key].(float64); ok {
		return v
	}
	return absent
}

// queueProc gives the running process with its lock held for reading; release it.
func (a *account) queueProc(ctx context.Context) (p *workerd.Process, release func(), err error) {
	q := &a.queues
	for {
		q.mu.RLock()
		if q.p != nil && q.p.Err() == nil {
			return q.p, q.mu.RUnlock, nil
		}
		q.mu.RUnlock()
		if err := a.restartQueues(ctx, false); err != nil {
			return nil, nil, err
		}
	}
}

// restartQueues starts the process with who consumes what now. Without force one that
// runs is left as it is.
func (a *account) restartQueues(ctx context.Context, force bool) error {
	home, err := a.homeDir()
	if err != nil {
		return err
	}
	q := &a.queues
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errAuth(http.StatusUnauthorized)
	}
	if q.p != nil {
		if !force && q.p.Err() == nil {
			return nil
		}
		if q.p.Err() == nil {
			q.settle(ctx)
		}
		q.p.Stop(ctx)
		q.p = nil
	}
	consumers, ids := a.consumersJSON()
	w := ours("queues", "/workerd/queues.js", queuesFront,
		workerd.Binding{Name: "SHARD", Kind: workerd.Objects, Class: "QueueShard"},
		workerd.Binding{Name: "CONSUMER", Kind: workerd.Service, Worker: "deliver", Entrypoint: "Consumer"},
		workerd.Binding{Name: "CONSUMERS", Kind: workerd.JSON, Value: consumers},
		workerd.Binding{Name: "TEST_CLOCK", Kind: workerd.JSON, Value: "true"})
	w.Classes, w.Storage = []workerd.Class{{Name: "QueueShard", Key: "queues"}}, filepath.Join(home, "queues")
	deliver := workerd.Worker{
		Name: "deliver", MainModule: "main.js", CompatibilityDate: storeDate,
		Modules:  []workerd.Module{{Name: "main.js", Type: "application/javascript+module", Content: deliverWorker}},
		Bindings: []workerd.Binding{{Name: "SINK", Kind: workerd.External, Handler: http.HandlerFunc(a.deliver)}},
	}
	p, err := a.startOurs(ctx, w, deliver)
	if err != nil {
		return err
	}
	if skew := a.s.clock.offset.Load(); skew > 0 {
		if err := advanceStore(ctx, p, "queues", time.Duration(skew)); err != nil {
			p.Stop(ctx)
			return err
		}
	}
	for _, id := range ids { // what waits there looks for its consumer when it is called
		if _, err := roundTrip(ctx, p, "queues", id, http.MethodGet, "/metrics", nil, nil); err != nil {
			p.Stop(ctx)
			return err
		}
	}
	q.p = p
	return nil
}

func (q *queueProcess) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.p != nil {
		ctx, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		q.p.Stop(ctx)
		q.p = nil
	}
}

func (q *queueProcess) advance(ctx context.Context, by time.Duration) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.p != nil && q.p.Err() == nil {
		_ = advanceStore(ctx, q.p, "queues", by)
	}
}

// producer takes what a Worker sends to a queue, which may have been deleted since, or
// made again. It holds a send back while the process starts anew.
func (a *account) producer(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessageBody))
		if err != nil {
			http.Error(w, "the message is too large", http.StatusRequestEntityTooLarge)
			return
		}
		header := http.Header{}
		for _, k := range []string{"Content-Type", "X-Msg-Fmt", "X-Msg-Delay-Secs", "Cf-Queue-Batch-Count", "Cf-Queue-Batch-Bytes", "Cf-Queue-Largest-Msg"} {
			if v := r.Header.Values(k); len(v) > 0 {
				header[k] = v
			}
		}
		a.mu.Lock()
		q, id := a.queueNamed(name), ""
		if q != nil {
			id = q.id
			if q.delay > 0 && header.Get("X-Msg-Delay-Secs") == "" {
				header.Set("X-Msg-Delay-Secs", fmt.Sprint(q.delay))
			}
		}
		a.mu.Unlock()
		if id == "" {
			w.Header().Set("CF-Queues-Error-Code", "10104")
			w.Header().Set("CF-Queues-Error-Cause", "Queue does not exist")
			w.WriteHeader(http.StatusNotFound)
			return
		}
		got, err := a.askQueue(r.Context(), id, r.Method, r.URL.RequestURI(), header, raw)
		if err != nil {
			http.Error(w, "the queue can't be reached", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(got.status)
		_, _ = w.Write(got.body)
	})
}

func (a *account) askQueue(ctx context.Context, id, method, target string, header http.Header, body []byte) (*stored, error) {
	p, release, err := a.queueProc(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return roundTrip(ctx, p, "queues", id, method, target, header, body)
}

// deliver hands a batch to its consumer. An error counts as a failed attempt.
func (a *account) deliver(w http.ResponseWriter, r *http.Request) {
	var in sent
	if err := json.NewDecoder(io.LimitReader(r.Body, 64<<20)).Decode(&in); err != nil {
		http.Error(w, "not a batch", http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	name, script := "", ""
	if q := a.queueByID(in.Queue); q != nil {
		name = q.name
		for _, c := range q.consumers {
			if c.kind == "worker" {
				script = c.script
			}
		}
	}
	a.mu.Unlock()
	if script == "" {
		http.Error(w, "nobody consumes this queue any more", http.StatusNotFound)
		return
	}
	a.queues.flight.Add(1)
	defer a.queues.flight.Add(-1)
	out, err := a.event(r.Context(), script, map[string]any{"queue": name, "messages": in.Messages, "metadata": in.Metadata})
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out)
}

// queueByID finds a queue; the caller holds account.mu.
func (a *account) queueByID(id string) *queue {
	for _, q := range a.queueList {
		if q.id == id {
			return q
		}
	}
	return nil
}

// queueNamed finds a queue; the caller holds account.mu.
func (a *account) queueNamed(name string) *queue {
	for _, q := range a.queueList {
		if q.name == name {
			return q
		}
	}
	return nil
}

// view is a queue as the API shows it; the caller holds account.mu.
func (a *account) queueView(q *queue) map[string]any {
	producers := []any{}
	for _, sc := range a.scripts {
		v := sc.deployed()
		if v != nil && slices.ContainsFunc(v.bindings, func(b binding) bool { return b.str("type") == "queue" && b.str("queue_name") == q.name }) {
			producers = append(producers, map[string]any{"type": "worker", "script": sc.name})
		}
	}
	consumers := []any{}
	for _, c := range q.consumers {
		consumers = append(consumers, c.view(q))
	}
	return map[string]any{
		"queue_id": q.id, "queue_name": q.name, "created_on": stamp(q.createdAt), "modified_on": stamp(q.modifiedAt),
		"producers": producers, "producers_total_count": len(producers), "consumers": consumers, "consumers_total_count": len(consumers),
		"settings": map[string]any{"delivery_delay": q.delay, "delivery_paused": q.paused, "message_retention_period": 4 * 24 * 3600},
	}
}

func (c *consumer) view(q *queue) map[string]any {
	out := map[string]any{
		"consumer_id": c.id, "type": c.kind, "queue_id": q.id, "queue_name": q.name, "settings": c.settings, "dead_letter_queue": c.deadLetter,
		"created_on": stamp(c.createdAt),
	}
	if c.kind == "worker" {
		out["script"], out["script_name"], out["service"], out["environment"] = c.script, c.script, c.script, "production"
	}
	return out
}

func listQueues(c *call) (answer, error) {
	c.acct.mu.Lock()
	defer c.acct.mu.Unlock()
	out := []any{}
	for _, q := range c.acct.queueList {
		if name := c.r.URL.Query().Get("name"); name == "" || q.name == name {
			out = append(out, c.acct.queueView(q))
		}
	}
	return paged(c, out, 100), nil
}

// queueSettings are what a queue can be told.
type queueSettings struct {
	Name     string `json:"queue_name"`
	Settings struct {
		Delay  *float64 `json:"delivery_delay"`
		Paused *bool    `json:"delivery_paused"`
	} `json:"settings"`
}

func (c *call) queueBody() (in queueSettings, err error) {
	if err := c.body(&in); err != nil {
		return in, err
	}
	if in.Settings.Delay != nil {
		return in, checkDelay(*in.Settings.Delay)
	}
	return in, nil
}

func postQueue(c *call) (answer, error) {
	in, err := c.queueBody()
	if err != nil {
		return answer{}, err
	}
	if !validName(in.Name) {
		return answer{}, refuse(http.StatusBadRequest, 11003, "Queue name is invalid: %s", in.Name)
	}
	a := c.acct
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.queueNamed(in.Name) != nil {
		return answer{}, refuse(http.StatusConflict, 11009, "Queue name '%s' is already taken. Please use a different name and try again.", in.Name)
	}
	if len(a.queueList) >= maxQueues {
		return answer{}, refuse(http.StatusForbidden, 11008, "You have reached the maximum number of queues for this account: %d", maxQueues)
	}
	now := c.s.clock.Now()
	q := &queue{id: randomHex(16), name: in.Name, createdAt: now, modifiedAt: now}
	q.set(in)
	a.queueList = append(a.queueList, q)
	return answer{result: a.queueView(q)}, nil
}

// set takes settings over; it tells whether deliveries change.
func (q *queue) set(in queueSettings) bool {
	before := q.paused
	if in.Settings.Delay != nil {
		q.delay = *in.Settings.Delay
	}
	if in.Settings.Paused != nil {
		q.paused = *in.Settings.Paused
	}
	return q.paused != before
}

func errNoQueue(id string) error {
	return refuse(http.StatusNotFound, 11000, "Queue %s does not exist", id)
}

// onQueue runs f on the queue of a request, under the account's lock; when f says so,
// the queue process learns of a change of consumers.
func (c *call) onQueue(f func(q *queue) (result any, changed bool, err error)) (answer, error) {
	a := c.acct
	a.deploying.Lock()
	defer a.deploying.Unlock()
	a.mu.Lock()
	q := a.queueByID(c.args["queue"])
	if q == nil {
		a.mu.Unlock()
		return answer{}, errNoQueue(c.args["queue"])
	}
	result, changed, err := f(q)
	if err == nil && changed {
		q.modifiedAt = c.s.clock.Now()
	}
	a.mu.Unlock()
	if err != nil || !changed {
		return answer{result: result}, err
	}
	if err := a.wantEvents(c.r.Context()); err != nil {
		return answer{}, err
	}
	return answer{result: result}, a.restartQueues(c.r.Context(), true)
}

func getQueue(c *call) (answer, error) {
	return c.onQueue(func(q *queue) (any, bool, error) { return c.acct.queueView(q), false, nil })
}

func patchQueue(c *call) (answer, error) {
	in, err := c.queueBody()
	if err != nil {
		return answer{}, err
	}
	return c.onQueue(func(q *queue) (any, bool, error) {
		changed := q.set(in)
		return c.acct.queueView(q), changed, nil
	})
}

func deleteQueue(c *call) (answer, error) {
	return c.onQueue(func(q *queue) (any, bool, error) {
		a := c.acct
		consumed := len(q.consumers) > 0
		a.queueList = slices.DeleteFunc(a.queueList, func(o *queue) bool { return o == q })
		return nil, consumed, nil
	})
}

func listConsumers(c *call) (answer, error) {
	return c.onQueue(func(q *queue) (any, bool, error) {
		out := []any{}
		for _, k := range q.consumers {
			out = append(out, k.view(q))
		}
		return out, false, nil
	})
}

// consumerBody reads a consumer and holds it against what the account has.
func (c *call) consumerBody() (*consumer, error) {
	var in struct {
		Type       string         `json:"type"`
		Script     string         `json:"script_name"`
		Settings   map[string]any `json:"settings"`
		DeadLetter string         `json:"dead_letter_queue"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	k := &consumer{id: randomHex(16), kind: in.Type, script: in.Script, settings: in.Settings, deadLetter: in.DeadLetter, createdAt: c.s.clock.Now()}
	if k.settings == nil {
		k.settings = map[string]any{}
	}
	if err := checkSettings(k.settings); err != nil {
		return nil, err
	}
	switch k.kind {
	case "worker":
		c.acct.mu.Lock()
		known := c.acct.scripts[k.script] != nil
		c.acct.mu.Unlock()
		if !known {
			return nil, refuse(http.StatusNotFound, 10007, "This Worker does not exist on your account: %s", k.script)
		}
	case "http_pull":
		return nil, refuse(http.StatusBadRequest, 11001, "the sandbox has no HTTP pull consumers")
	default:
		return nil, refuse(http.StatusBadRequest, 11001, "a consumer's type is worker or http_pull, not %q", k.kind)
	}
	return k, nil
}

func postConsumer(c *call) (answer, error) {
	k, err := c.consumerBody()
	if err != nil {
		return answer{}, err
	}
	return c.onQueue(func(q *queue) (any, bool, error) {
		if len(q.consumers) > 0 {
			return nil, false, refuse(http.StatusConflict, 11004, "Queue '%s' already has a consumer", q.name)
		}
		q.consumers = append(q.consumers, k)
		return k.view(q), true, nil
	})
}

func (q *queue) consumer(id string) int {
	return slices.IndexFunc(q.consumers, func(k *consumer) bool { return k.id == id })
}

func putConsumer(c *call) (answer, error) {
	k, err := c.consumerBody()
	if err != nil {
		return answer{}, err
	}
	return c.onQueue(func(q *queue) (any, bool, error) {
		i := q.consumer(c.args["consumer"])
		if i < 0 {
			return nil, false, refuse(http.StatusNotFound, 11002, "Queue '%s' has no consumer %s", q.name, c.args["consumer"])
		}
		k.id = q.consumers[i].id
		q.consumers[i] = k
		return k.view(q), true, nil
	})
}

func deleteConsumer(c *call) (answer, error) {
	return c.onQueue(func(q *queue) (any, bool, error) {
		i := q.consumer(c.args["consumer"])
		if i < 0 {
			return nil, false, refuse(http.StatusNotFound, 11002, "Queue '%s' has no consumer %s", q.name, c.args["consumer"])
		}
		q.consumers = slices.Delete(q.consumers, i, i+1)
		return nil, true, nil
	})
}

// postMessages sends to a queue from outside.
func postMessages(c *call) (answer, error) {
	var in struct {
		Messages []outsideMessage `json:"messages"`
		outsideMessage
	}
	raw, err := c.readAll(maxMessageBody)
	if err != nil {
		return answer{}, err
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return answer{}, refuse(http.StatusBadRequest, 11005, "the body is not a message")
	}
	if !strings.HasSuffix(c.r.URL.Path, "/batch") {
		in.Messages = []outsideMessage{in.outsideMessage}
	}
	id := c.args["queue"]
	c.acct.mu.Lock()
	known := c.acct.queueByID(id) != nil
	c.acct.mu.Unlock()
	if !known {
		return answer{}, errNoQueue(id)
	}
	for _, m := range in.Messages { // all or none
		if err := checkDelay(m.Delay); err != nil {
			return answer{}, err
		}
	}
	for _, m := range in.Messages {
		format, body := "json", []byte(m.Body)
		if m.ContentType == "text" {
			var text string
			if json.Unmarshal(m.Body, &text) != nil {
				return answer{}, refuse(http.StatusBadRequest, 11005, "the body of a text message is a string")
			}
			format, body = "text", []byte(text)
		}
		header := http.Header{"X-Msg-Fmt": {format}, "X-Msg-Delay-Secs": {fmt.Sprint(m.Delay)}}
		r, err := c.acct.askQueue(c.r.Context(), id, http.MethodPost, "/message", header, body)
		if err != nil {
			return answer{}, err
		}
		if r.status != http.StatusOK {
			return answer{}, refuse(r.status, 11005, "%s", bytes.Trim(r.body, `"`))
		}
	}
	return answer{result: nil}, nil
}

type outsideMessage struct {
	Body        json.RawMessage `json:"body"`
	ContentType string          `json:"content_type"`
	Delay       float64         `json:"delay_seconds"`
}

var errNoEvents = errors.New("the Worker can't be reached")

// event has the account's runtime call queue() or scheduled() of a Worker.
func (a *account) event(ctx context.Context, script string, what map[string]any) ([]byte, error) {
	p, v, err := a.process(ctx, script)
	if err != nil {
		return nil, err
	}
	if v == nil || v.main == "" || p == nil || p.Transport(eventsWorker) == nil {
		return nil, errNoEvents
	}
	what["worker"] = script
	body, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	r, err := roundTrip(ctx, p, eventsWorker, "", http.MethodPost, "/", nil, body)
	if err != nil {
		return nil, err
	}
	if r.status != http.StatusOK {
		return nil, fmt.Errorf("the runtime answered %d: %.200s", r.status, r.body)
	}
	return r.body, nil
}
