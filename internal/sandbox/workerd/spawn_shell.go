//go:build unix

package workerd

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// watchScript runs the runtime and ends it when the shell's standard input ends, which
// is a pipe of ours that ends with us. It passes SIGTERM on and gives the runtime's
// exit code. File 3 is the runtime's alone.
const watchScript = `"$0" "$@" </dev/null & p=$!
trap 'kill -TERM $p' TERM
( exec 3>&- 2>&-; cat >/dev/null; kill -KILL $p ) & w=$!
exec 3>&-
wait $p; c=$?
while kill -0 $p 2>/dev/null; do wait $p; c=$?; done
kill -KILL $w 2>/dev/null
exit $c`

// spawnShell starts the process under a small shell that ends it when we are gone: for
// systems without a parent-death signal. The channel tells how it ended.
func spawnShell(cmd *exec.Cmd) (<-chan error, error) {
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
	go func() {
		err := cmd.Wait()
		_ = ours.Close()
		exited <- err
	}()
	return exited, nil
}

// killGroup ends the process and the shell that watches it.
func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
