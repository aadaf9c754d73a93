package deploy_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// mortal is a store whose process can be killed: from then on nothing it writes arrives.
type mortal struct {
	deploy.Store
	dead   bool
	dieAt  string // the operation before which it dies
	dieNth int
}

func (m *mortal) alive(op string) error {
	if op == m.dieAt {
		if m.dieNth--; m.dieNth == 0 {
			m.dead = true
		}
	}
	if m.dead {
		return deploy.Errorf(deploy.CodeStore, "Call again.", "the process is gone")
	}
	return nil
}

func (m *mortal) SaveSession(ctx context.Context, v deploy.Session) error {
	if err := m.alive("SaveSession"); err != nil {
		return err
	}
	return m.Store.SaveSession(ctx, v)
}

func (m *mortal) SaveAccount(ctx context.Context, v deploy.Account) error {
	if err := m.alive("SaveAccount"); err != nil {
		return err
	}
	return m.Store.SaveAccount(ctx, v)
}

func (m *mortal) SaveDeployment(ctx context.Context, v deploy.Deployment) error {
	if err := m.alive("SaveDeployment"); err != nil {
		return err
	}
	return m.Store.SaveDeployment(ctx, v)
}

func (m *mortal) SaveClaim(ctx context.Context, v deploy.Claim) error {
	if err := m.alive("SaveClaim"); err != nil {
		return err
	}
	return m.Store.SaveClaim(ctx, v)
}

func (m *mortal) AcquireLease(ctx context.Context, name string, ttl time.Duration) (*deploy.Lease, error) {
	if err := m.alive("AcquireLease"); err != nil {
		return nil, err
	}
	return m.Store.AcquireLease(ctx, name, ttl)
}

func (m *mortal) RenewLease(ctx context.Context, l *deploy.Lease, ttl time.Duration) error {
	if err := m.alive("RenewLease"); err != nil {
		return err
	}
	return m.Store.RenewLease(ctx, l, ttl)
}

func (m *mortal) ReleaseLease(ctx context.Context, l *deploy.Lease) error {
	if err := m.alive("ReleaseLease"); err != nil {
		return err
	}
	return m.Store.ReleaseLease(ctx, l)
}

func (m *mortal) BeginStep(ctx context.Context, l *deploy.Lease, v deploy.Step, limits ...deploy.StepLimit) error {
	if err := m.alive("BeginStep"); err != nil {
		return err
	}
	return m.Store.BeginStep(ctx, l, v, limits...)
}

func (m *mortal) Settle(ctx context.Context, l *deploy.Lease, v deploy.Settlement) error {
	if err := m.alive("Settle"); err != nil {
		return err
	}
	return m.Store.Settle(ctx, l, v)
}

// machine is the world, a real store, and what must hold between them.
type machine struct {
	t     *testing.T
	w     *world
	store *session.Store
	live  *mortal
	s     *deploy.Service
	n     int // codes deployed so far

	names  []string                     // sessions that were seen, of principal one
	theirs []string                     // of principal two
	claims map[string]deploy.ClaimState // by session, as decided
	pages  map[string]string            // by session
	owner  map[string]string            // of accounts: their session
}

var (
	one = deploy.Caller{Principal: "one", Scope: "server"}
	two = deploy.Caller{Principal: "two", Scope: "server"}
)

func (m *machine) restart() {
	m.live = &mortal{Store: m.store}
	m.s = m.w.service(func(c *deploy.Config) { c.Store = m.live })
}

// caller draws a principal and one of its sessions, or none.
func (m *machine) caller(rt *rapid.T) (deploy.Caller, *[]string, string) {
	c, names := one, &m.names
	if rapid.IntRange(0, 3).Draw(rt, "who") == 0 {
		c, names = two, &m.theirs
	}
	i := rapid.IntRange(-1, len(*names)-1).Draw(rt, "session")
	if i < 0 {
		return c, names, ""
	}
	return c, names, (*names)[i]
}

func (m *machine) deploy(rt *rapid.T) {
	c, names, id := m.caller(rt)
	if rapid.IntRange(0, 2).Draw(rt, "new code") > 0 || m.n == 0 {
		m.n++
	}
	code := fmt.Sprintf("200 code %d", rapid.IntRange(max(1, m.n-1), m.n).Draw(rt, "code"))
	req := worker(code)
	req.SessionID, req.Fresh = id, rapid.IntRange(0, 4).Draw(rt, "fresh") == 0
	before := m.places(rt, c)
	res, err := m.s.Deploy(m.t.Context(), c, req)
	m.know(names, c)
	m.made(rt, c, req, before, res)
	if err != nil {
		if e := deploy.AsError(err); e.Next == "" || e.Code == deploy.CodeInternal {
			rt.Fatalf("deploy: %v (%v), next %q", e, e.Cause, e.Next)
		}
		return
	}
	if st := m.claims[res.SessionID]; st == deploy.ClaimAwaiting && !req.Fresh && before[res.SessionID].usable {
		rt.Fatalf("it was deployed to a session of which a human is asked")
	}
	if res.Serving == deploy.ServingYes && res.Check.BodyExcerpt != strings.TrimPrefix(code, "200 ") {
		rt.Fatalf("%s was deployed and %q is served: %+v", code, res.Check.BodyExcerpt, res)
	}
	if res.MinutesLeft > 60 {
		rt.Fatalf("%d minutes left", res.MinutesLeft)
	}
}

// standing is how a session stood before a call.
type standing struct{ usable, lost bool }

func (m *machine) places(rt *rapid.T, c deploy.Caller) map[string]standing {
	out := map[string]standing{}
	for _, sess := range m.sessions(rt, c) {
		var st standing
		for _, a := range m.accounts(rt, sess.ID) {
			st.usable = st.usable || a.Usable(m.now(&a), time.Minute)
		}
		for _, step := range m.steps(rt, sess.ID) {
			if step.Kind == deploy.StepCreateAccount && step.State != deploy.StepFailed {
				st.lost = step.State != deploy.StepDone
			}
		}
		out[sess.ID] = st
	}
	return out
}

// made judges what accounts a call made: only where the session had none that could be
// used, and none that is lost, or fresh was asked for.
func (m *machine) made(rt *rapid.T, c deploy.Caller, req deploy.DeployRequest, before map[string]standing, res *deploy.DeployResult) {
	made := 0
	for _, sess := range m.sessions(rt, c) {
		for _, step := range m.steps(rt, sess.ID) {
			if step.Kind != deploy.StepCreateAccount || m.owner[step.ID] != "" {
				continue
			}
			m.owner[step.ID] = sess.ID
			made++
			if step.State == deploy.StepDone { // nobody was asked about this one yet
				delete(m.claims, sess.ID)
				delete(m.pages, sess.ID)
			}
			if was := before[sess.ID]; (was.usable || was.lost) && !req.Fresh {
				rt.Fatalf("session %s stood %+v, and another account was begun without fresh: %+v", sess.ID, was, step)
			}
		}
	}
	if made > 1 || res != nil && res.Account == deploy.AccountNew && made != 1 {
		rt.Fatalf("one call began %d accounts: %+v", made, res)
	}
}

func (m *machine) know(names *[]string, c deploy.Caller) {
	all, err := m.store.Sessions(m.t.Context(), c.Principal, 100)
	if err != nil {
		m.t.Fatal(err)
	}
	*names = (*names)[:0]
	for _, s := range all {
		*names = append(*names, s.ID)
	}
}

func (m *machine) now(a *deploy.Account) time.Time {
	ours := m.w.localNow().Add(a.Skew)
	if api := (*fakeCloud)(m.w).Clock(); api.After(ours) {
		return api
	}
	return ours
}

func (m *machine) sessions(rt *rapid.T, c deploy.Caller) []deploy.Session {
	v, err := m.store.Sessions(m.t.Context(), c.Principal, 100)
	if err != nil {
		rt.Fatal(err)
	}
	return v
}

func (m *machine) accounts(rt *rapid.T, id string) []deploy.Account {
	v, err := m.store.Accounts(m.t.Context(), id)
	if err != nil {
		rt.Fatal(err)
	}
	return v
}

func (m *machine) steps(rt *rapid.T, id string) []deploy.Step {
	v, err := m.store.Steps(m.t.Context(), id)
	if err != nil {
		rt.Fatal(err)
	}
	return v
}

// status tells of the caller's sessions alone, and of each what the API has.
func (m *machine) status(rt *rapid.T) {
	c, _, id := m.caller(rt)
	st, err := m.s.Status(m.t.Context(), c, deploy.StatusRequest{SessionID: id})
	if err != nil {
		if !deploy.IsCode(err, deploy.CodeStore) {
			rt.Fatalf("status: %v", err)
		}
		return
	}
	ours := map[string]bool{}
	for _, s := range m.sessions(rt, c) {
		ours[s.ID] = true
	}
	for _, s := range st.Sessions {
		if !ours[s.SessionID] {
			rt.Fatalf("another's session: %+v", s)
		}
		if s.Next.Do == "" {
			rt.Fatalf("no next step: %+v", s)
		}
		m.honest(rt, s)
	}
}

// honest compares what a status tells of a live session with the API and with what the
// human decided.
func (m *machine) honest(rt *rapid.T, s deploy.SessionStatus) {
	if s.Phase != deploy.PhaseLive && s.Phase != deploy.PhaseExpiring {
		return
	}
	if want, asked := m.claims[s.SessionID]; asked && s.Claim != string(want) {
		rt.Fatalf("a human was asked (%s), and the status tells %q", want, s.Claim)
	}
	if len(s.Steps) > 0 {
		return // it says that it does not know
	}
	acct := m.accounts(rt, s.SessionID)[0]
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	known := m.w.accounts[acct.ID]
	for _, d := range s.Deployments {
		versions := known.workers[d.Worker].versions
		if last := versions[len(versions)-1]; last.id != d.VersionID {
			rt.Fatalf("the API has %s, the status tells %s: %+v", last.id, d.VersionID, d)
		}
	}
	if len(s.Deployments) == 0 && len(known.workers) > 0 {
		rt.Fatalf("the API has %v, the status tells nothing of it", known.workers)
	}
}

func (m *machine) claim(rt *rapid.T) {
	c, _, id := m.caller(rt)
	res, err := m.s.RequestClaim(m.t.Context(), c, deploy.ClaimRequest{SessionID: id})
	if err != nil {
		return
	}
	if m.claims[res.SessionID] == deploy.ClaimApproved && res.Claim != deploy.ClaimApproved && !m.settled(rt, res.SessionID) {
		rt.Fatalf("an approved claim is %s", res.Claim)
	}
	m.claims[res.SessionID] = res.Claim
	if res.Claim == deploy.ClaimAwaiting {
		m.pages[res.SessionID] = strings.TrimPrefix(res.PageURL, m.w.pageURL)
	}
}

func (m *machine) decide(rt *rapid.T) {
	_, _, id := m.caller(rt)
	page := m.pages[id]
	if page == "" {
		return
	}
	yes := rapid.Bool().Draw(rt, "yes")
	view, err := m.s.DecideClaim(m.t.Context(), page, yes, "browser")
	if err != nil {
		return
	}
	m.claims[id] = view.State
	delete(m.pages, id)
}

// trespass is principal two at the sessions of one.
func (m *machine) trespass(rt *rapid.T) {
	if len(m.names) == 0 {
		return
	}
	req := worker("200 trespass")
	req.SessionID = rapid.SampledFrom(m.names).Draw(rt, "session")
	req.Fresh = rapid.Bool().Draw(rt, "fresh")
	if _, err := m.s.Deploy(m.t.Context(), two, req); !deploy.IsCode(err, deploy.CodeSessionNotFound) && !deploy.IsCode(err, deploy.CodeStore) {
		rt.Fatalf("another's session: %v", err)
	}
}

// wait lets time pass; a claim that nobody decided lapses with its account.
func (m *machine) wait(rt *rapid.T) {
	time.Sleep(time.Duration(rapid.IntRange(1, 35).Draw(rt, "minutes")) * time.Minute)
}

// jump puts a clock wrong, or right again.
func (m *machine) jump(rt *rapid.T) {
	d := time.Duration(rapid.IntRange(-3, 3).Draw(rt, "hours")) * time.Hour
	api := rapid.Bool().Draw(rt, "the API's")
	m.w.set(func() {
		if api {
			m.w.apiOffset = d
		} else {
			m.w.localOffset = d
		}
	})
}

// fault lets something fail once, some time later.
func (m *machine) fault(rt *rapid.T) {
	left := rapid.IntRange(1, 2).Draw(rt, "after")
	once := func(int) error {
		if left--; left == 0 {
			return deploy.Errorf(deploy.CodeAPIUnreachable, "Repeat.", "no answer")
		}
		return nil
	}
	what := rapid.SampledFrom([]string{"provision", "account", "upload", "uploaded", "route", "look", "nothing"}).Draw(rt, "what")
	if what == "account" { // accounts are made seldom
		left = 1
	}
	m.w.set(func() {
		m.w.onProvision, m.w.afterProvision, m.w.onUpload, m.w.afterUpload, m.w.onRoute, m.w.onLook = nil, nil, nil, nil, nil, nil
		switch what {
		case "provision":
			m.w.onProvision = once
		case "account":
			m.w.afterProvision = once
		case "upload":
			m.w.onUpload = once
		case "uploaded":
			m.w.afterUpload = once
		case "route":
			m.w.onRoute = once
		case "look":
			m.w.onLook = once
		}
	})
}

// lose deploys while the answer to the making of an account, if one is made, gets lost.
func (m *machine) lose(rt *rapid.T) {
	n := 0
	m.w.set(func() {
		m.w.afterProvision = func(int) error {
			if n++; n == 1 {
				return deploy.AsError(context.Canceled)
			}
			return nil
		}
	})
	m.deploy(rt)
	m.w.set(func() { m.w.afterProvision = nil })
}

// kill lets the process die in the middle of a deployment, and another begin.
func (m *machine) kill(rt *rapid.T) {
	m.live.dieAt = rapid.SampledFrom([]string{"SaveSession", "SaveDeployment", "BeginStep", "Settle", "AcquireLease", "ReleaseLease"}).Draw(rt, "before")
	m.live.dieNth = rapid.IntRange(1, 3).Draw(rt, "nth")
	m.deploy(rt)
	time.Sleep(deploy.LeaseTTL + time.Second)
	m.restart()
}

func (m *machine) sweep(rt *rapid.T) {
	if err := m.s.Sweep(m.t.Context()); err != nil && !deploy.IsCode(err, deploy.CodeStore) {
		rt.Fatalf("sweep: %v", err)
	}
	for _, c := range []deploy.Caller{one, two} {
		for _, sess := range m.sessions(rt, c) {
			for _, a := range m.accounts(rt, sess.ID) {
				if over := !m.now(&a).Before(a.ExpiresAt.Add(time.Second)); over && (!a.Token.Empty() || !a.ClaimURL.Empty()) {
					rt.Fatalf("an account that is over has secrets: %s %s", a.ID, a.State)
				}
			}
		}
	}
}

// holds is what must hold after every act.
func (m *machine) holds(rt *rapid.T) {
	for _, c := range []deploy.Caller{one, two} {
		for _, sess := range m.sessions(rt, c) {
			m.sessionHolds(rt, sess)
		}
	}
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if len(m.w.misused) > 0 {
		rt.Fatalf("tokens were used after their end: %v", m.w.misused)
	}
}

func (m *machine) sessionHolds(rt *rapid.T, sess deploy.Session) {
	current := 0
	for _, a := range m.accounts(rt, sess.ID) {
		if a.State == deploy.AccountCurrent {
			current++
			continue
		}
		m.w.set(func() { m.w.ended[a.ID] = true })
		if !a.Token.Empty() {
			rt.Fatalf("account %s is %s and has its token", a.ID, a.State)
		}
	}
	if current > 1 {
		rt.Fatalf("session %s has %d accounts in use", sess.ID, current)
	}
	if want := m.claims[sess.ID]; want == deploy.ClaimApproved {
		claim, err := m.store.Claim(m.t.Context(), sess.ID)
		if err != nil || claim == nil || claim.State != want && !m.settled(rt, sess.ID) {
			rt.Fatalf("the approval of %s is forgotten: %+v, %v", sess.ID, claim, err)
		}
	}
}

// settled tells whether an approved claim was moved on by its time: any touch does that
// when by both clocks the hour is over (clocks that were put wrong count too), and says what it saw.
func (m *machine) settled(rt *rapid.T, id string) bool {
	claim, err := m.store.Claim(m.t.Context(), id)
	if err != nil {
		rt.Fatal(err)
	}
	return claim != nil && claim.Evidence != "" && (claim.State == deploy.ClaimProbablyAdopted || claim.State == deploy.ClaimLapsed)
}

// TestAnyOrderOfThings: deployments, looks, claims, ends, restarts, kills, faults and
// clocks that jump, in any order, on a real store.
func TestAnyOrderOfThings(t *testing.T) {
	checks := "12"
	if os.Getenv("HOURGLASS_TEST") == "full" {
		checks = "100"
	}
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(checks); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		var failed any // rapid fails by a panic, which the bubble must not see
		synctest.Test(t, func(t *testing.T) {
			defer func() { failed = recover() }()
			anyOrder(t, rt)
		})
		switch {
		case failed == nil:
		case strings.HasSuffix(fmt.Sprintf("%T", failed), "invalidData"):
			panic(failed) // a draw that can't be: on a line of its own, as rapid goes by the line
		default:
			panic(failed)
		}
	})
}

func anyOrder(t *testing.T, rt *rapid.T) {
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		rt.Fatal(err)
	}
	store, err := session.Open(t.Context(), session.Config{Dir: dir})
	if err != nil {
		rt.Fatal(err)
	}
	defer store.Close() //nolint:errcheck // its folder goes with the test
	m := &machine{
		t: t, w: newWorld(t), store: store,
		claims: map[string]deploy.ClaimState{}, pages: map[string]string{}, owner: map[string]string{},
	}
	m.w.ended = map[string]bool{}
	m.restart()
	rt.Repeat(map[string]func(*rapid.T){
		"": m.holds, "deploy": m.deploy, "again": m.deploy, "status": m.status, "claim": m.claim, "decide": m.decide,
		"trespass": m.trespass, "wait": m.wait, "jump": m.jump, "fault": m.fault, "kill": m.kill, "lose": m.lose, "sweep": m.sweep,
		"restart": func(*rapid.T) { m.restart() },
	})
}
