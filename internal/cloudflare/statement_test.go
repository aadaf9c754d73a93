package cloudflare_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func TestStatements(t *testing.T) {
	const trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n  SELECT CASE WHEN 1 THEN 2 END; -- END;\n  UPDATE a SET x = ';';\nEND;"
	for sql, want := range map[string][]string{
		"":                        nil,
		" \n-- nothing;\n/* ; */": nil,
		"SELECT 1":                {"SELECT 1"},
		"SELECT 1;;\n;SELECT 2;":  {"SELECT 1;", "SELECT 2;"},
		"INSERT INTO t VALUES ('a;''b', \"c;\", `d;`, [e;]); SELECT 1 /* ; */ + 2 -- ;\n;": {"INSERT INTO t VALUES ('a;''b', \"c;\", `d;`, [e;]);", "SELECT 1 /* ; */ + 2 -- ;\n;"},
		"SELECT 1 -- end\n/* of */":                                                 {"SELECT 1"},
		"CREATE TABLE a (x);\n" + trigger + "\nSELECT 3;":                           {"CREATE TABLE a (x);", trigger, "SELECT 3;"},
		strings.Replace(trigger, "CREATE", "create temp", 1) + "SELECT 'unfinished": {strings.Replace(trigger, "CREATE", "create temp", 1), "SELECT 'unfinished"},
		"SELECT ü FROM 日本; SELECT 2":                                                {"SELECT ü FROM 日本;", "SELECT 2"},
	} {
		got, lines := cloudflare.Statements(sql)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q:\n%s", sql, diff)
		}
		for i, text := range got {
			if all := strings.Split(sql, "\n"); !strings.Contains(all[lines[i]-1], strings.Split(text, "\n")[0]) {
				t.Errorf("%q: statement %d is not on line %d", sql, i, lines[i])
			}
		}
	}
}

func FuzzStatements(f *testing.F) {
	f.Add("SELECT 1; CREATE TRIGGER t BEGIN SELECT ';'; END;")
	f.Fuzz(func(t *testing.T, sql string) {
		texts, _ := cloudflare.Statements(sql)
		rest := sql
		for _, text := range texts { // nothing is made up, and the order is kept
			_, after, ok := strings.Cut(rest, text)
			if !ok {
				t.Fatalf("%q is not in %q", text, rest)
			}
			rest = after
		}
	})
}

// TestFailingStatement: the real database refuses, and its statement is named, whatever
// its words are; nothing of the file stays, and the corrected file goes through.
func TestFailingStatement(t *testing.T) {
	urls := startSandbox(t)
	c, err := cloudflare.New(cloudflare.Config{BaseURL: urls.API})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	grant, err := c.Provision(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	const head = "-- one\nCREATE TABLE a (x INTEGER NOT NULL, y UNIQUE);\nCREATE TRIGGER t AFTER INSERT ON a BEGIN\n  SELECT 1;\n  SELECT 2;\nEND;\nINSERT INTO a VALUES (1, 1);\n"
	a := hello()
	a.Bindings = []deploy.Binding{{"name": "DB", "type": "d1"}}
	prepare := func(sql string) (*deploy.Prepared, error) {
		a.Resources = &deploy.Resources{Databases: []deploy.Database{{Binding: "DB", Table: "order", Migrations: []deploy.Migration{{Name: "1_it's.sql", File: "migrations/1_it's.sql", SQL: sql}}}}}
		return c.Prepare(t.Context(), &grant.Account, a, nil)
	}
	for sql, want := range map[string][]string{
		head + "INSERT INTO a VALUES (2, 1);\nSELECT 1;": {"1_it's.sql:8 ", `at the statement "INSERT INTO a VALUES (2, 1);"`, "UNIQUE constraint failed: a.y"},
		head + "INSERT INTO a\n  VALUES (NULL,\n  2);":   {"1_it's.sql:8 ", `at the statement "INSERT INTO a …"`, "NOT NULL constraint failed: a.x"},
		head + "SELECT 1;\n\n\nSELEKT 1;\nSELEKT 1;":     {"1_it's.sql:11 ", `at the statement "SELEKT 1;"`, "syntax error"},
		head + "SELECT *\nFROM a,\nnowhere;":             {"1_it's.sql:10 ", `at the statement "SELECT * …"`, "no such table: nowhere"},
		"SELEKT 1":                                       {"1_it's.sql:1 ", `"SELEKT 1"`},
		head + strings.Repeat("SELECT 1;\n", 40) + "CREATE TABLE a (z);" + strings.Repeat("SELECT 1;\n", 40): {"1_it's.sql:48 ", "CREATE TABLE a (z);", "already exists"},
		head + "SELECT 1": {"migration migrations/1_it's.sql of", "last statement does not end with a semicolon"}, // the record of it is taken for a part of this
	} {
		_, err := prepare(sql)
		for _, text := range want {
			wantError(t, err, deploy.CodeMigrationFailed, text)
		}
	}
	p, err := prepare(head)
	if err != nil || len(p.Resources) != 1 || len(p.Resources[0].Applied) != 1 {
		t.Errorf("%+v %v", p, err)
	}
	if p, err = prepare(head); err != nil || p.Resources[0].Applied != nil {
		t.Errorf("%+v %v", p, err)
	}
}
