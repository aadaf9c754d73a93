package main

import (
	"errors"
	"fmt"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// The values of --approval.
const (
	approvalAttended = "attended"
	approvalConsole  = "console"
	approvalPasskey  = "passkey"
)

// hearing has the Service ask humans where they can be asked, and hold their yes to
// --approval and --four-eyes. Every command reads the two, so that who operates with the
// server's settings is held to them as the server is.
func (h *house) hearing(o *options, p process, cfg *deploy.Config) error {
	if o.console != nil && o.Approval == "" {
		o.Approval = approvalConsole
	}
	cfg.FourEyes = o.FourEyes
	switch o.Approval {
	case approvalConsole:
		cfg.Channels = []string{deploy.ChannelPasskey, deploy.ChannelConsole}
	case approvalPasskey:
		cfg.Channels = []string{deploy.ChannelPasskey}
	}
	if o.FourEyes && len(o.ClaimRecipient) > 0 {
		h.log.Warn().Msg("claim links are sealed, so who holds a recipient's key decides about claims: --four-eyes compares owners for acts that the policy asks about alone")
	}
	if o.console != nil {
		return h.openConsole(o, p, cfg)
	}
	if cfg.Channels == nil || o.ConsoleURL == "" {
		return nil
	}
	at, err := web.NewElsewhere(o.ConsoleURL)
	if err != nil {
		return refuse(fmt.Errorf("--console-url: %w", err))
	}
	cfg.Pages, cfg.ClaimLink, cfg.ApprovalLink = at, at.ClaimURL, at.ApprovalURL
	return nil
}

// mayAsk refuses, for a command that may ask a human, rules that nobody could ever keep
// from here: such a server would only ever let its askings lapse.
func mayAsk(o *options) error {
	behindLogin := o.Approval == approvalConsole || o.Approval == approvalPasskey
	switch {
	case behindLogin && o.ConsoleURL == "":
		return refuse(errors.New("--approval " + o.Approval + ": this command serves no page behind a login, so nobody could say yes: run mcp-server http on the same store, and name its console with --console-url"))
	case o.FourEyes && !behindLogin:
		return refuse(errors.New("--four-eyes: who decides on the attended page, or at this machine's terminal, is not known, so their owner can't be compared with the agent's: use --approval console or passkey, with --console-url"))
	}
	return nil
}
