package bundle

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// code makes the modules of a project that has code.
func (j *job) code(entry string) error {
	set, err := newRuleSet(j.set.rules())
	if err != nil {
		return configError(j.set.shown, "a glob in rules can't be understood")
	}
	if j.set.err != nil {
		return j.set.err
	}
	j.art.Warnings = append(j.art.Warnings, set.warnings...)
	if j.noBundle() {
		return j.unbundled(entry, set)
	}
	b := &build{job: j, entry: entry, rules: set}
	if err := b.prepare(); err != nil {
		return err
	}
	return b.run()
}

// build is one run of esbuild and what surrounds it.
type build struct {
	*job
	entry string
	rules *ruleSet
	res   *resolver
	load  *loader
	opts  api.BuildOptions
	maps  bool // make source maps
	extra []deploy.Module
}

// prepare reads the settings that matter to the bundle.
func (b *build) prepare() error {
	s := b.set
	b.res = &resolver{files: b.f, dual: map[string]string{}, preferMain: map[string]string{}}
	root := s.dir
	if b.src.Entry != "" {
		root = b.f.project
	}
	if p := s.path("tsconfig", s.text("tsconfig")); p != "" {
		if !b.f.isFile(p) {
			return configError(s.shown, "tsconfig names a file that does not exist")
		}
		b.res.override = &tsconfig{file: p}
	}
	alias := s.textMap("alias")
	b.maps = true
	if v := s.flag("upload_source_maps"); v != nil {
		b.maps = *v
	}
	keep := s.flag("preserve_file_names")
	b.load = &loader{
		files: b.f, res: b.res, entry: b.entry, root: root, alias: alias, rules: b.rules,
		mode: nodeModeOf(b.date, b.flags), keep: keep != nil && *keep,
	}
	if find := s.flag("find_additional_modules"); find != nil && *find {
		extra, err := b.additionalModules(b.entry, b.rules)
		if err != nil {
			return err
		}
		b.extra = extra.modules
		b.load.extra = extra.paths
	}
	b.options()
	if s.err != nil {
		return s.err
	}
	return nil
}

// Bounds of what else esbuild parses than files, in bytes.
const maxDefine, maxFactory = 16 << 10, 256

// options are esbuild's, as wrangler sets them (wrangler-wire fact sheet, section 17).
func (b *build) options() {
	s := b.set
	minify := b.src.Minify
	if v := s.flag("minify"); v != nil && *v {
		minify = true
	}
	keepNames := true
	if v := s.flag("keep_names"); v != nil {
		keepNames = *v
	}
	define := map[string]string{
		"process.env.NODE_ENV":            `"production"`,
		"global.process.env.NODE_ENV":     `"production"`,
		"globalThis.process.env.NODE_ENV": `"production"`,
	}
	if userAgentKnown(b.date, b.flags) {
		define["navigator.userAgent"] = `"Cloudflare-Workers"`
	}
	for k, v := range s.textMap("define") {
		if len(k)+len(v) > maxDefine { // esbuild calls itself for each level of nesting
			s.wrong("define."+cutText(k, 60), "at most "+size(maxDefine)+" long")
		}
		define[k] = v
	}
	for _, k := range []string{"jsx_factory", "jsx_fragment"} {
		if len(s.text(k)) > maxFactory {
			s.wrong(k, "the name of a function")
		}
	}
	factory := s.text("jsx_factory")
	if factory == "" {
		factory = "React.createElement"
	}
	fragment := s.text("jsx_fragment")
	if fragment == "" {
		fragment = "React.Fragment"
	}
	raw := "{}"
	if d := b.f.dir(path.Dir(b.entry)); d != nil {
		q := &query{resolver: b.res}
		if t := q.tsconfigFor(d); t != nil {
			if t.err != nil {
				b.warn("%s could not be read and is ignored: %s", b.f.show(t.file), cutText(t.err.Error(), 200))
			}
			raw = t.raw()
		}
	}
	supported := map[string]bool{"using": true, "import-source": true}
	b.load.scan = api.TransformOptions{
		Target: api.ES2024, Supported: supported, Define: define, TsconfigRaw: raw, KeepNames: keepNames,
		JSXFactory: factory, JSXFragment: fragment, MinifySyntax: minify,
	}
	b.opts = api.BuildOptions{
		LogLevel: api.LogLevelSilent, Bundle: true, Write: false, Metafile: true,
		Format: api.FormatESModule, Target: api.ES2024, Supported: supported, Platform: api.PlatformBrowser,
		Conditions: []string{"workerd", "worker", "browser"}, KeepNames: keepNames, Define: define,
		MinifySyntax: minify, MinifyWhitespace: minify, MinifyIdentifiers: minify,
		JSXFactory: factory, JSXFragment: fragment, TsconfigRaw: raw,
		AbsWorkingDir: blindDir, Outdir: blindDir + "/out", Outbase: path.Dir(b.entry),
		EntryPointsAdvanced: []api.EntryPoint{{InputPath: "hourglass-entry", OutputPath: stem(b.entry)}},
		Plugins:             []api.Plugin{b.load.plugin()},
	}
	if b.maps {
		b.opts.Sourcemap = api.SourceMapLinked
	}
}

// userAgentKnown tells whether navigator.userAgent is a constant of the runtime.
func userAgentKnown(date string, flags []string) bool {
	if slices.Contains(flags, "no_global_navigator") {
		return false
	}
	return date >= "2022-03-21" || slices.Contains(flags, "global_navigator")
}

func stem(name string) string {
	base := path.Base(name)
	return strings.TrimSuffix(base, path.Ext(base))
}

// run bundles, again where a package turned out to be both imported and required.
func (b *build) run() error {
	const mostPasses = 3
	var res api.BuildResult
	for range mostPasses {
		b.load.parts, b.load.loaded = map[string]deploy.Module{}, map[string]bool{}
		b.load.nodes, b.load.rows = map[string]string{}, nil
		b.load.tableRows.Store(0)
		var err error
		if res, err = esbuild(b.f.ctx, b.opts); err != nil {
			return err
		}
		if b.f.err != nil {
			return b.f.err
		}
		if len(res.Errors) > 0 || !b.preferMains() {
			break
		}
	}
	rows := slices.Concat(b.load.diagnose("error", res.Errors), b.load.diagnose("warning", res.Warnings), b.load.rows, b.res.notes)
	rows = append(rows, b.nodeWarnings()...)
	if len(res.Errors) > 0 {
		if len(res.Errors) > 0 && b.f.ctx.Err() != nil {
			return b.f.ctx.Err()
		}
		return buildFailed(limitRows(rows))
	}
	b.art.Diagnostics = limitRows(rows)
	return b.collect(res)
}

// esbuild runs it, and stops it when ctx ends.
func esbuild(ctx context.Context, opts api.BuildOptions) (api.BuildResult, error) {
	run, bad := api.Context(opts)
	if bad != nil {
		return api.BuildResult{Errors: bad.Errors}, nil
	}
	defer run.Dispose()
	stop := context.AfterFunc(ctx, run.Cancel)
	defer stop()
	res := run.Rebuild()
	return res, ctx.Err()
}

// preferMains notes the packages whose "module" and "main" files are both in the
// bundle; esbuild then takes "main" for both, so that the package exists once.
func (b *build) preferMains() bool {
	again := false
	for module, main := range b.res.dual {
		real, _ := b.f.stat(main)
		other, _ := b.f.stat(module)
		if b.load.loaded[real] && real != other {
			b.res.preferMain[module] = main
			again = true
		}
	}
	b.res.dual = map[string]string{}
	return again
}

func (b *build) nodeWarnings() []deploy.Diagnostic {
	var rows []deploy.Diagnostic
	if b.load.mode == nodeV1 {
		return nil
	}
	for spec, importer := range b.load.nodes {
		rows = append(rows, deploy.Diagnostic{
			Severity: "warning", File: importer, Text: fmt.Sprintf("%q is a module of Node.js, which this Worker's compatibility settings leave out", spec),
			Suggestion: "Add the compatibility flag nodejs_compat, or set the compatibility date to " + dateNodeDefault + " or later.",
		})
	}
	slices.SortFunc(rows, func(x, y deploy.Diagnostic) int { return strings.Compare(x.Text, y.Text) })
	return rows
}

func buildFailed(rows []deploy.Diagnostic) *deploy.Error {
	first := rows[0]
	at := ""
	if first.File != "" {
		at = first.File
		if first.Line > 0 {
			at += fmt.Sprintf(":%d:%d", first.Line, first.Column)
		}
		at += ": "
	}
	n := 0
	for _, r := range rows {
		if r.Severity == "error" {
			n++
		}
	}
	more := ""
	if n > 1 {
		more = fmt.Sprintf(" (and %d more)", n-1)
	}
	next := "Correct the code at the places that the diagnostics name, then call again."
	if first.Suggestion != "" {
		next = first.Suggestion + " Then call again."
	}
	return &deploy.Error{Code: deploy.CodeBuildFailed, Message: "the code can't be bundled: " + at + first.Text + more, Next: next, Diagnostics: rows}
}

// metafile is what is read of esbuild's own account of a bundle.
type metafile struct {
	Inputs map[string]struct {
		Format string `json:"format"` // esm, cjs or ""
	} `json:"inputs"`
	Outputs map[string]struct {
		EntryPoint string                                   `json:"entryPoint"`
		Exports    []string                                 `json:"exports"`
		Inputs     map[string]struct{ BytesInOutput int64 } `json:"inputs"`
	} `json:"outputs"`
}

// collect turns esbuild's output into modules.
func (b *build) collect(res api.BuildResult) error {
	name := stem(b.entry) + ".js"
	var main, sourceMap []byte
	for _, f := range res.OutputFiles {
		switch path.Base(f.Path) {
		case name:
			main = f.Contents
		case name + ".map":
			sourceMap = f.Contents
		}
	}
	// The map of a large project takes as long as all the rest here: both cores are used.
	var rewritten []byte
	var mapErr error
	var mapping sync.WaitGroup
	if sourceMap != nil {
		mapping.Go(func() { rewritten, mapErr = rewriteMap(b.f.project, name, sourceMap) })
	}
	defer mapping.Wait()
	var meta metafile
	if err := json.Unmarshal([]byte(res.Metafile), &meta); err != nil {
		return fmt.Errorf("esbuild's metafile: %w", err)
	}
	weights := map[string]int64{}
	var inputs []string
	for _, out := range meta.Outputs {
		if out.EntryPoint == "" {
			continue
		}
		if len(out.Exports) == 0 || meta.Inputs[out.EntryPoint].Format == "cjs" {
			return serviceWorkerError(b.f.show(b.entry))
		}
		if err := b.checkClasses(b.f.show(b.entry), out.Exports); err != nil {
			return err
		}
		for input, in := range out.Inputs {
			name := plainName(b.f.project, input)
			weights[packageOf(name)] += in.BytesInOutput
			if in.BytesInOutput > 0 {
				inputs = append(inputs, name)
			}
		}
	}
	b.art.MainModule = name
	b.art.Packages = b.packages(inputs)
	b.art.Modules = append(b.art.Modules, deploy.Module{Name: name, Type: deploy.TypeESModule, Content: stripNames(b.f.project, main)})
	for _, p := range sortedParts(b.load.parts) {
		b.art.Modules = append(b.art.Modules, p)
		weights[p.Name] += int64(len(p.Content))
	}
	for _, p := range b.extra {
		b.art.Modules = append(b.art.Modules, p)
		weights[p.Name] += int64(len(p.Content))
	}
	b.weigh(weights)
	if sourceMap != nil {
		if mapping.Wait(); mapErr != nil {
			return mapErr
		}
		b.art.Modules = append(b.art.Modules, deploy.Module{Name: name + ".map", Type: deploy.TypeSourceMap, Content: rewritten})
	}
	return nil
}

func serviceWorkerError(entry string) error {
	return deploy.Errorf(deploy.CodeNotSupported,
		"Rewrite the entry as an ES module: export default { async fetch(request, env, ctx) { return new Response(\"…\") } } in place of addEventListener(\"fetch\", …) or module.exports.",
		"the entry %s exports nothing, so it would be a Worker of the old service-worker format, which is not deployed", entry)
}
