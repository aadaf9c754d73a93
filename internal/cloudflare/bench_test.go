package cloudflare_test

import (
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// BenchmarkRedeploy is what the client adds to a redeploy of a 20 KB Worker against
// an API that takes no time: the upload call, its answer read and judged.
func BenchmarkRedeploy(b *testing.B) {
	c, err := cloudflare.New(cloudflare.Config{Transport: instant{}})
	if err != nil {
		b.Fatal(err)
	}
	a := hello()
	a.Modules[0].Content = []byte(strings.Repeat("// code\n", 2500))
	for b.Loop() {
		if _, err := c.Upload(b.Context(), account(), deploy.Upload{Artifact: a}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAssetHashes is the hashing of 1,000 small files.
func BenchmarkAssetHashes(b *testing.B) {
	content := []byte(strings.Repeat("x", 2000))
	for b.Loop() {
		for range 1000 {
			cloudflare.AssetHash(deploy.Asset{Path: "/a/b/c.html", Content: content})
		}
	}
}
