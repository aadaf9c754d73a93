package workerd

import (
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// baselineMiB is the VmData of an idle workerd (workerd fact sheet, section 4).
const baselineMiB = 548

// spawn starts the process so that it dies with us, whatever way we die, and bounds
// its memory. The parent-death signal belongs to the thread that started the child,
// so that thread waits for it. In a process group of its own, the runtime does not get
// the terminal's Ctrl-C: we end it.
func spawn(cmd *exec.Cmd, cfg Config) (*child, error) {
	if cfg.shell {
		return spawnShell(cmd)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	exited := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil && cfg.DataMiB > 0 {
			limit := uint64(baselineMiB+cfg.DataMiB) << 20 //nolint:gosec // a positive number
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
	if err := <-started; err != nil {
		return nil, err
	}
	return &child{
		exited:    exited,
		kill:      func() { _ = cmd.Process.Kill() }, // it has no children
		terminate: func() { _ = cmd.Process.Signal(syscall.SIGTERM) },
	}, nil
}
