package sandbox

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// namespace is a KV namespace; its content is in the account's stores.
type namespace struct {
	id, title string
	createdAt time.Time
}

const (
	maxKVBody = 100 << 20 // of a bulk write, as documented
	maxKVKeys = 10_000    // of a bulk write or delete
)

func (n *namespace) view() map[string]any {
	return map[string]any{"id": n.id, "title": n.title, "supports_url_encoding": true}
}

// namespaceOf finds the namespace that a request names, or 10013.
func (c *call) namespaceOf() (*namespace, error) {
	c.acct.mu.Lock()
	defer c.acct.mu.Unlock()
	if n := c.acct.namespace(c.args["namespace"]); n != nil {
		return n, nil
	}
	return nil, refuse(http.StatusNotFound, 10013, "get namespace: 'namespace not found'")
}

// namespace finds one by id; the caller holds account.mu.
func (a *account) namespace(id string) *namespace {
	for _, n := range a.namespaces {
		if n.id == id {
			return n
		}
	}
	return nil
}

func listNamespaces(c *call) (answer, error) {
	c.acct.mu.Lock()
	all := slices.Clone(c.acct.namespaces)
	c.acct.mu.Unlock()
	q := c.r.URL.Query()
	less := func(x, y *namespace) int { return strings.Compare(x.id, y.id) }
	if q.Get("order") == "title" {
		less = func(x, y *namespace) int { return strings.Compare(x.title, y.title) }
	}
	slices.SortFunc(all, less)
	if q.Get("direction") == "desc" {
		slices.Reverse(all)
	}
	out := []any{}
	for _, n := range all {
		out = append(out, n.view())
	}
	return paged(c, out, 20), nil
}

// paged cuts a list to the page that a request asks for.
func paged(c *call, all []any, perDefault int) answer {
	page, per := pageOf(c.r, perDefault)
	total := len(all)
	from := min(total, (page-1)*per)
	to := min(total, from+per)
	return answer{result: append([]any{}, all[from:to]...), info: &info{page, per, to - from, total, (total + per - 1) / per}}
}

func (c *call) titleOf() (string, error) {
	var in struct {
		Title string `json:"title"`
	}
	if err := c.body(&in); err != nil {
		return "", err
	}
	if in.Title == "" || len(in.Title) > 512 {
		return "", refuse(http.StatusBadRequest, 10019, "create namespace: 'title' must have between 1 and 512 characters")
	}
	return in.Title, nil
}

func postNamespace(c *call) (answer, error) {
	title, err := c.titleOf()
	if err != nil {
		return answer{}, err
	}
	a := c.acct
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.titled(title) != nil {
		return answer{}, refuse(http.StatusBadRequest, 10014, "create namespace: 'a namespace with this account ID and title already exists'")
	}
	n := &namespace{id: randomHex(16), title: title, createdAt: c.s.clock.Now()}
	a.namespaces = append(a.namespaces, n)
	return answer{result: n.view()}, nil
}

func (a *account) titled(title string) *namespace {
	for _, n := range a.namespaces {
		if n.title == title {
			return n
		}
	}
	return nil
}

func getNamespace(c *call) (answer, error) {
	n, err := c.namespaceOf()
	if err != nil {
		return answer{}, err
	}
	return answer{result: n.view()}, nil
}

func putNamespace(c *call) (answer, error) {
	title, err := c.titleOf()
	if err != nil {
		return answer{}, err
	}
	n, err := c.namespaceOf()
	if err != nil {
		return answer{}, err
	}
	a := c.acct
	a.mu.Lock()
	defer a.mu.Unlock()
	if other := a.titled(title); other != nil && other != n {
		return answer{}, refuse(http.StatusBadRequest, 10014, "rename namespace: 'a namespace with this account ID and title already exists'")
	}
	n.title = title
	return answer{result: n.view()}, nil
}

func deleteNamespace(c *call) (answer, error) {
	n, err := c.namespaceOf()
	if err != nil {
		return answer{}, err
	}
	a := c.acct
	a.mu.Lock()
	defer a.mu.Unlock()
	a.namespaces = slices.DeleteFunc(a.namespaces, func(o *namespace) bool { return o == n })
	return answer{result: nil}, nil
}

// kvFailed is the API's form of a store's refusal: the reason is in its status line.
func kvFailed(doing string, r *stored) error {
	return refuse(r.status, 10012, "%s: '%s'", doing, r.reason)
}

func listKeys(c *call) (answer, error) {
	n, err := c.namespaceOf()
	if err != nil {
		return answer{}, err
	}
	in := c.r.URL.Query()
	q := url.Values{"prefix": {in.Get("prefix")}, "key_count_limit": {"1000"}}
	if limit := in.Get("limit"); limit != "" {
		if v, err := strconv.Atoi(limit); err != nil || v < 10 || v > 1000 {
			return answer{}, refuse(http.StatusBadRequest, 10012, "list keys: 'invalid limit: use 10 to 1000'")
		}
		q.Set("key_count_limit", limit)
	}
	if cursor := in.Get("cursor"); cursor != "" {
		q.Set("cursor", cursor)
	}
	r, err := c.acct.ask(c.r.Context(), "kv", n.id, http.MethodGet, "/?"+q.Encode(), nil, nil)
	if err != nil {
		return answer{}, err
	}
	if r.status != http.StatusOK {
		return answer{}, kvFailed("list keys", r)
	}
	var page struct {
		Keys []struct {
			Name       string `json:"name"`
			Expiration int64  `json:"expiration,omitempty"`
			Metadata   string `json:"metadata,omitempty"`
		} `json:"keys"`
		Cursor string `json:"cursor"`
	}
	if err := json.Unmarshal(r.body, &page); err != nil {
		return answer{}, err
	}
	out := []any{}
	for _, k := range page.Keys {
		row := map[string]any{"name": k.Name}
		if k.Expiration != 0 {
			row["expiration"] = k.Expiration
		}
		if k.Metadata != "" {
			row["metadata"] = json.RawMessage(k.Metadata)
		}
		out = append(out, row)
	}
	return answer{result: out, info: map[string]any{"count": len(out), "cursor": page.Cursor}}, nil
}

// value asks for the value of the key that a request names.
func (c *call) value() (*stored, error) {
	n, err := c.namespaceOf()
	if err != nil {
		return nil, err
	}
	r, err := c.acct.ask(c.r.Context(), "kv", n.id, http.MethodGet, "/"+escapeKey(c.args["key"])+"?urlencoded=true", nil, nil)
	if err != nil {
		return nil, err
	}
	switch r.status {
	case http.StatusOK:
		return r, nil
	case http.StatusNotFound:
		return nil, refuse(http.StatusNotFound, 10009, "get: 'key not found'")
	}
	return nil, kvFailed("get", r)
}

// escapeKey writes a key as one path segment; "." and ".." would be cleaned away.
func escapeKey(key string) string { return url.PathEscape(key) }

func getValue(c *call) (answer, error) {
	r, err := c.value()
	if err != nil {
		return answer{}, err
	}
	c.w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = c.w.Write(r.body)
	return answer{written: true}, nil
}

func getMetadata(c *call) (answer, error) {
	r, err := c.value()
	if err != nil {
		return answer{}, err
	}
	if m := r.header.Get("Cf-Kv-Metadata"); m != "" {
		return answer{result: json.RawMessage(m)}, nil
	}
	return answer{result: nil}, nil
}

// pair is one key of a write.
type pair struct {
	Key           string          `json:"key"`
	Value         string          `json:"value"`
	Expiration    int64           `json:"expiration"`
	ExpirationTTL int64           `json:"expiration_ttl"`
	Metadata      json.RawMessage `json:"metadata"`
	Base64        bool            `json:"base64"`
	raw           []byte
}

// check holds a pair against what a namespace takes, and puts its metadata on one line:
// it travels in a header.
func (p *pair) check() error {
	if p.Key == "" || p.Key == "." || p.Key == ".." || len(p.Key) > 512 {
		return refuse(http.StatusBadRequest, 10022, "put: 'a key must have 1 to 512 bytes and not be . or ..'")
	}
	var line bytes.Buffer
	if len(p.Metadata) > 0 && json.Compact(&line, p.Metadata) != nil {
		return refuse(http.StatusBadRequest, 10012, "put: 'metadata must be valid json'")
	}
	p.Metadata = line.Bytes()
	return nil
}

// putPair writes a pair that was checked.
func (c *call) putPair(n *namespace, p pair) error {
	q := url.Values{"urlencoded": {"true"}}
	if p.Expiration != 0 {
		q.Set("expiration", strconv.FormatInt(p.Expiration, 10))
	}
	if p.ExpirationTTL != 0 {
		q.Set("expiration_ttl", strconv.FormatInt(p.ExpirationTTL, 10))
	}
	header := http.Header{}
	if len(p.Metadata) > 0 && string(p.Metadata) != "null" {
		header["CF-KV-Metadata"] = []string{string(p.Metadata)}
	}
	r, err := c.acct.ask(c.r.Context(), "kv", n.id, http.MethodPut, "/"+escapeKey(p.Key)+"?"+q.Encode(), header, p.raw)
	if err != nil {
		return err
	}
	if r.status != http.StatusOK {
		return kvFailed("put", r)
	}
	return nil
}

func (c *call) readAll(most int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(c.r.Body, most+1))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, 10001, "the body could not be read")
	}
	if int64(len(raw)) > most {
		return nil, refuse(http.StatusRequestEntityTooLarge, 10033, "the body is over %d bytes", most)
	}
	return raw, nil
}

func putValue(c *call) (answer, error) {
	n, err := c.namespaceOf()
	if err != nil {
		return answer{}, err
	}
	p := pair{Key: c.args["key"]}
	q := c.r.URL.Query()
	for _, f := range []struct {
		name string
		to   *int64
	}{{"expiration", &p.Expiration}, {"expiration_ttl", &p.ExpirationTTL}} {
		if v := q.Get(f.name); v != "" {
			if *f.to, err = strconv.ParseInt(v, 10, 64); err != nil {
				return answer{}, refuse(http.StatusBadRequest, 10012, "put: 'invalid %s'", f.name)
			}
		}
	}
	if p.raw, err = c.readAll(maxKVBody); err != nil {
		return answer{}, err
	}
	kind, params, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if kind == "multipart/form-data" {
		if err := p.fromForm(params["boundary"]); err != nil {
			return answer{}, err
		}
	}
	if err := p.check(); err != nil {
		return answer{}, err
	}
	return answer{}, c.putPair(n, p)
}

// fromForm reads a value with its metadata.
func (p *pair) fromForm(boundary string) error {
	mr := multipart.NewReader(strings.NewReader(string(p.raw)), boundary)
	p.raw = nil
	for {
		part, err := mr.NextPart()
		if err == io.EOF { //nolint:errorlint // as documented
			return nil
		}
		if err != nil {
			return refuse(http.StatusBadRequest, 10004, "put: 'the form is malformed'")
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return refuse(http.StatusBadRequest, 10004, "put: 'the form is malformed'")
		}
		switch part.FormName() {
		case "value":
			p.raw = content
		case "metadata":
			p.Metadata = content
		}
	}
}

func deleteValue(c *call) (answer, error) {
	n, err := c.namespaceOf()
	if err != nil {
		return answer{}, err
	}
	return answer{}, c.removeKey(n, c.args["key"])
}

func (c *call) removeKey(n *namespace, key string) error {
	r, err := c.acct.ask(c.r.Context(), "kv", n.id, http.MethodDelete, "/"+escapeKey(key)+"?urlencoded=true", nil, nil)
	if err != nil {
		return err
	}
	if r.status != http.StatusOK {
		return kvFailed("delete", r)
	}
	return nil
}

// bulk is what became of a bulk request.
func bulk(n int) answer {
	return answer{result: map[string]any{"successful_key_count": n, "unsuccessful_keys": []any{}}}
}

func putBulk(c *call) (answer, error) {
	n, err := c.namespaceOf()
	if err != nil {
		return answer{}, err
	}
	raw, err := c.readAll(maxKVBody)
	if err != nil {
		return answer{}, err
	}
	var pairs []pair
	if err := json.Unmarshal(raw, &pairs); err != nil {
		return answer{}, refuse(http.StatusBadRequest, 10012, "bulk put: 'the body is not a list of keys and values'")
	}
	if len(pairs) > maxKVKeys {
		return answer{}, refuse(http.StatusBadRequest, 10012, "bulk put: 'at most %d keys at a time'", maxKVKeys)
	}
	for i := range pairs {
		p := &pairs[i]
		if err := p.check(); err != nil {
			return answer{}, err
		}
		p.raw = []byte(p.Value)
		if p.Base64 {
			if p.raw, err = base64.StdEncoding.DecodeString(p.Value); err != nil {
				return answer{}, refuse(http.StatusBadRequest, 10012, "bulk put: 'the value of %q is not base64'", p.Key)
			}
		}
	}
	for _, p := range pairs {
		if err := c.putPair(n, p); err != nil {
			return answer{}, err
		}
	}
	return bulk(len(pairs)), nil
}

func deleteBulk(c *call) (answer, error) {
	n, err := c.namespaceOf()
	if err != nil {
		return answer{}, err
	}
	var keys []string
	raw, err := c.readAll(maxKVBody)
	if err != nil {
		return answer{}, err
	}
	if err := json.Unmarshal(raw, &keys); err != nil || len(keys) > maxKVKeys {
		return answer{}, refuse(http.StatusBadRequest, 10012, "bulk delete: 'the body is not a list of at most %d keys'", maxKVKeys)
	}
	for _, key := range keys {
		if err := c.removeKey(n, key); err != nil {
			return answer{}, err
		}
	}
	return bulk(len(keys)), nil
}

func getBulk(c *call) (answer, error) {
	n, err := c.namespaceOf()
	if err != nil {
		return answer{}, err
	}
	raw, err := c.readAll(1 << 20)
	if err != nil {
		return answer{}, err
	}
	r, err := c.acct.ask(c.r.Context(), "kv", n.id, http.MethodPost, "/bulk/get", nil, raw)
	if err != nil {
		return answer{}, err
	}
	if r.status != http.StatusOK {
		return answer{}, kvFailed("bulk get", r)
	}
	return answer{result: map[string]any{"values": json.RawMessage(r.body)}}, nil
}
