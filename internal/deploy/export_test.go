package deploy

import "context"

// SourcePlace lets the tests at the source map's decoder.
func SourcePlace(a *Artifact, text string) string { return sourcePlace(a, text) }

// Locks lets the tests at the keyed locks.
type Locks struct{ l keyedLocks }

// Lock is keyedLocks.lock.
func (l *Locks) Lock(ctx context.Context, key string) (func(), error) { return l.l.lock(ctx, key) }

// Held tells how many keys are held or waited for.
func (l *Locks) Held() int { l.l.mu.Lock(); defer l.l.mu.Unlock(); return len(l.l.held) }
