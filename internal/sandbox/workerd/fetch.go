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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// maxBinary bounds what is unpacked, in bytes: the program has 162 MB.
const maxBinary = 1 << 30

// fetch gets the package's program to path. Whoever is second, of several at once,
// finds it done.
func fetch(ctx context.Context, cfg FindConfig, r release, path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a cache of public programs
		return cacheError(cfg, err)
	}
	unlock, err := waitLock(ctx, filepath.Join(dir, lockFile))
	if err != nil {
		return cacheError(cfg, err)
	}
	defer unlock()
	if installed(path) {
		return nil
	}
	left, _ := filepath.Glob(filepath.Join(dir, "fetch-*")) // of one that was killed: we hold the lock
	for _, l := range left {
		_ = os.RemoveAll(l)
	}
	tmp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return cacheError(cfg, err)
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // the next fetch removes it
	if cfg.Progress != nil {
		cfg.Progress("fetching " + r.name + "@" + r.version + " with npm (about 47 MB, once)")
	}
	archive, err := npmPack(ctx, cfg, r, tmp)
	if err != nil {
		return err
	}
	if err := verify(archive, r); err != nil {
		return err
	}
	unpacked := filepath.Join(tmp, executable())
	if err := unpack(archive, "package/bin/"+executable(), unpacked); err != nil {
		return cacheError(cfg, err)
	}
	if err := os.Rename(unpacked, path); err != nil {
		return cacheError(cfg, err)
	}
	return nil
}

// waitLock waits for a lock between processes.
func waitLock(ctx context.Context, path string) (unlock func(), err error) {
	const look = 50 * time.Millisecond
	for {
		unlock, err := tryLock(path)
		if err == nil || !errors.Is(err, errLocked) {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(look):
		}
	}
}

// npmPack has npm fetch the archive into tmp, and gives its path.
func npmPack(ctx context.Context, cfg FindConfig, r release, tmp string) (string, error) {
	npm := cfg.Npm
	if npm == "" {
		npm = "npm"
	}
	path, err := exec.LookPath(npm)
	if err != nil {
		return "", &Error{
			Code: CodeNoNpm, Message: fmt.Sprintf("npm, which fetches the Workers runtime (%s@%s), is not on this machine", r.name, r.version),
			Next: "install Node.js 20 or newer (it brings npm) and try again", Cause: err,
		}
	}
	cmd := exec.CommandContext(ctx, path, "pack", r.name+"@"+r.version, "--silent", "--ignore-scripts", "--pack-destination", tmp) //nolint:gosec // fixed arguments
	cmd.Dir = tmp
	cmd.WaitDelay = time.Second // npm is a script on some systems, whose children keep the pipe
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = npmEnv(tmp)
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", &Error{
			Code: CodeFetch, Message: fmt.Sprintf("npm could not fetch %s@%s: %s", r.name, r.version, npmReason(stderr.String(), err)),
			Next: "check the network and npm's registry setting (npm config get registry), then try again", Cause: err,
		}
	}
	found, err := filepath.Glob(filepath.Join(tmp, "*.tgz"))
	if err != nil || len(found) != 1 {
		return "", &Error{Code: CodeFetch, Message: fmt.Sprintf("npm packed %d archives of %s, not 1", len(found), r.name), Next: "check that `npm` is npm: npm --version", Cause: err}
	}
	return found[0], nil
}

// npmEnv gives npm a home and a cache in tmp, so that it leaves nothing on the machine,
// and the user's own settings, without which it may not find the registry.
func npmEnv(tmp string) []string {
	env := []string{"HOME=" + tmp, "USERPROFILE=" + tmp, "npm_config_cache=" + filepath.Join(tmp, "npm"), "npm_config_update_notifier=false", "npm_config_audit=false", "npm_config_fund=false"}
	userconfig := ""
	if home, err := os.UserHomeDir(); err == nil {
		userconfig = filepath.Join(home, ".npmrc")
	}
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		switch strings.ToLower(k) {
		case "home", "userprofile", "npm_config_cache", "npm_config_update_notifier", "npm_config_audit", "npm_config_fund":
		case "npm_config_userconfig":
			userconfig = v
		default:
			env = append(env, kv)
		}
	}
	if userconfig != "" {
		env = append(env, "npm_config_userconfig="+userconfig)
	}
	return env
}

// npmReason is npm's reason in one line. Its credentials, should an address carry some,
// are taken out by npm itself.
func npmReason(stderr string, err error) string {
	const most = 300
	for line := range strings.SplitSeq(stderr, "\n") {
		l, ok := strings.CutPrefix(line, "npm error")
		if l = strings.TrimSpace(l); ok && l != "" && !strings.HasPrefix(l, "code ") {
			return strings.ToValidUTF8(l[:min(len(l), most)], "")
		}
	}
	return err.Error()
}

// verify compares the archive's SHA-512 with the pinned one.
func verify(archive string, r release) error {
	f, err := os.Open(archive) //nolint:gosec // in our own folder
	if err != nil {
		return &Error{Code: CodeFetch, Message: "what npm fetched can't be read (" + err.Error() + ")", Next: "try again", Cause: err}
	}
	defer f.Close() //nolint:errcheck // only read from
	h := sha512.New()
	if _, err := io.Copy(h, f); err != nil {
		return &Error{Code: CodeFetch, Message: "what npm fetched can't be read (" + err.Error() + ")", Next: "try again", Cause: err}
	}
	if got := base64.StdEncoding.EncodeToString(h.Sum(nil)); got != r.integrity {
		return &Error{
			Code:    CodeIntegrity,
			Message: fmt.Sprintf("the fetched %s@%s is not the pinned one (sha512-%s, not sha512-%s) and is not used", r.name, r.version, got, r.integrity),
			Next:    "check which registry npm uses (npm config get registry): it served another file",
		}
	}
	return nil
}

// unpack writes one file of a gzipped tar archive to path, executable.
func unpack(archive, name, path string) error {
	in, err := os.Open(archive) //nolint:gosec // in our own folder
	if err != nil {
		return fmt.Errorf("the fetched archive: %w", err)
	}
	defer in.Close() //nolint:errcheck // only read from
	gz, err := gzip.NewReader(in)
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
		if h.Name == name && h.Typeflag == tar.TypeReg {
			return writeProgram(path, tr, h.Size)
		}
	}
}

// writeProgram writes an executable file of that size, new.
func writeProgram(path string, from io.Reader, size int64) error {
	if size <= 0 || size > maxBinary {
		return fmt.Errorf("the program in the fetched archive has %d bytes", size)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700) //nolint:gosec // a program
	if err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	_, err = io.CopyN(f, from, size)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	if err := os.Chmod(path, 0o755); err != nil { //nolint:gosec // a program, whatever the umask
		return fmt.Errorf("unpacking: %w", err)
	}
	return nil
}
