package bundle

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// settings is the wrangler configuration of a project; without a file it is empty.
type settings struct {
	file     string // path in the tree, "" if there is none
	dir      string // the folder that its paths are relative to
	shown    string // the file as the project sees it
	top, env *object
	envName  string
	warnings []string
	err      *deploy.Error // the first mistake met while reading values
}

// findSettings looks for the configuration as wrangler does: wrangler.json, .jsonc,
// .toml, each in the project's folder and above (inside the root), then a redirection
// in .wrangler/deploy/config.json.
func findSettings(f *files, environment string) (*settings, error) {
	s := &settings{dir: f.project, envName: environment}
	for _, name := range []string{"wrangler.json", "wrangler.jsonc", "wrangler.toml"} {
		if s.file = findUp(f, name); s.file != "" {
			break
		}
	}
	redirect := findUp(f, ".wrangler/deploy/config.json")
	if redirect != "" {
		raw, err := f.read(redirect)
		if err != nil {
			return nil, configError(f.show(redirect), "can't be read")
		}
		n, err := parseJSONC(raw)
		o, ok := n.(*object)
		if err != nil || !ok || o.text("configPath") == "" {
			return nil, configError(f.show(redirect), "must be an object with \"configPath\"")
		}
		to, ok := joinInside(path.Dir(redirect), o.text("configPath"))
		if !ok || path.IsAbs(o.text("configPath")) || !f.isFile(to) {
			return nil, configError(f.show(redirect), "names a configPath that is not a file inside the allowed root")
		}
		s.file = to
	}
	if s.file == "" {
		if environment != "" {
			return nil, deploy.Errorf(deploy.CodeConfigInvalid, "Leave environment out, or add a wrangler configuration that has it.",
				"environment %q was asked for, but there is no wrangler configuration", environment)
		}
		return s, nil
	}
	s.dir, s.shown = path.Dir(s.file), f.show(s.file)
	raw, err := f.read(s.file)
	if err != nil {
		if e, ok := errors.AsType[*deploy.Error](err); ok {
			return nil, e
		}
		return nil, configError(s.shown, "can't be read")
	}
	if len(raw) > maxSettings {
		return nil, configError(s.shown, fmt.Sprintf("has %s; a configuration has at most %s", size(int64(len(raw))), size(maxSettings)))
	}
	if s.top, err = parseSettings(s.file, raw); err != nil {
		return nil, configError(s.shown, err.Error())
	}
	return s, s.pickEnvironment()
}

// maxSettings bounds a configuration in bytes: its parsers call themselves for each
// level of nesting.
const maxSettings = 1 << 20

func findUp(f *files, name string) string {
	for dir := f.project; ; dir = path.Dir(dir) {
		if p := path.Join(dir, name); f.isFile(p) {
			return p
		}
		if dir == "/" {
			return ""
		}
	}
}

func configError(file, what string) *deploy.Error {
	return deploy.Errorf(deploy.CodeConfigInvalid, "Correct "+path.Base(file)+" and call again.", "%s: %s", file, what)
}

// parseSettings reads one of the three formats. The error tells line and column.
func parseSettings(file string, raw []byte) (*object, error) {
	if strings.HasSuffix(file, ".toml") {
		var m map[string]any
		if err := toml.Unmarshal(raw, &m); err != nil {
			if e, ok := errors.AsType[*toml.DecodeError](err); ok {
				line, col := e.Position()
				return nil, fmt.Errorf("line %d, column %d: %s", line, col, strings.TrimPrefix(e.Error(), "toml: "))
			}
			return nil, err
		}
		n, err := fromTOML(m, 0)
		o, _ := n.(*object)
		return o, err
	}
	n, err := parseJSONC(raw)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "hujson: "))
	}
	o, ok := n.(*object)
	if !ok {
		return nil, errors.New("must be an object")
	}
	return o, nil
}

func fromTOML(v any, depth int) (_ node, err error) {
	if depth > maxJSONDepth {
		return nil, errJSONDepth
	}
	switch t := v.(type) {
	case map[string]any:
		o := &object{values: map[string]node{}}
		for _, k := range slices.Sorted(maps.Keys(t)) {
			o.keys = append(o.keys, k)
			if o.values[k], err = fromTOML(t[k], depth+1); err != nil {
				return nil, err
			}
		}
		return o, nil
	case []any:
		list := make([]node, len(t))
		for i, e := range t {
			if list[i], err = fromTOML(e, depth+1); err != nil {
				return nil, err
			}
		}
		return list, nil
	case float64:
		if math.IsNaN(t) || math.IsInf(t, 0) {
			return nil, fmt.Errorf("a number is %v, which no JSON has", t)
		}
	case toml.LocalDate:
		return t.String(), nil
	case toml.LocalDateTime:
		return t.String(), nil
	case toml.LocalTime:
		return t.String(), nil
	case time.Time:
		return t.Format(time.RFC3339), nil
	}
	return v, nil
}

// pickEnvironment finds the named environment and looks at every key.
func (s *settings) pickEnvironment() error {
	envs, _ := s.top.get("env").(*object)
	if s.envName != "" {
		env, ok := envs.get(s.envName).(*object)
		if !ok {
			known := "none"
			if envs != nil && len(envs.keys) > 0 {
				known = cutText(strings.Join(envs.keys, ", "), maxRowText)
			}
			return deploy.Errorf(deploy.CodeConfigInvalid, "Name one of the configured environments, or none for the top level.",
				"%s has no environment %q (it has: %s)", s.shown, s.envName, known)
		}
		s.env = env
	} else if envs != nil && len(envs.keys) > 0 {
		s.warnings = append(s.warnings, fmt.Sprintf("%s has environments (%s); none was asked for, so the top level is deployed.", s.shown, cutText(strings.Join(envs.keys, ", "), maxRowText)))
	}
	return s.checkKeys()
}

// checkKeys sorts the keys that are set: used ones pass, harmless ones are warned of,
// impossible ones refused. An unknown one is warned of with the closest known one.
func (s *settings) checkKeys() error {
	table := map[string]configKey{}
	var names []string
	for _, k := range configKeys() {
		table[k.name] = k
		names = append(names, k.name)
	}
	var harmless []string
	seen := map[string]bool{}
	for _, o := range []*object{s.env, s.top} {
		if o == nil {
			continue
		}
		for _, name := range o.keys {
			if seen[name] {
				continue
			}
			seen[name] = true
			k, known := table[name]
			switch {
			case !known:
				s.unknownKey(name, names)
			case s.env != nil && o == s.top && k.own:
				if !blankValue(o.values[name]) {
					s.warnings = append(s.warnings, fmt.Sprintf("%s: %q is set at the top level only; environments do not inherit it.", s.shown, name))
				}
			case blankValue(o.values[name]):
			case k.use == keyHarmless && k.why != "":
				harmless = append(harmless, fmt.Sprintf("%s (%s)", name, k.why))
			case k.use == keyRefused:
				return deploy.Errorf(deploy.CodeNotSupported, k.next, "%s: %q can't be deployed: %s", s.shown, name, k.why)
			}
		}
	}
	if len(harmless) > 0 {
		slices.Sort(harmless)
		s.warnings = append(s.warnings, fmt.Sprintf("%s: without effect here: %s.", s.shown, strings.Join(harmless, "; ")))
	}
	return nil
}

func (s *settings) unknownKey(name string, known []string) {
	best, distance := "", farApart
	for _, k := range known {
		if d := editDistance(name, k); d < distance {
			best, distance = k, d
		}
	}
	w := fmt.Sprintf("%s: the key %q is not known and was ignored.", s.shown, cutText(name, 60))
	if best != "" {
		w += fmt.Sprintf(" Did you mean %q?", best)
	}
	s.warnings = append(s.warnings, w)
}

// blankValue tells whether a value asks for nothing: null, false, "", or an empty or
// all-blank list or object.
func blankValue(n node) bool {
	switch v := n.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case []node:
		return len(v) == 0
	case *object:
		for _, k := range v.keys {
			if !blankValue(v.values[k]) {
				return false
			}
		}
		return true
	}
	return false
}

// value is what is set for a key: by the environment, else by the top level if
// environments inherit it.
func (s *settings) value(key string) node {
	if s.env != nil {
		if v, ok := s.env.values[key]; ok {
			return v
		}
		for _, k := range configKeys() {
			if k.name == key && k.own {
				return nil
			}
		}
	}
	return s.top.get(key)
}

func (s *settings) wrong(key, want string) {
	if s.err == nil {
		s.err = configError(s.shown, fmt.Sprintf("%q must be %s", key, want))
	}
}

func (s *settings) text(key string) string {
	switch v := s.value(key).(type) {
	case nil:
	case string:
		return v
	default:
		s.wrong(key, "a string")
	}
	return ""
}

// flag is a boolean; nil where it is not set.
func (s *settings) flag(key string) *bool {
	switch v := s.value(key).(type) {
	case nil:
	case bool:
		return &v
	default:
		s.wrong(key, "true or false")
	}
	return nil
}

func (s *settings) object(key string) *object {
	switch v := s.value(key).(type) {
	case nil:
	case *object:
		return v
	default:
		s.wrong(key, "an object")
	}
	return nil
}

func (s *settings) list(key string) []node {
	switch v := s.value(key).(type) {
	case nil:
	case []node:
		return v
	default:
		s.wrong(key, "a list")
	}
	return nil
}

func (s *settings) texts(key string) []string {
	list := s.list(key)
	out := stringList(list)
	if len(out) != len(list) {
		s.wrong(key, "a list of strings")
	}
	return out
}

// textMap is an object of strings, such as define and alias.
func (s *settings) textMap(key string) map[string]string {
	o := s.object(key)
	if o == nil {
		return nil
	}
	out := map[string]string{}
	for _, k := range o.keys {
		v, ok := o.values[k].(string)
		if !ok {
			s.wrong(key+"."+k, "a string")
			continue
		}
		out[k] = v
	}
	return out
}

// path is a path relative to the configuration, as a path in the tree; "" if not set.
func (s *settings) path(key, value string) string {
	if value == "" {
		return ""
	}
	p, ok := joinInside(s.dir, value)
	if !ok || path.IsAbs(value) || strings.ContainsAny(value, "\\\x00") {
		if s.err == nil {
			s.err = deploy.Errorf(deploy.CodePathInvalid, "Use a path relative to the configuration's folder, inside the project.",
				"%s: %q is the path %q, which is absolute or leads out of the allowed root", s.shown, key, cutText(value, 200))
		}
		return ""
	}
	return p
}

// rules are the project's own module rules.
func (s *settings) rules() []rule {
	var out []rule
	list := s.list("rules")
	if len(list) > maxPatterns {
		s.wrong("rules", fmt.Sprintf("a list of at most %d rules", maxPatterns))
		return nil
	}
	for _, n := range list {
		o, _ := n.(*object)
		r := rule{kind: o.text("type"), globs: stringList(o.get("globs"))}
		switch r.kind {
		case "ESModule", "CommonJS", "Text", "Data", "CompiledWasm":
		case "PythonModule", "PythonRequirement":
			if s.err == nil {
				s.err = pythonError()
			}
		default:
			s.wrong("rules", "a list of {type, globs}, with type one of ESModule, CommonJS, Text, Data, CompiledWasm")
			continue
		}
		if len(r.globs) == 0 || len(r.globs) > maxPatterns || slices.ContainsFunc(r.globs, func(g string) bool { return len(g) > maxPattern }) {
			s.wrong("rules", fmt.Sprintf("a list of {type, globs} with 1 to %d globs each, of at most %d characters", maxPatterns, maxPattern))
			continue
		}
		if v, ok := o.get("fallthrough").(bool); ok {
			r.fallsThrough = &v
		}
		out = append(out, r)
	}
	return out
}
