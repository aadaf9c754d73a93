package deploy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ForeignChange is something on an account that was not made from here. Somebody else
// holds its token, or held it.
type ForeignChange struct {
	SessionID string `json:"-"`
	Target    string `json:"-"`
	AccountID string `json:"-"`
	Worker    string `json:"worker"`
	// VersionID is a version of a Worker of ours; empty: the whole Worker is not ours.
	VersionID string    `json:"version_id,omitempty"`
	SeenAt    time.Time `json:"seen_at"`
}

// Sentence says for people what it is.
func (f *ForeignChange) Sentence() string {
	if f.VersionID == "" {
		return "a Worker on the account that was not deployed from here"
	}
	return "a version of this Worker that was not deployed from here"
}

// same tells whether two are of the same thing.
func (f *ForeignChange) same(g *ForeignChange) bool {
	return f.Target == g.Target && f.AccountID == g.AccountID && f.Worker == g.Worker && f.VersionID == g.VersionID
}

// ForeignShelf is the part of the Store that remembers what was found, so that it is on
// record once.
type ForeignShelf interface {
	// SaveForeign keeps one; one that is kept already is no error.
	SaveForeign(ctx context.Context, f ForeignChange) error
	// Foreign lists a session's, those that were seen first before the others.
	Foreign(ctx context.Context, sessionID string) ([]ForeignChange, error)
}

// Sighted is what a look at an account found.
type Sighted struct {
	// Workers are the names of all Workers on the account.
	Workers []string
	// Versions are, by Worker, those of its deployments, the newest first, as far back as
	// the API tells. Only Workers that were asked about have any.
	Versions map[string][]string
}

const (
	// sightLimit bounds a look for which nobody waits longer.
	sightLimit = 3 * time.Second
	// sightFresh is how old a look may be for another status to do without one.
	sightFresh = 10 * time.Second
	// maxForeign bounds how many findings a result names, and how many of one look count.
	maxForeign, maxForeignFound = 5, 50
)

// sights remembers when accounts were looked at, so that statuses that come at once do
// not ask each.
type sights struct {
	mu sync.Mutex
	at map[string]time.Time
}

// due tells whether to look now, and notes that somebody does.
func (g *sights) due(account string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if now.Sub(g.at[account]) < sightFresh {
		return false
	}
	for id, t := range g.at {
		if now.Sub(t) >= sightFresh {
			delete(g.at, id)
		}
	}
	if g.at == nil {
		g.at = map[string]time.Time{}
	}
	g.at[account] = now
	return true
}

// sight looks at an account: which Workers it has, and which versions ours had.
func (s *Service) sight(ctx context.Context, sess *Session, acct *Account) (*Sighted, error) {
	deps, err := s.cfg.Store.Deployments(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	var ours []string
	for _, d := range deps {
		if d.AccountID == acct.ID && d.Worker != "" && !slices.Contains(ours, d.Worker) {
			ours = append(ours, d.Worker)
		}
	}
	return s.cfg.Cloud.Sight(ctx, acct, ours)
}

// foreignIn gives what of a look is not on our record. An upload of which nobody knows
// yet what became of it may be any version of its Worker.
func (s *Service) foreignIn(ctx context.Context, sess *Session, acct *Account, seen *Sighted) ([]ForeignChange, error) {
	deps, err := s.cfg.Store.Deployments(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	steps, err := s.cfg.Store.Steps(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	ours, open := map[string]bool{}, map[string]bool{}
	for _, d := range deps {
		if d.AccountID == acct.ID {
			ours[d.Worker], ours[d.Worker+" "+d.VersionID] = true, true
		}
	}
	for _, step := range steps {
		if step.Kind == StepUploadScript && step.AccountID == acct.ID && !step.State.Settled() {
			open[step.What] = true
		}
	}
	var out []ForeignChange
	found := func(worker, version string) {
		if len(out) < maxForeignFound {
			out = append(out, ForeignChange{
				SessionID: sess.ID, Target: acct.Target, AccountID: acct.ID, Worker: cut(s.cfg.Redactor.Redact(worker), 100), VersionID: version, SeenAt: s.cfg.Now().UTC(),
			})
		}
	}
	for _, w := range seen.Workers {
		if open[w] {
			continue
		}
		if !ours[w] {
			found(w, "")
			continue
		}
		for _, v := range seen.Versions[w] {
			if !ours[w+" "+v] {
				found(w, v)
			}
		}
	}
	return out, nil
}

// unknown gives those findings that are not kept yet.
func (s *Service) unknown(ctx context.Context, sess *Session, found []ForeignChange) ([]ForeignChange, error) {
	if len(found) == 0 {
		return nil, nil
	}
	known, err := s.cfg.Store.Foreign(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(f ForeignChange) bool {
		return slices.ContainsFunc(known, func(k ForeignChange) bool { return f.same(&k) })
	}), nil
}

// noteForeign puts on record what of a look is not ours and was not seen before, in a
// turn at the session. First the record, then the note that it is there: a process that
// is killed between the two has it recorded twice, never not at all.
func (s *Service) noteForeign(ctx context.Context, sess *Session, acct *Account, seen *Sighted) error {
	found, err := s.foreignIn(ctx, sess, acct, seen)
	if err != nil {
		return err
	}
	if found, err = s.unknown(ctx, sess, found); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	for i := range found {
		f := &found[i]
		e := aboutSession(sess, acct)
		e.Principal, e.Labels, e.Worker, e.VersionID, e.Detail = sess.Principal, sess.Labels, f.Worker, f.VersionID, f.Sentence()
		if err := s.notice(ctx, NoticeForeign, e); err != nil {
			return err
		}
		if err := s.cfg.Store.SaveForeign(ctx, *f); err != nil {
			return err
		}
	}
	return nil
}

// foreignOn lists what is known to be on an account that is not ours.
func (s *Service) foreignOn(ctx context.Context, acct *Account) ([]ForeignChange, error) {
	all, err := s.cfg.Store.Foreign(ctx, acct.SessionID)
	return onAccount(all, acct), err
}

// onAccount leaves those of an account.
func onAccount(all []ForeignChange, acct *Account) []ForeignChange {
	return slices.DeleteFunc(all, func(f ForeignChange) bool { return f.AccountID != acct.ID || f.Target != acct.Target })
}

// foreignWarnings are what a result says of what is not ours on its account.
func (s *Service) foreignWarnings(ctx context.Context, acct *Account) []string {
	all, err := s.foreignOn(ctx, acct)
	if err != nil {
		return nil
	}
	return s.foreignSentences(all)
}

func (s *Service) foreignSentences(all []ForeignChange) []string {
	var out []string
	for i := range all[:min(len(all), maxForeign)] {
		f := &all[i]
		what := fmt.Sprintf("The account has a Worker that was not deployed from here: %q.", s.cfg.Redactor.Redact(f.Worker))
		if f.VersionID != "" {
			what = fmt.Sprintf("The Worker %q has had a version that was not deployed from here: %s.", s.cfg.Redactor.Redact(f.Worker), f.VersionID)
		}
		out = append(out, what+" Somebody else used this account; tell the user.")
	}
	if n := len(all) - maxForeign; n > 0 {
		out = append(out, fmt.Sprintf("And %d more that was not deployed from here; the record of acts names it.", n))
	}
	return out
}

// looking is one look that is under way while other work goes on.
type looking struct {
	seen *Sighted
	stop context.CancelFunc
	done chan struct{}
}

// lookAround begins a look in the background. The caller has the turn at the session, and
// waits for the end of the look before the turn's.
func (s *Service) lookAround(ctx context.Context, sess *Session, acct *Account) *looking {
	ctx, stop := context.WithTimeout(ctx, sightLimit)
	l := &looking{stop: stop, done: make(chan struct{})}
	of, a := *sess, *acct
	go func() {
		defer close(l.done)
		if seen, err := s.sight(ctx, &of, &a); err == nil {
			l.seen = seen
		}
	}()
	return l
}

// wait gives what was seen; nil: nothing, as nobody looked or nobody answered in time.
func (l *looking) wait() *Sighted {
	if l == nil {
		return nil
	}
	<-l.done
	l.stop()
	return l.seen
}

// giveUp ends a look that nobody needs any more.
func (l *looking) giveUp() {
	if l != nil {
		l.stop()
		<-l.done
	}
}

// touch is what a status does with an account in use, beside reading: it listens to its
// Workers where that is wanted, and looks for what is not ours where that is due. The
// caller calls what it gives, for the warnings, when its own work is done.
func (s *Service) touch(ctx context.Context, p *Picture, look bool) func() []string {
	if !look {
		return func() []string { return nil }
	}
	acct := p.account()
	s.listenTo(p, acct)
	if !s.sights.due(acct.ID) {
		return func() []string { return s.foreignSentences(onAccount(p.Foreign, acct)) }
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.lookNow(ctx, &p.Session, acct.ID)
	}()
	return func() []string {
		<-done
		return s.foreignWarnings(ctx, acct)
	}
}

// lookNow looks at an account in a turn at its session, if that is free: who has it looks
// too, or is just making what would look foreign. What can't be seen or noted now is
// still there at the next look.
func (s *Service) lookNow(ctx context.Context, sess *Session, account string) {
	ctx, stop := context.WithTimeout(ctx, sightLimit)
	defer stop()
	_ = s.inTurn(ctx, sessionTurn(sess.ID), 0, func(ctx context.Context, _ *Lease) error {
		accounts, err := s.cfg.Store.Accounts(ctx, sess.ID)
		if err != nil {
			return err
		}
		for i := range accounts {
			a := &accounts[i]
			if a.ID != account || !a.Usable(s.timeFor(a), lifeFor("")) {
				continue
			}
			if state, err := s.claimOf(ctx, *sess, a); err != nil || state.Given() {
				return err // a yes came first: the token is used no more
			}
			seen, err := s.sight(ctx, sess, a)
			if err != nil {
				return err
			}
			return s.noteForeign(ctx, sess, a, seen)
		}
		return nil
	})
}

// lookForClaim looks at an account that a human is asked about, in a turn at its
// session: they must see what they would take over, so what can't be looked at can't be
// asked about.
func (s *Service) lookForClaim(ctx context.Context, sess *Session, acct *Account) ([]ForeignChange, error) {
	limited, stop := context.WithTimeout(ctx, lookLimit)
	defer stop()
	seen, err := s.sight(limited, sess, acct)
	if IsCode(err, CodeAccountLost) {
		over, errEnd := s.endRefused(context.WithoutCancel(ctx), acct)
		if errEnd != nil {
			return nil, errEnd
		}
		if over {
			return nil, s.errExpired(sess.ID, acct)
		}
		return nil, errAccountLost(sess.ID).Caused(err)
	}
	if err != nil {
		return nil, err
	}
	if err := s.noteForeign(ctx, sess, acct, seen); err != nil {
		return nil, err
	}
	return s.foreignOn(ctx, acct)
}
