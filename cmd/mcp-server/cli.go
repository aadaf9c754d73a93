package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// process is what a command sees of the world around it.
type process struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) (string, bool)
}

// grammar is the whole command line. Flags win over the environment (HOURGLASS_*),
// which wins over the settings file.
type grammar struct {
	options

	Stdio    stdioCmd    `cmd:"" default:"withargs" help:"Serve MCP on standard input and output (the default)."`
	HTTP     httpCmd     `cmd:"" name:"http" help:"Serve MCP to many agents over HTTP: Streamable HTTP and, older, SSE."`
	Tokens   tokensCmd   `cmd:"" help:"Make, list and revoke the tokens of HTTP clients."`
	Sandbox  sandboxCmd  `cmd:"" help:"Run our own small Cloudflare on loopback, for tests and trying things out."`
	Demo     demoCmd     `cmd:"" help:"Show the main job from end to end on the sandbox."`
	Deploy   deployCmd   `cmd:"" help:"Put a folder live on a temporary account, as the tool deploy_temporary does."`
	Status   statusCmd   `cmd:"" help:"Tell what is live and for how long, as the tool status does."`
	Setup    setupCmd    `cmd:"" help:"Accept the terms and configure a client, in your own terminal."`
	Rules    policyCmd   `cmd:"" name:"policy" help:"Check, test and show policies."`
	Doctor   doctorCmd   `cmd:"" help:"Tell what is missing here and how to get it."`
	Audit    auditCmd    `cmd:"" help:"Read, verify and export the record of acts."`
	Claim    claimCmd    `cmd:"" help:"Keep an account whose claim link is sealed to your key, in your own terminal."`
	ClaimKey claimKeyCmd `cmd:"" name:"claim-key" help:"The key that claim links are sealed to."`
	Version  versionCmd  `cmd:"" help:"Print the version."`

	Revoke       revokeCmd       `cmd:"" help:"Take down what is live: by session, deployment, label, principal, Worker, digest or URL, or everything."`
	Freeze       freezeCmd       `cmd:"" help:"Stop all new deployments from this moment, on every server that shares the store."`
	Unfreeze     unfreezeCmd     `cmd:"" help:"Allow deployments again."`
	Approvals    approvalsCmd    `cmd:"" help:"List and decide what a policy asks a human about."`
	ConsoleLogin consoleLoginCmd `cmd:"" name:"console-login" help:"Print a link that logs a human in to the console of mcp-server http, once."`
	Sessions     sessionsCmd     `cmd:"" help:"List, show and forget sessions, everybody's, in the store."`
}

// options are the settings that every command shares.
type options struct {
	Config           string            `help:"Settings file (JSONC). Default: hourglass.jsonc in the configuration folder, if it is there." placeholder:"FILE"`
	Platform         string            `help:"Where accounts come from: cloudflare, or sandbox (inside this process)." enum:"cloudflare,sandbox" default:"cloudflare"`
	APIBaseURL       string            `name:"api-base-url" help:"Another API in place of Cloudflare's." placeholder:"URL"`
	EdgeURL          string            `name:"edge-url" help:"Where Workers of that API answer when workers.dev can't be reached." placeholder:"URL"`
	StateDir         string            `help:"Where sessions are kept. Default: hourglass under XDG_STATE_HOME." placeholder:"DIR"`
	CacheDir         string            `help:"Where fetched parts are kept. Default: hourglass in the user's cache folder." placeholder:"DIR"`
	Root             []string          `help:"A folder that project_dir may be in; repeatable. Default: the current folder." placeholder:"DIR" sep:"none"`
	Label            map[string]string `help:"Who or what this server works for; repeatable, trusted." placeholder:"K=V" mapsep:"none"`
	AllowFile        []string          `help:"A static file, or a glob, that is deployed although it looks like a secret; repeatable." placeholder:"PATH" sep:"none"`
	AllowSecret      []string          `help:"A variable of this server's environment that a Worker's secret may take its value from; repeatable." placeholder:"NAME" sep:"none"`
	Policy           string            `help:"A policy file (JSONC): rules about who may do what. Default: the built-in one." placeholder:"FILE"`
	ReadOnly         bool              `help:"Allow bundle and status only."`
	AcceptTerms      bool              `help:"Accept Cloudflare's Terms of Service and Privacy Policy for every temporary account made from here."`
	MaxAccounts      int               `help:"How many accounts one caller may make in an hour. Default: as many as the API gives." placeholder:"N"`
	MaxAccountsInAll int               `help:"How many accounts all callers together may make in an hour." placeholder:"N"`

	quota
	logKeeping

	OTLPEndpoint string `name:"otlp-endpoint" help:"Where traces go, by OTLP over HTTP; headers for it in HOURGLASS_OTLP_HEADERS." placeholder:"URL"`

	Webhook   string   `help:"Where people elsewhere are told what waits; signed with HOURGLASS_WEBHOOK_SECRET." placeholder:"URL"`
	KeepAudit []string `help:"How long records of acts are kept: 365d, or deploy=730d for one act, or forever; repeatable. Default: 365d." placeholder:"RULE" sep:"none"`
	// rootsByName: the current folder is no root, only what --root names.
	rootsByName bool `kong:"-"`

	Store         string        `help:"What sessions are kept in: sqlite (in the state folder), or the URL of a PostgreSQL database that several servers share." default:"sqlite" placeholder:"URL"`
	KeyFile       string        `help:"The 32 bytes that secrets are sealed under. Default: key in the state folder, made when it is not there." placeholder:"FILE"`
	KeepArtifacts time.Duration `help:"How long a bundle is kept after its last use." default:"168h" placeholder:"TIME"`
	KeepRecords   time.Duration `help:"How long the record of a session is kept after its last use." default:"2160h" placeholder:"TIME"`

	ClaimRecipient []string `help:"A human's age public key that claim links are sealed to, so that nobody else can open them; repeatable." placeholder:"age1…" sep:"none"`
	Approval       string   `help:"What a human's yes has to be: attended (whoever is at this machine; not over HTTP), console (a login), or passkey (a touch bound to what is kept). Default: console over HTTP, else attended." enum:",attended,console,passkey" default:"" placeholder:"MODE"`
	FourEyes       bool     `help:"Refuse a yes by whoever owns the agent that asked; needs --approval console or passkey."`
	ConsoleURL     string   `name:"console-url" help:"The console of an mcp-server http on the same store, where humans decide about what other commands ask." placeholder:"URL"`
	// console: this process serves the pages where humans decide behind a login; nil: it does not.
	console *consoleOptions `kong:"-"`
	// brief: the command ends at once, so a forwarder of ours would end with it.
	brief bool `kong:"-"`

	LogLevel string `help:"debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
}

// exitError carries an exit code through kong. Its cause was told already when quiet.
type exitError struct {
	code  int
	quiet bool
	cause error
}

func (e *exitError) Error() string { return fmt.Sprintf("exit %d: %v", e.code, e.cause) }
func (e *exitError) Unwrap() error { return e.cause }

// Exit codes of deploy and status; other commands use 0 and 1.
const (
	exitOK         = 0
	exitElse       = 1
	exitRefused    = 2
	exitNotServing = 3
)

// run parses and runs one command and gives the exit code.
func run(ctx context.Context, args []string, p process) int {
	return runWith(ctx, args, p, nil)
}

// runWith shows the options to seen, if it is given, when they are parsed.
func runWith(ctx context.Context, args []string, p process, seen func(*options)) (code int) {
	defer func() {
		if r := recover(); r != nil {
			exit, ours := r.(exitPanic)
			if !ours {
				panic(r)
			}
			code = exit.code
		}
	}()
	k, o, err := understand(ctx, args, p)
	if err == nil {
		code = report(k.Run(), p.stderr)
	} else {
		fmt.Fprintf(p.stderr, "mcp-server: %v\nRun `mcp-server --help` for what there is.\n", err)
		code = exitRefused
	}
	if seen != nil {
		seen(o)
	}
	return code
}

// stdioGrammar is the part of the grammar that a client's server needs: the whole of it
// has thirty commands, which take a sixth of the time until the first answer to lay out.
type stdioGrammar struct {
	options

	Stdio stdioCmd `cmd:"" default:"withargs"`
}

// understand parses the command line. What the small grammar can't parse, be it right or
// wrong, is for the whole one.
func understand(ctx context.Context, args []string, p process) (*kong.Context, *options, error) {
	if perhapsStdio(args) {
		var g stdioGrammar
		if k, err := parse(ctx, &g, &g.options, args, p); err == nil {
			return k, &g.options, nil
		}
	}
	var g grammar
	k, err := parse(ctx, &g, &g.options, args, p)
	return k, &g.options, err
}

// perhapsStdio tells whether it is worth a try with the small grammar.
func perhapsStdio(args []string) bool {
	short := func(a string) bool { return strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") }
	help := func(a string) bool { return short(a) || strings.HasPrefix(a, "--help") }
	return !slices.ContainsFunc(args, help) && (len(args) == 0 || args[0] == "stdio" || strings.HasPrefix(args[0], "--"))
}

// exitPanic leaves kong where it wants to end the process (--help).
type exitPanic struct{ code int }

func parse(ctx context.Context, grammar any, o *options, args []string, p process) (*kong.Context, error) {
	parser, err := kong.New(grammar,
		kong.Name("mcp-server"),
		kong.Description("Hourglass: deploy tools for LLM agents on Cloudflare's temporary accounts."),
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(func(code int) { panic(exitPanic{code}) }),
		kong.DefaultEnvars("HOURGLASS"),
		kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(p),
		kong.Bind(o),
	)
	if err != nil {
		return nil, err
	}
	settings, err := settingsFile(args, p)
	if err == nil && settings != nil {
		err = kong.Resolvers(settings).Apply(parser)
	}
	if err != nil {
		return nil, err
	}
	return parser.Parse(args)
}

// report tells an error on stderr and gives the exit code.
func report(err error, w io.Writer) int {
	if err == nil {
		return exitOK
	}
	exit, ok := errors.AsType[*exitError](err)
	code := exitElse
	if ok {
		code = exit.code
		if exit.quiet {
			return code
		}
		err = exit.cause
	}
	tell(err, w)
	return code
}

// tell prints an error for a person: the sentence, then what to do.
func tell(err error, w io.Writer) {
	e, ok := errors.AsType[*deploy.Error](err)
	if !ok {
		fmt.Fprintln(w, "mcp-server:", err)
		return
	}
	fmt.Fprintf(w, "mcp-server: %s (%s)\n", e.Message, e.Code)
	for _, d := range e.Diagnostics {
		if d.File != "" {
			fmt.Fprintf(w, "  %s:%d:%d: %s\n", d.File, d.Line, d.Column, d.Text)
		} else {
			fmt.Fprintf(w, "  %s\n", d.Text)
		}
	}
	if e.Next != "" {
		fmt.Fprintf(w, "  %s\n", e.Next)
	}
}

// stringOr gives the first that is not empty.
func stringOr(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// foreignCredentials names what is in the environment or on the disk that could act
// on a real account. It is never read: a temporary deployment must not be able to
// land in a real account.
func foreignCredentials(p process) []string {
	var seen []string
	for _, name := range []string{
		"CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY", "CLOUDFLARE_EMAIL", "CLOUDFLARE_ACCOUNT_ID",
		"CF_API_TOKEN", "CF_API_KEY",
	} {
		if v, ok := p.env(name); ok && v != "" {
			seen = append(seen, name)
		}
	}
	home, _ := p.env("HOME")
	config, _ := p.env("XDG_CONFIG_HOME")
	for _, dir := range []string{home + "/.wrangler", stringOr(config, home+"/.config") + "/.wrangler"} {
		if strings.HasPrefix(dir, "/.") {
			continue // no home
		}
		if _, err := os.Stat(dir + "/config/default.toml"); err == nil {
			seen = append(seen, "wrangler's login")
			break
		}
	}
	return seen
}
