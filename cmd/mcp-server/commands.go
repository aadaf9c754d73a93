package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/tools"
)

// stdioCmd serves MCP on standard input and output.
type stdioCmd struct{}

// Run serves until the input ends or the process is told to stop.
func (stdioCmd) Run(ctx context.Context, o *options, p process) error {
	if err := mayAsk(o); err != nil {
		return err
	}
	lbl, err := labels(o)
	if err != nil {
		return err
	}
	h, err := build(ctx, o, p)
	if err != nil {
		return err
	}
	watcher, err := h.quietly(ctx, o, p)
	if err != nil {
		return errors.Join(err, h.close())
	}
	caller := deploy.Caller{Principal: principal, Scope: deploy.NewID("stdio"), Labels: lbl, Door: deploy.DoorStdio}
	srv, err := tools.New(tools.Config{
		Now: now, Service: h.service, Logger: h.log, Version: version, ReadOnly: o.ReadOnly, Observer: watcher,
		Caller: func(context.Context) deploy.Caller { return caller },
	})
	if err != nil {
		return errors.Join(err, h.close())
	}
	h.sweeps(ctx)
	return errors.Join(tools.ServeStdio(ctx, srv, p.stdin, h.redactor.Writer(p.stdout), h.log), h.close())
}

// deployCmd does for a script what the tool deploy_temporary does for an agent.
type deployCmd struct {
	Dir            string `arg:"" help:"The project's folder." type:"existingdir"`
	JSON           bool   `name:"json" help:"Print the result as one JSON object."`
	Session        string `help:"Deploy into this session." placeholder:"ID"`
	Fresh          bool   `help:"Use a new account."`
	Name           string `help:"The Worker's name."`
	Entry          string `help:"The main module's path in the folder."`
	Environment    string `help:"The wrangler environment." short:"e"`
	Minify         bool   `help:"Minify."`
	ClaimOut       string `help:"Write what a human needs to keep the account to this file; needs --claim-recipient. It is no secret." placeholder:"FILE"`
	RunID          string `name:"run-id" help:"Recorded with the session."`
	JobID          string `name:"job-id" help:"Recorded with the session."`
	ExpectPath     string `help:"Path to check." placeholder:"PATH"`
	ExpectStatus   int    `help:"Status that the path must answer."`
	ExpectContains string `help:"Text that the answer must contain."`
	Discard        bool   `name:"discard-on-failed-check" help:"Take it down again when the check fails."`
}

// Run deploys once and ends.
func (d *deployCmd) Run(ctx context.Context, o *options, p process) error {
	if o.Platform == "sandbox" && o.APIBaseURL == "" {
		return refuse(errors.New("the sandbox inside this process ends with it: run `mcp-server sandbox` and give its api as --api-base-url"))
	}
	if len(o.Root) == 0 {
		o.Root = []string{d.Dir} // the person who names a folder allows it
	}
	if d.ClaimOut != "" && len(o.ClaimRecipient) == 0 {
		return refuse(errors.New("--claim-out writes a claim link that is sealed to somebody: name their public key with --claim-recipient"))
	}
	if err := mayAsk(o); err != nil {
		return err
	}
	lbl, err := labels(o)
	if err != nil {
		return refuse(err)
	}
	o.brief = true
	h, err := build(ctx, o, p)
	if err != nil {
		return err
	}
	req := deploy.DeployRequest{
		Source: deploy.Source{
			ProjectDir: d.Dir, Entry: d.Entry, Name: d.Name, Environment: d.Environment, Minify: d.Minify,
		},
		SessionID: d.Session, Fresh: d.Fresh, RunID: d.RunID, JobID: d.JobID, DiscardOnFailedCheck: d.Discard,
	}
	if d.ExpectPath != "" || d.ExpectStatus != 0 || d.ExpectContains != "" {
		req.Expect = &deploy.Expect{Path: d.ExpectPath, Status: d.ExpectStatus, BodyContains: d.ExpectContains}
	}
	if !d.JSON {
		req.Progress = func(s deploy.Stage) { fmt.Fprintf(p.stderr, "… %s\n", s) }
	}
	res, err := h.service.Deploy(ctx, cliCaller(lbl), req)
	if err != nil {
		return d.failed(errors.Join(err, h.close()), p)
	}
	var unwritten error // what is live is told all the same
	if d.ClaimOut != "" {
		unwritten = writeClaim(ctx, h, cliCaller(lbl), res.SessionID, d.ClaimOut)
	}
	if err := errors.Join(unwritten, h.close()); err != nil {
		return errors.Join(err, d.show(res, p))
	}
	return d.show(res, p)
}

func cliCaller(lbl map[string]string) deploy.Caller {
	return deploy.Caller{Principal: principal, Scope: "cli", Labels: lbl, Client: "mcp-server deploy", Door: deploy.DoorCommand}
}

func refuse(err error) error { return &exitError{code: exitRefused, cause: err} }

func (d *deployCmd) failed(err error, p process) error {
	e := deploy.AsError(err)
	exit := &exitError{code: exitElse, cause: err}
	if refusedBeforeSpending(e.Code) {
		exit.code = exitRefused
	}
	if d.JSON {
		exit.quiet = true
		return errors.Join(exit, printJSON(p, map[string]any{"error": errorBody(e)}))
	}
	return exit
}

// errorBody is an Error as the tools give it.
func errorBody(e *deploy.Error) map[string]any {
	body := map[string]any{"code": e.Code, "message": e.Message, "next": e.Next}
	if e.RetryAfter > 0 {
		body["retry_after_seconds"] = int(e.RetryAfter.Round(time.Second) / time.Second)
	}
	if len(e.Diagnostics) > 0 {
		body["diagnostics"] = e.Diagnostics
	}
	return body
}

// refusedBeforeSpending tells the refusals (exit code 2) from the failures (1): what
// the caller, or the operator, has to change before the same call can work.
func refusedBeforeSpending(c deploy.Code) bool {
	switch c {
	case deploy.CodeAPIUnreachable, deploy.CodeAPIBadResponse, deploy.CodeRateLimited, deploy.CodeCancelled,
		deploy.CodeTimeout, deploy.CodeStore, deploy.CodeInternal, deploy.CodeBusy, deploy.CodeAccountLost,
		deploy.CodeChallengeFailed:
		return false
	default:
		return true
	}
}

func (d *deployCmd) show(res *deploy.DeployResult, p process) error {
	var exit error
	if res.Serving != deploy.ServingYes || res.Check == nil || !res.Check.OK {
		exit = &exitError{code: exitNotServing, quiet: true, cause: errors.New("uploaded, but not serving as wanted")}
	}
	if d.JSON {
		return errors.Join(exit, printJSON(p, res))
	}
	if res.URL != "" {
		fmt.Fprintf(p.stdout, "%s\n", res.URL)
	}
	state := string(res.Phase)
	if res.Serving == deploy.ServingDeleted {
		state = "taken down, its account " + state
	}
	fmt.Fprintf(p.stderr, "%s is %s, %d minutes left, session %s\n", res.Worker, state, res.MinutesLeft, res.SessionID)
	if c := res.Check; c != nil {
		fmt.Fprintf(p.stderr, "GET %s answered %d in %.1f ms (version %s)\n", c.Path, c.Status, c.LatencyMS, c.Version)
		if c.Error != "" {
			fmt.Fprintf(p.stderr, "  %s %s\n", c.Error, c.At)
		}
	}
	showDiscarded(res.Discarded, p)
	for _, w := range res.Warnings {
		fmt.Fprintf(p.stderr, "warning: %s\n", w)
	}
	return exit
}

// showDiscarded tells what was taken down because the check failed, and what was not.
func showDiscarded(d *deploy.Discarded, p process) {
	if d == nil {
		return
	}
	fmt.Fprintf(p.stderr, "discarded for %s: %s\n", d.By, stringOr(strings.Join(d.Deleted, ", "), "nothing yet"))
	for _, why := range d.NotUndone {
		fmt.Fprintf(p.stderr, "  stays: %s\n", printable(why))
	}
	if d.Earlier != "" {
		fmt.Fprintf(p.stderr, "  what it served before went with it: %s\n", d.Earlier)
	}
}

func printJSON(p process, v any) error {
	enc := json.NewEncoder(p.stdout)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("printing the result: %w", err)
	}
	return nil
}

// statusCmd does for a script what the tool status does for an agent.
type statusCmd struct {
	JSON    bool   `name:"json" help:"Print the result as one JSON object."`
	Session string `help:"Only this session." placeholder:"ID"`
}

// Run prints the state of the sessions of this user. With --session it exits 3 when
// that one does not serve.
func (c *statusCmd) Run(ctx context.Context, o *options, p process) error {
	o.brief = true
	h, err := build(ctx, o, p)
	if err != nil {
		return err
	}
	res, err := h.service.Status(ctx, cliCaller(nil), deploy.StatusRequest{SessionID: c.Session})
	if err = errors.Join(err, h.close()); err != nil {
		return (&deployCmd{JSON: c.JSON}).failed(err, p)
	}
	if c.JSON {
		err = printJSON(p, res)
	} else {
		showStatus(res, p)
	}
	if c.Session != "" && err == nil && !serves(res) {
		err = &exitError{code: exitNotServing, quiet: true, cause: errors.New("not serving")}
	}
	return err
}

func serves(res *deploy.StatusResult) bool {
	for _, s := range res.Sessions {
		for _, d := range s.Deployments {
			if d.Serving != deploy.ServingYes {
				return false
			}
		}
		if len(s.Deployments) == 0 {
			return false
		}
	}
	return len(res.Sessions) > 0
}

func showStatus(res *deploy.StatusResult, p process) {
	if len(res.Sessions) == 0 {
		fmt.Fprintln(p.stdout, "Nothing has been deployed from here yet.")
	}
	for _, s := range res.Sessions {
		fmt.Fprintf(p.stdout, "%s  %s  %d minutes left\n", s.SessionID, s.Phase, s.MinutesLeft)
		for _, d := range s.Deployments {
			fmt.Fprintf(p.stdout, "  %s  %s  serving: %s\n", d.Worker, d.URL, stringOr(d.Serving, "unknown"))
		}
		if s.Claim != "" {
			fmt.Fprintf(p.stdout, "  claim: %s\n", s.Claim)
		}
	}
}

// versionCmd prints the version.
type versionCmd struct{}

// Run prints it.
func (versionCmd) Run(p process) error {
	if _, err := fmt.Fprintln(p.stdout, "mcp-server", buildVersion()); err != nil {
		return fmt.Errorf("printing the version: %w", err)
	}
	return nil
}
