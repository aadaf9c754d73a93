//go:build windows

package web

import (
	"errors"

	"golang.org/x/sys/windows"
)

// inUse tells whether a listen failed because somebody else has the port.
func inUse(err error) bool {
	return errors.Is(err, windows.WSAEADDRINUSE) || errors.Is(err, windows.WSAEACCES)
}
