package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// PathConsole is where humans find the console, on the port on which agents find MCP.
// The two share nothing: no bearer token opens the console, and no cookie opens MCP.
const PathConsole = "/console"

//go:embed console.html
var consoleHTML string

//go:embed console.css
var consoleCSS string

//go:embed console.js
var consoleJS string

// ConsoleService is what the console calls. Its errors are *deploy.Error. All methods
// are safe for concurrent use.
type ConsoleService interface {
	Overview(ctx context.Context, f deploy.SessionFilter) ([]deploy.SessionView, error)
	ClaimViewByID(ctx context.Context, id string) (*deploy.ClaimView, error)
	// DecideClaimBy records the decision, once; it holds a yes to channels and four eyes.
	DecideClaimBy(ctx context.Context, claimID string, approve bool, who deploy.Human) (*deploy.ClaimView, error)
	// ClaimLinkByID is Cloudflare's claim link, after a yes and only for that browser.
	ClaimLinkByID(ctx context.Context, id, browser string) (deploy.Secret, error)
	// ClaimFileByID is what the holder of a key needs, where the claim link is sealed to it.
	ClaimFileByID(ctx context.Context, id string) (*deploy.ClaimFile, error)
	Opened(ctx context.Context, claimID, by string) error
	Adopted(ctx context.Context, claimID string, did bool, who deploy.Human) error
	WaitingApprovals(ctx context.Context) ([]deploy.Approval, error)
	DecideApprovalBy(ctx context.Context, id string, approve bool, digest string, who deploy.Human) (*deploy.Approval, error)
	Revoke(ctx context.Context, operator deploy.Caller, f deploy.SessionFilter, reason string) ([]deploy.RevokeResult, error)
	SetFreeze(ctx context.Context, frozen bool, by, reason string) error
	// NoteAccess puts a login, a passkey or a try in vain on record; a login that can't be
	// recorded is none.
	NoteAccess(ctx context.Context, a deploy.Access) error
	Frozen(ctx context.Context) (*deploy.Freeze, error)
	// WorkerLogs is what is kept of what a session's Workers said.
	WorkerLogs(ctx context.Context, sessionID string) (*deploy.WorkerLogs, error)
}

// RecordFilter narrows the record that is shown; empty members narrow nothing.
type RecordFilter struct {
	Principal, Session, Act, Outcome, Worker, Digest string
	Limit                                            int
}

// Recorded is one record. Pruned: its content was kept long enough and is gone.
type Recorded struct {
	Index  int64
	Event  deploy.Event
	Pruned bool
}

// Records is the record of acts, newest first.
type Records interface {
	Records(ctx context.Context, f RecordFilter) ([]Recorded, error)
}

// ConsoleConfig is what a Console needs.
type ConsoleConfig struct {
	// Passkeys asks for a touch with every yes, and lets nothing weaker count.
	Passkeys bool
	// OIDC is the issuer where humans log in; nil: only one-time links do.
	OIDC   *OIDCConfig
	Logger zerolog.Logger
	// Redactor strips secrets from what is shown; nil: one that knows shapes only.
	Redactor *deploy.Redactor
	Now      func() time.Time
	// LookEvery is how often open pages are told of changes. Default 2 seconds.
	LookEvery time.Duration
}

// Console is where humans see and decide, behind a login. It is a deploy.Pages.
type Console struct {
	cfg     ConsoleConfig
	cross   *http.CrossOriginProtection
	pages   *template.Template
	oidc    *oidcLogin // nil: there is none
	streams chan struct{}
	vain    vain

	mu      sync.Mutex
	base    *url.URL // nil until it is bound
	service ConsoleService
	logins  deploy.Logins
	records Records
}

var _ deploy.Pages = (*Console)(nil)

// maxConsoleStreams are the pages that are told of changes at once; more than that many
// are still right when they are loaded again.
const maxConsoleStreams = 64

// NewConsole makes a Console. Bind and the Endpoint that it is given to complete it.
func NewConsole(cfg ConsoleConfig) (*Console, error) {
	if cfg.Redactor == nil {
		cfg.Redactor = deploy.NewRedactor()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.LookEvery <= 0 {
		cfg.LookEvery = 2 * time.Second
	}
	pages, err := template.New("console").Parse(estateHTML + consoleHTML)
	if err != nil {
		return nil, fmt.Errorf("web: the console's pages: %w", err)
	}
	c := &Console{cfg: cfg, cross: http.NewCrossOriginProtection(), pages: pages, streams: make(chan struct{}, maxConsoleStreams)}
	if cfg.OIDC != nil {
		if c.oidc, err = newOIDCLogin(*cfg.OIDC, cfg.Now); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Bind gives the Console what it shows and who is logged in.
func (c *Console) Bind(svc ConsoleService, logins deploy.Logins, records Records) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.service, c.logins, c.records = svc, logins, records
}

// bindTo says under which address browsers reach the console.
func (c *Console) bindTo(base *url.URL) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base = base
}

// Address is the console's; empty until its Endpoint listens.
func (c *Console) Address() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base == nil {
		return ""
	}
	return c.base.String() + PathConsole
}

// URL implements deploy.Pages: the address is no secret, since it decides nothing
// without a login.
func (c *Console) URL(_ context.Context, claim *deploy.Claim) (string, error) {
	if c.Address() == "" {
		return "", errors.New("web: the console has no address yet")
	}
	return c.ClaimURL(claim.ID), nil
}

// ClaimURL is where a claim is decided, ApprovalURL where an act is.
func (c *Console) ClaimURL(id string) string { return claimAt(c.Address(), id) }

// ApprovalURL is where an act that a policy asks about is decided.
func (c *Console) ApprovalURL(id string) string { return approvalAt(c.Address(), id) }

func claimAt(console, id string) string    { return console + "/claims/" + id }
func approvalAt(console, id string) string { return console + "/approvals/" + id }

// Elsewhere is the console of another server on the same store, where humans decide about
// what this process asks. It is a deploy.Pages.
type Elsewhere struct{ console string }

// NewElsewhere takes the console's address, as the other server prints it.
func NewElsewhere(address string) (*Elsewhere, error) {
	u, err := url.Parse(strings.TrimRight(address, "/"))
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Path != PathConsole || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is not the address of a console: give the one that mcp-server http prints, https://…%s", address, PathConsole)
	}
	return &Elsewhere{u.String()}, nil
}

// URL implements deploy.Pages.
func (e *Elsewhere) URL(_ context.Context, claim *deploy.Claim) (string, error) {
	return e.ClaimURL(claim.ID), nil
}

// ClaimURL is where a claim is decided.
func (e *Elsewhere) ClaimURL(id string) string { return claimAt(e.console, id) }

// ApprovalURL is where an act is decided.
func (e *Elsewhere) ApprovalURL(id string) string { return approvalAt(e.console, id) }

// routes are the pages. Every GET changes nothing, every POST wants a form of ours.
func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /console", c.as("", c.overview))
	mux.HandleFunc("GET /console/login", c.loginPage)
	mux.HandleFunc("GET /console/login/{code}", c.loginPage)
	mux.HandleFunc("POST /console/login", c.login)
	mux.HandleFunc("POST /console/oidc", c.oidcBegin)
	mux.HandleFunc("GET /console/oidc", c.oidcEnd)
	mux.HandleFunc("POST /console/logout", c.as("", c.logout))
	mux.HandleFunc("GET /console/events", c.as("", c.events))
	mux.HandleFunc("GET /console/record", c.as(deploy.ScopeOperate, c.record))
	mux.HandleFunc("GET /console/sessions/{id}", c.as(deploy.ScopeOperate, c.session))
	mux.HandleFunc("POST /console/teardown", c.as(deploy.ScopeOperate, c.teardown))
	mux.HandleFunc("POST /console/freeze", c.as(deploy.ScopeOperate, c.freeze))
	mux.HandleFunc("GET /console/claims/{id}", c.as("", c.claim))
	mux.HandleFunc("POST /console/claims/{id}", c.as(deploy.ScopeApprove, c.decideClaim))
	mux.HandleFunc("GET /console/claims/{id}/go", c.as(deploy.ScopeApprove, c.goOn))
	mux.HandleFunc("GET /console/claims/{id}/file", c.as(deploy.ScopeApprove, c.claimFile))
	mux.HandleFunc("POST /console/claims/{id}/outcome", c.as(deploy.ScopeApprove, c.outcome))
	mux.HandleFunc("GET /console/approvals/{id}", c.as("", c.approval))
	mux.HandleFunc("POST /console/approvals/{id}", c.as(deploy.ScopeApprove, c.decideApproval))
	mux.HandleFunc("GET /console/passkeys", c.as("", c.passkeys))
	mux.HandleFunc("POST /console/passkeys/begin", c.as("", c.passkeyBegin))
	mux.HandleFunc("POST /console/passkeys", c.as("", c.passkeyEnd))
	mux.HandleFunc("POST /console/touch", c.as(deploy.ScopeApprove, c.touchBegin))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		c.problem(w, r, http.StatusNotFound, "Nothing here", "There is no such page.")
	})
	return c.guard(mux)
}

// guard sets the headers of every answer, refuses foreign names and other sites' forms,
// logs, and recovers.
func (c *Console) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := c.cfg.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			if v := recover(); v != nil {
				c.cfg.Logger.Error().Str("panic", c.cfg.Redactor.Redact(fmt.Sprint(v))).
					Str("stack", c.cfg.Redactor.Redact(string(debug.Stack()))).Msg("a page failed")
				if !rec.wrote {
					c.problem(rec, r, http.StatusInternalServerError, "Something went wrong", "The page failed; the server's log has the cause.")
				}
			}
			// Never the path: it may hold a login's code.
			c.cfg.Logger.Info().Str("method", label(r.Method)).Str("page", r.Pattern).Int("status", rec.status).
				Int64("ms", c.cfg.Now().Sub(began).Milliseconds()).Msg("console")
		}()
		c.headers(rec.Header())
		c.mu.Lock()
		base := c.base
		ready := base != nil && c.service != nil && c.logins != nil
		c.mu.Unlock()
		switch {
		case !ready:
			c.problem(rec, r, http.StatusServiceUnavailable, "Not ready", "The server is starting; load the page again.")
			return
		case !strings.EqualFold(r.Host, base.Host):
			// One name alone: cookies go to every port of a name, and Workers of a sandbox on
			// this machine are under 127.0.0.1.
			c.problem(rec, r, http.StatusMisdirectedRequest, "Wrong address", "The console answers at "+base.String()+PathConsole+" only.")
			return
		}
		if r.Method == http.MethodPost {
			if err := c.fromPage(r); err != nil {
				c.problem(rec, r, http.StatusForbidden, "Not done", err.Error())
				return
			}
			r.Body = http.MaxBytesReader(rec, r.Body, maxConsoleForm)
			if err := r.ParseForm(); err != nil {
				c.problem(rec, r, http.StatusBadRequest, "Not done", "The form could not be read. Go back to the page and try again.")
				return
			}
		}
		next.ServeHTTP(rec, r)
	})
}

const maxConsoleForm = 64 << 10

// fromPage tells whether a browser says that a page of ours sent the form.
func (c *Console) fromPage(r *http.Request) error {
	if c.cross.Check(r) != nil {
		return errors.New("The form came from another site.") //nolint:revive,staticcheck // a sentence on a page
	}
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
		return errors.New("Use a web browser: the request does not say where it comes from.") //nolint:revive,staticcheck // a sentence on a page
	}
	return nil
}

func (c *Console) headers(h http.Header) {
	setHeaders(h)
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+sha256Base64(consoleStyle())+"'; script-src 'sha256-"+sha256Base64(consoleJS)+
		"'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Permissions-Policy", "publickey-credentials-get=(self), publickey-credentials-create=(self)")
}

func consoleStyle() string { return pageCSS + consoleCSS }

func sha256Base64(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// secure tells whether browsers reach us by https.
func (c *Console) secure() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base != nil && c.base.Scheme == "https"
}

// layout is what every page of the console has.
type layout struct {
	Title   string
	Problem string
	Style   template.CSS
	Script  template.JS
	User    *deploy.ConsoleUser
	Form    string // the form token of this login
	Refresh string // an address to go on to, ours
	Body    any
}

// May tells the templates what the human may.
func (l *layout) May(s string) bool { return l.User != nil && l.User.May(deploy.Scope(s)) }

// show writes a page by its template.
func (c *Console) show(w http.ResponseWriter, r *http.Request, status int, name string, l layout) {
	l.Style, l.Script = template.CSS(consoleStyle()), template.JS(consoleJS) //nolint:gosec // our own files
	if in := loginOf(r); in != nil {
		l.User, l.Form = &in.session.User, in.form()
	}
	var b bytes.Buffer
	if err := c.pages.ExecuteTemplate(&b, name, &l); err != nil {
		c.cfg.Logger.Error().Err(err).Msg("a page can't be written")
		http.Error(w, "The page can't be shown.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a browser that is gone needs no page
}

// problem is a page that says why nothing was done.
func (c *Console) problem(w http.ResponseWriter, r *http.Request, status int, title, text string) {
	c.show(w, r, status, "problem", layout{Title: title, Problem: c.cfg.Redactor.Redact(text)})
}

// fail shows a Service's error.
func (c *Console) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := deploy.AsError(err)
	status, title := http.StatusInternalServerError, "Something went wrong"
	switch e.Code {
	case deploy.CodeSessionNotFound:
		status, title = http.StatusNotFound, "Nothing here"
	case deploy.CodeClaimPending:
		status, title = http.StatusConflict, "Not decided yet"
	case deploy.CodeSessionClosed:
		status, title = http.StatusConflict, "Not done"
	case deploy.CodeSessionExpired:
		status, title = http.StatusGone, "Too late"
	case deploy.CodePolicyDenied, deploy.CodeNoApproval:
		status, title = http.StatusForbidden, "Not allowed"
	case deploy.CodeBusy:
		status, title = http.StatusServiceUnavailable, "Busy"
	default:
		c.cfg.Logger.Error().Str("error", c.cfg.Redactor.Redact(err.Error())).Msg("a page failed")
	}
	c.problem(w, r, status, title, e.Message+". "+e.Next)
}
