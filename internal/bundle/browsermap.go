package bundle

import (
	"path"
	"strings"
)

// browserMap looks a path up in the closest package.json's "browser" map: what it is
// replaced with, nil for an empty module. A file is given by its path in the tree, a
// package as it was imported.
func (q *query) browserMap(from *folder, name string, isFile bool) (to *string, ok bool) {
	if q.asNode || from.browser == nil {
		return nil, false
	}
	home := from.browser.path
	m := from.browser.pkg.browserMap
	if isFile {
		name = relativeTo(home, name)
	}
	if name == "." {
		return nil, false
	}
	if to, ok = checkMap(m, name, true); ok || !isPackagePath(name) {
		return to, ok
	}
	if isFile {
		return checkMap(m, "./"+name, true)
	}
	// Browserify lets "./pkg" override the package "pkg", inside one package only.
	for d := from; d != nil && d != from.browser; d = d.parent {
		if d.isNodeModules {
			return nil, false
		}
	}
	prefix := "./"
	if rel := relativeTo(home, from.path); rel != "." {
		prefix += rel + "/"
	}
	return checkMap(m, prefix+name, false)
}

func checkMap(m map[string]*string, name string, extensions bool) (*string, bool) {
	index := path.Join(name, "index")
	if isPackagePath(index) && !isPackagePath(name) {
		index = "./" + index
	}
	for _, base := range []string{name, index} {
		if to, ok := m[base]; ok {
			return to, true
		}
		if !extensions {
			continue
		}
		for ext := range strings.FieldsSeq(".tsx .ts .jsx .js .css .json") {
			if to, ok := m[base+ext]; ok {
				return to, true
			}
		}
	}
	return nil, false
}
