package policy

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// sample is one labelled text.
type sample struct {
	file, text string
	want       []string
	line       int // in samples.txt
}

// artifact puts the text where the file would be in a real artifact.
func (s sample) artifact() *deploy.Artifact {
	if isScript(s.file) {
		return &deploy.Artifact{Modules: []deploy.Module{{Name: s.file, Type: deploy.TypeESModule, Content: []byte(s.text)}}}
	}
	return &deploy.Artifact{Assets: &deploy.Assets{Files: []deploy.Asset{{Path: "/" + s.file, Content: []byte(s.text)}}}}
}

// samples reads the labelled set and fills in its random parts.
func samples(t testing.TB) []sample {
	t.Helper()
	raw, err := os.ReadFile("testdata/samples.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []sample
	var now *sample
	for n, line := range strings.Split(string(raw), "\n") {
		file, begins := strings.CutPrefix(line, "@ ")
		want, ends := strings.CutPrefix(line, "=")
		switch {
		case now == nil && begins:
			now = &sample{file: file, line: n + 1}
		case now == nil:
		case ends && (want == "" || want[0] == ' '):
			now.want = strings.Fields(want)
			m := maker{rand.New(rand.NewPCG(uint64(len(out)), 7))}
			now.text = holes.ReplaceAllStringFunc(now.text, func(hole string) string { return m.fill(t, hole[2:len(hole)-2]) })
			out = append(out, *now)
			now = nil
		default:
			now.text += line + "\n"
		}
	}
	return out
}

var holes = regexp.MustCompile(`\{\{[A-Za-z0-9:_]+\}\}`)

// maker makes what stands in {{...}}: the formats as their issuers tell them, written
// down here a second time, so that a mistake in a rule shows.
type maker struct{ r *rand.Rand }

const (
	digits  = "0123456789"
	lowers  = "abcdefghijklmnopqrstuvwxyz"
	uppers  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	symbols = "!+-_.="
)

func (m maker) chars(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[m.r.IntN(len(alphabet))]
	}
	return string(b)
}

func (m maker) fill(t testing.TB, what string) string {
	t.Helper()
	name, arg, _ := strings.Cut(what, ":")
	n, _ := strconv.Atoi(arg)
	alphabets := map[string]string{
		"b62": digits + uppers + lowers, "hex": digits + "abcdef", "HEX": digits + "ABCDEF", "url": digits + uppers + lowers + "-_", "b64": digits + uppers + lowers + "+/",
		"num": digits, "up": digits + uppers, "b32": uppers + "234567", "low": digits + lowers, "letters": uppers + lowers,
	}
	if alphabet, ok := alphabets[name]; ok {
		if name == "num" { // numbers do not begin with zero
			return m.chars("123456789", 1) + m.chars(digits, n-1)
		}
		return m.chars(alphabet, n)
	}
	switch name {
	case "github":
		body := m.chars(alphabets["b62"], 30)
		return arg + body + base62CRC(body)
	case "npm":
		return m.fill(t, "github:npm_")
	case "grafana":
		head := "glsa_" + m.chars(alphabets["b62"], 32)
		return head + "_" + grafanaCRC(head)
	case "age":
		data := m.chars(bech32Digits, 52)
		return strings.ToUpper("age-secret-key-1" + data + bech32Sum("age-secret-key-", data))
	case "jwt":
		return m.jwt(arg)
	case "aws":
		return m.chars(digits+uppers+lowers+"+/", 40)
	case "discord":
		id := base64.RawStdEncoding.EncodeToString([]byte(m.fill(t, "num:18")))
		return id + "." + m.chars(alphabets["url"], 6) + "." + m.chars(alphabets["url"], 38)
	case "pass":
		p := []byte(m.chars(digits, 1) + m.chars(uppers, 1) + m.chars(lowers, 1) + m.chars(symbols, 1) + m.chars(digits+uppers+lowers+symbols, n-4))
		m.r.Shuffle(len(p), func(i, j int) { p[i], p[j] = p[j], p[i] })
		return string(p)
	case "uuid":
		return fmt.Sprintf("%s-%s-4%s-a%s-%s", m.chars("0123456789abcdef", 8), m.chars("0123456789abcdef", 4), m.chars("0123456789abcdef", 3), m.chars("0123456789abcdef", 3), m.chars("0123456789abcdef", 12))
	case "b64of":
		return base64.StdEncoding.EncodeToString([]byte(m.fill(t, "github:ghp_")))
	case "PRIVATE":
		return "PRIVATE"
	case "lit":
		return "{{password}}"
	}
	t.Fatalf("samples.txt: there is no maker of %q", what)
	return ""
}

func (m maker) jwt(kind string) string {
	head, body := `{"alg":"HS256","typ":"JWT"}`, fmt.Sprintf(`{"sub":"%s","iat":1700000000,"role":"service_role"}`, m.chars(lowers, 12))
	switch kind {
	case "anon":
		body = `{"iss":"supabase","ref":"abcdefgh","role":"anon","iat":1700000000,"exp":2000000000}`
	case "sample":
		body = `{"sub":"1234567890","name":"John Doe","iat":1516239022}`
	case "none":
		head = `{"alg":"none"}`
	}
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(head)) + "." + enc([]byte(body)) + "." + m.chars(digits+uppers+lowers+"-_", 43)
}
