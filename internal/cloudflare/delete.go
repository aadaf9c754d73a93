package cloudflare

import (
	"context"

	"github.com/cloudflare/cloudflare-go/v7/option"
	"github.com/cloudflare/cloudflare-go/v7/workers"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Delete takes a Worker of the account down. Doing it twice is no harm for the
// account: the second time the API says that there is no such Worker.
func (c *Client) Delete(ctx context.Context, acct *deploy.Account, worker string) error {
	if err := checkAccount(acct); err != nil {
		return err
	}
	if err := checkWorker(worker); err != nil {
		return err
	}
	_, err := c.call(ctx, try{"taking the Worker down", c.cfg.Timeout, true}, func(ctx context.Context, opts ...option.RequestOption) error {
		params := workers.ScriptDeleteParams{}
		params.AccountID.Value, params.AccountID.Present = acct.ID, true
		_, err := workers.NewScriptService(c.with(acct)...).Delete(ctx, worker, params, opts...)
		return err
	})
	return err
}
