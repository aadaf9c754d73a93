package web

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// How long logins are good for.
const (
	loginLinkLife = 10 * time.Minute
	consoleLife   = 12 * time.Hour   // absolute
	consoleIdle   = 30 * time.Minute // without a request
	browserLife   = 2 * time.Hour    // longer than any account's hour
)

// The kinds of what is good once.
const (
	onceLink     = "link"
	onceOIDC     = "oidc"
	onceRegister = "register"
	onceTouch    = "touch"
)

// NewLoginLink makes the address of a one-time login for a human and keeps its hash.
// console is the console's address.
func NewLoginLink(ctx context.Context, logins deploy.Logins, console string, who deploy.ConsoleUser, now time.Time) (string, error) {
	body, err := json.Marshal(who)
	if err != nil {
		return "", err
	}
	code := rand.Text() + rand.Text()
	if err := logins.SaveOnce(ctx, onceLink, hash(code), body, now.Add(loginLinkLife)); err != nil {
		return "", err
	}
	return strings.TrimRight(console, "/") + "/login/" + code, nil
}

// loggedIn is a request's login.
type loggedIn struct {
	session deploy.ConsoleSession
	cookie  string
}

// form is the token that forms of this login carry: known to nobody without its cookie.
func (l *loggedIn) form() string { return hash("form of " + l.cookie) }

type loginKey struct{}

// loginOf is the request's login; nil: nobody is logged in.
func loginOf(r *http.Request) *loggedIn {
	l, _ := r.Context().Value(loginKey{}).(*loggedIn)
	return l
}

// human is who decides in this request.
func (l *loggedIn) human(browser string) deploy.Human {
	return deploy.Human{Name: l.session.User.Name, Owner: l.session.User.Owner, Channel: deploy.ChannelConsole, Browser: browser}
}

func (c *Console) cookieName(name string) string {
	if c.secure() {
		return "__Host-" + name
	}
	return name
}

const (
	sessionCookie = "hourglass_console"
	browserCookie = "hourglass_approver"
	oidcCookie    = "hourglass_oidc"
)

func (c *Console) cookie(r *http.Request, name string) string {
	got := r.CookiesNamed(c.cookieName(name))
	if len(got) != 1 { // two of a name: somebody else set one of them
		return ""
	}
	return got[0].Value
}

func (c *Console) setCookie(w http.ResponseWriter, name, value string, same http.SameSite, life time.Duration) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure under https; plain http is loopback's, where Secure would lose it
		Name: c.cookieName(name), Value: value, Path: "/", HttpOnly: true, Secure: c.secure(), SameSite: same, MaxAge: int(life / time.Second),
	})
}

// find looks the request's login up; nil: there is none that is good.
func (c *Console) find(r *http.Request) (*loggedIn, error) {
	value := c.cookie(r, sessionCookie)
	if !goodToken(value) {
		return nil, nil //nolint:nilnil // nobody is logged in
	}
	s, err := c.logins.ConsoleSession(r.Context(), hash(value))
	if err != nil || s == nil {
		return nil, err
	}
	now := c.cfg.Now()
	if !now.Before(s.ExpiresAt) || now.Sub(s.SeenAt) > consoleIdle {
		return nil, c.logins.EndConsoleSession(r.Context(), s.Hash)
	}
	return &loggedIn{session: *s, cookie: value}, nil
}

// as lets a page be seen by whoever is logged in and has the scope.
func (c *Console) as(scope deploy.Scope, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		in, err := c.find(r)
		switch {
		case err != nil:
			c.fail(w, r, err)
			return
		case in == nil:
			c.notLoggedIn(w, r)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), loginKey{}, in))
		// A page that is merely told of changes is no sign of a human.
		if now := c.cfg.Now(); r.URL.Path != PathConsole+"/events" && !r.URL.Query().Has("live") && now.Sub(in.session.SeenAt) > time.Minute {
			if err := c.logins.SeenConsoleSession(r.Context(), in.session.Hash, now); err != nil {
				c.fail(w, r, err)
				return
			}
		}
		if scope != "" && !in.session.User.May(scope) {
			c.problem(w, r, http.StatusForbidden, "Not allowed", "Your login does not have the scope "+string(scope)+".")
			return
		}
		if r.Method == http.MethodPost && subtle.ConstantTimeCompare([]byte(r.PostForm.Get("form")), []byte(in.form())) != 1 {
			c.problem(w, r, http.StatusForbidden, "Not done", "The page is of another login. Load it again, and decide again.")
			return
		}
		next(w, r)
	}
}

// notLoggedIn asks for a login. A browser that comes by a link of another site does not
// send the cookie with its first request: it is sent round once.
func (c *Console) notLoggedIn(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") == "navigate" {
		c.show(w, r, http.StatusOK, "onward", layout{Title: "One moment", Refresh: r.URL.Path})
		return
	}
	c.show(w, r, http.StatusUnauthorized, "login", layout{Title: "Log in", Body: c.newLoginForm(r, r.URL.Path)})
}

// loginForm is what the page to log in shows.
type loginForm struct {
	Code  string // of the link that led here
	Next  string
	OIDC  string // the issuer's name; empty: there is none
	Wrong string
}

func (c *Console) newLoginForm(r *http.Request, next string) loginForm {
	f := loginForm{Next: goodNext(next)}
	if c.oidc != nil {
		f.OIDC = c.oidc.name
	}
	if code := r.PathValue("code"); goodToken(code) {
		f.Code = code
	}
	return f
}

var nextShape = regexp.MustCompile(`^/console(/(claims|approvals|sessions)/[A-Za-z0-9_-]{1,64}|/record|/passkeys)?$`)

// goodNext is a page of the console to go on to after the login.
func goodNext(next string) string {
	if nextShape.MatchString(next) {
		return next
	}
	return PathConsole
}

// loginPage shows the way in. It uses no code up, however often it is fetched: a preview
// of a link is no login.
func (c *Console) loginPage(w http.ResponseWriter, r *http.Request) {
	c.show(w, r, http.StatusOK, "login", layout{Title: "Log in", Body: c.newLoginForm(r, r.URL.Query().Get("next"))})
}

// login opens a session for the code of a one-time link.
func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	code := strings.TrimSpace(r.PostForm.Get("code"))
	if i := strings.LastIndexByte(code, '/'); i >= 0 {
		code = code[i+1:] // the whole link was pasted
	}
	var body []byte
	var err error
	if goodToken(code) {
		body, err = c.logins.TakeOnce(r.Context(), onceLink, hash(code), c.cfg.Now())
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	var who deploy.ConsoleUser
	if body == nil || json.Unmarshal(body, &who) != nil {
		f := c.newLoginForm(r, r.PostForm.Get("next"))
		f.Code, f.Wrong = "", "This link is not known, was used already, or is older than 10 minutes. Ask your operator for another one: mcp-server console-login."
		c.show(w, r, c.inVain(r, deploy.AccessLink, "the link is not known, was used already, or is over"), "login", layout{Title: "Log in", Body: f})
		return
	}
	c.open(w, r, who, deploy.AccessLink, goodNext(r.PostForm.Get("next")))
}

// open makes a session for a human who proved who they are, and leads on. A login that
// can't be recorded is none.
func (c *Console) open(w http.ResponseWriter, r *http.Request, who deploy.ConsoleUser, how, next string) {
	value, now := rand.Text()+rand.Text(), c.cfg.Now().UTC()
	err := c.service.NoteAccess(r.Context(), deploy.Access{Kind: deploy.NoticeLogin, User: who, How: how})
	if err == nil {
		err = c.logins.SaveConsoleSession(r.Context(), deploy.ConsoleSession{
			Hash: hash(value), User: who, CreatedAt: now, SeenAt: now, ExpiresAt: now.Add(consoleLife),
		})
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.cfg.Logger.Info().Str("user", label(who.ID)).Str("owner", label(who.Owner)).Msg("logged in to the console")
	c.setCookie(w, sessionCookie, value, http.SameSiteStrictMode, consoleLife)
	// A page and not a redirect: after an issuer's, a redirect would still count as
	// another site's, and come without the cookie.
	c.show(w, r, http.StatusOK, "onward", layout{Title: "Logged in", Refresh: next})
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	if err := c.logins.EndConsoleSession(r.Context(), loginOf(r).session.Hash); err != nil {
		c.fail(w, r, err)
		return
	}
	c.setCookie(w, sessionCookie, "", http.SameSiteStrictMode, -time.Second)
	http.Redirect(w, r, PathConsole+"/login", http.StatusSeeOther)
}

// browser is the mark of this browser, as the Service is given it; it is set if need be.
func (c *Console) browser(w http.ResponseWriter, r *http.Request) string {
	value := c.cookie(r, browserCookie)
	if !goodToken(value) {
		value = rand.Text() + rand.Text()
	}
	// Also where it is there: the way on from a yes must stay open as long as the account.
	c.setCookie(w, browserCookie, value, http.SameSiteStrictMode, browserLife)
	return hash(value)
}

func (c *Console) browserOf(r *http.Request) string {
	if v := c.cookie(r, browserCookie); goodToken(v) {
		return hash(v)
	}
	return ""
}

// CheckConsoleUser refuses a login that could do nothing, or more than there is.
func CheckConsoleUser(u deploy.ConsoleUser) error {
	if u.Name == "" || len(u.Name) > 100 || label(u.Name) != u.Name {
		return errors.New("the name is not one: give a short printable one")
	}
	if len(u.Scopes) == 0 {
		return errors.New("no scope is given: approve, operate, or both")
	}
	for _, s := range u.Scopes {
		if s != deploy.ScopeApprove && s != deploy.ScopeOperate {
			return errors.New("the scope " + string(s) + " is not the console's: approve or operate")
		}
	}
	return nil
}
