package workerd

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// dirPrefix begins the name of every process's private folder; our process id follows.
const dirPrefix = "hgw-"

// Sweep removes the private folders that processes of ours left which are no more, as
// after a kill -9, and tells how many. dir is Config.Dir; empty: the temporary folder.
func Sweep(dir string) int {
	if dir == "" {
		dir = os.TempDir()
	}
	found, _ := filepath.Glob(filepath.Join(dir, dirPrefix+"*"))
	n := 0
	for _, path := range found {
		text, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), dirPrefix), "-")
		pid, err := strconv.Atoi(text)
		if err != nil || alive(pid) {
			continue
		}
		if os.RemoveAll(path) == nil {
			n++
		}
	}
	return n
}

// alive tells whether there is a process of that id; in doubt there is.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	err = p.Signal(syscall.Signal(0))
	return err == nil || !errors.Is(err, os.ErrProcessDone)
}
