package deploy

import (
	"context"
	"sync"
)

// keyedLocks are locks by name that can be waited for under a context.
type keyedLocks struct {
	mu   sync.Mutex
	held map[string]*keyedLock
}

type keyedLock struct {
	token   chan struct{}
	waiters int
}

// lock waits until key is free or ctx ends; the caller calls unlock once.
func (l *keyedLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	l.mu.Lock()
	k := l.join(key)
	l.mu.Unlock()
	select {
	case k.token <- struct{}{}:
		return func() { <-k.token; l.leave(key, k) }, nil
	case <-ctx.Done():
		l.leave(key, k)
		return nil, ctx.Err()
	}
}

// try takes key if it is free and nobody waits for it, and tells whether it did.
func (l *keyedLocks) try(key string) (unlock func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[key] != nil {
		return nil, false
	}
	k := l.join(key)
	k.token <- struct{}{} // there is room: nobody else knows of it yet
	return func() { <-k.token; l.leave(key, k) }, true
}

// join finds or makes a lock and counts one more who holds or waits. The caller holds mu.
func (l *keyedLocks) join(key string) *keyedLock {
	if l.held == nil {
		l.held = map[string]*keyedLock{}
	}
	k := l.held[key]
	if k == nil {
		k = &keyedLock{token: make(chan struct{}, 1)}
		l.held[key] = k
	}
	k.waiters++
	return k
}

// leave counts one less, and forgets a lock that nobody holds or waits for.
func (l *keyedLocks) leave(key string, k *keyedLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.waiters--; k.waiters == 0 {
		delete(l.held, key)
	}
}
