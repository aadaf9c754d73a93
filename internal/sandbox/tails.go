package sandbox

import (
	"bufio"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// tail is one open stream of a Worker's invocations.
type tail struct {
	id        string
	secret    string // the path of its WebSocket
	script    string
	expiresAt time.Time
	filters   []tailFilter
	events    chan json.RawMessage
	closing   chan struct{}
	once      sync.Once
}

// tailFilter is one filter; all of them must let an event through.
type tailFilter struct {
	SamplingRate *float64 `json:"sampling_rate"`
	Outcome      []string `json:"outcome"`
	Method       []string `json:"method"`
	Query        string   `json:"query"`
	Header       *struct {
		Key   string `json:"key"`
		Query string `json:"query"`
	} `json:"header"`
}

const (
	tailLife   = 6 * time.Hour
	tailBuffer = 256 // events that wait for a slow reader; more are dropped
	maxTails   = 10  // of one Worker, as live
)

func (t *tail) close() { t.once.Do(func() { close(t.closing) }) }

func postTail(c *call) (answer, error) {
	var in struct {
		Filters []tailFilter `json:"filters"`
	}
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	return c.reading(func(sc *script) (answer, error) {
		if len(sc.tails) >= maxTails {
			return answer{}, refuse(http.StatusBadRequest, 10059, "the Worker has %d tails already", maxTails)
		}
		t := &tail{
			id: randomHex(16), secret: randomText(32), script: sc.name, filters: in.Filters, expiresAt: c.s.clock.Now().Add(tailLife),
			events: make(chan json.RawMessage, tailBuffer), closing: make(chan struct{}),
		}
		sc.tails[t.id] = t
		return answer{result: t.view(c.s)}, nil
	})
}

func (t *tail) view(s *Sandbox) map[string]any {
	base := strings.TrimSuffix(strings.Replace(s.urls.API, "http://", "ws://", 1), "/client/v4")
	return map[string]any{"id": t.id, "url": base + "/tail/" + t.secret, "expires_at": stamp(t.expiresAt)}
}

func listTails(c *call) (answer, error) {
	return c.reading(func(sc *script) (answer, error) {
		out := []any{}
		for _, t := range sc.tails {
			out = append(out, map[string]any{"id": t.id, "expires_at": stamp(t.expiresAt)})
		}
		return answer{result: out}, nil
	})
}

func deleteTail(c *call) (answer, error) {
	return c.reading(func(sc *script) (answer, error) {
		t := sc.tails[c.args["tail"]]
		if t == nil {
			return answer{}, refuse(http.StatusNotFound, 10058, "there is no such tail")
		}
		delete(sc.tails, t.id)
		t.close()
		return answer{}, nil
	})
}

// onTail hands an event of the runtime to the Worker's tails.
func (a *account) onTail(e workerd.TailEvent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	sc := a.scripts[e.Worker]
	if sc == nil || len(sc.tails) == 0 {
		return
	}
	var seen struct {
		Outcome string `json:"outcome"`
		Logs    []any  `json:"logs"`
		Event   struct {
			Request struct {
				Method  string            `json:"method"`
				Headers map[string]string `json:"headers"`
			} `json:"request"`
		} `json:"event"`
	}
	if json.Unmarshal(e.Trace, &seen) != nil {
		return
	}
	for _, t := range sc.tails {
		pass := true
		for _, f := range t.filters {
			pass = pass && f.lets(seen.Outcome, seen.Event.Request.Method, seen.Event.Request.Headers, seen.Logs)
		}
		if !pass {
			continue
		}
		select {
		case t.events <- e.Trace:
		default: // a reader that does not keep up loses events, as live
		}
	}
}

func (f tailFilter) lets(outcome, method string, headers map[string]string, logs []any) bool {
	if f.SamplingRate != nil && rand.Float64() >= *f.SamplingRate { //nolint:gosec // sampling is no secret
		return false
	}
	if len(f.Outcome) > 0 && !slices.Contains(f.Outcome, outcome) {
		return false
	}
	if len(f.Method) > 0 && !slices.Contains(f.Method, method) {
		return false
	}
	if f.Query != "" && !strings.Contains(stringify(logs), f.Query) {
		return false
	}
	if f.Header != nil {
		v, ok := headers[strings.ToLower(f.Header.Key)]
		return ok && strings.Contains(v, f.Header.Query)
	}
	return true
}

// findTail finds a tail by the path of its WebSocket.
func (s *Sandbox) findTail(secret string) (*account, *tail) {
	s.mu.Lock()
	accounts := make([]*account, 0, len(s.accounts))
	for _, a := range s.accounts {
		accounts = append(accounts, a)
	}
	s.mu.Unlock()
	for _, a := range accounts {
		a.mu.Lock()
		for _, sc := range a.scripts {
			for _, t := range sc.tails {
				if t.secret == secret {
					a.mu.Unlock()
					return a, t
				}
			}
		}
		a.mu.Unlock()
	}
	return nil, nil
}

// serveTail streams a tail's events over a WebSocket.
func (s *Sandbox) serveTail(w http.ResponseWriter, r *http.Request, secret string) {
	a, t := s.findTail(secret)
	if t == nil || a.over() {
		http.Error(w, "there is no such tail", http.StatusNotFound)
		return
	}
	conn, rw, err := upgrade(w, r, "trace-v1")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ws := &socket{conn: conn}
	gone := make(chan struct{})
	s.serving.Go(func() {
		defer close(gone)
		ws.readAll(rw.Reader)
	})
	s.stream(ws, t, gone)
	_ = conn.Close()
	<-gone
	a.mu.Lock()
	defer a.mu.Unlock()
	if sc := a.scripts[t.script]; sc != nil && sc.tails[t.id] == t {
		delete(sc.tails, t.id)
	}
}

func (s *Sandbox) stream(ws *socket, t *tail, gone <-chan struct{}) {
	for {
		select {
		case e := <-t.events:
			if ws.write(opText, e) != nil {
				return
			}
		case <-t.closing:
			_ = ws.write(opClose, []byte{0x03, 0xe8}) // 1000: a normal end
			return
		case <-s.ctx.Done():
			_ = ws.write(opClose, []byte{0x03, 0xe9})
			return
		case <-gone:
			return
		}
	}
}

// readAll reads the client's frames until it goes: pings are answered, the rest is
// its wish list, which a sandbox does not need.
func (ws *socket) readAll(r *bufio.Reader) {
	for {
		op, payload, err := readFrame(r)
		if err != nil {
			return
		}
		switch op {
		case opPing:
			err = ws.write(opPong, payload)
		case opClose:
			_ = ws.write(opClose, payload)
			err = errors.New("closed")
		}
		if err != nil {
			return
		}
	}
}
