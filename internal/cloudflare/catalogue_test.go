package cloudflare_test

import (
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// TestEveryEntryIsUsed: each code, answered to a call, comes out as its row says: the
// kind, the cause in the message, the next step; and is repeated only where it says so.
func TestEveryEntryIsUsed(t *testing.T) {
	for _, e := range cloudflare.Catalogue() {
		f := newFake(t).happy()
		f.on("POST /accounts/"+accountID+"/workers/scripts/"+worker+"/subdomain", refusal(400, e.Code, "words of the API"))
		c := f.newClient(t)
		acct := account()
		acct.Subdomain = "sub"
		_, err := c.EnableRoute(t.Context(), acct, worker)
		got := deploy.AsError(err)
		if got == nil || got.Code != e.Kind || got.Next != e.Next {
			t.Errorf("%d: %v, want %s and %q", e.Code, got, e.Kind, e.Next)
			continue
		}
		wantError(t, err, e.Kind, "words of the API")
		wantError(t, err, e.Kind, e.Cause)
		if n := f.count("POST /accounts/" + accountID + "/workers/scripts/" + worker + "/subdomain"); (n > 1) != e.Retry {
			t.Errorf("%d was asked for %d times; retry: %v", e.Code, n, e.Retry)
		}
	}
}
