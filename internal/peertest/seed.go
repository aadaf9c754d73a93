package peertest

import (
	"flag"
	"os"
)

// FixedSeed makes the property tests of a package (pgregory.net/rapid) draw the same cases
// in every run, for its TestMain: what CI refuses must be what a developer saw. With
// HOURGLASS_SEED=random they draw new ones (make explore), and -rapid.seed names one.
func FixedSeed() {
	if os.Getenv("HOURGLASS_SEED") == "random" {
		return
	}
	if f := flag.Lookup("rapid.seed"); f != nil {
		if err := f.Value.Set("20261124"); err != nil {
			panic(err)
		}
	}
}
