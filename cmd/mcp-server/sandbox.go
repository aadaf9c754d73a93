package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/sandbox"
)

// sandboxCmd runs the sandbox for other programs: wrangler, tests, a second server.
type sandboxCmd struct {
	Addr       string `help:"Where the API listens." default:"127.0.0.1:0" placeholder:"ADDR"`
	EdgeAddr   string `help:"Where Workers answer, by Host header." default:"127.0.0.1:0" placeholder:"ADDR"`
	ManageAddr string `help:"Where tests look behind the scenes." default:"127.0.0.1:0" placeholder:"ADDR"`
	Faults     string `help:"How unkind the API is: mild, default, either with a seed (mild:7), a plan in JSON, or @ and a file with one." placeholder:"SPEC"`
}

// Run serves until it is told to stop. The first line on stdout tells the addresses.
func (c *sandboxCmd) Run(ctx context.Context, o *options, p process) error {
	faults := c.Faults
	if name, ok := strings.CutPrefix(faults, "@"); ok {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("--faults: %w", err)
		}
		faults = string(b)
	}
	box, err := startSandbox(ctx, o, p, sandbox.Config{Addr: c.Addr, EdgeAddr: c.EdgeAddr, ManageAddr: c.ManageAddr, Faults: faults})
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
