package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/hourglass-mcp/hourglass/internal/audit"
	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/sandbox"
	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// principal is who calls on stdio and from the command line: the local user.
const principal = "local"

// house is every room, built and wired. Nothing else builds them.
type house struct {
	service  *deploy.Service
	store    deploy.Store
	cloudAPI deploy.Cloud
	client   *cloudflare.Client
	box      *sandbox.Sandbox // nil: it is not in this process
	ping     func(ctx context.Context) error
	record   *audit.Log
	pages    *web.Server
	console  *web.Console // nil: humans decide on the attended page
	hook     *web.Hook    // nil: nobody is told elsewhere
	redactor *deploy.Redactor
	derive   func(purpose string) ([]byte, error) // keys that all who share the store have
	log      zerolog.Logger
	closers  []func() error
}

// close ends what was built, the last first.
func (h *house) close() error {
	var errs []error
	for _, v := range slices.Backward(h.closers) {
		errs = append(errs, v())
	}
	return errors.Join(errs...)
}

func (h *house) onClose(f func() error) { h.closers = append(h.closers, f) }

// accepted tells whether a human accepted the terms on this machine.
func (h *house) accepted(ctx context.Context) (bool, error) {
	return h.store.Accepted(ctx, principal, h.service.Terms())
}

// build makes every room from the options.
func build(ctx context.Context, o *options, p process) (*house, error) {
	h := &house{}
	redactor := deploy.NewRedactor()
	h.redactor = redactor
	h.log = newLogger(redactor.Writer(p.stderr), o.LogLevel)
	if seen := foreignCredentials(p); len(seen) > 0 {
		h.log.Warn().Strs("ignored", seen).Msg("Cloudflare credentials were seen and are never used: temporary deployments stay on temporary accounts")
	}
	fail := func(err error) (*house, error) { return nil, errors.Join(err, h.close()) }
	limits, err := o.limits()
	if err != nil {
		return fail(err)
	}
	logs, err := o.logs()
	if err != nil {
		return fail(err)
	}
	roots, err := roots(o, p)
	if err != nil {
		return fail(err)
	}
	cache, err := cacheDir(o)
	if err != nil {
		return fail(err)
	}
	self, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	bundler, err := bundle.New(bundle.Config{
		LargeGCPercent: gcPercent(p),
		Checker:        []string{self, bundle.CheckCommand},
		Roots:          roots, AllowFiles: o.AllowFile, CacheDir: filepath.Join(cache, "npm"), Registry: fromEnv(p, "NPM_CONFIG_REGISTRY", "npm_config_registry"),
		CAFile: fromEnv(p, "NODE_EXTRA_CA_CERTS", "NPM_CONFIG_CAFILE", "npm_config_cafile"),
	})
	if err != nil {
		return fail(err)
	}
	store, err := openStore(ctx, o, p, redactor)
	if err != nil {
		return fail(err)
	}
	h.store, h.derive, h.ping = store, store.DerivedKey, store.Ping
	h.onClose(store.Close)
	if err := h.openHook(o, p); err != nil {
		return fail(err)
	}
	if h.record, err = newAudit(o, p, store, redactor, h.checkpoints()); err != nil {
		return fail(err)
	}
	cloud, edge, err := h.cloud(ctx, o, p, redactor)
	if err != nil {
		return fail(err)
	}
	h.cloudAPI = cloud
	site, err := web.New(web.Config{Logger: h.log, Redactor: redactor})
	if err != nil {
		return fail(err)
	}
	h.pages = site
	h.onClose(site.Close)
	secrets, err := allowedSecrets(o, p)
	if err != nil {
		return fail(err)
	}
	sealer, err := claimSealer(o)
	if err != nil {
		return fail(err)
	}
	rules, err := newGuard(o)
	if err != nil {
		return fail(err)
	}
	cfg := deploy.Config{
		Now: now, Sealer: sealer,
		Bundler: bundler, Booter: booter(o, p), Cloud: cloud, Edge: edge, Store: store, Pages: site,
		Redactor: redactor, Secrets: secrets, ReadOnly: o.ReadOnly, TermsAccepted: o.AcceptTerms,
		MaxAccounts: o.MaxAccounts, MaxAccountsInAll: o.MaxAccountsInAll, Limits: limits,
		Policy: rules, Scanner: rules, Record: h.record, Notifier: h.notifier(), Logs: logs,
	}
	if err := h.hearing(o, p, &cfg); err != nil {
		return fail(err)
	}
	service, err := deploy.New(cfg)
	if err != nil {
		return fail(err)
	}
	h.onClose(service.Close)
	site.Bind(service)
	if h.console != nil {
		h.console.Bind(service, store, recordShelf{h.record})
	}
	h.service = service
	return h, nil
}

// gcPercent is that of Go's garbage collector where there is much to do: half as many
// collections, for twice the memory beside what is in use. 0: the operator has set one.
func gcPercent(p process) int {
	if set, _ := p.env("GOGC"); set != "" {
		return 0
	}
	return 200
}

// fromEnv gives the first of the variables that is set: what npm itself would obey, of
// which our own npm, with its empty environment, knows nothing.
func fromEnv(p process, names ...string) string {
	for _, n := range names {
		if v, _ := p.env(n); v != "" {
			return v
		}
	}
	return ""
}

// cloud builds the client of the API that the options name: Cloudflare's, another
// one, or the sandbox inside this process.
func (h *house) cloud(ctx context.Context, o *options, p process, redactor *deploy.Redactor) (deploy.Cloud, deploy.Edge, error) {
	api, edgeURL, instance := o.APIBaseURL, o.EdgeURL, ""
	if o.Platform == "sandbox" && api == "" {
		box, err := startSandbox(ctx, o, p, sandbox.Config{})
		if err != nil {
			return nil, nil, err
		}
		h.box = box
		h.onClose(box.Close)
		urls := box.URLs()
		api, edgeURL, instance = urls.API, urls.Edge, deploy.NewID("sandbox")
	}
	client, err := cloudflare.New(cloudflare.Config{
		BaseURL: api, Instance: instance, UserAgent: "hourglass/" + version, Secret: redactor.Add, Redact: redactor.Redact, Now: now,
	})
	if err != nil {
		return nil, nil, err
	}
	h.client = client
	h.onClose(client.Close)
	edge, err := cloudflare.NewEdge(cloudflare.EdgeConfig{URL: edgeURL})
	if err != nil {
		return nil, nil, err
	}
	h.onClose(edge.Close)
	if o.brief {
		return client, ownHosts{edge, edgeURL}, nil
	}
	return client, edge, nil
}

// startSandbox starts the sandbox with the runtime, which is fetched when it is first
// needed and not before.
func startSandbox(ctx context.Context, o *options, p process, cfg sandbox.Config) (*sandbox.Sandbox, error) {
	cache, err := cacheDir(o)
	if err != nil {
		return nil, err
	}
	cfg.Workerd = func(ctx context.Context) (workerd.Binary, error) {
		return workerd.Find(ctx, workerd.FindConfig{CacheDir: cache, Progress: func(line string) { fmt.Fprintln(p.stderr, line) }})
	}
	box, err := sandbox.New(cfg)
	if err != nil {
		return nil, err
	}
	return box, box.Start(ctx)
}

// booter gives the preflight's boot where the runtime is on this machine already.
func booter(o *options, _ process) deploy.Booter {
	cache, err := cacheDir(o)
	if err != nil {
		return nil
	}
	return &boot{cache: cache}
}

func newLogger(w io.Writer, level string) zerolog.Logger {
	l, err := zerolog.ParseLevel(level)
	if err != nil {
		l = zerolog.InfoLevel
	}
	return zerolog.New(w).Level(l).With().Timestamp().Logger()
}

// stateDir is where sessions are kept.
func stateDir(o *options, p process) (string, error) {
	if o.StateDir != "" {
		return filepath.Abs(o.StateDir)
	}
	if dir, _ := p.env("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "hourglass"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("there is no home folder to keep sessions in: name one with --state-dir")
	}
	return filepath.Join(home, ".local", "state", "hourglass"), nil
}

// cacheDir is where fetched parts are kept.
func cacheDir(o *options) (string, error) {
	if o.CacheDir != "" {
		return filepath.Abs(o.CacheDir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", errors.New("there is no cache folder: name one with --cache-dir")
	}
	return filepath.Join(dir, "hourglass"), nil
}

// roots are the folders that project_dir may be in. By default the current folder;
// the root of the disk and the home folder are never roots.
func roots(o *options, p process) ([]string, error) {
	home, _ := p.env("HOME")
	var out []string
	for _, dir := range o.Root {
		abs, err := rootPath(dir)
		if err != nil {
			return nil, fmt.Errorf("--root %s: %w", dir, err)
		}
		if never(abs, home) {
			return nil, fmt.Errorf("--root %s: the root of the disk and the home folder are never roots; name the project's folder", dir)
		}
		out = append(out, abs)
	}
	if len(o.Root) > 0 || o.rootsByName {
		return out, nil
	}
	cwd, err := os.Getwd()
	if err != nil {
		return nil, nil // a current folder that is gone is no root
	}
	if abs, err := rootPath(cwd); err == nil && !never(abs, home) {
		out = append(out, abs)
	}
	return out, nil
}

func rootPath(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	abs, err = filepath.EvalSymlinks(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("there is no such folder")
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(abs)
	if err == nil && !info.IsDir() {
		err = errors.New("it is not a folder")
	}
	return abs, err
}

func never(abs, home string) bool {
	if filepath.Dir(abs) == abs {
		return true
	}
	if home == "" {
		return false
	}
	real, err := filepath.EvalSymlinks(home)
	return err == nil && real == abs
}

// allowedSecrets looks up variables that the operator allows secret bindings to name,
// each time anew. Credentials of real accounts are never among them.
func allowedSecrets(o *options, p process) (func(string) (string, bool), error) {
	for _, name := range o.AllowSecret {
		upper := strings.ToUpper(name)
		if name == "" || strings.HasPrefix(upper, "CLOUDFLARE_") || strings.HasPrefix(upper, "CF_API_") || strings.HasPrefix(upper, "HOURGLASS_") || upper == "PGPASSWORD" {
			return nil, fmt.Errorf("--allow-secret %s: credentials of Cloudflare accounts, and this server's own settings, are never given to a Worker", name)
		}
	}
	return func(name string) (string, bool) {
		if !slices.Contains(o.AllowSecret, name) {
			return "", false
		}
		value, _ := p.env(name)
		return value, true
	}, nil
}

// labels are the operator's, checked.
func labels(o *options) (map[string]string, error) {
	for k := range o.Label {
		if strings.TrimSpace(k) == "" {
			return nil, errors.New("--label: a label is key=value")
		}
	}
	return o.Label, nil
}

// buildVersion is the version with the commit, where the build knows it.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return version + " (" + s.Value[:12] + ")"
		}
	}
	return version
}
