package bundle

import (
	"crypto/sha1" //nolint:gosec // names parts as wrangler does; nothing rests on it
	"encoding/hex"
	"path"
	"regexp"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// rule says what kind of module files are that a glob matches (wrangler-wire fact
// sheet, section 17).
type rule struct {
	kind         string // ESModule, CommonJS, Text, Data, CompiledWasm
	globs        []string
	fallsThrough *bool
	specs        []*regexp.Regexp // for what is written in an import
	names        []*regexp.Regexp // for paths of files
}

func defaultRules() []rule {
	return []rule{
		{kind: "Text", globs: []string{"**/*.txt", "**/*.html", "**/*.sql"}},
		{kind: "Data", globs: []string{"**/*.bin"}},
		{kind: "CompiledWasm", globs: []string{"**/*.wasm", "**/*.wasm?module"}},
	}
}

// ruleSet is the rules in force, and those that an earlier rule of the same kind hides.
type ruleSet struct {
	active, hidden []rule
	warnings       []string
}

// newRuleSet puts the project's rules before the default ones. A rule without
// "fallthrough": true ends its kind: later ones of that kind count no more.
func newRuleSet(own []rule) (*ruleSet, error) {
	set := &ruleSet{}
	done := map[string]*bool{}
	all := append(append([]rule{}, own...), defaultRules()...)
	for i := range all {
		r := all[i]
		for _, g := range r.globs {
			spec, err := regexp.Compile(globRegexp(g, false, false))
			if err != nil {
				return nil, err
			}
			name, err := regexp.Compile(globRegexp(g, true, false))
			if err != nil {
				return nil, err
			}
			r.specs, r.names = append(r.specs, spec), append(r.names, name)
		}
		if said, ended := done[r.kind]; ended {
			set.hidden = append(set.hidden, r)
			if said == nil {
				set.warnings = append(set.warnings, "The module rule for "+strings.Join(r.globs, ", ")+" ("+r.kind+
					") is ignored because an earlier "+r.kind+" rule has no fallthrough; set fallthrough to true on that one to keep both.")
			}
			continue
		}
		set.active = append(set.active, r)
		if r.fallsThrough == nil || !*r.fallsThrough {
			done[r.kind] = r.fallsThrough
		}
	}
	return set, nil
}

func (r *rule) isCode() bool { return r.kind == "ESModule" || r.kind == "CommonJS" }

func matchAny(list []*regexp.Regexp, s string) bool {
	for _, re := range list {
		if re.MatchString(s) {
			return true
		}
	}
	return false
}

// forImport finds the rule for what is written in an import; hidden tells that only a
// hidden rule matches.
func (s *ruleSet) forImport(spec string, code bool) (r *rule, hidden bool) {
	for i := range s.active {
		if (code || !s.active[i].isCode()) && matchAny(s.active[i].specs, spec) {
			return &s.active[i], false
		}
	}
	for i := range s.hidden {
		if (code || !s.hidden[i].isCode()) && matchAny(s.hidden[i].specs, spec) {
			return &s.hidden[i], true
		}
	}
	return nil, false
}

// forFile finds the rule for a path of a file.
func (s *ruleSet) forFile(name string) *rule {
	for i := range s.active {
		if matchAny(s.active[i].names, name) {
			return &s.active[i]
		}
	}
	return nil
}

func mimeOf(kind string) string {
	switch kind {
	case "ESModule":
		return deploy.TypeESModule
	case "CommonJS":
		return deploy.TypeCommonJS
	case "Text":
		return deploy.TypeText
	case "CompiledWasm":
		return deploy.TypeWasm
	}
	return deploy.TypeData
}

// partName names the part that a file becomes, as wrangler does: its SHA-1 and base name.
func partName(spec string, content []byte, keep bool) string {
	spec, _, _ = strings.Cut(spec, "?")
	sum := sha1.Sum(content) //nolint:gosec // see the import
	hash := hex.EncodeToString(sum[:])
	switch {
	case !keep:
		return "./" + hash + "-" + path.Base(spec)
	case path.IsAbs(spec):
		return "./" + hash + "/" + path.Base(spec)
	}
	return spec
}
