package cloudflare_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Everything at once on one client; the race detector looks on. The SDK's encoders
// keep state of their own, so this holds them to account as well.
func TestConcurrentUse(t *testing.T) {
	f := newFake(t).happy()
	s := newTailServer(t, f)
	f.on(routeSession, result(map[string]any{"jwt": "jwt_SECRET_complete", "buckets": [][]string{}}))
	c := f.newClient(t)
	a := hello()
	a.Assets = site().Assets
	a.Bindings = []deploy.Binding{{"name": "V", "type": "plain_text", "text": "x"}}
	a.Metadata = map[string]any{"observability": map[string]any{"enabled": true}}
	do := map[string]func() error{
		"provision": func() error { _, err := c.Provision(t.Context(), nil); return err },
		"clock":     func() error { _, err := c.AskClock(t.Context()); c.Clock(); return err },
		"upload": func() error {
			_, err := c.Upload(t.Context(), account(), deploy.Upload{Artifact: a, Tag: "t"})
			return err
		},
		"route": func() error { _, err := c.EnableRoute(t.Context(), account(), worker); return err },
		"tail": func() error {
			tail, err := c.Tail(t.Context(), account(), worker)
			if err != nil {
				return fmt.Errorf("open: %w", err)
			}
			<-s.conns
			return tail.Close()
		},
	}
	var group sync.WaitGroup
	for name, f := range do {
		for range 8 {
			group.Go(func() {
				for range 5 {
					if err := f(); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			})
		}
	}
	group.Wait()
}
