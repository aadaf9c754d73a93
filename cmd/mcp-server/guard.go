package main

import (
	"context"
	"errors"
	"sync"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/policy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// webhookSecretVar holds what signs webhook messages. It is no flag: other users of the
// machine see a process's arguments.
const webhookSecretVar = "HOURGLASS_WEBHOOK_SECRET" //nolint:gosec // a variable's name

// guard is the policy and the secret scan. The built-in default is compiled when it is
// first asked, because a server that is only asked for its tools has to be up at once; a
// policy file is compiled, and refused, at the start.
type guard struct {
	compiled func() (*policy.Policy, error)
	scanner  func() (*policy.Scanner, error)
}

func newGuard(o *options) (*guard, error) {
	g := &guard{compiled: sync.OnceValues(func() (*policy.Policy, error) { return loadPolicy(o) })}
	g.scanner = sync.OnceValues(func() (*policy.Scanner, error) {
		p, err := g.compiled()
		if err != nil {
			return nil, err
		}
		return policy.NewScanner(policy.ScannerConfig{Allow: p.AllowedFindings()}), nil
	})
	if o.Policy == "" {
		return g, nil
	}
	if _, err := g.compiled(); err != nil {
		return nil, refuse(err)
	}
	return g, nil
}

// Decide implements deploy.Policy.
func (g *guard) Decide(ctx context.Context, act deploy.Act, f deploy.Facts) deploy.Decision {
	p, err := g.compiled()
	if err != nil { // the built-in default does not compile: a mistake of ours, and no reason to let anything pass
		return deploy.Decision{Verdict: deploy.Deny, Reasons: []deploy.Reason{{Rule: "built-in", Verdict: deploy.Deny, Message: "the policy can't be read"}}}
	}
	return p.Decide(ctx, act, f)
}

// Scan implements deploy.Scanner.
func (g *guard) Scan(ctx context.Context, a *deploy.Artifact) ([]deploy.Finding, error) {
	s, err := g.scanner()
	if err != nil {
		return nil, err
	}
	return s.Scan(ctx, a)
}

// openHook starts the webhook that the options name.
func (h *house) openHook(o *options, p process) error {
	secret, _ := p.env(webhookSecretVar)
	if o.Webhook == "" {
		return nil
	}
	if secret == "" {
		return refuse(errors.New("--webhook needs its signing secret in " + webhookSecretVar))
	}
	hook, err := web.NewHook(web.HookConfig{URL: o.Webhook, Secret: deploy.Secret(secret), Redactor: h.redactor, Logger: h.log, Now: now})
	if err != nil {
		return refuse(err)
	}
	h.hook = hook
	h.onClose(hook.Close)
	return nil
}

// notifier is the webhook, or nobody.
func (h *house) notifier() deploy.Notifier {
	if h.hook == nil {
		return nil
	}
	return h.hook
}

// checkpoints carries every checkpoint of the record off this machine: as a line of the
// log, and to the webhook.
func (h *house) checkpoints() func(note []byte, size int64) {
	logged := logCheckpoints(h.log)
	return func(note []byte, size int64) {
		logged(note, size)
		if h.hook != nil {
			h.hook.Notify(deploy.Notice{Type: deploy.NoticeCheckpoint, Data: map[string]any{"size": size, "checkpoint": string(note)}})
		}
	}
}
