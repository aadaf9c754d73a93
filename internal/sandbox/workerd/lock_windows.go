package workerd

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// errLocked says that somebody else holds a lock.
var errLocked = errors.New("it is locked by another process")

// tryLock takes the lock that a file stands for, or gives errLocked. The system lets go of it when
// we end, in whatever way; the file stays.
func tryLock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // in our own folder
	if err != nil {
		return nil, fmt.Errorf("a lock: %w", err)
	}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{})
	if err != nil {
		_ = f.Close()
		if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("a lock: %w", err)
	}
	return func() { _ = f.Close() }, nil
}
