package web

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// page is what the template shows.
type page struct {
	Title   string
	Problem string // an error page: this sentence alone
	Style   template.CSS

	Token, Digest string
	Browser       string // the mark that a yes given on this page is bound to; of each page another
	State         deploy.ClaimState
	Mine          bool // this browser said yes and may go on
	Late          bool // somebody else decided first
	Refresh       bool
	Account       string
	Subdomain     string
	Until         string
	Left          string
	Foreign       []foreignRow
	Workers       int
	Items         []item // everything that would be kept
	Custody       string // who can open the claim link
	Sealed        bool   // no page leads on to it
	Session       string
	TokenNote     string
	CanSay        bool   // this human may say how it ended
	Approved      bool   // somebody said yes, whatever became of it
	Evidence      string // how the state is known
	Asker         []fact
	Message       string
	AskedAt       string
}

type worker struct {
	Name, URL, Digest, Version, Deployed, Serving string
	Link                                          bool // the address may be a link
}

// foreignRow is something on the account that was not made from here.
type foreignRow struct{ Worker, Version, What, Seen string }

// fact is one thing known of who asked; Claimed is what the agent says of itself.
type fact struct {
	Name, Value string
	Claimed     bool
}

func newPage(v *deploy.ClaimView, token string) *page {
	p := &page{
		Title: titleOf(v.State), Token: token, Digest: v.Claim.Digest, State: v.State,
		Account: label(v.Account.Name), Subdomain: label(v.Account.Subdomain),
		Until: v.Claim.ExpiresAt.UTC().Format("15:04 UTC"), Left: minutes(v.Left),
		Message: clean(v.Claim.Message), AskedAt: v.Claim.AskedAt.UTC().Format("2006-01-02 15:04 UTC"),
		Workers: len(v.Estate.Deployments), Items: itemsOf(&v.Estate), Custody: label(v.Claim.Custody), Sealed: v.Sealed, Session: label(v.Session.ID),
		TokenNote: deploy.TokenNote, Approved: approved(v), Evidence: label(v.Claim.Evidence),
	}
	for _, f := range v.Estate.Foreign {
		p.Foreign = append(p.Foreign, foreignRow{label(f.Worker), label(f.VersionID), f.Sentence(), f.SeenAt.UTC().Format("15:04 UTC")})
	}
	add := func(name, value string, claimed bool) {
		if value != "" {
			p.Asker = append(p.Asker, fact{name, label(value), claimed})
		}
	}
	add("Session", v.Session.ID, false)
	for _, k := range slices.Sorted(maps.Keys(v.Session.Labels)) {
		add(label(k), v.Session.Labels[k], false)
	}
	add("Program", v.Session.Client, true)
	add("Run", v.Session.RunID, true)
	add("Job", v.Session.JobID, true)
	return p
}

// approved tells whether somebody said yes, whatever became of it.
func approved(v *deploy.ClaimView) bool {
	c := v.Claim
	c.State = v.State
	return c.Approved()
}

func titleOf(s deploy.ClaimState) string {
	switch s {
	case deploy.ClaimAwaiting:
		return "Keep this temporary account?"
	case deploy.ClaimApproved, deploy.ClaimOpened, deploy.ClaimProbablyAdopted, deploy.ClaimAdopted:
		return "You said yes"
	case deploy.ClaimRefused:
		return "You said no"
	case deploy.ClaimWithdrawn:
		return "Taken back"
	case deploy.ClaimLapsed:
	}
	return "Too late"
}

func minutes(d time.Duration) string {
	switch n := int(d / time.Minute); {
	case d <= 0:
		return "no time"
	case n < 1:
		return "less than a minute"
	case n == 1:
		return "1 minute"
	default:
		return fmt.Sprintf("%d minutes", n)
	}
}

// label makes a stranger's text one short printable line.
func label(s string) string {
	r := []rune(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, "\uFFFD")))
	if len(r) > 200 {
		return string(r[:200]) + "…"
	}
	return string(r)
}

// clean drops from a stranger's text what could reorder or hide the words around it.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) || unicode.Is(unicode.Zs, r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

func (p *claimPages) render(w http.ResponseWriter, status int, data *page) {
	data.Style = template.CSS(pageCSS) //nolint:gosec // our own file
	tmpl, err := template.New("page").Parse(estateHTML + pageHTML)
	var b strings.Builder
	if err == nil {
		err = tmpl.Execute(&b, data)
	}
	if err != nil {
		p.s.cfg.Logger.Error().Err(err).Msg("a page can't be written")
		http.Error(w, "The page can't be shown.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(b.String())) // a browser that is gone needs no page
}

// problem is a page that says why there is nothing to decide.
func (p *claimPages) problem(w http.ResponseWriter, status int, title, text string) {
	p.render(w, status, &page{Title: title, Problem: p.s.cfg.Redactor.Redact(text)})
}

func (p *claimPages) notFound(w http.ResponseWriter) {
	p.problem(w, http.StatusNotFound, "Nothing here", "There is no request under this address. Ask the agent for the address again.")
}

// fail shows a Service's error.
func (p *claimPages) fail(w http.ResponseWriter, err error) {
	e := deploy.AsError(err)
	switch e.Code {
	case deploy.CodeSessionNotFound:
		p.notFound(w)
	case deploy.CodeClaimPending:
		p.problem(w, http.StatusConflict, "Not decided yet", "Nobody has said yes on this page yet.")
	case deploy.CodeSessionClosed:
		p.problem(w, http.StatusForbidden, "Decided in another browser", "The yes was given in another browser; only that one is led on to Cloudflare.")
	case deploy.CodeNoApproval, deploy.CodePolicyDenied:
		p.problem(w, http.StatusForbidden, "Not decided here", e.Message+". "+e.Next)
	case deploy.CodeSessionExpired:
		p.problem(w, http.StatusGone, "Too late", "The account's hour is over, and with it everything on it.")
	default:
		p.s.cfg.Logger.Error().Str("error", p.s.cfg.Redactor.Redact(err.Error())).Msg("a page failed")
		p.problem(w, http.StatusInternalServerError, "Something went wrong", e.Message)
	}
}

// styleHash is the CSP's hash of the page's style.
func styleHash() string {
	sum := sha256.Sum256([]byte(pageCSS))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	wrote  bool
}

// WriteHeader notes the status.
func (r *recorder) WriteHeader(status int) {
	r.status, r.wrote = status, true
	r.ResponseWriter.WriteHeader(status)
}

// Write notes that something was written.
func (r *recorder) Write(b []byte) (int, error) {
	r.wrote = true
	return r.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
