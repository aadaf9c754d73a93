package bundle

import (
	"path"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// guesses are the entry files that are tried where nothing names one, best first.
func guesses() []string {
	var out []string
	for _, stem := range []string{"src/index", "src/worker", "src/main", "index", "worker", "main", "src/server", "server", "_worker"} {
		for _, ext := range []string{".ts", ".tsx", ".js", ".jsx", ".mjs", ".mts"} {
			out = append(out, stem+ext)
		}
	}
	return append(out, "src/index.py", "index.py", "src/entry.py", "main.py")
}

func pythonError() *deploy.Error {
	return deploy.Errorf(deploy.CodeNotSupported, "Write the Worker in JavaScript or TypeScript.", "Python Workers can't be deployed by this server")
}

const nextEntry = "Name the file with the Worker's code in entry, or as main in a wrangler configuration. It must be an ES module with a default export such as export default { fetch(request, env) { … } }."

// findEntry finds the main module; "" for a project of static assets only.
func (j *job) findEntry() (string, error) {
	entry, err := j.namedEntry()
	if err != nil || entry != "" {
		return entry, j.checkEntry(entry, err)
	}
	if j.set.err != nil {
		return "", j.set.err
	}
	if j.set.object("assets").text("directory") != "" {
		return "", nil
	}
	for _, g := range guesses() {
		if p := path.Join(j.f.project, g); j.f.isFile(p) {
			if j.set.file != "" || len(j.src.Files) != 1 {
				j.warn("No entry was given: %s is used.", g)
			}
			return p, j.checkEntry(p, nil)
		}
	}
	if only := j.onlyCodeFile(); only != "" {
		return only, j.checkEntry(only, nil)
	}
	if j.siteFolder() != "" {
		return "", nil
	}
	return "", deploy.Errorf(deploy.CodeNoEntry, nextEntry,
		"no entry file was found; looked for main in a wrangler configuration, then for src/index, src/worker, src/main, index, worker, main, src/server, server and _worker with .ts, .tsx, .js, .jsx, .mjs or .mts, then for a folder of static files with an index.html%s", j.whatIsThere())
}

// whatIsThere names a few files of the project, so that the mistake can be seen.
func (j *job) whatIsThere() string {
	d := j.f.dir(j.f.project)
	if d == nil || len(d.entries) == 0 {
		return " (the project is empty)"
	}
	var names []string
	for name, kind := range d.entries {
		if kind == kindDir {
			name += "/"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	const few = 12
	more := ""
	if len(names) > few {
		names, more = names[:few], ", …"
	}
	return " (the project has: " + strings.Join(names, ", ") + more + ")"
}

func (j *job) namedEntry() (string, error) {
	name, base, where := j.src.Entry, j.f.project, "entry"
	if name == "" {
		name, base, where = j.set.text("main"), j.set.dir, "main in "+j.set.shown
	}
	if name == "" {
		return "", nil
	}
	p, ok := joinInside(base, name)
	if !ok || path.IsAbs(name) || strings.ContainsAny(name, "\\\x00") {
		return "", deploy.Errorf(deploy.CodePathInvalid, nextPath, "%s is %q, which is absolute or leads out of the project", where, cutText(name, 200))
	}
	if _, kind := j.f.stat(p); kind == kindFile {
		return p, nil
	} else if kind == kindLink {
		return "", deploy.Errorf(deploy.CodePathInvalid, "Replace the link by the file itself.", "%s is %q, a link that leads out of the allowed root", where, cutText(name, 200))
	}
	if path.Ext(name) == "" { // as written for esbuild: without the extension
		q := &query{resolver: &resolver{files: j.f}, kind: api.ResolveEntryPoint}
		if hit, ok := q.asFile(p); ok {
			return hit, nil
		}
	}
	next := nextEntry
	l := &loader{files: j.f}
	if near := l.closeFile(relativeTo(j.f.project, path.Join(base, "x")), "./"+path.Clean(name)); near != "" {
		next = "Did you mean " + strings.TrimPrefix(near, "./") + "? " + nextEntry
	}
	return "", deploy.Errorf(deploy.CodeNoEntry, next, "%s is %q, but there is no such file%s", where, cutText(name, 200), j.whatIsThere())
}

func (j *job) checkEntry(entry string, err error) error {
	switch {
	case err != nil:
		return err
	case path.Ext(entry) == ".py":
		return pythonError()
	case entry != "" && !isCode(entry) && (!j.noBundle() || path.Ext(entry) == ""):
		return deploy.Errorf(deploy.CodeNoEntry, nextEntry, "the entry %s is not a JavaScript or TypeScript file", j.f.show(entry))
	}
	return nil
}

// onlyCodeFile is the one code file of an inline project that has just one.
func (j *job) onlyCodeFile() string {
	if !j.inline {
		return ""
	}
	only := ""
	for _, f := range j.src.Files {
		if !isCode(f.Path) || strings.HasSuffix(f.Path, ".d.ts") || strings.Contains(path.Base(f.Path), ".config.") {
			continue
		}
		if only != "" {
			return ""
		}
		only = path.Join("/", f.Path)
	}
	return only
}

func (j *job) noBundle() bool {
	v := j.set.flag("no_bundle")
	return v != nil && *v
}
