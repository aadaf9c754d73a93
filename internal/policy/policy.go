package policy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// timeout bounds one decision by the clock. maxCost ends a condition long before, also on
// a machine that is busy with other things; this is for work that is not counted.
const timeout = 10 * time.Second

// Config says where rules come from.
type Config struct {
	// Name is the policy file's, for messages; Source is what is in it. Without a source
	// the built-in default holds alone.
	Name   string
	Source []byte
}

// Policy is a compiled policy. It is safe for concurrent use.
type Policy struct {
	rules     []rule
	otherwise map[deploy.Act]deploy.Reason
	allowed   map[string]string
	replaced  []string
}

// rule is one compiled rule.
type rule struct {
	name   string
	acts   []deploy.Act
	when   cel.Program
	reason deploy.Reason
}

var _ deploy.Policy = (*Policy)(nil)

// New compiles a policy: the built-in default, then the file's rules. A rule of the file
// with the name of a default rule takes its place; "otherwise" is replaced act by act.
// The error is a *deploy.Error whose diagnostics name every mistake in the file.
func New(cfg Config) (*Policy, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	p := &Policy{otherwise: map[deploy.Act]deploy.Reason{}, allowed: map[string]string{}}
	if err := p.add(env, &document{name: "default.jsonc", raw: Default()}); err != nil {
		return nil, fmt.Errorf("the built-in default: %w", err)
	}
	if cfg.Source != nil {
		if err := p.add(env, &document{name: cfg.Name, raw: cfg.Source}); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// add compiles the rules of one file into the policy.
func (p *Policy) add(env *cel.Env, d *document) error {
	f := readFile(d)
	for _, r := range f.Rules {
		one := rule{name: r.Name.text, when: d.compile(env, r.When), reason: deploy.Reason{
			Rule: r.Name.text, Verdict: deploy.Verdict(r.Verdict.text), Message: r.Message, Next: r.Next,
		}}
		for _, w := range r.Require {
			one.reason.Verdict = deploy.Require
			one.reason.Require = append(one.reason.Require, w.text)
		}
		for _, a := range r.Acts {
			one.acts = append(one.acts, deploy.Act(a.text))
		}
		if i := slices.IndexFunc(p.rules, func(old rule) bool { return old.name == one.name }); i >= 0 {
			p.rules = slices.Delete(p.rules, i, i+1)
			p.replaced = append(p.replaced, one.name)
		}
		p.rules = append(p.rules, one)
	}
	for act, o := range f.Otherwise {
		p.otherwise[deploy.Act(act)] = deploy.Reason{Rule: otherwise, Verdict: deploy.Verdict(o.Verdict.text), Message: o.Message, Next: o.Next}
	}
	for _, a := range f.AllowFindings {
		p.allowed[a.Fingerprint.text] = a.Reason
	}
	return d.err("policy")
}

// AllowedFindings are the fingerprints that the policy lets through, each with its
// reason: what the Scanner leaves out.
func (p *Policy) AllowedFindings() map[string]string { return maps.Clone(p.allowed) }

// Rules names the rules in force, the defaults first, and Replaced those defaults that
// the file's own rules of the same name took the place of.
func (p *Policy) Rules() (inForce, replaced []string) {
	for _, r := range p.rules {
		inForce = append(inForce, r.name)
	}
	return inForce, slices.Clone(p.replaced)
}

// Decide implements deploy.Policy: every rule of the act is evaluated and all that
// match are reported, the strongest first; deny beats ask beats allow. A rule that
// requires something decides nothing.
func (p *Policy) Decide(ctx context.Context, act deploy.Act, f deploy.Facts) deploy.Decision {
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	if len(p.allowed) > 0 {
		f.Findings = slices.DeleteFunc(slices.Clone(f.Findings), func(one deploy.Finding) bool {
			_, ok := p.allowed[one.Fingerprint]
			return ok
		})
	}
	seen := &facts{act: act, Facts: &f}
	var d deploy.Decision
	for i := range p.rules {
		r := &p.rules[i]
		if !slices.Contains(r.acts, act) {
			continue
		}
		switch holds, why := r.holds(ctx, seen); {
		case why != "":
			d.Reasons = append(d.Reasons, r.broken(why))
		case holds:
			d.Reasons = append(d.Reasons, r.reason)
		}
	}
	if !slices.ContainsFunc(d.Reasons, func(r deploy.Reason) bool { return r.Verdict != deploy.Require }) {
		d.Reasons = append(d.Reasons, p.silence(act))
	}
	slices.SortStableFunc(d.Reasons, func(a, b deploy.Reason) int { return rank(b.Verdict) - rank(a.Verdict) })
	d.Verdict = d.Reasons[0].Verdict
	return d
}

// silence is what holds for an act that no rule spoke about.
func (p *Policy) silence(act deploy.Act) deploy.Reason {
	if r, ok := p.otherwise[act]; ok {
		return r
	}
	return deploy.Reason{
		Rule: otherwise, Verdict: deploy.Deny, Message: fmt.Sprintf("no rule speaks about the act %q", act),
		Next: "Tell the user: the operator's policy does not know this act.",
	}
}

// holds evaluates the condition; why says that it could not be.
func (r *rule) holds(ctx context.Context, f *facts) (holds bool, why string) {
	defer func() {
		if recover() != nil { // what panicked is not told: it may hold anything
			holds, why = false, "the evaluation failed"
		}
	}()
	out, _, err := r.when.ContextEval(ctx, f)
	if err != nil {
		return false, err.Error()
	}
	holds, ok := out.Value().(bool)
	if !ok {
		return false, "it is neither true nor false"
	}
	return holds, ""
}

// broken is what a rule says that can't be evaluated.
func (r *rule) broken(why string) deploy.Reason {
	return deploy.Reason{
		Rule: r.name, Verdict: deploy.Deny,
		Message: fmt.Sprintf("the rule %s can't be evaluated, so it denies: %s", r.name, clip(why)),
		Next:    "Tell the user: the operator's policy asks for something that is not known of this call, such as a label that it does not carry, or takes too long.",
	}
}

// rank orders verdicts by strength. What is none of the three counts as deny.
func rank(v deploy.Verdict) int {
	switch v {
	case deploy.Require:
		return -1
	case deploy.Allow:
		return 0
	case deploy.Ask:
		return 1
	}
	return 2
}
