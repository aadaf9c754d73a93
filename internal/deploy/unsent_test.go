package deploy_test

import (
	"testing"
	"testing/synctest"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

type neverSent struct{}

func (neverSent) Error() string  { return "nothing was sent" }
func (neverSent) NoEffect() bool { return true }

// TestAnAccountThatWasNotAskedFor: where the request did not leave the machine no
// account is lost, and the same call makes one.
func TestAnAccountThatWasNotAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.afterProvision = func(n int) error {
			if n > 1 {
				return nil
			}
			return deploy.Errorf(deploy.CodeAPIUnreachable, "Make the same call again.", "connection refused").Caused(neverSent{})
		}
		s := w.service()
		_, err := s.Deploy(t.Context(), me, worker("200 one"))
		refused(t, err, deploy.CodeAPIUnreachable)
		if st := w.store.states(deploy.StepCreateAccount); len(st) != 1 || st[0] != deploy.StepFailed {
			t.Errorf("the step is %v", st)
		}
		if res := must(t, s, worker("200 one")); res.Account != deploy.AccountNew {
			t.Errorf("%+v", res)
		}
	})
}
