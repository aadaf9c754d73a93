package sandbox

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestSplitSQL(t *testing.T) {
	for text, want := range map[string][]string{
		"SELECT 1":            {"SELECT 1"},
		"SELECT 1;":           {"SELECT 1"},
		" ; ; ":               nil,
		"-- only\n/* a; b */": nil,
		"SELECT ';'; SELECT \"a;b\", [c;d], `e;`": {"SELECT ';'", " SELECT \"a;b\", [c;d], `e;`"},
		"SELECT 'it''s; x'; SELECT 2":             {"SELECT 'it''s; x'", " SELECT 2"},
		"SELECT 1 -- a; b\n; SELECT 2":            {"SELECT 1 -- a; b\n", " SELECT 2"},
		"SELECT 'open":                            {"SELECT 'open"},
		"SELECT CASE WHEN 1 THEN 2 END; SELECT 3": {"SELECT CASE WHEN 1 THEN 2 END", " SELECT 3"},
		"create trigger t after insert on a begin select case when 1 then 2 end; delete from b; end; select 1": {
			"create trigger t after insert on a begin select case when 1 then 2 end; delete from b; end", " select 1",
		},
		"CREATE TEMP TRIGGER IF NOT EXISTS t AFTER INSERT ON a BEGIN SELECT 1; END": {"CREATE TEMP TRIGGER IF NOT EXISTS t AFTER INSERT ON a BEGIN SELECT 1; END"},
		"BEGIN; SELECT 1; END;": {"BEGIN", " SELECT 1", " END"},
	} {
		if got := splitSQL(text); !slices.Equal(got, want) {
			t.Errorf("%q\n got %q\nwant %q", text, got, want)
		}
	}
}

// FuzzSplitSQL: nothing is lost but the semicolons and what stands alone, and no
// statement is empty.
func FuzzSplitSQL(f *testing.F) {
	for _, s := range []string{"SELECT 1; SELECT 2", "create trigger a begin end;", "'", "/*", "--", "[;];", "CASE END; END"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rest := text
		for _, s := range splitSQL(text) {
			i := strings.Index(rest, s)
			if i < 0 || strings.Trim(s, " \t\n\r\f") == "" {
				t.Fatalf("%q is not in %q", s, rest)
			}
			rest = rest[i+len(s):]
		}
	})
}

// FuzzPaths: whatever is asked for, the path that is looked up stays below the root, and
// a clean one stays as it is.
func FuzzPaths(f *testing.F) {
	for _, s := range []string{"/a/../b", "/%2e%2e/x", "//", "/a/./", "/%", "/ü", "/.%2E/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.Parse("http://h/" + strings.TrimPrefix(path, "/"))
		if err != nil || u.Host != "h" {
			return
		}
		clean := cleanPath(u)
		if !strings.HasPrefix(clean, "/") {
			t.Fatal(clean)
		}
		for part := range strings.SplitSeq(clean, "/") {
			if plain := strings.ReplaceAll(strings.ToLower(part), "%2e", "."); plain == ".." || plain == "." {
				t.Fatalf("%q: %q", path, clean)
			}
		}
		if again := cleanPath(&url.URL{Path: u.Path, RawPath: clean}); u.EscapedPath() == clean && again != clean {
			t.Fatalf("%q and then %q", clean, again)
		}
		_ = encodePath(decodePath(clean))
	})
}
