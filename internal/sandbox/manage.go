package sandbox

import (
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"
)

// accountView is an account as tests see it, with everything that must not leak.
type accountView struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Subdomain  string    `json:"subdomain"`
	APIToken   string    `json:"api_token"`
	ClaimToken string    `json:"claim_token"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	Claimed    bool      `json:"claimed"`
}

// workerView is a Worker as tests see it.
type workerView struct {
	AccountID string `json:"account_id"`
	Name      string `json:"name"`
	Host      string `json:"host"`
	URL       string `json:"url"`
	VersionID string `json:"version_id"`
	Enabled   bool   `json:"enabled"`
}

// manageHandler serves the management port: JSON, for tests and demos on this
// machine. A page in a browser can't use it: requests of other sites, and those that
// came under another name than a loopback one, are refused.
func (s *Sandbox) manageHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /accounts", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.accountViews()) })
	mux.HandleFunc("GET /workers", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.workerViews()) })
	mux.HandleFunc("POST /clock", s.postClock)
	mux.HandleFunc("POST /cron", s.postCron)
	mux.HandleFunc("GET /faults", s.getFaults)
	mux.HandleFunc("PUT /faults", s.putFaults)
	mux.HandleFunc("POST /accounts/{id}/claim", s.postClaim)
	mux.HandleFunc("GET /challenge", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		writeJSON(w, http.StatusOK, map[string]int{"k": s.k, "g": s.g})
	})
	mux.HandleFunc("PUT /challenge", s.putChallenge)
	mux.HandleFunc("GET /propagation", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.propagation()) })
	mux.HandleFunc("PUT /propagation", s.putPropagation)
	mux.HandleFunc("GET /requests", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		writeJSON(w, http.StatusOK, append([]request{}, s.requests...))
	})
	mux.HandleFunc("GET /unknown", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		writeJSON(w, http.StatusOK, maps.Clone(s.unknown))
	})
	return ownSite(mux)
}

// ownSite lets through what comes under a loopback name, and not from another site.
func ownSite(h http.Handler) http.Handler {
	guard := http.NewCrossOriginProtection()
	guarded := guard.Handler(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		ip := net.ParseIP(host)
		if host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "this port answers under a loopback name only", http.StatusForbidden)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

func (s *Sandbox) accountViews() []accountView {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []accountView{}
	for _, a := range s.accounts {
		out = append(out, accountView{a.id, a.name, a.subdomain, a.token, a.claimToken, a.createdAt, a.expiresAt, a.claimed})
	}
	slices.SortFunc(out, func(a, b accountView) int { return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) })
	return out
}

func (s *Sandbox) workerViews() []workerView {
	s.mu.Lock()
	accounts := slices.Collect(maps.Values(s.accounts))
	s.mu.Unlock()
	out := []workerView{}
	for _, a := range accounts {
		a.mu.Lock()
		for name, sc := range a.scripts {
			view := workerView{AccountID: a.id, Name: name, Host: a.host(name), URL: sc.url, Enabled: sc.enabled}
			if v := sc.deployed(); v != nil {
				view.VersionID = v.id
			}
			out = append(out, view)
		}
		a.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b workerView) int { return cmp.Compare(a.Host, b.Host) })
	return out
}

// manageBody decodes a small JSON body, refusing what it does not know.
func manageBody(w http.ResponseWriter, r *http.Request, v any) bool {
	dec := json.NewDecoder(io.LimitReader(r.Body, 64<<10))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "the body can't be used: " + err.Error()})
		return false
	}
	return true
}

func (s *Sandbox) postClock(w http.ResponseWriter, r *http.Request) {
	var in struct {
		AdvanceSeconds float64 `json:"advance_seconds"`
	}
	if !manageBody(w, r, &in) {
		return
	}
	const most = 10 * 365 * 24 * 3600
	if in.AdvanceSeconds < 0 || in.AdvanceSeconds > most {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "advance_seconds must lie between 0 and ten years"})
		return
	}
	by := time.Duration(in.AdvanceSeconds * float64(time.Second))
	s.clock.Advance(by)
	s.endExpired()
	s.mu.Lock()
	accounts := slices.Collect(maps.Values(s.accounts))
	s.mu.Unlock()
	for _, a := range accounts {
		if !a.over() {
			a.advance(r.Context(), by)
			a.promoteDue()
			a.fireCrons()
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"now": s.clock.Now().UTC()})
}

func (s *Sandbox) postClaim(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	a := s.accounts[r.PathValue("id")]
	s.mu.Unlock()
	if a == nil {
		writeJSON(w, http.StatusNotFound, map[string]string{"error": "there is no such account"})
		return
	}
	if err := s.claimAccount(a); err != nil {
		writeJSON(w, err.status, map[string]string{"error": err.message})
		return
	}
	writeJSON(w, http.StatusOK, map[string]bool{"claimed": true})
}

func (s *Sandbox) putChallenge(w http.ResponseWriter, r *http.Request) {
	var in struct{ K, G int }
	if !manageBody(w, r, &in) {
		return
	}
	if in.K < 1 || in.G < 1 {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "k and g must be positive"})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.k, s.g = in.K, in.G
	writeJSON(w, http.StatusOK, map[string]int{"k": s.k, "g": s.g})
}

func (s *Sandbox) propagation() propagation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spread
}

func (s *Sandbox) putPropagation(w http.ResponseWriter, r *http.Request) {
	var in propagation
	if !manageBody(w, r, &in) {
		return
	}
	const most = 10 * 60 * 1000
	if in.RouteMS < 0 || in.VersionMS < 0 || in.RouteMS > most || in.VersionMS > most {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "route_ms and version_ms must lie between 0 and ten minutes"})
		return
	}
	s.mu.Lock()
	s.spread = in
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, in)
}
