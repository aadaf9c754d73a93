package bundle

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// installer installs the packages that the package.json of an inline project names,
// with the machine's own npm, into a cache. One state of package.json and lock file is
// installed once; later bundles of it touch no network.
//
// npm is not trusted to keep to itself: it gets those two files only, cleaned of
// everything but names and versions, an empty home, an empty environment, no scripts
// and no git, and what it installed is looked at before it is used.
type installer struct {
	cfg  Config
	one  chan struct{} // one installation at a time
	mu   sync.Mutex
	ours map[string]bool // registries that lock files may name
}

func newInstaller(cfg Config) *installer {
	return &installer{cfg: cfg, one: make(chan struct{}, 1)}
}

const nextWithoutNPM = "Pass the code without packages, bundle it first and pass the result with no_bundle, or deploy a folder (project_dir) whose node_modules is installed."

// mount puts the packages of an inline project under its node_modules.
func (n *installer) mount(ctx context.Context, t *memTree, p *opened) error {
	if t.dirs["/"]["package.json"] != kindFile || t.dirs["/"]["node_modules"] != kindNone {
		return nil
	}
	want, err := readManifest(t)
	if err != nil || want == nil {
		return err
	}
	dir, err := n.installed(ctx, want)
	p.warnings = append(p.warnings, want.warnings...)
	if err != nil {
		return err
	}
	modules := filepath.Join(dir, "node_modules")
	root, err := os.OpenRoot(modules)
	if err != nil {
		return fmt.Errorf("opening the installed packages: %w", err)
	}
	p.tree = &mountTree{memTree: t, name: "node_modules", inner: &diskTree{root: root, abs: filepath.ToSlash(modules)}}
	p.close = func() { _ = root.Close() }
	return nil
}

// installed gives the folder of an installation, making it where there is none yet.
func (n *installer) installed(ctx context.Context, want *manifest) (string, error) {
	if n.cfg.CacheDir == "" {
		return "", deploy.Errorf(deploy.CodeNotSupported, nextWithoutNPM, "packages are not installed: the server has no cache folder for them")
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s%s%s", len(want.pkg), want.pkg, want.lock, n.cfg.Registry))
	dir := filepath.Join(n.cfg.CacheDir, "npm-"+hex.EncodeToString(sum[:16]))
	if n.fresh(dir, want) {
		return dir, nil
	}
	npm := n.cfg.NPM
	if npm == "" {
		var err error
		if npm, err = exec.LookPath("npm"); err != nil {
			return "", deploy.Errorf(deploy.CodeNotSupported, nextWithoutNPM, "the packages of package.json can't be installed: npm is not on the machine of this server").Caused(err)
		}
	}
	limited, stop := context.WithTimeout(ctx, n.cfg.InstallTimeout)
	defer stop()
	select {
	case n.one <- struct{}{}:
		defer func() { <-n.one }()
	case <-ctx.Done():
		return "", ctx.Err()
	case <-limited.Done():
		return "", deploy.Errorf(deploy.CodeBusy, "Try again in a minute.", "other packages are still being installed")
	}
	if n.fresh(dir, want) {
		return dir, nil
	}
	err := n.install(limited, npm, dir, want)
	n.prune()
	if _, there := os.Stat(filepath.Join(dir, "complete")); err != nil && there == nil && ctx.Err() == nil {
		want.warnings = append(want.warnings, fmt.Sprintf("The packages could not be looked up anew, so those that were installed earlier are used: %s.", deploy.AsError(err).Message))
		return dir, nil
	}
	if limited.Err() != nil && ctx.Err() == nil {
		return "", deploy.Errorf(deploy.CodeTimeout, "Name fewer or smaller packages in package.json, or try again.",
			"installing the packages took longer than %s (limit: install timeout)", n.cfg.InstallTimeout).Caused(err)
	}
	return dir, err
}

// fresh tells whether there is a complete installation that may be used, and notes
// that it is. Without a lock file what "^1.0.0" means changes, so it ages.
func (n *installer) fresh(dir string, want *manifest) bool {
	info, err := os.Stat(filepath.Join(dir, "complete"))
	if err != nil || want.lock == nil && time.Since(info.ModTime()) > n.cfg.MaxInstallAge {
		return false
	}
	now := time.Now()
	_ = os.Chtimes(dir, now, now) // when it was last used, for prune
	return true
}

// unusedFor is how long an installation must have lain unused to be removed: a bundle,
// of this process or another, may be reading it.
const unusedFor = time.Hour

// prune removes what was left behind, and the longest unused installations while the
// cache is larger than it may be.
func (n *installer) prune() {
	type old struct {
		path string
		size int64
		used time.Time
	}
	var all []old
	var total int64
	entries, _ := os.ReadDir(n.cfg.CacheDir)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() {
			continue
		}
		path := filepath.Join(n.cfg.CacheDir, e.Name())
		idle := time.Since(info.ModTime()) > unusedFor
		left := strings.HasPrefix(e.Name(), "stale-") || strings.HasPrefix(e.Name(), "installing-")
		if idle && left {
			_ = os.RemoveAll(path)
			continue
		}
		size := folderSize(path)
		total += size
		if idle && strings.HasPrefix(e.Name(), "npm-") { // npm's own cache too
			all = append(all, old{path, size, info.ModTime()})
		}
	}
	slices.SortFunc(all, func(x, y old) int { return x.used.Compare(y.used) })
	for _, o := range all {
		if total <= n.cfg.MaxCacheBytes {
			return
		}
		if os.RemoveAll(o.path) == nil {
			total -= o.size
		}
	}
}

func folderSize(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil // what vanishes meanwhile weighs nothing
	})
	return total
}

// install works in a folder of its own and renames it when everything is right.
func (n *installer) install(ctx context.Context, npm, dir string, want *manifest) (err error) {
	if err := os.MkdirAll(n.cfg.CacheDir, 0o750); err != nil {
		return fmt.Errorf("the cache folder: %w", err)
	}
	work := filepath.Join(n.cfg.CacheDir, "installing-"+rand.Text())
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	home := filepath.Join(work, "home")
	project := filepath.Join(work, "project")
	for _, d := range []string{home, project} {
		if err := os.MkdirAll(d, 0o750); err != nil {
			return fmt.Errorf("the cache folder: %w", err)
		}
	}
	registries, err := n.registries(ctx, npm, home)
	if err != nil {
		return err
	}
	if err := want.checkLock(registries); err != nil {
		return err
	}
	files := map[string][]byte{"package.json": want.pkg}
	if want.lock != nil {
		files["package-lock.json"] = want.lock
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(project, name), content, 0o600); err != nil {
			return fmt.Errorf("the cache folder: %w", err)
		}
	}
	verb := []string{"install", "--package-lock=false"}
	if want.lock != nil {
		verb = []string{"ci"}
	}
	args := append(verb, "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev", "--no-bin-links", "--no-progress", "--loglevel=error")
	out, err := n.run(ctx, npm, home, project, args...)
	if err != nil {
		return npmError(out, err)
	}
	modules := filepath.Join(project, "node_modules")
	if err := os.MkdirAll(modules, 0o750); err != nil { // no packages: npm makes none
		return fmt.Errorf("the cache folder: %w", err)
	}
	if err := errors.Join(n.checkSize(project), checkInstalled(modules, registries)); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(project, "complete"), nil, 0o600); err != nil {
		return fmt.Errorf("the cache folder: %w", err)
	}
	// One that is too old makes room under a name of its own: a bundle that is being made
	// of it goes on reading.
	_ = os.Rename(dir, filepath.Join(n.cfg.CacheDir, "stale-"+rand.Text()))
	err = os.Rename(project, dir)
	if _, there := os.Stat(filepath.Join(dir, "complete")); there == nil {
		return nil // ours, or another process was faster
	}
	if err != nil {
		return fmt.Errorf("the cache folder: %w", err)
	}
	return nil
}

// run runs npm with nothing of this process's environment but where programs are.
func (n *installer) run(ctx context.Context, npm, home, dir string, args ...string) (string, error) {
	config := filepath.Join(home, "npmrc")
	lines := []string{"update-notifier=false", "fetch-retries=2", "fetch-retry-mintimeout=500", "fetch-retry-maxtimeout=5000", "git=" + filepath.Join(home, "no-git"), "cache=" + filepath.Join(n.cfg.CacheDir, "npm-cache")}
	for _, kind := range []string{"git", "remote", "file", "directory"} {
		lines = append(lines, "allow-"+kind+"=none") // npm 11 keeps to it, older ones pass it over
	}
	if n.cfg.Registry != "" {
		lines = append(lines, "registry="+n.cfg.Registry)
	}
	if n.cfg.CAFile != "" {
		lines = append(lines, "cafile="+n.cfg.CAFile)
	}
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("npm's configuration: %w", err)
	}
	ctx, kill := context.WithCancelCause(ctx)
	defer kill(nil)
	cmd := exec.CommandContext(ctx, npm, args...) //nolint:gosec // the operator's npm with arguments of ours
	cmd.Dir = dir
	cmd.Env = []string{
		"HOME=" + home, "USERPROFILE=" + home, "TMPDIR=" + home, "PATH=" + programs(npm),
		"npm_config_userconfig=" + config, "npm_config_globalconfig=" + filepath.Join(home, "none"),
	}
	cmd.WaitDelay = 5 * time.Second
	out := &head{limit: 64 << 10}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("npm: %w", err)
	}
	watched := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { n.watch(filepath.Dir(dir), watched, kill) })
	err := cmd.Wait()
	close(watched)
	wg.Wait()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return out.String(), err
}

// programs is the PATH that npm needs: node's folder and its own.
func programs(npm string) string {
	dirs := []string{filepath.Dir(npm)}
	if node, err := exec.LookPath("node"); err == nil {
		dirs = append(dirs, filepath.Dir(node))
	}
	return strings.Join(dirs, string(os.PathListSeparator))
}

// watch ends an installation that grows too large.
func (n *installer) watch(dir string, done <-chan struct{}, kill context.CancelCauseFunc) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		if err := n.checkSize(dir); err != nil {
			kill(err)
			return
		}
	}
}

func (n *installer) checkSize(dir string) error {
	total := folderSize(dir)
	if total <= n.cfg.MaxInstallBytes {
		return nil
	}
	return deploy.Errorf(deploy.CodeTooLarge, "Name fewer or smaller packages in package.json.",
		"the packages come to more than %s (limit: max install bytes)", size(n.cfg.MaxInstallBytes))
}

// registries are the addresses that a lock file may name: npm's own default, which
// npm replaces with the configured one itself, and the configured one.
func (n *installer) registries(ctx context.Context, npm, home string) (map[string]bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ours != nil {
		return n.ours, nil
	}
	plain := &installer{cfg: Config{CacheDir: n.cfg.CacheDir, MaxInstallBytes: n.cfg.MaxInstallBytes}}
	out, err := plain.run(ctx, npm, home, home, "config", "get", "registry")
	if err != nil {
		return nil, npmError(out, err)
	}
	ours := map[string]bool{strings.TrimRight(strings.TrimSpace(out), "/") + "/": true}
	if n.cfg.Registry != "" {
		ours[strings.TrimRight(n.cfg.Registry, "/")+"/"] = true
	}
	n.ours = ours
	return ours, nil
}

// npmError gives npm's reason in one line.
func npmError(out string, err error) error {
	if e, ok := errors.AsType[*deploy.Error](err); ok {
		return e
	}
	code, reason := "", ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		rest, ok := strings.CutPrefix(line, "npm error ")
		if !ok {
			rest, ok = strings.CutPrefix(line, "npm ERR! ")
		}
		if !ok || strings.HasPrefix(rest, "A complete log") {
			continue
		}
		if c, ok := strings.CutPrefix(rest, "code "); ok {
			code = c
			continue
		}
		rest = strings.TrimPrefix(rest, code+" ")
		if reason == "" || strings.HasPrefix(reason, "errno") || strings.HasPrefix(reason, "syscall") {
			reason = rest
		}
	}
	why := strings.TrimSpace(code + " " + addresses.ReplaceAllString(reason, "$1…"))
	if why == "" {
		why = "npm gave no reason"
	}
	next := "Correct the names and versions in package.json, then call again."
	switch code {
	case "ECONNREFUSED", "ECONNRESET", "ENOTFOUND", "EAI_AGAIN", "ETIMEDOUT", "ERR_SOCKET_TIMEOUT":
		next = "The registry can't be reached from the server: try again in a minute. " + nextWithoutNPM
	}
	return deploy.Errorf(deploy.CodeBuildFailed, next,
		"the packages of package.json can't be installed: %s", cutText(why, 300)).Caused(err)
}

// checkInstalled looks at what npm installed: everything from the registry, nothing
// that links elsewhere.
func checkInstalled(modules string, registries map[string]bool) error {
	raw, err := os.ReadFile(filepath.Join(modules, ".package-lock.json")) //nolint:gosec // in our own cache
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("npm's list of what it installed: %w", err)
	}
	var list struct {
		Packages map[string]lockEntry `json:"packages"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("npm's list of what it installed: %w", err)
	}
	for name, p := range list.Packages {
		if err := p.check(name, registries, true); err != nil {
			return err
		}
	}
	return nil
}

// head keeps the beginning of what is written to it.
type head struct {
	mu    sync.Mutex
	text  []byte
	limit int
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = append(h.text, p[:min(len(p), h.limit-len(h.text))]...)
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.text)
}
