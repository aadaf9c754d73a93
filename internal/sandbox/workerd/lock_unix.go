//go:build unix

package workerd

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// errLocked says that somebody else holds a lock.
var errLocked = errors.New("it is locked by another process")

// tryLock takes the lock that a file stands for, or gives errLocked. The system lets go of it when
// we end, in whatever way; the file stays.
func tryLock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600) //nolint:gosec // in our own folder
	if err != nil {
		return nil, fmt.Errorf("a lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("a lock: %w", err)
	}
	return func() { _ = f.Close() }, nil
}
