package workerd_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// archive is a package as npm packs it.
func archive(t *testing.T, entries ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	for _, h := range entries {
		content := []byte("#!/bin/sh\necho " + h.Name + "\n")
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := tw.Write(content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func program() *tar.Header {
	return &tar.Header{Name: "package/bin/workerd", Typeflag: tar.TypeReg, Mode: 0o644}
}

func digest(b []byte) string {
	sum := sha512.Sum512(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// npm is a stand-in that "packs" a file, and writes a line into calls each time.
func npm(t *testing.T, tgz []byte, then string) (path, calls string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in for npm is a shell script")
	}
	dir := t.TempDir()
	calls = filepath.Join(dir, "calls")
	script := "#!/bin/sh\necho \"$@\" HOME=$HOME >> " + calls + "\n" + then + "\n" +
		"while [ $# -gt 1 ]; do [ \"$1\" = --pack-destination ] && cp " + filepath.Join(dir, "tgz") + " \"$2/made-up-1.0.0.tgz\"; shift; done\n"
	for name, content := range map[string][]byte{"npm": []byte(script), "tgz": tgz} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "npm"), calls
}

func codeOf(t *testing.T, err error) workerd.Code {
	t.Helper()
	e, ok := errors.AsType[*workerd.Error](err)
	if !ok {
		t.Fatalf("not an *Error: %v", err)
	}
	if e.Next == "" || e.Message == "" {
		t.Errorf("no message or no advice: %+v", e)
	}
	return e.Code
}

func TestFetchUnpacksTheProgramAlone(t *testing.T) {
	tgz := archive(t, &tar.Header{Name: "package/package.json", Typeflag: tar.TypeReg},
		&tar.Header{Name: "../../evil", Typeflag: tar.TypeReg}, program())
	npm, calls := npm(t, tgz, "")
	cache := t.TempDir()
	path := filepath.Join(cache, "w", "workerd")
	if err := workerd.Fetch(t.Context(), workerd.FindConfig{CacheDir: cache, Npm: npm}, digest(tgz), path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Fatalf("got %v, %v", info, err)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "w", "*")); len(left) != 2 { // and the lock
		t.Errorf("left behind: %v", left)
	}
	log, err := os.ReadFile(calls)
	if err != nil || !strings.Contains(string(log), "--ignore-scripts") || !strings.Contains(string(log), "HOME="+cache) {
		t.Errorf("npm was called with %q, %v", log, err)
	}
}

func TestFetchRefuses(t *testing.T) {
	good := archive(t, program())
	link := archive(t, &tar.Header{Name: "package/bin/workerd", Typeflag: tar.TypeSymlink, Linkname: "/bin/sh"})
	for name, c := range map[string]struct {
		tgz       []byte
		integrity string
		then      string
		want      workerd.Code
		text      string
	}{
		"another file":      {good, digest([]byte("x")), "", workerd.CodeIntegrity, "not the pinned one"},
		"a link":            {link, digest(link), "", workerd.CodeCache, "holds no package/bin/workerd"},
		"a broken archive":  {good[:40], digest(good[:40]), "", workerd.CodeCache, "archive"},
		"npm without a net": {good, digest(good), "echo 'npm error code ENOTFOUND' >&2; echo 'npm error network request to the registry failed' >&2; exit 1", workerd.CodeFetch, "network request to the registry failed"},
		"npm packs nothing": {good, digest(good), "exit 0", workerd.CodeFetch, "packed 0 archives"},
	} {
		t.Run(name, func(t *testing.T) {
			npm, _ := npm(t, c.tgz, c.then)
			cache := t.TempDir()
			path := filepath.Join(cache, "w", "workerd")
			err := workerd.Fetch(t.Context(), workerd.FindConfig{CacheDir: cache, Npm: npm}, c.integrity, path)
			if got := codeOf(t, err); got != c.want || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %s: %v", got, err)
			}
			if left, _ := filepath.Glob(filepath.Join(cache, "w", "*")); len(left) != 1 { // the lock
				t.Errorf("left behind: %v", left)
			}
		})
	}
	err := workerd.Fetch(t.Context(), workerd.FindConfig{CacheDir: t.TempDir(), Npm: "no-such-npm"}, "", filepath.Join(t.TempDir(), "workerd"))
	if got := codeOf(t, err); got != workerd.CodeNoNpm {
		t.Errorf("got %s: %v", got, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err = workerd.Fetch(t.Context(), workerd.FindConfig{CacheDir: file}, "", filepath.Join(file, "w", "workerd"))
	if got := codeOf(t, err); got != workerd.CodeCache {
		t.Errorf("got %s: %v", got, err)
	}
}

// Several processes with an empty cache fetch once; one that is killed while it fetches
// does not hold the others up.
func TestFetchOnceAmongProcesses(t *testing.T) {
	tgz := archive(t, program())
	npm, calls := npm(t, tgz, "sleep 0.2")
	cache := t.TempDir()
	path := filepath.Join(cache, "w", "workerd")
	slow, slowCalls := npmThatHangs(t)
	killed := child(t, "fetch", slow, cache, digest(tgz), path)
	waitFor(t, func() bool { _, err := os.Stat(slowCalls); return err == nil })
	var children []*exec.Cmd
	for range 4 {
		children = append(children, child(t, "fetch", npm, cache, digest(tgz), path))
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	for _, c := range children {
		if err := c.Wait(); err != nil {
			t.Errorf("a process failed: %v", err)
		}
	}
	log, err := os.ReadFile(calls)
	if err != nil || strings.Count(string(log), "\n") != 1 {
		t.Errorf("npm was called %q, %v", log, err)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "w", "*")); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

func npmThatHangs(t *testing.T) (path, calls string) {
	return npm(t, nil, "exec sleep 3")
}

func TestFetchCanBeCancelled(t *testing.T) {
	npm, calls := npmThatHangs(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(calls); err == nil {
				cancel()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	cache := t.TempDir()
	err := workerd.Fetch(ctx, workerd.FindConfig{CacheDir: cache, Npm: npm}, "", filepath.Join(cache, "workerd"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestFindWithoutFetching(t *testing.T) {
	_, err := workerd.Find(t.Context(), workerd.FindConfig{CacheDir: t.TempDir(), NoFetch: true})
	if codeOf(t, err) != workerd.CodeNotHere || !errors.Is(err, workerd.ErrNotHere) {
		t.Errorf("got %v", err)
	}
}

func TestFindTakesWhatItIsGiven(t *testing.T) {
	bin, err := workerd.Find(t.Context(), workerd.FindConfig{Path: binary(t)})
	if err != nil || bin.MaxDate == "" || !strings.HasPrefix(bin.Version, "1.20") {
		t.Errorf("got %+v, %v", bin, err)
	}
	if _, err := workerd.Find(t.Context(), workerd.FindConfig{Path: "/bin/sh"}); codeOf(t, err) != workerd.CodeBinary {
		t.Errorf("got %v", err)
	}
	if _, err := workerd.Find(t.Context(), workerd.FindConfig{Path: filepath.Join(t.TempDir(), "none")}); codeOf(t, err) != workerd.CodeBinary {
		t.Errorf("got %v", err)
	}
}

func TestSupportedSystems(t *testing.T) {
	musl := t.TempDir()
	for system, root := range map[string]string{"plan9/amd64": "/", "linux/riscv64": "/", "linux/amd64": musl, "linux/arm64": musl} {
		goos, goarch, _ := strings.Cut(system, "/")
		if err := workerd.Supported(goos, goarch, root); codeOf(t, err) != workerd.CodeUnsupported {
			t.Errorf("%s: %v", system, err)
		}
	}
	for _, system := range []string{"darwin/amd64", "darwin/arm64", "windows/amd64"} {
		goos, goarch, _ := strings.Cut(system, "/")
		if err := workerd.Supported(goos, goarch, musl); err != nil {
			t.Errorf("%s: %v", system, err)
		}
	}
}

// npm keeps the user's settings (the registry may only be known there) but not the home.
func TestNpmEnvironment(t *testing.T) {
	t.Setenv("HOME", "/home/agent")
	t.Setenv("NPM_CONFIG_CACHE", "/elsewhere")
	has := func(kv string) bool {
		return slices.Contains(workerd.NpmEnv("/tmp/x"), kv)
	}
	for _, want := range []string{"HOME=/tmp/x", "npm_config_userconfig=/home/agent/.npmrc", "npm_config_cache=" + filepath.Join("/tmp/x", "npm")} {
		if !has(want) {
			t.Errorf("no %s", want)
		}
	}
	if has("NPM_CONFIG_CACHE=/elsewhere") || has("HOME=/home/agent") {
		t.Error("the machine's own home or cache is used")
	}
	t.Setenv("NPM_CONFIG_USERCONFIG", "/etc/ours")
	if !has("npm_config_userconfig=/etc/ours") {
		t.Error("the user's choice of settings is lost")
	}
}

// The whole road: the pinned package from npm into an empty cache. 47 MB, so only when
// everything is asked for; every other test of this package uses what it fetched once.
func TestFetchTheRealOne(t *testing.T) {
	if os.Getenv("HOURGLASS_TEST") != "full" {
		t.Skip("47 MB: set HOURGLASS_TEST=full")
	}
	home := t.TempDir()
	cache := filepath.Join(home, "cache")
	bin, err := workerd.Find(t.Context(), workerd.FindConfig{CacheDir: cache})
	if err != nil {
		t.Fatal(err)
	}
	again, err := workerd.Find(t.Context(), workerd.FindConfig{Path: bin.Path})
	if err != nil || again.MaxDate != bin.MaxDate {
		t.Errorf("got %+v for %+v, %v", again, bin, err)
	}
}
