package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// operator is who runs an operator's command, for the record.
func operator() deploy.Caller {
	name := "operator"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = "operator:" + u.Username
	}
	return deploy.Caller{Principal: name, Door: deploy.DoorCommand, Client: "mcp-server"}
}

// confirmed asks at the terminal; without one, --yes stands for it.
func confirmed(yes bool, question string, p process) error {
	if yes {
		return nil
	}
	in, ok := p.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return refuse(errors.New("this is not a terminal: say --yes if it is meant"))
	}
	fmt.Fprint(p.stderr, question+" Type yes: ")
	answer := make([]byte, 16)
	n, err := in.Read(answer)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(string(answer[:n])) != "yes" {
		return refuse(errors.New("nothing was done"))
	}
	return nil
}

// revokeCmd takes down what is live.
type revokeCmd struct {
	Session    string `help:"This session." placeholder:"ID"`
	Deployment string `help:"The Worker of this deployment alone; its session goes on." placeholder:"ID"`
	Principal  string `help:"Every session of this caller." placeholder:"NAME"`
	Labelled   string `help:"Every session with this trusted label." placeholder:"K=V" aliases:"with-label"`
	Worker     string `help:"Every session that deployed this Worker." placeholder:"NAME"`
	Digest     string `help:"Every session that deployed this artifact." placeholder:"SHA256"`
	URL        string `name:"url" help:"The session whose Worker answers there." placeholder:"URL"`
	All        bool   `help:"Everything."`
	Reason     string `help:"For the record." placeholder:"TEXT"`
	Yes        bool   `help:"Don't ask."`
	JSON       bool   `name:"json" help:"Print one JSON object."`
}

func (c *revokeCmd) filter() (deploy.SessionFilter, error) {
	f := deploy.SessionFilter{ID: c.Session, Deployment: c.Deployment, Principal: c.Principal, Label: c.Labelled, Worker: c.Worker, Digest: c.Digest}
	if c.Labelled != "" && !strings.Contains(c.Labelled, "=") {
		return f, errors.New("--labelled is a label with its value: key=value")
	}
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		if err != nil || u.Hostname() == "" {
			return f, fmt.Errorf("--url %q is not an address", c.URL)
		}
		f.Host, f.URL = u.Hostname(), u.Scheme+"://"+u.Host
	}
	if named := f != (deploy.SessionFilter{}); named == c.All {
		return f, errors.New("say what goes: --session, --deployment, --principal, --label, --worker, --digest or --url, or --all alone")
	}
	f.Live = c.All // what has nothing up needs no taking down
	return f, nil
}

// named takes the label of this command line for the one that is meant: --label is every
// command's flag for the server's own labels, and here it says what goes. One from the
// environment or the settings file says nothing of the kind.
func (c *revokeCmd) named(k *kong.Context, o *options) error {
	here := slices.ContainsFunc(k.Path, func(e *kong.Path) bool { return e.Flag != nil && e.Flag.Name == "label" && !e.Resolved })
	if !here {
		return nil
	}
	if len(o.Label) != 1 || c.Labelled != "" {
		return errors.New("name one label")
	}
	for key, value := range o.Label {
		c.Labelled = key + "=" + value
	}
	return nil
}

// Run takes down everything that the flags name. It exits 3 when something stays up.
func (c *revokeCmd) Run(ctx context.Context, k *kong.Context, o *options, p process) error {
	if err := c.named(k, o); err != nil {
		return refuse(err)
	}
	f, err := c.filter()
	if err != nil {
		return refuse(err)
	}
	o.brief = true
	h, err := build(ctx, o, p)
	if err != nil {
		return err
	}
	return errors.Join(c.revoke(ctx, h, f, p), h.close())
}

func (c *revokeCmd) revoke(ctx context.Context, h *house, f deploy.SessionFilter, p process) error {
	found, err := h.service.Overview(ctx, f)
	if err != nil {
		return err
	}
	question := fmt.Sprintf("%d sessions are taken down, with all that is live of them.", len(found))
	if c.Deployment != "" {
		question = fmt.Sprintf("The Worker of the deployment %s is taken down, in %d sessions.", c.Deployment, len(found))
	}
	if err := confirmed(c.Yes, question, p); err != nil {
		return err
	}
	results, err := h.service.Revoke(ctx, operator(), f, c.Reason)
	if err != nil {
		return err
	}
	standing := 0
	for _, r := range results {
		if c.stands(&r) {
			standing++
		}
	}
	if c.JSON {
		err = printJSON(p, map[string]any{"revoked": results, "standing": standing})
	} else {
		err = showRevoked(results, p)
	}
	if err == nil && standing > 0 {
		err = &exitError{code: exitNotServing, cause: fmt.Errorf("%d of %d sessions could not be taken down completely: run it again", standing, len(results))}
	}
	return err
}

// stands tells whether something is still up of what was to go.
func (c *revokeCmd) stands(r *deploy.RevokeResult) bool {
	switch {
	case r.Error != "" || r.Result == nil:
		return true
	case c.Deployment != "": // its session stays open
		return len(r.Result.NotUndone) > 0
	}
	return !r.Result.Closed
}

func showRevoked(results []deploy.RevokeResult, p process) error {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, r := range results {
		what := r.Error
		if r.Result != nil {
			what = "deleted " + strings.Join(r.Result.Deleted, ", ")
			if len(r.Result.NotUndone) > 0 {
				what += "; stays: " + strings.Join(r.Result.NotUndone, " ")
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.SessionID, printable(r.Principal), printable(what))
	}
	fmt.Fprintf(w, "%d sessions\n", len(results))
	return w.Flush()
}

// freezeCmd stops all deployments.
type freezeCmd struct {
	Reason string `help:"What agents are told." placeholder:"TEXT"`
}

// Run stops them on every server that shares the store.
func (c *freezeCmd) Run(ctx context.Context, o *options, p process) error {
	return setFreeze(ctx, o, p, true, c.Reason, "deployments are stopped")
}

// unfreezeCmd allows deployments again.
type unfreezeCmd struct{}

// Run allows them again.
func (unfreezeCmd) Run(ctx context.Context, o *options, p process) error {
	return setFreeze(ctx, o, p, false, "", "deployments are allowed")
}

func setFreeze(ctx context.Context, o *options, p process, frozen bool, reason, done string) error {
	o.brief = true
	h, err := build(ctx, o, p)
	if err != nil {
		return err
	}
	if err = h.service.SetFreeze(ctx, frozen, operator().Principal, reason); err == nil {
		fmt.Fprintln(p.stdout, done)
	}
	return errors.Join(err, h.close())
}
