package bundle

import (
	"path"
	"regexp"
	"sort"
	"strings"
)

// packageJSON is what resolution needs of a package.json.
type packageJSON struct {
	dir        string
	name       string
	moduleType string            // "module", "commonjs" or ""
	main       map[string]string // by field: browser, module, main
	browserMap map[string]*string
	pure       *pureFiles // nil: everything may have side effects
	exports    node       // nil: none
	imports    *object
	raw        *object
}

// pureFiles says which files have side effects where package.json limits them.
type pureFiles struct {
	exact map[string]bool
	globs []*regexp.Regexp
}

// parsePackageJSON reads what it can; a broken file counts as none, as in esbuild.
func parsePackageJSON(dir string, raw []byte) *packageJSON {
	n, err := parseJSON(raw)
	if err != nil {
		return nil
	}
	o, ok := n.(*object)
	if !ok {
		return nil
	}
	p := &packageJSON{dir: dir, raw: o, name: o.text("name"), main: map[string]string{}}
	if t := o.text("type"); t == "module" || t == "commonjs" {
		p.moduleType = t
	}
	for _, field := range []string{"browser", "module", "main"} {
		if s := o.text(field); s != "" {
			p.main[field] = s
		}
	}
	if b, ok := o.get("browser").(*object); ok {
		p.browserMap = map[string]*string{}
		for _, k := range b.keys {
			switch v := b.values[k].(type) {
			case string:
				p.browserMap[k] = &v
			case bool:
				if !v {
					p.browserMap[k] = nil
				}
			}
		}
	}
	switch v := o.get("sideEffects").(type) {
	case bool:
		if !v {
			p.pure = &pureFiles{}
		}
	case []node:
		p.pure = newPureFiles(dir, stringList(v))
	}
	p.exports = o.get("exports")
	p.imports, _ = o.get("imports").(*object)
	return p
}

func newPureFiles(dir string, patterns []string) *pureFiles {
	p := &pureFiles{exact: map[string]bool{}}
	for _, pattern := range patterns {
		if !strings.Contains(pattern, "/") {
			pattern = "**/" + pattern
		}
		pattern = path.Join(dir, pattern)
		if !strings.ContainsAny(pattern, "*?") {
			p.exact[pattern] = true
		} else if re, err := regexp.Compile(globRegexp(pattern, true, true)); err == nil {
			p.globs = append(p.globs, re)
		}
	}
	return p
}

// has tells whether a file is free of side effects.
func (p *pureFiles) has(name string) bool {
	if p == nil || p.exact[name] {
		return false
	}
	for _, re := range p.globs {
		if re.MatchString(name) {
			return false
		}
	}
	return true
}

// The outcomes of a look into "exports" or "imports", as far as they matter here
// (Node.js documentation, "Resolution algorithm specification").
type exportStatus uint8

const (
	exportNone    exportStatus = iota // not exported, or no condition matches
	exportExact                       // a file
	exportInexact                     // needs extensions tried (keys that end in "/")
	exportPackage                     // another package (imports only)
	exportBlocked                     // null, or no valid target: nothing else is tried
)

// resolveExports finds a subpath ("." or "./x") in an "exports" value. The path in the
// result begins with "./".
func resolveExports(exports node, subpath string, conditions map[string]bool) (string, exportStatus) {
	o, isObject := exports.(*object)
	isMap := isObject && len(o.keys) > 0 && strings.HasPrefix(o.keys[0], ".")
	if subpath == "." {
		main := exports
		if isMap {
			main = o.get(".")
		} else if isObject && len(o.keys) == 0 {
			return "", exportNone
		}
		if main != nil {
			return resolveTarget(main, "", false, false, conditions, 0)
		}
	}
	if isMap {
		return resolveKey(o, subpath, false, conditions)
	}
	return "", exportNone
}

// resolveImports finds a "#name" in an "imports" object.
func resolveImports(imports *object, name string, conditions map[string]bool) (string, exportStatus) {
	if imports == nil || name == "#" || strings.HasPrefix(name, "#/") {
		return "", exportNone
	}
	return resolveKey(imports, name, true, conditions)
}

func resolveKey(o *object, key string, isImports bool, conditions map[string]bool) (string, exportStatus) {
	if !strings.HasSuffix(key, "/") && !strings.Contains(key, "*") {
		if target, ok := o.values[key]; ok {
			return resolveTarget(target, "", false, isImports, conditions, 0)
		}
	}
	var patterns []string
	for _, k := range o.keys {
		if strings.HasSuffix(k, "/") || strings.Count(k, "*") == 1 {
			patterns = append(patterns, k)
		}
	}
	sort.SliceStable(patterns, func(i, j int) bool { return moreSpecific(patterns[i], patterns[j]) })
	for _, k := range patterns {
		base, trailer, star := strings.Cut(k, "*")
		switch {
		case star && strings.HasPrefix(key, base) && (trailer == "" || strings.HasSuffix(key, trailer) && len(key) >= len(k)):
			return resolveTarget(o.values[k], key[len(base):len(key)-len(trailer)], true, isImports, conditions, 0)
		case !star && strings.HasPrefix(key, k):
			p, status := resolveTarget(o.values[k], key[len(k):], false, isImports, conditions, 0)
			if status == exportExact {
				status = exportInexact
			}
			return p, status
		}
	}
	return "", exportNone
}

// moreSpecific is PATTERN_KEY_COMPARE.
func moreSpecific(a, b string) bool {
	base := func(k string) int {
		if i := strings.IndexByte(k, '*'); i >= 0 {
			return i + 1
		}
		return len(k)
	}
	if base(a) != base(b) {
		return base(a) > base(b)
	}
	if strings.Contains(a, "*") != strings.Contains(b, "*") {
		return strings.Contains(a, "*")
	}
	return len(a) > len(b)
}

func resolveTarget(target node, sub string, pattern, isImports bool, conditions map[string]bool, depth int) (string, exportStatus) {
	if depth > maxJSONDepth {
		return "", exportNone
	}
	switch t := target.(type) {
	case string:
		if !pattern && sub != "" && !strings.HasSuffix(t, "/") {
			return "", exportBlocked
		}
		full := t + sub
		if pattern {
			full = strings.ReplaceAll(t, "*", sub)
		}
		if !strings.HasPrefix(t, "./") {
			if isImports && !strings.HasPrefix(t, "../") && !strings.HasPrefix(t, "/") {
				return full, exportPackage
			}
			return "", exportBlocked
		}
		for part := range strings.SplitSeq(full[2:], "/") {
			if part == "." || part == ".." || part == "node_modules" {
				return "", exportBlocked
			}
		}
		return full, exportExact
	case *object:
		for _, k := range t.keys {
			if !conditions[k] {
				continue
			}
			if p, status := resolveTarget(t.values[k], sub, pattern, isImports, conditions, depth+1); status != exportNone {
				return p, status
			}
		}
	case []node:
		for _, e := range t {
			if p, status := resolveTarget(e, sub, pattern, isImports, conditions, depth+1); status != exportNone && status != exportBlocked {
				return p, status
			}
		}
	case nil:
		return "", exportBlocked
	}
	return "", exportNone
}
