package sandbox

import (
	"math"
	"net/http"
)

// bounds are what a number may be.
type bounds struct {
	name        string
	least, most float64
}

// maxDelay of a message, in seconds.
const maxDelay = 86_400

// consumerBounds are what Cloudflare documents of a consumer's settings, in the API's
// units: seconds, but for max_wait_time_ms.
func consumerBounds() []bounds {
	return []bounds{
		{"batch_size", 1, 100},
		{"max_wait_time_ms", 0, 60_000},
		{"max_retries", 0, 100},
		{"retry_delay", 0, maxDelay},
		{"max_concurrency", 1, 250},
	}
}

// checkSettings refuses what Cloudflare does, with its code of invalid consumer settings.
// The runtime's own Queues would fail on it later, in the middle of a Worker's send.
func checkSettings(settings map[string]any) error {
	for _, b := range consumerBounds() {
		v, given := settings[b.name]
		if !given || v == nil {
			continue
		}
		f, ok := v.(float64)
		if !ok || f < b.least || f > b.most || f != math.Trunc(f) {
			return refuse(http.StatusBadRequest, 100127, "invalid consumer settings: %s must be a whole number from %g to %g", b.name, b.least, b.most)
		}
	}
	return nil
}

func checkDelay(seconds float64) error {
	if seconds < 0 || seconds > maxDelay || seconds != math.Trunc(seconds) {
		return refuse(http.StatusBadRequest, 10203, "invalid delay: it must be a whole number of seconds from 0 to %d", maxDelay)
	}
	return nil
}
