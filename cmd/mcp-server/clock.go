//go:build !ahead

package main

import "time"

// sweepEvery is how often a command that serves looks after what is over and after what
// processes left behind.
const sweepEvery = time.Minute

// now is the clock of every room.
func now() time.Time { return time.Now() }
