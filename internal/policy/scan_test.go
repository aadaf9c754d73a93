package policy_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/policy"
)

// token makes a GitHub token with its right checksum: the format told once more, so that
// no token stands in this file.
func token(seed string) string {
	body := (seed + "A1b2C3d4E5f6G7h8J9k0L1m2N3p4Q5")[:30]
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := crc32.ChecksumIEEE([]byte(body))
	end := ""
	for range 6 {
		end = string(alphabet[sum%62]) + end
		sum /= 62
	}
	return "ghp_" + body + end
}

func scan(t *testing.T, a *deploy.Artifact, allow ...string) []deploy.Finding {
	t.Helper()
	m := map[string]string{}
	for _, f := range allow {
		m[f] = "a test"
	}
	found, err := policy.NewScanner(policy.ScannerConfig{Allow: m}).Scan(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func module(name, text string) deploy.Module {
	return deploy.Module{Name: name, Type: deploy.TypeESModule, Content: []byte(text)}
}

func asset(path, text string) *deploy.Assets {
	return &deploy.Assets{Files: []deploy.Asset{{Path: path, Content: []byte(text)}}}
}

// places gives "kind file:line" of findings.
func places(found []deploy.Finding) []string {
	var out []string
	for _, f := range found {
		out = append(out, fmt.Sprintf("%s %s:%d", f.Kind, f.File, f.Line))
	}
	return out
}

// TestKnownChecksum: a sample of the format that was published by others, with its right
// checksum; put together here.
func TestKnownChecksum(t *testing.T) {
	known := "ghp_" + "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ" + "0mLq17"
	if got := places(scan(t, &deploy.Artifact{Modules: []deploy.Module{module("a.js", "x='"+known+"'")}})); !slices.Equal(got, []string{"github-token a.js:1"}) {
		t.Errorf("%v", got)
	}
	broken := known[:len(known)-1] + "8"
	if got := scan(t, &deploy.Artifact{Modules: []deploy.Module{module("a.js", "x='"+broken+"'")}}); len(got) != 0 {
		t.Errorf("a wrong checksum is no token: %v", got)
	}
}

// TestEverythingPublic: each part of an artifact that becomes public is looked at, and
// what does not is not.
func TestEverythingPublic(t *testing.T) {
	a := &deploy.Artifact{
		Modules: []deploy.Module{
			module("index.js", "export default 1;\n// "+token("index")+"\n"),
			{Name: "page.txt", Type: deploy.TypeText, Content: []byte("a\nb\nAPI_SECRET=" + token("text") + "\n")},
			{Name: "lib.wasm", Type: deploy.TypeWasm, Content: []byte("\x00asm\x01\x00\x00\x00" + token("wasm") + "\x00")},
		},
		Assets: &deploy.Assets{
			Files:  []deploy.Asset{{Path: "/docs/a.html", Content: []byte("<p>\n<b>" + token("asset") + "</b>")}},
			Config: map[string]any{"_headers": "/*\n  X-Api-Key: q7Rk2mZ9xV4bN8cL1tHd6wPs\n", "html_handling": "none"},
		},
		Bindings: []deploy.Binding{
			{"name": "PLAIN", "type": "plain_text", "text": token("plain")},
			{"name": "DB_PASSWORD", "type": "plain_text", "text": "k9Zq-w2Lm.77x"},
			{"name": "CONF", "type": "json", "json": map[string]any{"list": []any{map[string]any{"api_key": "f3a9c1e27b5d4880a6c2e9d1b7f35a64"}}, "n": 3.0, "b": token("json")}},
			{"name": "BACK", "type": "service", "service": "back", "props": map[string]any{"t": token("props")}},
			{"name": "KEPT", "type": "secret_text", "text": token("secret")},
			{"name": "FROM", "type": "secret_text", "from_env": "X"},
		},
	}
	want := []string{
		"github-token index.js:2", "github-token page.txt:3", "github-token lib.wasm:1", "github-token docs/a.html:2", "assigned-secret _headers:2", "github-token vars.PLAIN:1",
		"assigned-password vars.DB_PASSWORD:1", "github-token vars.CONF.b:1", "assigned-secret vars.CONF.list.api_key:1", "github-token vars.BACK.props.t:1",
	}
	if d := cmp.Diff(want, places(scan(t, a))); d != "" {
		t.Error(d)
	}
}

// TestSourceMap: a secret is told at its place in the source, once, and one that only the
// map carries is found.
func TestSourceMap(t *testing.T) {
	both, shaken := token("both"), token("shaken")
	raw, err := json.Marshal(map[string]any{
		"version": 3, "sources": []string{"src/a.ts", "src/b.ts", "src/c.ts"}, "mappings": "",
		"sourcesContent": []any{"// one\nconst a = '" + both + "';", "\n\n\n// " + shaken + "\n// " + both, nil},
	})
	if err != nil {
		t.Fatal(err)
	}
	a := &deploy.Artifact{Modules: []deploy.Module{
		module("index.js", "var a='"+both+"';"), {Name: "index.js.map", Type: deploy.TypeSourceMap, Content: raw},
	}}
	want := []string{"github-token src/a.ts:2", "github-token src/b.ts:4", "github-token src/b.ts:5"}
	if d := cmp.Diff(want, places(scan(t, a))); d != "" {
		t.Error(d)
	}
	a.Modules[1].Content = []byte(`{"broken": "` + shaken)
	want = []string{"github-token index.js:1", "github-token index.js.map:1"}
	if d := cmp.Diff(want, places(scan(t, a))); d != "" {
		t.Error(d)
	}
}

// TestFingerprint: it allows one finding and no other, moves with a token, and stays with
// its place for what may be guessable.
func TestFingerprint(t *testing.T) {
	one, two := token("one"), token("two")
	a := &deploy.Artifact{Modules: []deploy.Module{module("a.js", "'"+one+"'\n'"+two+"'")}}
	found := scan(t, a)
	if len(found) != 2 || found[0].Fingerprint == found[1].Fingerprint {
		t.Fatalf("%+v", found)
	}
	if left := scan(t, a, found[0].Fingerprint); len(left) != 1 || left[0].Line != 2 {
		t.Errorf("%+v", left)
	}
	moved := scan(t, &deploy.Artifact{Assets: asset("/other.html", "\n\n"+one)})
	if len(moved) != 1 || moved[0].Fingerprint != found[0].Fingerprint {
		t.Errorf("the same token elsewhere: %+v", moved)
	}
	at := func(file, text string) string {
		f := scan(t, &deploy.Artifact{Modules: []deploy.Module{module(file, text)}})
		if len(f) != 1 {
			t.Fatalf("%s: %+v", text, f)
		}
		return f[0].Fingerprint
	}
	base := at("a.js", `const password = "aB3-dE5-gH7";`)
	if at("a.js", "\n\n"+`let password="aB3-dE5-gH7"`) != base {
		t.Error("it moves with its file's lines")
	}
	if at("b.js", `const password = "aB3-dE5-gH7";`) == base || at("a.js", `const adminPassword = "aB3-dE5-gH7";`) == base {
		t.Error("another place is another finding")
	}
	others := map[string]bool{}
	for i := range 40 {
		others[at("a.js", fmt.Sprintf(`const password = "aB3-dE5-%02d";`, i))] = true
	}
	if len(others) < 35 || others[base] {
		t.Errorf("%d fingerprints of 40 values", len(others))
	}
}

// TestNothingOfTheValue: a finding tells too little of the value to use it.
func TestNothingOfTheValue(t *testing.T) {
	for text, most := range map[string]int{
		"x = '" + token("show") + "'":                                        6, // ghp_ and the last two
		`const password = "aB3-dE5-gH7";`:                                    0,
		`"postgres://app:aB3dE5gH7jK9@db.acme.dev/x"`:                        0,
		`const apiKey = "f3a9c1e27b5d4880a6c2e9d1b7f35a64";`:                 0,
		`headers.authorization = "Bearer 9f8e7d6c5b4a39281706f5e4d3c2b1a0";`: 0,
	} {
		found := scan(t, &deploy.Artifact{Modules: []deploy.Module{module("a.js", text)}})
		if len(found) != 1 {
			t.Fatalf("%s: %+v", text, found)
		}
		v := reflect.ValueOf(found[0])
		for i := range v.NumField() {
			shown := fmt.Sprint(v.Field(i).Interface())
			for _, secret := range []string{token("show"), "aB3-dE5-gH7", "aB3dE5gH7jK9", "f3a9c1e27b5d4880a6c2e9d1b7f35a64", "9f8e7d6c5b4a39281706f5e4d3c2b1a0"} {
				for n := most + 1; n <= len(secret); n++ {
					if n >= 4 && strings.Contains(shown, secret[:n]) && !strings.HasPrefix("ghp_", secret[:n]) {
						t.Errorf("%s tells %q", v.Type().Field(i).Name, shown)
					}
				}
			}
		}
		if !strings.Contains(found[0].Sample, "…") {
			t.Errorf("%q is not masked", found[0].Sample)
		}
	}
}

// TestBinary: in what is no text, only kinds with a format of their own are looked for.
func TestBinary(t *testing.T) {
	noise := strings.Repeat("\x00\xff\x80", 100)
	a := &deploy.Artifact{Assets: asset("/a.png", noise+`password = "aB3-dE5-gH7"`+noise+token("png")+noise)}
	if got := places(scan(t, a)); !slices.Equal(got, []string{"github-token a.png:1"}) {
		t.Errorf("%v", got)
	}
}

// TestManyAndRepeated: what is reported is bounded, and repeating an allowed finding
// does not hide another.
func TestManyAndRepeated(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "'%s'\n", token(fmt.Sprintf("n%d", i)))
	}
	if found := scan(t, &deploy.Artifact{Modules: []deploy.Module{module("a.js", b.String())}}); len(found) != 100 {
		t.Errorf("%d findings", len(found))
	}
	one := token("one")
	print := scan(t, &deploy.Artifact{Modules: []deploy.Module{module("a.js", one)}})[0].Fingerprint
	text := strings.Repeat("'"+one+"'\n", 20_000) + "'" + token("two") + "'"
	found := scan(t, &deploy.Artifact{Modules: []deploy.Module{module("a.js", text)}}, print)
	if len(found) != 1 || found[0].Line != 20_001 {
		t.Errorf("%+v", found)
	}
}

// TestEscaped: where a secret stands behind an escape, it does not hide as part of a word.
func TestEscaped(t *testing.T) {
	for _, text := range []string{
		`"a\n` + token("esc") + `"`, `"a\u003d` + token("esc") + `"`, "https://x.dev/?t%3D" + token("esc"), `{\"a\":\"` + token("esc") + `\"}`,
	} {
		if found := scan(t, &deploy.Artifact{Modules: []deploy.Module{module("a.js", text)}}); len(found) != 1 {
			t.Errorf("%s: %+v", text, found)
		}
	}
	for _, text := range []string{"x" + token("esc"), token("esc") + "x"} {
		if found := scan(t, &deploy.Artifact{Modules: []deploy.Module{module("a.js", text)}}); len(found) != 0 {
			t.Errorf("%s: %+v", text, found)
		}
	}
}

func TestScanStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := policy.NewScanner(policy.ScannerConfig{}).Scan(ctx, &deploy.Artifact{Modules: []deploy.Module{module("a.js", "x")}})
	if !deploy.IsCode(err, deploy.CodeCancelled) {
		t.Errorf("%v", err)
	}
}

func TestScanTogether(t *testing.T) {
	s := policy.NewScanner(policy.ScannerConfig{})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 20 {
				a := &deploy.Artifact{Modules: []deploy.Module{module("a.js", strings.Repeat("\n", i)+token("x"))}}
				if found, err := s.Scan(t.Context(), a); err != nil || len(found) != 1 || found[0].Line != i+1 {
					t.Errorf("%+v %v", found, err)
				}
			}
		})
	}
	all.Wait()
}

// FuzzScan: whatever the text, findings lie in it, are masked and do not repeat.
func FuzzScan(f *testing.F) {
	f.Add([]byte("x = '"+token("seed")+"'"), "a.js")
	f.Add([]byte(`{"password":"aB3-dE5-gH7","u":"postgres://a:b9C8d7@h.dev"}`), "a.json")
	f.Add([]byte("-----BEGIN "+"PRIVATE KEY-----\\nAAAA"), "k.pem")
	f.Add([]byte("export API_KEY=\\\"Bearer eyJ"+base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"x"}`))), ".env")
	s := policy.NewScanner(policy.ScannerConfig{})
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		a := &deploy.Artifact{
			Modules:  []deploy.Module{{Name: "m.map", Type: deploy.TypeSourceMap, Content: text}, {Name: name, Type: deploy.TypeESModule, Content: text}},
			Assets:   &deploy.Assets{Files: []deploy.Asset{{Path: "/" + name, Content: text}}},
			Bindings: []deploy.Binding{{"name": "V", "type": "plain_text", "text": string(text)}},
		}
		found, err := s.Scan(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, one := range found {
			key := one.File + one.Fingerprint
			if one.Line < 1 || one.Kind == "" || !strings.Contains(one.Sample, "…") || len(one.Fingerprint) != 26 {
				t.Errorf("%+v", one)
			}
			if seen[key] && one.File != name { // a module and a file may share a name here
				t.Errorf("told twice: %+v", one)
			}
			seen[key] = true
		}
		again, err := s.Scan(t.Context(), a)
		if err != nil || !slices.Equal(found, again) {
			t.Errorf("another time it finds %v, not %v", again, found)
		}
	})
}
