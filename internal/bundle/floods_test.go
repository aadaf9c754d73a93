package bundle_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/bundle"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Small projects whose answer or whose work would be out of all proportion.
func TestFloods(t *testing.T) {
	r := strings.Repeat
	b := newBundler(t, bundle.Config{})
	for name, c := range map[string]struct {
		files map[string]string
		code  deploy.Code // "" for a bundle
		want  string      // in the error, or in the warnings
	}{
		// Each call was given a table of its own of all files: gigabytes.
		"one pattern in many calls": {with(many("d/f%d.js", 500), "index.js", worksFine+r("import(\"./d/\"+a+\".js\");", 20_000)), "", ""},
		"many patterns": {with(many("d/"+r("f", 200)+"%d.js", 1000), "index.js", worksFine+func() string {
			var s strings.Builder
			for i := range 200 {
				fmt.Fprintf(&s, "import(`./d/%s${a}.js`);", r("f", i))
			}
			return s.String()
		}()), deploy.CodeTooManyFiles, "match more than 100000 files"},
		"unknown keys":           {map[string]string{"index.js": worksFine, "wrangler.json": `{"name": "x", ` + listOf(`"ke%d": 1`, 5000) + "}"}, "", "and 4952 more warnings"},
		"environments":           {map[string]string{"index.js": worksFine, "wrangler.json": `{"name": "x", "env": {` + listOf(`"e%d": {}`, 20_000) + "}}"}, "", "e100, e101"},
		"no such number":         {map[string]string{"index.js": worksFine, "wrangler.toml": "name = \"x\"\n[vars]\nA = nan\n"}, deploy.CodeConfigInvalid, "no JSON has"},
		"no such number, either": {map[string]string{"index.js": worksFine, "wrangler.toml": "name = \"x\"\n[vars.A]\nB = [-inf]\n"}, deploy.CodeConfigInvalid, "no JSON has"},
		// 30 members, each twice the one before: esbuild folds them into constants.
		"an enum that doubles": {map[string]string{"index.ts": worksFine + "enum E { a = 'xxxxxxxx', " + doubling(34) + " }\nconsole.log(E.a33);"}, deploy.CodeBuildFailed, "index.ts is nested too deeply, or too large in effect"},
		"an enum that adds":    {map[string]string{"index.ts": worksFine + "enum E { a = 'x', " + doubling(8) + " }\nconsole.log(E.a7, 1 + 2 + 3 + 4 + 5);"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := b.Bundle(t.Context(), inline(c.files))
			if c.code != "" {
				if e := deploy.AsError(err); err == nil || e.Code != c.code || !strings.Contains(e.Message, c.want) || e.Next == "" {
					t.Errorf("%+v", e)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if told := strings.Join(a.Warnings, "\n"); !strings.Contains(told, c.want) || len(told) > 20_000 {
				t.Errorf("%d characters: %.2000s", len(told), told)
			}
			if a.Bytes > 2<<20 {
				t.Errorf("%d bytes", a.Bytes)
			}
		})
	}
}

// Suggestions are looked for where they will be shown, not for each of thousands.
func TestManyErrors(t *testing.T) {
	r := strings.Repeat
	files := with(many(r("f", 100)+"%d.js", 500), "index.js", worksFine+strings.ReplaceAll(listOf("import \"./"+r("g", 100)+"%d.js\"", 300), ",", "\n"))
	_, err := newBundler(t, bundle.Config{}).Bundle(t.Context(), inline(files))
	e := deploy.AsError(err)
	if e.Code != deploy.CodeBuildFailed || len(e.Diagnostics) != 51 || e.Diagnostics[50].Text != "and 250 more" || e.Diagnostics[49].Suggestion == "" {
		t.Errorf("%s %s, %d rows", e.Code, e.Message, len(e.Diagnostics))
	}
}

func many(format string, n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf(format, i)] = "export default 1"
	}
	return files
}

func with(files map[string]string, name, content string) map[string]string {
	files[name] = content
	return files
}

func listOf(format string, n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(all, ",")
}

func doubling(n int) string {
	all := []string{"a0 = a + a"}
	for i := 1; i < n; i++ {
		all = append(all, fmt.Sprintf("a%d = a%d + a%d", i, i-1, i-1))
	}
	return strings.Join(all, ", ")
}
