//go:build unix

package peertest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// servant is who a PostgreSQL server of root's runs as: it refuses root.
func servant() (uid, gid int, err error) {
	if os.Getuid() != 0 {
		return os.Getuid(), os.Getgid(), nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return 0, 0, fmt.Errorf("an unprivileged user: %w", err)
		}
	}
	if uid, err = strconv.Atoi(u.Uid); err == nil {
		gid, err = strconv.Atoi(u.Gid)
	}
	return uid, gid, err
}

func giveAway(dir string) error {
	uid, gid, err := servant()
	if err == nil {
		err = os.Chown(dir, uid, gid)
	}
	return err
}

func unprivileged(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // not ended by the keyboard before its watch is
	if uid, gid, err := servant(); err == nil && os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
}

// keepOpen lets a file be open until the process ends, and not in its children: what no
// variable holds would be closed by the collector.
func keepOpen(f *os.File) {
	_, _ = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}
