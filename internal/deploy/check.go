package deploy

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// ProbeHeader marks our own requests, so that the tail's event of a probe can be
// told from those of visitors. Cloudflare's tail keeps headers whose name does not
// sound like a credential.
const ProbeHeader = "X-Hourglass-Probe"

const (
	firstPoll = 20 * time.Millisecond
	slowPoll  = 500 * time.Millisecond
	// errorWait is how long the exception of a failing Worker is waited for on the tail.
	errorWait   = 2 * time.Second
	excerptSize = 400 // bytes of a Worker's answer that are shown
)

// probe is one look at the Worker, with what the tail told of it.
type probe struct {
	id    string
	resp  *Response
	err   error
	event *TraceEvent
	at    time.Time
}

// checker looks at a deployed Worker until it knows what serves, or time is up.
type checker struct {
	s       *Service
	art     *Artifact
	dep     *Deployment
	path    string
	expect  *Expect
	hasPrev bool // another version may still be serving
	prevMet bool // the version before met the expectation too, so meeting it proves nothing
	// before is the evidence of an earlier check of this very version; "" if there is none.
	before string
	events *eventBook
	watch  *watch
	// witness tells versions of static files apart; nil: none does.
	witness *witness
}

// check waits until the deployed version serves, reads what it answers, and sets
// dep.Serving and dep.Check. It never fails: what can't be seen is said so.
func (r *run) check(ctx context.Context) {
	ck := &checker{
		s: r.s, art: r.art, dep: &r.dep, path: r.req.Expect.path(), expect: r.req.Expect,
		hasPrev: r.prev != nil, prevMet: r.prevMet, events: r.events, watch: r.watch,
	}
	if r.prev != nil && r.prev.ID == r.dep.ID {
		// Unchanged: only a version that never was confirmed can still be waiting for its turn.
		ck.hasPrev = r.older && !r.prev.confirmed()
		if r.prev.confirmed() {
			ck.before = "confirmed before, and nothing was deployed over it since"
		}
	}
	if ck.hasPrev && r.prev.ID != r.dep.ID && r.art.MainModule == "" {
		if before, err := r.s.cfg.Store.Artifact(ctx, r.c.Principal, r.prev.BundleID); err == nil {
			ck.witness = newWitness(r.art, before)
		}
	}
	ck.run(ctx)
}

// run polls. Its result is in dep.
func (ck *checker) run(ctx context.Context) {
	deadline := time.Now().Add(ck.s.cfg.ServeWait)
	var settleBy time.Time // when to stop waiting for evidence of the version
	wait := firstPoll
	var last probe
	for {
		p := ck.look(ctx)
		// A context that ends mid-probe leaves the probe before as what was seen.
		if p.err == nil || last.resp == nil {
			last = p
		}
		serving, stale := ck.judge(&p)
		if serving && !stale {
			evidence := ck.evidence(&p)
			if evidence == "" && ck.witness != nil && ck.witness.seen(ctx, ck.s.cfg.Edge, ck.dep.Host) {
				evidence = "the changed file " + cut(ck.witness.path, 100) + " answers with this version's content"
			}
			if evidence == "" && settleBy.IsZero() {
				settleBy = time.Now().Add(ck.s.cfg.ConfirmWait)
			}
			if evidence != "" || ck.settled(&p, settleBy) {
				ck.finish(&p, ServingYes, evidence)
				return
			}
		}
		if stale {
			settleBy = time.Time{}
		}
		if time.Now().After(deadline) || sleep(ctx, wait) != nil {
			ck.finish(&last, ck.servingAtLast(&last), "")
			return
		}
		wait = min(wait*3/2, slowPoll)
	}
}

// settled tells whether to stop waiting for evidence: the time is up, and where an
// expectation was given, either it is met or the whole waiting time is spent on it.
func (ck *checker) settled(p *probe, by time.Time) bool {
	if time.Now().Before(by) {
		return false
	}
	return ck.expect == nil || ck.met(p.resp) || !ck.hasPrev
}

func (ck *checker) servingAtLast(p *probe) string {
	if serving, stale := ck.judge(p); serving && !stale && ck.expect == nil {
		return ServingYes
	}
	return ServingNotYet
}

// look sends one probe and, where it matters, waits a moment for the tail's word on it.
func (ck *checker) look(ctx context.Context) probe {
	if ck.events != nil {
		ck.events.waitOpen(ctx, time.Second)
		ck.watch.waitOpen(ctx, time.Second)
	}
	p := probe{id: NewID("p"), at: ck.s.cfg.Now().UTC()}
	if ck.events != nil {
		ck.events.expect(p.id)
	}
	header := http.Header{ProbeHeader: {p.id}, "Cache-Control": {"no-cache"}, "User-Agent": {"hourglass-probe"}}
	p.resp, p.err = ck.s.cfg.Edge.Fetch(ctx, ck.dep.Host, ck.path, header)
	if p.err != nil || ck.events == nil {
		return p
	}
	switch {
	case p.resp.Status >= 500:
		p.event = ck.events.wait(ctx, p.id, errorWait)
	case ck.hasPrev || p.resp.Status == http.StatusNotFound:
		p.event = ck.events.wait(ctx, p.id, 250*time.Millisecond)
	}
	return p
}

// judge tells whether a probe was answered by a Worker at all, and whether by a
// version that is not the one deployed.
func (ck *checker) judge(p *probe) (serving, stale bool) {
	if p.err != nil || p.resp == nil {
		return false, false
	}
	if p.event != nil {
		return true, p.event.VersionID != "" && ck.dep.VersionID != "" && p.event.VersionID != ck.dep.VersionID
	}
	if ck.expect != nil && ck.met(p.resp) {
		return true, false
	}
	// A route that is not up yet answers 404 (12-15 s on the live API); so may the Worker.
	return p.resp.Status != http.StatusNotFound, false
}

// evidence tells why the answer is known to be the deployed version's; "" if it is not.
func (ck *checker) evidence(p *probe) string {
	if p.event != nil && p.event.VersionID != "" && p.event.VersionID == ck.dep.VersionID {
		return "the tail names this version for our probe"
	}
	answered := p.event != nil || p.resp.Status < 500 && p.resp.Status != http.StatusNotFound
	switch {
	case !ck.hasPrev && answered && ck.before != "":
		return ck.before
	case !ck.hasPrev && answered:
		return "first version of this Worker on this account"
	}
	if ck.expect != nil && ck.hasPrev && !ck.prevMet && ck.met(p.resp) {
		return "the expectation is met, and the version before did not meet it"
	}
	return ""
}

// met tells whether an answer is the expected one: without an expectation, any below 400.
func (ck *checker) met(r *Response) bool { return meets(ck.expect, r) }

func meets(e *Expect, r *Response) bool {
	if r == nil {
		return false
	}
	if e == nil {
		return r.Status < 400
	}
	if e.Status != 0 && r.Status != e.Status || e.Status == 0 && r.Status >= 400 {
		return false
	}
	return e.BodyContains == "" || bytes.Contains(r.Body, []byte(e.BodyContains))
}

// finish writes down what was seen.
func (ck *checker) finish(p *probe, serving, evidence string) {
	ck.dep.Serving = serving
	ck.dep.Check = ck.describe(p, evidence)
}

func (ck *checker) describe(p *probe, evidence string) *Check {
	c := &Check{Path: ck.path, Version: VersionUnconfirmed, ProbedAt: p.at}
	if evidence != "" {
		c.Version, c.Evidence = VersionConfirmed, evidence
	}
	if p.err != nil || p.resp == nil {
		c.Error = "no answer yet: " + ck.s.cfg.Redactor.Redact(AsError(p.err).Message)
		return c
	}
	c.Status = p.resp.Status
	c.OK = ck.met(p.resp)
	c.LatencyMS = float64(p.resp.Latency.Microseconds()) / 1000
	c.BodyExcerpt = ck.s.excerpt(p.resp)
	if _, stale := ck.judge(p); stale {
		c.OK = false
		c.Error = "what answered is still the version before"
		return c
	}
	ck.explain(c, p)
	return c
}

// explain says what went wrong and where, as far as the tail tells.
func (ck *checker) explain(c *Check, p *probe) {
	switch {
	case p.event != nil && len(p.event.Exceptions) > 0:
		x := p.event.Exceptions[0]
		c.Error = cut(ck.s.cfg.Redactor.Redact(strings.TrimSpace(x.Name+": "+x.Message)), excerptSize)
		c.At = sourcePlace(ck.art, x.Stack)
	case p.event != nil && p.event.Outcome != "" && p.event.Outcome != "ok" && p.resp.Status >= 500:
		c.Error = "the runtime ended the request: " + p.event.Outcome
	case p.resp.Status >= 500:
		c.Error = fmt.Sprintf("it answers HTTP %d; no exception was reported, so the Worker itself may have chosen this status", p.resp.Status)
	case !c.OK && p.resp.Status == http.StatusNotFound && p.event == nil && ck.events != nil:
		c.Error = "HTTP 404: the route is not up yet, or the Worker itself answers 404 here"
	}
}

// excerpt is the beginning of a Worker's answer, as text. Secrets are stripped before
// the cut: half a secret is none that the redactor knows.
func (s *Service) excerpt(r *Response) string {
	if !utf8.Valid(trimRune(r.Body)) || bytes.IndexByte(r.Body, 0) >= 0 {
		kind := cut(s.cfg.Redactor.Redact(r.Header.Get("Content-Type")), 100)
		return fmt.Sprintf("(%d bytes of %s)", len(r.Body), cmp.Or(kind, "no stated type"))
	}
	return cut(s.cfg.Redactor.Redact(string(r.Body)), excerptSize)
}

// trimRune drops a rune that the cut of the body may have left unfinished.
func trimRune(b []byte) []byte {
	for i := 0; i < utf8.UTFMax && len(b) > 0 && !utf8.Valid(b[max(0, len(b)-utf8.UTFMax):]); i++ {
		b = b[:len(b)-1]
	}
	return b
}

// cut shortens s to n bytes at a rune's end and says that it did.
func cut(s string, n int) string {
	if len(s) <= n {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ToValidUTF8(string(trimRune([]byte(s[:n]))), "\uFFFD") + "…"
}

// eventBook collects the tail's events of our probes, from a goroutine of its own.
type eventBook struct {
	mu     sync.Mutex
	events map[string]*TraceEvent // by probe; nil: asked for, not here yet
	news   chan struct{}
	stop   context.CancelFunc
	done   sync.WaitGroup
	open   chan struct{} // closed when the tail is open, or can't be had
	dead   chan struct{} // closed when no more events will come
}

// openEvents opens the Worker's tail in the background. A tail that can't be had is an
// empty book: it is a source of evidence, not a condition.
func openEvents(ctx context.Context, cloud Cloud, acct *Account, worker string) *eventBook {
	ctx, stop := context.WithCancel(ctx)
	b := &eventBook{
		events: map[string]*TraceEvent{}, news: make(chan struct{}, 1), stop: stop,
		open: make(chan struct{}), dead: make(chan struct{}),
	}
	b.done.Go(func() {
		defer close(b.dead)
		tail, err := cloud.Tail(ctx, acct, worker)
		close(b.open)
		if err != nil {
			return
		}
		defer tail.Close() //nolint:errcheck // the stream's end tells nobody anything
		for {
			ev, err := tail.Next(ctx)
			if err != nil {
				return
			}
			b.put(ev)
		}
	})
	return b
}

// waitOpen waits up to d until the tail is open or can't be had.
func (b *eventBook) waitOpen(ctx context.Context, d time.Duration) {
	select {
	case <-b.open:
		return
	default:
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-b.open:
	case <-t.C:
	case <-ctx.Done():
	}
}

// expect makes room for the event of a probe of ours.
func (b *eventBook) expect(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events[id] = nil
}

// put keeps the event of an expected probe. Anybody can send the header: what visitors
// make up is not kept, so that they can neither fill the book nor crowd us out.
func (b *eventBook) put(ev TraceEvent) {
	b.mu.Lock()
	known, ours := b.events[ev.ProbeID]
	if ours && known == nil {
		b.events[ev.ProbeID] = &ev
	}
	b.mu.Unlock()
	if !ours {
		return
	}
	select {
	case b.news <- struct{}{}:
	default:
	}
}

// wait gives the event of a probe, waiting for it up to d.
func (b *eventBook) wait(ctx context.Context, id string, d time.Duration) *TraceEvent {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		if ev := b.event(id); ev != nil {
			return ev
		}
		select {
		case <-b.news:
		case <-b.dead:
			return b.event(id) // it may have come just before the end
		case <-t.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

func (b *eventBook) event(id string) *TraceEvent {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events[id]
}

func (b *eventBook) close() {
	b.stop()
	b.done.Wait()
}
