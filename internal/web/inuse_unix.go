//go:build unix

package web

import (
	"errors"

	"golang.org/x/sys/unix"
)

// inUse tells whether a listen failed because somebody else has the port.
func inUse(err error) bool { return errors.Is(err, unix.EADDRINUSE) }
