package workerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// Binary is a workerd on this machine.
type Binary struct {
	Path string
	// Version is npm's, such as 1.20261117.1; of a Path given by hand 1.YYYYMMDD.
	Version string
	// MaxDate is the latest compatibility date, YYYY-MM-DD, that it is sure to take. (It was
	// seen to take up to seven days more, but never a date that is not yet reached.)
	MaxDate string
}

// FindConfig says where to look for workerd: at Path, else in CacheDir, else at npm.
type FindConfig struct {
	// CacheDir is the folder that fetched parts are kept in. Default: the folder
	// "hourglass" in the user's cache folder.
	CacheDir string
	// Path is a workerd to use as it is, of whatever version.
	Path string
	// Npm is the command that fetches; default "npm".
	Npm string
	// NoFetch looks only, and fetches nothing.
	NoFetch bool
	// Progress is told what is being fetched; may be nil.
	Progress func(line string)
}

// Find gives the pinned workerd: the one in the cache, else fetched with npm, its
// archive checked against the pinned SHA-512 before anything of it is unpacked. Several
// processes may call it at once: one fetches, the others wait. Errors are *Error, or ctx's.
func Find(ctx context.Context, cfg FindConfig) (Binary, error) {
	if cfg.Path != "" {
		return given(ctx, cfg.Path)
	}
	r, err := ours(runtime.GOOS, runtime.GOARCH, "/")
	if err != nil {
		return Binary{}, err
	}
	if cfg.CacheDir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return Binary{}, &Error{Code: CodeCache, Message: "this user has no cache folder (" + err.Error() + ")", Next: "set HOME, or HOURGLASS_CACHE_DIR to a folder that can be written to", Cause: err}
		}
		cfg.CacheDir = filepath.Join(user, "hourglass")
	}
	if cfg.CacheDir, err = filepath.Abs(cfg.CacheDir); err != nil {
		return Binary{}, cacheError(cfg, err)
	}
	dir := filepath.Join(cfg.CacheDir, "workerd-"+r.version+"-"+runtime.GOOS+"-"+runtime.GOARCH)
	bin := Binary{Path: filepath.Join(dir, executable()), Version: r.version, MaxDate: r.maxDate}
	if installed(bin.Path) {
		return bin, nil
	}
	if cfg.NoFetch {
		return Binary{}, &Error{Code: CodeNotHere, Message: ErrNotHere.Error() + " (" + bin.Path + ")", Next: "run `mcp-server demo` once, which fetches it with npm", Cause: ErrNotHere}
	}
	if err := fetch(ctx, cfg, r, bin.Path); err != nil {
		return Binary{}, err
	}
	return bin, nil
}

// installed tells whether the cache holds it. It is put there whole or not at all.
func installed(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() > 0
}

var versionLine = regexp.MustCompile(`^workerd (\d{4})-(\d\d)-(\d\d)\s*$`)

// given asks an executable for its version.
func given(ctx context.Context, path string) (Binary, error) {
	bad := func(what string, err error) (Binary, error) {
		return Binary{}, &Error{Code: CodeBinary, Message: fmt.Sprintf("%q is not a workerd that runs here (%s)", path, what), Next: "name another, or none to have the right one fetched", Cause: err}
	}
	found, err := exec.LookPath(path)
	if err != nil {
		return bad(err.Error(), err)
	}
	if found, err = filepath.Abs(found); err != nil {
		return bad(err.Error(), err)
	}
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, found, "--version").Output() //nolint:gosec // the operator named it
	if err != nil {
		return bad(err.Error(), err)
	}
	m := versionLine.FindStringSubmatch(strings.TrimSpace(string(out)))
	if m == nil {
		return bad("it does not tell its version", nil)
	}
	return Binary{Path: found, Version: "1." + m[1] + m[2] + m[3], MaxDate: m[1] + "-" + m[2] + "-" + m[3]}, nil
}

// cacheError says that the cache can't be used.
func cacheError(cfg FindConfig, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &Error{
		Code: CodeCache, Message: "the cache folder " + cfg.CacheDir + " can't be used (" + err.Error() + ")",
		Next: "make room in it, or set HOURGLASS_CACHE_DIR to a folder that can be written to", Cause: err,
	}
}
