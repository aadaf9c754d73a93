package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// files is one bundle's view of its tree: it resolves links, remembers folders and
// parsed package.json files, and keeps to the limits. It is made for one bundle and
// thrown away after, so that no bundle sees what another one read.
type files struct {
	ctx     context.Context //nolint:containedctx // one bundle's life; esbuild's callbacks take no context
	tree    tree
	limits  Config
	nesting *checker
	leisure *leisure
	project string // the project's folder in the tree

	mu   sync.Mutex
	dirs map[string]*folder

	spent sync.Mutex // guards what follows; taken after mu, never before
	bytes int64
	err   *deploy.Error // the first limit that was met
	sizes map[string]int64
	large bool // it has leisure
}

// folder is what is known of one folder, by one of its (perhaps linked) paths.
type folder struct {
	path    string // as asked for
	real    string // without links
	parent  *folder
	entries map[string]entryKind

	isNodeModules, hasNodeModules, inNodeModules bool

	pkg      *packageJSON // of this very folder
	nearest  *packageJSON // of this folder or the closest one above
	browser  *folder      // closest folder whose package.json has a browser map
	tsconfig *tsconfig    // closest tsconfig.json, nil inside node_modules
}

func newFiles(ctx context.Context, t tree, project string, limits Config) *files {
	return &files{ctx: ctx, tree: t, project: project, limits: limits, dirs: map[string]*folder{}, sizes: map[string]int64{}, leisure: &leisure{}}
}

// done is called once, at the end. What is read after it, by a bundle that was given up,
// has no leisure.
func (f *files) done() {
	f.spent.Lock()
	defer f.spent.Unlock()
	if f.large {
		f.leisure.end()
	}
	f.large = true
}

// maxLinks bounds how many links one path may go through.
const maxLinks = 40

// dir finds a folder; nil when there is none, or it can't be read, or it leads out.
func (f *files) dir(name string) *folder {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dirLocked(name, 0)
}

func (f *files) dirLocked(name string, links int) *folder {
	if d, ok := f.dirs[name]; ok {
		return d
	}
	if links > maxLinks || strings.Count(name, "/") > f.limits.MaxDepth {
		return nil
	}
	f.dirs[name] = nil // a loop of links finds nothing
	d := &folder{path: name, real: name}
	if name != "/" {
		d.parent = f.dirLocked(path.Dir(name), links)
		if d.parent == nil {
			return nil
		}
		d.real = path.Join(d.parent.real, path.Base(name))
		switch d.parent.entries[path.Base(name)] {
		case kindDir:
		case kindLink:
			target, err := f.follow(d.real, links)
			if err != nil {
				return nil
			}
			d.real = target
		default:
			return nil
		}
	}
	if d.real != name { // share what was read with the folder's own path
		own := f.dirLocked(d.real, links+1)
		if own == nil {
			return nil
		}
		d.entries = own.entries
	} else {
		entries, err := f.tree.list(d.real)
		if err != nil {
			return nil
		}
		d.entries = entries
	}
	f.describe(d)
	f.dirs[name] = d
	return d
}

// describe fills in what follows from the folder's entries and its parent.
func (f *files) describe(d *folder) {
	base := path.Base(d.path)
	d.isNodeModules = base == "node_modules"
	d.inNodeModules = d.isNodeModules || d.parent != nil && d.parent.inNodeModules
	if !d.isNodeModules {
		k := d.entries["node_modules"]
		d.hasNodeModules = k == kindDir || k == kindLink
	}
	if p := d.parent; p != nil {
		d.nearest, d.browser, d.tsconfig = p.nearest, p.browser, p.tsconfig
	}
	if k := d.entries["package.json"]; k == kindFile || k == kindLink {
		real := path.Join(d.real, "package.json")
		if k == kindLink {
			real, k = f.linkLocked(real)
		}
		if raw, err := f.readReal(real, k); err == nil {
			d.pkg = parsePackageJSON(d.path, raw)
		}
	}
	if d.pkg != nil {
		d.nearest = d.pkg
		if d.pkg.browserMap != nil {
			d.browser = d
		}
	}
	if d.inNodeModules {
		d.tsconfig = nil
		return
	}
	for _, name := range []string{"tsconfig.json", "jsconfig.json"} {
		if k := d.entries[name]; k == kindFile || k == kindLink {
			d.tsconfig = &tsconfig{file: path.Join(d.path, name)}
			break
		}
	}
}

// follow resolves the link at a path (whose folders are real) to a path without links.
func (f *files) follow(name string, links int) (string, error) {
	for ; links <= maxLinks; links++ {
		target, err := f.tree.link(name)
		if err != nil {
			return "", err
		}
		next, ok := joinInside(path.Dir(name), target)
		if !ok {
			return "", errEscape
		}
		if next == "/" {
			return next, nil
		}
		parent := f.dirLocked(path.Dir(next), links+1)
		if parent == nil {
			return "", fs.ErrNotExist
		}
		name = path.Join(parent.real, path.Base(next))
		if parent.entries[path.Base(next)] != kindLink {
			return name, nil
		}
	}
	return "", errEscape
}

// joinInside joins a path to a folder; not ok when it climbs above the tree's root.
func joinInside(dir, name string) (string, bool) {
	if path.IsAbs(name) {
		return path.Clean(name), true
	}
	depth := strings.Count(strings.Trim(dir, "/"), "/") + 1
	if dir == "/" {
		depth = 0
	}
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return "", false
			}
		default:
			depth++
		}
	}
	return path.Join(dir, name), true
}

// stat tells what lies at a path, links followed, and the path without links.
func (f *files) stat(name string) (real string, kind entryKind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.statLocked(name)
}

func (f *files) statLocked(name string) (string, entryKind) {
	if name == "/" {
		return name, kindDir
	}
	d := f.dirLocked(path.Dir(name), 0)
	if d == nil {
		return name, kindNone
	}
	base := path.Base(name)
	real, kind := path.Join(d.real, base), d.entries[base]
	if kind != kindLink {
		return real, kind
	}
	return f.linkLocked(real)
}

// linkLocked resolves a link; kindLink when it leads out of the tree, or nowhere.
func (f *files) linkLocked(real string) (string, entryKind) {
	target, err := f.follow(real, 0)
	if err != nil {
		return real, kindLink
	}
	if target == "/" {
		return target, kindDir
	}
	parent := f.dirLocked(path.Dir(target), 0)
	if parent == nil {
		return real, kindNone
	}
	return target, parent.entries[path.Base(target)]
}

// isFile tells whether a regular file can be reached at a path.
func (f *files) isFile(name string) bool {
	_, k := f.stat(name)
	return k == kindFile
}

// hasFile tells whether d, a folder found before, has a file of that name.
func (f *files) hasFile(d *folder, base string) bool {
	switch d.entries[base] {
	case kindFile:
		return true
	case kindLink:
		return f.isFile(path.Join(d.path, base))
	}
	return false
}

// read reads a file and counts it against the limits.
func (f *files) read(name string) ([]byte, error) {
	real, kind := f.stat(name)
	if kind == kindLink {
		return nil, errEscape
	}
	return f.readReal(real, kind)
}

func (f *files) readReal(real string, kind entryKind) ([]byte, error) {
	if err := f.stopped(); err != nil {
		return nil, err
	}
	switch kind {
	case kindNone:
		return nil, fs.ErrNotExist
	case kindFile:
	default:
		return nil, errNotAFile
	}
	content, err := f.tree.read(real, f.limits.MaxFileBytes)
	if errors.Is(err, errTooBig) {
		return nil, f.stop(deploy.Errorf(deploy.CodeTooLarge,
			"Leave that file out of the project or shrink it; data of that size belongs into static assets or a database.",
			"the file %s is larger than %s (limit: max file bytes)", f.show(real), size(f.limits.MaxFileBytes)))
	}
	if err != nil {
		return nil, err
	}
	return content, f.account(real, int64(len(content)))
}

// account counts what was read.
func (f *files) account(real string, n int64) error {
	f.spent.Lock()
	if _, again := f.sizes[real]; !again {
		f.bytes += n
		f.sizes[real] = n
	}
	count, total := len(f.sizes), f.bytes
	if count >= largeFiles && !f.large {
		f.large = true
		f.leisure.begin()
	}
	f.spent.Unlock()
	if count > f.limits.MaxFiles {
		return f.stop(deploy.Errorf(deploy.CodeTooManyFiles,
			"Deploy a smaller project, or bundle it first and deploy its output with no_bundle.",
			"the project reads more than %d files (limit: max files)", f.limits.MaxFiles))
	}
	if total > f.limits.MaxTotalBytes {
		return f.stop(deploy.Errorf(deploy.CodeTooLarge,
			"Leave large files out of the project; a Worker itself can be at most 3 MiB gzipped.",
			"the project's files come to more than %s (limit: max total bytes)", size(f.limits.MaxTotalBytes)))
	}
	return nil
}

// stop ends the bundle's reading for good; the first reason is kept.
func (f *files) stop(e *deploy.Error) error {
	f.spent.Lock()
	defer f.spent.Unlock()
	if f.err == nil {
		f.err = e
	}
	return f.err
}

// stopped tells why reading has ended, if it has.
func (f *files) stopped() error {
	f.spent.Lock()
	defer f.spent.Unlock()
	if f.err != nil {
		return f.err
	}
	return f.ctx.Err()
}

// checkNesting ends the bundle over code that is nested too deeply.
func (f *files) checkNesting(name string, code []byte, kind api.Loader) error {
	err := f.nesting.check(f.ctx, f.show(name), code, kind)
	if e, ok := errors.AsType[*deploy.Error](err); ok {
		return f.stop(e)
	}
	return err
}

// show writes a path as the project sees it: relative, never an address of the machine.
func (f *files) show(name string) string { return relativeTo(f.project, name) }

// relativeTo writes target relative to the folder base; both absolute in one tree.
func relativeTo(base, target string) string {
	b := strings.FieldsFunc(base, func(r rune) bool { return r == '/' })
	t := strings.FieldsFunc(target, func(r rune) bool { return r == '/' })
	same := 0
	for same < len(b) && same < len(t) && b[same] == t[same] {
		same++
	}
	out := strings.Repeat("../", len(b)-same) + strings.Join(t[same:], "/")
	if out == "" {
		return "."
	}
	return out
}

func size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.4g MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.4g KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
