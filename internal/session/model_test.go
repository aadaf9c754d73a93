package session_test

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// ledgerModel is what a ledger must be, in a few lists: two sessions, every lease that
// was ever had, every step, every account.
type ledgerModel struct {
	store    *session.Store
	who      string
	sessions []string
	leases   []*deploy.Lease
	holder   map[string]*deploy.Lease // also after its time, until another takes it
	ranOut   map[string]bool
	fence    map[string]int64
	steps    []*modelStep
	accounts []*deploy.Account // as they were when they were in use
	made     int
}

type modelStep struct {
	deploy.Step
	settledBy int64
}

// TestLedgerAgainstAModel: whatever comes in whatever order, what the store says and
// keeps is what the model does.
func TestLedgerAgainstAModel(t *testing.T) {
	if !peertest.Full() {
		must(t, flag.Set("rapid.checks", "15"))
		t.Cleanup(func() { must(t, flag.Set("rapid.checks", "100")) })
	}
	homes(t, func(t *testing.T, p place) {
		s, run := p.open(t), 0
		rapid.Check(t, func(r *rapid.T) {
			run++
			m := &ledgerModel{store: s, who: fmt.Sprintf("p%d", run), holder: map[string]*deploy.Lease{}, ranOut: map[string]bool{}, fence: map[string]int64{}}
			for i := range 2 {
				id := fmt.Sprintf("s_%d_%d", run, i)
				v := someSession(id, m.who, int64(i))
				ok(r, s.SaveSession(t.Context(), v))
				m.sessions = append(m.sessions, id)
			}
			r.Repeat(map[string]func(*rapid.T){
				"acquire": m.acquire, "renew": m.renew, "release": m.release, "run out": m.runOut, "begin": m.begin,
				"settle": m.settle, "save an old picture": m.save, "end": m.end, "": m.check,
			})
		})
	})
}

func ok(r *rapid.T, err error) {
	if err != nil {
		r.Fatal(err)
	}
}

// want tells whether err is as it must be: nil, or of that code.
func want(r *rapid.T, err error, code deploy.Code) {
	if code == "" && err != nil || code != "" && !deploy.IsCode(err, code) {
		r.Fatalf("got %v, want %q", err, code)
	}
}

// when gives the code if the condition holds, else success.
func when(cond bool, code deploy.Code) deploy.Code {
	if cond {
		return code
	}
	return ""
}

func (m *ledgerModel) session(r *rapid.T) string {
	return rapid.SampledFrom(m.sessions).Draw(r, "session")
}

func (m *ledgerModel) lease(r *rapid.T) *deploy.Lease {
	if len(m.leases) == 0 {
		r.Skip("no lease was had")
	}
	return rapid.SampledFrom(m.leases).Draw(r, "lease")
}

func (m *ledgerModel) acquire(r *rapid.T) {
	name := m.session(r)
	l, err := m.store.AcquireLease(r.Context(), name, time.Hour)
	want(r, err, when(m.holder[name] != nil && !m.ranOut[name], deploy.CodeBusy))
	if err != nil {
		return
	}
	if l.Fence <= m.fence[name] {
		r.Fatalf("the fence %d after %d", l.Fence, m.fence[name])
	}
	m.leases = append(m.leases, l)
	m.holder[name], m.ranOut[name], m.fence[name] = l, false, l.Fence
}

func (m *ledgerModel) renew(r *rapid.T) {
	l := m.lease(r)
	want(r, m.store.RenewLease(r.Context(), l, time.Hour), when(m.holder[l.Name] != l, deploy.CodeBusy))
	if m.holder[l.Name] == l {
		m.ranOut[l.Name] = false
	}
}

func (m *ledgerModel) release(r *rapid.T) {
	l := m.lease(r)
	ok(r, m.store.ReleaseLease(r.Context(), l))
	if m.holder[l.Name] == l {
		m.holder[l.Name] = nil
	}
}

func (m *ledgerModel) runOut(r *rapid.T) {
	name := m.session(r)
	db, _, err := m.store.DB(r.Context())
	ok(r, err)
	_, err = db.ExecContext(r.Context(), "UPDATE leases SET until_at = 1 WHERE name = $1", name)
	ok(r, err)
	m.ranOut[name] = true
}

const modelLimit = 5

func (m *ledgerModel) begin(r *rapid.T) {
	l := m.lease(r)
	kind := rapid.SampledFrom([]deploy.StepKind{deploy.StepCreateAccount, deploy.StepUploadScript, deploy.StepDelete}).Draw(r, "kind")
	begun := 0
	for _, st := range m.steps {
		if st.Kind == deploy.StepCreateAccount {
			begun++
		}
	}
	m.made++
	step := deploy.Step{ID: fmt.Sprintf("%s_%d", l.Name, m.made), SessionID: l.Name, Principal: m.who, Kind: kind, What: "w"}
	code := when(kind == deploy.StepCreateAccount && begun >= modelLimit, deploy.CodeRateLimited)
	if m.holder[l.Name] != l || m.ranOut[l.Name] {
		code = deploy.CodeBusy
	}
	limit := deploy.StepLimit{Principal: m.who, Kind: deploy.StepCreateAccount, Most: modelLimit, Window: 24 * time.Hour}
	want(r, m.store.BeginStep(r.Context(), l, step, limit), code)
	if code == "" {
		step.State, step.Fence = deploy.StepOpen, l.Fence
		m.steps = append(m.steps, &modelStep{Step: step})
	}
}

func (m *ledgerModel) settle(r *rapid.T) {
	if len(m.steps) == 0 {
		r.Skip("no step was begun")
	}
	l, st := m.lease(r), rapid.SampledFrom(m.steps).Draw(r, "step")
	out := deploy.Settlement{StepID: st.ID, State: rapid.SampledFrom([]deploy.StepState{deploy.StepUnknown, deploy.StepDone, deploy.StepFailed, deploy.StepLost}).Draw(r, "state")}
	if st.Kind == deploy.StepCreateAccount && out.State == deploy.StepDone {
		m.made++
		out.Ref = fmt.Sprintf("%s_%d", st.SessionID, m.made)
		out.Account = new(someAccount(out.Ref, st.SessionID))
	}
	code := when(st.State.Settled() && (st.settledBy != l.Fence || st.State != out.State), deploy.CodeBusy)
	if st.SessionID != l.Name {
		code = deploy.CodeStore
	}
	if m.holder[l.Name] != l {
		code = deploy.CodeBusy
	}
	want(r, m.store.Settle(r.Context(), l, out), code)
	if code != "" {
		return
	}
	st.State = out.State
	if out.State.Settled() {
		st.settledBy = l.Fence
	}
	if out.Account != nil {
		st.Ref, st.AccountID = out.Ref, out.Account.ID
		for _, a := range m.accounts {
			if a.SessionID == st.SessionID && a.State == deploy.AccountCurrent {
				a.State = deploy.AccountRetired
			}
		}
		m.accounts = append(m.accounts, out.Account)
	}
}

func (m *ledgerModel) account(r *rapid.T) *deploy.Account {
	if len(m.accounts) == 0 {
		r.Skip("there is no account")
	}
	return rapid.SampledFrom(m.accounts).Draw(r, "account")
}

// save writes an account as a process saw it when it was in use.
func (m *ledgerModel) save(r *rapid.T) {
	a := *m.account(r)
	a.State = deploy.AccountCurrent
	ok(r, m.store.SaveAccount(r.Context(), a))
}

func (m *ledgerModel) end(r *rapid.T) {
	a := m.account(r)
	if a.State != deploy.AccountCurrent {
		r.Skip("it is over")
	}
	a.State = deploy.AccountExpired
	over := *a
	over.Token, over.ClaimURL = "", ""
	ok(r, m.store.SaveAccount(r.Context(), over))
}

func (m *ledgerModel) check(r *rapid.T) {
	var waiting []string
	for _, name := range m.sessions {
		m.checkSteps(r, name)
		m.checkAccounts(r, name)
		open := slices.ContainsFunc(m.steps, func(st *modelStep) bool { return st.SessionID == name && !st.State.Settled() })
		if open && (m.holder[name] == nil || m.ranOut[name]) {
			waiting = append(waiting, name)
		}
	}
	all, err := m.store.Abandoned(r.Context(), at(-1), 10_000)
	ok(r, err)
	var got []string
	for _, v := range all {
		if v.Principal == m.who {
			got = append(got, v.ID)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, waiting) {
		r.Fatalf("abandoned: %v, want %v", got, waiting)
	}
}

func (m *ledgerModel) checkSteps(r *rapid.T, name string) {
	got, err := m.store.Steps(r.Context(), name)
	ok(r, err)
	i := 0
	for _, st := range m.steps {
		if st.SessionID != name {
			continue
		}
		if i == len(got) {
			r.Fatalf("%s is not there", st.ID)
		}
		is := got[i]
		if i++; is.ID != st.ID || is.State != st.State || is.Ref != st.Ref || is.AccountID != st.AccountID || is.Fence != st.Fence || is.Kind != st.Kind {
			r.Fatalf("got %+v, want %+v", is, st)
		}
	}
	if i != len(got) {
		r.Fatalf("%d steps too many", len(got)-i)
	}
}

func (m *ledgerModel) checkAccounts(r *rapid.T, name string) {
	got, err := m.store.Accounts(r.Context(), name)
	ok(r, err)
	i, current := len(got), 0
	for _, a := range m.accounts {
		if a.SessionID != name {
			continue
		}
		if i--; i < 0 {
			r.Fatalf("the account %s is not there", a.ID)
		}
		is := got[i]
		inUse := a.State == deploy.AccountCurrent
		if inUse {
			current++
		}
		if is.ID != a.ID || is.State != a.State || (is.Token == a.Token) != inUse || is.Token.Empty() == inUse || is.ClaimURL.Empty() == inUse {
			r.Fatalf("got %s %q with a token: %v, want %s %q", is.ID, is.State, !is.Token.Empty(), a.ID, a.State)
		}
	}
	if i != 0 || current > 1 {
		r.Fatalf("%d accounts too many, %d in use", i, current)
	}
}
