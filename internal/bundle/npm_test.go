package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

// registry is a small npm registry on loopback; each package has one version.
type registry struct {
	*httptest.Server
	mu       sync.Mutex
	packages map[string]map[string]any    // package.json
	files    map[string]map[string]string // further files
	requests []string
	headers  []http.Header
	slow     time.Duration
}

func newRegistry(t testing.TB) *registry {
	r := &registry{packages: map[string]map[string]any{}, files: map[string]map[string]string{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *registry) add(name string, pkg map[string]any, files map[string]string) {
	pkg["name"] = name
	if pkg["version"] == nil {
		pkg["version"] = "1.2.3"
	}
	r.packages[name], r.files[name] = pkg, files
}

func (r *registry) tarball(name string) []byte {
	var buf bytes.Buffer
	zip := gzip.NewWriter(&buf)
	w := tar.NewWriter(zip)
	raw, _ := json.Marshal(r.packages[name])
	all := map[string]string{"package.json": string(raw)}
	maps.Copy(all, r.files[name])
	for _, k := range slices.Sorted(maps.Keys(all)) {
		v := all[k]
		_ = w.WriteHeader(&tar.Header{Name: "package/" + k, Mode: 0o644, Size: int64(len(v))})
		_, _ = w.Write([]byte(v))
	}
	_ = w.Close()
	_ = zip.Close()
	return buf.Bytes()
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, req.Method+" "+req.URL.Path)
	r.headers = append(r.headers, req.Header)
	time.Sleep(r.slow)
	name := strings.TrimPrefix(req.URL.Path, "/")
	if base, ok := strings.CutSuffix(name, ".tgz"); ok {
		base = strings.TrimPrefix(base, "tarballs/")
		_, _ = w.Write(r.tarball(base))
		return
	}
	pkg, ok := r.packages[name]
	if !ok {
		http.Error(w, `{"error":"not found"}`, http.StatusNotFound)
		return
	}
	sum := sha512.Sum512(r.tarball(name))
	version := map[string]any{}
	maps.Copy(version, pkg)
	version["dist"] = map[string]any{"tarball": r.URL + "/tarballs/" + name + ".tgz", "integrity": "sha512-" + base64.StdEncoding.EncodeToString(sum[:])}
	v := pkg["version"].(string)
	_ = json.NewEncoder(w).Encode(map[string]any{"name": name, "dist-tags": map[string]any{"latest": v}, "versions": map[string]any{v: version}})
}

func (r *registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.requests)
}

func npmBundler(t testing.TB, r *registry, change func(*bundle.Config)) *bundle.Bundler {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		peertest.Skip(t, "npm is not on this machine")
	}
	cfg := bundle.Config{CacheDir: t.TempDir(), Registry: r.URL + "/"}
	if change != nil {
		change(&cfg)
	}
	return newBundler(t, cfg)
}

func withPackages(deps string, more map[string]string) deploy.Source {
	files := map[string]string{
		"package.json": `{"name":"app","dependencies":` + deps + `}`,
		"index.js":     `import x from "thing"; export default { fetch() { return new Response(x) } }`,
	}
	maps.Copy(files, more)
	return inline(files)
}

func TestInstallsPackages(t *testing.T) {
	r := newRegistry(t)
	r.add("thing", map[string]any{"main": "main.js", "dependencies": map[string]string{"inner": "^1.0.0"}}, map[string]string{"main.js": `import i from "inner"; export default "thing+" + i`})
	r.add("inner", map[string]any{}, map[string]string{"index.js": `export default "inner-code"`})
	r.add("unused", map[string]any{}, map[string]string{"index.js": `export default 1`})
	t.Setenv("npm_config_//127.0.0.1/:_authToken", "must-not-be-sent")
	t.Setenv("NPM_TOKEN", "must-not-be-sent")
	b := npmBundler(t, r, nil)
	src := withPackages(`{"thing":"^1.0.0"}`, map[string]string{".npmrc": "//127.0.0.1/:_authToken=agents-own\ngit=/bin/sh\nregistry=http://127.0.0.1:1/\n"})
	a := must(t, b, src)
	if !strings.Contains(string(a.Modules[0].Content), "inner-code") || !strings.Contains(string(a.Modules[0].Content), "// node_modules/inner/index.js") {
		t.Errorf("%s", a.Modules[0].Content)
	}
	if len(a.Largest) == 0 || a.Largest[0].Name != "index.js" && a.Largest[0].Name != "thing" {
		t.Errorf("%+v", a.Largest)
	}
	n := r.count()
	again := must(t, b, src)
	if r.count() != n || again.Digest != a.Digest {
		t.Errorf("the second bundle asked the registry %d times; digest equal: %v", r.count()-n, again.Digest == a.Digest)
	}
	for _, h := range r.headers {
		if h.Get("Authorization") != "" {
			t.Errorf("a credential was sent: %v", h)
		}
	}
	lock := `{"name":"app","lockfileVersion":3,"packages":{"":{"name":"app","dependencies":{"thing":"^1.0.0"}},
		"node_modules/thing":{"version":"1.2.3","resolved":"` + r.URL + `/tarballs/thing.tgz","dependencies":{"inner":"^1.0.0"}},
		"node_modules/inner":{"version":"1.2.3","resolved":"` + r.URL + `/tarballs/inner.tgz"}}}`
	locked := withPackages(`{"thing":"^1.0.0"}`, map[string]string{"package-lock.json": lock})
	if !strings.Contains(string(must(t, b, locked).Modules[0].Content), "inner-code") {
		t.Error("not with a lock file")
	}
	wrong := strings.Replace(lock, `"node_modules/inner":{"version":"1.2.3",`, `"node_modules/inner":{"version":"1.2.3","integrity":"sha512-AAAA",`, 1)
	refused(t, b, withPackages(`{"thing":"^1.0.0"}`, map[string]string{"package-lock.json": wrong}), deploy.CodeBuildFailed, "EINTEGRITY")
}

func TestInstallRefuses(t *testing.T) {
	r := newRegistry(t)
	b := npmBundler(t, r, nil)
	for _, spec := range []string{
		"file:../x", "file:x.tgz", "../x", "./x", "/etc", "~/x", "x.tgz", "git+ssh://git@host/x.git", "git://host/x", "github:a/b", "a/b",
		"http://127.0.0.1/x.tgz", "link:../x", "workspace:*", "npm:../x", "npm:x@file:../y", "1.0.0 --registry=http://x", "$(touch x)", "\n1",
	} {
		raw, _ := json.Marshal(map[string]string{"thing": spec})
		refused(t, b, withPackages(string(raw), nil), deploy.CodeConfigInvalid, "thing")
	}
	for _, name := range []string{"../x", "a/b/c", "@x", "node_modules", ".hidden", "a b"} {
		raw, _ := json.Marshal(map[string]string{name: "1"})
		refused(t, b, withPackages(string(raw), nil), deploy.CodeConfigInvalid)
	}
	for _, entry := range []string{
		`"node_modules/thing":{"version":"1.0.0","resolved":"http://127.0.0.1:1/evil.tgz"}`,
		`"node_modules/thing":{"version":"1.0.0","resolved":"git+ssh://git@host/x.git#abc"}`,
		`"node_modules/thing":{"version":"file:../x"}`,
		`"node_modules/thing":{"resolved":"../x","link":true}`,
		`"../x":{"version":"1.0.0"}`,
		`"node_modules/../../x":{"version":"1.0.0"}`,
	} {
		lock := `{"lockfileVersion":3,"packages":{"":{},` + entry + `}}`
		refused(t, b, withPackages(`{"thing":"1"}`, map[string]string{"package-lock.json": lock}), deploy.CodeConfigInvalid, "registry")
	}
	refused(t, b, withPackages(`{"thing":"^1.0.0"}`, map[string]string{"package.json": `{"dependencies":{"thing":"1"},"overrides":{"x":"file:../y"}}`}), deploy.CodeConfigInvalid)
	if r.count() != 0 {
		t.Errorf("the registry was asked: %v", r.requests)
	}
	if e := refused(t, b, withPackages(`{"thing":"1"}`, nil), deploy.CodeBuildFailed, "E404"); strings.Contains(e.Message, "/") && strings.Contains(e.Message, "_logs") {
		t.Errorf("npm's log shows: %s", e.Message)
	}
	refused(t, newBundler(t, bundle.Config{}), withPackages(`{"thing":"1"}`, nil), deploy.CodeNotSupported, "cache")
	t.Setenv("PATH", t.TempDir())
	refused(t, newBundler(t, bundle.Config{CacheDir: t.TempDir()}), withPackages(`{"thing":"1"}`, nil), deploy.CodeNotSupported, "npm is not on the machine of this server", "node_modules")
}

// What a package of the registry may try: scripts, and packages from elsewhere.
func TestHostilePackages(t *testing.T) {
	proof := filepath.Join(t.TempDir(), "ran")
	other := newRegistry(t)
	other.add("elsewhere", map[string]any{}, map[string]string{"index.js": "export default 1"})
	r := newRegistry(t)
	script := "touch " + proof
	r.add("thing", map[string]any{"scripts": map[string]string{"preinstall": script, "install": script, "postinstall": script, "prepare": script}}, map[string]string{"index.js": `export default "thing-code"`})
	r.add("by-git", map[string]any{"dependencies": map[string]string{"x": "git+file://" + filepath.Dir(proof)}}, nil)
	r.add("by-url", map[string]any{"dependencies": map[string]string{"elsewhere": other.URL + "/tarballs/elsewhere.tgz"}}, map[string]string{"index.js": "export default 1"})
	b := npmBundler(t, r, nil)
	if a := must(t, b, withPackages(`{"thing":"*"}`, nil)); !strings.Contains(string(a.Modules[0].Content), "thing-code") {
		t.Error("not installed")
	}
	if _, err := os.Stat(proof); err == nil {
		t.Error("a script of a package ran")
	}
	refused(t, b, withPackages(`{"by-git":"*"}`, nil), deploy.CodeBuildFailed)
	// npm 11 does not fetch from elsewhere; with an older one what it installed is refused.
	// A second call must not find the refused one in the cache.
	for range 2 {
		_, err := b.Bundle(t.Context(), withPackages(`{"by-url":"*"}`, nil))
		if !deploy.IsCode(err, deploy.CodeBuildFailed) && !deploy.IsCode(err, deploy.CodeConfigInvalid) {
			t.Errorf("a package from elsewhere: %v", err)
		}
	}
}

func TestInstallLimits(t *testing.T) {
	r := newRegistry(t)
	r.add("thing", map[string]any{}, map[string]string{"index.js": "export default 1", "big.bin": strings.Repeat("0123456789abcdef", 1<<17)})
	b := npmBundler(t, r, func(c *bundle.Config) { c.MaxInstallBytes = 1 << 20 })
	refused(t, b, withPackages(`{"thing":"*"}`, nil), deploy.CodeTooLarge, "max install bytes")
	r.slow = 3 * time.Second
	b = npmBundler(t, r, func(c *bundle.Config) { c.InstallTimeout = time.Second })
	began := time.Now()
	refused(t, b, withPackages(`{"thing":"*"}`, nil), deploy.CodeTimeout, "install timeout")
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("took %s", took)
	}
}

// Sessions that ask for the same packages at once cause one installation.
func TestInstallOnce(t *testing.T) {
	r := newRegistry(t)
	r.add("thing", map[string]any{}, map[string]string{"index.js": `export default "x"`})
	b := npmBundler(t, r, nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			src := withPackages(`{"thing":"*"}`, map[string]string{"n.txt": fmt.Sprint(i)})
			if _, err := b.Bundle(t.Context(), src); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if r.count() > 2 {
		t.Errorf("%d requests: %v", r.count(), r.requests)
	}
}
