package session_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// TestConsoleLogins: what is good once is taken once, and logins are found by their hash.
func TestConsoleLogins(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		s := p.open(t)
		ctx, now := t.Context(), time.Now().UTC().Truncate(time.Millisecond)
		must(t, s.SaveOnce(ctx, "login", "h1", []byte("ann"), now.Add(time.Minute)))
		must(t, s.SaveOnce(ctx, "login", "h2", []byte("bob"), now.Add(time.Minute)))
		if got, err := s.TakeOnce(ctx, "oidc", "h1", now); err != nil || got != nil {
			t.Errorf("what was made for a login served for something else: %q %v", got, err)
		}
		var mu sync.Mutex
		var got []string
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				b, err := s.TakeOnce(ctx, "login", "h1", now)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if b != nil {
					got = append(got, string(b))
				}
			})
		}
		all.Wait()
		if !slices.Equal(got, []string{"ann"}) {
			t.Errorf("four who took it at once got %q", got)
		}
		if b, err := s.TakeOnce(ctx, "login", "h2", now.Add(time.Minute)); err != nil || b != nil {
			t.Errorf("what is over was given: %q %v", b, err)
		}
		want := deploy.ConsoleSession{
			Hash: "c1", User: deploy.ConsoleUser{ID: "link:ann", Name: "ann", Owner: "ann", Scopes: []deploy.Scope{deploy.ScopeApprove}},
			CreatedAt: now, SeenAt: now, ExpiresAt: now.Add(time.Hour),
		}
		must(t, s.SaveConsoleSession(ctx, want))
		must(t, s.SeenConsoleSession(ctx, "c1", now.Add(time.Minute)))
		want.SeenAt = now.Add(time.Minute)
		found, err := s.ConsoleSession(ctx, "c1")
		must(t, err)
		if diff := cmp.Diff(&want, found); diff != "" {
			t.Error(diff)
		}
		must(t, s.EndConsoleSession(ctx, "c1"))
		if found, err := s.ConsoleSession(ctx, "c1"); err != nil || found != nil {
			t.Errorf("after the logout: %v %v", found, err)
		}
		key := deploy.Passkey{ID: "k1", UserID: "link:ann", Credential: []byte(`{"n":1}`), CreatedAt: now}
		must(t, s.SavePasskey(ctx, key))
		must(t, s.SavePasskey(ctx, deploy.Passkey{ID: "k1", UserID: "link:bob", Credential: []byte(`{"n":2}`), CreatedAt: now}))
		keys, err := s.Passkeys(ctx, "link:ann")
		must(t, err)
		if diff := cmp.Diff([]deploy.Passkey{key}, keys); diff != "" {
			t.Error("somebody else's passkey took its place:", diff)
		}
	})
}
