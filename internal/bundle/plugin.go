package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// loader is the plugin through which esbuild sees the project: it answers every
// import and gives every file.
type loader struct {
	files *files
	res   *resolver
	entry string // path of the entry in the tree
	root  string // the folder that aliases are resolved in
	mode  nodeMode
	alias map[string]string
	rules *ruleSet
	keep  bool            // preserve_file_names
	extra map[string]bool // files that are parts of their own (find_additional_modules)
	// scan are the options with which dynamic imports are looked for; they must fold
	// constants just as the bundle does.
	scan api.TransformOptions

	tableRows atomic.Int64 // of computed imports

	mu     sync.Mutex
	parts  map[string]deploy.Module
	rows   []deploy.Diagnostic
	loaded map[string]bool
	nodes  map[string]string // "node:" imports left as they are without compatibility, by importer
}

func (l *loader) plugin() api.Plugin {
	return api.Plugin{Name: "hourglass", Setup: func(b api.PluginBuild) {
		b.OnResolve(api.OnResolveOptions{Filter: ".*"}, func(args api.OnResolveArgs) (res api.OnResolveResult, err error) {
			defer l.catch(&err)
			return l.onResolve(args)
		})
		b.OnLoad(api.OnLoadOptions{Filter: ".*"}, func(args api.OnLoadArgs) (res api.OnLoadResult, err error) {
			defer l.catch(&err)
			return l.onLoad(args)
		})
	}}
}

// catch turns a panic in a callback into an error: the callbacks run in goroutines of
// esbuild, where a panic would end the whole server.
func (l *loader) catch(err *error) {
	if p := recover(); p != nil {
		*err = l.files.stop(&deploy.Error{
			Code: deploy.CodeInternal, Message: "an internal error while bundling", Next: "Tell the user to report it with the project's files.",
			Cause: fmt.Errorf("panic: %v\n%s", p, debug.Stack()),
		})
	}
}

func failed(format string, args ...any) (api.OnResolveResult, error) {
	return api.OnResolveResult{Errors: []api.Message{{Text: fmt.Sprintf(format, args...)}}}, nil
}

// onResolve answers one import. An empty answer means "not found": esbuild then says
// so itself, or, inside try/catch, leaves the import as it is.
func (l *loader) onResolve(args api.OnResolveArgs) (api.OnResolveResult, error) {
	if err := l.files.stopped(); err != nil {
		return api.OnResolveResult{}, err
	}
	if args.Kind == api.ResolveEntryPoint {
		return l.fileResult(found{path: l.entry}), nil
	}
	importer := l.importerDir(args)
	if to, ok := l.alias[args.Path]; ok {
		hit, ok := l.res.resolveAlias(l.root, to)
		if !ok {
			if isNodeModule(to) || strings.HasPrefix(to, "cloudflare:") {
				return api.OnResolveResult{Path: to, External: true}, nil
			}
			return failed("Could not resolve %q, which the alias for %q names", to, args.Path)
		}
		return l.fileResult(hit), nil
	}
	if res, done, err := l.modulePart(args, importer); done {
		return res, err
	}
	if res, done := l.builtIn(args); done {
		return res, nil
	}
	if strings.Contains(args.Path, "://") || strings.HasPrefix(args.Path, "//") || strings.HasPrefix(args.Path, "data:") {
		return api.OnResolveResult{}, nil // esbuild's own business; it reads nothing for them
	}
	if importer == "" {
		return api.OnResolveResult{}, nil
	}
	hit, ok := l.res.resolve(importer, args.Path, args.Kind)
	if !ok {
		if err := l.files.stopped(); err != nil {
			return api.OnResolveResult{}, err
		}
		if l.mode != nodeV2 && strings.Contains(args.Path, "node:") {
			l.mu.Lock()
			l.nodes[args.Path] = plainName(l.files.project, args.Importer)
			l.mu.Unlock()
			return api.OnResolveResult{Path: args.Path, External: true}, nil
		}
		return api.OnResolveResult{}, nil
	}
	return l.fileResult(hit), nil
}

// importerDir is the folder that an import is resolved in; "" for none.
func (l *loader) importerDir(args api.OnResolveArgs) string {
	switch args.Namespace {
	case nsFile:
		if p, ok := args.PluginData.(string); ok {
			return path.Dir(p)
		}
	case nsVirtual, nsRequire:
		return l.root
	}
	return ""
}

// builtIn answers for modules that the runtime brings.
func (l *loader) builtIn(args api.OnResolveArgs) (api.OnResolveResult, bool) {
	spec := args.Path
	switch {
	case strings.HasPrefix(spec, "cloudflare:") || spec == "__STATIC_CONTENT_MANIFEST":
		return api.OnResolveResult{Path: spec, External: true}, true
	case l.mode == nodeALS && (spec == "node:async_hooks" || strings.HasPrefix(spec, "node:async_hooks/")):
		return api.OnResolveResult{Path: spec, External: true}, true
	case l.mode != nodeV2:
		return api.OnResolveResult{}, false
	case args.Kind == api.ResolveJSRequireCall && (isNodeModule(spec) || strings.HasPrefix(spec, "node:")):
		// require() of an external module would fail at run time: import it instead.
		return api.OnResolveResult{Path: spec, Namespace: nsRequire}, true
	case isNodeModule(spec):
		return api.OnResolveResult{Path: spec, External: true}, true
	case nodeShim(spec) != "":
		if args.Kind == api.ResolveJSRequireCall {
			return api.OnResolveResult{Path: "require " + spec, Namespace: nsVirtual}, true
		}
		return api.OnResolveResult{Path: spec, Namespace: nsVirtual}, true
	}
	return api.OnResolveResult{}, false
}

// modulePart makes text, data and wasm imports parts of their own.
func (l *loader) modulePart(args api.OnResolveArgs, dir string) (api.OnResolveResult, bool, error) {
	spec := args.Path
	clean, _, _ := strings.Cut(spec, "?")
	// As in wrangler only an import whose words match a rule stays outside the bundle.
	if any, hidden := l.rules.forImport(spec, true); any != nil && !hidden && dir != "" && !isPackagePath(clean) {
		if name, ok := joinInside(dir, clean); ok && l.extra[name] {
			return api.OnResolveResult{Path: clean, External: true}, true, nil
		}
	}
	r, hidden := l.rules.forImport(spec, false)
	if r == nil || dir == "" {
		return api.OnResolveResult{}, false, nil
	}
	if hidden {
		res, err := failed("The file %s matches a module rule for %s that an earlier rule of the same type hides; set fallthrough: true on that one", spec, strings.Join(r.globs, ", "))
		return res, true, err
	}
	name := ""
	if hit, ok := l.res.resolve(dir, clean, args.Kind); ok && !hit.disabled {
		name = hit.path
	} else if hit, ok := l.plainPackageFile(dir, clean); ok {
		name = hit
	}
	if name == "" {
		return api.OnResolveResult{}, true, nil
	}
	content, err := l.files.read(name)
	if err != nil {
		return api.OnResolveResult{}, true, l.readError(name, err)
	}
	part := partName(clean, content, l.keep)
	l.mu.Lock()
	l.parts[part] = deploy.Module{Name: part, Type: mimeOf(r.kind), Content: content}
	l.mu.Unlock()
	return api.OnResolveResult{Path: part, External: true}, true, nil
}

// plainPackageFile finds "pkg/file" in node_modules without asking package.json.
func (l *loader) plainPackageFile(dir, spec string) (string, bool) {
	if !isPackagePath(spec) {
		return "", false
	}
	for d := l.files.dir(dir); d != nil; d = d.parent {
		if name, ok := joinInside(path.Join(d.path, "node_modules"), spec); ok && d.hasNodeModules && l.files.isFile(name) {
			return name, true
		}
	}
	return "", false
}

// fileResult is the answer for a file: its path without links, with the module type.
func (l *loader) fileResult(hit found) api.OnResolveResult {
	real, _ := l.files.stat(hit.path)
	if hit.disabled {
		return api.OnResolveResult{Path: real, Namespace: nsDisabled, PluginData: real}
	}
	res := api.OnResolveResult{Namespace: nsFile, PluginData: real}
	moduleType := ""
	if d := l.files.dir(path.Dir(real)); d != nil && d.nearest != nil {
		moduleType = d.nearest.moduleType
		if d.nearest.pure.has(real) {
			res.SideEffects = api.SideEffectsFalse
		}
	}
	res.Path, res.Suffix = virtualPath(real, moduleType, hit.suffix)
	return res
}

// readError words why a file can't be read, without any address of the machine.
func (l *loader) readError(name string, err error) error {
	if e, ok := errors.AsType[*deploy.Error](err); ok {
		return e
	}
	shown := l.files.show(name)
	switch {
	case errors.Is(err, errEscape):
		return fmt.Errorf("%s is a link that leads out of the allowed root", shown)
	case errors.Is(err, errNotAFile):
		return fmt.Errorf("%s is not a regular file", shown)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be read (permission denied)", shown)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist", shown)
	}
	if l.files.ctx.Err() != nil {
		return l.files.ctx.Err()
	}
	return fmt.Errorf("%s could not be read", shown)
}

// onLoad gives the content of one module.
func (l *loader) onLoad(args api.OnLoadArgs) (api.OnLoadResult, error) {
	switch args.Namespace {
	case nsFile:
		name, _ := args.PluginData.(string)
		return l.load(name, args.With)
	case nsDisabled:
		empty := ""
		return api.OnLoadResult{Contents: &empty, Loader: api.LoaderEmpty}, nil
	case nsRequire:
		code := fmt.Sprintf("import libDefault from '%s';\nmodule.exports = libDefault;", args.Path)
		return api.OnLoadResult{Contents: &code, Loader: api.LoaderJS}, nil
	case nsVirtual:
		code := nodeShim(args.Path)
		if spec, ok := strings.CutPrefix(args.Path, "require "); ok {
			code = fmt.Sprintf(`import * as esm from '%s';
module.exports = Object.entries(esm).filter(([k]) => k !== 'default').reduce((cjs, [k, value]) =>
	Object.defineProperty(cjs, k, { value, enumerable: true }), "default" in esm ? esm.default : {});`, spec)
		}
		return api.OnLoadResult{Contents: &code, Loader: api.LoaderJS}, nil
	case "dataurl":
		return api.OnLoadResult{}, nil
	}
	return api.OnLoadResult{}, errors.New("that module is not a file of the project")
}

func (l *loader) load(name string, with map[string]string) (api.OnLoadResult, error) {
	raw, err := l.files.read(name)
	if err != nil {
		return api.OnLoadResult{}, l.readError(name, err)
	}
	kind, err := loaderFor(name, with)
	if err != nil {
		return api.OnLoadResult{}, err
	}
	if err := l.files.checkNesting(name, raw, kind); err != nil {
		return api.OnLoadResult{}, err
	}
	l.mu.Lock()
	l.loaded[name] = true
	l.mu.Unlock()
	code := string(raw)
	switch kind {
	case api.LoaderJS, api.LoaderJSX, api.LoaderTS, api.LoaderTSX:
		if own, differs := l.ownOptions(name, kind); differs {
			return l.loadOwn(name, code, kind, own)
		}
		if code, err = l.tame(name, code, kind); err != nil {
			return api.OnLoadResult{}, err
		}
		code = hideSourceMap(code, "\n//# sourceMappingURL=hidden:")
	case api.LoaderCSS, api.LoaderLocalCSS:
		code = hideSourceMap(code, "\n/*# sourceMappingURL=hidden: */")
	}
	return api.OnLoadResult{Contents: &code, Loader: kind, PluginData: name}, nil
}

// ownOptions tells whether a file is ruled by another tsconfig than the entry, with
// other compiler options. esbuild takes one text of options for a whole bundle.
func (l *loader) ownOptions(name string, kind api.Loader) (string, bool) {
	if kind != api.LoaderTS && kind != api.LoaderTSX && path.Ext(name) != ".jsx" {
		return "", false
	}
	d := l.files.dir(path.Dir(name))
	if d == nil {
		return "", false
	}
	raw := (&query{resolver: l.res}).tsconfigFor(d).raw()
	return raw, raw != l.scan.TsconfigRaw
}

// loadOwn turns such a file into JavaScript by its own options, with its source map
// inside, which the bundle's is made of.
func (l *loader) loadOwn(name, code string, kind api.Loader, raw string) (api.OnLoadResult, error) {
	opts := l.scan
	opts.TsconfigRaw, opts.Loader, opts.Define, opts.MinifySyntax, opts.KeepNames = raw, kind, nil, false, false
	opts.Sourcemap, opts.SourcesContent, opts.Sourcefile = api.SourceMapInline, api.SourcesContentInclude, nsFile+":"+name
	res := api.Transform(code, opts)
	if len(res.Errors) > 0 {
		return api.OnLoadResult{Errors: res.Errors, Warnings: res.Warnings}, nil
	}
	text, err := l.tame(name, string(res.Code), api.LoaderJS)
	if err != nil {
		return api.OnLoadResult{}, err
	}
	return api.OnLoadResult{Contents: &text, Loader: api.LoaderJS, Warnings: res.Warnings, PluginData: name}, nil
}

// hideSourceMap keeps esbuild from reading the source map that a file names: it opens
// file: addresses in the comment, and those that an inline map lists as its sources.
// The last comment counts, so one of a scheme that esbuild passes over ends the file.
func hideSourceMap(code, comment string) string {
	if strings.Contains(code, "sourceMappingURL") {
		return code + comment
	}
	return code
}

// loaderFor is wrangler's choice of loader for a file (wrangler-wire fact sheet,
// section 17), import attributes included.
func loaderFor(name string, with map[string]string) (api.Loader, error) {
	for _, k := range slices.Sorted(maps.Keys(with)) {
		v := with[k]
		switch {
		case k != "type":
			return 0, fmt.Errorf("importing with the %q attribute is not supported", k)
		case v == "json":
			return api.LoaderJSON, nil
		case v == "bytes":
			return api.LoaderBinary, nil
		case v == "text":
			return api.LoaderText, nil
		default:
			return 0, fmt.Errorf("importing with a type attribute of %q is not supported", v)
		}
	}
	switch path.Ext(name) {
	case ".js", ".mjs", ".cjs", ".jsx":
		return api.LoaderJSX, nil
	case ".ts", ".mts", ".cts":
		return api.LoaderTS, nil
	case ".tsx":
		return api.LoaderTSX, nil
	case ".json":
		return api.LoaderJSON, nil
	case ".txt":
		return api.LoaderText, nil
	case ".css":
		if strings.HasSuffix(name, ".module.css") {
			return api.LoaderLocalCSS, nil
		}
		return api.LoaderCSS, nil
	case "":
		return api.LoaderJS, nil
	}
	return 0, fmt.Errorf(noLoader+" %q files: %s", path.Ext(name), path.Base(name))
}
