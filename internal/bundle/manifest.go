package bundle

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// manifest is what npm gets of an inline project: package.json and lock file, cleaned.
type manifest struct {
	pkg, lock []byte
	packages  map[string]lockEntry
	warnings  []string
}

// lockEntry is one package of a lock file, as far as it is passed on or checked.
type lockEntry struct {
	Version              string            `json:"version,omitempty"`
	Resolved             string            `json:"resolved,omitempty"`
	Integrity            string            `json:"integrity,omitempty"`
	Link                 bool              `json:"link,omitempty"`
	Dev                  bool              `json:"dev,omitempty"`
	Optional             bool              `json:"optional,omitempty"`
	DevOptional          bool              `json:"devOptional,omitempty"`
	Peer                 bool              `json:"peer,omitempty"`
	InBundle             bool              `json:"inBundle,omitempty"`
	Name                 string            `json:"name,omitempty"`
	Dependencies         map[string]string `json:"dependencies,omitempty"`
	DevDependencies      map[string]string `json:"devDependencies,omitempty"`
	OptionalDependencies map[string]string `json:"optionalDependencies,omitempty"`
	PeerDependencies     map[string]string `json:"peerDependencies,omitempty"`
	PeerDependenciesMeta json.RawMessage   `json:"peerDependenciesMeta,omitempty"`
	Engines              json.RawMessage   `json:"engines,omitempty"`
	OS                   []string          `json:"os,omitempty"`
	CPU                  []string          `json:"cpu,omitempty"`
}

var (
	goodPackage = regexp.MustCompile(`^(?:@[A-Za-z0-9~-][\w.~-]*/)?[A-Za-z0-9~_-][\w.~-]*$`)
	// goodVersion is a range of versions or a tag; never an address, a path or a repository.
	goodVersion = regexp.MustCompile(`^(?:[\w.^~<>=|*+ -]*)$`)
	addresses   = regexp.MustCompile(`[a-z+]+://[^\s'"]+|((?:^|[\s'"(]))/[^\s'"]+`)
)

const nextRegistryOnly = "Use versions or tags of packages in the npm registry, such as \"^4.0.0\" or \"latest\"."

// readManifest reads the two files; nil when no packages are asked for.
func readManifest(t *memTree) (*manifest, error) {
	n, err := parseJSON(t.files["/package.json"])
	if err != nil {
		return nil, configError("package.json", err.Error())
	}
	o, ok := n.(*object)
	if !ok {
		return nil, configError("package.json", "must be an object")
	}
	clean := map[string]any{"name": "inline-project", "version": "0.0.0", "private": true}
	count := 0
	for _, field := range []string{"dependencies", "devDependencies", "optionalDependencies", "peerDependencies"} {
		list, ok := o.get(field).(*object)
		if !ok || len(list.keys) == 0 {
			continue
		}
		out := map[string]string{}
		for _, name := range list.keys {
			version, _ := list.values[name].(string)
			if err := checkSpecifier(field, name, version); err != nil {
				return nil, err
			}
			out[name] = version
		}
		clean[field] = out
		if field != "devDependencies" && field != "peerDependencies" {
			count += len(out)
		}
	}
	if count == 0 {
		return nil, nil //nolint:nilnil // no packages is no mistake
	}
	if overrides, ok := o.get("overrides").(*object); ok && len(overrides.keys) > 0 {
		if err := checkOverrides(overrides, 0); err != nil {
			return nil, err
		}
		clean["overrides"] = plain(overrides)
	}
	m := &manifest{}
	if m.pkg, err = json.Marshal(clean); err != nil {
		return nil, fmt.Errorf("package.json: %w", err)
	}
	return m, m.readLock(t)
}

func checkSpecifier(field, name, version string) error {
	if !goodPackage.MatchString(name) || name == "node_modules" || len(name) > 214 {
		return deploy.Errorf(deploy.CodeConfigInvalid, nextRegistryOnly, "package.json: %q in %s is not the name of a package", cutText(name, 100), field)
	}
	spec := version
	if alias, ok := strings.CutPrefix(version, "npm:"); ok {
		at := strings.LastIndexByte(alias, '@')
		target := alias
		if spec = ""; at > 0 {
			target, spec = alias[:at], alias[at+1:]
		}
		if !goodPackage.MatchString(target) {
			spec = ":"
		}
	}
	archive := strings.HasSuffix(spec, ".tgz") || strings.HasSuffix(spec, ".tar") || strings.HasSuffix(spec, ".tar.gz")
	if !goodVersion.MatchString(spec) || strings.HasPrefix(spec, ".") || archive || len(spec) > 200 {
		return deploy.Errorf(deploy.CodeConfigInvalid, nextRegistryOnly,
			"package.json: %s asks for %q of %s; only versions and tags of the registry are installed, no files, folders, repositories or addresses", field, cutText(version, 100), name)
	}
	return nil
}

func checkOverrides(o *object, depth int) error {
	for _, name := range o.keys {
		bare := name
		if i := strings.LastIndexByte(name, '@'); i > 0 {
			bare = name[:i]
		}
		switch v := o.values[name].(type) {
		case string:
			if name == "." {
				bare = "override"
			}
			if strings.HasPrefix(v, "$") && goodPackage.MatchString(v[1:]) {
				continue
			}
			if err := checkSpecifier("overrides", bare, v); err != nil {
				return err
			}
		case *object:
			const deepest = 20
			if depth > deepest {
				return configError("package.json", "overrides are nested too deeply")
			}
			if err := checkOverrides(v, depth+1); err != nil {
				return err
			}
		default:
			return configError("package.json", "overrides must be strings or objects")
		}
	}
	return nil
}

// readLock takes over package-lock.json, of versions 2 and 3, without the addresses:
// npm finds the packages in the configured registry and holds them to their digests.
func (m *manifest) readLock(t *memTree) error {
	raw := t.files["/package-lock.json"]
	if raw == nil {
		raw = t.files["/npm-shrinkwrap.json"]
	}
	if raw == nil {
		for _, other := range []string{"yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb"} {
			if t.dirs["/"][other] == kindFile {
				m.warnings = append(m.warnings, other+" is not read: the packages are chosen by package.json alone. A package-lock.json would be used.")
			}
		}
		return nil
	}
	var lock struct {
		Version  int                  `json:"lockfileVersion"`
		Packages map[string]lockEntry `json:"packages"`
	}
	if err := json.Unmarshal(raw, &lock); err != nil {
		return configError("package-lock.json", "is not a lock file: "+cutText(err.Error(), 200))
	}
	if lock.Version < 2 || lock.Packages == nil {
		m.warnings = append(m.warnings, "package-lock.json of version 1 is not read: the packages are chosen by package.json alone.")
		return nil
	}
	m.packages = lock.Packages
	clean := map[string]lockEntry{}
	for name, p := range lock.Packages {
		p.Resolved = ""
		clean[name] = p
	}
	top := clean[""]
	top.Name, top.Version = "inline-project", "0.0.0"
	clean[""] = top
	var err error
	m.lock, err = json.Marshal(map[string]any{"name": "inline-project", "version": "0.0.0", "lockfileVersion": 3, "requires": true, "packages": clean})
	if err != nil {
		return fmt.Errorf("package-lock.json: %w", err)
	}
	return nil
}

func (m *manifest) checkLock(registries map[string]bool) error {
	for name, p := range m.packages {
		if name == "" {
			continue
		}
		if err := p.check(name, registries, false); err != nil {
			return err
		}
	}
	return nil
}

// check refuses a package that does not come from a registry of ours.
func (p lockEntry) check(name string, registries map[string]bool, installed bool) error {
	bad := func(what string) error {
		return deploy.Errorf(deploy.CodeConfigInvalid, nextRegistryOnly, "the package %s %s; only packages of the registry are installed", cutText(name, 100), what)
	}
	parts := strings.Split(name, "/")
	if parts[0] != "node_modules" || slices.Contains(parts, "..") || slices.Contains(parts, ".") || slices.Contains(parts, "") {
		return bad("lies outside node_modules")
	}
	if p.Link {
		return bad("is a link")
	}
	if !goodVersion.MatchString(p.Version) || strings.HasPrefix(p.Version, ".") {
		return bad("has no version of the registry")
	}
	if p.Resolved == "" || p.InBundle {
		return nil // by name and version from the registry, or inside such a package
	}
	for r := range registries {
		if strings.HasPrefix(p.Resolved, r) {
			return nil
		}
	}
	if installed {
		return bad("comes, by way of another package, from outside the registry")
	}
	return bad("is resolved outside the registry")
}
