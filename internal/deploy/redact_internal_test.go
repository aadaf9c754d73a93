package deploy

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// TestShapelyMissesNothing: what the expression would strip in any mixture of cases, with
// the letters that fold to others in it, is always put before it.
func TestShapelyMissesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 1)) //nolint:gosec // the same texts in every run
	anyCase := func(s string) string {
		return strings.Map(func(r rune) rune {
			for range rng.IntN(4) {
				r = unicode.SimpleFold(r)
			}
			return r
		}, s)
	}
	const token = "Zx9_kq-2v8Wm4LrT0bYc7NdPh5SgJ1"
	matched := 0
	for range 5000 {
		for _, shape := range []string{
			"claimToken=", "claimToken%3D", `claimToken\u003d`, `claimToken": "`, `claimToken\":\"`, "Bearer ", "bearer\t", "https://dash.example/claim-preview?x=",
		} {
			text := "b c be cl claim " + anyCase(shape) + token + " and so on"
			if shapes.MatchString(text) {
				matched++
				if !shapely(text) {
					t.Fatalf("%q was not looked at", text)
				}
			}
		}
	}
	if matched < 30000 {
		t.Fatalf("%d texts of 40000 had a shape: the test tests little", matched)
	}
	for _, plain := range []string{"", "b", "c", "call request_claim", "a claim, a bear, https://x/claim-preview", "claim_token"} {
		if shapely(plain) {
			t.Errorf("%q is taken for a shape", plain)
		}
	}
}

// TestForgottenIsHeldNowhere: what is forgotten is in no list, and what is not stays.
func TestForgottenIsHeldNowhere(t *testing.T) {
	r := NewRedactor()
	for _, s := range []string{"first-secret", "second-secret", "third-secret"} {
		r.Add(s)
	}
	r.Redact("something")
	r.Forget("second-secret")
	if r.known["second-secret"] || slices.Contains(r.order, "second-secret") || len(r.order) != 2 {
		t.Errorf("%v %v", r.known, r.order)
	}
	if got := r.Redact("first-secret second-secret third-secret"); got != "[redacted] second-secret [redacted]" {
		t.Error(got)
	}
}
