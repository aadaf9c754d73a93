package workerd

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"
)

// TailEvent is one invocation of a Worker, in the shape of `wrangler tail`'s events
// (wrangler-wire fact sheet, section 14). All texts in it are the Worker's.
type TailEvent struct {
	Worker  string
	Version string
	// Trace is the JSON object of the event, with scriptName and scriptVersion set.
	Trace json.RawMessage
}

// tailWorker forwards what the runtime tells it to a socket of ours. It runs in the
// runtime, apart from the users' Workers, which can neither see nor call it.
const tailWorker = `export default {
  async tail(events, env, ctx) {
    const out = [];
    for (const e of events) {
      const item = {
        outcome: e.outcome, exceptions: e.exceptions.map((x) => ({ name: x.name, message: x.message, stack: x.stack, timestamp: x.timestamp })),
        logs: e.logs.map((l) => ({ message: l.message, level: l.level, timestamp: l.timestamp })),
        eventTimestamp: e.eventTimestamp, event: null, truncated: e.truncated, entrypoint: e.entrypoint, executionModel: e.executionModel,
        cpuTime: e.cpuTime, wallTime: e.wallTime, diagnosticsChannelEvents: [],
      };
      const ev = e.event;
      if (ev && ev.request) {
        item.event = { request: { url: ev.request.url, method: ev.request.method, headers: { ...ev.request.headers }, cf: ev.request.cf ?? {} } };
        if (ev.response) item.event.response = { status: ev.response.status };
      } else if (ev) {
        item.event = { ...ev };
      }
      out.push(item);
    }
    await env.SINK.fetch("http://sink/" + ctx.props.worker, { method: "POST", body: JSON.stringify(out) });
  },
};`

const maxTailBody = 4 << 20 // bytes of one batch of events

// sink receives the tail's events of one process.
type sink struct {
	listener net.Listener
	server   *http.Server
	done     sync.WaitGroup
}

// openSink listens in dir.
func openSink(dir string, workers []Worker, on func(TailEvent)) (*sink, error) {
	l, err := net.Listen("unix", filepath.Join(dir, "sink"))
	if err != nil {
		return nil, err
	}
	s := &sink{listener: l}
	s.server = &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if RefuseConnect(w, r) {
				return
			}
			receive(r, workers, on)
			w.WriteHeader(http.StatusNoContent)
		}),
	}
	s.done.Go(func() { _ = s.server.Serve(l) })
	return s, nil
}

func (s *sink) close() {
	_ = s.server.Close()
	s.done.Wait()
}

// RefuseConnect answers a CONNECT with 405 and ends the connection; it tells whether
// it did. Answered with 2xx, the Worker that asked would own a raw pipe to the
// listener and could forge headers (workerd fact sheet, section 3).
func RefuseConnect(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodConnect {
		return false
	}
	w.Header().Set("Connection", "close")
	http.Error(w, "CONNECT is refused here", http.StatusMethodNotAllowed)
	return true
}

func receive(r *http.Request, workers []Worker, on func(TailEvent)) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxTailBody))
	if err != nil {
		return
	}
	var items []map[string]any
	var index int
	if json.Unmarshal(raw, &items) != nil || json.Unmarshal([]byte(r.URL.Path[1:]), &index) != nil || index < 0 || index >= len(workers) {
		return
	}
	wk := workers[index]
	for _, item := range items {
		item["scriptName"] = wk.Name
		if wk.Version != "" {
			item["scriptVersion"] = map[string]string{"id": wk.Version}
		}
		hideHeaders(item)
		trace, err := json.Marshal(item)
		if err == nil {
			on(TailEvent{Worker: wk.Name, Version: wk.Version, Trace: trace})
		}
	}
}

// hideHeaders takes our own plumbing out of an event's request headers.
func hideHeaders(item map[string]any) {
	ev, _ := item["event"].(map[string]any)
	req, _ := ev["request"].(map[string]any)
	headers, _ := req["headers"].(map[string]any)
	delete(headers, "x-hourglass-proto")
	delete(headers, "x-hourglass-cf")
}
