package deploy

// File is one inline file of a Source.
type File struct {
	// Path is relative, slash-separated and stays inside the project.
	Path    string
	Content []byte
}

// Source is what was asked to be bundled: a folder, or inline files, never both.
type Source struct {
	// ProjectDir is a folder inside the allowed roots; empty for inline files.
	ProjectDir string
	Files      []File
	// Entry is the main module's path in the project; empty: found as wrangler finds it.
	Entry string
	// Name is the Worker's name; empty: from the configuration, package.json or the folder.
	Name string
	// Environment is the name of the wrangler environment; empty: the top level.
	Environment string
	// CompatibilityDate is YYYY-MM-DD; empty: from the configuration, else a pinned one.
	CompatibilityDate  string
	CompatibilityFlags []string
	Minify             bool
}

// Empty tells whether neither a folder nor files were given.
func (s Source) Empty() bool { return s.ProjectDir == "" && len(s.Files) == 0 }
