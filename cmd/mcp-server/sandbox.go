package main

import (
	"context"
	"errors"

	"github.com/hourglass-mcp/hourglass/internal/sandbox"
)

// sandboxCmd runs the sandbox for other programs: wrangler, tests, a second server.
type sandboxCmd struct {
	Addr       string `help:"Where the API listens." default:"127.0.0.1:0" placeholder:"ADDR"`
	EdgeAddr   string `help:"Where Workers answer, by Host header." default:"127.0.0.1:0" placeholder:"ADDR"`
	ManageAddr string `help:"Where tests look behind the scenes." default:"127.0.0.1:0" placeholder:"ADDR"`
}

// Run serves until it is told to stop. The first line on stdout tells the addresses.
func (c *sandboxCmd) Run(ctx context.Context, o *options, p process) error {
	box, err := startSandbox(ctx, o, p, sandbox.Config{Addr: c.Addr, EdgeAddr: c.EdgeAddr, ManageAddr: c.ManageAddr})
	if err != nil {
		return err
	}
	urls := box.URLs()
	err = printJSON(p, map[string]string{"api": urls.API, "edge": urls.Edge, "manage": urls.Manage})
	if err == nil {
		<-ctx.Done()
	}
	return errors.Join(err, box.Close())
}
