package bundle

import (
	"path"
	"strings"
	"sync"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// resolver finds the file that an import names, by the rules of esbuild for its
// "browser" platform with wrangler's conditions (wrangler-wire fact sheet, section
// 17), but reading nothing except through files.
type resolver struct {
	files *files
	// override is the tsconfig that the configuration names; nil: the closest one.
	override *tsconfig

	// extended are the tsconfig files that others extend, as far as they were read.
	configs  sync.Mutex
	extended map[string]*tsconfig

	mu    sync.Mutex
	notes []deploy.Diagnostic
	// dual remembers, by the file that "module" led to, the one that "main" leads to:
	// when something requires the latter, both become that one.
	dual map[string]string
	// preferMain are such files of which an earlier pass found that they are required.
	preferMain map[string]string
}

// found is where an import leads.
type found struct {
	path     string // in the tree, as imported: perhaps through links
	disabled bool   // package.json "browser" says false: an empty module
	suffix   string // "?query" of the import, if it only resolves without it
}

func (r *resolver) note(d deploy.Diagnostic) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, d)
}

// conditions of package.json "exports" for a kind of import.
func conditions(kind api.ResolveKind) map[string]bool {
	c := map[string]bool{"workerd": true, "worker": true, "browser": true, "default": true}
	switch kind {
	case api.ResolveJSRequireCall, api.ResolveJSRequireResolve:
		c["require"] = true
	case api.ResolveJSImportStatement, api.ResolveJSDynamicImport, api.ResolveEntryPoint:
		c["import"] = true
	}
	return c
}

// The order in which extensions are tried (esbuild's documentation, "Resolve
// extensions"); in node_modules JavaScript goes before TypeScript.
func (q *query) extensions(name string) []string {
	if q.css() {
		return []string{".css"}
	}
	if strings.Contains(name, "/node_modules/") {
		return []string{".jsx", ".js", ".tsx", ".ts", ".css", ".json"}
	}
	return []string{".tsx", ".ts", ".jsx", ".js", ".css", ".json"}
}

// query is one look-up.
type query struct {
	*resolver
	kind       api.ResolveKind
	conditions map[string]bool
	asNode     bool // by Node.js's rules: "main" only, no "browser" map
}

func (q *query) css() bool {
	return q.kind == api.ResolveCSSImportRule || q.kind == api.ResolveCSSComposesFrom
}

func (q *query) fromCSS() bool { return q.css() || q.kind == api.ResolveCSSURLToken }

// resolve finds what spec names in a file of the folder dir.
func (r *resolver) resolve(dir, spec string, kind api.ResolveKind) (found, bool) {
	q := &query{resolver: r, kind: kind, conditions: conditions(kind)}
	from := r.files.dir(dir)
	if from == nil || strings.Contains(spec, "\x00") {
		return found{}, false
	}
	if hit, ok := q.find(from, spec); ok {
		return hit, true
	}
	if i := strings.IndexAny(spec, "?#"); i >= 1 {
		if hit, ok := q.find(from, spec[:i]); ok {
			hit.suffix = spec[i:]
			return hit, true
		}
	}
	return found{}, false
}

// resolveAlias finds what an alias names. wrangler asks Node.js's require.resolve for
// it, so the conditions are Node's and not the runtime's.
func (r *resolver) resolveAlias(dir, spec string) (found, bool) {
	q := &query{resolver: r, kind: api.ResolveJSRequireCall, asNode: true}
	q.conditions = map[string]bool{"node": true, "require": true, "module-sync": true, "node-addons": true, "default": true}
	from := r.files.dir(dir)
	if from == nil || strings.Contains(spec, "\x00") {
		return found{}, false
	}
	return q.find(from, spec)
}

func isPackagePath(spec string) bool {
	return !strings.HasPrefix(spec, "/") && !strings.HasPrefix(spec, "./") &&
		!strings.HasPrefix(spec, "../") && spec != "." && spec != ".."
}

func (q *query) find(from *folder, spec string) (found, bool) {
	if strings.HasPrefix(spec, "/") {
		// On a disk this would be an address of the machine; "paths" may still map it.
		return q.tsconfigPaths(from, spec)
	}
	if !isPackagePath(spec) || q.fromCSS() {
		if hit, ok := q.relative(from, spec); ok || !isPackagePath(spec) {
			return hit, ok
		}
	}
	to, ok := q.browserMap(from, spec, false)
	switch {
	case ok && to == nil:
		hit, ok := q.nodeModules(from, spec, false)
		if !ok {
			hit.path = path.Join(from.path, spec)
		}
		hit.disabled = true
		return hit, true
	case ok:
		return q.withoutMap(from.browser, *to)
	}
	return q.withoutMap(from, spec)
}

func (q *query) relative(from *folder, spec string) (found, bool) {
	name, ok := joinInside(from.path, spec)
	if !ok {
		return found{}, false
	}
	if in := q.files.dir(path.Dir(name)); in != nil {
		if to, ok := q.browserMap(in, name, true); ok {
			if to == nil {
				return found{path: name, disabled: true}, true
			}
			if hit, ok := q.withoutMap(in.browser, *to); ok {
				return hit, true
			}
		}
	}
	if spec == "." || spec == ".." || strings.HasSuffix(spec, "/") || strings.HasSuffix(spec, "/.") || strings.HasSuffix(spec, "/..") {
		return q.asDirectory(name)
	}
	return q.fileOrDirectory(name)
}

func (q *query) withoutMap(from *folder, spec string) (found, bool) {
	if isPackagePath(spec) {
		return q.nodeModules(from, spec, false)
	}
	name, ok := joinInside(from.path, spec)
	if !ok {
		return found{}, false
	}
	return q.fileOrDirectory(name)
}

func (q *query) fileOrDirectory(name string) (found, bool) {
	if hit, ok := q.asFile(name); ok {
		return found{path: hit}, true
	}
	return q.asDirectory(name)
}

// asFile tries a path itself, with extensions, and TypeScript's in place of JavaScript's.
func (q *query) asFile(name string) (string, bool) {
	in := q.files.dir(path.Dir(name))
	if in == nil {
		return "", false
	}
	base := path.Base(name)
	if q.files.hasFile(in, base) {
		return name, true
	}
	for _, ext := range q.extensions(name) {
		if q.files.hasFile(in, base+ext) {
			return name + ext, true
		}
	}
	return q.asTypeScript(in, name)
}

func (q *query) asTypeScript(in *folder, name string) (string, bool) {
	ext := path.Ext(name)
	var tries []string
	switch ext {
	case ".js", ".jsx":
		tries = []string{".ts", ".tsx"}
	case ".mjs":
		tries = []string{".mts"}
	case ".cjs":
		tries = []string{".cts"}
	}
	for _, t := range tries {
		if c := strings.TrimSuffix(name, ext) + t; q.files.hasFile(in, path.Base(c)) {
			return c, true
		}
	}
	return "", false
}

func (q *query) asDirectory(name string) (found, bool) {
	d := q.files.dir(name)
	if d == nil {
		return found{}, false
	}
	if hit, ok := q.mainField(d); ok {
		return hit, true
	}
	return q.index(d)
}

func (q *query) index(d *folder) (found, bool) {
	if to, ok := q.browserMap(d, path.Join(d.path, "index"), true); ok {
		if to == nil {
			return found{path: path.Join(d.path, "index"), disabled: true}, true
		}
		name, ok := joinInside(d.path, *to)
		if !ok {
			return found{}, false
		}
		if hit, ok := q.asFile(name); ok {
			return found{path: hit}, true
		}
		if sub := q.files.dir(name); sub != nil {
			return q.plainIndex(sub)
		}
		return found{}, false
	}
	return q.plainIndex(d)
}

func (q *query) plainIndex(d *folder) (found, bool) {
	for _, ext := range q.extensions(d.path + "/") {
		if q.files.hasFile(d, "index"+ext) {
			return found{path: path.Join(d.path, "index"+ext)}, true
		}
	}
	return found{}, false
}

// mainField follows browser, module or main of a folder's package.json.
func (q *query) mainField(d *folder) (found, bool) {
	if d.pkg == nil {
		return found{}, false
	}
	for _, field := range []string{"browser", "module", "main"} {
		if q.asNode && field != "main" {
			continue
		}
		value, ok := d.pkg.main[field]
		if !ok {
			continue
		}
		hit, ok := q.mainPath(d, value)
		if !ok {
			continue
		}
		if field != "module" {
			return hit, true
		}
		// A package that has both is to be in the bundle once: as "module" where it is
		// only imported, as "main" as soon as anything requires it.
		var main found
		if value, has := d.pkg.main["main"]; has {
			main, ok = q.mainPath(d, value)
		} else {
			main, ok = q.index(d)
		}
		if !ok || main.disabled || hit.disabled {
			return hit, true
		}
		if q.kind == api.ResolveJSRequireCall {
			return main, true
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.preferMain[hit.path] != "" {
			return main, true
		}
		q.dual[hit.path] = main.path
		return hit, true
	}
	return found{}, false
}

func (q *query) mainPath(d *folder, value string) (found, bool) {
	name, ok := joinInside(d.path, value)
	if !ok || path.IsAbs(value) {
		return found{}, false
	}
	if to, ok := q.browserMap(d, name, true); ok {
		if to == nil {
			return found{path: name, disabled: true}, true
		}
		if name, ok = joinInside(d.path, *to); !ok {
			return found{}, false
		}
	}
	if hit, ok := q.asFile(name); ok {
		return found{path: hit}, true
	}
	if sub := q.files.dir(name); sub != nil {
		return q.index(sub)
	}
	return found{}, false
}

// packageName splits "pkg/sub" into "pkg" and "./sub".
func packageName(spec string) (name, sub string, ok bool) {
	if spec == "" || spec[0] == '.' || strings.ContainsAny(spec, "\\%") {
		return "", "", false
	}
	parts := strings.SplitN(spec, "/", 3)
	n := 1
	if spec[0] == '@' {
		if len(parts) < 2 {
			return "", "", false
		}
		n = 2
	}
	name = strings.Join(parts[:n], "/")
	return name, "." + strings.TrimPrefix(spec, name), true
}

func (q *query) nodeModules(from *folder, spec string, forbidImports bool) (found, bool) {
	if hit, ok := q.tsconfigPaths(from, spec); ok {
		return hit, true
	}
	if t := q.tsconfigFor(from); t != nil && t.baseURL != "" {
		if name, ok := joinInside(t.baseURL, spec); ok {
			if hit, ok := q.fileOrDirectory(name); ok {
				return hit, true
			}
		}
	}
	if strings.HasPrefix(spec, "#") && !forbidImports && from.nearest != nil && from.nearest.imports != nil {
		return q.packageImports(from, spec)
	}
	name, sub, named := packageName(spec)
	if named && from.nearest != nil && from.nearest.name == name && from.nearest.exports != nil {
		return q.packageExports(from.nearest.dir, from.nearest, sub)
	}
	for d := from; d != nil; d = d.parent {
		if !d.hasNodeModules {
			continue
		}
		full, ok := joinInside(path.Join(d.path, "node_modules"), spec)
		if !ok {
			continue
		}
		if named {
			base := path.Join(d.path, "node_modules", name)
			if pkg := q.files.dir(base); pkg != nil {
				if pkg.pkg != nil && pkg.pkg.exports != nil {
					return q.packageExports(base, pkg.pkg, sub)
				}
				if to, ok := q.browserMap(pkg, full, true); ok {
					if to == nil {
						return found{path: full, disabled: true}, true
					}
					if hit, ok := q.withoutMap(pkg.browser, *to); ok {
						return hit, true
					}
				}
			}
		}
		if hit, ok := q.fileOrDirectory(full); ok {
			return hit, true
		}
	}
	return found{}, false
}

func (q *query) packageImports(from *folder, spec string) (found, bool) {
	p, status := resolveImports(from.nearest.imports, spec, q.conditions)
	switch status {
	case exportPackage:
		if home := q.files.dir(from.nearest.dir); home != nil {
			return q.nodeModules(home, p, true)
		}
	case exportExact, exportInexact:
		return q.exported(from.nearest.dir, p, status)
	}
	return found{}, false
}

func (q *query) packageExports(dir string, pkg *packageJSON, sub string) (found, bool) {
	p, status := resolveExports(pkg.exports, sub, q.conditions)
	return q.exported(dir, p, status)
}

func (q *query) exported(dir, p string, status exportStatus) (found, bool) {
	if status != exportExact && status != exportInexact {
		return found{}, false
	}
	name, ok := joinInside(dir, p)
	if !ok {
		return found{}, false
	}
	if status == exportInexact {
		return q.fileOrDirectory(name)
	}
	in := q.files.dir(path.Dir(name))
	if in == nil {
		return found{}, false
	}
	if q.files.hasFile(in, path.Base(name)) {
		return found{path: name}, true
	}
	if _, there := in.entries[path.Base(name)]; there {
		return found{}, false
	}
	hit, ok := q.asTypeScript(in, name)
	return found{path: hit}, ok
}

// tsconfigFor is the tsconfig that rules the files of a folder; nil for none.
func (q *query) tsconfigFor(d *folder) *tsconfig {
	switch {
	case d.inNodeModules:
		return nil
	case q.override != nil:
		return q.override.load(q.resolver)
	case d.tsconfig != nil:
		return d.tsconfig.load(q.resolver)
	}
	return nil
}

func (q *query) tsconfigPaths(from *folder, spec string) (found, bool) {
	t := q.tsconfigFor(from)
	if t == nil || t.paths == nil {
		return found{}, false
	}
	base := t.baseURL
	if base == "" {
		base = t.pathsDir
	}
	try := func(targets []string, middle string) (found, bool) {
		for _, target := range targets {
			target = strings.Replace(target, "*", middle, 1)
			if strings.HasSuffix(strings.ToLower(target), ".d.ts") || path.IsAbs(target) {
				continue
			}
			if name, ok := joinInside(base, target); ok {
				if hit, ok := q.fileOrDirectory(name); ok {
					return hit, true
				}
			}
		}
		return found{}, false
	}
	if v, ok := t.paths.values[spec]; ok {
		return try(stringList(v), "*")
	}
	best, bestPrefix, bestSuffix := "", -1, -1
	for _, k := range t.paths.keys {
		prefix, suffix, star := strings.Cut(k, "*")
		if !star || len(spec) < len(prefix)+len(suffix) || !strings.HasPrefix(spec, prefix) || !strings.HasSuffix(spec, suffix) {
			continue
		}
		if len(prefix) > bestPrefix || len(prefix) == bestPrefix && len(suffix) > bestSuffix {
			best, bestPrefix, bestSuffix = k, len(prefix), len(suffix)
		}
	}
	if bestPrefix < 0 {
		return found{}, false
	}
	return try(stringList(t.paths.values[best]), spec[bestPrefix:len(spec)-bestSuffix])
}
