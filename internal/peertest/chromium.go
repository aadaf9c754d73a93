package peertest

import (
	"os/exec"
	"testing"
)

// Chromium gives the path of Chromium, Debian's package of that name, or skips the test
// with the reason.
func Chromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Skip(t, "there is no Chromium here (Debian: apt-get install chromium)")
	return ""
}
