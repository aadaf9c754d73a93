package policy

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/tailscale/hujson"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Case is one expectation of a policy: an act with its facts, and what must come out.
type Case struct {
	Name  string
	Act   deploy.Act
	Facts deploy.Facts
	// Verdict must come out; Rules, where they are given, must be exactly those that
	// match, in any order.
	Verdict deploy.Verdict
	Rules   []string
	// Require, where it is given, is exactly what must be required.
	Require []string
}

// Failure is a case that came out otherwise.
type Failure struct {
	Case Case
	Got  deploy.Decision
}

// String is a line for people.
func (f Failure) String() string {
	var rules []string
	for _, r := range f.Got.Reasons {
		rules = append(rules, fmt.Sprintf("%s (%s)", r.Rule, r.Verdict))
	}
	want := string(f.Case.Verdict)
	if f.Case.Rules != nil {
		want += " by " + strings.Join(f.Case.Rules, ", ")
	}
	if f.Case.Require != nil {
		want += " with [" + strings.Join(f.Case.Require, ", ") + "]"
	}
	return fmt.Sprintf("%s: wanted %s, got %s by %s", f.Case.Name, want, f.Got.Verdict, strings.Join(rules, ", "))
}

// caseText is a case as it is written down.
type caseText struct {
	at    int
	Name  word `need:"yes"`
	Act   word `need:"yes"`
	Facts deploy.Facts
	Want  struct {
		Verdict word `need:"yes"`
		Rules   []string
		Require []word
	} `need:"yes"`
}

func (c *caseText) decode(d *document, v hujson.Value) {
	c.at = v.StartOffset
	d.decodeStruct(v, reflect.ValueOf(c).Elem(), "a case")
}

// Cases reads a file of cases: a list of {name, act, facts, want: {verdict, rules}}. The
// facts have the names that rules call them by; what is left out is empty.
func Cases(name string, source []byte) ([]Case, error) {
	d := &document{name: name, raw: source}
	v, ok := d.parse()
	var list []caseText
	if ok {
		d.decode(v, reflect.ValueOf(&list).Elem(), "a file of cases")
	}
	var out []Case
	for _, c := range list {
		d.checkCase(c)
		one := Case{
			Name: c.Name.text, Act: deploy.Act(c.Act.text), Facts: c.Facts, Verdict: deploy.Verdict(c.Want.Verdict.text), Rules: c.Want.Rules,
		}
		if c.Want.Require != nil {
			one.Require = []string{}
		}
		for _, w := range c.Want.Require {
			one.Require = append(one.Require, w.text)
		}
		out = append(out, one)
	}
	if ok && len(out) == 0 && len(d.rows) == 0 {
		d.mistake(v.StartOffset, "there is no case in it, so it would prove nothing")
	}
	return out, d.err("file of cases")
}

func (d *document) checkCase(c caseText) {
	if c.Act.at > 0 {
		d.checkAct(c.Act)
	}
	known := []string{string(deploy.Allow), string(deploy.Ask), string(deploy.Deny)}
	if v := c.Want.Verdict; v.at > 0 && !slices.Contains(known, v.text) {
		d.hinted(v.at, guess(v.text, known), "there is no verdict %q", clip(v.text))
	}
	for _, w := range c.Want.Require {
		if all := deploy.Requirements(deploy.ActDeploy); !slices.Contains(all, w.text) {
			d.hinted(w.at, guess(w.text, all), "nothing is called %q that could be required", clip(w.text))
		}
	}
	if door := c.Facts.Door; door != "" && !slices.Contains(doors(), door) {
		d.hinted(c.at, guess(door, doors()), "there is no door %q", clip(door))
	}
}

// Try asks the policy about every case and gives those that came out otherwise.
func (p *Policy) Try(ctx context.Context, cases []Case) []Failure {
	var out []Failure
	for _, c := range cases {
		got := p.Decide(ctx, c.Act, c.Facts)
		if got.Verdict == c.Verdict && (c.Rules == nil || sameRules(c.Rules, got.Reasons)) && (c.Require == nil || sameRequire(c.Require, got.Reasons)) {
			continue
		}
		out = append(out, Failure{c, got})
	}
	return out
}

func sameRules(want []string, got []deploy.Reason) bool {
	var names []string
	for _, r := range got {
		names = append(names, r.Rule)
	}
	slices.Sort(names)
	return slices.Equal(slices.Sorted(slices.Values(want)), names)
}

func sameRequire(want []string, got []deploy.Reason) bool {
	var all []string
	for _, r := range got {
		all = append(all, r.Require...)
	}
	slices.Sort(all)
	return slices.Equal(slices.Compact(slices.Sorted(slices.Values(want))), slices.Compact(all))
}
