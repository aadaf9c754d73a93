package bundle

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Bundle makes an artifact of a source. See deploy.Bundler for its contract.
func (b *Bundler) Bundle(ctx context.Context, src deploy.Source) (*deploy.Artifact, error) {
	switch {
	case src.Empty():
		return nil, deploy.Errorf(deploy.CodeNoSource, "Give project_dir (a folder) or files (the code itself).", "no source was given")
	case src.ProjectDir != "" && len(src.Files) > 0:
		return nil, deploy.Errorf(deploy.CodeTwoSources, "Give either project_dir or files, not both.", "two sources were given: project_dir and files")
	}
	p, err := b.open(ctx, src)
	if err != nil {
		return nil, deploy.AsError(err)
	}
	defer p.close()
	select {
	case b.turns <- struct{}{}:
		defer func() { <-b.turns }()
	case <-ctx.Done():
		return nil, deploy.AsError(ctx.Err())
	}
	limited, stop := context.WithTimeout(ctx, b.cfg.Timeout)
	defer stop()
	a, err := b.bundle(limited, src, p)
	switch {
	case err == nil:
		return a, nil
	case ctx.Err() != nil:
		return nil, deploy.AsError(ctx.Err())
	case limited.Err() != nil:
		return nil, deploy.Errorf(deploy.CodeTimeout, "Bundle less at once, or bundle the project first and deploy its output with no_bundle.",
			"bundling took longer than %s (limit: timeout)", b.cfg.Timeout).Caused(err)
	}
	return nil, deploy.AsError(err)
}

// opened is a source whose files can be read.
type opened struct {
	tree     tree
	project  string // the project's folder in the tree
	folder   string // that folder's name, "" for inline files
	inline   bool
	warnings []string
	close    func()
}

// open finds the files of a source; for inline ones this may install packages.
func (b *Bundler) open(ctx context.Context, src deploy.Source) (*opened, error) {
	if src.ProjectDir == "" {
		t, warnings, err := b.inlineTree(src.Files)
		if err != nil {
			return nil, err
		}
		p := &opened{tree: t, project: "/", inline: true, warnings: warnings, close: func() {}}
		return p, b.npm.mount(ctx, t, p)
	}
	t, project, err := b.openFolder(src.ProjectDir)
	if err != nil {
		return nil, err
	}
	p := &opened{tree: t, project: project, folder: path.Base(project), close: func() { _ = t.root.Close() }}
	if project == "/" {
		p.folder = path.Base(t.abs)
	}
	return p, nil
}

// job is one bundle being made.
type job struct {
	b   *Bundler
	src deploy.Source
	f   *files
	set *settings
	art *deploy.Artifact
	// inline tells that the project is in memory, not in a folder.
	inline bool
	folder string // the project folder's own name, "" for inline files
	date   string
	flags  []string
}

func (b *Bundler) bundle(ctx context.Context, src deploy.Source, p *opened) (*deploy.Artifact, error) {
	j := &job{
		b: b, src: src, f: newFiles(ctx, p.tree, p.project, b.cfg), inline: p.inline, folder: p.folder,
		art: &deploy.Artifact{Warnings: p.warnings},
	}
	j.f.leisure = &b.leisure
	defer j.f.done()
	j.f.nesting = &checker{command: b.cfg.Checker, passed: &b.flat}
	defer j.f.nesting.close()
	if err := j.run(); err != nil {
		if stop := j.f.stopped(); stop != nil {
			return nil, stop
		}
		return nil, err
	}
	return j.art, nil
}

func (j *job) warn(format string, args ...any) {
	j.art.Warnings = append(j.art.Warnings, fmt.Sprintf(format, args...))
}

// run is the road from the project to the sealed artifact.
func (j *job) run() error {
	set, err := findSettings(j.f, j.src.Environment)
	if err != nil {
		return err
	}
	j.set = set
	j.art.Warnings = append(j.art.Warnings, set.warnings...)
	if err := j.settleCompatibility(); err != nil {
		return err
	}
	if err := j.settleName(); err != nil {
		return err
	}
	if err := j.settleBindings(); err != nil {
		return err
	}
	entry, err := j.findEntry()
	if err != nil {
		return err
	}
	if err := j.collectAssets(entry); err != nil {
		return err
	}
	if entry != "" {
		if err := j.code(entry); err != nil {
			return err
		}
	}
	if j.set.err != nil {
		return j.set.err
	}
	j.art.Warnings = slices.Compact(j.art.Warnings)
	if rest := len(j.art.Warnings) - maxRows; rest > 0 {
		j.art.Warnings = append(j.art.Warnings[:maxRows], fmt.Sprintf("and %d more warnings", rest))
	}
	return j.art.Seal()
}

func (j *job) settleCompatibility() error {
	date, flags := j.src.CompatibilityDate, j.src.CompatibilityFlags
	if date == "" {
		date = j.set.text("compatibility_date")
	}
	if len(flags) == 0 {
		flags = j.set.texts("compatibility_flags")
	}
	if j.set.err != nil {
		return j.set.err
	}
	date, flags, warnings, err := j.b.compatibility(date, flags)
	if err != nil {
		return err
	}
	j.date, j.flags = date, flags
	j.art.CompatibilityDate, j.art.CompatibilityFlags = date, flags
	j.art.Warnings = append(j.art.Warnings, warnings...)
	if region := j.set.text("compliance_region"); region != "" && region != "public" {
		return deploy.Errorf(deploy.CodeNotSupported, "Remove compliance_region for the temporary deployment.",
			"temporary accounts exist in the public region only, not in %q", cutText(region, 40))
	}
	if build := j.set.object("build"); build.text("command") != "" {
		return deploy.Errorf(deploy.CodeNotSupported,
			"Run the build command yourself first, then deploy with build removed from the configuration and main naming the built file.",
			"%s: build.command is not run: a deploy server that runs shell commands would be a hole", j.set.shown)
	}
	return nil
}

// settleName takes the first name there is: argument, configuration, package.json, folder.
func (j *job) settleName() error {
	if j.src.Name != "" {
		j.art.Name = j.src.Name
		return checkName(j.src.Name, "the argument name")
	}
	if name := j.set.text("name"); name != "" {
		if j.set.env != nil && j.set.env.text("name") == "" {
			name += "-" + j.set.envName
		}
		j.art.Name = name
		return checkName(name, "name in "+j.set.shown)
	}
	home := j.f.dir(j.set.dir)
	from, name := "", ""
	switch {
	case home != nil && home.nearest != nil && home.nearest.name != "":
		from, name = "package.json", home.nearest.name
	case j.folder != "" && j.folder != "/":
		from, name = "the folder", j.folder
	default:
		j.art.Name = "my-worker"
		j.warn("No name was given: the Worker is called my-worker.")
		return nil
	}
	j.art.Name = validName(name)
	j.warn("No name was given: the Worker is called %s, from %s.", j.art.Name, from)
	return nil
}

// settleBindings turns variables and simple bindings into what the upload carries, in
// wrangler's order (wrangler-wire fact sheet, section 6.1).
func (j *job) settleBindings() error {
	var plainText, jsonVars, secrets []deploy.Binding
	if vars := j.set.object("vars"); vars != nil {
		for _, k := range vars.keys {
			if secret := j.secretVar(k, vars.values[k]); secret != nil {
				secrets = append(secrets, secret)
			} else if s, ok := vars.values[k].(string); ok {
				plainText = append(plainText, deploy.Binding{"name": k, "type": "plain_text", "text": s})
			} else {
				jsonVars = append(jsonVars, deploy.Binding{"name": k, "type": "json", "json": plain(vars.values[k])})
			}
		}
	}
	others := j.settleResources()
	for _, n := range j.set.list("services") {
		o, _ := n.(*object)
		if o.text("binding") == "" || o.text("service") == "" {
			j.set.wrong("services", "a list of {binding, service}")
			continue
		}
		one := deploy.Binding{"name": o.text("binding"), "type": "service", "service": o.text("service")}
		if e := o.text("entrypoint"); e != "" {
			one["entrypoint"] = e
		}
		if p := o.get("props"); p != nil {
			one["props"] = plain(p)
		}
		others = append(others, one)
	}
	if o := j.set.object("version_metadata"); o.text("binding") != "" {
		others = append(others, deploy.Binding{"name": o.text("binding"), "type": "version_metadata"})
	}
	for _, name := range stringList(j.set.object("secrets").get("required")) {
		if !slices.ContainsFunc(secrets, func(b deploy.Binding) bool { return b.Name() == name }) && j.variable("secrets.required", name) {
			secrets = append(secrets, deploy.Binding{"name": name, "type": "secret_text", deploy.FromEnv: name})
		}
	}
	if o := j.set.object("observability"); o != nil {
		j.metadata("observability", plain(o))
	}
	j.art.Bindings = slices.Concat(plainText, jsonVars, secrets, others)
	seen := map[string]bool{}
	for _, one := range j.art.Bindings {
		if seen[one.Name()] && j.set.err == nil {
			j.set.err = configError(j.set.shown, fmt.Sprintf("the binding %q is defined twice", one.Name()))
		}
		seen[one.Name()] = true
	}
	if j.set.err != nil {
		return j.set.err
	}
	return nil
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (j *job) variable(where, name string) bool {
	if len(name) <= 128 && variableName.MatchString(name) {
		return true
	}
	j.set.wrong(where, "the name of an environment variable")
	return false
}

// secretVar reads a variable that is a secret: {"from_env": "NAME"}, whose value this
// server takes from its own environment if the operator allows it, or {"secret": "value"}.
// nil: it is an ordinary variable.
func (j *job) secretVar(name string, n node) deploy.Binding {
	o, ok := n.(*object)
	if !ok || len(o.keys) != 1 {
		return nil
	}
	b := deploy.Binding{"name": name, "type": "secret_text"}
	switch v := o.values[o.keys[0]].(type) {
	case string:
		switch o.keys[0] {
		case deploy.FromEnv:
			b[deploy.FromEnv] = v
			j.variable("vars."+name+".from_env", v)
			return b
		case "secret":
			b["text"] = v
			return b
		}
	default:
		if o.keys[0] == deploy.FromEnv {
			j.set.wrong("vars."+name+".from_env", "the name of an environment variable")
		}
	}
	return nil
}

func (j *job) metadata(key string, value any) {
	if j.art.Metadata == nil {
		j.art.Metadata = map[string]any{}
	}
	j.art.Metadata[key] = value
}
