package workerd

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Binary is a workerd on this machine.
type Binary struct {
	Path    string
	Version string
	// MaxDate is the latest compatibility date that it takes, YYYY-MM-DD.
	MaxDate string
}

// release is the package that holds workerd for one platform.
type release struct {
	name, version, maxDate, integrity string
}

// Versions. The newest was published for Linux only when this was written; the other
// platforms stood at the older one (dependencies sheet).
const (
	newest     = "1.20261117.1"
	newestDate = "2026-11-17"
	older      = "1.20261023.1"
	olderDate  = "2026-10-23"
)

// releaseFor names the package for a platform, with the SHA-512 of its archive.
func releaseFor(goos, goarch string) (release, bool) {
	r, ok := map[string]release{
		"linux/amd64":   {"linux-64", newest, newestDate, "gZLA8X11m/luZwn+YA3+mDu61vdxNJzpksP/QZqjydKTQ+VUCulsK5gtn9Bqst1p3KJu2kafQpJ1nDQv4B23jA=="},
		"linux/arm64":   {"linux-arm64", newest, newestDate, "gxWngFojq41ULKNKb9rpWYvKotN5hT2I/xot+Bpy31cXzrwcTgtDLSMb2t75sW5BJxH7hihFvikgYb577kB3Zg=="},
		"darwin/amd64":  {"darwin-64", older, olderDate, "lsEx0i7nR0PNG/erUFFHmQmiidEhLfDE5uQmAL9421/y4/ycuxDDOSaxu3VGGYFFPK5sduyUeMmjIlX4CwOBFg=="},
		"darwin/arm64":  {"darwin-arm64", older, olderDate, "5e79fHgabdDD8EgmjOhJ1S+xMsf6DbC7fL7IgTBizMnzOp0P2isDn7pYmUxI9AJZE9FVQ4RUilH/I36YNg+GQQ=="},
		"windows/amd64": {"windows-64", older, olderDate, "279WLVjNsMycAwr0EZNiNEf0l2SY6NUtsN80NwZzbTHzakmiN+WSx4w38muxPm+PAU0oSPPAPXKVD+H6Hya8xw=="},
	}[goos+"/"+goarch]
	r.name = "@cloudflare/workerd-" + r.name
	return r, ok
}

// FindConfig says where to look for workerd.
type FindConfig struct {
	// CacheDir is the folder that fetched parts are kept in.
	CacheDir string
	// Npm is the command that fetches; default "npm".
	Npm string
	// NoFetch looks only, and fetches nothing.
	NoFetch bool
	// Progress is told what is being fetched; may be nil.
	Progress func(line string)
}

// ErrNotHere says that workerd is not on this machine and was not to be fetched.
var ErrNotHere = errors.New("workerd is not on this machine")

// Find gives the pinned workerd: the one in the cache, else fetched with npm, its
// archive checked against the pinned SHA-512 before anything of it is unpacked. It is
// safe to be called by several processes at once.
func Find(ctx context.Context, cfg FindConfig) (Binary, error) {
	r, ok := releaseFor(runtime.GOOS, runtime.GOARCH)
	if !ok {
		return Binary{}, fmt.Errorf("there is no workerd for %s/%s, so the sandbox can't run here; use Linux, macOS or Windows on amd64 or arm64", runtime.GOOS, runtime.GOARCH)
	}
	if cfg.CacheDir == "" {
		return Binary{}, errors.New("workerd: no cache folder given")
	}
	name := "workerd"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	dir := filepath.Join(cfg.CacheDir, "workerd-"+r.version+"-"+runtime.GOOS+"-"+runtime.GOARCH)
	bin := Binary{Path: filepath.Join(dir, name), Version: r.version, MaxDate: r.maxDate}
	if _, err := os.Stat(bin.Path); err == nil {
		return bin, nil
	}
	if cfg.NoFetch {
		return Binary{}, ErrNotHere
	}
	if err := fetch(ctx, cfg, r, dir, name); err != nil {
		return Binary{}, err
	}
	return bin, nil
}

// fetch gets the package into dir. Whoever is second, of several at once, finds it done.
func fetch(ctx context.Context, cfg FindConfig, r release, dir, name string) error {
	if err := os.MkdirAll(cfg.CacheDir, 0o750); err != nil {
		return fmt.Errorf("the cache folder can't be made (name another with --cache-dir): %w", err)
	}
	unlock, err := lockDir(ctx, dir+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
		return nil
	}
	tmp, err := os.MkdirTemp(cfg.CacheDir, "fetch-")
	if err != nil {
		return fmt.Errorf("a folder in the cache: %w", err)
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // a left-over in the cache harms nothing
	if cfg.Progress != nil {
		cfg.Progress("fetching " + r.name + "@" + r.version + " with npm (about 47 MB, once)")
	}
	archive, err := npmPack(ctx, cfg, r, tmp)
	if err != nil {
		return err
	}
	if err := unpack(archive, "package/bin/"+name, filepath.Join(tmp, name)); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("a folder in the cache: %w", err)
	}
	return os.Rename(filepath.Join(tmp, name), filepath.Join(dir, name))
}

// npmPack has npm fetch the archive, and checks its digest.
func npmPack(ctx context.Context, cfg FindConfig, r release, tmp string) ([]byte, error) {
	npm := cfg.Npm
	if npm == "" {
		npm = "npm"
	}
	path, err := exec.LookPath(npm)
	if err != nil {
		return nil, fmt.Errorf("npm is not on this machine, and fetches workerd (%s@%s): install Node.js 20 or newer", r.name, r.version)
	}
	cmd := exec.CommandContext(ctx, path, "pack", r.name+"@"+r.version, "--silent", "--ignore-scripts", "--pack-destination", tmp, "--cache", filepath.Join(tmp, "npm")) //nolint:gosec // fixed arguments
	cmd.Dir = tmp
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "NO_UPDATE_NOTIFIER=1", "NPM_CONFIG_UPDATE_NOTIFIER=false")
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("npm could not fetch %s@%s (%w): %s; check the network and npm's registry setting, then try again", r.name, r.version, err, npmReason(stderr.String()))
	}
	found, _ := filepath.Glob(filepath.Join(tmp, "*.tgz"))
	if len(found) != 1 {
		return nil, fmt.Errorf("npm packed %d archives of %s, not 1", len(found), r.name)
	}
	archive, err := os.ReadFile(found[0])
	if err != nil {
		return nil, fmt.Errorf("reading the fetched archive: %w", err)
	}
	sum := sha512.Sum512(archive)
	if got := base64.StdEncoding.EncodeToString(sum[:]); got != r.integrity {
		return nil, fmt.Errorf("the fetched %s@%s is not the pinned one (sha512-%s, not sha512-%s): it is not used; check npm's registry setting", r.name, r.version, got, r.integrity)
	}
	return archive, nil
}

// npmReason is npm's first line of an error.
func npmReason(stderr string) string {
	for line := range strings.SplitSeq(stderr, "\n") {
		if l := strings.TrimSpace(strings.TrimPrefix(line, "npm error")); strings.HasPrefix(line, "npm error") && l != "" {
			return firstLine(l)
		}
	}
	return firstLine(stderr)
}

// unpack writes one file of a gzipped tar archive to path, executable.
func unpack(archive []byte, name, path string) error {
	gz, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return fmt.Errorf("the fetched archive: %w", err)
	}
	for tr := tar.NewReader(gz); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the fetched archive holds no %s", name)
		}
		if err != nil {
			return fmt.Errorf("the fetched archive: %w", err)
		}
		if h.Name != name || h.Typeflag != tar.TypeReg {
			continue
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755) //nolint:gosec // a program
		if err != nil {
			return fmt.Errorf("unpacking: %w", err)
		}
		_, err = io.Copy(f, tr) //nolint:gosec // its digest is pinned
		return errors.Join(err, f.Close())
	}
}

// lockDir is a lock between processes: a folder that only one can make. One that is
// older than ten minutes was left behind.
func lockDir(ctx context.Context, path string) (unlock func(), err error) {
	const stale = 10 * time.Minute
	for {
		err := os.Mkdir(path, 0o750)
		if err == nil {
			return func() { _ = os.Remove(path) }, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("a lock in the cache: %w", err)
		}
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > stale {
			_ = os.Remove(path)
			continue
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
