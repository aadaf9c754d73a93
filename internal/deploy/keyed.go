package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// keyedCall is a call that holds an idempotency key. A nil one holds none.
type keyedCall struct {
	s              *Service
	principal, key string
	mark           callMark
}

// callMark is what a repeated call must know of the one before it that did not come to
// a result: where it worked, and the step by which it made an account.
type callMark struct {
	Session string `json:"session,omitempty"`
	Step    string `json:"step,omitempty"`
}

// deployKeyed does a call with an idempotency key once. While another does it, it waits.
func (s *Service) deployKeyed(ctx context.Context, c Caller, req DeployRequest) (*DeployResult, error) {
	digest, err := req.digest()
	if err != nil {
		return nil, err
	}
	for {
		state, kept, err := s.cfg.Store.BeginCall(ctx, c.Principal, req.IdempotencyKey, digest, s.cfg.Now())
		if err != nil {
			return nil, err
		}
		switch state {
		case CallNew:
			call := &keyedCall{s: s, principal: c.Principal, key: req.IdempotencyKey}
			if len(kept) > 0 {
				if err := json.Unmarshal(kept, &call.mark); err != nil {
					return nil, fmt.Errorf("reading a call's mark: %w", err)
				}
			}
			return s.deployOnce(ctx, c, req, call)
		case CallDone:
			return s.repeat(ctx, c, kept)
		case CallRunning:
			if err := sleep(ctx, 100*time.Millisecond); err != nil {
				return nil, err
			}
		}
	}
}

// deployOnce deploys under a reserved key, and renews the hold on it meanwhile. A
// failure gives the key free: what was spent by then belongs to the session, where the
// next call finds it by the mark.
func (s *Service) deployOnce(ctx context.Context, c Caller, req DeployRequest, call *keyedCall) (res *DeployResult, err error) {
	var kept []byte
	within, lose := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		keepUp(within, func(ctx context.Context) error { return call.renew(ctx, nil) }, func(err error) { lose(errTurnLost(err)) })
	})
	// Deferred, so that a panic that the door recovers from gives the key free too.
	defer func() {
		lose(nil)
		renewing.Wait()
		if e := s.cfg.Store.FinishCall(context.WithoutCancel(ctx), c.Principal, req.IdempotencyKey, kept); err == nil && e != nil {
			res, err = nil, e
		}
	}()
	if res, err = s.deploy(within, c, req, call); err != nil {
		return nil, orCause(within, err)
	}
	if kept, err = json.Marshal(res); err != nil {
		return nil, fmt.Errorf("keeping a result: %w", err)
	}
	return res, nil
}

func (k *keyedCall) renew(ctx context.Context, mark []byte) error {
	return k.s.cfg.Store.MarkCall(ctx, k.principal, k.key, mark, k.s.cfg.Now())
}

// keep writes down where the call works and what it begins, before it spends anything.
func (k *keyedCall) keep(ctx context.Context, m callMark) error {
	if k == nil || k.mark == m {
		return nil
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("a call's mark: %w", err)
	}
	if err := k.renew(ctx, raw); err != nil {
		return err
	}
	k.mark = m
	return nil
}

// marked is what is known of the call before this one under the same key.
func (k *keyedCall) marked() callMark {
	if k == nil {
		return callMark{}
	}
	return k.mark
}

// repeat gives a kept result with a fresh countdown.
func (s *Service) repeat(ctx context.Context, c Caller, kept []byte) (*DeployResult, error) {
	var res DeployResult
	if err := json.Unmarshal(kept, &res); err != nil {
		return nil, fmt.Errorf("reading a kept result: %w", err)
	}
	sess, err := s.cfg.Store.Session(ctx, c.Principal, res.SessionID)
	if err != nil {
		return nil, err
	}
	deps, err := s.cfg.Store.Deployments(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	accounts, err := s.cfg.Store.Accounts(ctx, sess.ID)
	if err != nil {
		return nil, err
	}
	s.learn(accounts)
	for _, d := range deps {
		for i := range accounts {
			if d.ID == res.DeploymentID && d.AccountID == accounts[i].ID {
				s.countdown(&res, &accounts[i])
			}
		}
	}
	return &res, nil
}

// digest fixes the arguments of a call for its idempotency key.
func (r DeployRequest) digest() (string, error) {
	r.Progress, r.IdempotencyKey = nil, ""
	b, err := json.Marshal(struct {
		DeployRequest
		Progress bool
	}{DeployRequest: r})
	if err != nil {
		return "", fmt.Errorf("digest of a call: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
