package cloudflare_test

import (
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

//go:embed testdata/assets.json
var assetVectors []byte

//go:embed testdata/mime.json
var mimeVectors []byte

func TestAssetHashIsThatOfNodeAndItsBLAKE3(t *testing.T) {
	var rows []struct {
		Path, Content, Ext, Hash string
		Repeat                   *struct {
			Text  string
			Times int
		}
	}
	if err := json.Unmarshal(assetVectors, &rows); err != nil || len(rows) < 10 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, r := range rows {
		content, err := base64.StdEncoding.DecodeString(r.Content)
		if err != nil {
			t.Fatal(err)
		}
		if r.Repeat != nil {
			content = []byte(strings.Repeat(r.Repeat.Text, r.Repeat.Times))
		}
		if got := cloudflare.Extension(r.Path); got != r.Ext {
			t.Errorf("%s: extension %q, want %q", r.Path, got, r.Ext)
		}
		if got := cloudflare.AssetHash(deploy.Asset{Path: r.Path, Content: content}); got != r.Hash {
			t.Errorf("%s: hash %s, want %s", r.Path, got, r.Hash)
		}
	}
}

func TestMediaTypesAreThoseOfMime4(t *testing.T) {
	var want map[string]string
	if err := json.Unmarshal(mimeVectors, &want); err != nil || len(want) < 50 {
		t.Fatalf("%d rows, %v", len(want), err)
	}
	for ext, kind := range want {
		if strings.HasPrefix(kind, "text/") {
			kind += "; charset=utf-8"
		}
		for _, path := range []string{"/dir.x/file." + ext, "/F." + strings.ToUpper(ext)} {
			if got := cloudflare.MediaType(path); got != kind {
				t.Errorf("%s: %q, want %q", path, got, kind)
			}
		}
	}
	for _, path := range []string{"/x", "/.html", "/x.tsx", "/x.py", "/x.br", "/x.dat", "/x.cur", "/x."} {
		if got := cloudflare.MediaType(path); got != "application/null" {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func site() *deploy.Artifact {
	return &deploy.Artifact{
		Name: worker, CompatibilityDate: "2026-08-01",
		Assets: &deploy.Assets{
			Files: []deploy.Asset{
				{Path: "/index.html", Content: []byte("<h1>hi</h1>")},
				{Path: "/copy.html", Content: []byte("<h1>hi</h1>")},
				{Path: "/a.css", Content: []byte("a{}")},
				{Path: "/b.css", Content: []byte("b{}")},
				{Path: "/sp ace/ü.bin", Content: []byte{0, 1}},
			},
			Config: map[string]any{"not_found_handling": "single-page-application"},
		},
	}
}

// assetServer is the asset half of an API: it knows hashes, and completes when it has all.
type assetServer struct {
	t       *testing.T
	mu      sync.Mutex
	known   map[string]bool
	pending map[string]bool
	files   map[string]part
	size    int // files a bucket
	paths   []string
}

func (s *assetServer) session(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Manifest map[string]struct {
			Hash string
			Size int
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending, s.paths = map[string]bool{}, nil
	for path, row := range in.Manifest {
		s.paths = append(s.paths, fmt.Sprintf("%s %d", path, row.Size))
		if !s.known[row.Hash] {
			s.pending[row.Hash] = true
		}
	}
	slices.Sort(s.paths)
	if len(s.pending) == 0 {
		result(map[string]any{"jwt": "jwt_SECRET_complete", "buckets": [][]string{}})(w, r)
		return
	}
	buckets := [][]string{{}}
	for hash := range s.pending {
		if last := &buckets[len(buckets)-1]; len(*last) < s.size {
			*last = append(*last, hash)
		} else {
			buckets = append(buckets, []string{hash})
		}
	}
	result(map[string]any{"jwt": "jwt_SECRET_session", "buckets": buckets})(w, r)
}

func (s *assetServer) upload(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer jwt_SECRET_session" || r.URL.RawQuery != "base64=true" {
		s.t.Errorf("a bucket came with %q and %q", r.Header.Get("Authorization"), r.URL.RawQuery)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range parts(s.t, seen{Header: r.Header, Body: string(body)}) {
		_, rest, _ := strings.Cut(p.Header["Content-Disposition"], `name="`)
		hash, _, _ := strings.Cut(rest, `"`)
		if want := fmt.Sprintf(`form-data; name="%s"; filename="%s"`, hash, hash); p.Header["Content-Disposition"] != want || !s.pending[hash] {
			s.t.Errorf("part %v", p.Header)
		}
		delete(s.pending, hash)
		s.known[hash] = true
		s.files[hash] = p
	}
	if len(s.pending) > 0 {
		says(202, `{"success":true,"errors":null,"result":{}}`)(w, r)
		return
	}
	says(201, `{"success":true,"errors":[],"result":{"jwt":"jwt_SECRET_complete"}}`)(w, r)
}

func newAssetServer(t *testing.T, f *fake, size int) *assetServer {
	s := &assetServer{t: t, known: map[string]bool{}, files: map[string]part{}, size: size}
	f.on(routeSession, s.session)
	f.on(routeAssets, s.upload)
	return s
}

func TestAssetsOnly(t *testing.T) {
	for size := 1; size <= 5; size++ {
		f := newFake(t).happy()
		s := newAssetServer(t, f, size)
		up, sent := upload(t, f, deploy.Upload{Artifact: site()})
		if up.AssetsSent != 5 || up.AssetsKept != 0 {
			t.Errorf("uploaded %+v", up)
		}
		if diff := cmp.Diff([]string{"/a.css 3", "/b.css 3", "/copy.html 11", "/index.html 11", "/sp ace/ü.bin 2"}, s.paths); diff != "" {
			t.Errorf("manifest (-want +got):\n%s", diff)
		}
		if len(s.files) != 4 {
			t.Errorf("%d contents, want each once", len(s.files))
		}
		html := s.files[cloudflare.AssetHash(site().Assets.Files[0])]
		if html.Content != base64.StdEncoding.EncodeToString([]byte("<h1>hi</h1>")) || html.Header["Content-Type"] != "text/html; charset=utf-8" {
			t.Errorf("index.html came as %+v", html)
		}
		// the only part, in wrangler's order of keys (section 6.2)
		want := []part{{
			map[string]string{"Content-Disposition": `form-data; name="metadata"`},
			`{"assets":{"jwt":"jwt_SECRET_complete","config":{"not_found_handling":"single-page-application"}},"compatibility_date":"2026-08-01","compatibility_flags":[]}`,
		}}
		if diff := cmp.Diff(want, parts(t, sent)); diff != "" {
			t.Errorf("parts (-want +got):\n%s", diff)
		}
	}
}

func TestOnlyChangedAssetsAreSent(t *testing.T) {
	f := newFake(t).happy()
	newAssetServer(t, f, 2)
	c := f.newClient(t)
	a := site()
	for _, want := range []deploy.Uploaded{{AssetsSent: 5}, {AssetsKept: 5}, {AssetsSent: 1, AssetsKept: 4}} {
		up, err := c.Upload(t.Context(), account(), deploy.Upload{Artifact: a})
		if err != nil {
			t.Fatal(err)
		}
		if up.AssetsSent != want.AssetsSent || up.AssetsKept != want.AssetsKept {
			t.Errorf("uploaded %+v, want %+v", up, want)
		}
		if want.AssetsKept == 5 {
			a.Assets.Files[2].Content = []byte("a{color:red}")
		}
	}
}

func TestWorkerWithAssets(t *testing.T) {
	f := newFake(t).happy()
	newAssetServer(t, f, 10)
	a := hello()
	a.Assets = site().Assets
	a.Assets.Config = nil
	a.Bindings = []deploy.Binding{{"name": "ASSETS", "type": "assets"}}
	_, sent := upload(t, f, deploy.Upload{Artifact: a})
	got := parts(t, sent)
	want := `{"main_module":"index.js","bindings":[{"name":"ASSETS","type":"assets"}],"compatibility_date":"2026-08-01","compatibility_flags":[],` +
		`"keep_bindings":["secret_text","secret_key"],"assets":{"jwt":"jwt_SECRET_complete","config":{}}}`
	if len(got) != 2 || got[0].Content != want {
		t.Errorf("parts %+v", got)
	}
}

func TestAssetRefusals(t *testing.T) {
	session := func(v any) http.HandlerFunc { return result(v) }
	hash := cloudflare.AssetHash(site().Assets.Files[0])
	for _, tc := range []struct {
		name            string
		session, bucket http.HandlerFunc
		code            deploy.Code
		contains        string
	}{
		{"no jwt", session(map[string]any{"buckets": [][]string{}}), nil, deploy.CodeAPIBadResponse, "jwt"},
		{"a hash nobody has", session(map[string]any{"jwt": "j", "buckets": [][]string{{"ffff"}}}), nil, deploy.CodeAPIBadResponse, "requested file"},
		{"buckets of another shape", session(map[string]any{"jwt": "j", "buckets": []string{"x"}}), nil, deploy.CodeAPIBadResponse, "buckets"},
		{"no completion", session(map[string]any{"jwt": "jwt_SECRET_session", "buckets": [][]string{{hash}}}), result(map[string]any{}), deploy.CodeAPIBadResponse, "completion"},
		{"a bucket refused", session(map[string]any{"jwt": "jwt_SECRET_session", "buckets": [][]string{{hash}, {hash}, {hash}, {hash}}}), refusal(400, 10304, "too large"), deploy.CodeAPIRefused, "too large"},
		{"session refused", refusal(403, 10000, "no"), nil, deploy.CodeAPIRefused, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t).happy()
			f.on(routeSession, tc.session)
			f.on(routeAssets, tc.bucket)
			_, err := f.newClient(t).Upload(t.Context(), account(), deploy.Upload{Artifact: site()})
			wantError(t, err, tc.code, tc.contains)
			if n := f.count(routeUpload); n != 0 {
				t.Error("the Worker was uploaded all the same")
			}
		})
	}
}

func TestABucketIsTriedAgain(t *testing.T) {
	f := newFake(t).happy()
	s := newAssetServer(t, f, 1)
	var mu sync.Mutex
	failures := 2
	f.on(routeAssets, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		failures--
		fail := failures >= 0
		mu.Unlock()
		if fail {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		s.upload(w, r)
	})
	up, _ := upload(t, f, deploy.Upload{Artifact: site()})
	if up.AssetsSent != 5 || len(s.files) != 4 {
		t.Errorf("uploaded %+v, %d files", up, len(s.files))
	}
}
