package workerd

import (
	_ "embed"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// TailEvent is one invocation of a Worker, in the shape of `wrangler tail`'s events
// (wrangler-wire fact sheet, section 14). All texts in it are the Worker's.
type TailEvent struct {
	Worker  string
	Version string
	// Trace is the JSON object of the event, with scriptName and scriptVersion set:
	// outcome, exceptions[{name,message,stack,timestamp}], logs[{message[],level,timestamp}],
	// eventTimestamp, event{request{url,method,headers,cf},response{status}} and more. Times are
	// Unix milliseconds; a stack's places are "module:line:column". Console output is cut
	// at 256 KiB an invocation, and truncated is true then.
	Trace json.RawMessage
}

//go:embed tail.js
var tailWorker string

// maxTailBody bounds one event, in bytes: the tail Worker's bounds, a request's headers,
// and JSON's escapes.
const maxTailBody = 4 << 20

// sink receives the tail's events of one process.
type sink struct {
	workers []Worker
	on      func(TailEvent)
	mu      sync.Mutex // one event at a time
}

// ServeHTTP takes one event.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTailBody))
	if err != nil {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	i, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	if err != nil || i < 0 || i >= len(s.workers) {
		http.Error(w, "no such Worker", http.StatusNotFound)
		return
	}
	var item map[string]json.RawMessage
	if err := json.Unmarshal(raw, &item); err != nil || item == nil {
		http.Error(w, "not an event", http.StatusBadRequest)
		return
	}
	e, err := attributed(item, s.workers[i])
	if err != nil {
		http.Error(w, "not an event", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.on(e)
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// attributed says in the event whose it is: the runtime leaves that out.
func attributed(item map[string]json.RawMessage, wk Worker) (e TailEvent, err error) {
	if item["scriptName"], err = json.Marshal(wk.Name); err != nil {
		return e, err
	}
	if wk.Version != "" {
		if item["scriptVersion"], err = json.Marshal(map[string]string{"id": wk.Version}); err != nil {
			return e, err
		}
	}
	trace, err := json.Marshal(item)
	return TailEvent{Worker: wk.Name, Version: wk.Version, Trace: trace}, err
}
