//go:build ahead

package main

import (
	"os"
	"time"
)

// sweepEvery is short here, so that a test does not wait for what is over.
const sweepEvery = 200 * time.Millisecond

// now is the clock of every room: HOURGLASS_AHEAD ahead of this machine's, so that a test
// sees what another day brings. Only a build with the tag "ahead" has such a clock.
func now() time.Time {
	by, err := time.ParseDuration(os.Getenv("HOURGLASS_AHEAD"))
	if err != nil {
		panic("HOURGLASS_AHEAD: " + err.Error())
	}
	return time.Now().Add(by)
}
