package deploy

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// flushEvery is how long what a Worker said may wait before it is kept; flushFull, how
	// long what is only counted may.
	flushEvery, flushFull = time.Second, 10 * time.Second
	// maxPending is how many lines wait at most while the store can't be written.
	maxPending = 1000
	// maxReopened is how often a stream that broke is opened again, and reopenAfter the
	// pause before the first time; each later one is twice as long, up to maxReopenAfter.
	maxReopened                 = 8
	reopenAfter, maxReopenAfter = time.Second, 16 * time.Second
	// openLimit bounds the opening of a stream, closeLimit the keeping of what is left.
	openLimit, closeLimit = 10 * time.Second, 5 * time.Second
	// maxRemembered bounds what a process remembers of Workers that are gone.
	maxRemembered = 10_000
	logTurn       = "logs "
)

// watches are the Workers that this process listens to, to keep what they say.
type watches struct {
	mu     sync.Mutex
	on     map[string]*watch // by account and Worker
	closed bool
	// deployed are deployments of this process, the values of whose secrets its Redactor
	// knows; told are the Workers of which it is said already that nobody listens.
	deployed, told map[string]bool
	running        sync.WaitGroup
}

// watch listens to one Worker until its account is over, handed over or replaced, the
// stream can't be had any more, or the process ends.
type watch struct {
	s      *Service
	sess   Session
	acct   Account
	worker string
	key    string

	stop     context.CancelFunc
	settling context.CancelFunc // ends an opening in another's turn
	opened   chan struct{}      // closed when it is first open, or won't be soon
	openOnce sync.Once
	ended    chan struct{}

	// Of its own goroutine.
	pending []LogLine
	added   int // lines that it brought, kept or not
	lost    int // lines for which there was no room while the store could not be written
	full    bool
	flushed time.Time
}

func watchKey(account, worker string) string { return account + " " + worker }

// Close ends what the Service does by itself, and waits for it. What Workers said until
// then is kept.
func (s *Service) Close() error {
	w := &s.watches
	w.mu.Lock()
	w.closed = true
	for _, x := range w.on {
		x.stop()
	}
	w.mu.Unlock()
	w.running.Wait()
	return nil
}

// know notes that this process deployed something: its Redactor knows the secrets in it.
func (w *watches) know(deployment string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deployed == nil || len(w.deployed) >= maxRemembered {
		w.deployed = map[string]bool{}
	}
	w.deployed[deployment] = true
}

func (w *watches) knows(deployment string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.deployed[deployment]
}

// stopOf ends listening to an account's Workers, and waits until nothing of its token is
// used any more.
func (w *watches) stopOf(account string) {
	w.mu.Lock()
	var all []*watch
	for _, x := range w.on {
		if x.acct.ID == account {
			x.stop()
			all = append(all, x)
		}
	}
	w.mu.Unlock()
	for _, x := range all {
		<-x.ended
	}
}

// listenTo listens to the Workers of an account in use, as far as nobody does yet.
func (s *Service) listenTo(p *Picture, acct *Account) {
	if !s.cfg.Logs.Keep || !acct.Usable(s.timeFor(acct), lifeFor("")) {
		return
	}
	for _, d := range p.Deployments {
		if d.AccountID == acct.ID && d.Host != "" {
			s.listen(&p.Session, acct, d.Worker, false)
		}
	}
}

// listen begins to listen to a Worker; nil: that is not wanted, somebody does already, or
// there is no room. With hasTurn the caller has the turn at the session, and calls settle
// before it ends.
func (s *Service) listen(sess *Session, acct *Account, worker string, hasTurn bool) *watch {
	if !s.cfg.Logs.Keep {
		return nil
	}
	w := &s.watches
	w.mu.Lock()
	defer w.mu.Unlock()
	key := watchKey(acct.ID, worker)
	if w.on[key] != nil || w.closed {
		return nil // one that waits for the very turn that the caller has is not waited for
	}
	x := &watch{s: s, sess: *sess, acct: *acct, worker: worker, key: key, opened: make(chan struct{}), ended: make(chan struct{})}
	if len(w.on) >= s.cfg.Logs.Streams {
		if !w.told[key] {
			w.tell(key)
			w.running.Go(func() {
				x.gap(fmt.Sprintf("nobody listens: this server listens to %d Workers already", s.cfg.Logs.Streams))
				_ = x.keep(context.Background()) // it is told once more when the server is started anew
			})
		}
		return nil
	}
	if w.on == nil {
		w.on = map[string]*watch{}
	}
	w.on[key] = x
	ctx, stop := context.WithCancel(context.Background())
	settling, settled := context.WithCancel(ctx)
	x.stop, x.settling = stop, settled
	w.running.Go(func() {
		defer stop()
		if !hasTurn {
			settled()
		}
		x.run(ctx, settling, hasTurn)
	})
	return x
}

// tell notes that a gap of a Worker is told. The caller holds mu.
func (w *watches) tell(key string) {
	if w.told == nil || len(w.told) >= maxRemembered {
		w.told = map[string]bool{}
	}
	w.told[key] = true
}

// waitOpen waits up to d until it listens, or won't soon.
func (x *watch) waitOpen(ctx context.Context, d time.Duration) {
	if x == nil {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-x.opened:
	case <-t.C:
	case <-ctx.Done():
	}
}

// settle ends an opening that goes on in the caller's turn, which is over now; it is
// tried again in a turn of its own.
func (x *watch) settle() {
	if x == nil {
		return
	}
	select {
	case <-x.opened:
	default:
		x.settling()
		<-x.opened
	}
}

func (x *watch) isOpen() { x.openOnce.Do(func() { close(x.opened) }) }

// run listens, again when the stream broke. Of all processes that share the store one
// does, by a lease.
func (x *watch) run(ctx, settling context.Context, hasTurn bool) {
	defer x.over()
	lease, err := x.s.cfg.Store.AcquireLease(ctx, logTurn+x.key, LeaseTTL)
	if IsCode(err, CodeBusy) {
		// Another listens; but one that is gone holds its lease for a while yet.
		x.isOpen()
		hasTurn = false
		if sleep(ctx, min(AsError(err).RetryAfter, LeaseTTL)+time.Second) != nil {
			return
		}
		lease, err = x.s.cfg.Store.AcquireLease(ctx, logTurn+x.key, LeaseTTL)
	}
	if err != nil {
		return // another does listen, or nothing could be kept
	}
	within, lose := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		own := *lease
		keepUp(within, func(ctx context.Context) error { return x.renew(ctx, &own) }, func(error) { lose() })
	})
	defer func() {
		lose()
		renewing.Wait()
		_ = x.s.cfg.Store.ReleaseLease(context.WithoutCancel(ctx), lease)
	}()
	for reopened, pause := 0, reopenAfter; ; reopened++ {
		var tail Tail
		if hasTurn && reopened == 0 {
			tail, err = x.open(settling)
		} else {
			tail, err = x.openInTurn(within)
		}
		x.isOpen()
		if IsCode(err, CodeAPIRefused) {
			x.gap("nobody listens: the API refused the stream")
			return
		}
		if err == nil {
			pause = reopenAfter
			err = x.hear(within, tail)
			tail.Drop()
		}
		if x.mayNot(within, err) {
			return
		}
		if reopened == maxReopened {
			x.gap(fmt.Sprintf("nobody listens any more: the stream broke, or could not be opened, %d times", maxReopened+1))
			return
		}
		if sleep(within, pause) != nil {
			return
		}
		pause = min(2*pause, maxReopenAfter)
	}
}

// over is the end: what is left is kept, that there are logs goes on record, and the
// place is free.
func (x *watch) over() {
	x.isOpen()
	ctx, stop := context.WithTimeout(context.Background(), closeLimit)
	defer stop()
	_ = x.keep(ctx) // nobody is there any more to try again
	if facts := x.s.logFacts(ctx, x.sess.ID); facts != nil && x.added > 0 {
		e := aboutSession(&x.sess, &x.acct)
		e.Principal, e.Labels, e.Worker, e.Data = x.sess.Principal, x.sess.Labels, x.worker, facts
		e.Detail = "what the Worker said while it was listened to is kept with the session"
		_ = x.s.notice(ctx, NoticeLogs, e) // the lines themselves are there all the same
	}
	w := &x.s.watches
	w.mu.Lock()
	delete(w.on, x.key)
	w.mu.Unlock()
	close(x.ended)
}

// errNotListening ends a watch for good.
func errNotListening(why string) *Error {
	return Errorf(CodeSessionClosed, "Deploy again.", "%s", why)
}

// mayNot tells whether to stop for good.
func (x *watch) mayNot(ctx context.Context, err error) bool {
	return ctx.Err() != nil || !x.alive() || IsCode(err, CodeSessionClosed) || IsCode(err, CodeSessionNotFound) || IsCode(err, CodeAccountLost)
}

// alive tells whether the account's hour still runs, by both clocks.
func (x *watch) alive() bool { return x.s.timeFor(&x.acct).Before(x.acct.ExpiresAt) }

// renew lengthens the lease and looks whether the account is still in use: another
// process may have ended it, or handed it to a human.
func (x *watch) renew(ctx context.Context, l *Lease) error {
	if err := x.s.cfg.Store.RenewLease(ctx, l, LeaseTTL); err != nil {
		return err
	}
	acct, err := x.current(ctx, 0)
	if err == nil && acct == nil {
		return errBusy(0)
	}
	return err
}

// current reads the account again; nil: its token may not be used any more for something
// that takes up to margin.
func (x *watch) current(ctx context.Context, margin time.Duration) (*Account, error) {
	accounts, err := x.s.cfg.Store.Accounts(ctx, x.sess.ID)
	if err != nil {
		return nil, err
	}
	claim, err := x.s.cfg.Store.Claim(ctx, x.sess.ID)
	if err != nil || claim != nil && claim.AccountID == x.acct.ID && claim.State.Given() {
		return nil, err // a yes came first
	}
	for i := range accounts {
		a := &accounts[i]
		if a.ID == x.acct.ID && a.Target == x.acct.Target && a.Usable(x.s.timeFor(a), margin) {
			return a, nil
		}
	}
	return nil, nil
}

// openInTurn opens the stream in a turn at the session, in which nobody hands the account
// over: a token is not used after that, not even to listen.
func (x *watch) openInTurn(ctx context.Context) (tail Tail, err error) {
	err = x.s.inTurn(ctx, sessionTurn(x.sess.ID), x.s.cfg.TurnWait, func(ctx context.Context, _ *Lease) error {
		tail, err = x.open(ctx)
		return err
	})
	if err != nil && tail != nil {
		tail.Drop()
		tail = nil
	}
	return tail, err
}

// open opens the stream. It refuses where the account is not in use any more, and where
// the Worker could print secrets that this process would not know again.
func (x *watch) open(ctx context.Context) (Tail, error) {
	ctx, stop := context.WithTimeout(ctx, openLimit)
	defer stop()
	acct, err := x.current(ctx, lifeFor(""))
	if err != nil {
		return nil, err
	}
	if acct == nil {
		return nil, errNotListening("the account is not in use any more")
	}
	x.s.learn([]Account{*acct})
	known, err := x.secretsKnown(ctx)
	if err != nil {
		return nil, err
	}
	if !known {
		x.gap("nobody listens: this process does not know the values of the account's secrets, and could not keep them out")
		return nil, errNotListening("the values of secrets are not known")
	}
	return x.s.cfg.Cloud.Tail(ctx, acct, x.worker)
}

// secretsKnown tells whether the Redactor knows every secret that a Worker of the account
// may hold; also of what was deployed before, since an upload keeps the secrets that were
// there. Values from the environment are known to the process that deployed them alone.
func (x *watch) secretsKnown(ctx context.Context) (bool, error) {
	deps, err := x.s.cfg.Store.Deployments(ctx, x.sess.ID)
	if err != nil {
		return false, err
	}
	for _, d := range deps {
		if d.AccountID != x.acct.ID || x.s.watches.knows(d.ID) {
			continue
		}
		art, err := x.s.cfg.Store.Artifact(ctx, x.sess.Principal, d.BundleID)
		if IsCode(err, CodeBundleNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if art.UsesSecrets() {
			return false, nil
		}
		for _, b := range art.Bindings {
			if text, _ := b["text"].(string); b.Type() == "secret_text" {
				x.s.cfg.Redactor.Add(text)
			}
		}
	}
	return true, nil
}

// hear takes what the stream brings until it is over, or the account is.
func (x *watch) hear(ctx context.Context, tail Tail) error {
	for {
		limited, stop := context.WithTimeout(ctx, flushEvery)
		ev, err := tail.Next(limited)
		waited := limited.Err() != nil && ctx.Err() == nil
		stop()
		if err == nil {
			x.take(&ev)
		}
		if since := time.Since(x.flushed); since >= flushFull || since >= flushEvery && !x.full || len(x.pending) >= maxPending/2 {
			if failed := x.keep(ctx); IsCode(failed, CodeSessionNotFound) {
				return failed
			}
		}
		if !x.alive() {
			return errNotListening("the account's hour is over")
		}
		if err != nil && !waited {
			if ctx.Err() == nil {
				x.gap("the stream broke; what was said until it was opened again is missing")
			}
			return err
		}
	}
}

func (x *watch) take(ev *TraceEvent) {
	lines := x.s.logLines(&x.acct, x.worker, ev)
	x.added += len(lines)
	if room := max(0, maxPending-len(x.pending)); len(lines) > room {
		x.lost += len(lines) - room
		lines = lines[:room]
	}
	x.pending = append(x.pending, lines...)
}

// gap notes in our own words that something is missing.
func (x *watch) gap(why string) {
	x.pending = append(x.pending, LogLine{At: x.s.timeFor(&x.acct).UTC(), AccountID: x.acct.ID, Worker: x.worker, Kind: LogGap, Text: why})
}

// keep writes down what waits. What can't be kept now waits on.
func (x *watch) keep(ctx context.Context) error {
	if x.flushed = time.Now(); len(x.pending) == 0 {
		return nil
	}
	if x.lost > 0 {
		x.gap(fmt.Sprintf("%d lines are missing: the store could not be written", x.lost))
		x.lost = 0
	}
	tally, err := x.s.cfg.Store.KeepLogs(ctx, x.sess.ID, x.pending, x.s.cfg.Logs.Bounds)
	if err != nil {
		return err
	}
	x.full = tally.Dropped > 0
	x.pending = x.pending[:0]
	return nil
}
