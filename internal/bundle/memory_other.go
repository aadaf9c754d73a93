//go:build !linux

package bundle

import (
	"os"
	"runtime/metrics"
	"time"
)

// limitMemory makes this process end where it takes more than checkMemory. Other
// systems than Linux don't hold to a limit on address space, so it looks itself.
func limitMemory() {
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}}
		for range time.Tick(10 * time.Millisecond) {
			if metrics.Read(sample); sample[0].Value.Uint64() > checkMemory {
				os.Exit(3)
			}
		}
	}()
}
