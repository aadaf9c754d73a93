//go:build crash && unix

package deploy

import (
	"os"
	"syscall"
	"time"
)

// LeaseTTL is short here, so that a test that kills the server at every point does not
// spend its time waiting for leases of the dead.
const LeaseTTL = 2 * time.Second

// crash kills the process, as nothing can catch it, where HOURGLASS_CRASH_AT names the point.
func crash(point string) {
	if os.Getenv("HOURGLASS_CRASH_AT") == point {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal may take a moment
	}
}
