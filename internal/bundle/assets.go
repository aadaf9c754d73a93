package bundle

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// collectAssets takes the static files, if the project has any (wrangler-wire fact
// sheet, section 9).
func (j *job) collectAssets(entry string) error {
	conf := j.set.object("assets")
	dir := j.set.path("assets.directory", conf.text("directory"))
	if j.set.err != nil {
		return j.set.err
	}
	guessed := false
	if dir == "" && entry == "" {
		dir, guessed = j.siteFolder(), true
		j.warn("There is no code: the files in %s are deployed as static files.", j.f.show(dir))
	}
	if dir == "" {
		if conf != nil && !blankValue(conf) {
			return configError(j.set.shown, "\"assets\" needs a \"directory\"")
		}
		return nil
	}
	if j.f.dir(dir) == nil {
		return configError(j.set.shown, fmt.Sprintf("assets.directory names %q, which is not a folder of the project", conf.text("directory")))
	}
	settings, err := j.assetSettings(conf, entry)
	if err != nil {
		return err
	}
	a := &deploy.Assets{Config: settings}
	if err := j.takeAssets(dir, a, guessed); err != nil {
		return err
	}
	if len(a.Files) == 0 && entry == "" && len(a.LeftOut) > 0 {
		return deploy.Errorf(deploy.CodeNoEntry, "Put what is meant to be public into a folder of its own. If one of these files is, the operator allows it by name with --allow-file.",
			"all static files in %s look like secrets and are left out: %s", j.f.show(dir), fewNames(a.LeftOut))
	}
	if len(a.Files) == 0 && entry == "" {
		return deploy.Errorf(deploy.CodeNoEntry, nextEntry, "the folder of static files %s has nothing to deploy, and there is no code", j.f.show(dir))
	}
	if name := conf.text("binding"); name != "" {
		j.art.Bindings = append(j.art.Bindings, deploy.Binding{"name": name, "type": "assets"})
	}
	if len(a.LeftOut) > 0 {
		j.warn("%d static files look like secrets and were left out: %s. If one is meant to be public, the operator allows it by name with --allow-file.", len(a.LeftOut), fewNames(a.LeftOut))
	}
	j.art.Assets = a
	return nil
}

func fewNames(names []string) string {
	const few = 20
	if len(names) > few {
		return strings.Join(names[:few], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// assetSettings are the keys of metadata.assets.config.
func (j *job) assetSettings(conf *object, entry string) (map[string]any, error) {
	out := map[string]any{}
	if conf == nil {
		return out, nil
	}
	allowed := map[string][]string{
		"html_handling":      {"auto-trailing-slash", "force-trailing-slash", "drop-trailing-slash", "none"},
		"not_found_handling": {"single-page-application", "404-page", "none"},
	}
	for _, key := range conf.keys {
		v := conf.values[key]
		switch key {
		case "directory", "binding":
		case "html_handling", "not_found_handling":
			s, ok := v.(string)
			if !ok || !slices.Contains(allowed[key], s) {
				return nil, configError(j.set.shown, fmt.Sprintf("assets.%s must be one of %s", key, strings.Join(allowed[key], ", ")))
			}
			out[key] = s
		case "base_path":
			if s, ok := v.(string); ok && s != "" {
				out[key] = s
			}
		case "run_worker_first":
			if entry == "" && !blankValue(v) {
				return nil, configError(j.set.shown, "assets.run_worker_first needs a Worker: set main")
			}
			rules, err := j.workerFirst(v)
			if err != nil {
				return nil, err
			}
			out[key] = rules
		default:
			j.warn("%s: the key \"assets.%s\" is not known and was ignored.", j.set.shown, cutText(key, 60))
		}
	}
	if entry == "" && conf.text("binding") != "" {
		return nil, configError(j.set.shown, "assets.binding needs a Worker: set main, or remove the binding")
	}
	return out, nil
}

// workerFirst checks run_worker_first: a boolean, or up to 100 rules.
func (j *job) workerFirst(v node) (any, error) {
	if b, ok := v.(bool); ok {
		return b, nil
	}
	list, ok := v.([]node)
	rules := stringList(v)
	const most = 100
	bad := !ok || len(rules) != len(list) || len(rules) == 0 || len(rules) > most
	positive := false
	for i, r := range rules {
		positive = positive || strings.HasPrefix(r, "/")
		bad = bad || len(r) > most || !strings.HasPrefix(r, "/") && !strings.HasPrefix(r, "!/") || slices.Contains(rules[:i], r)
	}
	if bad || !positive {
		return nil, configError(j.set.shown, "assets.run_worker_first must be true, false or a list of at most 100 different rules that begin with / or !/, at least one of them with /")
	}
	return rules, nil
}

// secretFile matches files that are never deployed as static files, whatever the case.
var secretFile = regexp.MustCompile(`(?i)(?:^|/)(?:\.env[^/]*(?:/.*)?|\.dev\.vars[^/]*|\.npmrc[^/]*|\.yarnrc(?:\.yml)?|\.netrc|\.pypirc|\.htpasswd|\.git-credentials|id_(?:rsa|dsa|ecdsa|ed25519)|[^/]*\.(?:pem|key|p12|pfx|ppk|jks|keystore|kdbx)|\.git/.*|\.ssh/.*|\.aws/.*|\.gnupg/.*|\.wrangler/.*)$`)

const privateKey = "-----BEGIN "

func looksSecret(name string, content []byte) bool {
	if secretFile.MatchString(name) {
		return true
	}
	for rest := content; ; {
		i := bytes.Index(rest, []byte(privateKey))
		if i < 0 {
			return false
		}
		if rest = rest[i:]; bytes.Contains(rest[:min(len(rest), 80)], []byte("PRIVATE KEY")) {
			return true
		}
		rest = rest[len(privateKey):] // a certificate, perhaps with its key behind it
	}
}

// allowedFile tells whether the operator allows a static file, by its path in the
// folder of static files, although it looks like a secret.
func (j *job) allowedFile(name string) bool {
	return slices.ContainsFunc(j.b.allow, func(re *regexp.Regexp) bool { return re.MatchString(name) })
}

// notOfASite are files of a project's own, left out where its whole folder is the site.
var notOfASite = regexp.MustCompile(`^(?:node_modules/.*|package(?:-lock)?\.json|wrangler\.(?:jsonc?|toml)|tsconfig\.json|\.[^/]+(?:/.*)?)$`)

func (j *job) takeAssets(dir string, a *deploy.Assets, guessed bool) error {
	ignore := parseIgnore("/.assetsignore\n/_redirects\n/_headers\n")
	hasIgnore := false
	for _, name := range []string{".assetsignore", "_headers", "_redirects"} {
		raw, err := j.f.read(path.Join(dir, name))
		if err != nil {
			if stop := j.f.stopped(); stop != nil {
				return stop
			}
			continue
		}
		if name == ".assetsignore" {
			hasIgnore = true
			if ignoreTooLong(string(raw)) {
				return configError(j.f.show(path.Join(dir, name)), fmt.Sprintf("has more than %d lines, or one longer than %d characters", maxIgnored, maxPattern))
			}
			ignore = append(ignore, parseIgnore(string(raw))...)
		} else {
			a.Config[name] = string(raw)
		}
	}
	if d := j.f.dir(dir); d.entries["_worker.js"] != kindNone && !hasIgnore {
		return deploy.Errorf(deploy.CodeConfigInvalid, "Name _worker.js as main and leave it out of the static files by a line in the .assetsignore of their folder.",
			"the static files contain a _worker.js, whose code would be public")
	}
	err := j.walk(dir, func(name string) error {
		shown := relativeTo(dir, name)
		if ignore.match(shown) || guessed && notOfASite.MatchString(shown) {
			return nil
		}
		allowed := j.allowedFile(shown)
		real, _ := j.f.stat(name) // a link is what it leads to
		if !allowed && (secretFile.MatchString(shown) || secretFile.MatchString(relativeTo(j.f.project, real))) {
			a.LeftOut = append(a.LeftOut, shown)
			return nil
		}
		content, err := j.f.read(name)
		if err != nil {
			return j.unreadable(name, err)
		}
		if !allowed && looksSecret(shown, content) {
			a.LeftOut = append(a.LeftOut, shown)
			return nil
		}
		a.Files = append(a.Files, deploy.Asset{Path: "/" + shown, Content: content})
		return nil
	})
	slices.SortFunc(a.Files, func(x, y deploy.Asset) int { return cmp.Compare(x.Path, y.Path) })
	return err
}

// unreadable words why a file of the project can't be taken.
func (j *job) unreadable(name string, err error) error {
	err = (&loader{files: j.f}).readError(name, err)
	if stop := j.f.stopped(); stop != nil {
		return stop
	}
	return deploy.Errorf(deploy.CodePathInvalid, "Make it a readable file inside the project, or leave it out.", "a file can't be taken: %s", err.Error())
}

// siteFolder finds a folder with an index.html in a project without code.
func (j *job) siteFolder() string {
	for _, name := range []string{"public", "dist", "build", "out", "_site", ""} {
		dir := path.Join(j.f.project, name)
		if j.f.isFile(path.Join(dir, "index.html")) {
			return dir
		}
	}
	return ""
}
