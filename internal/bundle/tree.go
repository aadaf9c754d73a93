package bundle

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// entryKind is what a name in a folder stands for.
type entryKind uint8

const (
	kindNone entryKind = iota
	kindFile
	kindDir
	kindLink
	kindOther // device, socket, pipe: never opened
)

var (
	errTooBig   = errors.New("too big")
	errNotAFile = errors.New("not a regular file")
	errEscape   = errors.New("leads out of the root")
)

// tree is where files come from. Its paths are absolute inside the tree ("/" is its
// root) and hold no symbolic links: those are resolved above, by files.
type tree interface {
	list(dir string) (map[string]entryKind, error)
	link(name string) (target string, err error)
	// read gives a regular file of at most limit bytes; else errTooBig, errNotAFile.
	read(name string, limit int64) ([]byte, error)
}

// diskTree is a folder behind an os.Root. Nothing outside can be opened through it,
// whatever links and ".." say, also when the folder changes meanwhile.
type diskTree struct {
	root *os.Root
	abs  string // where the root is, to understand absolute links that stay inside
}

func rel(name string) string {
	if name = strings.TrimPrefix(name, "/"); name != "" {
		return name
	}
	return "."
}

func (t *diskTree) list(dir string) (map[string]entryKind, error) {
	f, err := t.root.OpenFile(rel(dir), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	if info, err := f.Stat(); err != nil || !info.IsDir() {
		return nil, errors.Join(fs.ErrNotExist, err)
	}
	list, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	out := make(map[string]entryKind, len(list))
	for _, e := range list {
		out[e.Name()] = kindOf(e.Type())
	}
	return out, nil
}

func kindOf(m fs.FileMode) entryKind {
	switch {
	case m.IsRegular():
		return kindFile
	case m.IsDir():
		return kindDir
	case m&fs.ModeSymlink != 0:
		return kindLink
	}
	return kindOther
}

func (t *diskTree) link(name string) (string, error) {
	target, err := t.root.Readlink(rel(name))
	if err != nil {
		return "", err
	}
	target = filepath.ToSlash(target)
	if !path.IsAbs(target) {
		return target, nil
	}
	// npm link and some tools write absolute links; they are fine if they stay inside.
	if target == t.abs {
		return "/", nil
	}
	if inside, ok := strings.CutPrefix(target, strings.TrimSuffix(t.abs, "/")+"/"); ok {
		return path.Join("/", inside), nil
	}
	return "", errEscape
}

func (t *diskTree) read(name string, limit int64) ([]byte, error) {
	// O_NONBLOCK: a pipe put in the place of a file must not hold us up.
	f, err := t.root.OpenFile(rel(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNotAFile
	}
	if info.Size() > limit {
		return nil, errTooBig
	}
	buf := make([]byte, info.Size())
	n, err := io.ReadFull(f, buf)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return buf[:n], nil
}

// memTree is a set of inline files.
type memTree struct {
	dirs  map[string]map[string]entryKind
	files map[string][]byte
}

func newMemTree() *memTree {
	return &memTree{dirs: map[string]map[string]entryKind{"/": {}}, files: map[string][]byte{}}
}

// add puts a file into the tree and makes its folders. It tells which path is in the
// way, if one is: a file where a folder must be or the reverse.
func (t *memTree) add(name string, content []byte) (inTheWay string) {
	if k := t.dirs[path.Dir(name)][path.Base(name)]; k != kindNone {
		return name
	}
	t.files[name] = content
	for child, kind := name, kindFile; ; child, kind = path.Dir(child), kindDir {
		dir := path.Dir(child)
		if _, isFile := t.files[dir]; isFile {
			return dir
		}
		entries, seen := t.dirs[dir]
		if !seen {
			entries = map[string]entryKind{}
			t.dirs[dir] = entries
		}
		entries[path.Base(child)] = kind
		if seen || dir == "/" {
			return ""
		}
	}
}

func (t *memTree) list(dir string) (map[string]entryKind, error) {
	if e, ok := t.dirs[dir]; ok {
		return e, nil
	}
	return nil, fs.ErrNotExist
}

func (t *memTree) link(string) (string, error) { return "", fs.ErrNotExist }

func (t *memTree) read(name string, limit int64) ([]byte, error) {
	c, ok := t.files[name]
	switch {
	case !ok:
		return nil, fs.ErrNotExist
	case int64(len(c)) > limit:
		return nil, errTooBig
	}
	return c, nil
}

// mountTree shows another tree as one folder at the root of a memTree: the installed
// packages of an inline project.
type mountTree struct {
	*memTree
	name  string // the folder's name
	inner tree   // its content
}

func (t *mountTree) within(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, "/"+t.name)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return path.Join("/", rest), true
}

func (t *mountTree) list(dir string) (map[string]entryKind, error) {
	if inner, ok := t.within(dir); ok {
		return t.inner.list(inner)
	}
	e, err := t.memTree.list(dir)
	if err != nil || dir != "/" {
		return e, err
	}
	withMount := map[string]entryKind{t.name: kindDir}
	maps.Copy(withMount, e)
	return withMount, nil
}

func (t *mountTree) link(name string) (string, error) {
	inner, ok := t.within(name)
	if !ok {
		return "", fs.ErrNotExist
	}
	target, err := t.inner.link(inner)
	if err == nil && path.IsAbs(target) {
		target = path.Join("/"+t.name, target)
	}
	return target, err
}

func (t *mountTree) read(name string, limit int64) ([]byte, error) {
	if inner, ok := t.within(name); ok {
		return t.inner.read(inner, limit)
	}
	return t.memTree.read(name, limit)
}
