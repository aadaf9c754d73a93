package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// TestClaimShowsWhatIsNotOurs before the human is asked for their key, in letters that
// can't do anything to the terminal.
func TestClaimShowsWhatIsNotOurs(t *testing.T) {
	var out bytes.Buffer
	d := &desk{p: process{stdout: &out}, now: time.Now}
	f := &deploy.ClaimFile{AccountName: "otter", Estate: deploy.Estate{Foreign: []deploy.ForeignChange{{Worker: "str\x1b[2Jange", SeenAt: time.Now()}, {Worker: "shop", VersionID: "v9", SeenAt: time.Now()}}}}
	showClaim(f, d)
	if got := out.String(); strings.Count(got, "BEWARE") != 2 || !strings.Contains(got, "shop v9") || strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
}
