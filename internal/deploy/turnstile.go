package deploy

import (
	"container/list"
	"context"
	"sync"
)

// turnstile lets a bounded number of callers work at once, so many of each principal,
// and takes turns between principals: one that queues a hundred waits behind itself,
// not in front of the others.
type turnstile struct {
	mu      sync.Mutex
	most    int // at once, in all; 0: no bound
	each    int // at once, of one principal; 0: no bound
	inside  int
	by      map[string]*turns
	order   list.List // of *turns with somebody waiting, whose turn comes first in front
	waiting int
}

// turns are one principal's.
type turns struct {
	name    string
	inside  int
	waiting list.List // of chan struct{}
	place   *list.Element
}

func newTurnstile(most, each int) *turnstile {
	return &turnstile{most: most, each: each, by: map[string]*turns{}}
}

// enter waits until the principal may go in, or ctx ends. leave is called once.
func (t *turnstile) enter(ctx context.Context, principal string) (leave func(), err error) {
	t.mu.Lock()
	p := t.by[principal]
	if p == nil {
		p = &turns{name: principal}
		t.by[principal] = p
	}
	if p.waiting.Len() == 0 && t.room(p) {
		t.in(p)
		t.mu.Unlock()
		return func() { t.leave(p) }, nil
	}
	turn := make(chan struct{})
	ticket := p.waiting.PushBack(turn)
	t.waiting++
	if p.place == nil {
		p.place = t.order.PushBack(p)
	}
	t.mu.Unlock()

	select {
	case <-turn:
		return func() { t.leave(p) }, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-turn: // it came at the same moment: given back
		t.out(p)
	default:
		p.waiting.Remove(ticket)
		t.waiting--
		t.settle(p)
	}
	return nil, ctx.Err()
}

func (t *turnstile) room(p *turns) bool {
	return (t.most == 0 || t.inside < t.most) && (t.each == 0 || p.inside < t.each)
}

func (t *turnstile) in(p *turns) {
	t.inside++
	p.inside++
}

func (t *turnstile) leave(p *turns) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out(p)
}

// out makes room and gives it to the next principal in turn that may have it.
func (t *turnstile) out(p *turns) {
	t.inside--
	p.inside--
	t.settle(p)
	for e := t.order.Front(); e != nil && (t.most == 0 || t.inside < t.most); {
		next := e.Next()
		if q := e.Value.(*turns); t.room(q) {
			first := q.waiting.Front()
			q.waiting.Remove(first)
			t.waiting--
			t.in(q)
			close(first.Value.(chan struct{}))
			t.order.MoveToBack(e)
			t.settle(q)
		}
		e = next
	}
}

// settle forgets a principal that nothing is known of any more.
func (t *turnstile) settle(p *turns) {
	if p.waiting.Len() == 0 && p.place != nil {
		t.order.Remove(p.place)
		p.place = nil
	}
	if p.waiting.Len() == 0 && p.inside == 0 && t.by[p.name] == p {
		delete(t.by, p.name)
	}
}

// queue tells how many work and how many wait.
func (t *turnstile) queue() (inside, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inside, t.waiting
}
