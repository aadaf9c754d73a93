package session_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// composed is what a picture must be, put together from the store's other reads.
func composed(t testing.TB, s *session.Store, sess deploy.Session) deploy.Picture {
	t.Helper()
	ctx := t.Context()
	p := deploy.Picture{Session: sess}
	newest, err := s.CurrentSession(ctx, sess.Principal, sess.Scope, "")
	must(t, err)
	p.Newest = newest.ID == sess.ID
	p.Accounts, err = s.Accounts(ctx, sess.ID)
	must(t, err)
	deps, err := s.Deployments(ctx, sess.ID)
	must(t, err)
	seen := map[string]bool{}
	for _, d := range deps {
		if key := d.AccountID + " " + d.Worker; d.Serving != deploy.ServingFailed && d.Serving != deploy.ServingDeleted && !seen[key] {
			seen[key] = true
			p.Deployments = append(p.Deployments, d)
		}
	}
	steps, err := s.Steps(ctx, sess.ID)
	must(t, err)
	if slices.ContainsFunc(steps, func(v deploy.Step) bool { return v.State != deploy.StepDone && v.State != deploy.StepFailed }) {
		p.Steps = steps
	}
	p.Foreign, err = s.Foreign(ctx, sess.ID)
	must(t, err)
	p.Claim, err = s.Claim(ctx, sess.ID)
	must(t, err)
	if p.Claim != nil {
		p.Claim.PageToken = ""
	}
	return p
}

// samePictures compares the pictures that one store gives with what another reads.
func samePictures(t testing.TB, got, other *session.Store, after string) {
	t.Helper()
	ctx := t.Context()
	for _, principal := range []string{"me", "you"} {
		all, err := other.Sessions(ctx, principal, 50)
		must(t, err)
		var want []deploy.Picture
		for _, sess := range all {
			p := composed(t, other, sess)
			want = append(want, p)
			one, err := got.Pictures(ctx, principal, sess.ID, 1)
			must(t, err)
			if d := cmp.Diff([]deploy.Picture{p}, one, cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("after %s, of %s: (-want +got)\n%s", after, sess.ID, d)
			}
		}
		list, err := got.Pictures(ctx, principal, "", 50)
		must(t, err)
		if d := cmp.Diff(want, list, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("after %s, of all: (-want +got)\n%s", after, d)
		}
	}
}

// TestPicturesAreNow: whatever another process writes is in the next picture; pictures are
// what the other reads of the store are, put together.
func TestPicturesAreNow(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		ctx := t.Context()
		a := p.open(t)
		b := p.open(t) // another process, as far as the database knows
		samePictures(t, a, a, "nothing")
		var l *deploy.Lease
		dep := func(id, worker string) deploy.Deployment {
			return deploy.Deployment{ID: id, SessionID: "s_1", AccountID: "1", Worker: worker, Host: worker + ".x.workers.dev", VersionID: "v" + id, CreatedAt: at(10), Serving: deploy.ServingYes}
		}
		claim := func(id string) deploy.Claim {
			return deploy.Claim{
				Custody: "attended", Yes: deploy.YesRule{FourEyes: true, Where: "http://x"},
				ID: id, SessionID: "s_1", AccountID: "1", Principal: "me", PageToken: deploy.Secret("page-" + id), State: deploy.ClaimAwaiting,
				Message: "keep it", Digest: "dd", AskedAt: at(20), ExpiresAt: at(3600),
			}
		}
		gone := dep("d_3", "two")
		gone.Serving = deploy.ServingFailed
		seen := dep("d_2", "one")
		seen.Check = &deploy.Check{Path: "/", Status: 200, OK: true, Version: deploy.VersionConfirmed, ProbedAt: at(30)}
		other := someSession("s_2", "me", 5)
		other.Scope = "another"
		second := someAccount("2", "s_1")
		over := second
		over.State, over.Token, over.ClaimURL = deploy.AccountExpired, "", ""
		for _, write := range []struct {
			what string
			do   func() error
		}{
			{"a session", func() error { return b.SaveSession(ctx, someSession("s_1", "me", 1)) }},
			{"one of another scope", func() error { return b.SaveSession(ctx, other) }},
			{"one of another principal", func() error { return b.SaveSession(ctx, someSession("s_3", "you", 6)) }},
			{"an account", func() error { return b.SaveAccount(ctx, someAccount("1", "s_1")) }},
			{"a deployment", func() error { return b.SaveDeployment(ctx, dep("d_1", "one")) }},
			{"a newer one", func() error { return b.SaveDeployment(ctx, dep("d_2", "one")) }},
			{"a look at it", func() error { return b.SaveDeployment(ctx, seen) }},
			{"one that failed", func() error { return b.SaveDeployment(ctx, gone) }},
			{"a Worker beside it", func() error { return b.SaveDeployment(ctx, dep("d_4", "three")) }},
			{"the newest of a Worker was taken down", func() error {
				d := seen
				d.Serving = deploy.ServingDeleted
				return b.SaveDeployment(ctx, d)
			}},
			{"a step", func() (err error) {
				if l, err = b.AcquireLease(ctx, "s_1", time.Hour); err != nil {
					return err
				}
				return b.BeginStep(ctx, l, someStep("x_1", "s_1", deploy.StepUploadScript))
			}},
			{"its end", func() error {
				return b.Settle(ctx, l, deploy.Settlement{StepID: "x_1", State: deploy.StepDone, Ref: "v9"})
			}},
			{"one that was lost", func() error {
				if err := b.BeginStep(ctx, l, someStep("x_2", "s_1", deploy.StepEnableRoute)); err != nil {
					return err
				}
				return b.Settle(ctx, l, deploy.Settlement{StepID: "x_2", State: deploy.StepLost, Note: "nobody knows"})
			}},
			{"a claim", func() error { return b.SaveClaim(ctx, claim("c_1")) }},
			{"a decision", func() error {
				_, err := b.MoveClaim(ctx, deploy.ClaimMove{ID: "c_1", From: deploy.ClaimAwaiting, To: deploy.ClaimRefused, By: "ann", At: at(40)})
				return err
			}},
			{"another claim", func() error { return b.SaveClaim(ctx, claim("c_2")) }},
			{"what is not ours", func() error {
				f := deploy.ForeignChange{SessionID: "s_1", Target: "http://api", AccountID: "1", Worker: "one", VersionID: "v2", SeenAt: at(50)}
				g := f
				g.VersionID = "v1"
				return errors.Join(b.SaveForeign(ctx, f), b.SaveForeign(ctx, g))
			}},
			{"an account that retires the first", func() error { return b.SaveAccount(ctx, second) }},
			{"its end", func() error { return b.SaveAccount(ctx, over) }},
			{"a newer session", func() error { return b.SaveSession(ctx, someSession("s_4", "me", 9)) }},
			{"a session of the same moment", func() error { return b.SaveSession(ctx, someSession("s_0", "me", 9)) }},
			{"one forgotten", func() error { return b.ForgetSession(ctx, "s_4") }},
			{"a write of its own", func() error { return a.SaveDeployment(ctx, dep("d_5", "four")) }},
		} {
			must(t, write.do())
			samePictures(t, a, b, write.what)
			samePictures(t, a, b, write.what+", once more")
			samePictures(t, b, a, write.what+", where it was written")
		}
		for _, id := range []string{"s_3", "s_4", "s_never", "s\x00", "\xff"} { // another's is as unknown as none
			_, err := a.Pictures(ctx, "me", id, 1)
			wantCode(t, err, deploy.CodeSessionNotFound)
		}
		two, err := a.Pictures(ctx, "me", "", 2)
		must(t, err)
		if len(two) != 2 || two[0].Session.ID != "s_0" || two[1].Session.ID != "s_2" {
			t.Errorf("the newest two: %+v", two)
		}
	})
}

// TestPicturesAreOnesOwn: what is done to a picture is not in the next one.
func TestPicturesAreOnesOwn(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		ctx := t.Context()
		s := p.open(t)
		must(t, s.SaveSession(ctx, someSession("s_1", "me", 1)))
		must(t, s.SaveAccount(ctx, someAccount("1", "s_1")))
		must(t, s.SaveDeployment(ctx, deploy.Deployment{ID: "d_1", SessionID: "s_1", AccountID: "1", Worker: "w", Serving: deploy.ServingYes}))
		for range 3 {
			got, err := s.Pictures(ctx, "me", "s_1", 1)
			must(t, err)
			if a, d := got[0].Accounts[0], got[0].Deployments[0]; a.State != deploy.AccountCurrent || a.Token.Empty() || d.Serving != deploy.ServingYes {
				t.Fatalf("%+v %+v", a, d)
			}
			got[0].Accounts[0].State, got[0].Accounts[0].Token = deploy.AccountClaimed, ""
			got[0].Deployments[0].Serving = deploy.ServingNotYet
		}
	})
}

// TestNoPictureIsOlderThanAWrite: while one process writes on and on, none of many readers
// of another gets a picture from before the last write that had returned when it asked.
func TestNoPictureIsOlderThanAWrite(t *testing.T) {
	homes(t, func(t *testing.T, p place) {
		const readers, writes, sessions = 6, 60, 5
		ctx := t.Context()
		a, b := p.open(t), p.open(t)
		id := func(i int) string { return fmt.Sprint("s_", i%sessions) }
		for i := range sessions {
			must(t, b.SaveSession(ctx, someSession(id(i), "me", int64(i))))
		}
		var written [sessions]atomic.Int64
		done := make(chan struct{})
		var wg sync.WaitGroup
		for r := range readers {
			wg.Go(func() {
				for i := r; ; i++ {
					select {
					case <-done:
						return
					default:
					}
					least := written[i%sessions].Load()
					got, err := a.Pictures(ctx, "me", id(i), 1)
					if err != nil {
						t.Error(err)
						return
					}
					has := int64(0)
					if len(got[0].Deployments) > 0 {
						has = got[0].Deployments[0].CreatedAt.UnixMilli()
					}
					if has < least {
						t.Errorf("%s: a picture of write %d, after write %d had returned", id(i), has, least)
						return
					}
				}
			})
		}
		for i := range writes {
			n := int64(i + 1)
			d := deploy.Deployment{ID: fmt.Sprint("d_", i), SessionID: id(i), AccountID: "1", Worker: "w", CreatedAt: time.UnixMilli(n).UTC(), Serving: deploy.ServingYes}
			if err := b.SaveDeployment(ctx, d); err != nil {
				t.Error(err)
				break
			}
			written[i%sessions].Store(n)
		}
		close(done)
		wg.Wait()
	})
}
