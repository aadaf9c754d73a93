package sandbox

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
)

// The kinds of faults. Those "before" keep the request from having any effect; those
// "after" let it have its effect and spoil the answer.
const (
	faultLatency     = "latency"       // answers late
	faultRateLimited = "rate_limited"  // 429, before
	faultServerError = "server_error"  // 500 in the API's form, before
	faultBadGateway  = "bad_gateway"   // 502 with a page of HTML, before
	faultErrorsNull  = "errors_null"   // success:false without a reason, before
	faultResetBefore = "reset_before"  // the connection is cut, before
	faultResetAfter  = "reset_after"   // the connection is cut, after
	faultTruncated   = "truncated"     // the answer ends in its middle, after
	faultNotJSON     = "not_json"      // the answer is no JSON, after
	faultToken       = "token_refused" // this once
	faultTokenEnds   = "token_ends"    // the account's token works no more from now on
	faultExpired     = "account_ends"  // the account is over from now on
	// What is deployed or enabled by the request takes latency_ms, on the sandbox's clock,
	// to reach the edge: until then a new route answers 404, an old version goes on serving.
	faultSlowEdge = "slow_edge"
)

func faultKinds() []string {
	return []string{
		faultLatency, faultRateLimited, faultServerError, faultBadGateway, faultErrorsNull, faultResetBefore, faultResetAfter,
		faultTruncated, faultNotJSON, faultToken, faultTokenEnds, faultExpired, faultSlowEdge,
	}
}

// faultRule says what goes wrong, where and how often.
type faultRule struct {
	// Endpoint is a method and a path below /client/v4 in which * is one part, such as
	// "PUT /accounts/*/workers/scripts/*", or "*" for all.
	Endpoint string `json:"endpoint"`
	Kind     string `json:"kind"`
	// Rate is the share of matching requests, 0 to 1; default 1.
	Rate *float64 `json:"rate,omitempty"`
	// Times bounds how often it happens; 0: no bound.
	Times int `json:"times,omitempty"`
	// LatencyMS is for latency and slow_edge; RetryAfter, in seconds, for rate_limited (0: not sent).
	LatencyMS  int `json:"latency_ms,omitempty"`
	RetryAfter int `json:"retry_after,omitempty"`
}

// faultPlan is how unkind the API is. Equal seeds give equal faults for equal requests.
type faultPlan struct {
	Seed  uint64      `json:"seed"`
	Rules []faultRule `json:"rules"`
}

// faults is the plan at work.
type faults struct {
	mu   sync.Mutex
	plan faultPlan
	rng  *rand.Rand
	met  map[string]int // by kind
	left []int          // of each rule, where it is bounded
	hits []int          // of each rule
}

func (f *faults) set(p faultPlan) error {
	for i, r := range p.Rules {
		switch {
		case !slices.Contains(faultKinds(), r.Kind):
			return fmt.Errorf("rule %d: the kind %q is not known; there are %s", i, r.Kind, strings.Join(faultKinds(), ", "))
		case r.Endpoint == "":
			return fmt.Errorf("rule %d has no endpoint: give a method and a path, or *", i)
		case r.Rate != nil && (*r.Rate < 0 || *r.Rate > 1):
			return fmt.Errorf("rule %d: rate lies between 0 and 1", i)
		case r.LatencyMS < 0 || r.LatencyMS > 60_000 || r.RetryAfter < 0 || r.Times < 0:
			return fmt.Errorf("rule %d: latency_ms lies between 0 and 60000, the others are not negative", i)
		}
		if _, err := path.Match(r.Endpoint, ""); err != nil {
			return fmt.Errorf("rule %d: the endpoint can't be understood", i)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan, f.met = p, map[string]int{}
	f.rng = rand.New(rand.NewPCG(p.Seed, 0)) //nolint:gosec // a plan that can be repeated
	f.left, f.hits = make([]int, len(p.Rules)), make([]int, len(p.Rules))
	for i, r := range p.Rules {
		f.left[i] = r.Times
	}
	return nil
}

func (r faultRule) matches(method, p string) bool {
	if r.Endpoint == "*" {
		return true
	}
	if m, ok := strings.CutSuffix(r.Endpoint, " *"); ok {
		return m == method
	}
	ok, err := path.Match(r.Endpoint, method+" "+p)
	return ok && err == nil
}

// draw gives the fault of a request, or nil.
func (f *faults) draw(method, p string) *faultRule {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.plan.Rules {
		r := &f.plan.Rules[i]
		if !r.matches(method, p) || r.Times > 0 && f.left[i] == 0 {
			continue
		}
		if r.Rate != nil && f.rng.Float64() >= *r.Rate {
			continue
		}
		f.left[i]--
		f.hits[i]++
		f.met[r.Kind]++
		return r
	}
	return nil
}

func (s *Sandbox) getFaults(w http.ResponseWriter, _ *http.Request) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]any{"seed": s.faults.plan.Seed, "rules": append([]faultRule{}, s.faults.plan.Rules...), "met": maps.Clone(s.faults.met), "hits": slices.Clone(s.faults.hits)})
}

func (s *Sandbox) putFaults(w http.ResponseWriter, r *http.Request) {
	var in faultPlan
	if !manageBody(w, r, &in) {
		return
	}
	if err := s.faults.set(in); err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	s.getFaults(w, r)
}
