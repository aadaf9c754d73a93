package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// root is one folder that projects may lie in, under the addresses it is known by.
type root struct {
	dir   string   // absolute, as configured
	names []string // dir, and without links where that differs
}

func newRoot(abs string) root {
	r := root{dir: abs, names: []string{abs}}
	if real, err := filepath.EvalSymlinks(abs); err == nil && real != abs {
		r.names = append(r.names, real)
	}
	return r
}

// within tells where a path lies in the root, by its words alone: nothing is looked at.
func (r root) within(abs string) (string, bool) {
	for _, name := range r.names {
		if rel, err := filepath.Rel(name, abs); err == nil && filepath.IsLocal(rel) {
			return rel, true
		}
	}
	return "", false
}

const nextGiveFolder = "Give the path of a project's folder inside the allowed roots, or pass the code as files."

// openFolder finds the root that a project folder lies in and opens it. The caller
// closes the root.
func (b *Bundler) openFolder(dir string) (t *diskTree, project string, err error) {
	if len(b.roots) == 0 {
		return nil, "", deploy.Errorf(deploy.CodeRootNotAllowed,
			"Pass the code as files, or ask the operator to start the server with --root and the folder that projects may lie in.",
			"no folder is allowed for project_dir: the server has no --root")
	}
	if strings.ContainsRune(dir, 0) || !utf8.ValidString(dir) {
		return nil, "", deploy.Errorf(deploy.CodePathInvalid, nextGiveFolder, "project_dir is not a path")
	}
	for _, r := range b.roots {
		abs := dir
		if !filepath.IsAbs(abs) {
			abs = filepath.Join(r.dir, abs)
		}
		rel, ok := r.within(filepath.Clean(abs))
		if !ok {
			continue
		}
		handle, err := os.OpenRoot(r.dir)
		if err != nil {
			return nil, "", deploy.Errorf(deploy.CodeRootNotAllowed, "Ask the operator to check --root.", "the allowed root that project_dir lies in can't be opened").Caused(err)
		}
		info, err := handle.Stat(rel)
		if err == nil && info.IsDir() {
			t := &diskTree{root: handle, abs: filepath.ToSlash(r.names[len(r.names)-1])}
			return t, path.Join("/", filepath.ToSlash(rel)), nil
		}
		if e := errors.Join(handle.Close()); e != nil && err == nil {
			err = e
		}
		if !filepath.IsAbs(dir) && errors.Is(err, fs.ErrNotExist) && len(b.roots) > 1 {
			continue // a relative path may lie in the next root
		}
		return nil, "", folderError(dir, err)
	}
	if !filepath.IsAbs(dir) && filepath.IsLocal(dir) {
		return nil, "", folderError(dir, fs.ErrNotExist)
	}
	return nil, "", deploy.Errorf(deploy.CodeRootNotAllowed,
		"Use a folder inside the allowed roots ("+b.rootNames()+"), pass the code as files, or ask the operator to allow the folder with --root.",
		"project_dir %q is outside the allowed roots", dir)
}

func (b *Bundler) rootNames() string {
	var names []string
	for _, r := range b.roots {
		names = append(names, r.dir)
	}
	return strings.Join(names, ", ")
}

func folderError(dir string, err error) error {
	switch {
	case err == nil:
		return deploy.Errorf(deploy.CodePathInvalid, "Give the folder that the file lies in; name the file in entry.", "project_dir %q is a file, not a folder", dir)
	case errors.Is(err, fs.ErrNotExist):
		return deploy.Errorf(deploy.CodePathInvalid, nextGiveFolder, "project_dir %q does not exist", dir)
	case errors.Is(err, fs.ErrPermission):
		return deploy.Errorf(deploy.CodePathInvalid, "Make the folder readable for the server's user, or choose another.", "project_dir %q may not be read", dir).Caused(err)
	}
	return deploy.Errorf(deploy.CodeRootNotAllowed, nextGiveFolder, "project_dir %q leads out of the allowed root (a symbolic link?)", dir).Caused(err)
}

const nextPath = "Give paths relative to the project, such as src/index.ts: slashes, no \"..\", no leading slash."

// inlineTree puts inline files into a tree after checking their paths.
func (b *Bundler) inlineTree(list []deploy.File) (*memTree, []string, error) {
	if len(list) > b.cfg.MaxInlineFiles {
		return nil, nil, deploy.Errorf(deploy.CodeTooManyFiles,
			"Pass only the files of the program itself; dependencies belong into package.json, large projects into a folder (project_dir).",
			"%d inline files; at most %d are taken (limit: max inline files)", len(list), b.cfg.MaxInlineFiles)
	}
	var total int64
	t := newMemTree()
	folded := map[string]string{}
	var warnings []string
	for _, f := range list {
		name, why := cleanInline(f.Path, b.cfg.MaxDepth)
		if why != "" {
			return nil, nil, deploy.Errorf(deploy.CodePathInvalid, nextPath, "the file path %q %s", cutText(f.Path, 200), why)
		}
		n := int64(len(f.Content))
		if n > b.cfg.MaxFileBytes {
			return nil, nil, deploy.Errorf(deploy.CodeTooLarge, "Leave it out or shrink it.",
				"the file %s has %s; at most %s are taken (limit: max file bytes)", f.Path, size(n), size(b.cfg.MaxFileBytes))
		}
		if total += n; total > b.cfg.MaxTotalBytes {
			return nil, nil, deploy.Errorf(deploy.CodeTooLarge, "Leave out large files; a Worker itself can be at most 3 MiB gzipped.",
				"the files come to more than %s (limit: max total bytes)", size(b.cfg.MaxTotalBytes))
		}
		if way := t.add(name, f.Content); way != "" {
			if way == name {
				return nil, nil, deploy.Errorf(deploy.CodePathInvalid, "Give each file once.", "the file path %q is given twice, or is a folder of another file", f.Path)
			}
			return nil, nil, deploy.Errorf(deploy.CodePathInvalid, "Rename one of the two.", "%q lies in a folder that is also given as a file, %q", f.Path, way[1:])
		}
		key := strings.ToLower(name)
		if other, ok := folded[key]; ok {
			warnings = append(warnings, fmt.Sprintf("The files %s and %s differ in case only; on many machines they would be one.", other, name[1:]))
		}
		folded[key] = name[1:]
	}
	return t, warnings, nil
}

// cleanInline checks an inline path; why says what is wrong with it.
func cleanInline(p string, maxDepth int) (name, why string) {
	const longest, longestPart = 1024, 255
	switch {
	case p == "":
		return "", "is empty"
	case len(p) > longest:
		return "", fmt.Sprintf("is longer than %d bytes", longest)
	case !utf8.ValidString(p):
		return "", "is not UTF-8"
	case strings.ContainsFunc(p, unicode.IsControl):
		return "", "contains a control character"
	case strings.Contains(p, "\\"):
		return "", "contains a backslash"
	case path.IsAbs(p) || len(p) > 1 && p[1] == ':':
		return "", "is absolute"
	case strings.HasSuffix(p, "/"):
		return "", "names a folder"
	}
	depth := 0
	for part := range strings.SplitSeq(p, "/") {
		switch {
		case part == "..":
			return "", "contains \"..\""
		case len(part) > longestPart:
			return "", fmt.Sprintf("has a part longer than %d bytes", longestPart)
		case part != "" && part != ".":
			depth++
		}
	}
	if depth == 0 {
		return "", "names no file"
	}
	if depth > maxDepth {
		return "", fmt.Sprintf("is nested deeper than %d folders (limit: max depth)", maxDepth)
	}
	return path.Join("/", p), ""
}
