//go:build !unix

package workerd

import (
	"os"
	"os/exec"
)

// spawn starts the process. On this system nothing ends it when we are killed: see
// docs/sandbox.md. The channel tells how it ended.
func spawn(cmd *exec.Cmd, _ Config) (<-chan error, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	return exited, nil
}

// killGroup ends the process.
func killGroup(p *os.Process) { _ = p.Kill() }
