package policy

import (
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/tailscale/hujson"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// policyFile is a policy as it is written down.
type policyFile struct {
	Rules []ruleText
	// Otherwise says what holds for an act that no rule spoke about.
	Otherwise map[string]fallback
	// AllowFindings are secrets that the scan does not report.
	AllowFindings []allowance
}

// ruleText is one rule as it is written down.
type ruleText struct {
	at   int
	Name word `need:"yes"`
	Act  word
	Acts []word
	When expression `need:"yes"`
	// A rule either decides, by a verdict, or requires.
	Verdict word
	Require []word
	Message string
	Next    string
}

// fallback is the verdict of "otherwise" for one act: a verdict alone, or an object.
type fallback struct {
	at            int
	Verdict       word `need:"yes"`
	Message, Next string
}

// allowance lets one finding through, with the reason that a reviewer will ask for.
type allowance struct {
	Fingerprint word   `need:"yes"`
	Reason      string `need:"yes"`
}

// word is a string that remembers where it stands.
type word struct {
	at   int
	text string
}

func (w *word) decode(d *document, v hujson.Value) {
	w.at = v.StartOffset
	d.decodeLiteral(v, reflect.ValueOf(&w.text).Elem(), "this value")
}

func (r *ruleText) decode(d *document, v hujson.Value) {
	r.at = v.StartOffset
	d.decodeStruct(v, reflect.ValueOf(r).Elem(), "a rule")
}

func (f *fallback) decode(d *document, v hujson.Value) {
	f.at = v.StartOffset
	if lit, ok := v.Value.(hujson.Literal); ok && lit.Kind() == '"' {
		f.Verdict.decode(d, v)
		return
	}
	d.decodeStruct(v, reflect.ValueOf(f).Elem(), "what holds otherwise")
}

var (
	ruleName    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	fingerprint = regexp.MustCompile(`^f_[0-9a-f]{24}$`)
)

// otherwise is the name under which a decision reports that no rule spoke.
const otherwise = "otherwise"

// readFile reads a policy file and notes all that is wrong with it but its conditions.
func readFile(d *document) policyFile {
	var f policyFile
	v, ok := d.parse()
	if !ok {
		return f
	}
	d.decode(v, reflect.ValueOf(&f).Elem(), "a policy")
	seen := map[string]bool{}
	for i := range f.Rules {
		r := &f.Rules[i]
		switch {
		case r.Name.text == "":
		case r.Name.text == otherwise:
			d.mistake(r.Name.at, "no rule may be named %q: that is what a decision without rules is reported as", otherwise)
		case len(r.Name.text) > 63 || !ruleName.MatchString(r.Name.text):
			d.mistake(r.Name.at, "a rule's name has lower-case letters, digits and dashes, at most 63, not %q", clip(r.Name.text))
		case seen[r.Name.text]:
			d.mistake(r.Name.at, "two rules are named %q", r.Name.text)
		}
		seen[r.Name.text] = true
		d.checkActs(r)
		switch {
		case len(r.Require) > 0:
			d.checkRequire(r)
		case r.Verdict.at == 0:
			d.mistake(r.at, "a rule needs the key %q, or %q", "verdict", "require")
		default:
			d.checkVerdict(r.Verdict, r.Message, r.Next)
		}
	}
	for act, o := range f.Otherwise {
		d.checkAct(word{at: o.at, text: act})
		d.checkVerdict(o.Verdict, o.Message, o.Next)
	}
	for _, a := range f.AllowFindings {
		if a.Fingerprint.at > 0 && !fingerprint.MatchString(a.Fingerprint.text) {
			d.mistake(a.Fingerprint.at, "a fingerprint is f_ and 24 hexadecimal digits, as a finding tells it")
		}
		if a.Fingerprint.at > 0 && strings.TrimSpace(a.Reason) == "" {
			d.mistake(a.Fingerprint.at, "an allowed finding needs a reason: who looked, and why it is no secret")
		}
	}
	return f
}

func (d *document) checkActs(r *ruleText) {
	switch {
	case r.Act.at == 0 && len(r.Acts) == 0:
		d.mistake(r.at, "a rule needs an act: \"act\" with one, or \"acts\" with a list (%s)", strings.Join(actNames(), ", "))
	case r.Act.at > 0 && len(r.Acts) > 0:
		d.mistake(r.Act.at, "a rule has either \"act\" or \"acts\"")
	case r.Act.at > 0:
		r.Acts = []word{r.Act}
	}
	for _, a := range r.Acts {
		d.checkAct(a)
	}
}

func (d *document) checkAct(w word) {
	if !slices.Contains(actNames(), w.text) {
		d.hinted(w.at, guess(w.text, actNames()), "there is no act %q", clip(w.text))
	}
}

// checkVerdict also asks for the two sentences: a refusal that says neither why nor
// what to do instead makes an agent try again.
func (d *document) checkVerdict(v word, message, next string) {
	known := []string{string(deploy.Allow), string(deploy.Ask), string(deploy.Deny)}
	switch {
	case v.at == 0:
	case !slices.Contains(known, v.text):
		d.hinted(v.at, guess(v.text, known), "there is no verdict %q", clip(v.text))
	case v.text == string(deploy.Allow):
	case strings.TrimSpace(message) == "":
		d.mistake(v.at, "%q needs a message: what is wrong, for whoever asked", v.text)
	case strings.TrimSpace(next) == "":
		d.mistake(v.at, "%q needs next: what the agent should do instead", v.text)
	}
}

// checkRequire checks a rule that decides nothing, and demands something of what is done.
func (d *document) checkRequire(r *ruleText) {
	if r.Verdict.at > 0 {
		d.mistake(r.Verdict.at, "a rule has either \"verdict\" or \"require\": another rule, or \"otherwise\", says whether the act is done")
	}
	if strings.TrimSpace(r.Message) == "" {
		d.mistake(r.Require[0].at, "\"require\" needs a message: why, for the record")
	}
	for _, a := range r.Acts {
		known := deploy.Requirements(deploy.Act(a.text))
		for _, w := range r.Require {
			switch {
			case slices.Contains(known, w.text) || !slices.Contains(actNames(), a.text):
			case len(known) == 0:
				d.mistake(a.at, "nothing can be required of the act %q", clip(a.text))
			default:
				d.hinted(w.at, guess(w.text, known), "nothing is called %q that could be required of %q", clip(w.text), clip(a.text))
			}
		}
	}
}

func actNames() []string {
	var out []string
	for _, a := range deploy.Acts() {
		out = append(out, string(a))
	}
	return out
}
