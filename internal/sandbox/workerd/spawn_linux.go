package workerd

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// baselineMiB is the VmData of an idle workerd (workerd fact sheet, section 4).
const baselineMiB = 548

// spawn starts the process so that it dies with us, whatever way we die, and bounds
// its memory. The parent-death signal belongs to the thread that started the child,
// so that thread waits for it. The channel tells how it ended.
func spawn(cmd *exec.Cmd, cfg Config) (<-chan error, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	exited := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			limit := uint64(baselineMiB+cfg.DataMiB) << 20 //nolint:gosec // a small positive number
			err = unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: limit, Max: limit}, nil)
			if err != nil {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}
		}
		started <- err
		if err == nil {
			exited <- cmd.Wait()
		}
	}()
	return exited, <-started
}

// killGroup ends the process and what it may have started.
func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
