package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// sessionsCmd is the operator's look into the store: every principal's sessions. It
// shows no secret, and asks no API.
type sessionsCmd struct {
	List   sessionsListCmd   `cmd:"" help:"List sessions, the newest first."`
	Show   sessionsShowCmd   `cmd:"" help:"Show one session: accounts, deployments, steps, claim."`
	Logs   sessionsLogsCmd   `cmd:"" help:"Show what a session's Workers said while they were alive, where that was kept (--keep-worker-logs)."`
	Forget sessionsForgetCmd `cmd:"" help:"Remove everything that is kept of a session, its secrets too. What is live runs on to its end, and can't be reached any more."`
}

// withStore opens the store for a command and closes it after.
func withStore(ctx context.Context, o *options, p process, f func(*session.Store, *deploy.Redactor) error) error {
	redactor := deploy.NewRedactor()
	store, err := openStore(ctx, o, p, redactor)
	if err != nil {
		return refuse(err)
	}
	return errors.Join(f(store, redactor), store.Close())
}

type sessionsListCmd struct {
	JSON      bool   `name:"json" help:"Print one JSON object."`
	Principal string `help:"Only this caller's." placeholder:"NAME"`
	HasLabel  string `help:"Only those with this trusted label." placeholder:"K=V"`
	Worker    string `help:"Only those that deployed a Worker of this name." placeholder:"NAME"`
	Digest    string `help:"Only those that deployed an artifact of this digest." placeholder:"SHA256"`
	Live      bool   `help:"Only those whose account is in use."`
	Limit     int    `help:"At most so many." default:"100"`
}

// Run prints the list.
func (c *sessionsListCmd) Run(ctx context.Context, o *options, p process) error {
	if c.HasLabel != "" && !strings.Contains(c.HasLabel, "=") {
		return refuse(errors.New("--has-label: a label is key=value"))
	}
	return withStore(ctx, o, p, func(store *session.Store, _ *deploy.Redactor) error {
		found, err := store.SessionsWhere(ctx, deploy.SessionFilter{
			Principal: c.Principal, Label: c.HasLabel, Worker: c.Worker, Digest: c.Digest, Live: c.Live, Limit: c.Limit,
		})
		if err != nil {
			return err
		}
		rows := make([]sessionRow, 0, len(found))
		for _, s := range found {
			row, err := rowOf(ctx, store, s)
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		if c.JSON {
			return printJSON(p, map[string]any{"sessions": rows})
		}
		return listSessions(p.stdout, rows)
	})
}

// sessionRow is a session in the list.
type sessionRow struct {
	SessionID   string            `json:"session_id"`
	Principal   string            `json:"principal"`
	RunID       string            `json:"run_id,omitempty"`
	JobID       string            `json:"job_id,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Client      string            `json:"client,omitempty"`
	CreatedAt   time.Time         `json:"created_at"`
	UpdatedAt   time.Time         `json:"updated_at"`
	Phase       string            `json:"phase"` // "none": it has no account
	MinutesLeft int               `json:"minutes_left"`
	Workers     []string          `json:"workers"`
}

func rowOf(ctx context.Context, store *session.Store, s deploy.Session) (sessionRow, error) {
	row := sessionRow{
		SessionID: s.ID, Principal: s.Principal, RunID: s.RunID, JobID: s.JobID, Labels: s.Labels, Client: s.Client,
		CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt, Phase: "none", Workers: []string{},
	}
	accounts, err := store.Accounts(ctx, s.ID)
	if err != nil {
		return row, err
	}
	if len(accounts) > 0 {
		a := &accounts[0]
		now := now().Add(a.Skew)
		row.Phase = string(a.Phase(now))
		if a.State == deploy.AccountCurrent {
			row.MinutesLeft = max(0, int(a.ExpiresAt.Sub(now)/time.Minute))
		}
	}
	deps, err := store.Deployments(ctx, s.ID)
	for _, d := range deps {
		if !slices.Contains(row.Workers, d.Worker) {
			row.Workers = append(row.Workers, d.Worker)
		}
	}
	return row, err
}

func listSessions(w io.Writer, rows []sessionRow) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "No session is kept that this is true of.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SESSION\tPRINCIPAL\tCREATED\tPHASE\tLEFT\tWORKERS\tRUN\tLABELS")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d min\t%s\t%s\t%s\n", r.SessionID, printable(r.Principal), r.CreatedAt.Format(time.RFC3339),
			r.Phase, r.MinutesLeft, printable(strings.Join(r.Workers, ",")), printable(r.RunID), printable(labelText(r.Labels)))
	}
	return t.Flush()
}

func labelText(labels map[string]string) string {
	out := make([]string, 0, len(labels))
	for k, v := range labels {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

type sessionsShowCmd struct {
	ID   string `arg:"" help:"The session."`
	JSON bool   `name:"json" help:"Print one JSON object."`
}

// sessionView is everything that is kept of a session but its secrets.
type sessionView struct {
	sessionRow
	Accounts    []accountView    `json:"accounts"`
	Deployments []deploymentView `json:"deployments"`
	Steps       []stepView       `json:"steps"`
	Claim       *claimView       `json:"claim,omitempty"`
	// Foreign is what was seen on its accounts that was not made from here.
	Foreign []deploy.ForeignChange `json:"foreign,omitempty"`
	// Logs is how much was kept of what its Workers said; `sessions logs` shows it.
	Logs *deploy.LogTally `json:"worker_logs,omitempty"`
}

type accountView struct {
	AccountID string    `json:"account_id"`
	Name      string    `json:"name"`
	Target    string    `json:"target"`
	State     string    `json:"state"` // "current", or why it is not used any more
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	// Secrets tells whether its token and its claim link are still kept, sealed.
	Secrets bool `json:"secrets_kept"`
}

type deploymentView struct {
	DeploymentID string    `json:"deployment_id"`
	AccountID    string    `json:"account_id"`
	Worker       string    `json:"worker"`
	URL          string    `json:"url"`
	VersionID    string    `json:"version_id"`
	BundleID     string    `json:"bundle_id"`
	Digest       string    `json:"digest"`
	Serving      string    `json:"serving"`
	CreatedAt    time.Time `json:"created_at"`
}

type stepView struct {
	StepID    string    `json:"step_id"`
	Kind      string    `json:"kind"`
	What      string    `json:"what"`
	State     string    `json:"state"`
	Ref       string    `json:"ref,omitempty"`
	Note      string    `json:"note,omitempty"`
	BegunAt   time.Time `json:"begun_at"`
	SettledAt time.Time `json:"settled_at,omitzero"`
}

type claimView struct {
	ClaimID   string    `json:"claim_id"`
	AccountID string    `json:"account_id"`
	State     string    `json:"state"`
	AskedAt   time.Time `json:"asked_at"`
	ExpiresAt time.Time `json:"expires_at"`
	DecidedAt time.Time `json:"decided_at,omitzero"`
	DecidedBy string    `json:"decided_by,omitempty"`
	Channel   string    `json:"channel,omitempty"`
	Evidence  string    `json:"evidence,omitempty"`
	// Custody says who can open the claim link: "sealed to KEY", or "attended".
	Custody string `json:"custody,omitempty"`
}

// Run prints the session.
func (c *sessionsShowCmd) Run(ctx context.Context, o *options, p process) error {
	return withStore(ctx, o, p, func(store *session.Store, redactor *deploy.Redactor) error {
		v, err := viewOf(ctx, store, redactor, c.ID)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(p, v)
		}
		return v.print(p.stdout)
	})
}

func viewOf(ctx context.Context, store *session.Store, redactor *deploy.Redactor, id string) (*sessionView, error) {
	s, err := store.SessionByID(ctx, id)
	if err != nil {
		return nil, err
	}
	row, err := rowOf(ctx, store, *s)
	if err != nil {
		return nil, err
	}
	v := &sessionView{sessionRow: row, Accounts: []accountView{}, Deployments: []deploymentView{}, Steps: []stepView{}}
	accounts, err := store.Accounts(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, a := range accounts {
		redactor.Add(a.Token.Reveal())
		redactor.Add(a.ClaimURL.Reveal())
		state := stringOr(string(a.State), "current")
		v.Accounts = append(v.Accounts, accountView{a.ID, a.Name, a.Target, state, a.CreatedAt, a.ExpiresAt, !a.Token.Empty() || !a.ClaimURL.Empty()})
	}
	deps, err := store.Deployments(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, d := range deps {
		v.Deployments = append(v.Deployments, deploymentView{d.ID, d.AccountID, d.Worker, d.URL, d.VersionID, d.BundleID, d.Digest, d.Serving, d.CreatedAt})
	}
	steps, err := store.Steps(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, st := range steps {
		v.Steps = append(v.Steps, stepView{st.ID, string(st.Kind), redactor.Redact(st.What), string(st.State), redactor.Redact(st.Ref), redactor.Redact(st.Note), st.BegunAt, st.SettledAt})
	}
	claim, err := store.Claim(ctx, id)
	if err == nil && claim != nil {
		v.Claim = &claimView{
			claim.ID, claim.AccountID, string(claim.StateAt(now())), claim.AskedAt, claim.ExpiresAt, claim.DecidedAt,
			claim.DecidedBy, claim.Channel, claim.Evidence, claim.Custody,
		}
	}
	if err != nil {
		return nil, err
	}
	if v.Foreign, err = store.Foreign(ctx, id); err != nil {
		return nil, err
	}
	tally, err := store.LogTally(ctx, id)
	if tally != (deploy.LogTally{}) {
		v.Logs = &tally
	}
	return v, err
}

func (v *sessionView) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "session\t%s\nprincipal\t%s\ncreated\t%s\nlast used\t%s\n", v.SessionID, printable(v.Principal), v.CreatedAt.Format(time.RFC3339), v.UpdatedAt.Format(time.RFC3339))
	for _, f := range [][2]string{{"client", v.Client}, {"run", v.RunID}, {"job", v.JobID}, {"labels", labelText(v.Labels)}} {
		if f[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", f[0], printable(f[1]))
		}
	}
	fmt.Fprintf(t, "phase\t%s, %d minutes left\n", v.Phase, v.MinutesLeft)
	if v.Claim != nil {
		fmt.Fprintf(t, "claim\t%s, asked %s, %s\n", v.Claim.State, v.Claim.AskedAt.Format(time.RFC3339), v.Claim.Custody)
		for _, f := range [][2]string{{"decided by", v.Claim.DecidedBy}, {"known by", v.Claim.Evidence}} {
			if f[1] != "" {
				fmt.Fprintf(t, "%s\t%s\n", f[0], printable(f[1]))
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, a := range v.Accounts {
		kept := "secrets wiped"
		if a.Secrets {
			kept = "secrets kept, sealed"
		}
		fmt.Fprintf(t, "account\t%s\t%s\tuntil %s\t%s\t%s\n", printable(a.Name), a.State, a.ExpiresAt.Format(time.RFC3339), kept, printable(a.Target))
	}
	for _, d := range v.Deployments {
		fmt.Fprintf(t, "deployed\t%s\tserving: %s\tat %s\t%s\t%s\n", printable(d.Worker), stringOr(printable(d.Serving), "unknown"), d.CreatedAt.Format(time.RFC3339), printable(d.URL), printable(d.BundleID))
	}
	for _, f := range v.Foreign {
		fmt.Fprintf(t, "foreign\t%s\t%s\tseen %s\t%s\t\n", printable(f.Worker), f.Sentence(), f.SeenAt.Format(time.RFC3339), printable(f.VersionID))
	}
	if v.Logs != nil {
		fmt.Fprintf(t, "logs\t%d lines\t%d more had no room\tsee mcp-server sessions logs %s\t\t\n", v.Logs.Lines, v.Logs.Dropped, v.SessionID)
	}
	for _, st := range v.Steps {
		fmt.Fprintf(t, "step\t%s %s\t%s\tat %s\t%s\t%s\n", st.Kind, printable(st.What), st.State, st.BegunAt.Format(time.RFC3339), printable(st.Ref), printable(st.Note))
	}
	return t.Flush()
}

type sessionsForgetCmd struct {
	ID   string `arg:"" help:"The session."`
	Yes  bool   `help:"Do not ask."`
	JSON bool   `name:"json" help:"Print one JSON object."`
}

// Run removes the session. It asks a person first; without a terminal it wants --yes.
func (c *sessionsForgetCmd) Run(ctx context.Context, o *options, p process) error {
	return withStore(ctx, o, p, func(store *session.Store, redactor *deploy.Redactor) error {
		v, err := viewOf(ctx, store, redactor, c.ID)
		if err != nil {
			return err
		}
		if !c.Yes {
			if err := c.confirm(v, p); err != nil {
				return err
			}
		}
		if err := store.ForgetSession(ctx, c.ID); err != nil {
			return err
		}
		if c.JSON {
			return printJSON(p, map[string]any{"forgotten": c.ID})
		}
		_, err = fmt.Fprintf(p.stdout, "Everything that was kept of %s is gone.\n", c.ID)
		return err
	})
}

func (c *sessionsForgetCmd) confirm(v *sessionView, p process) error {
	in, ok := p.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return refuse(errors.New("forgetting can't be undone; nobody can be asked here, so give --yes"))
	}
	if err := v.print(p.stderr); err != nil {
		return err
	}
	ask := &asker{in: bufio.NewReader(p.stdin), p: p}
	yes, err := ask.yes("Forget all of this? What is live runs on to its end, and can't be reached, kept or taken down from here any more.")
	if err == nil && !yes {
		err = refuse(errors.New("nothing was forgotten"))
	}
	return err
}
