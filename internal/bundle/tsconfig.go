package bundle

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"strings"
	"sync"
)

// tsconfig is one tsconfig.json with what it extends. It is read when first needed.
type tsconfig struct {
	file string

	once     sync.Once
	err      error
	options  map[string]node // compilerOptions that matter to esbuild
	baseURL  string          // "" if none
	paths    *object
	pathsDir string // folder that paths without a baseUrl are relative to
}

// compilerOptions are those that esbuild reads (its documentation, "TypeScript").
func compilerOptions() []string {
	return []string{
		"alwaysStrict", "strict", "experimentalDecorators", "importsNotUsedAsValues", "preserveValueImports",
		"verbatimModuleSyntax", "useDefineForClassFields", "target", "jsx", "jsxFactory", "jsxFragmentFactory", "jsxImportSource",
	}
}

// Bounds of "extends": how long a chain may be, and how many a file may name.
const maxExtends, maxParents = 32, 100

// load reads the file and what it extends.
func (t *tsconfig) load(r *resolver) *tsconfig {
	t.once.Do(func() {
		r.configs.Lock()
		defer r.configs.Unlock()
		if known, ok := r.extended[t.file]; ok {
			t.inherit(known)
			t.err = known.err
			return
		}
		t.err = t.merge(r, t.file, 0)
	})
	return t
}

// extend gives a file that another one extends. Each is read once, however many extend
// it; nil for one that is being read, so that a circle ends.
func (r *resolver) extend(file string, depth int) *tsconfig {
	if known, ok := r.extended[file]; ok {
		return known
	}
	if depth > maxExtends {
		return nil
	}
	if r.extended == nil {
		r.extended = map[string]*tsconfig{}
	}
	r.extended[file] = nil
	t := &tsconfig{file: file}
	t.err = t.merge(r, file, depth)
	r.extended[file] = t
	return t
}

// inherit takes over what another file says, before t's own words.
func (t *tsconfig) inherit(from *tsconfig) {
	if t.options == nil {
		t.options = map[string]node{}
	}
	maps.Copy(t.options, from.options)
	if from.baseURL != "" {
		t.baseURL = from.baseURL
	}
	if from.paths != nil {
		t.paths, t.pathsDir = from.paths, from.pathsDir
	}
}

func (t *tsconfig) merge(r *resolver, file string, depth int) error {
	t.options = map[string]node{}
	raw, err := r.files.read(file)
	if err != nil {
		return err
	}
	n, err := parseJSONC(raw)
	if err != nil {
		return err
	}
	o, _ := n.(*object)
	parents := stringList(o.get("extends"))
	if s := o.text("extends"); s != "" {
		parents = []string{s}
	}
	if len(parents) > maxParents {
		return fmt.Errorf("it extends more than %d others", maxParents)
	}
	for _, p := range parents {
		switch parent := r.tsconfigParent(path.Dir(file), p); parent {
		case "":
			r.note(warnRow(r.files.show(file), "the tsconfig that it extends, "+p+", was not found inside the project's root"))
		case t.file:
		default:
			// A parent that can't be read is passed over, as in esbuild (it warns).
			if known := r.extend(parent, depth+1); known != nil {
				t.inherit(known)
			}
		}
	}
	c, _ := o.get("compilerOptions").(*object)
	for _, k := range compilerOptions() {
		if s, isText := c.get(k).(string); isText && len(s) > maxFactory {
			continue // of no meaning to esbuild
		}
		if v := c.get(k); v != nil {
			t.options[k] = v
		}
	}
	dir := path.Dir(file)
	if s := c.text("baseUrl"); s != "" {
		if abs, ok := joinInside(dir, s); ok {
			t.baseURL = abs
		}
	}
	if p, ok := c.get("paths").(*object); ok {
		t.paths, t.pathsDir = p, dir
	}
	return nil
}

// tsconfigParent finds the file that "extends" names; "" if there is none.
func (r *resolver) tsconfigParent(dir, spec string) string {
	spec = strings.ReplaceAll(spec, "\\", "/")
	try := func(name string) string {
		for _, c := range []string{name, name + ".json"} {
			if r.files.isFile(c) {
				return c
			}
		}
		return ""
	}
	if strings.HasPrefix(spec, "./") || strings.HasPrefix(spec, "../") || spec == "." || spec == ".." {
		abs, ok := joinInside(dir, spec)
		if !ok {
			return ""
		}
		if found := try(abs); found != "" {
			return found
		}
		return try(path.Join(abs, "tsconfig"))
	}
	if path.IsAbs(spec) {
		return "" // an address on the machine
	}
	for d := r.files.dir(dir); d != nil; d = d.parent {
		if !d.hasNodeModules {
			continue
		}
		name, sub, ok := packageName(spec)
		if !ok {
			return ""
		}
		base := path.Join(d.path, "node_modules", name)
		if pkg := r.files.dir(base); pkg != nil && pkg.pkg != nil && pkg.pkg.exports != nil {
			if p, status := resolveExports(pkg.pkg.exports, sub, map[string]bool{"require": true, "node": true, "default": true}); status == exportExact {
				return path.Join(base, p)
			}
		}
		full := path.Join(d.path, "node_modules", spec)
		if found := try(full); found != "" {
			return found
		}
		if pkg := r.files.dir(full); pkg != nil && pkg.pkg != nil {
			if s := pkg.pkg.raw.text("tsconfig"); s != "" {
				return try(path.Join(full, s))
			}
		}
		if found := try(path.Join(full, "tsconfig")); found != "" {
			return found
		}
	}
	return ""
}

// raw gives the compiler options as the text that esbuild takes in place of a file.
func (t *tsconfig) raw() string {
	if t == nil || len(t.options) == 0 {
		return "{}"
	}
	out := map[string]any{}
	for k, v := range t.options {
		out[k] = plain(v)
	}
	text, err := json.Marshal(map[string]any{"compilerOptions": out})
	if err != nil {
		return "{}"
	}
	return string(text)
}
