package bundle

import (
	"path"
	"regexp"
	"strings"
)

// esbuild is given paths of namespaces of our own, never of its "file" namespace, so
// that nothing of it is an address on the disk. They show up in comments, names,
// source maps and messages, where plainNames turns them back into project paths.
const (
	nsFile     = "hourglass-file"     // a file of the tree
	nsDisabled = "hourglass-disabled" // an empty module in place of a file
	nsVirtual  = "hourglass-virtual"  // code of ours
	nsRequire  = "node-built-in-modules"
)

// blindDir is esbuild's working directory: a path with a NUL in it never reaches the
// kernel, Go refuses to pass it on.
const blindDir = "/\x00hourglass"

// typeMark begins the suffix that remembers a file's own extension where its path was
// given another one to tell esbuild the module type.
const typeMark = "?hourglass-ext="

// virtualPath is the path that esbuild sees for a file. esbuild takes the module type
// ("type" of the closest package.json) from its own resolver only, and from the
// extensions .mjs, .mts, .cjs and .cts: a file whose package.json says "module" is
// shown as .mjs, since interoperation with CommonJS depends on it.
func virtualPath(name, moduleType, suffix string) (text, mark string) {
	ext := path.Ext(name)
	var as string
	switch {
	case moduleType == "" || ext == "":
		return name, suffix
	case ext == ".js" || ext == ".jsx":
		as = map[string]string{"module": ".mjs", "commonjs": ".cjs"}[moduleType]
	case ext == ".ts" || ext == ".tsx":
		as = map[string]string{"module": ".mts", "commonjs": ".cts"}[moduleType]
	}
	if as == "" {
		return name, suffix
	}
	return strings.TrimSuffix(name, ext) + as, typeMark + ext + suffix
}

var (
	ourNames = regexp.MustCompile(`hourglass-(file|disabled|virtual):([^"'\n]*)`)
	ourMark  = regexp.MustCompile(`\.[a-z]+\?hourglass-ext=(\.[a-z]+)`)
)

// plainName turns what esbuild calls a file into its path relative to the project.
func plainName(project, name string) string {
	ns, rest, ok := strings.Cut(name, ":")
	if !ok || !strings.HasPrefix(ns, "hourglass-") {
		return name
	}
	if ns == nsVirtual {
		return rest
	}
	rest = ourMark.ReplaceAllString(rest, "$1")
	p, query := rest, ""
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		p, query = rest[:i], rest[i:]
	}
	shown := relativeTo(project, p) + query
	if ns == nsDisabled {
		return "(disabled):" + shown
	}
	return shown
}

// plainNames does so everywhere in a text.
func plainNames(project, text string) string {
	if !strings.Contains(text, "hourglass-") {
		return text
	}
	return ourNames.ReplaceAllStringFunc(text, func(m string) string { return plainName(project, m) })
}
