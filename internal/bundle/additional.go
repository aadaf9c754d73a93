package bundle

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// additional are the modules that rules find by path (find_additional_modules).
type additional struct {
	modules []deploy.Module
	paths   map[string]bool // where they lie in the tree
}

// additionalModules walks base_dir, or the entry's folder, and takes every file that a
// rule matches, under its relative name (wrangler-wire fact sheet, section 17).
func (j *job) additionalModules(entry string, rules *ruleSet) (*additional, error) {
	base := cmp.Or(j.set.path("base_dir", j.set.text("base_dir")), path.Dir(entry))
	if j.set.err != nil {
		return nil, j.set.err
	}
	out := &additional{paths: map[string]bool{}}
	if j.f.dir(base) == nil {
		return nil, configError(j.set.shown, "base_dir is not a folder of the project")
	}
	hidden := path.Join(j.set.dir, ".wrangler")
	err := j.walk(base, func(name string) error {
		shown := relativeTo(base, name)
		r := rules.forFile(shown)
		if r == nil || name == entry || name == j.set.file || strings.HasPrefix(name, hidden+"/") {
			return nil
		}
		content, err := j.f.read(name)
		if err != nil {
			return j.unreadable(name, err)
		}
		out.modules = append(out.modules, deploy.Module{Name: shown, Type: mimeOf(r.kind), Content: content})
		out.paths[name] = true
		return nil
	})
	return out, err
}

// walk visits every regular file below a folder, in order. Links to files are
// followed, links to folders are not.
func (j *job) walk(dir string, visit func(name string) error) error {
	d := j.f.dir(dir)
	if d == nil {
		return j.f.stopped()
	}
	names := make([]string, 0, len(d.entries))
	for name := range d.entries {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := j.f.stopped(); err != nil {
			return err
		}
		full := path.Join(dir, name)
		var err error
		switch d.entries[name] {
		case kindDir:
			err = j.walk(full, visit)
		case kindFile:
			err = visit(full)
		case kindLink:
			if j.f.isFile(full) {
				err = visit(full)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unbundled is no_bundle: the entry as it is, and the modules that rules find.
func (j *job) unbundled(entry string, rules *ruleSet) error {
	content, err := j.f.read(entry)
	if err != nil {
		return j.unreadable(entry, err)
	}
	name := path.Base(entry)
	if err := j.checkUnbundled(entry, content); err != nil {
		return err
	}
	var extra []deploy.Module
	if find := j.set.flag("find_additional_modules"); find == nil || *find {
		found, err := j.additionalModules(entry, rules)
		if err != nil {
			return err
		}
		extra = found.modules
	}
	if v := j.set.flag("minify"); j.src.Minify || v != nil && *v {
		j.warn("minify is without effect with no_bundle.")
	}
	j.art.MainModule = name
	j.art.Modules = append([]deploy.Module{{Name: name, Type: deploy.TypeESModule, Content: content}}, extra...)
	if err := j.fileMaps(path.Dir(entry)); err != nil {
		return err
	}
	weights := map[string]int64{}
	for _, m := range j.art.Modules {
		if m.Type != deploy.TypeSourceMap {
			weights[m.Name] = int64(len(m.Content))
		}
	}
	j.weigh(weights)
	return nil
}

var mapComment = regexp.MustCompile(`(?m)^[ \t]*//[#@] sourceMappingURL=([^\s'"]+)[ \t]*$`)

// fileMaps attaches the source maps that the modules of no_bundle name and that lie in
// the project. upload_source_maps: true makes one that is missing a mistake, false
// leaves them out (wrangler-wire fact sheet, sections 6 and 17).
func (j *job) fileMaps(base string) error {
	wanted := j.set.flag("upload_source_maps")
	if wanted != nil && !*wanted {
		return nil
	}
	var maps []deploy.Module
	for _, m := range j.art.Modules {
		all := mapComment.FindAllSubmatch(m.Content, -1)
		if m.Type != deploy.TypeESModule && m.Type != deploy.TypeCommonJS || len(all) == 0 {
			continue
		}
		named := string(all[len(all)-1][1])
		if strings.Contains(named, ":") { // a URL, or a map inside of the file
			continue
		}
		file, ok := joinInside(path.Join(base, path.Dir(m.Name)), named)
		if !ok || !j.f.isFile(file) {
			if wanted != nil {
				return configError(j.set.shown, fmt.Sprintf("upload_source_maps is true, but the source map %q of %s is not there", cutText(named, 100), m.Name))
			}
			continue
		}
		raw, err := j.f.read(file)
		if err != nil {
			return j.unreadable(file, err)
		}
		content, err := j.rebase(file, m.Name, raw)
		if err != nil {
			j.warn("The source map %s is left out: %v.", j.f.show(file), err)
			continue
		}
		maps = append(maps, deploy.Module{Name: m.Name + ".map", Type: deploy.TypeSourceMap, Content: content})
	}
	j.art.Modules = append(j.art.Modules, maps...)
	return nil
}

// rebase rewrites a source map as wrangler does: its sources by their place in the
// project, without a root.
func (j *job) rebase(file, module string, raw []byte) ([]byte, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, errors.New("it is not a JSON object")
	}
	var sources []string
	var root string
	if err := json.Unmarshal(all["sources"], &sources); err != nil {
		return nil, errors.New("it has no list of sources")
	}
	_ = json.Unmarshal(all["sourceRoot"], &root) // absent, mostly
	for i, s := range sources {
		if full, ok := joinInside(path.Dir(file), path.Join(root, s)); ok && !strings.Contains(s, ":") {
			sources[i] = relativeTo(j.f.project, full)
		}
	}
	for key, v := range map[string]any{"sources": sources, "sourceRoot": "", "file": module} {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		all[key] = b
	}
	return json.Marshal(all)
}

// checkUnbundled refuses an entry that is no ES module, without bundling anything.
func (j *job) checkUnbundled(entry string, content []byte) error {
	if err := j.f.checkNesting(entry, content, api.LoaderJSX); err != nil {
		return err
	}
	res, err := esbuild(j.f.ctx, api.BuildOptions{
		LogLevel: api.LogLevelSilent, Metafile: true, TsconfigRaw: "{}", AbsWorkingDir: blindDir, Outdir: blindDir + "/out",
		Format: api.FormatESModule, Target: api.ESNext,
		Stdin: &api.StdinOptions{Contents: string(content), Sourcefile: nsFile + ":" + entry, Loader: api.LoaderJSX},
	})
	if err != nil {
		return err
	}
	if len(res.Errors) > 0 {
		l := &loader{files: j.f}
		return buildFailed(limitRows(l.diagnose("error", res.Errors)))
	}
	var meta metafile
	if err := json.Unmarshal([]byte(res.Metafile), &meta); err != nil {
		return fmt.Errorf("esbuild's metafile: %w", err)
	}
	for _, out := range meta.Outputs {
		if len(out.Exports) > 0 {
			return nil
		}
	}
	return serviceWorkerError(j.f.show(entry))
}
