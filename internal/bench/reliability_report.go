package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// tally is what a trial came to.
type tally struct {
	agents, succeeded, notYet, live, ended int
	failed                                 map[deploy.Code]int
	lost, mistakes                         []string
	// Of the end: the sandbox's accounts, the store's, and the steps by kind and state.
	onSandbox, inStore, spoilt, lostAccounts int
	steps                                    map[string]int
	faults                                   map[string]int
}

func (y *tally) wrong(format string, args ...any) {
	y.mistakes = append(y.mistakes, fmt.Sprintf(format, args...))
}

// faultsView is GET /faults.
type faultsView struct {
	Rules []struct{ Endpoint, Kind string }
	Hits  []int
	Met   map[string]int
}

// settleAccounts lets the Service look after what was left, and holds the sandbox's
// accounts against the store's and the ledger's.
func (t *trial) settleAccounts(ctx context.Context) error {
	y := &t.tally
	if err := t.hearClock(ctx); err != nil { // it was advanced since the last call
		return err
	}
	for range 20 { // a pass looks after a hundred sessions, and the API is unkind to it too
		if err := t.service.Sweep(ctx); err != nil {
			t.progress("a pass of the sweeper: %v", err)
		}
	}
	var accounts []accountView
	var faults faultsView
	if err := errors.Join(t.manage(ctx, http.MethodGet, "/accounts", "", &accounts), t.manage(ctx, http.MethodGet, "/faults", "", &faults)); err != nil {
		return err
	}
	y.onSandbox, y.faults = len(accounts), faults.Met
	for i, r := range faults.Rules {
		if r.Endpoint == "POST /provisioning/previews" && (r.Kind == "reset_after" || r.Kind == "truncated") {
			y.spoilt += faults.Hits[i]
		}
	}
	onSandbox := map[string]bool{}
	for _, a := range accounts {
		onSandbox[a.ID] = true
	}
	for i := range (t.n + callsEach - 1) / callsEach {
		sessions, err := t.store.Sessions(ctx, fmt.Sprintf("agent-%d", i), 100)
		if err != nil {
			return err
		}
		for _, s := range sessions {
			if err := t.count(ctx, s.ID, onSandbox); err != nil {
				return err
			}
		}
	}
	if y.onSandbox != y.inStore+y.spoilt {
		y.wrong("%d accounts on the sandbox are not the store's %d and the %d whose answer was lost", y.onSandbox, y.inStore, y.spoilt)
	}
	if y.lostAccounts < y.spoilt {
		y.wrong("%d accounts were made whose answer was lost, and %d steps say so", y.spoilt, y.lostAccounts)
	}
	return nil
}

// hearClock lets the client hear the API's time, which is unkind too.
func (t *trial) hearClock(ctx context.Context) error {
	var err error
	for range 10 {
		if _, err = t.client.AskClock(ctx); err == nil {
			return nil
		}
	}
	return err
}

// count adds up one session's accounts and steps.
func (t *trial) count(ctx context.Context, session string, onSandbox map[string]bool) error {
	y := &t.tally
	accounts, err := t.store.Accounts(ctx, session)
	if err != nil {
		return err
	}
	current := 0
	for i := range accounts {
		y.inStore++
		if !onSandbox[accounts[i].ID] {
			y.wrong("the store has an account that the sandbox never made")
		}
		if accounts[i].State == deploy.AccountCurrent {
			current++
		}
		if !accounts[i].Token.Empty() {
			y.wrong("a token is kept although its account is over (%s)", accounts[i].State)
		}
	}
	if current > 1 {
		y.wrong("a session has %d current accounts", current)
	}
	ledger, ok := any(t.store).(deploy.Ledger)
	if !ok {
		return nil
	}
	steps, err := ledger.Steps(ctx, session)
	for _, s := range steps {
		y.steps[string(s.Kind)+" "+string(s.State)]++
		switch {
		case !s.State.Settled():
			y.wrong("a step is left %s: %s %s", s.State, s.Kind, s.What)
		case s.State == deploy.StepLost && s.Kind == deploy.StepCreateAccount:
			y.lostAccounts++
		}
	}
	return err
}

// report prints the figures, and fails when anything was lost or does not add up.
func (t *trial) report() error {
	y := &t.tally
	stats := t.client.Stats()
	failed, retries, met := 0, int64(0), 0
	for _, n := range y.failed {
		failed += n
	}
	for _, n := range stats.Retries {
		retries += n
	}
	for _, n := range y.faults {
		met += n
	}
	fmt.Printf("Seed %d, %d agents.\n\n| what | count |\n|---|---:|\n", t.seed, y.agents)
	for _, r := range []struct {
		name  string
		count any
	}{
		{"deployments", y.succeeded + failed},
		{"succeeded", y.succeeded},
		{"of these not serving yet when they returned", y.notYet},
		{"failed, saying so" + byKey(y.failed), failed},
		{"calls to the API", stats.Calls},
		{"faults met" + byKey(y.faults), met},
		{"calls repeated" + byKey(stats.Retries), retries},
		{"accounts made on the sandbox", y.onSandbox},
		{"of these in the store", y.inStore},
		{"of these whose answer was lost", y.spoilt},
		{"steps of the ledger" + byKey(y.steps), sum(y.steps)},
		{"steps left open", openSteps(y.steps)},
		{"Workers reported live that answered at the end of their round", y.live},
		{"Workers whose account a fault had ended by then", y.ended},
		{"**lost**", fmt.Sprintf("**%d**", len(y.lost))},
	} {
		fmt.Printf("| %s | %v |\n", r.name, r.count)
	}
	for _, l := range slices.Concat(y.lost, y.mistakes) {
		fmt.Println("\n- " + l)
	}
	if len(y.lost)+len(y.mistakes) > 0 {
		return fmt.Errorf("%d lost, %d mistakes", len(y.lost), len(y.mistakes))
	}
	return nil
}

func sum(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

func openSteps(m map[string]int) (n int) {
	for k, v := range m {
		if strings.HasSuffix(k, " open") || strings.HasSuffix(k, " unknown") {
			n += v
		}
	}
	return n
}

// byKey writes a count's parts behind its name: " (latency 12, reset_after 3)".
func byKey[K ~string, V int | int64](m map[K]V) string {
	if len(m) == 0 {
		return ""
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return " (" + strings.Join(parts, ", ") + ")"
}
