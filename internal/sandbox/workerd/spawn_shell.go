//go:build unix

package workerd

import (
	"fmt"
	"os/exec"
	"syscall"
)

// watchScript runs the runtime and ends it when the shell's standard input ends, which
// is a pipe of ours that ends with us. (A shell gives its background jobs no standard
// input: hence file 4.) It passes SIGTERM on and gives the runtime's exit code. File 3 is
// the runtime's alone.
const watchScript = `exec 4<&0 </dev/null
"$0" "$@" 4<&- & p=$!
trap 'kill -TERM $p' TERM
exec 3>&-
( trap - TERM; exec >/dev/null 2>&1; cat <&4; kill -KILL $p ) & w=$!
exec 4<&-
wait $p; c=$?
while kill -0 $p 2>/dev/null; do wait $p; c=$?; done
kill -KILL $w 2>/dev/null
exit $c`

// spawnShell starts the process under a small shell that ends it when we are gone: for
// systems without a parent-death signal.
func spawnShell(cmd *exec.Cmd) (*child, error) {
	cmd.Args = append([]string{"/bin/sh", "-c", watchScript, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ours, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("a pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan error, 1)
	group := -cmd.Process.Pid
	go func() {
		err := cmd.Wait()
		_ = ours.Close() // which ends the cat
		exited <- err
	}()
	return &child{
		exited:    exited,
		kill:      func() { _ = syscall.Kill(group, syscall.SIGKILL) },
		terminate: func() { _ = cmd.Process.Signal(syscall.SIGTERM) },
	}, nil
}
