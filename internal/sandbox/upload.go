package sandbox

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"regexp"
	"strings"
)

// Limits of an upload: the runtime's own on the whole, and the free plan's on the
// gzipped code (wrangler-wire fact sheet, section 17).
const (
	maxUpload   = 64 << 20
	maxGzip     = 3 << 20
	maxParts    = 2000
	maxMetadata = 1 << 20
)

// metadata is what an upload says of itself; keys that are not here are taken and
// shown again, but change nothing in a sandbox.
type metadata struct {
	MainModule         string           `json:"main_module"`
	BodyPart           string           `json:"body_part"`
	Bindings           []binding        `json:"bindings"`
	CompatibilityDate  string           `json:"compatibility_date"`
	CompatibilityFlags []string         `json:"compatibility_flags"`
	KeepBindings       []string         `json:"keep_bindings"`
	KeepAssets         bool             `json:"keep_assets"`
	Annotations        map[string]any   `json:"annotations"`
	Migrations         *migration       `json:"migrations"`
	Containers         []map[string]any `json:"containers"`
	Exports            map[string]any   `json:"exports"`
	Assets             *struct {
		JWT    string         `json:"jwt"`
		Config map[string]any `json:"config"`
	} `json:"assets"`
	Logpush       *bool `json:"logpush"`
	Observability any   `json:"observability"`
	TailConsumers any   `json:"tail_consumers"`
	Tags          []any `json:"tags"`
}

// parseUpload reads the multipart body of an upload.
func parseUpload(contentType string, body io.Reader) (*metadata, []module, error) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return nil, nil, refuse(http.StatusBadRequest, 10004, "the upload is not multipart/form-data")
	}
	mr := multipart.NewReader(&limited{r: body, left: maxUpload}, params["boundary"])
	var md *metadata
	var modules []module
	for {
		part, err := mr.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, malformed(err)
		}
		if len(modules) >= maxParts {
			return nil, nil, refuse(http.StatusBadRequest, 10021, "the upload has more than %d modules", maxParts)
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return nil, nil, malformed(err)
		}
		if part.FormName() == "metadata" {
			if md, err = parseMetadata(content); err != nil {
				return nil, nil, err
			}
			continue
		}
		name := strings.TrimPrefix(part.FormName(), "./")
		if name == "" {
			return nil, nil, refuse(http.StatusBadRequest, 10021, "the upload has a part without a name")
		}
		modules = append(modules, module{name: name, mime: part.Header.Get("Content-Type"), content: content})
	}
	if md == nil {
		return nil, nil, refuse(http.StatusBadRequest, 10021, "the upload has no metadata part")
	}
	return md, modules, nil
}

var errTooLarge = errors.New("too large")

func malformed(err error) error {
	if errors.Is(err, errTooLarge) {
		return refuse(http.StatusRequestEntityTooLarge, 10027, "Your Worker exceeded the size limit of 64 MiB")
	}
	return refuse(http.StatusBadRequest, 10004, "the upload's multipart body is malformed: %v", err)
}

func parseMetadata(raw []byte) (*metadata, error) {
	if len(raw) > maxMetadata {
		return nil, refuse(http.StatusBadRequest, 10004, "the metadata part is over %d bytes", maxMetadata)
	}
	var md metadata
	if err := json.Unmarshal(raw, &md); err != nil {
		return nil, refuse(http.StatusBadRequest, 10004, "the metadata part is not JSON: %v", err)
	}
	md.MainModule = strings.TrimPrefix(md.MainModule, "./")
	return &md, nil
}

// limited ends a body that is too large with an error, not with a quiet cut.
type limited struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLarge
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

var dateForm = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}$`)

// newVersion makes a version of what was uploaded. before is the version whose
// bindings may be inherited or kept; nil: none. It boots nothing.
func (a *account) newVersion(sc *script, md *metadata, modules []module, before *version) (*version, error) {
	v := &version{
		owner: a, id: uuid(), createdAt: a.s.clock.Now(), main: md.MainModule, date: md.CompatibilityDate, flags: md.CompatibilityFlags,
		annotations: md.Annotations, source: "wrangler", etag: randomHex(32),
	}
	if v.flags == nil {
		v.flags = []string{}
	}
	if err := refuseUnsupported(md); err != nil {
		return nil, err
	}
	if err := checkTags(md.Tags); err != nil {
		return nil, err
	}
	if v.date != "" && !dateForm.MatchString(v.date) {
		return nil, refuse(http.StatusBadRequest, 10021, "compatibility_date %q is not a date", v.date)
	}
	code := 0
	for _, m := range modules {
		if strings.HasPrefix(m.mime, "application/source-map") {
			continue // read by people and tools, not by the runtime
		}
		v.modules = append(v.modules, m)
		code += len(m.content)
	}
	if err := checkSize(v.modules, code); err != nil {
		return nil, err
	}
	if v.main == "" && len(v.modules) > 0 {
		return nil, refuse(http.StatusBadRequest, 10021, "the metadata names no main_module")
	}
	if err := a.resolveAssets(v, sc.name, md, before); err != nil {
		return nil, err
	}
	if v.main == "" && v.assets == nil {
		return nil, refuse(http.StatusBadRequest, 10021, "the upload has neither modules nor assets")
	}
	var err error
	if v.classes, err = sc.migrated(md); err != nil {
		return nil, err
	}
	if v.bindings, err = resolveBindings(md, before); err != nil {
		return nil, err
	}
	if err := a.keepsBound(sc, v); err != nil {
		return nil, err
	}
	return v, a.checkBindings(sc.name, v)
}

// checkBindings holds bindings against what the account has.
func (a *account) checkBindings(script string, v *version) error {
	for i, b := range v.bindings {
		if b.str("type") == "durable_object_namespace" {
			if err := a.objectBinding(script, v, b); err != nil {
				return err
			}
			continue
		}
		kept, err := a.resourceBinding(script, b)
		if err != nil {
			return err
		}
		v.bindings[i] = kept
	}
	return nil
}

// resourceBinding gives a binding as the API shows it, or says that what it names is
// not there; the codes are the live API's.
func (a *account) resourceBinding(script string, b binding) (binding, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch b.str("type") {
	case "kv_namespace":
		if a.namespace(b.str("namespace_id")) == nil {
			return nil, refuse(http.StatusBadRequest, 10041, "KV namespace '%s' not found", b.str("namespace_id"))
		}
	case "d1":
		id := cmp.Or(b.str("id"), b.str("database_id"))
		if d := a.database(id); d == nil || d.id != id {
			return nil, refuse(http.StatusBadRequest, 10181, "D1 binding '%s' references database '%s' which was not found", b.str("name"), id)
		}
		return binding{"name": b["name"], "type": "d1", "id": id, "database_id": id}, nil
	case "service":
		target := a.scripts[b.str("service")]
		if b.str("service") != script && (target == nil || target.deployed() == nil) {
			return nil, refuse(http.StatusBadRequest, 10144, "the service binding %q names the Worker %q, which is not on this account", b.str("name"), b.str("service"))
		}
	case "queue":
		if a.queueNamed(b.str("queue_name")) == nil {
			return nil, refuse(http.StatusBadRequest, 11000, "Queue '%s' does not exist (binding %q)", b.str("queue_name"), b.str("name"))
		}
	}
	return b, nil
}

// refuseUnsupported names what a sandbox has not got, instead of leaving it out quietly.
func refuseUnsupported(md *metadata) error {
	if md.BodyPart != "" {
		return refuse(http.StatusBadRequest, 10021, "the sandbox does not run service-worker format (body_part); use ES modules")
	}
	if len(md.Containers) > 0 {
		return refuse(http.StatusForbidden, 10000, "containers are not available on a temporary account")
	}
	for _, b := range md.Bindings {
		switch t := b.str("type"); t {
		case "plain_text", "json", "secret_text", "inherit", "service", "version_metadata", "assets",
			"kv_namespace", "d1", "queue", "durable_object_namespace":
		case "hyperdrive":
			return refuse(http.StatusBadRequest, 10157, "the sandbox has no Hyperdrive (binding %q): it would need a database of yours", b.str("name"))
		case "":
			return refuse(http.StatusBadRequest, 10021, "the binding %q has no type", b.str("name"))
		default:
			return refuse(http.StatusBadRequest, 10021, "the sandbox has no %s bindings (binding %q); see docs/sandbox.md for those that it has", t, b.str("name"))
		}
		if b.str("name") == "" {
			return refuse(http.StatusBadRequest, 10021, "a binding of type %s has no name", b.str("type"))
		}
	}
	return nil
}

func checkSize(modules []module, code int) error {
	if code <= maxGzip {
		return nil // can't be more when compressed
	}
	n := &counter{}
	gz := gzip.NewWriter(n)
	for _, m := range modules {
		_, _ = gz.Write(m.content)
	}
	_ = gz.Close()
	if n.n > maxGzip {
		return refuse(http.StatusRequestEntityTooLarge, 10027, "Your Worker exceeded the size limit of 3 MiB. Please upgrade to a paid plan to deploy Workers up to 10 MiB.")
	}
	return nil
}

type counter struct{ n int }

// Write counts.
func (c *counter) Write(p []byte) (int, error) { c.n += len(p); return len(p), nil }

// resolveBindings gives the bindings of a version: inherited ones as they were, and
// those kept whose type the upload names.
func resolveBindings(md *metadata, before *version) ([]binding, error) {
	var old []binding
	if before != nil {
		old = before.bindings
	}
	find := func(name string) binding {
		for _, b := range old {
			if b.str("name") == name {
				return b
			}
		}
		return nil
	}
	out := []binding{}
	have := map[string]bool{}
	for _, b := range md.Bindings {
		name := b.str("name")
		if have[name] {
			return nil, refuse(http.StatusBadRequest, 10021, "two bindings are named %q", name)
		}
		have[name] = true
		if b.str("type") == "inherit" {
			from := b.str("old_name")
			if from == "" {
				from = name
			}
			kept := find(from)
			if kept == nil {
				return nil, refuse(http.StatusBadRequest, 10057, "the binding %q can't be inherited: the Worker has none of that name", name)
			}
			b = kept
		}
		out = append(out, b)
	}
	for _, b := range old {
		for _, t := range md.KeepBindings {
			if b.str("type") == t && !have[b.str("name")] {
				have[b.str("name")] = true
				out = append(out, b)
			}
		}
	}
	return out, nil
}

// stringify gives a JSON text of a value.
func stringify(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Sprintf("%q", fmt.Sprint(v))
	}
	return strings.TrimSpace(b.String())
}
