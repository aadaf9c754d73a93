package hourglass_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/hourglass-mcp/hourglass/"

// plan says which rooms a room may enter (docs/architecture.md). "*" enters all.
func plan() map[string][]string {
	return map[string][]string{
		"internal/deploy":          {},
		"internal/bundle":          {"internal/deploy"},
		"internal/session":         {"internal/deploy"},
		"internal/audit":           {"internal/deploy"},
		"internal/cloudflare":      {"internal/deploy", "internal/cloudflare/pow"},
		"internal/cloudflare/pow":  {},
		"internal/policy":          {"internal/deploy"},
		"internal/tools":           {"internal/deploy"},
		"internal/web":             {"internal/deploy"},
		"internal/telemetry":       {"internal/deploy"},
		"internal/sandbox":         {"internal/sandbox/workerd", "internal/cloudflare/pow"},
		"internal/sandbox/workerd": {},
		"internal/peertest":        {"internal/sandbox/workerd"},
		"internal/bench":           {"*"},
		"internal/testcount":       {},
		"cmd/mcp-server":           {"internal/deploy", "internal/bundle", "internal/session", "internal/audit", "internal/cloudflare", "internal/policy", "internal/telemetry", "internal/tools", "internal/web", "internal/sandbox", "internal/sandbox/workerd"},
		"examples/headless":        {},
		"examples":                 {},
		"":                         {},

		"internal/peertest/chromium": {"internal/peertest"},
	}
}

type pkg struct {
	ImportPath, Dir, Name, Doc string
	Imports                    []string
	GoFiles                    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Name,Doc,Imports,GoFiles", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func room(path string) string { return strings.TrimPrefix(path+"/", module) }

// TestRooms: no room enters one that the plan does not let it enter.
func TestRooms(t *testing.T) {
	rooms := plan()
	for _, p := range packages(t) {
		name := strings.Trim(room(p.ImportPath), "/")
		may, known := rooms[name]
		if !known {
			t.Errorf("the room %q is not on the plan", name)
			continue
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, module) {
				if name == "internal/deploy" && strings.Contains(imp, ".") {
					t.Errorf("%s stands on the standard library alone, and imports %s", name, imp)
				}
				continue
			}
			if in := strings.Trim(room(imp), "/"); !slices.Contains(may, in) && !slices.Contains(may, "*") {
				t.Errorf("%s enters %s", name, in)
			}
		}
		if name != "" && name != "examples" && p.Doc == "" {
			t.Errorf("%s has no package comment", name)
		}
		if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "base"}, p.Name) {
			t.Errorf("a package is named %s", p.Name)
		}
	}
}

// TestNoHiddenState: no init, and no package variable but errors, embedded files,
// compiled patterns and interface assertions.
func TestNoHiddenState(t *testing.T) {
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "init" && fn.Recv == nil {
					t.Errorf("%s has an init", path)
				}
				if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
					for _, s := range g.Specs {
						if spec, ok := s.(*ast.ValueSpec); ok && !harmless(spec, g) {
							t.Errorf("%s: the package variable %s", path, spec.Names[0])
						}
					}
				}
			}
		}
	}
}

var constant = regexp.MustCompile(`^(errors\.New|fmt\.Errorf|regexp\.MustCompile)$`)

func harmless(spec *ast.ValueSpec, g *ast.GenDecl) bool {
	if spec.Names[0].Name == "_" || spec.Names[0].Name == "version" {
		return true // an assertion; what the linker sets
	}
	for _, c := range []*ast.CommentGroup{g.Doc, spec.Doc} {
		if c != nil && slices.ContainsFunc(c.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed") }) {
			return true
		}
	}
	for _, v := range spec.Values {
		call, ok := v.(*ast.CallExpr)
		if !ok {
			return false
		}
		fn, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		x, ok := fn.X.(*ast.Ident)
		if !ok || !constant.MatchString(x.Name+"."+fn.Sel.Name) {
			return false
		}
	}
	return len(spec.Values) > 0
}

// TestSettingsPage: the table of settings names exactly the flags that the command has.
func TestSettingsPage(t *testing.T) {
	page, err := os.ReadFile("docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| `(HOURGLASS_[A-Z_]+)`").FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, m[1])
		if want := "HOURGLASS_" + strings.ToUpper(strings.ReplaceAll(m[1], "-", "_")); m[2] != want {
			t.Errorf("%s has the variable %s, not %s", m[1], want, m[2])
		}
	}
	var flags []string
	for _, where := range [][2]string{{"cmd/mcp-server/cli.go", "type options struct"}, {"cmd/mcp-server/quota.go", "type quota struct"}, {"cmd/mcp-server/logs.go", "type logKeeping struct"}, {"cmd/mcp-server/http.go", "type httpCmd struct"}} {
		flags = append(flags, flagsOf(t, where[0], where[1])...)
	}
	slices.Sort(documented)
	slices.Sort(flags)
	if !slices.Equal(documented, flags) || len(flags) < 20 {
		t.Errorf("documented %v\nflags      %v", documented, flags)
	}
}

// flagsOf reads the names of the flags that a struct of the command line has.
func flagsOf(t *testing.T, file, decl string) (flags []string) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(src)
	text = text[strings.Index(text, decl):]
	text = text[:strings.Index(text, "\n}")]
	for _, m := range regexp.MustCompile("(?m)^\t([A-Z]\\w+)\\s+\\S+\\s+`(.*)`$").FindAllStringSubmatch(text, -1) {
		name := strings.Trim(regexp.MustCompile(`[A-Z]`).ReplaceAllStringFunc(m[1], func(s string) string { return "-" + strings.ToLower(s) }), "-")
		if n := regexp.MustCompile(`name:"([^"]+)"`).FindStringSubmatch(m[2]); n != nil {
			name = n[1]
		}
		flags = append(flags, name)
	}
	return flags
}

// TestSandboxPage: every endpoint that the sandbox has is in its table.
func TestSandboxPage(t *testing.T) {
	page, err := os.ReadFile("docs/sandbox.md")
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile("internal/sandbox/router.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\{"(GET|PUT|POST|PATCH|DELETE)", (?:\w+ \+ )?"([^"]+)"`).FindAllStringSubmatch(string(src), -1)
	if len(found) < 65 {
		t.Fatalf("only %d endpoints were found in the source", len(found))
	}
	for _, m := range found {
		last := m[2][strings.LastIndex(strings.TrimSuffix(regexp.MustCompile(`/\{\w+\}$`).ReplaceAllString(m[2], ""), "/"), "/")+1:]
		last, _, _ = strings.Cut(last, "/")
		if !strings.Contains(string(page), last) {
			t.Errorf("%s %s is not in docs/sandbox.md", m[1], m[2])
		}
	}
}

// TestNoForeignAddresses: no commit names the hosts of package registries or a path of
// the machine that it was made on.
func TestNoForeignAddresses(t *testing.T) {
	files, err := exec.Command("git", "ls-files").Output()
	if err != nil {
		t.Skip("not a git checkout: there are no commits to look at")
	}
	hosts := []string{}
	for _, cmd := range [][]string{{"npm", "config", "get", "registry"}, {"go", "env", "GOPROXY"}} {
		out, _ := exec.Command(cmd[0], cmd[1:]...).Output()
		for _, m := range regexp.MustCompile(`https?://([^/:,|\s]+)`).FindAllStringSubmatch(string(out), -1) {
			hosts = append(hosts, m[1])
		}
	}
	if len(hosts) == 0 {
		t.Fatal("neither npm nor go names a registry")
	}
	for name := range strings.FieldsSeq(string(files)) {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for _, h := range hosts {
			if strings.Contains(string(b), h) {
				t.Errorf("%s names %s", name, h)
			}
		}
	}
}
