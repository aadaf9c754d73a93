package workerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// dirPrefix begins the name of every process's private folder.
const dirPrefix = "hgw-"

// maxSocketPath is the room for a unix socket's path, in bytes, without the ending NUL.
func maxSocketPath() int {
	if runtime.GOOS == "linux" {
		return 107
	}
	return 103
}

// privateDir makes a folder of mode 0700 and locks it for as long as we live, so that
// Sweep can tell it from one that was left behind.
func privateDir(parent string) (dir string, unlock func(), err error) {
	chosen := parent != ""
	if !chosen {
		parent = os.TempDir()
	}
	if parent, err = filepath.Abs(parent); err != nil {
		return "", nil, dirError(parent, err)
	}
	const random = 10 // the most digits that MkdirTemp adds
	length := len(parent) + len(dirPrefix) + len(longestSocket) + random + 2
	if length > maxSocketPath() {
		if chosen || runtime.GOOS == "windows" {
			return "", nil, dirError(parent, fmt.Errorf("a unix socket in it would have a path of %d bytes, and %d is the most", length, maxSocketPath()))
		}
		parent = "/tmp"
	}
	if dir, err = os.MkdirTemp(parent, dirPrefix); err != nil {
		return "", nil, dirError(parent, err)
	}
	unlock, err = tryLock(filepath.Join(dir, lockFile))
	if err != nil {
		_ = os.RemoveAll(dir)
		return "", nil, dirError(dir, err)
	}
	return dir, unlock, nil
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
	const making = time.Minute
	lock := filepath.Join(path, lockFile)
	if info, err := os.Lstat(lock); err != nil || !info.Mode().IsRegular() {
		info, dirErr := os.Lstat(path)
		return errors.Is(err, os.ErrNotExist) && dirErr == nil && info.IsDir() && time.Since(info.ModTime()) > making
	}
	unlock, err := tryLock(lock)
	if err != nil {
		return false
	}
	unlock()
	return true
}
