package cloudflare

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

type d1Row struct {
	UUID string `json:"uuid"`
	Name string `json:"name"`
}

// database finds or makes a D1 database; id is its id also where the binding is
// inherited, for its migrations.
func (p *preparing) database(ctx context.Context, b deploy.Binding) (done deploy.Binding, id string, err error) {
	name := p.configured(b).Name
	bound := func(id string) deploy.Binding {
		return deploy.Binding{"name": b.Name(), "type": b.Type(), "id": id}
	}
	if id := member(b, "id"); id != "" {
		has, err := p.has(ctx, "/d1/database/"+id, codeNoDatabase)
		if err != nil {
			return nil, "", err
		}
		if has {
			p.tell(b, nonEmpty(name, id), deploy.ResourceKept)
			return bound(id), id, nil
		}
		p.warn("The D1 database of the binding %s is not on the temporary account: a database of its own, %s, stands in for it, without its content.", b.Name(), nonEmpty(name, p.defaultName(b)))
	}
	if old := p.inherited(b); old != nil {
		id := nonEmpty(member(old, "id"), member(old, "database_id"))
		same, err := p.sameDatabase(ctx, id, name)
		if err != nil {
			return nil, "", err
		}
		if same {
			p.tell(b, nonEmpty(name, p.defaultName(b)), deploy.ResourceKept)
			return inherit(b), id, nil
		}
	}
	name = nonEmpty(name, p.defaultName(b))
	row, err := p.findDatabase(ctx, name)
	if err != nil {
		return nil, "", err
	}
	made := row == nil
	if made {
		if row, err = p.makeDatabase(ctx, name); err != nil {
			return nil, "", err
		}
	}
	p.tell(b, name, state(made))
	return bound(row.UUID), row.UUID, nil
}

func nonEmpty(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// configured is what the configuration says of a D1 binding.
func (p *preparing) configured(b deploy.Binding) deploy.Database {
	if p.a.Resources != nil {
		for _, d := range p.a.Resources.Databases {
			if d.Binding == b.Name() {
				return d
			}
		}
	}
	return deploy.Database{}
}

// sameDatabase tells whether the database that is bound now is the configured one.
func (p *preparing) sameDatabase(ctx context.Context, id, name string) (bool, error) {
	if !isIdentifier(id) {
		return false, nil
	}
	if name == "" {
		return true, nil
	}
	row, err := p.findDatabase(ctx, id)
	return row != nil && row.Name == name, err
}

// findDatabase finds a database by its name or id; nil for none.
func (p *preparing) findDatabase(ctx context.Context, ref string) (*d1Row, error) {
	const doing = "looking for a D1 database"
	if !isIdentifier(ref) {
		return nil, deploy.Errorf(deploy.CodeConfigInvalid, "Set database_name in d1_databases to a name of letters, digits, dashes and underscores.",
			"%s failed: %q can't be a database's name", doing, cut(clean(ref), 80))
	}
	result, err := p.c.rest(ctx, p.acct, p.c.reading(doing), http.MethodGet, "/d1/database/"+ref, nil, nil)
	if codeOf(err) == codeNoDatabase {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	var row d1Row
	if json.Unmarshal(result, &row) != nil || !isIdentifier(row.UUID) {
		return nil, missing(doing, "uuid")
	}
	return &row, nil
}

func (p *preparing) makeDatabase(ctx context.Context, name string) (*d1Row, error) {
	return step(ctx, p.c, deploy.StepCreateResource, deploy.ResourceD1+" "+name, func() (*d1Row, string, error) {
		made, err := p.postDatabase(ctx, name)
		if err != nil {
			return nil, "", err
		}
		return made, made.UUID, nil
	})
}

func (p *preparing) postDatabase(ctx context.Context, name string) (*d1Row, error) {
	const doing = "making a D1 database"
	t := p.c.making(doing, func(ctx context.Context) (json.RawMessage, error) { return row(p.findDatabase(ctx, name)) })
	result, err := p.c.rest(ctx, p.acct, t, http.MethodPost, "/d1/database", nil, map[string]string{"name": name})
	if codeOf(err) == codeDatabaseExists { // somebody else made it since
		if there, errFind := p.findDatabase(ctx, name); there != nil || errFind != nil {
			return there, errFind
		}
	}
	if err != nil {
		return nil, err
	}
	var made d1Row
	if json.Unmarshal(result, &made) != nil || !isIdentifier(made.UUID) {
		return nil, missing(doing, "uuid")
	}
	return &made, nil
}

// migrate applies the migrations that a database has not had, as wrangler does and
// recorded as wrangler records them (section 12), so that wrangler can go on.
func (p *preparing) migrate(ctx context.Context, ids map[string]string, stage func(deploy.Stage)) error {
	if p.a.Resources == nil {
		return nil
	}
	begun := false
	for _, d := range p.a.Resources.Databases {
		if len(d.Migrations) == 0 || ids[d.Binding] == "" {
			continue
		}
		if !begun && stage != nil {
			stage(deploy.StageMigrate)
		}
		begun = true
		applied, err := p.apply(ctx, ids[d.Binding], d)
		for i := range p.out.Resources {
			if r := &p.out.Resources[i]; r.Type == deploy.ResourceD1 && r.Binding == d.Binding {
				r.Applied = applied
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const doingMigrate = "applying a database's migrations"

// apply applies the migrations of one database that it has not had, each as a step. The
// table of applied migrations has a name that holds nothing but letters, digits and
// underscores, and is quoted, as wrangler does: it may be a word of SQL.
func (p *preparing) apply(ctx context.Context, id string, d deploy.Database) (applied []string, err error) {
	table := `"` + nonEmpty(d.Table, "d1_migrations") + `"`
	create := "CREATE TABLE IF NOT EXISTS " + table + "(\n\t\tid         INTEGER PRIMARY KEY AUTOINCREMENT,\n\t\tname       TEXT UNIQUE,\n\t\tapplied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL\n);"
	if _, err := p.query(ctx, id, create, nil); err != nil {
		return nil, err
	}
	had, err := p.applied(ctx, id, table)
	if err != nil {
		return nil, err
	}
	for _, m := range d.Migrations {
		if slices.Contains(had, m.Name) {
			continue
		}
		err := act(ctx, p.c, deploy.StepApplyMigration, m.File, func() error { return p.applyOne(ctx, id, table, m) })
		if err != nil {
			return applied, p.migrationFailed(d, m, applied, p.culprit(ctx, id, m.SQL, err), err)
		}
		applied = append(applied, m.Name)
	}
	return applied, nil
}

// applied gives the names of the migrations that a database has had.
func (p *preparing) applied(ctx context.Context, id, table string) ([]string, error) {
	rows, err := p.query(ctx, id, "SELECT * FROM "+table+" ORDER BY id", nil)
	if err != nil {
		return nil, err
	}
	var had []string
	for _, r := range rows {
		name, _ := r["name"].(string)
		had = append(had, name)
	}
	return had, nil
}

// applyOne runs a migration and records it, in one transaction: a lost answer is
// followed by a look at the record, and the record's names are unique, so that it can't
// happen twice.
func (p *preparing) applyOne(ctx context.Context, id, table string, m deploy.Migration) error {
	record := "INSERT INTO " + table + " (name) VALUES ('" + strings.ReplaceAll(m.Name, "'", "''") + "');"
	look := func(ctx context.Context) (json.RawMessage, error) {
		had, err := p.applied(ctx, id, table)
		if err != nil || !slices.Contains(had, m.Name) {
			return nil, err
		}
		return json.RawMessage(`[{"results":[],"success":true}]`), nil
	}
	_, err := p.query(ctx, id, m.SQL+"\n"+record, look)
	if err != nil && codeOf(err) != 0 && strings.Contains(err.Error(), "UNIQUE") {
		// A try whose answer was lost came through after it was looked for.
		if had, errLook := p.applied(ctx, id, table); errLook == nil && slices.Contains(had, m.Name) {
			return nil
		}
	}
	return err
}

// migrationFailed names the file, the statement where it is known, and the API's words.
func (p *preparing) migrationFailed(d deploy.Database, m deploy.Migration, applied []string, at *statement, err error) error {
	e := deploy.AsError(err)
	if e.Code != deploy.CodeAPIRefused && e.Code != deploy.CodeMigrationFailed {
		return err // about the moment or the account, not about the file
	}
	before := "none of this deployment's migrations before it was applied"
	if len(applied) > 0 {
		before = strings.Join(applied, ", ") + " before it stays applied"
	}
	where, words := m.File, ""
	switch {
	case at != nil:
		line, which := at.place(e.Message)
		where, words = m.File+":"+itoa(line), " "+which
	case unfinished(m.SQL):
		words = ", as its last statement does not end with a semicolon"
	}
	return deploy.Errorf(deploy.CodeMigrationFailed,
		"Correct the file that the message names and deploy again: it was rolled back as a whole, and the migrations after it have not run. The Worker that was live before still is.",
		"the migration %s of the database %s failed%s (%s): %s", where, nonEmpty(d.Name, d.Binding), words, before, e.Message)
}

// query runs statements on a database and gives the rows of the first. Repeating those
// that only read, or make what is not there yet, does no harm; for others look tells
// whether they have happened.
func (p *preparing) query(ctx context.Context, id, sql string, look func(context.Context) (json.RawMessage, error)) ([]map[string]any, error) {
	t := try{doing: doingMigrate, timeout: p.c.cfg.UploadTimeout, repeat: true, look: look}
	result, err := p.c.rest(ctx, p.acct, t, http.MethodPost, "/d1/database/"+id+"/query", nil, map[string]string{"sql": sql})
	if err != nil {
		return nil, err
	}
	var out []struct {
		Results []map[string]any `json:"results"`
		Success bool             `json:"success"`
	}
	if json.Unmarshal(result, &out) != nil || len(out) == 0 {
		return nil, missing(doingMigrate, "results")
	}
	return out[0].Results, nil
}
