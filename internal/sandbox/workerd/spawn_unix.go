//go:build unix && !linux

package workerd

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// spawn starts the process under a small shell that ends it when we are gone: its
// standard input is a pipe of ours, which ends with us. The channel tells how it ended.
func spawn(cmd *exec.Cmd, _ Config) (<-chan error, error) {
	const script = `"$0" "$@" </dev/null & p=$!
trap 'kill -TERM $p' TERM
( cat >/dev/null; kill -KILL $p ) 3>&- & w=$!
wait $p; c=$?
while kill -0 $p 2>/dev/null; do wait $p; c=$?; done
kill -KILL $w 2>/dev/null
exit $c`
	cmd.Args = append([]string{"/bin/sh", "-c", script, cmd.Path}, cmd.Args[1:]...)
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
