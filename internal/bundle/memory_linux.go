package bundle

import (
	"fmt"
	"os"
	"syscall"
)

// limitMemory makes this process end where it would take more than checkMemory. What
// it has reserved already, without using it, does not count: the race detector reserves
// terabytes.
func limitMemory() {
	var pages uint64
	if raw, err := os.ReadFile("/proc/self/statm"); err == nil {
		_, _ = fmt.Sscan(string(raw), &pages)
	}
	most := pages*uint64(os.Getpagesize()) + checkMemory //nolint:gosec // a page has a size
	_ = syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: most, Max: most})
}
