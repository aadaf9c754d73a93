// Command mcp-server gives LLM agents deploy tools for temporary Cloudflare
// accounts: bundle, deploy_temporary, status and request_claim, over the Model
// Context Protocol.
//
// This room is the roof: it reads flags, environment and files, builds every room
// and speaks to people. It decides nothing about a deployment.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
)

// version is set by the linker in a release build.
var version = "0.1.0-dev" //nolint:gochecknoglobals // -ldflags -X needs a variable

func main() {
	if len(os.Args) == 2 && os.Args[1] == bundle.CheckCommand {
		if err := bundle.ServeChecks(os.Stdin, os.Stdout); err != nil {
			os.Exit(exitElse)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], process{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.LookupEnv})
	stop()
	os.Exit(code)
}
