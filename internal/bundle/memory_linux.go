package bundle

import "syscall"

// limitMemory makes this process end where it would take more than checkMemory.
func limitMemory() {
	_ = syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: checkMemory, Max: checkMemory})
}
