package sandbox

import (
	"maps"
	"slices"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// Processes counts the runtime's processes that are up now, for metrics: those of Workers,
// and those of stores and queues. One that is just being started is not among them.
func (s *Sandbox) Processes() int {
	s.mu.Lock()
	accounts := slices.Collect(maps.Values(s.accounts))
	s.mu.Unlock()
	up := map[*workerd.Process]bool{}
	for _, a := range accounts {
		a.mu.Lock()
		for _, p := range append(slices.Collect(maps.Values(a.runtime.previews)), a.runtime.live, a.runtime.pending, a.runtime.warmed) {
			up[p] = true
		}
		a.mu.Unlock()
		// Both are held for as long as a start takes: who looks must not wait for that.
		if a.stores.mu.TryLock() {
			up[a.stores.base] = true
			a.stores.mu.Unlock()
		}
		if a.queues.mu.TryRLock() {
			up[a.queues.p] = true
			a.queues.mu.RUnlock()
		}
	}
	delete(up, nil)
	n := 0
	for p := range up {
		if p.Err() == nil {
			n++
		}
	}
	return n
}
