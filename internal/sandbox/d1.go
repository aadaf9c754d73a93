package sandbox

import (
	"crypto/md5" //nolint:gosec // the API's own checksum of an import
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// database is a D1 database; its content is in the account's stores.
type database struct {
	id, name  string
	createdAt time.Time
	// imports are the files on their way, by name; done says what an import came to.
	imports map[string]*sqlImport
}

type sqlImport struct {
	etag    string
	content []byte
	result  map[string]any
}

const (
	maxDatabases = 1         // of a temporary account (wrangler-wire fact sheet, section 21)
	maxSQL       = 100 << 20 // of a file, as large as the database may be
	maxStatement = 100_000   // bytes, D1's documented limit
)

// database finds one by id or name; the caller holds account.mu.
func (a *account) database(ref string) *database {
	for _, d := range a.databases {
		if d.id == ref || d.name == ref {
			return d
		}
	}
	return nil
}

func (c *call) databaseOf() (*database, error) {
	c.acct.mu.Lock()
	defer c.acct.mu.Unlock()
	if d := c.acct.database(c.args["database"]); d != nil {
		return d, nil
	}
	return nil, refuse(http.StatusNotFound, 7404, "The database %s could not be found", c.args["database"])
}

func (d *database) view() map[string]any {
	return map[string]any{"uuid": d.id, "name": d.name, "version": "production", "created_at": stamp(d.createdAt)}
}

func listDatabases(c *call) (answer, error) {
	c.acct.mu.Lock()
	defer c.acct.mu.Unlock()
	out := []any{}
	for _, d := range c.acct.databases {
		if want := c.r.URL.Query().Get("name"); want == "" || strings.Contains(d.name, want) {
			out = append(out, d.view())
		}
	}
	return paged(c, out, 100), nil
}

func postDatabase(c *call) (answer, error) {
	var in struct {
		Name string `json:"name"`
	}
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	if in.Name == "" || len(in.Name) > 64 {
		return answer{}, refuse(http.StatusBadRequest, 7400, "Invalid property: name => must have 1 to 64 characters")
	}
	a := c.acct
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.ContainsFunc(a.databases, func(d *database) bool { return d.name == in.Name }) {
		return answer{}, refuse(http.StatusBadRequest, 7502, "A database with that name already exists")
	}
	if len(a.databases) >= maxDatabases {
		return answer{}, refuse(http.StatusForbidden, 7406, "You have reached the maximum number of D1 databases for this account: %d", maxDatabases)
	}
	d := &database{id: uuid(), name: in.Name, createdAt: c.s.clock.Now(), imports: map[string]*sqlImport{}}
	a.databases = append(a.databases, d)
	return answer{result: d.view()}, nil
}

func getDatabase(c *call) (answer, error) {
	d, err := c.databaseOf()
	if err != nil {
		return answer{}, err
	}
	view := d.view()
	view["running_in_region"], view["read_replication"] = "WEUR", map[string]any{"mode": "disabled"}
	rows, err := c.runSQL(d, false, sqlQuery{SQL: "SELECT count(*) AS n FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_cf_%'"})
	if err != nil {
		return answer{}, err
	}
	view["num_tables"], view["file_size"] = rows.first("n"), rows[0].Meta["size_after"]
	return answer{result: view}, nil
}

func deleteDatabase(c *call) (answer, error) {
	d, err := c.databaseOf()
	if err != nil {
		return answer{}, err
	}
	c.acct.mu.Lock()
	defer c.acct.mu.Unlock()
	c.acct.databases = slices.DeleteFunc(c.acct.databases, func(o *database) bool { return o == d })
	return answer{result: nil}, nil
}

// sqlQuery is one statement with its values.
type sqlQuery struct {
	SQL    string `json:"sql"`
	Params []any  `json:"params,omitempty"`
}

// sqlResult is what a statement came to, as the store tells it.
type sqlResult struct {
	Success bool            `json:"success"`
	Results json.RawMessage `json:"results"`
	Meta    map[string]any  `json:"meta"`
}

type sqlResults []sqlResult

// first gives a column of the first row of the first statement.
func (r sqlResults) first(column string) any {
	var rows []map[string]any
	if len(r) == 0 || json.Unmarshal(r[0].Results, &rows) != nil || len(rows) == 0 {
		return nil
	}
	return rows[0][column]
}

// runSQL runs statements in one transaction: all of them or none.
func (c *call) runSQL(d *database, raw bool, queries ...sqlQuery) (sqlResults, error) {
	body, err := json.Marshal(queries)
	if err != nil {
		return nil, err
	}
	target := "/query"
	if raw {
		target += "?resultsFormat=ROWS_AND_COLUMNS"
	}
	r, err := c.acct.ask(c.r.Context(), "d1", d.id, http.MethodPost, target, nil, body)
	if err != nil {
		return nil, err
	}
	var failed struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(r.body, &failed) == nil && failed.Error != "" {
		return nil, refuse(http.StatusBadRequest, 7500, "%s", failed.Error)
	}
	var out sqlResults
	if err := json.Unmarshal(r.body, &out); err != nil || len(out) == 0 {
		return nil, fmt.Errorf("the D1 store answered %d: %.100s", r.status, r.body)
	}
	return out, nil
}

// queriesOf reads the statements of a request: the server splits them.
func (c *call) queriesOf() ([]sqlQuery, error) {
	var in struct {
		sqlQuery
		Batch []sqlQuery `json:"batch"`
	}
	raw, err := c.readAll(maxSQL)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, refuse(http.StatusBadRequest, 7400, "The request is malformed: the body is not JSON with sql")
	}
	if len(in.Batch) > 0 {
		return in.Batch, nil
	}
	return statements(in.SQL, in.Params)
}

func statements(sql string, params []any) ([]sqlQuery, error) {
	var out []sqlQuery
	for _, s := range splitSQL(sql) {
		if len(s) > maxStatement {
			return nil, refuse(http.StatusBadRequest, 7500, "statement too long: SQLITE_TOOBIG")
		}
		out = append(out, sqlQuery{SQL: s})
	}
	switch {
	case len(out) == 0:
		return nil, refuse(http.StatusBadRequest, 7500, "No SQL statements detected.")
	case len(params) > 0 && len(out) > 1:
		return nil, refuse(http.StatusBadRequest, 7400, "The request is malformed: params go with one statement")
	case len(params) > 0:
		out[0].Params = params
	}
	return out, nil
}

func (c *call) query(raw bool) (answer, error) {
	d, err := c.databaseOf()
	if err != nil {
		return answer{}, err
	}
	queries, err := c.queriesOf()
	if err != nil {
		return answer{}, err
	}
	out, err := c.runSQL(d, raw, queries...)
	return answer{result: out}, err
}

func postQuery(c *call) (answer, error) { return c.query(false) }
func postRaw(c *call) (answer, error)   { return c.query(true) }

// postImport is the three steps of bringing in a file of SQL.
func postImport(c *call) (answer, error) {
	d, err := c.databaseOf()
	if err != nil {
		return answer{}, err
	}
	var in struct {
		Action   string `json:"action"`
		Etag     string `json:"etag"`
		Filename string `json:"filename"`
		Bookmark string `json:"current_bookmark"`
	}
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	switch in.Action {
	case "init":
		name := randomHex(16) + ".sql"
		c.acct.mu.Lock()
		d.imports[name] = &sqlImport{etag: in.Etag}
		c.acct.mu.Unlock()
		return answer{result: map[string]any{
			"success": true, "messages": []string{}, "filename": name,
			"upload_url": "http://" + c.r.Host + "/d1-files/" + c.acct.id + "/" + d.id + "/" + name,
		}}, nil
	case "ingest":
		return c.ingest(d, in.Filename, in.Etag)
	case "poll":
		c.acct.mu.Lock()
		defer c.acct.mu.Unlock()
		if im := d.imports[in.Bookmark]; im != nil && im.result != nil {
			return answer{result: im.result}, nil
		}
		return answer{result: map[string]any{"success": false, "status": "error", "type": "import", "messages": []string{}, "error": "Not currently importing anything."}}, nil
	}
	return answer{}, refuse(http.StatusBadRequest, 7400, "The request is malformed: action must be init, ingest or poll")
}

// ingest runs an uploaded file, all of it or nothing.
func (c *call) ingest(d *database, name, etag string) (answer, error) {
	c.acct.mu.Lock()
	im := d.imports[name]
	c.acct.mu.Unlock()
	if im == nil || im.content == nil || im.etag != etag {
		return answer{}, refuse(http.StatusBadRequest, 7400, "The request is malformed: there is no uploaded file of that name and etag")
	}
	queries, err := statements(string(im.content), nil)
	if err != nil {
		return answer{}, err
	}
	result := map[string]any{"success": true, "type": "import", "messages": []string{}, "at_bookmark": name}
	out, err := c.runSQL(d, false, queries...)
	if err != nil {
		result["success"], result["status"], result["error"] = false, "error", err.Error()
	} else {
		read, written := 0.0, 0.0
		for _, r := range out {
			n, _ := r.Meta["rows_read"].(float64)
			w, _ := r.Meta["rows_written"].(float64)
			read, written = read+n, written+w
		}
		result["status"] = "complete"
		result["result"] = map[string]any{
			"num_queries": len(queries), "final_bookmark": name,
			"meta": map[string]any{"duration": 0, "rows_read": read, "rows_written": written, "size_after": out[len(out)-1].Meta["size_after"], "changed_db": true},
		}
	}
	c.acct.mu.Lock()
	im.content, im.result = nil, result
	c.acct.mu.Unlock()
	return answer{result: result}, nil
}

// postExport writes a database out as SQL.
func postExport(c *call) (answer, error) {
	d, err := c.databaseOf()
	if err != nil {
		return answer{}, err
	}
	var in struct {
		Options struct {
			NoSchema bool     `json:"no_schema"`
			NoData   bool     `json:"no_data"`
			Tables   []string `json:"tables"`
		} `json:"dump_options"`
	}
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	params := []any{in.Options.NoSchema, in.Options.NoData}
	for _, t := range in.Options.Tables {
		params = append(params, t)
	}
	out, err := c.runSQL(d, false, sqlQuery{SQL: "PRAGMA miniflare_d1_export(?,?,?);", Params: params})
	if err != nil {
		return answer{}, err
	}
	var lines [][]string
	if err := json.Unmarshal(out[0].Results, &lines); err != nil || len(lines) == 0 {
		return answer{}, refuse(http.StatusInternalServerError, 7500, "the export could not be read")
	}
	name := randomHex(16) + ".sql"
	c.acct.mu.Lock()
	d.imports[name] = &sqlImport{content: []byte(strings.Join(lines[0], "\n") + "\n")}
	c.acct.mu.Unlock()
	return answer{result: map[string]any{
		"success": true, "type": "export", "status": "complete", "messages": []string{}, "at_bookmark": name,
		"result": map[string]any{"filename": name, "signed_url": "http://" + c.r.Host + "/d1-files/" + c.acct.id + "/" + d.id + "/" + name},
	}}, nil
}

// serveFile takes the file of an import, or gives the one of an export. The address,
// with its random name, is all that is asked for: as a signed address is.
func (s *Sandbox) serveFile(w http.ResponseWriter, r *http.Request, path string) {
	parts := strings.Split(path, "/")
	s.mu.Lock()
	var a *account
	if len(parts) == 3 {
		a = s.accounts[parts[0]]
	}
	s.mu.Unlock()
	if a == nil || a.over() {
		http.Error(w, "there is no such file", http.StatusNotFound)
		return
	}
	a.mu.Lock()
	d := a.database(parts[1])
	var im *sqlImport
	if d != nil {
		im = d.imports[parts[2]]
	}
	a.mu.Unlock()
	switch {
	case im == nil:
		http.Error(w, "there is no such file", http.StatusNotFound)
	case r.Method == http.MethodPut:
		takeFile(w, r, a, im)
	default:
		a.mu.Lock()
		content := im.content
		a.mu.Unlock()
		w.Header().Set("Content-Type", "application/sql")
		_, _ = w.Write(content)
	}
}

func takeFile(w http.ResponseWriter, r *http.Request, a *account, im *sqlImport) {
	c := &call{r: r}
	content, err := c.readAll(maxSQL)
	if err != nil {
		http.Error(w, "the file is too large", http.StatusRequestEntityTooLarge)
		return
	}
	sum := md5.Sum(content) //nolint:gosec // see above
	etag := hex.EncodeToString(sum[:])
	if etag != im.etag {
		http.Error(w, "the file is not the one that was announced", http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	im.content = content
	a.mu.Unlock()
	w.Header().Set("ETag", etag)
	w.WriteHeader(http.StatusOK)
}
