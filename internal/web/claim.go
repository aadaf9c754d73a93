package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// claimPages are the handlers of the page on which a human decides about a claim.
type claimPages struct {
	s       *Server
	service Service
	origin  string // the host that the page is asked for under
	cross   *http.CrossOriginProtection
}

// handler serves the pages under one host name: localhost and our port. Any other name
// in a request means that a foreign site made its own name point at this machine.
func (s *Server) handler(svc Service, host string) http.Handler {
	p := &claimPages{s: s, service: svc, origin: host, cross: http.NewCrossOriginProtection()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /claim/{token}", p.show)
	mux.HandleFunc("POST /claim/{token}", p.decide)
	mux.HandleFunc("GET /claim/{token}/go", p.goOn)
	mux.HandleFunc("POST /claim/{token}/outcome", p.outcome)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { p.notFound(w) })
	return p.guard(mux)
}

// guard sets the headers of every answer, refuses foreign names, logs, and recovers.
func (p *claimPages) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			if v := recover(); v != nil {
				p.s.cfg.Logger.Error().Str("panic", p.s.cfg.Redactor.Redact(fmt.Sprint(v))).
					Str("stack", string(debug.Stack())).Msg("a page failed")
				if !rec.wrote {
					p.problem(rec, http.StatusInternalServerError, "Something went wrong", "The page failed; the server's log has the cause.")
				}
			}
			// Never the path: it holds the page's token.
			p.s.cfg.Logger.Info().Str("method", label(r.Method)).Str("page", r.Pattern).Int("status", rec.status).
				Int64("ms", time.Since(began).Milliseconds()).Msg("approval page")
		}()
		setHeaders(rec.Header())
		if r.Host != p.origin {
			p.problem(rec, http.StatusMisdirectedRequest, "Wrong address", "This page answers at http://"+p.origin+" only.")
			return
		}
		r.Body = http.MaxBytesReader(rec, r.Body, maxForm)
		next.ServeHTTP(rec, r)
	})
}

// setHeaders sets what holds for every answer. form-action is for the decision alone,
// which is sent to the page itself; Chromium applies it to redirects after a form too, so
// the way on to Cloudflare is a link or a refresh, never the answer to a form.
func setHeaders(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+styleHash()+"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// show is the page. It changes nothing, however often and by whomever it is fetched.
func (p *claimPages) show(w http.ResponseWriter, r *http.Request) {
	token := r.PathValue("token")
	view, err := p.view(r.Context(), token)
	if err != nil {
		p.fail(w, err)
		return
	}
	data := newPage(view, token)
	data.CanSay = approved(view) && view.Claim.Browser != "" && browserOf(r) == view.Claim.Browser
	data.Browser = rand.Text()
	if view.State.Given() {
		data.Mine = p.mayGoOn(r, token, browserOf(r))
		// Straight on after the decision, but not when somebody comes back to the page:
		// the browser's way back would lead forward again.
		data.Refresh = data.Mine && r.URL.Query().Has("decided")
	}
	status := http.StatusOK
	if view.State == deploy.ClaimLapsed {
		status = http.StatusGone
	}
	p.render(w, status, data)
}

func (p *claimPages) view(ctx context.Context, token string) (*deploy.ClaimView, error) {
	if !goodToken(token) {
		return nil, &deploy.Error{Code: deploy.CodeSessionNotFound, Message: "there is no claim under this address", Next: "Ask the agent again."}
	}
	return p.service.ClaimView(ctx, token)
}

// mayGoOn tells whether this is the browser that said yes and there still is a link.
func (p *claimPages) mayGoOn(r *http.Request, token, browser string) bool {
	_, err := p.service.ClaimLink(r.Context(), token, browser)
	return err == nil
}

// decide takes the decision. It wants a browser's word that the page itself sent it.
func (p *claimPages) decide(w http.ResponseWriter, r *http.Request) {
	token := r.PathValue("token")
	if err := p.fromPage(r); err != nil {
		p.problem(w, http.StatusForbidden, "Not decided", err.Error())
		return
	}
	if err := r.ParseForm(); err != nil {
		p.problem(w, http.StatusBadRequest, "Not decided", "The form could not be read. Go back to the page and decide again.")
		return
	}
	choice := r.PostForm.Get("decision")
	if choice != "approve" && choice != "refuse" {
		p.problem(w, http.StatusBadRequest, "Not decided", "Go back to the page and press one of its two buttons.")
		return
	}
	view, err := p.view(r.Context(), token)
	if err != nil {
		p.fail(w, err)
		return
	}
	if shown := r.PostForm.Get("digest"); shown != "" && shown != view.Claim.Digest {
		p.problem(w, http.StatusConflict, "Not decided", "What would become yours has changed since the page was shown. Open the page again and decide.")
		return
	}
	// The page brings the mark along, so that a button that is pressed twice counts once and
	// leads on: the browser gives the first answer up, and its cookie with it.
	browser := r.PostForm.Get("browser")
	if !goodToken(browser) {
		browser = rand.Text()
	}
	_, err = p.service.DecideClaim(r.Context(), token, choice == "approve", hash(browser))
	switch {
	case (deploy.IsCode(err, deploy.CodeSessionClosed) || deploy.IsCode(err, deploy.CodeStore)) && choice == "approve" && p.mayGoOn(r, token, hash(browser)):
		// It counts already; also where only the record of its outcome is missing.
	case deploy.IsCode(err, deploy.CodeSessionClosed): // somebody was faster
		p.again(w, r, token, http.StatusConflict)
		return
	case err != nil:
		p.fail(w, err)
		return
	}
	if choice == "approve" {
		// It is set with the decision, and not when the page is shown: a page opened by a
		// link from another site comes without a SameSite=Strict cookie, and a new one
		// would overwrite the one that the yes is bound to.
		http.SetCookie(w, &http.Cookie{ //nolint:gosec // plain http on loopback: Secure would lose it
			Name: cookieName, Value: browser, Path: "/claim/" + token, HttpOnly: true, SameSite: http.SameSiteStrictMode,
			MaxAge: max(1, int((view.Left+wordLife)/time.Second)),
		})
	}
	http.Redirect(w, r, "/claim/"+token+"?decided", http.StatusSeeOther) //nolint:gosec // the token was checked: it has no slash
}

// again shows the page as it now is, to one whose decision did not count.
func (p *claimPages) again(w http.ResponseWriter, r *http.Request, token string, status int) {
	view, err := p.view(r.Context(), token)
	if err != nil {
		p.fail(w, err)
		return
	}
	data := newPage(view, token)
	data.Late = true
	data.Mine = view.State.Given() && p.mayGoOn(r, token, browserOf(r))
	p.render(w, status, data)
}

// fromPage tells whether a browser says that this page sent the request. Requests of
// programs say nothing of it and are refused: they are no human's.
func (p *claimPages) fromPage(r *http.Request) error {
	if p.cross.Check(r) != nil {
		return errors.New("the decision came from another site")
	}
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
		return errors.New("decide in a web browser: the request does not say where it comes from")
	}
	return nil
}

// goOn leads the browser that said yes to Cloudflare's claim page, as often as it wants
// until the link is over.
func (p *claimPages) goOn(w http.ResponseWriter, r *http.Request) {
	token := r.PathValue("token")
	view, err := p.view(r.Context(), token)
	if err != nil {
		p.fail(w, err)
		return
	}
	link, err := p.service.ClaimLink(r.Context(), token, browserOf(r))
	if err != nil {
		p.fail(w, err)
		return
	}
	if !goodLink(link.Reveal()) {
		p.problem(w, http.StatusBadGateway, "No way on", "The claim link is not one that a browser should open.")
		return
	}
	if err := p.service.Opened(r.Context(), view.Claim.ID, ""); err != nil {
		p.fail(w, err) // what can't be recorded is not done
		return
	}
	// Not http.Redirect, which would write the link into a page too.
	w.Header().Set("Location", link.Reveal())
	w.WriteHeader(http.StatusSeeOther)
}

const cookieName = "hourglass_browser"

// wordLife is how long after the account's hour the browser that said yes can say how it
// ended. The way on to Cloudflare ends with the hour, whatever the cookie says.
const wordLife = time.Hour

// outcome takes the human's word about how it ended at Cloudflare.
func (p *claimPages) outcome(w http.ResponseWriter, r *http.Request) {
	token := r.PathValue("token")
	if err := p.fromPage(r); err != nil {
		p.problem(w, http.StatusForbidden, "Not noted", err.Error())
		return
	}
	did := ""
	if r.ParseForm() == nil {
		did = r.PostForm.Get("outcome")
	}
	if did != "finished" && did != "not" || !goodToken(token) {
		p.problem(w, http.StatusBadRequest, "Not noted", "Go back to the page and press one of its two buttons.")
		return
	}
	if err := p.service.AdoptedOnPage(r.Context(), token, did == "finished", browserOf(r)); err != nil {
		p.fail(w, err)
		return
	}
	http.Redirect(w, r, "/claim/"+token, http.StatusSeeOther) //nolint:gosec // the token was checked: it has no slash
}

// browserOf is the mark of the browser, as it was given to the Service; "" without one.
func browserOf(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil || c.Value == "" {
		return ""
	}
	return hash(c.Value)
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

var tokenShape = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func goodToken(s string) bool { return len(s) >= 16 && len(s) <= 128 && tokenShape.MatchString(s) }

// goodLink tells whether a link may be followed: https, or http on this machine, where
// the sandbox has its claim page.
func goodLink(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && local
}
