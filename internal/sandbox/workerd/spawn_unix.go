//go:build unix && !linux

package workerd

import "os/exec"

func spawn(cmd *exec.Cmd, _ Config) (*child, error) { return spawnShell(cmd) }
