//go:build unix

package workerd

import (
	"os/exec"
	"syscall"
)

// guardScript waits until its standard input ends, which is a pipe of ours that ends with
// us, and removes the folder. The runtimes end at the same moment, and may still be
// writing: hence several tries.
const guardScript = `trap "" HUP INT TERM
read -r _
for i in 1 2 3 4 5; do rm -rf "$1" && exit; sleep 1; done`

// guard has a folder removed when we are no more. dismiss ends that.
func guard(dir string) (dismiss func()) {
	cmd := exec.Command("/bin/sh", "-c", guardScript, "sh", dir) //nolint:gosec // the folder is ours
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}        // the terminal's Ctrl-C is for us
	ours, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return func() {} // Sweep does it with the next start
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = ours.Close()
		_ = cmd.Wait()
	}
}
