package sandbox

import (
	"html/template"
	"net/http"
)

// dashPage is where a real account's claim link would lead to Cloudflare's dashboard.
const dashPage = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Claim a sandbox account</title>
<style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui;max-width:40rem;margin:3rem auto;padding:0 1rem}button{font:inherit;padding:.5rem 1rem}</style>
<h1>Claim this account</h1>
<p>This is the sandbox's stand-in for Cloudflare's claim page. Whoever claims owns the whole account.</p>
<p>Account <strong>{{.Name}}</strong>, until {{.Expires}}.</p>
<ul>{{range .Workers}}<li>{{.}}</li>{{else}}<li>no Workers</li>{{end}}</ul>
{{if .Claimed}}<p><strong>It is claimed.</strong> It lives on past its hour.</p>
{{else if .Over}}<p><strong>It is over.</strong> Nobody claimed it within its hour.</p>
{{else}}<form method="post"><button>Claim it</button></form>{{end}}
</html>
`

// dashHandler serves the sandbox's own claim page. Reading it changes nothing.
func (s *Sandbox) dashHandler() http.Handler {
	page := template.Must(template.New("dash").Parse(dashPage))
	mux := http.NewServeMux()
	show := func(w http.ResponseWriter, a *account) {
		now := s.clock.Now()
		s.mu.Lock()
		data := map[string]any{"Name": a.name, "Expires": a.expiresAt.Format("15:04 MST"), "Claimed": a.claimed, "Over": a.expired(now)}
		s.mu.Unlock()
		hosts := []string{}
		for _, v := range s.workerViews() {
			if v.AccountID == a.id {
				hosts = append(hosts, v.Host)
			}
		}
		data["Workers"] = hosts
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'")
		_ = page.Execute(w, data)
	}
	find := func(w http.ResponseWriter, r *http.Request) *account {
		s.mu.Lock()
		defer s.mu.Unlock()
		a := s.byClaim[r.URL.Query().Get("claimToken")]
		if a == nil {
			http.Error(w, "there is no account with this claim token", http.StatusNotFound)
		}
		return a
	}
	mux.HandleFunc("GET /claim-preview", func(w http.ResponseWriter, r *http.Request) {
		if a := find(w, r); a != nil {
			show(w, a)
		}
	})
	mux.HandleFunc("POST /claim-preview", func(w http.ResponseWriter, r *http.Request) {
		a := find(w, r)
		if a == nil {
			return
		}
		if err := s.claimAccount(a); err != nil {
			http.Error(w, err.message, err.status)
			return
		}
		show(w, a)
	})
	return ownSite(mux)
}
