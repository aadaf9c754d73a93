//go:build unix && !linux

package workerd

import (
	"os"
	"os/exec"
	"syscall"
)

func spawn(cmd *exec.Cmd, _ Config) (<-chan error, error) { return spawnShell(cmd) }

func killTree(p *os.Process) { killGroup(p) }

func terminate(p *os.Process) { _ = p.Signal(syscall.SIGTERM) }
