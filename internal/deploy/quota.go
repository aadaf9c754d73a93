package deploy

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// CallLimits are the operator's on what callers use up. The first of a pair is one
// principal's share, the one "InAll" everybody's together; 0: no limit.
type CallLimits struct {
	// Deployments in an hour. They hold across processes that share the store.
	Deployments, DeploymentsInAll int
	// LiveSessions have an account in use, or one that is being made. They hold across
	// processes.
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

const (
	nextHour = "Wait as long as that, then make the same call again. What is live already can be used meanwhile."
	nextLive = "Take down a session that is not needed any more (teardown), or go on in one of them: name its session_id. Each ends by itself with its hour."
)

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
	return r.s.room(ctx, "", r.s.hourLimits(r.c.Principal, StepUploadScript))
}

// room refuses where the ledger has no room for a step more of a session.
func (s *Service) room(ctx context.Context, session string, limits []StepLimit) error {
	if len(limits) == 0 {
		return nil
	}
	return s.cfg.Store.Room(ctx, session, limits...)
}

// hourLimits are the operator's on what may be begun in an hour.
func (s *Service) hourLimits(principal string, kind StepKind) []StepLimit {
	switch kind {
	case StepCreateAccount:
		return both(StepLimit{Kind: kind, Window: limitWindow}, principal, s.cfg.MaxAccounts, s.cfg.MaxAccountsInAll)
	case StepUploadScript:
		return both(StepLimit{Kind: kind, Window: limitWindow}, principal, s.cfg.Limits.Deployments, s.cfg.Limits.DeploymentsInAll)
	}
	return nil
}

// liveLimits are the operator's on live sessions.
func (s *Service) liveLimits(principal string) []StepLimit {
	return both(StepLimit{Kind: StepCreateAccount, Window: openFor, Live: true}, principal, s.cfg.Limits.LiveSessions, s.cfg.Limits.LiveSessionsInAll)
}

// both are a limit of one principal and that of all together, as far as they are set.
func both(l StepLimit, principal string, each, all int) (out []StepLimit) {
	l.Most, l.Principal = each, principal
	if each > 0 {
		out = append(out, l)
	}
	l.Most, l.Principal = all, ""
	if all > 0 {
		out = append(out, l)
	}
	return out
}

// openFor is how long an account that is being made counts as a live session: its step is
// on record, it is not.
const openFor = 2 * time.Minute

// mayMakeAccount refuses early, before any account is asked for, where the run would make
// one live session too many. The ledger counts again, in one stroke with the step.
func (r *run) mayMakeAccount(ctx context.Context) error {
	if r.place.account != nil {
		return nil
	}
	return r.s.room(ctx, r.place.session.ID, r.s.liveLimits(r.c.Principal))
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
