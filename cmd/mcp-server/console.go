package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/tailscale/hujson"

	"github.com/hourglass-mcp/hourglass/internal/audit"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// consoleOptions are those of the console that this process serves.
type consoleOptions struct{ issuer string } // a file

// openConsole makes the console, and has the Service ask humans there. The attended page
// is not served then: an agent would get an address that decides without a login.
func (h *house) openConsole(o *options, p process, cfg *deploy.Config) error {
	issuer, err := consoleIssuer(o.console.issuer, p)
	if err != nil {
		return refuse(err)
	}
	h.console, err = web.NewConsole(web.ConsoleConfig{Passkeys: o.Approval == approvalPasskey, OIDC: issuer, Logger: h.log, Redactor: h.redactor, Now: now})
	if err != nil {
		return refuse(err)
	}
	cfg.Pages, cfg.ClaimLink, cfg.ApprovalLink = h.console, h.console.ClaimURL, h.console.ApprovalURL
	return nil
}

// consoleIssuer reads the file of the issuer where humans log in; nil: none is named.
func consoleIssuer(path string, p process) (*web.OIDCConfig, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // none is none
	}
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("--console-issuer: %w", err)
	}
	plain, err := hujson.Standardize(raw)
	if err != nil {
		return nil, fmt.Errorf("--console-issuer: %s is not JSONC: %w", path, err)
	}
	var c web.OIDCConfig
	if err := strictJSON(plain, &c); err != nil {
		return nil, fmt.Errorf("--console-issuer: %s: %w", path, err)
	}
	c.ClientSecret, _ = p.env("HOURGLASS_CONSOLE_CLIENT_SECRET")
	return &c, nil
}

// recordShelf shows the console the log.
type recordShelf struct{ log *audit.Log }

// Records implements web.Records.
func (s recordShelf) Records(ctx context.Context, f web.RecordFilter) ([]web.Recorded, error) {
	found, err := s.log.List(ctx, audit.Filter{
		Principal: f.Principal, Session: f.Session, Act: f.Act, Outcome: f.Outcome, Worker: f.Worker, Digest: f.Digest, Newest: true, Limit: f.Limit,
	})
	if err != nil {
		return nil, err
	}
	out := make([]web.Recorded, 0, len(found))
	for _, e := range found {
		out = append(out, web.Recorded{Index: e.Index, Event: e.Event, Pruned: e.Body == nil})
	}
	return out, nil
}

// consoleLoginCmd is how an operator lets a human in.
type consoleLoginCmd struct {
	Name      string   `help:"The human, for the record." required:"" placeholder:"NAME"`
	Scope     []string `help:"approve, operate, or both." default:"approve" placeholder:"SCOPE"`
	Owner     string   `help:"Whose agents are theirs, for --four-eyes: the label owner, or the caller, of their sessions. Default: the name." placeholder:"NAME"`
	PublicURL string   `name:"public-url" help:"The address of mcp-server http, as browsers reach it." default:"http://localhost:8900" placeholder:"URL"`
	JSON      bool     `name:"json" help:"Print one JSON object."`
}

// Run prints the link. Whoever opens it first is that human, for 10 minutes.
func (c *consoleLoginCmd) Run(ctx context.Context, o *options, p process) error {
	who := deploy.ConsoleUser{ID: "link:" + c.Name, Name: c.Name, Owner: cmp.Or(c.Owner, c.Name)}
	for _, s := range c.Scope {
		who.Scopes = append(who.Scopes, deploy.Scope(s))
	}
	if err := web.CheckConsoleUser(who); err != nil {
		return refuse(err)
	}
	if !strings.HasPrefix(c.PublicURL, "https://") && !strings.HasPrefix(c.PublicURL, "http://") {
		return refuse(fmt.Errorf("--public-url %q is not an http or https address", c.PublicURL))
	}
	o.brief = true
	h, err := build(ctx, o, p)
	if err != nil {
		return err
	}
	logins, ok := h.store.(deploy.Logins)
	if !ok {
		return errors.Join(errors.New("this store keeps no logins"), h.close())
	}
	err = h.service.NoteAccess(ctx, deploy.Access{Kind: deploy.NoticeLoginLink, User: who, How: deploy.AccessLink, By: operator().Principal})
	if err != nil { // a link that can't be recorded is not printed
		return errors.Join(err, h.close())
	}
	link, err := web.NewLoginLink(ctx, logins, strings.TrimRight(c.PublicURL, "/")+web.PathConsole, who, now())
	if err = errors.Join(err, h.close()); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(p, map[string]any{"url": link, "name": who.Name, "owner": who.Owner, "scopes": who.Scopes})
	}
	fmt.Fprintf(p.stderr, "Good once, for 10 minutes, for %s (%s):\n", printable(who.Name), join(who.Scopes))
	_, err = fmt.Fprintln(p.stdout, link)
	return err
}
