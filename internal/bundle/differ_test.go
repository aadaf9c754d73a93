package bundle_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/peertest"
	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// packages are the real ones that fixtures import; "" is their folder's digest.
const packages = `{"private":true,"dependencies":{"hono":"4.10.6","itty-router":"5.0.22","zod":"4.1.12","react":"19.2.0","react-dom":"19.2.0","pg":"8.16.3","nanoid":"5.1.6","cross-fetch":"4.1.0","inherits":"2.0.4"}}`

// packagesFolder has the packages installed, in the cache; fixtures are put below it.
func packagesFolder(t testing.TB) string {
	t.Helper()
	cache, err := peertest.CacheDir()
	if err != nil {
		peertest.Skip(t, "%v", err)
	}
	sum := sha256.Sum256([]byte(packages))
	dir := filepath.Join(cache, "fixtures-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(filepath.Join(dir, ".complete")); err == nil {
		return dir
	}
	write(t, dir, "package.json", packages)
	run := exec.CommandContext(t.Context(), "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", "--no-package-lock")
	run.Dir = dir
	if out, err := run.CombinedOutput(); err != nil {
		peertest.Skip(t, "the packages of the fixtures can't be installed: %v: %s", err, out)
	}
	write(t, dir, ".complete", "")
	return dir
}

// TestSameProgramAsWrangler bundles each fixture with the real wrangler and with ours,
// runs both results in the real runtime and asks them the same. Everything that
// differs in the bytes has its reason listed in the fixture.
func TestSameProgramAsWrangler(t *testing.T) {
	peers := peertest.Get(t)
	binary := peertest.Workerd(t)
	home := packagesFolder(t)
	top, err := os.MkdirTemp(home, "run-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	b := newBundler(t, bundle.Config{Roots: []string{home}})
	list := fixtures()
	if len(list) < 40 {
		t.Fatalf("only %d fixtures", len(list))
	}
	equal, ran := 0, 0
	for i, f := range list {
		if !peertest.Full() && i%8 != 0 {
			continue
		}
		ok := t.Run(f.name, func(t *testing.T) {
			if f.compare(t, peers, binary, b, filepath.Join(top, f.name)) {
				equal++
			}
		})
		if ok {
			ran++
		}
	}
	t.Logf("%d of %d fixtures ran and answer alike; the main modules of %d are equal byte for byte", ran, len(list), equal)
}

type fixture struct {
	name  string
	files map[string]string
	// args are further arguments of wrangler; src what is asked of ours.
	args      []string
	src       deploy.Source
	gets      []string // paths that are asked for; default "/"
	unbundled bool     // no_bundle
	// differs is why the bytes of the main module are not the same; "" if they are.
	differs string
}

func (f fixture) compare(t *testing.T, peers peertest.Peers, binary workerd.Binary, b *bundle.Bundler, dir string) bool {
	for name, content := range f.files {
		write(t, dir, name, content)
	}
	src := f.src
	src.ProjectDir = dir
	ours := must(t, b, src)
	theirs := f.wrangler(t, peers, dir, ours)
	worker := func(name, main string, modules []deploy.Module) workerd.Worker {
		w := workerd.Worker{Name: name, MainModule: main, CompatibilityDate: ours.CompatibilityDate, CompatibilityFlags: ours.CompatibilityFlags}
		for _, m := range modules {
			w.Modules = append(w.Modules, workerd.Module{Name: m.Name, Type: m.Type, Content: m.Content})
		}
		for _, v := range ours.Bindings {
			switch v.Type() {
			case "plain_text":
				w.Bindings = append(w.Bindings, workerd.Binding{Name: v.Name(), Kind: workerd.Text, Value: v["text"].(string)})
			case "json":
				raw, _ := json.Marshal(v["json"])
				w.Bindings = append(w.Bindings, workerd.Binding{Name: v.Name(), Kind: workerd.JSON, Value: string(raw)})
			}
		}
		return w
	}
	p, err := workerd.Start(t.Context(), workerd.Config{Binary: binary.Path, NoNetwork: true, Workers: []workerd.Worker{
		worker("ours", ours.MainModule, ours.Modules), worker("theirs", theirs[0].Name, theirs),
	}})
	if err != nil {
		t.Fatalf("%v\n%s", err, ours.Modules[0].Content)
	}
	defer func() {
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		p.Stop(ctx)
	}()
	gets := f.gets
	if gets == nil {
		gets = []string{"/"}
	}
	for _, at := range gets {
		a, w := ask(t, p, "ours", at), ask(t, p, "theirs", at)
		if a != w {
			t.Errorf("GET %s: ours %q, wrangler's %q", at, a, w)
		}
		if strings.HasPrefix(a, "500") && !strings.Contains(f.name, "throws") {
			t.Errorf("GET %s fails: %s", at, a)
		}
	}
	same := bytes.Equal(bytes.TrimSpace(ours.Modules[0].Content), bytes.TrimSpace(theirs[0].Content))
	if same != (f.differs == "") {
		t.Errorf("bytes equal: %v, but the reason is %q\n%s", same, f.differs, firstDifference(ours.Modules[0].Content, theirs[0].Content))
	}
	return same
}

// wrangler gives what the real one would upload: the main module first.
func (f fixture) wrangler(t *testing.T, peers peertest.Peers, dir string, ours *deploy.Artifact) []deploy.Module {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	args := append([]string{"deploy", "--dry-run", "--outdir", out}, f.args...)
	if _, err := os.Stat(filepath.Join(dir, "wrangler.jsonc")); err != nil {
		if _, err := os.Stat(filepath.Join(dir, "wrangler.toml")); err != nil {
			args = append(args, "--name", "x", "--compatibility-date", ours.CompatibilityDate)
		}
	}
	res, err := peers.Wrangler(t.Context(), "http://127.0.0.1:1", t.TempDir(), dir, args...)
	if err != nil || res.Code != 0 {
		t.Fatalf("wrangler: %v, exit %d\n%s\n%s", err, res.Code, res.Stdout, res.Stderr)
	}
	var modules []deploy.Module
	walk := func(base string, keep func(string) bool) {
		err := filepath.WalkDir(base, func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			shown, _ := filepath.Rel(base, name)
			content, err := os.ReadFile(name)
			if err == nil && keep(shown) {
				modules = append(modules, deploy.Module{Name: filepath.ToSlash(shown), Content: content})
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	walk(out, func(name string) bool {
		return name != "README.md" && !strings.HasSuffix(name, ".map") && !strings.HasSuffix(name, ".css")
	})
	types := map[string]string{}
	for _, m := range ours.Modules {
		types[strings.TrimPrefix(m.Name, "./")] = m.Type
	}
	main := -1
	for i := range modules {
		m := &modules[i]
		m.Type = cmp.Or(types[m.Name], deploy.TypeESModule)
		if m.Name == ours.MainModule {
			main = i
		}
		if types[m.Name] == "" {
			t.Errorf("wrangler has a module %s that ours lacks", m.Name)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "src", ours.MainModule)); main < 0 && err == nil && f.unbundled { // wrangler writes the others only
		main = len(modules)
		modules = append(modules, deploy.Module{Name: ours.MainModule, Type: deploy.TypeESModule, Content: raw})
	}
	if main < 0 {
		t.Fatalf("wrangler made no %s: %s", ours.MainModule, res.Stdout)
	}
	n := 0
	for _, m := range ours.Modules {
		if m.Type != deploy.TypeSourceMap {
			n++
		}
	}
	if n != len(modules) {
		t.Errorf("ours has %d modules, wrangler's %d", n, len(modules))
	}
	modules[0], modules[main] = modules[main], modules[0]
	return modules
}

func ask(t *testing.T, p *workerd.Process, worker, at string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x.sub.workers.dev"+at, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(workerd.ProtoHeader, "https")
	resp, err := p.Transport(worker).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d|%s|%s|%s|%s", resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("Location"), resp.Header.Get("X-Test"), body)
}

func firstDifference(a, b []byte) string {
	x, y := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d\nours:     %.200s\nwrangler: %.200s", i+1, x[i], y[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

// config is a wrangler.jsonc with more keys.
func config(more string) string {
	return `{"name":"x","compatibility_date":"2026-11-17","main":"src/index.ts"` + more + `}`
}
