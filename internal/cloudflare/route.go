package cloudflare

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"

	"github.com/cloudflare/cloudflare-go/v7/option"
	"github.com/cloudflare/cloudflare-go/v7/workers"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// scriptAPIDate is the date of the API's behaviour that wrangler asks for in this call
// (section 5.1, step 17): without it, previews_enabled is switched along.
const scriptAPIDate = "2025-08-01"

// EnableRoute makes the Worker answer on workers.dev and gives the host it will be
// at. On the live API a new route still answers 404 for 12 to 15 seconds after this.
// Doing it twice is no harm.
func (c *Client) EnableRoute(ctx context.Context, acct *deploy.Account, worker string) (string, error) {
	if err := checkAccount(acct); err != nil {
		return "", err
	}
	if err := checkWorker(worker); err != nil {
		return "", err
	}
	var (
		group     sync.WaitGroup
		subdomain string
		asked     error
	)
	// Neither call needs the other's answer.
	group.Go(func() { subdomain, asked = c.subdomain(ctx, acct) })
	enabled := act(ctx, c, deploy.StepEnableRoute, worker, func() error { return c.enable(ctx, acct, worker) })
	group.Wait()
	switch {
	case enabled != nil:
		return "", enabled
	case asked != nil:
		if subdomain = slug(acct.Name); subdomain == "" || !denied(asked) {
			return "", asked
		}
	}
	return worker + "." + subdomain + ".workers.dev", nil
}

// denied tells whether the API knows the account's name and won't say it: wrangler
// tolerates a 10000 to this question, so some tokens may not ask it.
func denied(err error) bool {
	return deploy.IsCode(err, deploy.CodeAccountLost) || deploy.IsCode(err, deploy.CodeAPIRefused)
}

// slug guesses the workers.dev name from the account's, as the live API was seen to
// make it (section 3.3): "Ethereal Composer" is at ethereal-composer. "" if it can't be.
func slug(name string) string {
	if s := strings.Join(strings.Fields(strings.ToLower(name)), "-"); isLabel(s) {
		return s
	}
	return ""
}

func (c *Client) enable(ctx context.Context, acct *deploy.Account, worker string) error {
	const doing = "making the Worker answer on workers.dev"
	result, err := c.call(ctx, try{doing: doing, timeout: c.cfg.Timeout, repeat: true}, func(ctx context.Context, opts ...option.RequestOption) error {
		params := workers.ScriptSubdomainNewParams{}
		params.AccountID.Value, params.AccountID.Present = acct.ID, true
		opts = append(opts,
			option.WithHeader("Cloudflare-Workers-Script-Api-Date", scriptAPIDate),
			option.WithRequestBody("application/json", bytes.NewReader([]byte(`{"enabled":true}`))))
		_, err := workers.NewScriptSubdomainService(c.with(acct)...).New(ctx, worker, params, opts...)
		return err
	})
	if err != nil {
		return err
	}
	var out struct {
		Enabled *bool `json:"enabled"`
	}
	if json.Unmarshal(result, &out) != nil || out.Enabled == nil {
		return missing(doing, "enabled")
	}
	if !*out.Enabled {
		return deploy.Errorf(deploy.CodeAPIRefused, nextUser, "%s failed: the API says that it stays off", doing)
	}
	return nil
}

// subdomain is the account's name under workers.dev: as the account has it, as the
// API said it before, else as it says now.
func (c *Client) subdomain(ctx context.Context, acct *deploy.Account) (string, error) {
	if isLabel(acct.Subdomain) {
		return acct.Subdomain, nil
	}
	c.mu.Lock()
	known := c.subdomains[acct.ID]
	c.mu.Unlock()
	if known != "" {
		return known, nil
	}
	return c.askSubdomain(ctx, acct)
}

func (c *Client) askSubdomain(ctx context.Context, acct *deploy.Account) (string, error) {
	const doing = "asking for the account's workers.dev name"
	result, err := c.call(ctx, try{doing: doing, timeout: c.cfg.Timeout, repeat: true}, func(ctx context.Context, opts ...option.RequestOption) error {
		params := workers.SubdomainGetParams{}
		params.AccountID.Value, params.AccountID.Present = acct.ID, true
		_, err := workers.NewSubdomainService(c.with(acct)...).Get(ctx, params, opts...)
		return err
	})
	if err != nil {
		return "", err
	}
	var out struct {
		Subdomain string `json:"subdomain"`
	}
	if json.Unmarshal(result, &out) != nil || !isLabel(out.Subdomain) {
		return "", missing(doing, "subdomain")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	const enough = 1024 // accounts live for an hour
	if len(c.subdomains) >= enough {
		clear(c.subdomains)
	}
	c.subdomains[acct.ID] = out.Subdomain
	return out.Subdomain, nil
}
