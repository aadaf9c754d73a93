package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/tailscale/hujson"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/telemetry"
	"github.com/hourglass-mcp/hourglass/internal/tools"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// httpCmd serves MCP to many agents over HTTP.
type httpCmd struct {
	Addr                                string        `help:"Where to listen." default:"127.0.0.1:8900" placeholder:"ADDR"`
	PublicURL                           string        `name:"public-url" help:"The address that clients use when it is another one: a load balancer's." placeholder:"URL"`
	Tokens                              string        `help:"The file of static tokens. Default: tokens.json in the state folder, if it is there." placeholder:"FILE"`
	Issuers                             string        `help:"File (JSONC) of the issuers whose access tokens and CI identities are accepted." placeholder:"FILE"`
	AllowOrigin                         []string      `help:"A web origin whose pages may call; repeatable." placeholder:"URL" sep:"none"`
	SessionIdleTTL                      time.Duration `name:"session-idle-ttl" help:"How long the protocol session of a silent client is kept." default:"30m"`
	StopWait                            time.Duration `help:"How long calls under way may take to settle when the server is told to stop." default:"30s"`
	MaxStreams                          int           `help:"Open event streams of one client." default:"256"`
	MaxCalls                            int           `help:"Calls under way of one client." default:"128"`
	MaxRequests                         float64       `help:"Requests a second of one client; default: no limit." placeholder:"N"`
	MaxRequestsInAll                    float64       `help:"Requests a second of all clients together; default: no limit." placeholder:"N"`
	ConsoleIssuer                       string        `help:"File (JSONC) of the OpenID Connect issuer where humans log in to the console; its client's secret is HOURGLASS_CONSOLE_CLIENT_SECRET." placeholder:"FILE"`
	InsecureListenWithoutAuthentication bool          `help:"Let everybody who reaches the address deploy from here."`
}

// Run serves until the process is told to stop. The first line on stdout tells the
// addresses; nothing else is written there.
func (c *httpCmd) Run(ctx context.Context, o *options, p process) error {
	if !(c.MaxRequests >= 0) || !(c.MaxRequestsInAll >= 0) { //nolint:staticcheck // NaN is neither
		return refuse(errors.New("--max-requests and --max-requests-in-all: above 0, or leave them out"))
	}
	lbl, err := labels(o)
	if err != nil {
		return err
	}
	auth, err := c.auth(o, p)
	if err != nil {
		return refuse(err)
	}
	if percent := gcPercent(p); percent > 0 {
		debug.SetGCPercent(percent) // one process for all, not one for each window
	}
	o.rootsByName = true // an agent on another machine has no folder here
	if o.Approval == approvalAttended {
		return refuse(errors.New("--approval attended is for the machine that the human sits at: over HTTP anybody may be anywhere, so a yes has to be a login (console) or a touch (passkey)"))
	}
	o.console = &consoleOptions{issuer: c.ConsoleIssuer}
	h, err := build(ctx, o, p)
	if err != nil {
		return err
	}
	h.sweeps(ctx)
	return errors.Join(c.serve(ctx, h, o, p, auth, lbl), h.close())
}

func (c *httpCmd) serve(ctx context.Context, h *house, o *options, p process, auth *web.Auth, lbl map[string]string) error {
	watcher, err := h.watch(ctx, o, p, h.readings())
	if err != nil {
		return err
	}
	srv, err := tools.New(tools.Config{
		Service: h.service, Logger: h.log, Version: version, ReadOnly: o.ReadOnly, Observer: watcher,
		Now: now, Caller: web.CallerFrom, ManyCallers: auth != nil,
		StateKey: func() ([]byte, error) { return h.derive("questions to humans") },
	})
	if err != nil {
		return err
	}
	end, err := web.NewEndpoint(web.EndpointConfig{
		MCP: srv, Addr: c.Addr, PublicURL: c.PublicURL, Auth: auth, Local: deploy.Caller{Principal: principal}, Labels: lbl,
		InsecureOpen: c.InsecureListenWithoutAuthentication, NeededScope: tools.NeededScope, AllowOrigins: c.AllowOrigin,
		SessionIdleTTL: c.SessionIdleTTL, StopWait: c.StopWait,
		Limits: web.Limits{StreamsEach: c.MaxStreams, CallsEach: c.MaxCalls, RateEach: c.MaxRequests, Rate: c.MaxRequestsInAll},
		Now:    now, Checks: h.checks(), Metrics: watcher.Metrics(), Trace: telemetry.FromHeaders, Console: h.console,
		Logger: h.log, Redactor: h.redactor,
	})
	if err != nil {
		return refuse(err)
	}
	if err := end.Listen(ctx); err != nil {
		return err
	}
	if c.InsecureListenWithoutAuthentication && auth == nil {
		h.log.Warn().Str("addr", c.Addr).Msg("nobody is asked who they are: everybody who reaches this address deploys from here")
	}
	if err := printJSON(p, map[string]string{"mcp": end.URL(web.PathMCP), "sse": end.URL(web.PathSSE), "console": h.console.Address()}); err != nil {
		return errors.Join(err, end.Close())
	}
	return end.Serve(ctx)
}

// auth reads who is let in; nil: nobody is asked. A file that was named must be there.
func (c *httpCmd) auth(o *options, p process) (*web.Auth, error) {
	cfg := web.AuthConfig{Now: now}
	path, err := tokensPath(c.Tokens, o, p)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err == nil || c.Tokens != "" {
		if err != nil {
			return nil, fmt.Errorf("--tokens %s: %w", c.Tokens, err)
		}
		cfg.Tokens = web.NewTokenFile(path)
		if _, err := cfg.Tokens.List(); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the file of tokens: %w", err)
	}
	if c.Issuers != "" {
		if cfg.Issuers, err = readIssuers(c.Issuers); err != nil {
			return nil, err
		}
	}
	if cfg.Tokens == nil && len(cfg.Issuers) == 0 {
		return nil, nil //nolint:nilnil // nobody is asked
	}
	return web.NewAuth(cfg)
}

// readIssuers reads the settings file of issuers, strictly.
func readIssuers(path string) ([]web.IssuerConfig, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("--issuers: %w", err)
	}
	plain, err := hujson.Standardize(raw)
	if err != nil {
		return nil, fmt.Errorf("--issuers: %s is not JSONC: %w", path, err)
	}
	var content struct {
		Issuers []web.IssuerConfig `json:"issuers"`
	}
	if err := strictJSON(plain, &content); err != nil {
		return nil, fmt.Errorf("--issuers: %s: %w", path, err)
	}
	if len(content.Issuers) == 0 {
		return nil, fmt.Errorf("--issuers: %s names no issuer", path)
	}
	return content.Issuers, nil
}

func strictJSON(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

// tokensPath is the file of tokens that is named, else the one of the state folder.
func tokensPath(named string, o *options, p process) (string, error) {
	if named != "" {
		return filepath.Abs(named)
	}
	dir, err := stateDir(o, p)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "tokens.json"), nil
}
