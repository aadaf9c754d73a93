package deploy_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func refuse(code deploy.Code) func(int) error {
	return func(int) error { return deploy.Errorf(code, "Do something else.", "played") }
}

// Every refusal before the account is made spends nothing.
func TestRefusalsSpendNothing(t *testing.T) {
	big := strings.Repeat("x", 5<<20+1)
	manyFiles := make([]deploy.File, 1001)
	for i := range manyFiles {
		manyFiles[i] = deploy.File{Path: strings.Repeat("d/", i/100) + string(rune('a'+i%26)) + ".html"}
	}
	with := func(change func(*deploy.DeployRequest)) deploy.DeployRequest {
		req := worker("200 hello")
		change(&req)
		return req
	}
	for name, c := range map[string]struct {
		req   deploy.DeployRequest
		world func(*world)
		cfg   func(*deploy.Config)
		code  deploy.Code
	}{
		"no source":          {req: deploy.DeployRequest{}, code: deploy.CodeNoSource},
		"two sources":        {req: with(func(r *deploy.DeployRequest) { r.BundleID = "b_1" }), code: deploy.CodeTwoSources},
		"unknown bundle":     {req: deploy.DeployRequest{BundleID: "b_nope"}, code: deploy.CodeBundleNotFound},
		"syntax error":       {req: worker("syntax error"), code: deploy.CodeBuildFailed},
		"unknown session":    {req: with(func(r *deploy.DeployRequest) { r.SessionID = "s_nope" }), code: deploy.CodeSessionNotFound},
		"a bad name":         {req: with(func(r *deploy.DeployRequest) { r.Source.Name = "-a" }), code: deploy.CodeNameInvalid},
		"an upper-case name": {req: with(func(r *deploy.DeployRequest) { r.Source.Name = "Hello" }), code: deploy.CodeNameInvalid},
		"a long name":        {req: with(func(r *deploy.DeployRequest) { r.Source.Name = strings.Repeat("a", 64) }), code: deploy.CodeNameInvalid},
		"a path without slash": {
			req:  with(func(r *deploy.DeployRequest) { r.Expect = &deploy.Expect{Path: "x"} }),
			code: deploy.CodeInvalidArgument,
		},
		"another host as path": {
			req:  with(func(r *deploy.DeployRequest) { r.Expect = &deploy.Expect{Path: "//evil.example/"} }),
			code: deploy.CodeInvalidArgument,
		},
		"a path of two lines": {
			req:  with(func(r *deploy.DeployRequest) { r.Expect = &deploy.Expect{Path: "/a\r\nHost: b"} }),
			code: deploy.CodeInvalidArgument,
		},
		"no status": {req: with(func(r *deploy.DeployRequest) { r.Expect = &deploy.Expect{Status: 42} }), code: deploy.CodeInvalidArgument},
		"a big asset": {
			req:  deploy.DeployRequest{Source: deploy.Source{Files: []deploy.File{{Path: "a.html", Content: []byte(big)}}}},
			code: deploy.CodeTooLarge,
		},
		"many assets": {req: deploy.DeployRequest{Source: deploy.Source{Files: manyFiles}}, code: deploy.CodeTooManyFiles},
		"read-only":   {req: worker("200 hello"), cfg: func(c *deploy.Config) { c.ReadOnly = true }, code: deploy.CodeReadOnly},
		"no terms":    {req: worker("200 hello"), world: func(w *world) { w.loopback = false }, code: deploy.CodeTermsNeeded},
		"it does not start": {
			req: worker("200 hello"), world: func(w *world) { w.onBoot = refuse(deploy.CodeStartFailed) },
			code: deploy.CodeStartFailed,
		},
		"the store fails": {req: worker("200 hello"), world: func(w *world) {
			w.store.fail = func(op string) error {
				if op == "SaveSession" {
					return deploy.Errorf(deploy.CodeStore, "Free some space.", "disk full")
				}
				return nil
			}
		}, code: deploy.CodeStore},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if c.world != nil {
					c.world(w)
				}
				s := w.service(func(cfg *deploy.Config) {
					if c.cfg != nil {
						c.cfg(cfg)
					}
				})
				_, err := s.Deploy(t.Context(), me, c.req)
				refused(t, err, c.code)
				if w.provisions+w.uploads+w.routes != 0 {
					t.Errorf("spent: %d accounts, %d uploads, %d routes", w.provisions, w.uploads, w.routes)
				}
				if n := len(w.store.allAccounts()); n != 0 {
					t.Errorf("%d accounts on record", n)
				}
			})
		})
	}
}

// oversize bundles to something over a limit of the upload.
type oversize struct{ gzip int64 }

func (o oversize) Bundle(ctx context.Context, src deploy.Source) (*deploy.Artifact, error) {
	a, err := bundler{}.Bundle(ctx, src)
	if err == nil {
		a.GzipBytes, a.Largest = o.gzip, []deploy.Sized{{Name: "node_modules/huge", Bytes: o.gzip}}
	}
	return a, err
}

func TestGzipLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service(func(c *deploy.Config) { c.Bundler = oversize{3<<20 + 1} })
		_, err := s.Deploy(t.Context(), me, worker("200 hello"))
		if e := refused(t, err, deploy.CodeTooLarge); !strings.Contains(e.Message, "node_modules/huge") || w.provisions != 0 {
			t.Errorf("%v after %d accounts", e, w.provisions)
		}
		s = w.service(func(c *deploy.Config) { c.Bundler = oversize{3 << 20} })
		res := must(t, s, worker("200 hello"))
		if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "1 MiB") {
			t.Errorf("warnings: %q", res.Warnings)
		}
	})
}

func TestAnotherPrincipalsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		mine := must(t, s, worker("200 one"))
		other := deploy.Caller{Principal: "mallory", Scope: me.Scope}
		req := worker("200 evil")
		req.SessionID = mine.SessionID
		_, err := s.Deploy(t.Context(), other, req)
		theirs := refused(t, err, deploy.CodeSessionNotFound)
		req.SessionID = "s_" + strings.Repeat("a", len(mine.SessionID)-2)
		_, err = s.Deploy(t.Context(), other, req)
		none := refused(t, err, deploy.CodeSessionNotFound)
		words := func(e *deploy.Error, id string) string { return strings.ReplaceAll(e.Message+e.Next, id, "ID") }
		if words(theirs, mine.SessionID) != words(none, req.SessionID) {
			t.Errorf("another's session is told from none: %q, %q", theirs.Message, none.Message)
		}
		for _, err := range []error{
			func() error {
				_, err := s.Status(t.Context(), other, deploy.StatusRequest{SessionID: mine.SessionID})
				return err
			}(),
			func() error {
				_, err := s.RequestClaim(t.Context(), other, deploy.ClaimRequest{SessionID: mine.SessionID})
				return err
			}(),
		} {
			refused(t, err, deploy.CodeSessionNotFound)
		}
		st, err := s.Status(t.Context(), other, deploy.StatusRequest{})
		if err != nil || len(st.Sessions) != 0 {
			t.Errorf("another's list: %+v, %v", st, err)
		}
		// The same scope is not the same principal: it gets an account of its own.
		res, err := s.Deploy(t.Context(), other, worker("200 two"))
		if err != nil || res.SessionID == mine.SessionID || w.provisions != 2 {
			t.Errorf("another's deployment: %+v, %v", res, err)
		}
	})
}

func TestAnExpiredSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		first := must(t, s, worker("200 one"))
		time.Sleep(61 * time.Minute)

		named := worker("200 two")
		named.SessionID = first.SessionID
		_, err := s.Deploy(t.Context(), me, named)
		refused(t, err, deploy.CodeSessionExpired)
		if w.provisions != 1 || w.uploads != 1 {
			t.Errorf("%d accounts, %d uploads for an expired session that was named", w.provisions, w.uploads)
		}

		res := must(t, s, worker("200 two"))
		if res.SessionID == first.SessionID || res.Account != deploy.AccountNew || w.provisions != 2 {
			t.Errorf("without a name: %+v", res)
		}

		named.Fresh = true
		res = must(t, s, named)
		if res.SessionID != first.SessionID || res.Account != deploy.AccountNew || w.provisions != 3 {
			t.Errorf("fresh into the expired session: %+v", res)
		}
	})
}

// What has less than the margin left is not begun.
func TestTheMargin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		first := must(t, s, worker("200 one"))
		time.Sleep(time.Until(first.ExpiresAt) - time.Minute - time.Second)
		if res := must(t, s, worker("200 two")); res.SessionID != first.SessionID || res.Phase != deploy.PhaseExpiring {
			t.Errorf("61 s before the end: %+v", res)
		} else if len(res.Warnings) == 0 {
			t.Error("no warning a minute before the end")
		}
		time.Sleep(time.Second)
		if res := must(t, s, worker("200 three")); res.SessionID == first.SessionID || res.Account != deploy.AccountNew {
			t.Errorf("60 s before the end: %+v", res)
		}
	})
}

func TestATokenThatIsRefusedBeforeItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		first := must(t, s, worker("200 one"))
		w.set(func() { clear(w.accounts) }) // somebody removed the account
		_, err := s.Deploy(t.Context(), me, worker("200 two"))
		refused(t, err, deploy.CodeAccountLost)
		if w.provisions != 1 {
			t.Errorf("%d accounts: a lost account is not silently replaced", w.provisions)
		}
		accounts, _ := w.store.Accounts(t.Context(), first.SessionID)
		if len(accounts) != 1 || accounts[0].State != deploy.AccountLost || !accounts[0].Token.Empty() {
			t.Errorf("on record: %v", accounts)
		}
		uploads := w.uploads
		_, err = s.Deploy(t.Context(), me, worker("200 two"))
		refused(t, err, deploy.CodeAccountLost)
		if w.uploads != uploads {
			t.Error("a lost account was tried again")
		}
		fresh := worker("200 two")
		fresh.Fresh = true
		if res := must(t, s, fresh); res.Account != deploy.AccountNew || res.SessionID != first.SessionID {
			t.Errorf("fresh: %+v", res)
		}
	})
}

// The hour ends while the upload is under way: the API's no decides.
func TestATokenThatIsRefusedAtItsTime(t *testing.T) {
	for _, named := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			s := w.service()
			first := must(t, s, worker("200 one"))
			time.Sleep(time.Until(first.ExpiresAt) - 90*time.Second)
			w.set(func() { w.uploadTakes = 2 * time.Minute })
			req := worker("200 two")
			if named {
				req.SessionID = first.SessionID
				_, err := s.Deploy(t.Context(), me, req)
				refused(t, err, deploy.CodeSessionExpired)
				if w.provisions != 1 {
					t.Errorf("%d accounts", w.provisions)
				}
			} else if res := must(t, s, req); res.Account != deploy.AccountNew || res.SessionID == first.SessionID || w.provisions != 2 {
				t.Errorf("after the end: %+v", res)
			}
			accounts, _ := w.store.Accounts(t.Context(), first.SessionID)
			if accounts[0].State != deploy.AccountExpired || !accounts[0].Token.Empty() {
				t.Errorf("on record: %v", accounts[0])
			}
		})
	}
}

func TestAnAccountOfAnotherAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		first := must(t, s, worker("200 one"))
		w.set(func() { w.target = "elsewhere"; w.apiOffset = -30 * 24 * time.Hour })
		named := worker("200 two")
		named.SessionID = first.SessionID
		_, err := s.Deploy(t.Context(), me, named)
		refused(t, err, deploy.CodeSessionExpired)
		if res := must(t, s, worker("200 two")); res.Account != deploy.AccountNew {
			t.Errorf("without a name: %+v", res)
		}
	})
}

func TestTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.loopback = false
		s := w.service()
		_, err := s.Deploy(t.Context(), me, worker("200 one"))
		if e := refused(t, err, deploy.CodeTermsNeeded); !strings.Contains(e.Message, "cloudflare.com/terms") {
			t.Errorf("the refusal does not name the terms: %s", e.Message)
		}
		if err := s.AcceptTerms(t.Context(), deploy.Caller{Principal: "someone else"}, "setup"); err != nil {
			t.Fatal(err)
		}
		_, err = s.Deploy(t.Context(), me, worker("200 one"))
		refused(t, err, deploy.CodeTermsNeeded)
		if err := s.AcceptTerms(t.Context(), me, "elicitation"); err != nil {
			t.Fatal(err)
		}
		must(t, s, worker("200 one"))
		got := w.store.terms[1]
		if got.By != "elicitation" || got.Text != s.Terms() || got.At.IsZero() {
			t.Errorf("recorded: %+v", got)
		}

		w = newWorld(t)
		w.loopback = false
		must(t, w.service(func(c *deploy.Config) { c.TermsAccepted = true }), worker("200 one"))
	})
}

func TestABootThatCantBeTriedSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.onBoot = func(int) error { return errors.New("no runtime here") }
		s := w.service()
		must(t, s, worker("200 one"))
		must(t, s, worker("200 two"))
		if w.boots != 1 {
			t.Errorf("%d boots; only what makes an account is tried first", w.boots)
		}
	})
}

func TestProvisionErrorsPassThrough(t *testing.T) {
	for _, code := range []deploy.Code{
		deploy.CodeAPIUnreachable, deploy.CodeAPIBadResponse, deploy.CodeAPIRefused, deploy.CodeRateLimited,
		deploy.CodeChallengeHard, deploy.CodeChallengeFailed,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.onProvision = refuse(code)
			s := w.service()
			_, err := s.Deploy(t.Context(), me, worker("200 one"))
			refused(t, err, code)
			if w.provisions != 1 || w.uploads != 0 {
				t.Errorf("%d tries, %d uploads; making an account is never repeated", w.provisions, w.uploads)
			}
			w.onProvision = nil
			must(t, s, worker("200 one"))
		})
	}
}
