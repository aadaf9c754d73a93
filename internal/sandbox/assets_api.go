package sandbox

import (
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Limits of a temporary account's static files (wrangler-wire fact sheet, section 21).
const (
	maxAssetFiles = 1000
	maxAssetBytes = 5 << 20
	bucketSize    = 50 // files asked for in one request
)

// blob is the content of a static file. An empty mime means no Content-Type.
type blob struct {
	mime    string
	content []byte
}

// assetEntry is one line of a manifest.
type assetEntry struct {
	Hash string `json:"hash"`
	Size int64  `json:"size"`
}

// assetSession is one upload of static files.
type assetSession struct {
	acct     *account
	script   string
	manifest map[string]assetEntry
	missing  map[string]bool
	made     time.Time
}

// assetSet is the static files of a version.
type assetSet struct {
	files     map[string]string // path to hash
	config    map[string]any
	redirects []redirectRule
	headers   []headerRule
}

// token makes something that looks like a JWT: only its middle is ever read.
func token(exp time.Time) string {
	payload := base64.RawURLEncoding.EncodeToString([]byte(stringify(map[string]any{"exp": exp.Unix()})))
	return randomText(24) + "." + payload + "." + randomText(43)
}

// postAssetSession takes a manifest and asks for the files that it has not got.
func postAssetSession(c *call) (answer, error) {
	var in struct {
		Manifest map[string]assetEntry `json:"manifest"`
	}
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	if len(in.Manifest) > maxAssetFiles {
		return answer{}, refuse(http.StatusBadRequest, 10021, "%d assets are more than the %d that a temporary account takes", len(in.Manifest), maxAssetFiles)
	}
	up := &assetSession{acct: c.acct, script: c.args["script"], manifest: in.Manifest, missing: map[string]bool{}, made: c.s.clock.Now()}
	c.acct.mu.Lock()
	for path, e := range in.Manifest {
		if e.Size > maxAssetBytes {
			c.acct.mu.Unlock()
			return answer{}, refuse(http.StatusBadRequest, 10021, "the asset %s has %d bytes, over the %d that a temporary account takes", path, e.Size, maxAssetBytes)
		}
		if !strings.HasPrefix(path, "/") || e.Hash == "" {
			c.acct.mu.Unlock()
			return answer{}, refuse(http.StatusBadRequest, 10021, "the manifest's entry %q is malformed", path)
		}
		if _, have := c.acct.blobs[e.Hash]; !have {
			up.missing[e.Hash] = true
		}
	}
	c.acct.mu.Unlock()
	jwt := token(c.s.clock.Now().Add(time.Hour))
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if len(up.missing) == 0 {
		c.s.manifests[jwt] = up
		return answer{result: map[string]any{"jwt": jwt, "buckets": []any{}}}, nil
	}
	c.s.uploads[jwt] = up
	buckets := slices.Collect(slices.Chunk(slices.Sorted(maps.Keys(up.missing)), bucketSize))
	return answer{result: map[string]any{"jwt": jwt, "buckets": buckets}}, nil
}

// postAssets takes files of a session; its token is the session's, not the account's.
func postAssets(c *call) (answer, error) {
	jwt, _ := bearer(c.r)
	c.s.mu.Lock()
	up := c.s.uploads[jwt]
	c.s.mu.Unlock()
	if up == nil || up.acct.id != c.args["account"] || up.acct.over() {
		return answer{}, errAuth(http.StatusUnauthorized)
	}
	files, err := parseAssets(c.r)
	if err != nil {
		return answer{}, err
	}
	for hash := range files {
		if !up.wants(hash) {
			return answer{}, refuse(http.StatusBadRequest, 10021, "the file %q is not in the session's manifest", hash)
		}
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	up.acct.mu.Lock()
	defer up.acct.mu.Unlock()
	for hash, b := range files {
		up.acct.blobs[hash] = b
		delete(up.missing, hash)
	}
	if len(up.missing) > 0 {
		return answer{status: http.StatusAccepted, result: map[string]any{}}, nil
	}
	done := token(c.s.clock.Now().Add(time.Hour))
	c.s.manifests[done] = up
	return answer{status: http.StatusCreated, result: map[string]any{"jwt": done}}, nil
}

func (up *assetSession) wants(hash string) bool {
	for _, e := range up.manifest {
		if e.Hash == hash {
			return true
		}
	}
	return false
}

// parseAssets reads the multipart body of a bulk upload; contents are base64.
func parseAssets(r *http.Request) (map[string]blob, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		return nil, refuse(http.StatusBadRequest, 10004, "the upload is not multipart/form-data")
	}
	out := map[string]blob{}
	mr := multipart.NewReader(&limited{r: r.Body, left: maxUpload}, params["boundary"])
	for {
		part, err := mr.NextRawPart()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, malformed(err)
		}
		raw, err := io.ReadAll(part)
		if err != nil {
			return nil, malformed(err)
		}
		if r.URL.Query().Get("base64") == "true" {
			if raw, err = base64.StdEncoding.DecodeString(string(raw)); err != nil {
				return nil, refuse(http.StatusBadRequest, 10004, "the file %q is not base64", part.FormName())
			}
		}
		if len(raw) > maxAssetBytes || len(out) >= maxAssetFiles {
			return nil, refuse(http.StatusRequestEntityTooLarge, 10021, "the upload is over a limit of temporary accounts")
		}
		kind := part.Header.Get("Content-Type")
		if kind == "application/null" {
			kind = ""
		}
		out[part.FormName()] = blob{mime: kind, content: raw}
	}
}

// resolveAssets gives a version its static files: those of the session that the
// metadata's token completes, or the ones before.
func (a *account) resolveAssets(v *version, script string, md *metadata, before *version) error {
	if md.Assets == nil {
		if md.KeepAssets && before != nil {
			v.assets = before.assets
		}
		return nil
	}
	a.s.mu.Lock()
	up := a.s.manifests[md.Assets.JWT]
	a.s.mu.Unlock()
	if md.Assets.JWT == "" && before != nil && before.assets != nil {
		v.assets = &assetSet{files: before.assets.files}
	} else {
		if up == nil || up.acct != a || up.script != script {
			return refuse(http.StatusBadRequest, 10021, "the assets' completion token is not valid")
		}
		v.assets = &assetSet{files: map[string]string{}}
		for path, e := range up.manifest {
			v.assets.files[path] = e.Hash
		}
	}
	v.assets.config = md.Assets.Config
	return v.assets.parseRules()
}
