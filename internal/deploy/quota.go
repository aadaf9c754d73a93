package deploy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// CallLimits are the operator's on what callers use up. The first of a pair is one
// principal's share, the one "InAll" everybody's together; 0: no limit.
type CallLimits struct {
	// Deployments in an hour. They hold across processes that share the store.
	Deployments, DeploymentsInAll int
	// LiveSessions have an account in use. What other processes are just making is not
	// counted yet.
	LiveSessions, LiveSessionsInAll int
	// Bundles under way at once in this process; more wait for their turn, and
	// principals take turns.
	Bundles, BundlesInAll int
	// SourceBytes are bytes of inline files in an hour, counted in this process.
	SourceBytes, SourceBytesInAll int64
}

// limitWindow is the hour of all limits by the hour.
const limitWindow = time.Hour

// errOver is a limit that is reached: what was used, and when to come again.
func errOver(what string, used, most int64, all bool, wait time.Duration, next string) *Error {
	whose := ""
	if all {
		whose = " of all callers together"
	}
	e := Errorf(CodeRateLimited, next, "%d of %d %s%s are used up on this server", used, most, what, whose)
	if wait > 0 {
		e.RetryAfter = max(wait, time.Second)
		e.Message += "; there is room again in " + e.RetryAfter.Round(time.Second).String()
	}
	return e
}

const nextHour = "Wait as long as that, then make the same call again. What is live already can be used meanwhile."

// bundle has a source bundled in the caller's turn. It refuses sources beyond the bytes
// that the caller has left, before any work is done.
func (s *Service) bundle(ctx context.Context, principal string, src Source) (*Artifact, error) {
	var size int64
	for _, f := range src.Files {
		size += int64(len(f.Content))
	}
	if err := s.bytes.take(principal, size); err != nil {
		return nil, err
	}
	leave, err := s.bundles.enter(ctx, principal)
	if err != nil {
		return nil, AsError(err)
	}
	defer leave()
	return s.cfg.Bundler.Bundle(ctx, src)
}

// BundleQueue tells how many bundles are being made and how many calls wait for a turn.
func (s *Service) BundleQueue() (working, waiting int) { return s.bundles.queue() }

// Usage counts what everybody used in the last hour, for operators.
func (s *Service) Usage(ctx context.Context) (Usage, error) {
	return s.cfg.Store.Usage(ctx, "", s.cfg.Now().Add(-limitWindow))
}

// withinLimits refuses a deployment over the limits before any work is done. The ledger
// counts again as the upload begins: of two that come at once for the last place one is
// refused there.
func (r *run) withinLimits(ctx context.Context) error {
	lim := r.s.cfg.Limits
	if lim.Deployments == 0 && lim.DeploymentsInAll == 0 {
		return nil
	}
	u, err := r.s.cfg.Store.Usage(ctx, r.c.Principal, r.s.cfg.Now().Add(-limitWindow))
	if err != nil {
		return err
	}
	const what = "deployments this hour"
	if n := lim.Deployments; n > 0 && u.Deployments >= n {
		return errOver(what, int64(u.Deployments), int64(n), false, r.s.roomAgain(ctx, r.c.Principal, n), nextHour)
	}
	if n := lim.DeploymentsInAll; n > 0 && u.AllDeployments >= n {
		return errOver(what, int64(u.AllDeployments), int64(n), true, r.s.roomAgain(ctx, "", n), nextHour)
	}
	return nil
}

// roomAgain is when the deployments of the last hour are fewer than most again; 0: not
// known. principal "" means everybody's.
func (s *Service) roomAgain(ctx context.Context, principal string, most int) time.Duration {
	sessions, err := s.cfg.Store.SessionsWhere(ctx, SessionFilter{Principal: principal, Limit: 1000})
	if err != nil {
		return 0 // the refusal stands without it
	}
	var made []time.Time
	now := s.cfg.Now()
	for _, sess := range sessions {
		deployments, err := s.cfg.Store.Deployments(ctx, sess.ID)
		if err != nil {
			return 0
		}
		for _, d := range deployments {
			if now.Sub(d.CreatedAt) <= limitWindow {
				made = append(made, d.CreatedAt)
			}
		}
	}
	if len(made) < most {
		return 0
	}
	slices.SortFunc(made, func(a, b time.Time) int { return b.Compare(a) })
	return limitWindow - now.Sub(made[most-1])
}

// mayMakeAccount reserves room for one live session more where the run is about to make
// an account. release is called when the account is in the store, or is not made.
func (r *run) mayMakeAccount(ctx context.Context) (release func(), err error) {
	lim, p := r.s.cfg.Limits, r.c.Principal
	if r.place.account != nil || lim.LiveSessions == 0 && lim.LiveSessionsInAll == 0 {
		return func() {}, nil
	}
	unlock, err := r.s.locks.lock(ctx, "live sessions")
	if err != nil {
		return nil, AsError(err)
	}
	defer unlock()
	u, err := r.s.cfg.Store.Usage(ctx, p, r.s.cfg.Now().Add(-limitWindow))
	if err != nil {
		return nil, err
	}
	accounts, err := r.s.cfg.Store.Accounts(ctx, r.place.session.ID)
	if err != nil {
		return nil, err
	}
	replaced := 0 // the account that a fresh one takes the place of
	if len(accounts) > 0 && accounts[0].State == AccountCurrent && accounts[0].ExpiresAt.After(r.s.timeFor(&accounts[0])) {
		replaced = 1
	}
	making := &r.s.making
	own, all := u.LiveSessions+making.of(p)-replaced, u.AllLiveSessions+making.of("")-replaced
	const next = "Take down a session that is not needed any more (teardown), or go on in one of them: name its session_id. Each ends by itself with its hour."
	if n := lim.LiveSessions; n > 0 && own >= n {
		return nil, errOver("live sessions", int64(own), int64(n), false, 0, next)
	}
	if n := lim.LiveSessionsInAll; n > 0 && all >= n {
		return nil, errOver("live sessions", int64(all), int64(n), true, time.Minute, "Wait, then make the same call again: sessions end with their hour.")
	}
	making.add(p, 1)
	return sync.OnceFunc(func() { making.add(p, -1) }), nil
}

// tally counts by principal; "" is everybody.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (t *tally) add(principal string, d int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = map[string]int{}
	}
	for _, k := range []string{principal, ""} {
		if t.n[k] += d; t.n[k] == 0 {
			delete(t.n, k)
		}
	}
}

func (t *tally) of(principal string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n[principal]
}

// hourly counts bytes by principal over the last hour, by the minute.
type hourly struct {
	each, all int64
	now       func() time.Time

	mu sync.Mutex
	by map[string]*[hourMinutes]minute // "" is everybody
}

// minute is what was used in one.
type minute struct {
	of   int64 // minutes since 1970
	used int64
}

const hourMinutes = 60

func newHourly(each, all int64, now func() time.Time) *hourly {
	return &hourly{each: each, all: all, now: now, by: map[string]*[hourMinutes]minute{}}
}

// take uses n bytes, or none and tells that too many are used up.
func (h *hourly) take(principal string, n int64) error {
	if h.each == 0 && h.all == 0 || n == 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.now().Unix() / 60
	if len(h.by) > 1024 { // who used nothing lately is forgotten
		for who, m := range h.by {
			if sum, _ := used(m, at, 0, 0); sum == 0 {
				delete(h.by, who)
			}
		}
	}
	for _, who := range []struct {
		name string
		most int64
	}{{principal, h.each}, {"", h.all}} {
		if who.most == 0 {
			continue
		}
		sum, wait := used(h.of(who.name), at, n, who.most)
		if sum+n <= who.most {
			continue
		}
		what := fmt.Sprintf("bytes of sources this hour (this call has %d)", n)
		if n > who.most {
			return errOver(what, sum, who.most, who.name == "", 0, "Send less: these sources are larger than all that may be sent in an hour.")
		}
		return errOver(what, sum, who.most, who.name == "", wait, nextHour+" Deploying a bundle_id again sends nothing.")
	}
	for _, name := range []string{principal, ""} {
		m := &h.of(name)[at%hourMinutes]
		if m.of != at {
			*m = minute{of: at}
		}
		m.used += n
	}
	return nil
}

func (h *hourly) of(name string) *[hourMinutes]minute {
	m := h.by[name]
	if m == nil {
		m = new([hourMinutes]minute)
		h.by[name] = m
	}
	return m
}

// used sums the hour that ends with the minute at, and tells in how long n more fit
// under most.
func used(m *[hourMinutes]minute, at, n, most int64) (sum int64, wait time.Duration) {
	for _, v := range m {
		if at-v.of < hourMinutes {
			sum += v.used
		}
	}
	left := sum
	for k := at - hourMinutes + 1; k <= at && left+n > most; k++ {
		if v := m[((k%hourMinutes)+hourMinutes)%hourMinutes]; v.of == k {
			left -= v.used
		}
		wait = time.Duration(k+hourMinutes-at) * time.Minute
	}
	return sum, wait
}
