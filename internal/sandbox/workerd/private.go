package workerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// dirPrefix begins the name of every process's private folder.
const dirPrefix = "hgw-"

// making stands before the name of a folder whose lock is not held yet.
const making = "making-"

// maxSocketPath is the room for a unix socket's path, in bytes, without the ending NUL.
func maxSocketPath() int {
	if runtime.GOOS == "linux" {
		return 107
	}
	return 103
}

const (
	randomDigits = 10 // the most that MkdirTemp adds to a name
	// innerRoom is what a private folder's name takes of a path, in bytes.
	innerRoom = len(making) + len(dirPrefix) + randomDigits + 1
)

// privateDir makes a folder of mode 0700 and locks it for as long as we live, so that
// Sweep can tell it from one that was left behind. room is kept free in the paths of its
// sockets, in bytes.
func privateDir(parent string, room int) (dir string, unlock func(), err error) {
	chosen := parent != ""
	if !chosen {
		parent = os.TempDir()
	}
	if parent, err = filepath.Abs(parent); err != nil {
		return "", nil, dirError(parent, err)
	}
	length := len(parent) + 1 + innerRoom + len(longestSocket) + room
	if length > maxSocketPath() {
		if chosen || runtime.GOOS == "windows" {
			return "", nil, dirError(parent, fmt.Errorf("a unix socket in it would have a path of %d bytes, and %d is the most", length, maxSocketPath()))
		}
		parent = "/tmp"
	}
	// Under a name that Sweep does not look at until the lock is held: between making
	// the lock's file and locking it, a sweep would take it for abandoned.
	made, err := os.MkdirTemp(parent, making+dirPrefix)
	if err != nil {
		return "", nil, dirError(parent, err)
	}
	if unlock, err = tryLock(filepath.Join(made, lockFile)); err != nil {
		_ = os.RemoveAll(made)
		return "", nil, dirError(made, err)
	}
	dir = filepath.Join(parent, strings.TrimPrefix(filepath.Base(made), making))
	if err := os.Rename(made, dir); err != nil {
		unlock()
		_ = os.RemoveAll(made)
		return "", nil, dirError(dir, err)
	}
	return dir, unlock, nil
}

// NewDir makes a private folder for what must outlast one process: mode 0700, removed
// by remove, or by Sweep when this program is no more. parent is as Config.Dir.
func NewDir(parent string) (dir string, remove func(), err error) {
	dir, unlock, err := privateDir(parent, 0)
	if err != nil {
		return "", nil, err
	}
	return dir, func() {
		_ = os.RemoveAll(dir)
		unlock()
	}, nil
}

// NewRoot makes a private folder in the temporary one, to be the parent of others, which
// is gone with this program, whatever way it ends: after a kill -9 a small shell of ours
// removes it, or Sweep where there is no shell.
func NewRoot() (dir string, remove func(), err error) {
	dir, unlock, err := privateDir("", innerRoom)
	if err != nil {
		return "", nil, err
	}
	dismiss := guard(dir)
	return dir, func() {
		_ = os.RemoveAll(dir)
		dismiss()
		unlock()
	}, nil
}

// dirError says that the private folder can't be used.
func dirError(dir string, err error) error {
	return &Error{
		Code: CodeDir, Message: "the runtime's private folder in " + strconv.Quote(dir) + " can't be used (" + err.Error() + ")",
		Next: "set TMPDIR to a folder with a short path that can be written to and has room", Cause: err,
	}
}

// Sweep removes the private folders that programs of ours left which are no more, as
// after a kill -9, and tells how many. Start does it too. dir is Config.Dir; empty:
// the temporary folder.
func Sweep(dir string) int {
	if dir == "" {
		dir = os.TempDir()
	}
	found, err := filepath.Glob(filepath.Join(dir, dirPrefix+"*"))
	if err != nil {
		return 0 // a pattern in the path: nothing is lost but the sweep
	}
	n := 0
	for _, path := range found {
		if abandoned(path) && os.RemoveAll(path) == nil {
			n++
		}
	}
	return n
}

// abandoned tells whether nobody holds the folder's lock. In doubt somebody does: a folder
// of another user, or one that is being made.
func abandoned(path string) bool {
	lock := filepath.Join(path, lockFile)
	if info, err := os.Lstat(lock); err != nil || !info.Mode().IsRegular() {
		info, dirErr := os.Lstat(path)
		return errors.Is(err, os.ErrNotExist) && dirErr == nil && info.IsDir() && time.Since(info.ModTime()) > time.Minute
	}
	unlock, err := tryLock(lock)
	if err != nil {
		return false
	}
	unlock()
	return true
}
