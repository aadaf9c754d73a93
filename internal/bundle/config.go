package bundle

import (
	"cmp"
	"compress/gzip"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// SupportedDate is the newest compatibility date that is taken, that of the pinned
// workerd 1.20261117.1 (workerd fact sheet), and the date a project without one gets.
const SupportedDate = "2026-11-17"

// Config says what a Bundler may read and how much. The zero value of each limit
// stands for its default.
type Config struct {
	// Roots are the only folders that a project_dir may be in; empty: inline files only.
	Roots []string
	// MaxInlineFiles bounds the inline files of one source (default 2,000).
	MaxInlineFiles int
	// MaxFiles bounds the files that one bundle reads (default 10,000).
	MaxFiles int
	// MaxFileBytes bounds one file (default 25 MiB, the API's own bound for an asset).
	MaxFileBytes int64
	// MaxTotalBytes bounds the bytes that one bundle reads (default 128 MiB).
	MaxTotalBytes int64
	// MaxDepth bounds how deep folders may be nested (default 64).
	MaxDepth int
	// Timeout bounds one bundle, waiting for its turn not counted (default 30 s).
	Timeout time.Duration
	// MaxConcurrent bounds how many bundles are made at once; more wait (default 2).
	MaxConcurrent int
	// MaxDate is the newest compatibility date (default SupportedDate).
	MaxDate string
	// DefaultDate is what a source without a date gets (default MaxDate).
	DefaultDate string
	// AllowFiles are the static files that are taken although they look like secrets:
	// paths in the folder of static files, "*" within a folder, "**" across folders.
	AllowFiles []string
	// Checker is the command of a program of ours that serves ServeChecks, in a process of
	// its own; empty: code that is large enough to be nested too deeply is refused.
	Checker []string
	// CacheDir is where npm packages of inline projects are kept; empty: none are installed.
	CacheDir string
	// NPM is the npm program; empty: found in PATH when first needed.
	NPM string
	// Registry is the address of the npm registry; empty: npm's own default.
	Registry string
	// CAFile holds the certificate authorities that npm trusts; empty: npm's own.
	CAFile string
	// LargeGCPercent is the garbage collector's percentage (debug.SetGCPercent) while a
	// bundle of 100 files or more is made; 0: it is left alone.
	LargeGCPercent int
	// InstallTimeout bounds one installation of packages (default 2 min).
	InstallTimeout time.Duration
	// MaxInstallBytes bounds the size of one installation (default 256 MiB).
	MaxInstallBytes int64
	// MaxInstallAge is how long an installation without a lock file is used before the
	// versions are asked for anew (default 24 h).
	MaxInstallAge time.Duration
	// MaxCacheBytes bounds all installations together; the longest unused ones go
	// (default 2 GiB).
	MaxCacheBytes int64
}

// Bundler makes artifacts. It is safe for concurrent use.
type Bundler struct {
	cfg     Config
	roots   []root
	turns   chan struct{}
	npm     *installer
	allow   []*regexp.Regexp  // of AllowFiles
	gzips   chan *gzip.Writer // the one that nobody uses, of 0.8 MB; a sync.Pool keeps up to four
	leisure leisure
	flat    passed // code that is known not to be nested too deeply
}

var _ deploy.Bundler = (*Bundler)(nil)

// New makes a Bundler. A root that can't be made absolute is an error; one that
// doesn't exist (yet) is not.
func New(cfg Config) (*Bundler, error) {
	cfg.MaxInlineFiles = cmp.Or(cfg.MaxInlineFiles, 2000)
	cfg.MaxFiles = cmp.Or(cfg.MaxFiles, 10_000)
	cfg.MaxFileBytes = cmp.Or(cfg.MaxFileBytes, 25<<20)
	cfg.MaxTotalBytes = cmp.Or(cfg.MaxTotalBytes, 128<<20)
	cfg.MaxDepth = cmp.Or(cfg.MaxDepth, 64)
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second)
	cfg.MaxConcurrent = cmp.Or(cfg.MaxConcurrent, 2)
	cfg.MaxDate = cmp.Or(cfg.MaxDate, SupportedDate)
	cfg.DefaultDate = cmp.Or(cfg.DefaultDate, cfg.MaxDate)
	cfg.InstallTimeout = cmp.Or(cfg.InstallTimeout, 2*time.Minute)
	cfg.MaxInstallBytes = cmp.Or(cfg.MaxInstallBytes, 256<<20)
	cfg.MaxInstallAge = cmp.Or(cfg.MaxInstallAge, 24*time.Hour)
	cfg.MaxCacheBytes = cmp.Or(cfg.MaxCacheBytes, 2<<30)
	for _, d := range []string{cfg.MaxDate, cfg.DefaultDate} {
		if !validDate(d) {
			return nil, deploy.Errorf(deploy.CodeInvalidArgument, "Correct the setting.", "%q is not a date of the form YYYY-MM-DD", d)
		}
	}
	b := &Bundler{cfg: cfg, turns: make(chan struct{}, cfg.MaxConcurrent), gzips: make(chan *gzip.Writer, 1), leisure: leisure{percent: cfg.LargeGCPercent}}
	for _, dir := range cfg.Roots {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, deploy.Errorf(deploy.CodeInvalidArgument, "Give --root a folder.", "the root %q can't be used: %w", dir, err)
		}
		b.roots = append(b.roots, newRoot(abs))
	}
	for _, g := range cfg.AllowFiles {
		re, err := regexp.Compile(globRegexp(strings.TrimPrefix(g, "/"), true, false))
		if err != nil || g == "" || len(g) > maxPattern {
			return nil, deploy.Errorf(deploy.CodeInvalidArgument, "Give --allow-file a path in the folder of static files, such as .well-known/key.pem.", "the pattern %q can't be used", g)
		}
		b.allow = append(b.allow, re)
	}
	b.npm = newInstaller(cfg)
	return b, nil
}
