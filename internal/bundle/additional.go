package bundle

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
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
	weights := map[string]int64{}
	for _, m := range j.art.Modules {
		weights[m.Name] = int64(len(m.Content))
	}
	j.weigh(weights)
	return nil
}

// checkUnbundled refuses an entry that is no ES module, without bundling anything.
func (j *job) checkUnbundled(entry string, content []byte) error {
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
