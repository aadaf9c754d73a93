package cloudflare_test

import (
	"errors"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// part is one part of a multipart body: its raw headers and its content.
type part struct {
	Header  map[string]string
	Content string
}

func parts(t *testing.T, s seen) []part {
	t.Helper()
	kind, params, err := mime.ParseMediaType(s.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		t.Fatalf("content type %q: %v", s.Header.Get("Content-Type"), err)
	}
	var out []part
	r := multipart.NewReader(strings.NewReader(s.Body), params["boundary"])
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		header := map[string]string{}
		for name, values := range p.Header {
			header[name] = strings.Join(values, "|")
		}
		out = append(out, part{header, string(content)})
	}
}

func upload(t *testing.T, f *fake, up deploy.Upload) (*deploy.Uploaded, seen) {
	t.Helper()
	got, err := f.newClient(t).Upload(t.Context(), account(), up)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range f.requests() {
		if s.Method == http.MethodPut {
			return got, s
		}
	}
	t.Fatal("nothing was uploaded")
	return nil, seen{}
}

func TestUploadSendsWhatWranglerSends(t *testing.T) {
	f := newFake(t).happy()
	a := hello()
	a.Modules = append(a.Modules,
		deploy.Module{Name: "./ab-hello.txt", Type: deploy.TypeText, Content: []byte("text")},
		deploy.Module{Name: `od"d` + "\n.wasm", Type: deploy.TypeWasm, Content: []byte("\x00asm")},
		deploy.Module{Name: "index.js.map", Type: deploy.TypeSourceMap, Content: []byte("{}")})
	up, sent := upload(t, f, deploy.Upload{Artifact: a})
	if up.VersionID != version || up.StartupMS != 7 {
		t.Errorf("uploaded %+v", up)
	}
	if sent.Path != scriptPath || sent.Query != "bindings_inherit=strict&excludeScript=true" {
		t.Errorf("sent to %s?%s", sent.Path, sent.Query)
	}
	if sent.Header.Get("Authorization") != "Bearer "+apiToken || sent.Header.Get("User-Agent") != "hourglass/test" || sent.Header.Get("Content-Length") == "0" {
		t.Errorf("headers %v", sent.Header)
	}
	want := []part{
		// verbatim from the fact sheet, section 6.2: a plain redeploy
		{
			map[string]string{"Content-Disposition": `form-data; name="metadata"`},
			`{"main_module":"index.js","bindings":[],"compatibility_date":"2026-08-01","compatibility_flags":[],"keep_bindings":["secret_text","secret_key"]}`,
		},
		{map[string]string{"Content-Disposition": `form-data; name="index.js"; filename="index.js"`, "Content-Type": "application/javascript+module"}, "export default {}"},
		{map[string]string{"Content-Disposition": `form-data; name="./ab-hello.txt"; filename="./ab-hello.txt"`, "Content-Type": "text/plain"}, "text"},
		{map[string]string{"Content-Disposition": `form-data; name="od%22d%0A.wasm"; filename="od%22d%0A.wasm"`, "Content-Type": "application/wasm"}, "\x00asm"},
		{map[string]string{"Content-Disposition": `form-data; name="index.js.map"; filename="index.js.map"`, "Content-Type": "application/source-map"}, "{}"},
	}
	if diff := cmp.Diff(want, parts(t, sent)); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
}

func TestUploadMetadataOfEverything(t *testing.T) {
	f := newFake(t).happy()
	a := hello()
	a.CompatibilityFlags = []string{"nodejs_compat"}
	a.Bindings = []deploy.Binding{{"name": "VAR_STR", "type": "plain_text", "text": "<s> & é"}, {"json": map[string]any{"a": []any{1, true, nil}}, "name": "VAR_OBJ", "type": "json"}}
	a.Metadata = map[string]any{
		"observability": map[string]any{"enabled": true}, "limits": map[string]any{"cpu_ms": 50}, "zz_unsafe": 1, "logpush": false,
		"code_update_strategy": map[string]any{"mode": "deferred", "max_delay": 300},
	}
	_, sent := upload(t, f, deploy.Upload{Artifact: a, Message: strings.Repeat("é", 80), Tag: "v1tag"})
	want := `{"main_module":"index.js","bindings":[{"name":"VAR_STR","text":"<s> & é","type":"plain_text"},{"json":{"a":[1,true,null]},"name":"VAR_OBJ","type":"json"}],` +
		`"compatibility_date":"2026-08-01","compatibility_flags":["nodejs_compat"],"code_update_strategy":{"max_delay":300,"mode":"deferred"},` +
		`"keep_bindings":["secret_text","secret_key"],"logpush":false,"limits":{"cpu_ms":50},` +
		`"annotations":{"workers/message":"` + strings.Repeat("é", 50) + `","workers/tag":"v1tag"},"observability":{"enabled":true},"zz_unsafe":1}`
	if diff := cmp.Diff(want, parts(t, sent)[0].Content); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
}

func TestUploadMetadataMayNotOverride(t *testing.T) {
	f := newFake(t).happy()
	a := hello()
	a.Metadata = map[string]any{"main_module": "other.js"}
	_, err := f.newClient(t).Upload(t.Context(), account(), deploy.Upload{Artifact: a})
	wantError(t, err, deploy.CodeConfigInvalid, "main_module")
	if len(f.requests()) != 0 {
		t.Error("something was sent")
	}
}

func TestUploadRefusals(t *testing.T) {
	stack := "Uncaught Error: boom\n  at index.js:5:3"
	for _, tc := range []struct {
		name     string
		answer   http.HandlerFunc
		code     deploy.Code
		contains string
		tries    int
	}{
		{"does not start", refusal(400, 10021, stack), deploy.CodeStartFailed, stack, 1},
		{"too large", refusal(413, 10027, "Your Worker exceeded the size limit"), deploy.CodeTooLarge, "10027", 1},
		{"too large without a code", refusal(413, 1, "large"), deploy.CodeTooLarge, "large", 1},
		{"no worker", refusal(404, 10007, "not found"), deploy.CodeAPIRefused, "10007", 1},
		{"inherit", refusal(400, 10057, "missing"), deploy.CodeAPIRefused, "10057", 1},
		{"durable objects", refusal(403, 10097, "kv-backed"), deploy.CodeNotSupported, "Durable", 1},
		{"success with an error's status", says(418, `{"success":true,"result":{}}`), deploy.CodeAPIRefused, "418", 1},
		{"false success with status 200", says(200, `{"success":false,"errors":null}`), deploy.CodeAPIRefused, "200", 1},
		{"no success", says(200, `{"result":{}}`), deploy.CodeAPIBadResponse, "succeeded", 1},
		{"wrong type", says(200, `{"success":true,"result":{"deployment_id":7}}`), deploy.CodeAPIBadResponse, "deployment_id", 1},
		{"401 by something between", says(401, "<html>who are you"), deploy.CodeAPIBadResponse, "401", 1},
		{"HTML", says(200, "<html>"), deploy.CodeAPIBadResponse, "not a JSON object", 5},
		{"500 every time", says(500, "{}"), deploy.CodeAPIBadResponse, "500", 5},
		{"429 every time", says(429, "{}"), deploy.CodeRateLimited, "429", 5},
		{"429 for long", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(429)
		}, deploy.CodeRateLimited, "429", 1},
		{"broken off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"success":true`))
		}, deploy.CodeAPIBadResponse, "ends in the middle", 5},
		{"endless", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.Repeat(" ", 9<<20)))
		}, deploy.CodeAPIBadResponse, "8 MiB", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t).happy()
			f.on(routeUpload, tc.answer)
			_, err := f.newClient(t).Upload(t.Context(), account(), deploy.Upload{Artifact: hello()})
			wantError(t, err, tc.code, tc.contains)
			if n := f.count(routeUpload); n != tc.tries {
				t.Errorf("%d tries, want %d", n, tc.tries)
			}
		})
	}
}

func TestUploadRecovers(t *testing.T) {
	f := newFake(t).happy()
	tries := 0
	ok := result(map[string]any{"deployment_id": version})
	f.on(routeUpload, func(w http.ResponseWriter, r *http.Request) {
		if tries++; tries < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		ok(w, r)
	})
	up, sent := upload(t, f, deploy.Upload{Artifact: hello()})
	if up.VersionID != version || tries != 3 {
		t.Errorf("%+v after %d tries", up, tries)
	}
	for _, s := range f.requests() {
		if s.Body != sent.Body {
			t.Error("a repeated upload has another body")
		}
	}
}

func TestUploadWithATokenThatIsNotAccepted(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"10000": refusal(403, 10000, "Authentication error"), "9109": refusal(403, 9109, "Unauthorized"),
		"401 with another code": refusal(401, 77, "who?"),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t).happy()
			f.on(routeUpload, answer)
			_, err := f.newClient(t).Upload(t.Context(), account(), deploy.Upload{Artifact: hello()})
			// The token works elsewhere, so it is the upload that is not wanted.
			wantError(t, err, deploy.CodeAPIRefused, "temporary accounts")
			f.on(routeDeployments, refusal(404, 10007, "This Worker does not exist"))
			_, err = f.newClient(t).Upload(t.Context(), account(), deploy.Upload{Artifact: hello()})
			wantError(t, err, deploy.CodeAPIRefused, "temporary accounts")
			f.on(routeDeployments, says(503, "<html>"))
			_, err = f.newClient(t).Upload(t.Context(), account(), deploy.Upload{Artifact: hello()})
			wantError(t, err, deploy.CodeAPIBadResponse, "503")
			f.on(routeDeployments, refusal(403, 10000, "Authentication error"))
			_, err = f.newClient(t).Upload(t.Context(), account(), deploy.Upload{Artifact: hello()})
			wantError(t, err, deploy.CodeAccountLost, "claimed")
		})
	}
}

func TestUploadRefusesWhatIsNoUpload(t *testing.T) {
	f := newFake(t).happy()
	c := f.newClient(t)
	for name, tc := range map[string]struct {
		change func(*deploy.Artifact)
		acct   *deploy.Account
		code   deploy.Code
	}{
		"a name with a path":        {func(a *deploy.Artifact) { a.Name = "../x" }, account(), deploy.CodeNameInvalid},
		"a name with capitals":      {func(a *deploy.Artifact) { a.Name = "Hello" }, account(), deploy.CodeNameInvalid},
		"a long name":               {func(a *deploy.Artifact) { a.Name = strings.Repeat("a", 64) }, account(), deploy.CodeNameInvalid},
		"no name":                   {func(a *deploy.Artifact) { a.Name = "" }, account(), deploy.CodeNameInvalid},
		"nothing":                   {func(a *deploy.Artifact) { a.MainModule, a.Modules = "", nil }, account(), deploy.CodeNoEntry},
		"a main module that is not": {func(a *deploy.Artifact) { a.MainModule = "x.js" }, account(), deploy.CodeInternal},
		"no account":                {func(*deploy.Artifact) {}, nil, deploy.CodeInternal},
		"no token":                  {func(*deploy.Artifact) {}, &deploy.Account{ID: accountID}, deploy.CodeInternal},
		"an id with a path":         {func(*deploy.Artifact) {}, &deploy.Account{ID: "a/b", Token: "t"}, deploy.CodeInternal},
	} {
		a := hello()
		tc.change(a)
		_, err := c.Upload(t.Context(), tc.acct, deploy.Upload{Artifact: a})
		t.Run(name, func(t *testing.T) { wantError(t, err, tc.code, "") })
	}
	if len(f.requests()) != 0 {
		t.Error("something was sent")
	}
}

func TestVersionID(t *testing.T) {
	plain := strings.ReplaceAll(version, "-", "")
	for in, want := range map[string]string{
		version: version, plain: version, strings.ToUpper(plain): version,
		"": "", "7": "", plain + "0": "", strings.Repeat("g", 32): "",
	} {
		if got := cloudflare.VersionID(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestCatalogue(t *testing.T) {
	seenCodes := map[int]bool{}
	for _, e := range cloudflare.Catalogue() {
		if e.Cause == "" || e.Next == "" || e.Kind == "" || seenCodes[e.Code] {
			t.Errorf("entry %+v", e)
		}
		seenCodes[e.Code] = true
	}
	if len(seenCodes) < 15 {
		t.Errorf("only %d codes", len(seenCodes))
	}
}

// The environment must not be able to turn a temporary deployment into a real one.
func TestAmbientCredentialsAreIgnored(t *testing.T) {
	ambient := map[string]string{
		"CLOUDFLARE_API_TOKEN": "AMBIENT_token", "CLOUDFLARE_API_KEY": "AMBIENT_key", "CLOUDFLARE_EMAIL": "AMBIENT@example.com",
		"CLOUDFLARE_API_USER_SERVICE_KEY": "AMBIENT_service", "CLOUDFLARE_BASE_URL": "http://127.0.0.1:1/AMBIENT",
		"CLOUDFLARE_API_BASE_URL": "http://127.0.0.1:1/AMBIENT", "CLOUDFLARE_CUSTOM_HEADERS": "X-Ambient: AMBIENT_header",
		"CLOUDFLARE_API_HEADERS": `{"X-Ambient":"AMBIENT"}`, "CLOUDFLARE_ACCOUNT_ID": "AMBIENT_account",
	}
	for name, value := range ambient {
		t.Setenv(name, value)
	}
	f := newFake(t).happy()
	c := f.newClient(t)
	driveAll(t, f, c)
	for _, s := range f.requests() {
		var all strings.Builder
		all.WriteString(s.Path + s.Query + s.Body)
		for name, values := range maps.All(s.Header) {
			all.WriteString(name + strings.Join(values, ""))
		}
		if regexp.MustCompile(`(?i)ambient`).MatchString(all.String()) {
			t.Errorf("%s %s carries something of the environment", s.Method, s.Path)
		}
	}
}
